//! `nat`: `struct tc_nat`, include/uapi/linux/tc_act/tc_nat.h.

use super::super::Lacking;
use super::super::attr::{Attrs, Put};
use super::{General, Options, structure};
use crate::rules::{Action, Nat};
use crate::types::NatRule;

const PARMS: u16 = 1;
/// `TCA_NAT_FLAG_EGRESS`.
const EGRESS: u32 = 1;

pub(super) fn decode(attrs: &Attrs<'_>) -> Options {
    structure(attrs, PARMS, "nat", |control, fields| {
        let (old, new, mask, flags) = (fields.be32()?, fields.be32()?, fields.be32()?, fields.u32()?);
        if flags & !EGRESS != 0 {
            return Err(Lacking(format!("nat's flags {flags:#x}")));
        }
        Ok(Action::Nat(Nat { rule: NatRule { egress: flags == EGRESS, old, new, mask }, control }))
    })
}

pub(super) fn encode(nat: &Nat, index: u32, put: &mut Put) {
    let NatRule { egress, old, new, mask } = nat.rule;
    let mut bytes = General::bytes(index, nat.control);
    bytes.extend([old, new, mask].map(u32::to_be_bytes).concat());
    bytes.extend(u32::from(egress).to_ne_bytes());
    put.bytes(PARMS, &bytes);
}
