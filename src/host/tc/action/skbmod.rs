//! `skbmod`: `struct tc_skbmod`, include/uapi/linux/tc_act/tc_skbmod.h.

use super::super::Lacking;
use super::super::attr::{Attrs, Put};
use super::{General, Options, structure};
use crate::rules::{Action, Skbmod};

const PARMS: u16 = 2;
const DMAC: u16 = 3;
const SMAC: u16 = 4;
const ETYPE: u16 = 5;
/// `SKBMOD_F_*`.
const F_DMAC: u64 = 1;
const F_SMAC: u64 = 2;
const F_ETYPE: u64 = 4;
const F_SWAPMAC: u64 = 8;
const F_ECN: u64 = 16;

pub(super) fn decode(attrs: &Attrs<'_>) -> Options {
    structure(attrs, PARMS, "skbmod", |control, fields| {
        // The kernel's structure is packed as the compiler likes: 4 bytes before the 64-bit flags.
        let _padding = fields.u32()?;
        let flags = fields.u64()?;
        if flags & !(F_DMAC | F_SMAC | F_ETYPE | F_SWAPMAC | F_ECN) != 0 {
            return Err(Lacking(format!("skbmod's flags {flags:#x}")));
        }
        let address = |kind| attrs.array::<6>(kind).map(|mac| mac.map(Into::into));
        Ok(Action::Skbmod(Skbmod {
            dmac: address(DMAC)?,
            smac: address(SMAC)?,
            etype: attrs.u16(ETYPE)?,
            swap_mac: flags & F_SWAPMAC != 0,
            ecn: flags & F_ECN != 0,
            control,
        }))
    })
}

pub(super) fn encode(edit: &Skbmod, index: u32, put: &mut Put) {
    let bit = |on: bool, flag: u64| if on { flag } else { 0 };
    let flags = bit(edit.dmac.is_some(), F_DMAC)
        | bit(edit.smac.is_some(), F_SMAC)
        | bit(edit.etype.is_some(), F_ETYPE)
        | bit(edit.swap_mac, F_SWAPMAC)
        | bit(edit.ecn, F_ECN);
    let mut bytes = General::bytes(index, edit.control);
    bytes.extend([0; 4]);
    bytes.extend(flags.to_ne_bytes());
    put.bytes(PARMS, &bytes);
    if let Some(mac) = edit.dmac {
        put.bytes(DMAC, &mac.octets());
    }
    if let Some(mac) = edit.smac {
        put.bytes(SMAC, &mac.octets());
    }
    if let Some(etype) = edit.etype {
        put.u16(ETYPE, etype);
    }
}
