//! Expressions of extended matches: `TCA_EMATCH_TREE_*`, include/uapi/linux/pkt_cls.h; net/sched/ematch.c and em_*.c. What `meta`
//! compares is in [`super::meta`].
//!
//! In a message they are one list: a sequence ends with its last term, and a term that is a group names the position where its own
//! sequence begins, which is always further on.

use super::attr::{Attrs, Fields, Put};
use super::{Lacking, meta};
use crate::limits::{EMATCH_DEPTH_MAX, EMATCHES_MAX};
use crate::rules::{
    Ematch, EmatchAsk, EmatchCmp, EmatchLayer, EmatchNbyte, EmatchOperand, EmatchTerm, EmatchThen, EmatchU32,
    EmatchWidth,
};

const TREE_HEAD: u16 = 1;
const TREE_LIST: u16 = 2;
/// `TCF_EM_*`: kinds.
const GROUP: u16 = 0;
const CMP: u16 = 1;
const NBYTE: u16 = 2;
const U32: u16 = 3;
const META: u16 = 4;
/// Kinds that are not read, by tc's names.
const OTHERS: &[(u16, &str)] = &[(5, "text"), (6, "vlan"), (7, "canid"), (8, "ipset"), (9, "ipt")];
/// `TCF_EM_REL_*` and `TCF_EM_INVERT`.
const THEN: u16 = 3;
const INVERT: u16 = 4;
/// tc's message to the kernel has no room for more bytes (`MAX_MSG`, tc/tc_filter.c).
const LIST_LEN_MAX: usize = 1 << 14;
/// `TCF_EM_CMP_TRANS`.
const TRANS: u8 = 1;

pub(super) fn decode(attrs: &Attrs<'_>) -> Result<Vec<EmatchTerm>, Lacking> {
    let mut list: Vec<(u16, &[u8])> = attrs.nest(TREE_LIST)?.iter().collect();
    list.sort_by_key(|(number, _)| *number);
    let list: Vec<&[u8]> = list.into_iter().map(|(_, bytes)| bytes).collect();
    let mut left = EMATCHES_MAX;
    if list.is_empty() { Ok(Vec::new()) } else { sequence(&list, 0, 0, &mut left) }
}

/// The sequence that begins at a position of the list; `left`: how many more terms may come.
fn sequence(list: &[&[u8]], from: usize, depth: usize, left: &mut usize) -> Result<Vec<EmatchTerm>, Lacking> {
    let mut terms = Vec::new();
    for (position, bytes) in list.iter().enumerate().skip(from) {
        *left =
            left.checked_sub(1).ok_or_else(|| Lacking(format!("an expression of more than {EMATCHES_MAX} matches")))?;
        let mut fields = Fields::new(bytes, "an ematch");
        let (_matchid, kind, flags, _padding) = (fields.u16()?, fields.u16()?, fields.u16()?, fields.u16()?);
        let then = match flags & THEN {
            0 => EmatchThen::End,
            1 => EmatchThen::And,
            2 => EmatchThen::Or,
            _ => return Err(Lacking("an ematch that is both followed by and and by or".to_owned())),
        };
        let ask = if kind == GROUP {
            let first = fields.u32()? as usize;
            if first <= position || first >= list.len() {
                return Err(Lacking(format!("ematch {position}, a group that begins at {first}")));
            }
            if depth == EMATCH_DEPTH_MAX {
                return Err(Lacking(format!("more than {EMATCH_DEPTH_MAX} parentheses in each other")));
            }
            EmatchAsk::Group(sequence(list, first, depth + 1, left)?)
        } else {
            EmatchAsk::One(one(kind, fields)?)
        };
        terms.push(EmatchTerm { inverted: flags & INVERT != 0, ask, then });
        if then == EmatchThen::End {
            return Ok(terms);
        }
    }
    // The list is over: so is the sequence (`__tcf_em_tree_match()`).
    if let Some(last) = terms.last_mut() {
        last.then = EmatchThen::End;
    }
    Ok(terms)
}

fn one(kind: u16, mut fields: Fields<'_>) -> Result<Ematch, Lacking> {
    match kind {
        CMP => cmp(&mut fields).map(Ematch::Cmp),
        NBYTE => nbyte(&mut fields).map(Ematch::Nbyte),
        U32 => {
            let (mask, value, offset) = (fields.be32()?, fields.be32()?, fields.i32()?);
            let next_header = match fields.i32()? {
                0 => false,
                -1 => true,
                other => return Err(Lacking(format!("an ematch u32 with the offset mask {other:#x}"))),
            };
            Ok(Ematch::U32(EmatchU32 { value: value & mask, mask, offset, next_header }))
        }
        META => meta::decode(fields.rest()).map(Ematch::Meta),
        other => Err(Lacking(match OTHERS.iter().find(|(number, _)| *number == other) {
            Some((_, name)) => format!("the ematch {name}"),
            None => format!("the ematch number {other} (TCF_EM_*)"),
        })),
    }
}

/// Two fields of four bits in one byte: the first is the low one on little-endian machines.
const fn halves(byte: u8) -> (u8, u8) {
    if cfg!(target_endian = "little") { (byte & 0xf, byte >> 4) } else { (byte >> 4, byte & 0xf) }
}

const fn joined(first: u8, second: u8) -> u8 {
    if cfg!(target_endian = "little") { first | second << 4 } else { first << 4 | second }
}

fn layer(number: u8) -> Result<EmatchLayer, Lacking> {
    match number {
        0 => Ok(EmatchLayer::Link),
        1 => Ok(EmatchLayer::Network),
        2 => Ok(EmatchLayer::Transport),
        other => Err(Lacking(format!("an ematch at layer {other}"))),
    }
}

