//! tc's command line up to the object: options, `qdisc`, `filter`, `chain`. It parses; it changes no state.

pub(super) mod help;
mod show;

use show::show;

use super::actions::ActionsCommand;
use super::args::Args;
use super::error::TcError;
use super::filter::{self, FilterCommand};
use super::listing::{ListOptions, Selection};
use super::number::matches;
use super::qdisc::{self, QdiscCommand, QdiscShow};
use super::script::Token;

/// A tc command, parsed.
#[derive(Clone, Debug)]
pub struct Command {
    /// `-n NETNS`, or `ip netns exec NETNS tc …`.
    pub netns: Option<String>,
    /// What to do.
    pub operation: Operation,
    /// What tc prints to stderr while parsing, although nothing is wrong.
    pub stderr: Vec<String>,
}

/// What a command does.
#[derive(Clone, Debug)]
pub enum Operation {
    /// `qdisc add|replace|change|link|del`.
    Qdisc(Box<QdiscCommand>),
    /// `qdisc show`.
    QdiscShow(Box<QdiscShow>),
    /// `filter add|replace|change|del`.
    Filter(Box<FilterCommand>),
    /// `filter show`.
    FilterShow(Box<ShowCommand>),
    /// `chain add|del`.
    Chain(Box<ChainCommand>),
    /// `chain show`.
    ChainShow(Box<ShowCommand>),
    /// `actions …`: one after the other.
    Actions(Vec<ActionsCommand>, ListOptions),
    /// `filter get`.
    FilterGet(Box<FilterCommand>, ListOptions),
    /// `tc`, `tc -V`, `… help`: prints to stdout and changes nothing.
    Print(String),
}

/// A word and its index in the line's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The word.
    pub text: String,
    /// Its index.
    pub token: usize,
}

/// A parent as the kernel takes it: `major << 16 | minor`; 0: none given, the root qdisc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Parent(pub u32);

impl Parent {
    /// `ingress` (`TC_H_CLSACT` with `TC_H_MIN_INGRESS`).
    pub const INGRESS: Self = Self(0xffff_fff2);
    /// `egress`.
    pub const EGRESS: Self = Self(0xffff_fff3);
    /// `root`.
    pub const ROOT: Self = Self(0xffff_ffff);
    /// `parent ffff:`.
    pub const INGRESS_QDISC: Self = Self(0xffff_0000);
}

/// `filter show` and `chain show`.
#[derive(Clone, Debug)]
pub struct ShowCommand {
    /// The device's word, to complain about.
    pub device: Option<Word>,
    /// Index of the first word after `show`.
    pub token: usize,
    /// What to list.
    pub selection: Selection,
    /// How.
    pub options: ListOptions,
}

impl ShowCommand {
    /// It names neither a device nor a block: the kernel then lists nothing.
    pub(super) fn is_of_nothing(&self) -> bool {
        self.device.is_none() && self.selection.block.is_none()
    }

    /// The listing of nothing.
    pub(super) fn nothing(&self) -> String {
        if self.options.json { "[]\n".to_owned() } else { String::new() }
    }
}

/// What to do with a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainVerb {
    /// Make it.
    Add,
    /// Remove it.
    Delete,
    /// Print it.
    Get(ListOptions),
}

/// `chain add`, `chain del` and `chain get`.
#[derive(Clone, Debug)]
pub struct ChainCommand {
    /// What to do.
    pub verb: ChainVerb,
    /// The chain, with the template as a filter without actions.
    pub target: FilterCommand,
}

/// What scripts that ask for the version expect.
const VERSION: &str = "tc utility, iproute2-6.1.0, libbpf 1";

/// Parses the words of one line. They stay as they are; only `sudo` and `tc` before the command are passed over.
///
/// # Errors
/// What tc would say, with its exit code; a command that is not tc's is an error too.
pub fn parse(tokens: &[Token]) -> Result<Command, TcError> {
    let mut args = Args::new(tokens);
    let mut netns = program(&mut args)?;
    let mut options = ListOptions::default();
    while let Some(option) = args.word().filter(|w| w.starts_with('-')) {
        if let Some(text) = global_option(option, &mut args, &mut netns, &mut options)? {
            return Ok(Command { netns, operation: Operation::Print(text), stderr: Vec::new() });
        }
        args.skip();
    }
    let operation = object(&mut args, netns.as_deref(), &options);
    let stderr = args.stderr;
    match operation {
        Ok(operation) => Ok(Command { netns, operation, stderr }),
        Err(error) => Err(error.after(&stderr)),
    }
}

