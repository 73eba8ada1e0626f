//! `pedit`: `struct tc_pedit_sel` with its keys, include/uapi/linux/tc_act/tc_pedit.h.

use super::super::Lacking;
use super::super::attr::{Attrs, Fields, Put};
use super::{General, Options, structure};
use crate::rules::{Action, Pedit};
use crate::types::{PeditHeader, PeditKey};

const PARMS: u16 = 2;
const PARMS_EX: u16 = 4;
const KEYS_EX: u16 = 5;
const KEY_EX: u16 = 6;
const HTYPE: u16 = 1;
const CMD: u16 = 2;

const HEADERS: [PeditHeader; 6] =
    [PeditHeader::Network, PeditHeader::Eth, PeditHeader::Ipv4, PeditHeader::Ipv6, PeditHeader::Tcp, PeditHeader::Udp];

pub(super) fn decode(attrs: &Attrs<'_>) -> Options {
    let extended = attrs.get(PARMS_EX).is_some();
    structure(attrs, if extended { PARMS_EX } else { PARMS }, "pedit", |control, fields| {
        let (count, _flags, _padding) = (fields.u8()?, fields.u8()?, fields.u16()?);
        let mut keys = (0..count).map(|_| key(fields)).collect::<Result<Vec<_>, _>>()?;
        if extended {
            let extras = attrs.nest(KEYS_EX)?;
            let list: Vec<&[u8]> = extras.iter().filter(|(kind, _)| *kind == KEY_EX).map(|(_, bytes)| bytes).collect();
            if list.len() != keys.len() {
                return Err(Lacking(format!("pedit with {} keys and {} headers", keys.len(), list.len())));
            }
            keys.iter_mut().zip(list).try_for_each(|(key, bytes)| extra(key, bytes))?;
        }
        Ok(Action::Pedit(Pedit { keys, extended, control }))
    })
}

/// `struct tc_pedit_key`.
fn key(fields: &mut Fields<'_>) -> Result<PeditKey, Lacking> {
    let (mask, value, offset) = (fields.be32()?, fields.be32()?, fields.i32()?);
    let (at, offmask, shift) = (fields.i32()?, fields.u32()?, fields.u32()?);
    Ok(PeditKey { header: PeditHeader::Network, add: false, value, mask, offset, at, offmask, shift })
}

fn extra(key: &mut PeditKey, bytes: &[u8]) -> Result<(), Lacking> {
    let attrs = Attrs::parse(bytes, "a key of pedit")?;
    let (header, command) = (attrs.u16(HTYPE)?.unwrap_or(0), attrs.u16(CMD)?.unwrap_or(0));
    key.header = *HEADERS.get(usize::from(header)).ok_or_else(|| Lacking(format!("pedit's header {header}")))?;
    key.add = match command {
        0 => false,
        1 => true,
        other => return Err(Lacking(format!("pedit's command {other}"))),
    };
    Ok(())
}

pub(super) fn encode(pedit: &Pedit, index: u32, put: &mut Put) {
    let mut bytes = General::bytes(index, pedit.control);
    bytes.extend([pedit.keys.len() as u8, 0, 0, 0]);
    let mut extras = Put::default();
    for key in &pedit.keys {
        bytes.extend([key.mask, key.value].map(u32::to_be_bytes).concat());
        bytes.extend([key.offset, key.at].map(i32::to_ne_bytes).concat());
        bytes.extend([key.offmask, key.shift].map(u32::to_ne_bytes).concat());
        let header = HEADERS.iter().position(|h| *h == key.header).expect("all headers are in the list");
        let mut extra = Put::default();
        extra.u16(HTYPE, header as u16).u16(CMD, u16::from(key.add));
        extras.nest(KEY_EX, &extra);
    }
    if pedit.extended {
        put.nest(KEYS_EX, &extras).bytes(PARMS_EX, &bytes);
    } else {
        put.bytes(PARMS, &bytes);
    }
}
