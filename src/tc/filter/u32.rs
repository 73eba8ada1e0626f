//! `u32`: the words after it, and handles. Matches are in [`selector`]. It changes no state.

pub mod selector;
mod tables;

use super::super::action;
use super::super::args::Args;
use super::super::command::Word;
use super::super::error::TcError;
use super::super::number::{get_u32, matches, unsigned};
use super::{Common, old_police, parse_classid};
use crate::rules::{U32Descent as U32Offset, U32Key, U32Mark};

/// A u32 node as written.
#[derive(Clone, Debug, Default)]
pub struct U32Spec {
    /// `handle T:B:N` and `order N`; 0: none given.
    pub handle: u32,
    /// False without any word after `u32`: only the table is made then.
    pub has_options: bool,
    /// False without `match`: the kernel refuses that if there are other options.
    pub has_selector: bool,
    /// The keys, packed.
    pub keys: Vec<U32Key>,
    /// `match mark V M`.
    pub mark: Option<U32Mark>,
    /// `divisor N`: it makes a table, with N buckets, and nothing else.
    pub divisor: Option<usize>,
    /// `ht T:B:`, or the bucket of a `sample`: where the node goes, as a handle; 0: the root table of its prio.
    pub table: u32,
    /// A `sample` has chosen the bucket.
    pub has_sample: bool,
    /// `link T:`, as a handle; 0 takes a link away.
    pub link: Option<u32>,
    /// `offset …` and `hashkey …`.
    pub offset: U32Offset,
    /// `indev D`.
    pub indev: Option<Word>,
    /// Has `classid`, `indev` or `action`.
    pub terminal: bool,
    /// `classid`, actions, flags.
    pub common: Common,
}

const USAGE: &[&str] = &[
    "Usage: ... u32 [ match SELECTOR ... ] [ link HTID ] [ classid CLASSID ]",
    "               [ action ACTION_SPEC ] [ offset OFFSET_SPEC ]",
    "               [ ht HTID ] [ hashkey HASHKEY_SPEC ]",
    "               [ sample SAMPLE ] [skip_hw | skip_sw]",
    "or         u32 divisor DIVISOR",
    "",
    "Where: SELECTOR := SAMPLE SAMPLE ...",
    "       SAMPLE := { ip | ip6 | udp | tcp | icmp | u{32|16|8} | mark }",
    "                 SAMPLE_ARGS [ divisor DIVISOR ]",
    "       FILTERID := X:Y:Z",
    "",
    "NOTE: CLASSID is parsed at hexadecimal input.",
];

/// Parses the words after `u32` (`u32_parse_opt()`, tc/f_u32.c).
///
/// # Errors
/// What tc says.
pub fn parse(args: &mut Args<'_>, handle: Option<&Word>) -> Result<U32Spec, TcError> {
    let mut spec = U32Spec { has_options: args.left() > 0, ..U32Spec::default() };
    if let Some(word) = handle {
        let hint = "write it as TABLE:BUCKET:NODE in hex, like 800::801 or ::3";
        spec.handle = parse_handle(&word.text).ok_or_else(|| TcError::parse("Illegal filter ID", word.token, hint))?;
    }
    let mut order = None;
    while let Some(word) = args.word() {
        match word {
            _ if matches(word, "match") => {
                selector::parse(args, &mut spec)?;
                spec.has_selector = true;
                continue;
            }
            _ if matches(word, "offset") => {
                tables::offset(args, &mut spec)?;
                continue;
            }
            _ if matches(word, "hashkey") => {
                tables::hashkey(args, &mut spec)?;
                continue;
            }
            _ if matches(word, "classid") || word == "flowid" => {
                spec.common.classid = parse_classid(args)?;
                spec.terminal = true;
                continue;
            }
            _ if matches(word, "divisor") => spec.divisor = Some(tables::divisor(args)?),
            "link" => spec.link = Some(tables::link(args)?),
            "ht" => tables::ht(args, &mut spec, handle.is_some())?,
            "sample" => {
                tables::sample(args, &mut spec)?;
                continue;
            }
            "order" => order = Some(parse_order(args)?),
            "indev" => {
                args.skip();
                let Some(text) = args.word() else {
                    return Err(TcError::parse("Illegal indev", args.position(), "name a device: indev DEVICE"));
                };
                spec.indev = Some(Word { text: text.to_owned(), token: args.position() });
            }
            _ if matches(word, "action") => {
                args.next_word()?;
                let actions = action::parse_list(args)?;
                if !spec.common.old_police {
                    spec.common.actions.extend(actions);
                }
                spec.terminal = true;
                continue;
            }
            _ if matches(word, "police") => {
                old_police(args, &mut spec.common)?;
                spec.terminal = true;
                continue;
            }
            "skip_hw" => spec.common.skip_hw = true,
            "skip_sw" => spec.common.skip_sw = true,
            "help" => {
                let mut error = TcError::parse(USAGE[0], args.position(), "leave \"help\" out");
                error.messages = USAGE.iter().map(|s| (*s).to_owned()).collect();
                return Err(error);
            }
            _ => return Err(what_is(word, args.position())),
        }
        args.skip();
    }
    if let Some((number, token)) = order {
        merge_order(&mut spec, number, token)?;
    }
    if spec.common.skip_hw && spec.common.skip_sw {
        let hint = "with both of them nothing would look at the filter";
        return Err(TcError::parse("skip_hw and skip_sw are mutually exclusive", args.position(), hint));
    }
    Ok(spec)
}

