//! `basic`: the words after it. Its expressions are in [`ematch`]. It changes no state.

pub mod ematch;
mod grammar;
mod lexer;
mod meta;
mod print;

pub use print::{one_line, text};

use super::super::action;
use super::super::args::Args;
use super::super::command::Word;
use super::super::error::TcError;
use super::super::number::matches;
use super::{Common, old_police, parse_classid};
use crate::rules::EmatchTerm;

/// A basic filter as written.
#[derive(Clone, Debug, Default)]
pub struct BasicSpec {
    /// `handle N`; 0: none given.
    pub handle: u32,
    /// False without any word after `basic`: the kernel refuses that.
    pub has_options: bool,
    /// `match EXPRESSION`; empty: everything.
    pub ematches: Vec<EmatchTerm>,
    /// Why the kernel refuses the expression.
    pub refused: Option<&'static str>,
    /// What viscum has to say about it.
    pub note: Option<String>,
    /// `classid`, actions.
    pub common: Common,
}

const USAGE: &[&str] = &[
    "Usage: ... basic [ match EMATCH_TREE ]",
    "                 [ action ACTION_SPEC ] [ classid CLASSID ]",
    "",
    "Where:\tSELECTOR := SAMPLE SAMPLE ...",
    "\tFILTERID := X:Y:Z",
    "\tACTION_SPEC := ... look at individual actions",
    "",
    "NOTE: CLASSID is parsed as hexadecimal input.",
];

/// Parses the words after `basic` (`basic_parse_opt()`, tc/f_basic.c).
///
/// # Errors
/// What tc says; matches that viscum lacks are refused by name.
pub fn parse(args: &mut Args<'_>, handle: Option<&Word>) -> Result<BasicSpec, TcError> {
    let mut spec = BasicSpec { has_options: args.left() > 0, ..BasicSpec::default() };
    if let Some(word) = handle {
        spec.handle = number(&word.text).ok_or_else(|| {
            let message = format!("Illegal handle \"{}\", must be numeric.", word.text);
            TcError::parse(message, word.token, "a handle is a number here")
        })?;
    }
    while let Some(word) = args.word() {
        if matches(word, "match") {
            args.next_word()?;
            ematch::parse(args, &mut spec).map_err(|error| match error.exit_code {
                super::exit::PARSE => error.then("Illegal \"ematch\""),
                _ => error,
            })?;
        } else if matches(word, "classid") || word == "flowid" {
            spec.common.classid = parse_classid(args)?;
        } else if matches(word, "action") {
            args.next_word()?;
            let actions = action::parse_list(args)?;
            if !spec.common.old_police {
                spec.common.actions.extend(actions);
            }
        } else if matches(word, "police") {
            old_police(args, &mut spec.common)?;
        } else {
            let hint = "basic takes match 'EXPRESSION' (quoted, as a shell needs it), action, classid and police";
            let mut error = TcError::parse(format!("What is \"{word}\"?"), args.position(), hint);
            if word == "help" {
                error.messages.clear();
            }
            error.messages.extend(USAGE.iter().map(|s| (*s).to_owned()));
            return Err(error);
        }
    }
    Ok(spec)
}

/// `strtol(text, NULL, 0)` into 32 bits: what follows the digits is ignored, and without any it is 0. `None` beyond 64 bits.
fn number(text: &str) -> Option<u32> {
    match lexer::leading_number(text.as_bytes()) {
        lexer::Leading::None => Some(0),
        lexer::Leading::Number { negative, value } => {
            let limit = i64::MAX as u64;
            let value = value.filter(|v| *v < limit || negative && *v == limit)?;
            let value = value as i64;
            Some((if negative { -value } else { value }) as u32)
        }
    }
}
