//! basic's expressions as code: comparisons of words on the stack, with a jump for either result. It reads no frame by itself.

use std::collections::BTreeSet;

use super::asm::{Alu, Cond, Label, Reg, Size};
use super::classify::Classify;
use super::layout::{WORD_AT_MAX, slot};
use super::refusal::Reason;
use crate::limits::ETHERNET_LEN;
use crate::rules::ematch::{ematches, meta_device, meta_extras, meta_text_order};
use crate::rules::{
    Ematch, EmatchAsk, EmatchCmp, EmatchLayer, EmatchMeta, EmatchOperand, EmatchTerm, EmatchThen, EmatchU32,
    EmatchWidth, InFrame, MetaField, MetaObject, U32Base, U32Key,
};

/// The frame's network header, without its outer tag: no program runs a rule behind one that moves it.
const NETWORK: i32 = ETHERNET_LEN as i32;

/// What a match asks, as far as a program can.
enum Ask {
    /// It is known without a frame.
    Fixed(bool),
    /// A number in `len` bytes at `at`.
    Number { at: i32, cmp: EmatchCmp },
    /// Words that must be equal, of bytes up to `end`.
    Words { end: i32, words: Vec<Word> },
    /// A number that travels with the frame.
    Field { field: Field, shift: u8, mask: u32, operand: EmatchOperand, value: u32 },
}

/// A masked word, as it is in the frame.
struct Word {
    at: i32,
    value: [u8; 4],
    mask: [u8; 4],
}

/// What a program knows of `meta`.
#[derive(Clone, Copy)]
enum Field {
    PacketLen,
    Protocol,
}

/// Which words an expression needs, into `words`.
///
/// # Errors
/// What a program cannot do, by name.
pub(super) fn need(terms: &[EmatchTerm], device: &str, words: &mut BTreeSet<i32>) -> Result<(), Reason> {
    let mut refused = Ok(());
    ematches(terms, &mut |ematch| match ask(ematch, device) {
        Ok(Ask::Number { at, cmp }) => drop(words.insert(word_of(at, cmp.width as i32))),
        Ok(Ask::Words { words: more, .. }) => words.extend(more.iter().map(|w| w.at)),
        Ok(Ask::Fixed(_) | Ask::Field { .. }) => {}
        Err(reason) => refused = Err(reason),
    });
    refused
}

/// Where the word is that ends with these bytes; at the frame's start: that begins with them.
const fn word_of(at: i32, len: i32) -> i32 {
    if at + len >= 4 { at + len - 4 } else { at }
}

fn ask(ematch: &Ematch, device: &str) -> Result<Ask, Reason> {
    match ematch {
        Ematch::Cmp(cmp) => {
            let at = place(cmp.layer, cmp.offset, cmp.width as usize)?;
            Ok(Ask::Number { at, cmp: *cmp })
        }
        Ematch::U32(key) => {
            let EmatchU32 { value, mask, offset, .. } = *key;
            match (U32Key { value, mask, offset, base: U32Base::Network }).in_frame(NETWORK) {
                InFrame::Key(key) => {
                    let at = super::layout::word_at(key.offset)?;
                    let word = Word { at, value: key.value.to_be_bytes(), mask: key.mask.to_be_bytes() };
                    Ok(Ask::Words { end: at + 4, words: vec![word] })
                }
                InFrame::Never | InFrame::Unreadable => Ok(Ask::Fixed(false)),
            }
        }
        Ematch::Nbyte(nbyte) => {
            let at = place(nbyte.layer, nbyte.offset, nbyte.needle.len())?;
            let words = nbyte.needle.chunks(4).zip((at..).step_by(4)).map(|(bytes, at)| {
                let word = word_of(at, bytes.len() as i32);
                let skip = (at - word) as usize;
                let (mut value, mut mask) = ([0; 4], [0; 4]);
                value[skip..skip + bytes.len()].copy_from_slice(bytes);
                mask[skip..skip + bytes.len()].fill(0xff);
                Word { at: word, value, mask }
            });
            Ok(Ask::Words { end: at + nbyte.needle.len() as i32, words: words.collect() })
        }
        Ematch::Meta(meta) => ask_meta(meta, device),
    }
}

