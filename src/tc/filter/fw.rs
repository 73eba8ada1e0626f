//! `fw`: parse. It changes no state.

use super::super::action;
use super::super::args::Args;
use super::super::command::Word;
use super::super::error::TcError;
use super::super::number::{get_u32, matches};
use super::{Common, old_police, parse_classid};

/// A fw filter as written.
#[derive(Clone, Debug, Default)]
pub struct FwSpec {
    /// `handle N`; 0: none given.
    pub handle: u32,
    /// `/MASK` behind the handle.
    pub mask: Option<u32>,
    /// False without any word after `fw`: the old method.
    pub has_options: bool,
    /// `indev D`.
    pub indev: Option<Word>,
    /// `classid`, actions.
    pub common: Common,
}

const USAGE: &[&str] = &[
    "Usage: ... fw [ classid CLASSID ] [ indev DEV ] [ action ACTION_SPEC ]",
    "\tCLASSID := Push matching packets to the class identified by CLASSID with format X:Y",
    "\t\tCLASSID is parsed as hexadecimal input.",
    "\tDEV := specify device for incoming device classification.",
    "\tACTION_SPEC := Apply an action on matching packets.",
    "\tNOTE: handle is represented as HANDLE[/FWMASK].",
    "\t\tFWMASK is 0xffffffff by default.",
];

/// Parses the words after `fw` (`fw_parse_opt()`, tc/f_fw.c).
///
/// # Errors
/// What tc says.
pub fn parse(args: &mut Args<'_>, handle: Option<&Word>) -> Result<FwSpec, TcError> {
    let mut spec = FwSpec { has_options: args.left() > 0, ..FwSpec::default() };
    if let Some(word) = handle {
        let hint = "the handle of a fw filter is the mark that it wants: MARK or MARK/MASK";
        let number = |text: &str, what: &str| {
            get_u32(text, 0).ok_or_else(|| TcError::parse(format!("Illegal \"handle\"{what}"), word.token, hint))
        };
        let (mark, mask) = word.text.split_once('/').map_or((word.text.as_str(), None), |(v, m)| (v, Some(m)));
        spec.handle = number(mark, "")?;
        spec.mask = mask.map(|mask| number(mask, " mask")).transpose()?;
    }
    while let Some(word) = args.word() {
        if matches(word, "classid") || matches(word, "flowid") {
            spec.common.classid = parse_classid(args)?;
        } else if matches(word, "police") {
            old_police(args, &mut spec.common)?;
        } else if matches(word, "action") {
            args.next_word()?;
            let actions = action::parse_list(args).map_err(|e| e.renamed("Illegal \"action\"", ILLEGAL_ACTION))?;
            if !spec.common.old_police {
                spec.common.actions.extend(actions);
            }
        } else if word == "indev" {
            args.skip();
            let Some(text) = args.word() else {
                return Err(TcError::parse("Illegal indev", args.position(), "name a device: indev DEVICE"));
            };
            spec.indev = Some(Word { text: text.to_owned(), token: args.position() });
            args.skip();
        } else {
            let hint = "fw takes classid, indev, action and police; the mark is the handle: … handle MARK[/MASK] fw …";
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

/// What tc says where other kinds say `Illegal "action"`.
pub const ILLEGAL_ACTION: &str = "Illegal fw \"action\"";
