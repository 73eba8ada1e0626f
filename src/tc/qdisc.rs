//! `tc qdisc`: the ingress and clsact hooks, and other qdiscs, which are only remembered. It changes no state.

mod kinds;
mod options;

pub use options::Options;

use super::args::Args;
use super::command::{Operation, Parent, Word, is_list, unknown_command};
use super::error::TcError;
use super::listing::ListOptions;
use super::number::{classid, get_u32, matches, unsigned};

/// What to do with a qdisc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QdiscVerb {
    /// Make it; it may not be there.
    Add,
    /// Change its options.
    Change,
    /// Make or change it.
    Replace,
    /// Put one that is there in another's place.
    Link,
    /// Remove it.
    Delete,
}

impl QdiscVerb {
    fn of(word: &str) -> Option<Self> {
        let known = [
            ("add", Self::Add),
            ("change", Self::Change),
            ("replace", Self::Replace),
            ("link", Self::Link),
            ("delete", Self::Delete),
        ];
        known.into_iter().find(|(name, _)| matches(word, name)).map(|(_, verb)| verb)
    }
}

/// `qdisc add|change|replace|link|del`.
#[derive(Clone, Debug)]
pub struct QdiscCommand {
    /// What to do.
    pub verb: QdiscVerb,
    /// `dev D`.
    pub device: Option<Word>,
    /// Where: `root`, `ingress`, `clsact` or `parent X`.
    pub parent: Parent,
    /// `handle N:`, as `N << 16`; 0 if not given.
    pub handle: u32,
    /// The kind, `ingress` and `clsact` among them.
    pub kind: Option<Word>,
    /// `ingress_block N` and `egress_block N`; 0: not given.
    pub blocks: [u32; 2],
    /// What is behind the kind.
    pub options: Options,
}

/// `qdisc show`.
#[derive(Clone, Debug, Default)]
pub struct QdiscShow {
    /// `dev D`.
    pub device: Option<Word>,
    /// `root`, `ingress`, `clsact`, `parent X`; 0: any.
    pub parent: Parent,
    /// `handle N:`; 0: any.
    pub handle: u32,
    /// How.
    pub options: ListOptions,
}

/// The parent of the ingress and the clsact qdisc: `TC_H_INGRESS`.
pub const INGRESS_PARENT: Parent = Parent(0xffff_fff1);

/// Kinds of qdisc that tc 6.1 and the kernel know; others are refused.
const KINDS: &[&str] = &[
    "bfifo",
    "cake",
    "cbq",
    "cbs",
    "choke",
    "codel",
    "drr",
    "etf",
    "ets",
    "fq",
    "fq_codel",
    "fq_pie",
    "gred",
    "hfsc",
    "hhf",
    "htb",
    "mq",
    "mqprio",
    "multiq",
    "netem",
    "noqueue",
    "pfifo",
    "pfifo_fast",
    "pfifo_head_drop",
    "pie",
    "plug",
    "prio",
    "qfq",
    "red",
    "sfb",
    "sfq",
    "skbprio",
    "taprio",
    "tbf",
];

/// Kinds that take filters (`tcf_block` of their class operations).
const WITH_FILTERS: &[&str] =
    &["cake", "cbq", "choke", "drr", "ets", "fq_codel", "hfsc", "htb", "multiq", "prio", "qfq", "sfb", "sfq"];

/// Whether the kernel has a qdisc of this name.
#[must_use]
pub fn is_known(kind: &str) -> bool {
    KINDS.contains(&kind)
}

/// Whether a root qdisc of this kind takes filters.
#[must_use]
pub fn takes_filters(kind: &str) -> bool {
    WITH_FILTERS.contains(&kind)
}