fn place(layer: EmatchLayer, offset: u16, len: usize) -> Result<i32, Reason> {
    let at = i32::from(offset)
        + match layer {
            EmatchLayer::Link => 0,
            EmatchLayer::Network => NETWORK,
            EmatchLayer::Transport => return Err(Reason::Ematch { what: "for the transport header" }),
        };
    if at + len as i32 > WORD_AT_MAX {
        return Err(Reason::OffsetTooFar { offset: offset.into(), limit: WORD_AT_MAX as u32 });
    }
    Ok(at)
}

/// A side of `meta`.
enum Side<'a> {
    Number(u64),
    Text(&'a [u8]),
    Field { field: Field, shift: u8, mask: u32 },
}

fn ask_meta(meta: &EmatchMeta, device: &str) -> Result<Ask, Reason> {
    let fixed = |order: std::cmp::Ordering| Ok(Ask::Fixed(meta.operand.holds(order)));
    let turned = match meta.operand {
        EmatchOperand::Eq => EmatchOperand::Eq,
        EmatchOperand::Gt => EmatchOperand::Lt,
        EmatchOperand::Lt => EmatchOperand::Gt,
    };
    match (side(&meta.left, device)?, side(&meta.right, device)?) {
        (Side::Number(left), Side::Number(right)) => fixed(left.cmp(&right)),
        (Side::Text(left), Side::Text(right)) => fixed(meta_text_order(left, right)),
        (Side::Field { field, shift, mask }, Side::Number(value)) => {
            Ok(Ask::Field { field, shift, mask, operand: meta.operand, value: value as u32 })
        }
        (Side::Number(value), Side::Field { field, shift, mask }) => {
            Ok(Ask::Field { field, shift, mask, operand: turned, value: value as u32 })
        }
        (Side::Field { .. }, Side::Field { .. }) => Err(Reason::Ematch { what: "for two fields of meta at once" }),
        (Side::Text(_), _) | (_, Side::Text(_)) => Ok(Ask::Fixed(false)),
    }
}

fn side<'a>(object: &'a MetaObject, device: &'a str) -> Result<Side<'a>, Reason> {
    let (field, shift, mask) = match object {
        MetaObject::Number(number) => return Ok(Side::Number((*number).into())),
        MetaObject::Text(text) => return Ok(Side::Text(text)),
        MetaObject::Device { shift } => return Ok(Side::Text(meta_device(device.as_bytes(), *shift))),
        MetaObject::Field { field, shift, mask } => (*field, *shift, *mask),
    };
    let known = |value: u64| Ok(Side::Number(meta_extras(value, shift, mask)));
    match field {
        // Nothing has set them yet at ingress.
        MetaField::Mark | MetaField::Priority => known(0),
        MetaField::MacLen => known(NETWORK as u64),
        // The upper half of the shifted number is zero.
        MetaField::PacketLen | MetaField::Protocol if shift & 63 >= 32 => known(0),
        MetaField::PacketLen => Ok(Side::Field { field: Field::PacketLen, shift, mask }),
        MetaField::Protocol => Ok(Side::Field { field: Field::Protocol, shift, mask }),
        MetaField::Random => Err(Reason::Ematch { what: "for meta(random)" }),
        MetaField::PacketType => Err(Reason::Ematch { what: "for meta(pkt_type)" }),
        MetaField::Vlan => Err(Reason::Ematch { what: "for meta(vlan)" }),
    }
}

