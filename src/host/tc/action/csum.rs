//! `csum`: `struct tc_csum`, include/uapi/linux/tc_act/tc_csum.h.

use super::super::Lacking;
use super::super::attr::{Attrs, Put};
use super::{General, Options, structure};
use crate::rules::{Action, Csum};
use crate::types::Checksums;

const PARMS: u16 = 1;

pub(super) fn decode(attrs: &Attrs<'_>) -> Options {
    structure(attrs, PARMS, "csum", |control, fields| {
        let flags = fields.u32()?;
        let update = u8::try_from(flags).ok().filter(|f| *f < 128);
        let update = update.ok_or_else(|| Lacking(format!("csum's flags {flags:#x}")))?;
        Ok(Action::Csum(Csum { update: Checksums(update), control }))
    })
}

pub(super) fn encode(csum: &Csum, index: u32, put: &mut Put) {
    let mut bytes = General::bytes(index, csum.control);
    bytes.extend(u32::from(csum.update.0).to_ne_bytes());
    put.bytes(PARMS, &bytes);
}
