//! The list of actions of a filter: `action KIND … action KIND …`. What a kind means is in its own file.

pub mod csum;
pub mod gact;
pub mod mirred;
pub mod nat;
pub mod pedit;
pub mod police;
pub mod simple;
pub mod skbedit;
pub mod skbmod;
pub mod vlan;

use super::args::Args;
use super::command::Word;
use super::error::{TcError, exit};
use super::number::{get_u32, matches};
use crate::limits::ACTIONS_PER_FILTER_MAX;
use crate::rules::{Control, Csum, Gact, MirredMode, Nat, Pedit, Skbedit, Skbmod};
use crate::types::Direction;

/// An action as written.
#[derive(Clone, Debug)]
pub struct ActionSpec {
    /// What it does.
    pub params: ActionParams,
    /// `index N`; 0: the lowest free one.
    pub index: u32,
    /// Index of the token that names its kind.
    pub token: usize,
    /// tc's complaint when the action cannot be made for want of a device: it counts words.
    pub complaint: String,
    /// What stands behind the action's own words.
    pub extras: Extras,
}

/// `cookie`, `hw_stats` and flags of an action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// `cookie HEX`: at most 16 bytes.
    pub cookie: Option<Vec<u8>>,
    /// `hw_stats immediate|delayed|disabled`.
    pub hw_stats: Option<&'static str>,
    /// `no_percpu`.
    pub no_percpu: bool,
    /// `skip_hw`.
    pub skip_hw: bool,
    /// `skip_sw`: refused without a device that offloads.
    pub skip_sw: bool,
}

/// The longest cookie, in bytes (`TC_COOKIE_MAX_SIZE`).
const COOKIE_LEN_MAX: usize = 16;

/// What an action does, before devices have numbers.
#[derive(Clone, Debug)]
pub enum ActionParams {
    /// `gact`, or a bare control word.
    Gact(Gact),
    /// `mirred`.
    Mirred(MirredSpec),
    /// `skbedit`; nothing in it: it can only bind an action that exists.
    Skbedit(Skbedit),
    /// `skbmod`; as `skbedit`.
    Skbmod(Skbmod),
    /// `csum`.
    Csum(Csum),
    /// `pedit`.
    Pedit(Pedit),
    /// `vlan`.
    Vlan(vlan::VlanSpec),
    /// `nat`.
    Nat(Nat),
    /// `simple`.
    Simple(simple::SimpleSpec),
    /// `police`.
    Police(police::PoliceSpec),
}

impl ActionParams {
    /// tc's name of the kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Gact(_) => "gact",
            Self::Mirred(_) => "mirred",
            Self::Skbedit(_) => "skbedit",
            Self::Skbmod(_) => "skbmod",
            Self::Csum(_) => "csum",
            Self::Pedit(_) => "pedit",
            Self::Vlan(_) => "vlan",
            Self::Nat(_) => "nat",
            Self::Simple(_) => "simple",
            Self::Police(_) => "police",
        }
    }
}

/// `mirred` as written.
#[derive(Clone, Debug)]
pub struct MirredSpec {
    /// `egress` or `ingress`.
    pub direction: Direction,
    /// `redirect` or `mirror`.
    pub mode: MirredMode,
    /// `dev D`; without it only an action that exists can be bound.
    pub device: Option<Word>,
    /// How to go on.
    pub control: Control,
}

/// The kinds of action that viscum has, by tc's names.
pub const KINDS: &[&str] = &["gact", "mirred", "skbedit", "skbmod", "csum", "pedit", "vlan", "nat", "simple", "police"];

/// Kinds of action that tc has and viscum does not (yet).
const OTHER_KINDS: &[&str] =
    &["bpf", "connmark", "ct", "ctinfo", "gate", "ife", "ipt", "mpls", "sample", "tunnel_key", "xt"];

/// Parses an action list (`parse_action()`, tc/m_action.c): the word after `action` is the current one.
///
/// # Errors
/// What tc says. A plain error is told as tc does: "bad action parsing", "parse_action: bad value (N:WORD)!", "Illegal "action"".
pub fn parse_list(args: &mut Args<'_>) -> Result<Vec<ActionSpec>, TcError> {
    let mut list: Vec<ActionSpec> = Vec::new();
    let mut expects_kind = false;
    // tc keeps the cookie of one action for those behind it.
    let mut cookie = None;
    while let Some(word) = args.word() {
        if word == "action" {
            args.skip();
            expects_kind = true;
            continue;
        }
        if matches!(word, "flowid" | "classid") || is_new_command(word) {
            break;
        }
        if word == "help" {
            return Err(TcError::parse("Illegal \"action\"", args.position(), "name an action"));
        }
        expects_kind = false;
        let start = args.clone();
        let mut spec = one(args).map_err(|error| complain(error, &start))?;
        cookie = spec.extras.cookie.take().or(cookie);
        spec.extras.cookie.clone_from(&cookie);
        list.push(spec);
        if list.len() > ACTIONS_PER_FILTER_MAX {
            let hint = format!("the kernel takes {ACTIONS_PER_FILTER_MAX} actions in one filter");
            return Err(TcError::kernel("Too many actions in one filter", hint).at(start.position()));
        }
    }
    if expects_kind {
        let token = args.position().saturating_sub(1);
        let error = TcError::parse("bad action empty 1", token, "name an action after \"action\"");
        return Err(error.then(bad_value(args)).then("Illegal \"action\""));
    }
    Ok(list)
}