/// Passes over `sudo`, `ip netns exec NS`, `tc`; returns NS.
fn program(args: &mut Args<'_>) -> Result<Option<String>, TcError> {
    let is_tc = |w: &str| w == "tc" || w.ends_with("/tc");
    let mut netns = None;
    for _ in 0..4 {
        let Some(word) = args.word() else { return Err(TcError::incomplete(args.position())) };
        if is_tc(word) {
            args.skip();
            return Ok(netns);
        }
        let start = args.position();
        match word {
            "sudo" => args.skip(),
            "ip" => {
                let exec = args.next_word()? == "netns" && args.next_word()? == "exec";
                netns = exec.then(|| args.next_word().map(str::to_owned)).transpose()?;
                if netns.is_none() {
                    return Err(not_tc("ip", start));
                }
                args.skip();
            }
            other => return Err(not_tc(other, start)),
        }
    }
    Err(not_tc(args.word().unwrap_or_default(), args.position()))
}

fn not_tc(word: &str, token: usize) -> TcError {
    let hint =
        "a rules file holds tc commands only; make devices and addresses before (viscum lab up, or a script of yours)";
    TcError::parse(format!("\"{word}\" is not a tc command"), token, hint)
}

/// One option before the object; `Some` text for an option that only prints.
fn global_option(
    option: &str,
    args: &mut Args<'_>,
    netns: &mut Option<String>,
    options: &mut ListOptions,
) -> Result<Option<String>, TcError> {
    let is = |names: &[&str]| names.iter().any(|name| matches(option, name));
    if is(&["-stats", "-statistics"]) {
        options.stats = true;
    } else if is(&["-details"]) {
        options.details = true;
    } else if is(&["-raw"]) {
        options.raw = true;
    } else if is(&["-pretty"]) {
        options.pretty = true;
    } else if is(&["-graph"]) {
        // It shows classes as a tree, and there are none.
    } else if is(&["-Version"]) {
        return Ok(Some(format!("{VERSION}\n")));
    } else if is(&["-iec"]) {
        options.iec = true;
    } else if is(&["-help"]) {
        return Ok(Some(String::new()));
    } else if is(&["-force"]) {
        // The client's: see `viscum tc -batch`.
    } else if is(&["-batch"]) {
        return Err(TcError::unsupported("tc's option -batch within a script or a batch", args.position()));
    } else if is(&["-netns"]) {
        *netns = Some(args.next_word()?.to_owned());
    } else if is(&["-Numeric"]) {
        options.numeric = true;
    } else if is(&["-names", "-nm"]) {
        // Names of classes, of which there are none.
    } else if is(&["-cf", "-conf"]) {
        args.next_word()?;
    } else if is_color(option) || is(&["-timestamp", "-tshort"]) {
        // Nothing here is coloured, and only monitor shows times.
    } else if is(&["-json"]) {
        options.json = true;
    } else if is(&["-oneline"]) {
        options.oneline = true;
    } else if is(&["-brief"]) {
        options.brief = true;
    } else {
        let message = format!("Option \"{option}\" is unknown, try \"tc -help\".");
        let hint = "viscum knows -n, -s, -d, -r, -j, -p, -o, -br, -iec, -N, -force, -V";
        return Err(TcError::usage(message, args.position(), hint));
    }
    Ok(None)
}

/// `matches_color()`, lib/color.c: `-color`, with `=always`, `=auto` or `=never`.
fn is_color(option: &str) -> bool {
    let (name, when) = option.split_once('=').unwrap_or((option, "always"));
    matches(name, "-color") && matches!(when, "always" | "auto" | "never")
}

/// A text for standard error, and nothing else to do.
pub(super) fn say(args: &mut Args<'_>, text: &[&str]) -> Operation {
    args.stderr.extend(text.iter().map(|line| (*line).to_owned()));
    Operation::Print(String::new())
}

