//! `u32`: `struct tc_u32_sel`, include/uapi/linux/pkt_cls.h; net/sched/cls_u32.c.

use super::attr::{Attrs, Fields, Put};
use super::common::{self, Numbers};
use super::{Lacking, Links, Node, U32};
use crate::rules::{U32Base, U32Descent, U32Key, U32Mark, U32VariableOffset};

const HASH: u16 = 2;
const LINK: u16 = 3;
const DIVISOR: u16 = 4;
const SEL: u16 = 5;
const INDEV: u16 = 8;
const MARK: u16 = 10;
const NUMBERS: Numbers = Numbers { classid: 1, actions: 7, police: Some(6), flags: Some(11) };
/// `TC_U32_TERMINAL` and its siblings.
const TERMINAL: u8 = 1;
const OFFSET: u8 = 2;
const VAROFFSET: u8 = 4;
const EAT: u8 = 8;

/// Options of a record: a table's or a node's.
pub(super) fn decode(attrs: &Attrs<'_>, links: &Links) -> Result<Node, Lacking> {
    if let Some(buckets) = attrs.u32(DIVISOR)? {
        return Ok(Node::U32Table(buckets));
    }
    let mut node = U32 { link: attrs.u32(LINK)?, indev: attrs.text(INDEV), ..U32::default() };
    selector(attrs.need(SEL)?, &mut node)?;
    if let Some(bytes) = attrs.get(MARK) {
        let mut fields = Fields::new(bytes, "u32 mark");
        node.mark = Some(U32Mark { value: fields.u32()?, mask: fields.u32()? });
    }
    node.common = common::decode(attrs, NUMBERS, links)?;
    Ok(Node::U32(node))
}

fn selector(bytes: &[u8], node: &mut U32) -> Result<(), Lacking> {
    let mut fields = Fields::new(bytes, "u32");
    let (flags, shift, count, _padding) = (fields.u8()?, fields.u8()?, fields.u8()?, fields.u8()?);
    let (mask, plus, at) = (fields.be16()?, fields.u16()?, fields.i16()?);
    let (hash_at, hash_mask) = (fields.i16()?, fields.be32()?);
    node.terminal = flags & TERMINAL != 0;
    node.descent = U32Descent {
        plus: (flags & OFFSET != 0).then_some(plus),
        variable: (flags & VAROFFSET != 0).then_some(U32VariableOffset { at, mask, shift }),
        eat: flags & EAT != 0,
        hash_mask,
        hash_at,
    };
    node.keys = (0..count).map(|_| key(&mut fields)).collect::<Result<_, _>>()?;
    Ok(())
}

fn key(fields: &mut Fields<'_>) -> Result<U32Key, Lacking> {
    let (mask, value, offset) = (fields.be32()?, fields.be32()?, fields.i32()?);
    let base = match fields.i32()? {
        0 => U32Base::Network,
        -1 => U32Base::NextHeader,
        other => return Err(Lacking(format!("a u32 key with the offset mask {other:#x}"))),
    };
    Ok(U32Key { value: value & mask, mask, offset, base })
}

/// Options that make a node, under the handle of its table and bucket (0: the root table of its prio).
pub(super) fn encode(node: &U32, table: u32, links: &Links) -> Result<Put, Lacking> {
    let bit = |on: bool, flag: u8| if on { flag } else { 0 };
    let U32Descent { plus, variable, eat, hash_mask, hash_at } = node.descent;
    let flags =
        bit(node.terminal, TERMINAL) | bit(plus.is_some(), OFFSET) | bit(variable.is_some(), VAROFFSET) | bit(eat, EAT);
    let U32VariableOffset { at, mask, shift } = variable.unwrap_or_default();
    let mut sel = vec![flags, shift, node.keys.len() as u8, 0];
    sel.extend(mask.to_be_bytes());
    sel.extend(plus.unwrap_or(0).to_ne_bytes());
    sel.extend([at, hash_at].map(i16::to_ne_bytes).concat());
    sel.extend(hash_mask.to_be_bytes());
    for key in &node.keys {
        let offmask: i32 = match key.base {
            U32Base::Network => 0,
            U32Base::NextHeader => -1,
        };
        sel.extend([key.mask, key.value].map(u32::to_be_bytes).concat());
        sel.extend([key.offset, offmask].map(i32::to_ne_bytes).concat());
    }
    let mut put = Put::default();
    if table != 0 {
        put.u32(HASH, table);
    }
    if let Some(link) = node.link {
        put.u32(LINK, link);
    }
    put.bytes(SEL, &sel);
    if let Some(indev) = &node.indev {
        put.text(INDEV, indev);
    }
    if let Some(mark) = node.mark {
        put.bytes(MARK, &[mark.value, mark.mask, 0].map(u32::to_ne_bytes).concat());
    }
    common::encode(&node.common, NUMBERS, links, &mut put)?;
    Ok(put)
}

/// Options that make a table.
pub(super) fn encode_table(buckets: u32) -> Put {
    let mut put = Put::default();
    put.u32(DIVISOR, buckets);
    put
}
