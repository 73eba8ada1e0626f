//! `gact`: `struct tc_gact` and `tc_gact_p`, include/uapi/linux/tc_act/tc_gact.h.

use super::super::attr::{Attrs, Fields, Put};
use super::super::{Lacking, control};
use super::{General, Options, structure};
use crate::rules::{Action, Gact, Random, RandomKind};

const PARMS: u16 = 2;
const PROB: u16 = 3;

pub(super) fn decode(attrs: &Attrs<'_>) -> Options {
    structure(attrs, PARMS, "gact", |control, _| {
        Ok(Action::Gact(Gact { control, random: attrs.get(PROB).map_or(Ok(None), random)? }))
    })
}

fn random(bytes: &[u8]) -> Result<Option<Random>, Lacking> {
    let mut fields = Fields::new(bytes, "gact random");
    let kind = match fields.u16()? {
        0 => return Ok(None),
        1 => RandomKind::Netrand,
        2 => RandomKind::Determ,
        other => return Err(Lacking(format!("gact's way {other} to be random"))),
    };
    let val = fields.u16()?;
    Ok(Some(Random { kind, control: control::decode(fields.i32()?)?, val }))
}

pub(super) fn encode(gact: &Gact, index: u32, put: &mut Put) {
    put.bytes(PARMS, &General::bytes(index, gact.control));
    if let Some(Random { kind, control: other, val }) = &gact.random {
        let kind: u16 = match kind {
            RandomKind::Netrand => 1,
            RandomKind::Determ => 2,
        };
        let mut bytes = [kind.to_ne_bytes(), val.to_ne_bytes()].concat();
        bytes.extend(control::encode(*other).to_ne_bytes());
        put.bytes(PROB, &bytes);
    }
}
