//! Expressions as tc prints them (`print_ematch()`, tc/m_ematch.c, and the printers of em_*.c). It changes nothing.

use std::fmt::Write as _;

use super::lexer::shown;
use crate::rules::{Ematch, EmatchAsk, EmatchMeta, EmatchTerm, EmatchThen, MetaObject};

/// Over several lines, as the listing of a filter has it; without any match: nothing.
#[must_use]
pub fn text(terms: &[EmatchTerm]) -> String {
    let mut out = String::new();
    if !terms.is_empty() {
        out.push_str("\n  ");
        sequence(terms, 1, &mut out);
    }
    out
}

fn sequence(terms: &[EmatchTerm], depth: usize, out: &mut String) {
    for term in terms {
        out.push_str(if term.inverted { "NOT " } else { "" });
        match &term.ask {
            EmatchAsk::Group(terms) => {
                let _ = write!(out, "(\n{}", "  ".repeat(depth + 1));
                sequence(terms, depth + 1, out);
                let _ = write!(out, "{}) ", "  ".repeat(depth));
            }
            EmatchAsk::One(ematch) => {
                let _ = writeln!(out, "{}", one_line(ematch));
                if term.then != EmatchThen::End {
                    out.push_str(&"  ".repeat(depth));
                }
            }
        }
        out.push_str(match term.then {
            EmatchThen::And => "AND ",
            EmatchThen::Or => "OR ",
            EmatchThen::End => "",
        });
    }
}

/// One match: `cmp(u8 at 9 layer 1 eq 6)`.
#[must_use]
pub fn one_line(ematch: &Ematch) -> String {
    match ematch {
        Ematch::Cmp(cmp) => {
            let mut out = format!("cmp(u{} at {} layer {} ", cmp.width as u8 * 8, cmp.offset, cmp.layer as u8);
            if cmp.mask != 0 {
                let _ = write!(out, "mask {:#x} ", cmp.mask);
            }
            out.push_str(if cmp.trans { "trans " } else { "" });
            let _ = write!(out, "{} {})", cmp.operand.as_str(), cmp.value as i32);
            out
        }
        Ematch::U32(key) => {
            let base = if key.next_header { "nexthdr+" } else { "" };
            format!("u32({:08x}/{:08x} at {base}{})", key.value, key.mask, key.offset)
        }
        Ematch::Nbyte(nbyte) => {
            let bytes: String = nbyte.needle.iter().map(|b| format!("{b:02x} ")).collect();
            format!("nbyte({bytes}\"{}\" at {} layer {})", shown(&nbyte.needle), nbyte.offset, nbyte.layer as u8)
        }
        Ematch::Meta(EmatchMeta { left, operand, right }) => {
            format!("meta({} {} {})", object(left), operand.as_str(), object(right))
        }
    }
}

fn object(object: &MetaObject) -> String {
    match object {
        MetaObject::Number(number) => (*number as i32).to_string(),
        MetaObject::Text(text) if text.iter().all(|b| (0x20..0x7f).contains(b)) => shown(text),
        MetaObject::Text(text) => {
            let bytes: String = text.iter().map(|b| format!("{b:02x} ")).collect();
            format!("{bytes}\"{}\"", shown(text))
        }
        MetaObject::Field { field, shift, mask } => {
            let mut out = field.as_str().to_owned();
            if *shift != 0 {
                let _ = write!(out, " shift {shift}");
            }
            if *mask != 0 {
                let _ = write!(out, " mask {mask:#010x}");
            }
            out
        }
        MetaObject::Device { shift: 0 } => "dev".to_owned(),
        MetaObject::Device { shift } => format!("dev shift {shift}"),
    }
}
