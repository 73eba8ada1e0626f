//! `tc qdisc`: the ingress and clsact hooks, and root qdiscs by name only. It changes no state.

use super::args::Args;
use super::command::{Operation, Parent, Verb, Word, is_list, unknown_command, verb};
use super::error::TcError;
use super::number::{classid, matches, unsigned};

/// `qdisc add|change|replace|del`.
#[derive(Clone, Debug)]
pub struct QdiscCommand {
    /// What to do.
    pub verb: Verb,
    /// `dev D`.
    pub device: Option<Word>,
    /// Where: `root`, `ingress`, `clsact` or `parent X`.
    pub parent: Parent,
    /// `handle N:`, as `N << 16`; 0 if not given.
    pub handle: u32,
    /// The kind, `ingress` and `clsact` among them.
    pub kind: Option<Word>,
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

/// Parses from the word `qdisc` on (`do_qdisc()`, `tc_qdisc_modify()`).
///
/// # Errors
/// What tc says.
pub fn parse(args: &mut Args<'_>) -> Result<Operation, TcError> {
    args.skip();
    let Some(word) = args.word() else { return Ok(Operation::QdiscShow(None)) };
    let token = args.position();
    if let Some(verb) = verb(word) {
        args.skip();
        return modify(args, verb).map(Operation::Qdisc);
    }
    if is_list(word) {
        args.skip();
        return show(args).map(Operation::QdiscShow);
    }
    if matches(word, "help") {
        return Ok(super::command::say(args, super::command::help::QDISC));
    }
    Err(unknown_command(word, "qdisc", token))
}

fn modify(args: &mut Args<'_>, verb: Verb) -> Result<QdiscCommand, TcError> {
    let mut command = QdiscCommand { verb, device: None, parent: Parent(0), handle: 0, kind: None };
    while let Some(word) = args.word() {
        let token = args.position();
        match word {
            "dev" => {
                let text = args.next_word()?.to_owned();
                command.device = Some(Word { text, token: args.position() });
            }
            "handle" => {
                let text = args.next_word()?;
                command.handle = handle(text).ok_or_else(|| {
                    TcError::invalid_argument("invalid qdisc ID", text, args.position(), "write it as ffff: or 1:")
                })?;
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
            "parent" => {
                let text = args.next_word()?;
                let parent = classid(text).ok_or_else(|| {
                    TcError::invalid_argument("invalid parent ID", text, args.position(), "write it as 1: or ffff:fff1")
                })?;
                command.parent = Parent(parent);
            }
            "ingress_block" | "egress_block" => return Err(TcError::unsupported("shared blocks", token)),
            _ if matches(word, "estimator") || matches(word, "stab") => {
                return Err(TcError::unsupported(&format!("the qdisc option {word}"), token));
            }
            _ => {
                // Options of another qdisc mean nothing here: it has no effect anyway.
                command.kind = Some(Word { text: word.to_owned(), token });
                return Ok(command);
            }
        }
        args.skip();
    }
    Ok(command)
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

fn show(args: &mut Args<'_>) -> Result<Option<Word>, TcError> {
    let mut device = None;
    while let Some(word) = args.word() {
        if word == "dev" {
            let text = args.next_word()?.to_owned();
            device = Some(Word { text, token: args.position() });
        } else if !matches!(word, "ingress" | "clsact" | "root" | "invisible") {
            let message = format!("What is \"{word}\"? Try \"tc qdisc help\".");
            return Err(TcError::usage(message, args.position(), "qdisc show takes dev"));
        }
        args.skip();
    }
    Ok(device)
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
