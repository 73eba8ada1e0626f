//! `pedit`: parse, print. How tc packs a value into a word is in `pack`, the names of fields are in `fields`.

mod fields;
mod pack;

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::super::args::Args;
use super::super::error::TcError;
use super::super::number::{Prefix, get_integer, get_u32, prefix};
use super::{ActionParams, control_or, gact, trailing_index};
use crate::rules::{Control, Pedit};
use crate::types::{PeditHeader, PeditKey};
use fields::{FieldKind, field, header};
use pack::Template;

const USAGE: &[&str] = &[
    "Usage: ... pedit munge [ex] <MUNGE> [CONTROL]",
    "Where: MUNGE := <RAW>|<LAYERED>",
    "\t<RAW>:= <OFFSETC>[ATC]<CMD>",
    " \t\tOFFSETC:= offset <offval> <u8|u16|u32>",
    "\t\tATC:= at <atval> offmask <maskval> shift <shiftval>",
    "\t\tNOTE: offval is byte offset, must be multiple of 4",
    "\t\tNOTE: maskval is a 32 bit hex number",
    " \t\tNOTE: shiftval is a shift value",
    "\t\tCMD:= clear | invert | set <setval> | add <addval> | decrement | retain",
    "\t<LAYERED>:= ip <ipdata> | ip6 <ip6data>",
    " \t\t| udp <udpdata> | tcp <tcpdata> | icmp <icmpdata>",
    "\tCONTROL:= reclassify | pipe | drop | continue | pass |",
    "\t          goto chain <CHAIN_INDEX>",
    "\tNOTE: if 'ex' is set, extended functionality will be supported (kernel >= 4.11)",
    "For Example usage look at the examples directory",
];
const HINT: &str = "write pedit ex munge ip ttl set 64, pedit munge offset 8 u8 set 64, or see man tc-pedit";

/// Why a munge was not understood.
enum Bad {
    /// tc ended itself.
    Ended(TcError),
    /// What it said; it stands where the command began.
    Before(Vec<String>),
    /// What it said; it has read the command.
    After(Vec<String>),
}

impl From<TcError> for Bad {
    fn from(error: TcError) -> Self {
        Self::Ended(error)
    }
}

impl Bad {
    fn silent() -> Self {
        Self::Before(Vec::new())
    }
}

/// `parse_pedit()`: the current word is `pedit`.
///
/// # Errors
/// What tc says.
pub fn parse(args: &mut Args<'_>) -> Result<(ActionParams, u32), TcError> {
    let mut keys = Vec::new();
    let mut extended = false;
    let mut read = 0;
    while args.word().is_some() {
        if args.matches("pedit") {
            args.next_word()?;
            read += 1;
            if args.matches("ex") {
                if read > 1 {
                    let error = TcError::parse("'ex' must be before first 'munge'", args.position(), HINT);
                    return Err(with_usage(error));
                }
                extended = true;
                args.next_word()?;
            }
        } else if args.matches("munge") {
            args.next_word()?;
            munge(args, extended, &mut keys)?;
            read += 1;
        } else {
            break;
        }
    }
    let control = control_or(args, Control::Pass);
    let index = trailing_index(args, 10, "Pedit: Illegal \"index\"")?;
    Ok((ActionParams::Pedit(Pedit { keys, extended, control }), index.unwrap_or_default()))
}

fn with_usage(mut error: TcError) -> TcError {
    error.messages.extend(USAGE.iter().map(|s| (*s).to_owned()));
    error
}

/// `parse_munge()`: the current word is what follows `munge`.
fn munge(args: &mut Args<'_>, extended: bool, keys: &mut Vec<PeditKey>) -> Result<(), TcError> {
    let start = args.clone();
    let raw = args.matches("offset");
    let result = if raw {
        args.next_word()?;
        offset(args, extended, keys)
    } else {
        layered(args, extended, keys)
    };
    let (mut messages, place) = match result {
        Ok(()) => return Ok(()),
        Err(Bad::Ended(error)) => return Err(error),
        Err(Bad::Before(messages) | Bad::After(messages)) if !raw => (messages, &start),
        Err(Bad::Before(messages) | Bad::After(messages)) => (messages, &*args),
    };
    if !raw {
        messages.push("bad pedit parsing".to_owned());
    }
    messages.push(format!("Bad pedit construct ({})", place.word().unwrap_or("(null)")));
    let token = place.position();
    let first = messages.remove(0);
    let error = messages.into_iter().fold(TcError::parse(first, token, HINT), TcError::then);
    Err(with_usage(error))
}