/// Why no qdisc can be put below one of this kind, if so (`qdisc_leaf()`, sch_api.c). Which classes there are is known of `prio` only.
///
/// # Errors
/// What the kernel says.
pub fn check_class(kind: &str, options: &Options, minor: u32) -> Result<(), TcError> {
    let missing = || refused("Specified class not found", format!("a {kind} qdisc has no such class"));
    match kind {
        "prio" if (1..=options.bands()).contains(&minor) => Ok(()),
        "prio" | "sfq" | "fq_codel" | "choke" | "sfb" | "cake" => Err(missing()),
        "cbq" | "drr" | "ets" | "hfsc" | "htb" | "mq" | "mqprio" | "multiq" | "netem" | "qfq" | "red" | "skbprio"
        | "taprio" | "tbf" | "etf" | "cbs" => {
            if minor == 0 {
                Err(missing())
            } else {
                Ok(())
            }
        }
        _ => Err(refused("Parent qdisc is not classful", format!("a {kind} qdisc has no classes"))),
    }
}

/// Whether options of a qdisc of this kind can be changed (`change` of its operations).
#[must_use]
pub fn can_change(kind: &str) -> bool {
    !matches!(kind, "drr" | "htb" | "qfq")
}

/// tc says no more than this when a qdisc is refused.
#[must_use]
pub fn refused(text: &str, hint: impl Into<String>) -> TcError {
    let mut error = TcError::kernel(text, hint);
    error.messages.truncate(1);
    error
}

/// Parses from the word `qdisc` on (`do_qdisc()`, `tc_qdisc_modify()`).
///
/// # Errors
/// What tc says.
pub fn parse(args: &mut Args<'_>, options: &ListOptions) -> Result<Operation, TcError> {
    args.skip();
    let all = QdiscShow { options: options.clone(), ..QdiscShow::default() };
    let Some(word) = args.word() else { return Ok(Operation::QdiscShow(Box::new(all))) };
    let token = args.position();
    if let Some(verb) = QdiscVerb::of(word) {
        args.skip();
        return modify(args, verb).map(|command| Operation::Qdisc(Box::new(command)));
    }
    if is_list(word) {
        args.skip();
        return show(args, all).map(|show| Operation::QdiscShow(Box::new(show)));
    }
    if matches(word, "help") {
        return Ok(super::command::say(args, super::command::help::QDISC));
    }
    Err(unknown_command(word, "qdisc", token))
}

fn duplicate(name: &str, text: &str, token: usize) -> TcError {
    TcError::usage(format!("Error: duplicate \"{name}\": \"{text}\" is the second value."), token, "give it once")
}

fn modify(args: &mut Args<'_>, verb: QdiscVerb) -> Result<QdiscCommand, TcError> {
    let options = Options::default();
    let mut command =
        QdiscCommand { verb, device: None, parent: Parent(0), handle: 0, kind: None, blocks: [0; 2], options };
    while let Some(word) = args.word() {
        let token = args.position();
        match word {
            "dev" => {
                let text = args.next_word()?.to_owned();
                if command.device.is_some() {
                    return Err(duplicate("dev", &text, token));
                }
                command.device = Some(Word { text, token: args.position() });
            }
            // tc complains of the word itself here.
            "handle" if command.handle != 0 => return Err(duplicate("handle", word, token)),
            "handle" => command.handle = handle_word(args, "invalid qdisc ID")?,
            "root" if command.parent != Parent(0) => {
                let message = "Error: \"root\" is duplicate parent ID";
                return Err(TcError::usage(message, token, "root names its own parent; leave the other out"));
            }
            "root" => command.parent = Parent::ROOT,
            "clsact" | "ingress" if command.parent != Parent(0) => {
                let message = format!("Error: \"{word}\" is a duplicate parent ID");
                return Err(TcError::usage(
                    message,
                    token,
                    format!("{word} names its own parent; leave the other out"),
                ));
            }
            "clsact" | "ingress" => {
                command.parent = INGRESS_PARENT;
                command.handle = Parent::INGRESS_QDISC.0;
                command.kind = Some(Word { text: word.to_owned(), token });
                args.skip();
                no_options(args, word)?;
                return Ok(command);
            }
            "parent" if command.parent != Parent(0) => {
                let text = args.next_word()?;
                return Err(duplicate("parent", text, token));
            }
            "parent" => command.parent = parent_word(args)?,
            _ if matches(word, "estimator") || matches(word, "stab") => {
                return Err(TcError::unsupported(&format!("the qdisc option {word}"), token));
            }
            _ if matches(word, "ingress_block") => command.blocks[0] = block(args, "ingress")?,
            _ if matches(word, "egress_block") => command.blocks[1] = block(args, "egress")?,
            _ => {
                let kind = Word { text: word.to_owned(), token };
                args.skip();
                command.options = Options::parse(args, &kind)?;
                command.kind = Some(kind);
                return Ok(command);
            }
        }
        args.skip();
    }
    Ok(command)
}