/// `TCF_EM_OPND_*`.
pub(super) fn operand(number: u8) -> Result<EmatchOperand, Lacking> {
    match number {
        0 => Ok(EmatchOperand::Eq),
        1 => Ok(EmatchOperand::Gt),
        2 => Ok(EmatchOperand::Lt),
        other => Err(Lacking(format!("an ematch that compares by operand {other}"))),
    }
}

pub(super) const fn operand_number(operand: EmatchOperand) -> u8 {
    match operand {
        EmatchOperand::Eq => 0,
        EmatchOperand::Gt => 1,
        EmatchOperand::Lt => 2,
    }
}

/// `struct tcf_em_cmp`.
fn cmp(fields: &mut Fields<'_>) -> Result<EmatchCmp, Lacking> {
    let (value, mask, offset) = (fields.u32()?, fields.u32()?, fields.u16()?);
    let ((align, flags), (at, how)) = (halves(fields.u8()?), halves(fields.u8()?));
    let width = match align {
        1 => EmatchWidth::U8,
        2 => EmatchWidth::U16,
        4 => EmatchWidth::U32,
        other => return Err(Lacking(format!("an ematch cmp of {other} bytes"))),
    };
    let (layer, operand) = (layer(at)?, operand(how)?);
    Ok(EmatchCmp { width, offset, layer, mask, trans: flags & TRANS != 0, operand, value })
}

/// `struct tcf_em_nbyte`: 12 bits of length and 4 of the layer in one word, and the bytes behind it.
fn nbyte(fields: &mut Fields<'_>) -> Result<EmatchNbyte, Lacking> {
    let (offset, word) = (fields.u16()?, fields.u16()?);
    let (len, at) = if cfg!(target_endian = "little") { (word & 0xfff, word >> 12) } else { (word >> 4, word & 0xf) };
    let needle = fields.rest().get(..usize::from(len)).unwrap_or_default().to_vec();
    if needle.is_empty() {
        return Err(Lacking("an ematch nbyte without its bytes".to_owned()));
    }
    Ok(EmatchNbyte { needle, offset, layer: layer(at as u8)? })
}

/// # Errors
/// More terms than attributes of a list can have, or a text that is too long.
pub(super) fn encode(terms: &[EmatchTerm]) -> Result<Put, Lacking> {
    let mut flat = Vec::new();
    flatten(terms, &mut flat);
    let count = u16::try_from(flat.len())
        .ok()
        .filter(|count| usize::from(*count) <= EMATCHES_MAX)
        .ok_or_else(|| Lacking(format!("an expression of {} matches", flat.len())))?;
    let mut list = Put::default();
    for (number, (term, first)) in (1..).zip(&flat) {
        list.bytes(number, &bytes(term, *first)?);
        if list.0.len() > LIST_LEN_MAX {
            return Err(Lacking(format!("an expression of more than {LIST_LEN_MAX} bytes")));
        }
    }
    let mut put = Put::default();
    // `progid`: TCF_EM_PROG_TC.
    put.bytes(TREE_HEAD, &[count, 0].map(u16::to_ne_bytes).concat()).nest(TREE_LIST, &list);
    Ok(put)
}

/// Each sequence in one piece, then those of its groups (`flatten_tree()`, tc/m_ematch.c): a term, and where its group begins.
fn flatten<'a>(terms: &'a [EmatchTerm], flat: &mut Vec<(&'a EmatchTerm, u32)>) {
    let base = flat.len();
    flat.extend(terms.iter().map(|term| (term, 0)));
    for (at, term) in (base..).zip(terms) {
        if let EmatchAsk::Group(terms) = &term.ask {
            flat[at].1 = flat.len() as u32;
            flatten(terms, flat);
        }
    }
}

fn bytes(term: &EmatchTerm, first: u32) -> Result<Vec<u8>, Lacking> {
    let (kind, data) = match &term.ask {
        EmatchAsk::Group(_) => (GROUP, first.to_ne_bytes().to_vec()),
        EmatchAsk::One(Ematch::Cmp(cmp)) => {
            let mut data = [cmp.value, cmp.mask].map(u32::to_ne_bytes).concat();
            data.extend(cmp.offset.to_ne_bytes());
            data.push(joined(cmp.width as u8, if cmp.trans { TRANS } else { 0 }));
            data.push(joined(cmp.layer as u8, operand_number(cmp.operand)));
            (CMP, data)
        }
        EmatchAsk::One(Ematch::Nbyte(nbyte)) => {
            let len = u16::try_from(nbyte.needle.len()).ok().filter(|len| *len <= 0xfff);
            let len = len.ok_or_else(|| Lacking(format!("an ematch nbyte of {} bytes", nbyte.needle.len())))?;
            let at = nbyte.layer as u16;
            let word = if cfg!(target_endian = "little") { len | at << 12 } else { len << 4 | at };
            let mut data = [nbyte.offset, word].map(u16::to_ne_bytes).concat();
            data.extend(&nbyte.needle);
            (NBYTE, data)
        }
        EmatchAsk::One(Ematch::U32(key)) => {
            let mut data = [key.mask, key.value].map(u32::to_be_bytes).concat();
            data.extend([key.offset, if key.next_header { -1 } else { 0 }].map(i32::to_ne_bytes).concat());
            (U32, data)
        }
        EmatchAsk::One(Ematch::Meta(compared)) => (META, meta::encode(compared)?.0),
    };
    let then = match term.then {
        EmatchThen::End => 0,
        EmatchThen::And => 1,
        EmatchThen::Or => 2,
    };
    let flags = then | if term.inverted { INVERT } else { 0 };
    let mut out = [0, kind, flags, 0].map(u16::to_ne_bytes).concat();
    out.extend(data);
    Ok(out)
}