/// `parse_offset()`: the current word is the number after `offset`. On failure `args` stands where tc says it does.
fn offset(args: &mut Args<'_>, extended: bool, keys: &mut Vec<PeditKey>) -> Result<(), Bad> {
    let mut ahead = args.clone();
    let number = ahead.word().and_then(get_integer).ok_or_else(Bad::silent)?;
    ahead.skip();
    let (len, retain) = if ahead.matches("u32") {
        (4, u32::MAX)
    } else if ahead.matches("u16") {
        (2, 0xffff)
    } else if ahead.matches("u8") {
        (1, 0xff)
    } else {
        return Err(Bad::silent());
    };
    ahead.next_word()?;
    let mut key = PeditKey { offset: number, ..PeditKey::default() };
    if ahead.matches("at") {
        key.at = get_u32(ahead.next_word()?, 0).ok_or_else(Bad::silent)?.cast_signed();
        key.offmask = get_u32(ahead.next_word()?, 16).ok_or_else(Bad::silent)?;
        key.shift = get_u32(ahead.next_word()?, 0).ok_or_else(Bad::silent)?;
        ahead.next_word()?;
    }
    let command = ahead.clone();
    let field = Template { key, len, retain, may_decrement: false, extended };
    let result = command_of(&mut ahead, FieldKind::Number, field, keys);
    *args = if matches!(result, Err(Bad::Before(_))) { command } else { ahead };
    result
}

/// `ip ttl set 3`: the current word is the header's name.
fn layered(args: &mut Args<'_>, extended: bool, keys: &mut Vec<PeditKey>) -> Result<(), Bad> {
    let name = args.word().unwrap_or_default();
    let known = header(name);
    let text = args.next_word()?;
    let Some(header) = known else {
        let unknown = format!("Unknown action  hence option \"{text}\" is unparsable");
        return Err(Bad::Before(if name == "icmp" { Vec::new() } else { vec![unknown] }));
    };
    let Some(field) = field(header, text) else { return Err(Bad::silent()) };
    // Fields behind the IP header are named by their own header in extended mode (`parse_ip()`, tc/p_ip.c).
    let is_behind = matches!(text, "dport" | "sport" | "icmp_type" | "icmp_code");
    if extended && is_behind && matches!(header, PeditHeader::Ipv4) {
        return Err(Bad::silent());
    }
    if !extended && !matches!(header, PeditHeader::Ipv4) {
        return Err(Bad::silent());
    }
    args.skip();
    let key = PeditKey {
        header: if extended { header } else { PeditHeader::Network },
        offset: field.offset,
        ..PeditKey::default()
    };
    let template = Template { key, len: field.len, retain: field.retain, may_decrement: field.may_decrement, extended };
    command_of(args, field.kind, template, keys)
}