fn block(args: &mut Args<'_>, name: &str) -> Result<u32, TcError> {
    let text = args.next_word()?;
    let why = format!("invalid {name} block index value");
    let hint = "a block is a number from 1";
    get_u32(text, 0)
        .filter(|index| *index != 0)
        .ok_or_else(|| TcError::invalid_argument(&why, text, args.position(), hint))
}

fn handle_word(args: &mut Args<'_>, why: &str) -> Result<u32, TcError> {
    let text = args.next_word()?;
    handle(text).ok_or_else(|| TcError::invalid_argument(why, text, args.position(), "write it as ffff: or 1:"))
}

fn parent_word(args: &mut Args<'_>) -> Result<Parent, TcError> {
    let text = args.next_word()?;
    let hint = "write it as 1: or ffff:fff1";
    let parent =
        classid(text).ok_or_else(|| TcError::invalid_argument("invalid parent ID", text, args.position(), hint));
    parent.map(Parent)
}

/// `ingress` and `clsact` take no options (`ingress_parse_opt()`).
fn no_options(args: &mut Args<'_>, kind: &str) -> Result<(), TcError> {
    while args.is("handle") {
        args.next_word()?;
        args.skip();
    }
    let Some(word) = args.word() else { return Ok(()) };
    let hint = format!("{kind} takes no options");
    Err(TcError::parse(format!("What is \"{word}\"?"), args.position(), hint).then(format!("Usage: ... {kind}")))
}

fn show(args: &mut Args<'_>, mut show: QdiscShow) -> Result<QdiscShow, TcError> {
    while let Some(word) = args.word() {
        let token = args.position();
        let is_place =
            matches!(word, "root" | "ingress" | "clsact") || matches(word, "parent") || matches(word, "handle");
        if is_place && (show.parent != Parent(0) || show.handle != 0) {
            let given = if show.parent == Parent(0) { "handle" } else { "parent" };
            let why = format!("{given} is already specified");
            return Err(TcError::invalid_argument(&why, word, token, "name one of root, ingress, parent, handle"));
        }
        match word {
            "dev" => {
                let text = args.next_word()?.to_owned();
                show.device = Some(Word { text, token: args.position() });
            }
            "root" => show.parent = Parent::ROOT,
            "ingress" | "clsact" => show.parent = INGRESS_PARENT,
            "invisible" => {}
            _ if matches(word, "parent") => show.parent = parent_word(args)?,
            _ if matches(word, "handle") => show.handle = handle_word(args, "invalid handle ID")?,
            _ => {
                let message = format!("What is \"{word}\"? Try \"tc qdisc help\".");
                let hint = "qdisc show takes dev, root, ingress, parent, handle";
                return Err(TcError::usage(message, token, hint));
            }
        }
        args.skip();
    }
    Ok(show)
}

/// `get_qdisc_handle()`: `N:` in hex, or `none`.
fn handle(text: &str) -> Option<u32> {
    if text == "none" {
        return Some(0);
    }
    let digits = text.strip_suffix(':').unwrap_or(text);
    let major = if digits.is_empty() { 0 } else { unsigned(digits, 16)? };
    (major < 0x1_0000).then_some((major as u32) << 16)
}
