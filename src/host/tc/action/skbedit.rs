//! `skbedit`: include/uapi/linux/tc_act/tc_skbedit.h.

use super::super::Lacking;
use super::super::attr::{Attrs, Put};
use super::{General, Options, structure};
use crate::rules::{Action, Skbedit};
use crate::types::PacketType;

const PARMS: u16 = 2;
const PRIORITY: u16 = 3;
const QUEUE_MAPPING: u16 = 4;
const MARK: u16 = 5;
const PTYPE: u16 = 7;
const MASK: u16 = 8;
const FLAGS: u16 = 9;
const QUEUE_MAPPING_MAX: u16 = 10;
/// `SKBEDIT_F_INHERITDSFIELD`.
const INHERITDSFIELD: u64 = 0x20;

pub(super) fn decode(attrs: &Attrs<'_>) -> Options {
    structure(attrs, PARMS, "skbedit", |control, _| {
        if attrs.get(QUEUE_MAPPING_MAX).is_some() {
            return Err(Lacking("skbedit queue_mapping with a range of queues".to_owned()));
        }
        let flags = attrs.u64(FLAGS)?.unwrap_or(0);
        if flags & !INHERITDSFIELD != 0 {
            return Err(Lacking(format!("skbedit's flags {flags:#x}")));
        }
        let mark = attrs.u32(MARK)?.map(|mark| Ok((mark, attrs.u32(MASK)?.unwrap_or(u32::MAX)))).transpose()?;
        let full_mask = attrs.u32(MASK)? == Some(u32::MAX);
        let ptype = attrs.u16(PTYPE)?.map(packet_type).transpose()?;
        Ok(Action::Skbedit(Skbedit {
            ptype,
            mark,
            full_mask,
            priority: attrs.u32(PRIORITY)?,
            queue_mapping: attrs.u16(QUEUE_MAPPING)?,
            inheritdsfield: flags & INHERITDSFIELD != 0,
            control,
        }))
    })
}

fn packet_type(number: u16) -> Result<PacketType, Lacking> {
    let all = [PacketType::Host, PacketType::Broadcast, PacketType::Multicast, PacketType::OtherHost];
    all.into_iter().find(|t| *t as u16 == number).ok_or_else(|| Lacking(format!("skbedit ptype {number}")))
}

pub(super) fn encode(edit: &Skbedit, index: u32, put: &mut Put) {
    put.bytes(PARMS, &General::bytes(index, edit.control));
    if let Some(priority) = edit.priority {
        put.u32(PRIORITY, priority);
    }
    if let Some(queue) = edit.queue_mapping {
        put.u16(QUEUE_MAPPING, queue);
    }
    if let Some((mark, mask)) = edit.mark {
        put.u32(MARK, mark);
        if mask != u32::MAX || edit.full_mask {
            put.u32(MASK, mask);
        }
    }
    if let Some(ptype) = edit.ptype {
        put.u16(PTYPE, ptype as u16);
    }
    if edit.inheritdsfield {
        put.u64(FLAGS, INHERITDSFIELD);
    }
}
