//! `vlan`: `struct tc_vlan`, include/uapi/linux/tc_act/tc_vlan.h.

use super::super::Lacking;
use super::super::attr::{Attrs, Put};
use super::{General, Options, structure};
use crate::rules::{Action, Vlan};
use crate::types::{VLAN_ID_MASK, VlanOp};

const PARMS: u16 = 2;
const ID: u16 = 3;
const PROTOCOL: u16 = 4;
const PRIORITY: u16 = 6;
const ETH_DST: u16 = 7;
const ETH_SRC: u16 = 8;

pub(super) fn decode(attrs: &Attrs<'_>) -> Options {
    structure(attrs, PARMS, "vlan", |control, fields| {
        let missing = || Lacking("vlan without what it pushes".to_owned());
        let tag = || Ok((attrs.be16(PROTOCOL)?.ok_or_else(missing)?, attrs.u16(ID)?.ok_or_else(missing)?));
        let op = match fields.i32()? {
            1 => VlanOp::Pop,
            2 => {
                let (tpid, id) = tag()?;
                let priority = u16::from(attrs.u8(PRIORITY)?.unwrap_or(0));
                VlanOp::Push { tpid, tci: id & VLAN_ID_MASK | priority << 13 }
            }
            3 => {
                let (tpid, id) = tag()?;
                VlanOp::Modify { tpid, id, priority: attrs.u8(PRIORITY)? }
            }
            4 => VlanOp::PopEth,
            5 => {
                let address = |kind| attrs.array::<6>(kind)?.map(Into::into).ok_or_else(missing);
                VlanOp::PushEth { dst: address(ETH_DST)?, src: address(ETH_SRC)? }
            }
            other => return Err(Lacking(format!("vlan's way {other}"))),
        };
        Ok(Action::Vlan(Vlan { op, control }))
    })
}

pub(super) fn encode(vlan: &Vlan, index: u32, put: &mut Put) {
    let number: u32 = match vlan.op {
        VlanOp::Pop => 1,
        VlanOp::Push { .. } => 2,
        VlanOp::Modify { .. } => 3,
        VlanOp::PopEth => 4,
        VlanOp::PushEth { .. } => 5,
    };
    let mut bytes = General::bytes(index, vlan.control);
    bytes.extend(number.to_ne_bytes());
    put.bytes(PARMS, &bytes);
    match vlan.op {
        VlanOp::Push { tpid, tci } => {
            put.u16(ID, tci & VLAN_ID_MASK).be16(PROTOCOL, tpid).u8(PRIORITY, (tci >> 13) as u8);
        }
        VlanOp::Modify { tpid, id, priority } => {
            put.u16(ID, id).be16(PROTOCOL, tpid);
            if let Some(priority) = priority {
                put.u8(PRIORITY, priority);
            }
        }
        VlanOp::PushEth { dst, src } => {
            put.bytes(ETH_DST, &dst.octets()).bytes(ETH_SRC, &src.octets());
        }
        VlanOp::Pop | VlanOp::PopEth => {}
    }
}
