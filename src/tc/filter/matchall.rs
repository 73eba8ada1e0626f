//! `matchall`: parse. It changes no state.

use super::super::action;
use super::super::args::Args;
use super::super::command::Word;
use super::super::error::TcError;
use super::{Common, number_handle, parse_classid};

/// A matchall filter as written.
#[derive(Clone, Debug, Default)]
pub struct MatchallSpec {
    /// `handle N`; 0: none given.
    pub handle: u32,
    /// False without any word after `matchall`: the kernel refuses that.
    pub has_options: bool,
    /// `classid`, actions, flags.
    pub common: Common,
}

const USAGE: &[&str] = &[
    "Usage: ... matchall [skip_sw | skip_hw]",
    "                 [ action ACTION_SPEC ] [ classid CLASSID ]",
    "",
    "Where: SELECTOR := SAMPLE SAMPLE ...",
    "       FILTERID := X:Y:Z",
    "       ACTION_SPEC := ... look at individual actions",
    "",
    "NOTE: CLASSID is parsed as hexadecimal input.",
];

/// Parses the words after `matchall` (`matchall_parse_opt()`, tc/f_matchall.c).
///
/// # Errors
/// What tc says.
pub fn parse(args: &mut Args<'_>, handle: Option<&Word>) -> Result<MatchallSpec, TcError> {
    let mut spec =
        MatchallSpec { handle: number_handle(handle)?, has_options: args.left() > 0, common: Common::default() };
    while let Some(word) = args.word() {
        match word {
            "skip_hw" => spec.common.skip_hw = true,
            "skip_sw" => spec.common.skip_sw = true,
            _ if word == "flowid" || args.matches("classid") => {
                spec.common.classid = parse_classid(args)?;
                continue;
            }
            _ if args.matches("action") => {
                args.next_word()?;
                spec.common.actions.extend(action::parse_list(args)?);
                continue;
            }
            _ => {
                let hint = "matchall takes action, classid, skip_hw";
                let mut error = TcError::parse(format!("What is \"{word}\"?"), args.position(), hint);
                error.messages.extend(USAGE.iter().map(|s| (*s).to_owned()));
                return Err(error);
            }
        }
        args.skip();
    }
    Ok(spec)
}