/// `parse_cmd()`: `set V`, `add V`, `decrement`, `invert`, `clear`, `preserve`, then `retain M`.
fn command_of(args: &mut Args<'_>, kind: FieldKind, mut field: Template, keys: &mut Vec<PeditKey>) -> Result<(), Bad> {
    const SET_ONLY: &str = "Non extended mode. only 'set' command is supported";
    if args.word().is_none() {
        return Err(Bad::silent());
    }
    let mut value = PedValue::Number(0);
    let ones = u32::MAX >> (32 - 8 * field.len.min(4));
    if args.matches("invert") {
        value = PedValue::Number(ones);
        field.key.mask = ones;
    } else if args.matches("set") || args.matches("add") {
        field.key.add = !args.matches("set");
        if field.key.add && !field.extended {
            return Err(Bad::Before(vec![SET_ONLY.to_owned()]));
        }
        value = value_of(args.next_word()?, kind).ok_or_else(Bad::silent)?;
    } else if args.matches("preserve") {
        field.retain = 0;
    } else if args.matches("decrement") {
        if !field.extended {
            return Err(Bad::Before(vec![SET_ONLY.to_owned()]));
        }
        if !field.may_decrement {
            return Err(Bad::Before(vec!["decrement command is not supported for this field".to_owned()]));
        }
        field.key.add = true;
        value = PedValue::Number(field.retain);
    } else if !args.matches("clear") {
        return Err(Bad::silent());
    }
    args.skip();
    if args.matches("retain") {
        field.retain = get_u32(args.next_word()?, 0).ok_or_else(Bad::silent)?;
        args.skip();
    }
    if field.len > 4 && field.retain != u32::MAX {
        return Err(Bad::silent());
    }
    // tc fills such a field with what the word says of its first four bytes (`parse_cmd()`), and keeps nothing of it (`pack_mac()`).
    if matches!(kind, FieldKind::Mac | FieldKind::Ipv6) {
        field.key.mask = 0;
    }
    let value = match (value, kind) {
        (PedValue::Number(number), FieldKind::Mac) => {
            let first = if number == 0 { 0 } else { 0xff };
            PedValue::Mac([first, 0, 0, 0, 0, 0])
        }
        (PedValue::Number(number), FieldKind::Ipv6) => PedValue::Ipv6(if number == 0 { 0 } else { 0xff << 120 }),
        (value, FieldKind::Mac | FieldKind::Ipv6 | FieldKind::Number | FieldKind::Ipv4) => value,
    };
    let packed = match value {
        PedValue::Mac(mac) => field.mac(mac),
        PedValue::Ipv6(address) => field.ipv6(address),
        PedValue::Number(value) => field.number(value),
    };
    keys.extend(packed.map_err(|message| Bad::After(vec![message]))?);
    if keys.len() > pack::KEYS_MAX { Err(Bad::After(Vec::new())) } else { Ok(()) }
}

/// What stands after `set` or `add`.
enum PedValue {
    Number(u32),
    Mac([u8; 6]),
    Ipv6(u128),
}

/// `parse_val()`.
fn value_of(text: &str, kind: FieldKind) -> Option<PedValue> {
    match kind {
        FieldKind::Number => get_u32(text, 0).map(PedValue::Number),
        FieldKind::Ipv4 => match prefix(text, Some(false))? {
            Prefix::V4(address, _) => Some(PedValue::Number(address.into())),
            Prefix::V6(..) | Prefix::Any => None,
        },
        FieldKind::Ipv6 => match prefix(text, Some(true))? {
            Prefix::V6(address, _) => Some(PedValue::Ipv6(address.into())),
            Prefix::V4(..) | Prefix::Any => None,
        },
        FieldKind::Mac => super::super::number::mac(text).map(PedValue::Mac),
    }
}

/// What stands between `action order N: ` and the index.
#[must_use]
pub fn text(pedit: &Pedit) -> String {
    format!(" pedit action {} keys {}\n \t ", gact::control_text(pedit.control), pedit.keys.len())
}

/// What stands behind index and times.
#[must_use]
pub fn keys_text(pedit: &Pedit) -> String {
    let mut out = String::new();
    for (number, key) in pedit.keys.iter().enumerate() {
        let place = match key.header {
            PeditHeader::Network => key.offset.to_string(),
            header => format!("{}{:+}", header.as_str(), key.offset),
        };
        let command = if key.add { "add" } else { "val" };
        let _ = write!(out, "\n\t key #{number}  at {place}: {command} {:08x} mask {:08x}", key.value, key.mask);
    }
    out
}

/// Its JSON, before the index.
pub fn json(pedit: &Pedit, out: &mut Map<String, Value>) {
    out.insert("control_action".to_owned(), gact::control_json(pedit.control));
    out.insert("nkeys".to_owned(), pedit.keys.len().into());
}

/// Its JSON, behind the times.
#[must_use]
pub fn keys_json(pedit: &Pedit) -> Value {
    let key = |key: &PeditKey| {
        json!({
            "htype": key.header.as_str(), "offset": key.offset, "cmd": if key.add { "add" } else { "set" },
            "val": format!("{:x}", key.value), "mask": format!("{:x}", key.mask),
        })
    };
    pedit.keys.iter().map(key).collect()
}
