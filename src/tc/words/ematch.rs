//! Expressions of extended matches as words: one argument in single quotes.

use std::fmt::Write as _;

use super::Unsayable;
use crate::rules::{
    Ematch, EmatchAsk, EmatchCmp, EmatchMeta, EmatchNbyte, EmatchTerm, EmatchThen, EmatchU32, MetaObject,
};

/// `match 'EXPRESSION'` with a space before it; nothing for an expression without matches.
///
/// # Errors
/// What tc cannot have made of words.
pub fn ematches(terms: &[EmatchTerm]) -> Result<String, Unsayable> {
    if terms.is_empty() {
        return Ok(String::new());
    }
    let mut writer = Writer::default();
    writer.sequence(terms)?;
    writer.check_quoted()?;
    Ok(format!(" match '{}'", writer.out))
}

/// It writes neither `'` nor what is not printable ASCII.
#[derive(Default)]
struct Writer {
    out: String,
    /// The quoted texts so far.
    quoted: Vec<Vec<u8>>,
}

impl Writer {
    fn sequence(&mut self, terms: &[EmatchTerm]) -> Result<(), Unsayable> {
        for term in terms {
            self.out.push_str(if term.inverted { "not " } else { "" });
            match &term.ask {
                EmatchAsk::Group(terms) => {
                    self.out.push('(');
                    self.sequence(terms)?;
                    self.out.push(')');
                }
                EmatchAsk::One(ematch) => self.one(ematch)?,
            }
            self.out.push_str(match term.then {
                EmatchThen::And => " and ",
                EmatchThen::Or => " or ",
                EmatchThen::End => "",
            });
        }
        Ok(())
    }

    fn one(&mut self, ematch: &Ematch) -> Result<(), Unsayable> {
        match ematch {
            Ematch::Cmp(EmatchCmp { width, offset, layer, mask, trans, operand, value }) => {
                let _ = write!(self.out, "cmp(u{} at {offset} layer {}", *width as u8 * 8, *layer as u8);
                if *mask != 0 {
                    let _ = write!(self.out, " mask {mask:#x}");
                }
                self.out.push_str(if *trans { " trans" } else { "" });
                let _ = write!(self.out, " {} {value})", operand.as_str());
            }
            Ematch::U32(EmatchU32 { value, mask, offset, next_header }) => {
                if offset % 4 != 0 {
                    return Err(Unsayable(format!("an ematch u32 at {offset}")));
                }
                let base = if *next_header { "nexthdr+" } else { "" };
                let _ = write!(self.out, "u32(u32 {value:#x} {mask:#x} at {base}{offset})");
            }
            Ematch::Nbyte(EmatchNbyte { needle, offset, layer }) => {
                self.out.push_str("nbyte(");
                self.text(needle, false);
                let _ = write!(self.out, " at {offset} layer {})", *layer as u8);
            }
            Ematch::Meta(EmatchMeta { left, operand, right }) => {
                if matches!(left, MetaObject::Device { .. }) {
                    return Err(Unsayable("meta with dev on the left of a text".to_owned()));
                }
                self.out.push_str("meta(");
                self.object(left);
                let _ = write!(self.out, " {} ", operand.as_str());
                self.object(right);
                self.out.push(')');
            }
        }
        Ok(())
    }

    fn object(&mut self, object: &MetaObject) {
        let (name, shift, mask) = match object {
            MetaObject::Number(number) => {
                self.out.push_str(&number.to_string());
                return;
            }
            MetaObject::Text(text) => return self.text(text, true),
            MetaObject::Field { field, shift, mask } => (field.as_str(), *shift, *mask),
            MetaObject::Device { shift } => ("dev", *shift, 0),
        };
        self.out.push_str(name);
        if shift != 0 {
            let _ = write!(self.out, " shift {shift}");
        }
        if mask != 0 {
            let _ = write!(self.out, " mask {mask:#x}");
        }
    }

    /// A text: in quotes only if it must be.
    fn text(&mut self, text: &[u8], must: bool) {
        let is_plain = |b: &u8| b.is_ascii_graphic() && !b"\"'()\\".contains(b);
        let is_word = [&b"and"[..], b"or", b"not"].iter().any(|word| text.eq_ignore_ascii_case(word));
        let quotes = must || is_word || !text.iter().all(is_plain);
        self.out.push_str(if quotes { "\"" } else { "" });
        for byte in text {
            let _ = match byte {
                b' ' => write!(self.out, " "),
                byte if is_plain(byte) || matches!(byte, b'(' | b')') => write!(self.out, "{}", char::from(*byte)),
                byte => write!(self.out, "\\x{byte:02x}"),
            };
        }
        self.out.push_str(if quotes { "\"" } else { "" });
        if quotes {
            self.quoted.push(text.to_vec());
        }
    }

    /// tc keeps all quoted texts of an expression in one place, where each overwrites those before it: what is there in the end must
    /// begin with each of them.
    fn check_quoted(&self) -> Result<(), Unsayable> {
        let mut kept: Vec<u8> = Vec::new();
        for text in &self.quoted {
            let len = text.len().min(kept.len());
            kept.splice(..len, text.iter().copied());
        }
        if self.quoted.iter().all(|text| kept.starts_with(text)) {
            return Ok(());
        }
        Err(Unsayable("an expression with several texts that take quotes".to_owned()))
    }
}
