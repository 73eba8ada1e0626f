//! `tc filter add|change|replace|del` up to the kind of filter. It changes no state.

pub mod basic;
pub mod flower;
pub mod fw;
mod get;
pub mod matchall;
pub mod u32;

pub use get::get;

use super::action::{ActionSpec, Extras, police};
use super::args::Args;
use super::command::{Parent, Verb, Word};
use super::error::{TcError, exit};
use super::number::{classid, get_u32, matches};
use super::proto;
use crate::types::ethertype;

/// `filter add` and the like, parsed.
#[derive(Clone, Debug)]
pub struct FilterCommand {
    /// What to do.
    pub verb: Verb,
    /// `dev D`.
    pub device: Option<Word>,
    /// `block N`: a shared block, in place of a device.
    pub block: Option<u32>,
    /// `parent`, `ingress`, `egress`, `root`; 0: none given.
    pub parent: Parent,
    /// `protocol P`; `add` without it means `all`, `del` without it any (0).
    pub protocol: u16,
    /// `prio N`; 0: none given.
    pub prio: u16,
    /// `chain N`.
    pub chain: Option<u32>,
    /// Kind and what it says; `None` only for `del` and chains.
    pub kind: Option<Kind>,
    /// Index of the token that names the kind; without a kind: one past the end.
    pub kind_token: usize,
}

/// The kind of a filter with what it says.
#[derive(Clone, Debug)]
pub enum Kind {
    /// `u32`.
    U32(u32::U32Spec),
    /// `flower`.
    Flower(flower::FlowerSpec),
    /// `matchall`.
    Matchall(matchall::MatchallSpec),
    /// `fw`.
    Fw(fw::FwSpec),
    /// `basic`.
    Basic(basic::BasicSpec),
    /// A name that no classifier has; the kernel refuses it.
    Unknown(String),
}

impl Kind {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::U32(_) => "u32",
            Self::Flower(_) => "flower",
            Self::Matchall(_) => "matchall",
            Self::Fw(_) => "fw",
            Self::Basic(_) => "basic",
            Self::Unknown(name) => name,
        }
    }

    /// The handle that was asked for; 0: none.
    #[must_use]
    pub fn handle(&self) -> u32 {
        match self {
            Self::U32(spec) => spec.handle,
            Self::Flower(spec) => spec.handle,
            Self::Matchall(spec) => spec.handle,
            Self::Fw(spec) => spec.handle,
            Self::Basic(spec) => spec.handle,
            Self::Unknown(_) => 0,
        }
    }
}

/// Options that the kinds have in common.
#[derive(Clone, Debug, Default)]
pub struct Common {
    /// `classid`/`flowid`.
    pub classid: Option<u32>,
    /// `action …`.
    pub actions: Vec<ActionSpec>,
    /// The only action is a policer by the old word `police`: the kernel then takes no other.
    pub old_police: bool,
    /// `verbose`: the kernel says why it cannot offload.
    pub verbose: bool,
    /// `skip_hw`.
    pub skip_hw: bool,
    /// `skip_sw`: the kernel refuses it on devices that cannot offload, and so do we.
    pub skip_sw: bool,
}

/// Classifiers that tc has and viscum does not (yet).
const OTHER_KINDS: &[&str] = &["bpf", "cgroup", "flow", "route", "rsvp", "tcindex"];

/// Parses from the word after `add` on (`tc_filter_modify()`, tc/tc_filter.c).
///
/// # Errors
/// What tc says.
pub fn parse(args: &mut Args<'_>, verb: Verb) -> Result<FilterCommand, TcError> {
    let creates = matches!(verb, Verb::Add | Verb::Replace);
    parse_for(args, verb, if creates { ethertype::ALL } else { 0 })
}

/// The same for `chain add` and `chain del`: without a word about it their protocol is 0.
///
/// # Errors
/// What tc says.
pub fn parse_chain(args: &mut Args<'_>, verb: Verb) -> Result<FilterCommand, TcError> {
    parse_for(args, verb, 0)
}