/// `new_cmd()`: words that end an action list.
fn is_new_command(word: &str) -> bool {
    ["change", "replace", "delete", "get", "add"].into_iter().any(|command| matches(word, command))
}

/// `parse_action: bad value (N:WORD)!`, N words from here to the end.
fn bad_value(args: &Args<'_>) -> String {
    format!("parse_action: bad value ({}:{})!", args.left(), args.word().unwrap_or("(null)"))
}

/// Adds what tc says after an action's parser has failed; not where that one ended the program itself.
fn complain(error: TcError, start: &Args<'_>) -> TcError {
    if error.exit_code != exit::PARSE {
        return error;
    }
    error.then("bad action parsing").then(bad_value(start)).then("Illegal \"action\"")
}

fn one(args: &mut Args<'_>) -> Result<ActionSpec, TcError> {
    let token = args.position();
    let complaint = bad_value(args);
    let word = args.word().unwrap_or_default();
    let (params, index) = match word {
        "mirred" => mirred::parse(args)?,
        "skbedit" => skbedit::parse(args)?,
        "skbmod" => skbmod::parse(args)?,
        "csum" => csum::parse(args)?,
        "pedit" => pedit::parse(args)?,
        "vlan" => vlan::parse(args)?,
        "nat" => nat::parse(args)?,
        "simple" => simple::parse(args)?,
        "police" => police::parse(args, false)?,
        _ if gact::control_word(word).is_none() && OTHER_KINDS.contains(&word) => {
            return Err(TcError::unsupported(&format!("the action {word}"), token));
        }
        _ => gact::parse(args)?,
    };
    let extras = extras(args)?;
    Ok(ActionSpec { params, index, token, complaint, extras })
}

fn extras(args: &mut Args<'_>) -> Result<Extras, TcError> {
    let mut extras = Extras::default();
    if args.is("cookie") {
        extras.cookie = Some(cookie(args)?);
        args.skip();
    }
    if args.matches("hw_stats") {
        let text = args.next_word()?;
        let known = ["immediate", "delayed", "disabled"].into_iter().find(|name| matches(text, name));
        let hint = "use immediate, delayed or disabled";
        let invalid = || TcError::invalid_argument("value is invalid\n", text, args.position(), hint);
        extras.hw_stats = Some(known.ok_or_else(invalid)?);
        args.skip();
    }
    if args.is("no_percpu") {
        extras.no_percpu = true;
        args.skip();
    }
    for _ in 0..2 {
        if args.is("skip_sw") {
            extras.skip_sw = true;
            args.skip();
        } else if args.is("skip_hw") {
            extras.skip_hw = true;
            args.skip();
        }
    }
    Ok(extras)
}

fn cookie(args: &mut Args<'_>) -> Result<Vec<u8>, TcError> {
    let text = args.next_word()?;
    let invalid = |why: &str| TcError::invalid_argument(why, text, args.position(), "write up to 16 bytes in hex");
    if text.len() > COOKIE_LEN_MAX * 2 {
        return Err(invalid(&format!("{} Max allowed size {}", text.len(), COOKIE_LEN_MAX * 2)));
    }
    let byte = |at: usize| text.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let bytes = (0..text.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>();
    bytes.ok_or_else(|| invalid("cookie must be a hex string\n"))
}

/// `index N` at the end of an action, if it is there.
pub(super) fn trailing_index(args: &mut Args<'_>, base: u32, illegal: &str) -> Result<Option<u32>, TcError> {
    if !args.matches("index") {
        return Ok(None);
    }
    let text = args.next_word()?;
    let index = get_u32(text, base)
        .ok_or_else(|| TcError::parse(illegal.to_owned(), args.position(), "an index is a number from 1"))?;
    args.skip();
    Ok(Some(index))
}

/// A control word, or the default if the current word is none (`parse_action_control_dflt()`).
pub(super) fn control_or(args: &mut Args<'_>, default: Control) -> Control {
    let mut ahead = args.clone();
    match gact::parse_control(&mut ahead) {
        Ok(control) => {
            *args = ahead;
            control
        }
        Err(_) => default,
    }
}
