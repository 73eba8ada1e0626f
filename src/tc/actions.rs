//! `tc actions …`: commands on actions by themselves (`do_action()`, tc/m_action.c). It parses; it changes no state.

use super::action::{self, ActionSpec};
use super::args::Args;
use super::error::{TcError, exit};
use super::number::{get_u32, matches};

/// One of the commands behind `tc actions`.
#[derive(Clone, Debug)]
pub enum ActionsCommand {
    /// `add`, `change`, `replace`.
    Put {
        /// What to make.
        actions: Vec<ActionSpec>,
        /// One that is there is changed; otherwise that is an error.
        replace: bool,
    },
    /// `delete`.
    Delete(Named),
    /// `get`.
    Get(Named),
    /// `list`, `show`.
    List {
        /// Kind, as written.
        kind: String,
        /// `since MS`: only those that were used within so many milliseconds.
        since_ms: Option<u32>,
    },
    /// `flush`: the kind, as written.
    Flush(String),
}

/// Actions by kind and index.
#[derive(Clone, Debug)]
pub struct Named {
    /// Kind and index; 0 is none.
    pub list: Vec<(String, u32)>,
    /// The word behind the command: tc takes it for one when the kernel refused.
    pub first: String,
}

const USAGE: &[&str] = &[
    "usage: tc actions <ACTSPECOP>*",
    "Where: \tACTSPECOP := ACR | GD | FL",
    "\tACR := add | change | replace <ACTSPEC>*",
    "\tGD := get | delete | <ACTISPEC>*",
    "\tFL := ls | list | flush | <ACTNAMESPEC>",
    "\tACTNAMESPEC :=  action <ACTNAME>",
    "\tACTISPEC := <ACTNAMESPEC> <INDEXSPEC>",
    "\tACTSPEC := action <ACTDETAIL> [INDEXSPEC] [HWSTATSSPEC] [SKIPSPEC]",
    "\tINDEXSPEC := index <32 bit indexvalue>",
    "\tHWSTATSSPEC := hw_stats [ immediate | delayed | disabled ]",
    "\tSKIPSPEC := [ skip_sw | skip_hw ]",
    "\tACTDETAIL := <ACTNAME> <ACTPARAMS>",
    "\t\tExample ACTNAME is gact, mirred, bpf, etc",
    "\t\tEach action has its own parameters (ACTPARAMS)",
    "",
];

fn usage(token: usize) -> TcError {
    let mut error = TcError::usage("", token, "write it like: tc actions ls action gact");
    error.messages = USAGE.iter().map(|s| (*s).to_owned()).collect();
    error
}

/// Parses the words after `actions`. Of several commands none is done if one of them cannot be parsed.
///
/// # Errors
/// What tc says; exit code 255.
pub fn parse(args: &mut Args<'_>) -> Result<Vec<ActionsCommand>, TcError> {
    let mut commands = Vec::new();
    while let Some(word) = args.word() {
        let token = args.position();
        let is = |names: &[&str]| names.iter().any(|name| matches(word, name));
        if is(&["add"]) {
            commands.push(put(args, false)?);
        } else if is(&["change", "replace"]) {
            commands.push(put(args, true)?);
        } else if is(&["delete"]) {
            commands.push(ActionsCommand::Delete(named(args)?));
        } else if is(&["get"]) {
            commands.push(ActionsCommand::Get(named(args)?));
        } else if is(&["list", "show", "lst", "flush"]) {
            if args.left() <= 2 {
                return Err(usage(token));
            }
            args.skip();
            let kind = args.next_word()?.to_owned();
            if matches(word, "flush") {
                commands.push(ActionsCommand::Flush(kind));
            } else {
                commands.push(ActionsCommand::List { kind, since_ms: since(args)? });
            }
            // What stands behind it tc never looks at.
            return Ok(commands);
        } else if is(&["help"]) {
            return Err(usage(token));
        } else {
            return Err(super::command::unknown_command(word, "actions", token));
        }
    }
    Ok(commands)
}

fn since(args: &mut Args<'_>) -> Result<Option<u32>, TcError> {
    if args.next_word().ok() != Some("since") {
        return Ok(None);
    }
    let text = args.next_word()?;
    let hint = "a number of milliseconds";
    let invalid = || TcError::invalid_argument("dump time \"since\" is invalid", text, args.position(), hint);
    get_u32(text, 0).map(Some).ok_or_else(invalid)
}

fn put(args: &mut Args<'_>, replace: bool) -> Result<ActionsCommand, TcError> {
    let token = args.position();
    args.skip();
    if args.left() == 0 {
        let error =
            TcError::usage("Illegal \"action\"", token, "name an action: tc actions add action gact drop index 1");
        return Err(error);
    }
    let actions = action::parse_list(args).map_err(|error| TcError { exit_code: exit::USAGE, ..error })?;
    Ok(ActionsCommand::Put { actions, replace })
}

/// `action KIND index N …` (`tc_action_gd()`). The word behind the command is passed over, whatever it is.
fn named(args: &mut Args<'_>) -> Result<Named, TcError> {
    args.skip();
    let first = args.word().unwrap_or_default().to_owned();
    args.skip();
    let mut list = Vec::new();
    while let Some(word) = args.word() {
        let token = args.position();
        if word == "action" {
            args.skip();
            continue;
        }
        if word == "help" {
            return Err(usage(token));
        }
        let hint = "name its index: action gact index 1";
        let no_index = |token| TcError::usage(format!("Error: no index specified action: {word}"), token, hint);
        args.skip();
        if !args.matches("index") {
            return Err(no_index(args.position()));
        }
        let text = args.next_word()?;
        let index = get_u32(text, 10)
            .ok_or_else(|| TcError::usage("Illegal \"index\"", args.position(), "an index is a number from 1"))?;
        args.skip();
        list.push((word.to_owned(), index));
    }
    Ok(Named { list, first })
}