fn parse_for(args: &mut Args<'_>, verb: Verb, protocol: u16) -> Result<FilterCommand, TcError> {
    let mut command = FilterCommand {
        verb,
        device: None,
        block: None,
        parent: Parent::default(),
        protocol,
        prio: 0,
        chain: None,
        kind: None,
        kind_token: args.position(),
    };
    let mut handle = None;
    let mut protocol_set = false;
    while let Some(word) = args.word() {
        if !option(args, word, &mut command, &mut handle, &mut protocol_set)? {
            command.kind_token = args.position();
            args.skip();
            command.kind = Some(kind(args, word, &command, handle.as_ref())?);
            return Ok(command);
        }
        args.skip();
    }
    if let Some(handle) = handle {
        let message = "Must specify filter type when using \"handle\"";
        return Err(TcError::usage(message, handle.token, "name the kind too: … handle 800::800 u32"));
    }
    command.kind_token = args.position();
    Ok(command)
}

/// One option before the kind; false when the word is none.
fn option(
    args: &mut Args<'_>,
    word: &str,
    command: &mut FilterCommand,
    handle: &mut Option<Word>,
    protocol_set: &mut bool,
) -> Result<bool, TcError> {
    match word {
        "dev" => {
            set_word(args, &mut command.device, "dev")?;
            if command.block.is_some() {
                return Err(exclusive(args));
            }
        }
        "root" => set_parent(args, command, Parent::ROOT, word)?,
        "ingress" => set_parent(args, command, Parent::INGRESS, word)?,
        "egress" => set_parent(args, command, Parent::EGRESS, word)?,
        "parent" => {
            let text = args.next_word()?;
            if command.parent != Parent::default() {
                return Err(duplicate("parent", text, args));
            }
            let hint = "write it as ffff: or 1:";
            let parent = classid(text)
                .ok_or_else(|| TcError::invalid_argument("Invalid parent ID", text, args.position(), hint))?;
            command.parent = Parent(parent);
        }
        "handle" => set_word(args, handle, "handle")?,
        _ if matches(word, "block") => {
            let text = args.next_word()?;
            if command.block.is_some() {
                return Err(duplicate("block", text, args));
            }
            if command.device.is_some() {
                return Err(exclusive(args));
            }
            command.block = Some(block_index(text, args)?);
        }
        _ if matches(word, "preference") || matches(word, "priority") => {
            let text = args.next_word()?;
            if command.prio != 0 {
                return Err(duplicate("priority", text, args));
            }
            let hint = "a priority is a number from 1 to 65535";
            command.prio = get_u32(text, 0)
                .and_then(|p| u16::try_from(p).ok())
                .ok_or_else(|| TcError::invalid_argument("invalid priority value", text, args.position(), hint))?;
        }
        _ if matches(word, "protocol") => {
            let text = args.next_word()?;
            if *protocol_set {
                return Err(duplicate("protocol", text, args));
            }
            *protocol_set = true;
            let hint = "use ip, ipv6, arp, 802.1Q, all, or a number";
            command.protocol = proto::link_number(text)
                .ok_or_else(|| TcError::invalid_argument("invalid protocol", text, args.position(), hint))?;
        }
        _ if matches(word, "chain") => {
            let text = args.next_word()?;
            if command.chain.is_some() {
                return Err(duplicate("chain", text, args));
            }
            let hint = "a chain is a number";
            let chain = get_u32(text, 0)
                .ok_or_else(|| TcError::invalid_argument("invalid chain index value", text, args.position(), hint))?;
            command.chain = Some(chain);
        }
        _ if matches(word, "estimator") => return Err(TcError::unsupported("rate estimators", args.position())),
        _ => return Ok(false),
    }
    Ok(true)
}

/// A filter is on a device or in a shared block.
fn exclusive(args: &Args<'_>) -> TcError {
    let hint = "a filter of a shared block is not one of a device";
    TcError::usage("Error: \"dev\" and \"block\" are mutually exclusive", args.position(), hint)
}