fn object(args: &mut Args<'_>, netns: Option<&str>, options: &ListOptions) -> Result<Operation, TcError> {
    let Some(word) = args.word() else { return Ok(say(args, help::TC)) };
    let token = args.position();
    if matches(word, "qdisc") {
        return qdisc::parse(args, options);
    }
    if matches(word, "class") {
        let what = "tc class (viscum does not queue: limit a rate with action police, or with the kernel's own tc)";
        return Err(TcError::unsupported(what, token));
    }
    if matches(word, "filter") {
        return filter_object(args, netns, options);
    }
    if matches(word, "chain") {
        return chain_object(args, netns, options);
    }
    if matches(word, "actions") {
        args.skip();
        return Ok(Operation::Actions(super::actions::parse(args)?, options.clone()));
    }
    if matches(word, "monitor") {
        let what = "tc monitor (watch with: viscum status, or viscum tc -s filter show)";
        return Err(TcError::unsupported(what, token));
    }
    if matches(word, "exec") {
        return Err(TcError::unsupported("tc exec (it runs other programs)", token));
    }
    if matches(word, "help") {
        return Ok(say(args, help::TC));
    }
    let message = format!("Object \"{word}\" is unknown, try \"tc help\".");
    Err(TcError::usage(message, token, "viscum knows qdisc, filter, chain and actions"))
}

/// What to do with the object: the first word after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Make it; it may not be there.
    Add,
    /// Change it; it must be there.
    Change,
    /// Make or change it.
    Replace,
    /// Remove it.
    Delete,
}

/// `add`, `change`, … or a prefix of it.
pub(super) fn verb(word: &str) -> Option<Verb> {
    let known = [("add", Verb::Add), ("change", Verb::Change), ("replace", Verb::Replace), ("delete", Verb::Delete)];
    known.into_iter().find(|(name, _)| matches(word, name)).map(|(_, verb)| verb)
}

/// `list`, `show`, `lst` or a prefix of it.
pub(super) fn is_list(word: &str) -> bool {
    ["list", "show", "lst", "ls"].into_iter().any(|name| matches(word, name))
}

pub(super) fn unknown_command(word: &str, object: &str, token: usize) -> TcError {
    let message = format!("Command \"{word}\" is unknown, try \"tc {object} help\".");
    TcError::usage(message, token, "use add, replace, change, del or show")
}

fn filter_object(args: &mut Args<'_>, netns: Option<&str>, options: &ListOptions) -> Result<Operation, TcError> {
    args.skip();
    let Some(word) = args.word() else {
        return Ok(Operation::FilterShow(Box::new(show(args, netns, options)?)));
    };
    let token = args.position();
    if let Some(verb) = verb(word) {
        args.skip();
        return Ok(Operation::Filter(Box::new(filter::parse(args, verb)?)));
    }
    if matches(word, "get") {
        args.skip();
        if args.word().is_some_and(|w| w.len() > 1 && matches(w, "help")) {
            return Ok(say(args, help::FILTER));
        }
        return filter::get(args).map(|command| Operation::FilterGet(Box::new(command), options.clone()));
    }
    if is_list(word) {
        args.skip();
        return Ok(Operation::FilterShow(Box::new(show(args, netns, options)?)));
    }
    if matches(word, "help") {
        return Ok(say(args, help::FILTER));
    }
    Err(unknown_command(word, "filter", token))
}

fn chain_object(args: &mut Args<'_>, netns: Option<&str>, options: &ListOptions) -> Result<Operation, TcError> {
    args.skip();
    let Some(word) = args.word() else {
        return Ok(Operation::ChainShow(Box::new(show(args, netns, options)?)));
    };
    let token = args.position();
    let chain = |args: &mut Args<'_>, of: Verb, verb| {
        args.skip();
        let target = filter::parse_chain(args, of)?;
        Ok(Operation::Chain(Box::new(ChainCommand { verb, target })))
    };
    match verb(word) {
        Some(Verb::Add) => return chain(args, Verb::Add, ChainVerb::Add),
        Some(Verb::Delete) => return chain(args, Verb::Delete, ChainVerb::Delete),
        Some(Verb::Change | Verb::Replace) | None if matches(word, "get") => {
            return chain(args, Verb::Delete, ChainVerb::Get(options.clone()));
        }
        Some(Verb::Change | Verb::Replace) | None => {}
    }
    if is_list(word) {
        args.skip();
        return Ok(Operation::ChainShow(Box::new(show(args, netns, options)?)));
    }
    if matches(word, "help") {
        return Ok(say(args, help::CHAIN));
    }
    Err(unknown_command(word, "chain", token))
}