fn what_is(word: &str, token: usize) -> TcError {
    let hint = match word {
        "mark" => "write match mark VALUE MASK",
        _ => {
            "u32 takes match, action, flowid, order, indev, skip_hw, and for tables divisor, ht, link, sample, hashkey, offset"
        }
    };
    let mut error = TcError::parse(format!("What is \"{word}\"?"), token, hint);
    error.messages.extend(USAGE.iter().map(|s| (*s).to_owned()));
    error
}

fn parse_order(args: &mut Args<'_>) -> Result<(u32, usize), TcError> {
    let text = args.next_word()?;
    let token = args.position();
    let hint = "an order is a number from 1 to 4095";
    let order = get_u32(text, 0).ok_or_else(|| TcError::parse("Illegal \"order\"", token, hint))?;
    Ok((order, token))
}

/// `order N` is the node part of the handle.
fn merge_order(spec: &mut U32Spec, order: u32, token: usize) -> Result<(), TcError> {
    let node = spec.handle & 0xfff;
    if order > 0xfff || node != 0 && node != order {
        return Err(TcError::parse("\"order\" contradicts \"handle\"", token, "give one of them, up to 4095 (0xfff)"));
    }
    spec.handle |= order;
    Ok(())
}

/// `get_u32_handle()`: `TABLE:BUCKET:NODE` in hex, each part may be empty; or `0x…`.
#[must_use]
pub fn parse_handle(text: &str) -> Option<u32> {
    if !text.contains(':') {
        return text.starts_with("0x").then(|| get_u32(text, 16)).flatten();
    }
    let mut parts = [0u32; 3];
    for (index, part) in text.split(':').enumerate() {
        let value = if part.is_empty() { 0 } else { unsigned(part, 16)? };
        *parts.get_mut(index)? = u32::try_from(value).ok()?;
    }
    let [table, bucket, node] = parts;
    let fits = table < 0x1000 && bucket < 0x100 && node < 0x1000;
    fits.then_some(table << 20 | bucket << 12 | node)
}

/// `sprint_u32_handle()`: `800::801`, `800:`.
#[must_use]
pub fn handle_text(handle: u32) -> String {
    let (table, bucket, node) = (handle >> 20, handle >> 12 & 0xff, handle & 0xfff);
    let mut out = String::new();
    if handle == 0 {
        return "none".to_owned();
    }
    if table != 0 {
        out.push_str(&format!("{table:x}:"));
    }
    if bucket != 0 {
        out.push_str(&format!("{bucket:x}"));
    }
    if node != 0 {
        out.push_str(&format!(":{node:x}"));
    }
    out
}