/// A number of a shared block, from 1.
pub(in crate::tc) fn block_index(text: &str, args: &Args<'_>) -> Result<u32, TcError> {
    let hint = "a block is a number from 1; tc qdisc show lists them";
    get_u32(text, 0)
        .filter(|index| *index != 0)
        .ok_or_else(|| TcError::invalid_argument("invalid block index value", text, args.position(), hint))
}

fn set_word(args: &mut Args<'_>, slot: &mut Option<Word>, name: &str) -> Result<(), TcError> {
    let text = args.next_word()?;
    if slot.is_some() {
        return Err(duplicate(name, text, args));
    }
    *slot = Some(Word { text: text.to_owned(), token: args.position() });
    Ok(())
}

fn set_parent(args: &Args<'_>, command: &mut FilterCommand, parent: Parent, word: &str) -> Result<(), TcError> {
    if command.parent != Parent::default() {
        let message = format!("Error: \"{word}\" is duplicate parent ID");
        return Err(TcError::usage(message, args.position(), "give one of parent, root, ingress, egress"));
    }
    command.parent = parent;
    Ok(())
}

/// `duparg()`.
fn duplicate(name: &str, text: &str, args: &Args<'_>) -> TcError {
    let message = format!("Error: duplicate \"{name}\": \"{text}\" is the second value.");
    TcError::usage(message, args.position(), "give it once")
}

fn kind(args: &mut Args<'_>, name: &str, command: &FilterCommand, handle: Option<&Word>) -> Result<Kind, TcError> {
    // What a classifier's parser refuses makes tc exit with 1, unless it ended the program itself.
    match name {
        "u32" => u32::parse(args, handle).map(Kind::U32),
        "flower" => flower::parse(args, handle, command.protocol, command.parent).map(Kind::Flower),
        "matchall" => matchall::parse(args, handle).map(Kind::Matchall),
        "fw" => fw::parse(args, handle).map(Kind::Fw),
        "basic" => basic::parse(args, handle).map(Kind::Basic),
        _ if OTHER_KINDS.contains(&name) => {
            Err(TcError::unsupported(&format!("the classifier {name}"), command.kind_token))
        }
        _ => unknown(args, name, command.kind_token),
    }
}

/// `parse_nofopt()`: a kind that tc has no parser for.
fn unknown(args: &Args<'_>, name: &str, token: usize) -> Result<Kind, TcError> {
    let Some(option) = args.word() else { return Ok(Kind::Unknown(name.to_owned())) };
    let message = format!("Unknown filter \"{name}\", hence option \"{option}\" is unparsable");
    let hint = match name {
        "order" | "match" => "options of u32 stand after the word u32".to_owned(),
        _ => "viscum knows the filters u32, flower, matchall, basic and fw".to_owned(),
    };
    Err(TcError { exit_code: exit::PARSE, messages: vec![message], hint, token: Some(token) })
}

/// `classid X` / `flowid X`: the current word is the keyword.
pub(super) fn parse_classid(args: &mut Args<'_>) -> Result<Option<u32>, TcError> {
    let text = args.next_word()?;
    let hint = "write it as MAJOR:MINOR in hex";
    let id = classid(text).ok_or_else(|| TcError::parse("Illegal \"classid\"", args.position(), hint))?;
    args.skip();
    Ok((id != 0).then_some(id))
}

/// The old word `police`: the current word is it. It is then the only action.
pub(super) fn old_police(args: &mut Args<'_>, common: &mut Common) -> Result<(), TcError> {
    let token = args.position();
    let (params, index) = police::parse_old(args)?;
    let extras = Extras::default();
    common.actions = vec![ActionSpec { params, index, token, complaint: String::new(), extras }];
    common.old_police = true;
    Ok(())
}

/// A handle that is a plain number (flower, matchall).
pub(super) fn number_handle(handle: Option<&Word>) -> Result<u32, TcError> {
    let Some(word) = handle else { return Ok(0) };
    get_u32(&word.text, 0).ok_or_else(|| TcError::parse("Illegal \"handle\"", word.token, "a handle is a number here"))
}