impl Classify<'_> {
    /// `__tcf_em_tree_match()`: goes to `yes` or `no`.
    pub(super) fn ematch_terms(&mut self, terms: &[EmatchTerm], yes: Label, no: Label) {
        for term in terms {
            self.asm.relay();
            let next = self.asm.label();
            let (holds, fails) = match term.then {
                EmatchThen::End => (yes, no),
                EmatchThen::And => (next, no),
                EmatchThen::Or => (yes, next),
            };
            let (holds, fails) = if term.inverted { (fails, holds) } else { (holds, fails) };
            match &term.ask {
                EmatchAsk::Group(terms) => self.ematch_terms(terms, holds, fails),
                EmatchAsk::One(ematch) => self.ematch(ematch, holds, fails),
            }
            self.asm.bind(next);
        }
        // Only an empty sequence comes to here; it does not hold.
        self.asm.jump(no);
    }

    fn ematch(&mut self, ematch: &Ematch, holds: Label, fails: Label) {
        let device = &self.ruleset.devices[self.hook.device.index()].name;
        match ask(ematch, device).expect("the layout was made from the same expressions") {
            Ask::Fixed(true) => self.asm.jump(holds),
            Ask::Fixed(false) => self.asm.jump(fails),
            Ask::Words { end, words } => {
                self.reaches(end, fails);
                for Word { at, value, mask } in words {
                    self.word(at, value, mask, fails);
                }
                self.asm.jump(holds);
            }
            Ask::Number { at, cmp } => {
                let len = cmp.width as i32;
                self.reaches(at + len, fails);
                let word = word_of(at, len);
                let slot = self.layout.slot(word) + (at - word) as i16;
                let size = match cmp.width {
                    EmatchWidth::U8 => Size::B,
                    EmatchWidth::U16 => Size::H,
                    EmatchWidth::U32 => Size::W,
                };
                self.asm.load(size, Reg::R1, Reg::R10, slot);
                match cmp.width {
                    EmatchWidth::U16 if !cmp.trans => self.asm.be16(Reg::R1),
                    EmatchWidth::U32 if !cmp.trans => self.asm.be32(Reg::R1),
                    EmatchWidth::U8 | EmatchWidth::U16 | EmatchWidth::U32 => {}
                }
                self.compare(cmp.mask, cmp.operand, cmp.value, holds, fails);
            }
            Ask::Field { field, shift, mask, operand, value } => {
                match field {
                    Field::PacketLen => {
                        self.asm.load(Size::W, Reg::R1, Reg::R10, slot::DATA_LEN);
                        self.asm.alu_imm(Alu::Sub, Reg::R1, NETWORK);
                    }
                    Field::Protocol => {
                        self.asm.load(Size::H, Reg::R1, Reg::R10, slot::PROTOCOL);
                        self.asm.be16(Reg::R1);
                    }
                }
                if shift & 63 != 0 {
                    self.asm.alu32_imm(Alu::Rsh, Reg::R1, u32::from(shift & 63));
                }
                self.compare(mask, operand, value, holds, fails);
            }
        }
    }

    /// Goes to `short` unless the frame has bytes up to `end`.
    fn reaches(&mut self, end: i32, short: Label) {
        if end > NETWORK {
            self.asm.load(Size::H, Reg::R1, Reg::R10, slot::LEN);
            self.asm.jump32_imm(Cond::Lt, Reg::R1, end as u32, short);
        }
    }

    /// Compares R1 under a mask; 0 is none.
    fn compare(&mut self, mask: u32, operand: EmatchOperand, value: u32, holds: Label, fails: Label) {
        if mask != 0 {
            self.asm.alu32_imm(Alu::And, Reg::R1, mask);
        }
        let differs = match operand {
            EmatchOperand::Eq => Cond::Ne,
            EmatchOperand::Gt => Cond::Le,
            EmatchOperand::Lt => Cond::Ge,
        };
        self.asm.jump32_imm(differs, Reg::R1, value, fails);
        self.asm.jump(holds);
    }
}
