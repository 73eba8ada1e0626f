//! `match …` of u32: every form becomes masked 32-bit words, packed as tc packs them. It changes no state.

mod address;

use address::{ether, ip_address, ip6_address};

use super::super::super::args::Args;
use super::super::super::error::{TcError, exit};
use super::super::super::number::{get_integer, get_u32, matches};
use super::U32Spec;
use crate::limits::U32_KEYS_MAX;
use crate::rules::{U32Base, U32Key, U32Mark};

/// Why a selector is refused. tc itself says only `Illegal "match"`.
struct Refused {
    why: String,
    token: usize,
}

/// Either tc ended the program itself, or it says `Illegal "match"`.
enum Failure {
    Exit(TcError),
    Illegal(Refused),
}

impl From<TcError> for Failure {
    fn from(error: TcError) -> Self {
        Self::Exit(error)
    }
}

type Outcome<T> = Result<T, Failure>;

fn illegal<T>(args: &Args<'_>, why: impl Into<String>) -> Outcome<T> {
    Err(Failure::Illegal(Refused { why: why.into(), token: args.position() }))
}

/// Parses from the word `match` on and adds its keys (`parse_selector()`, tc/f_u32.c).
///
/// # Errors
/// `Illegal "match"`, with the reason in the hint; or an incomplete line.
pub fn parse(args: &mut Args<'_>, spec: &mut U32Spec) -> Result<(), TcError> {
    parse_as(args, spec, "match")
}

/// As [`parse`], for another word in front: `sample`.
///
/// # Errors
/// As [`parse`], about that word.
pub fn parse_as(args: &mut Args<'_>, spec: &mut U32Spec, what: &str) -> Result<(), TcError> {
    let start = args.position();
    args.next_word()?;
    selector(args, spec).map_err(|failure| match failure {
        Failure::Exit(error) => error,
        Failure::Illegal(Refused { why, token }) => TcError {
            exit_code: exit::PARSE,
            messages: vec![format!("Illegal \"{what}\"")],
            hint: why,
            token: Some(token.max(start)),
        },
    })
}

fn selector(args: &mut Args<'_>, spec: &mut U32Spec) -> Outcome<()> {
    let word = args.word().unwrap_or_default();
    let known = ["u32", "u16", "u8", "ip", "ip6", "udp", "tcp", "icmp", "mark", "ether"];
    let Some(kind) = known.into_iter().find(|kind| matches(word, kind)) else {
        return illegal(args, "match takes ip, ip6, tcp, udp, icmp, ether, u8, u16, u32 or mark");
    };
    args.next_word()?;
    match kind {
        "u32" => field(args, spec, Width::Word, Place::at(0)),
        "u16" => field(args, spec, Width::Half, Place::at(0)),
        "u8" => field(args, spec, Width::Byte, Place::at(0)),
        "ip" => ip(args, spec),
        "ip6" => ip6(args, spec),
        "icmp" => layer4(args, spec, &[("type", 0, Width::Byte), ("code", 1, Width::Byte)]),
        "mark" => mark(args, spec),
        "ether" => ether(args, spec),
        _ => layer4(args, spec, &[("src", 0, Width::Half), ("dst", 2, Width::Half)]),
    }
}

/// How wide a field is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    Byte,
    Half,
    Word,
}

/// Where a key is.
#[derive(Clone, Copy)]
struct Place {
    offset: i32,
    base: U32Base,
}

impl Place {
    fn at(offset: i32) -> Self {
        Self { offset, base: U32Base::Network }
    }

    fn next_header(offset: i32) -> Self {
        Self { offset, base: U32Base::NextHeader }
    }
}

/// `VALUE MASK [at OFFSET]`.
fn field(args: &mut Args<'_>, spec: &mut U32Spec, width: Width, place: Place) -> Outcome<()> {
    if args.left() < 2 {
        return illegal(args, "a value and a mask are needed: VALUE MASK (the mask in hex, like 0xff)");
    }
    let value = number(args, 0)?;
    let mask = number(args, 16)?;
    let most = match width {
        Width::Byte => 0xff,
        Width::Half => 0xffff,
        Width::Word => u32::MAX,
    };
    if value > most || mask > most {
        return Err(Failure::Illegal(Refused {
            why: format!("value and mask must fit into the field (at most {most:#x})"),
            token: args.position().saturating_sub(if value > most { 2 } else { 1 }),
        }));
    }
    let place = at(args, place)?;
    pack(args, spec, width, value, mask, place)
}

/// The current word as a number; the next one becomes current.
fn number(args: &mut Args<'_>, base: u32) -> Outcome<u32> {
    let word = args.word().unwrap_or_default();
    let Some(value) = get_u32(word, base) else {
        let kind = if base == 16 { "a mask in hex" } else { "a number" };
        return illegal(args, format!("{kind} is needed here, not \"{word}\""));
    };
    args.skip();
    Ok(value)
}

/// `[at OFFSET]` or `[at nexthdr+OFFSET]` (`parse_at()`).
fn at(args: &mut Args<'_>, default: Place) -> Outcome<Place> {
    if !args.is("at") {
        return Ok(default);
    }
    let word = args.next_word()?;
    let mut place = default;
    let mut digits = word;
    if let Some(rest) = word.strip_prefix("nexthdr+").filter(|rest| !rest.is_empty()) {
        place.base = U32Base::NextHeader;
        digits = rest;
    } else if matches(word, "nexthdr+") {
        place.base = U32Base::NextHeader;
        digits = args.next_word()?;
    }
    let Some(offset) = get_integer(digits) else {
        return illegal(args, format!("an offset in bytes is needed after \"at\", not \"{digits}\""));
    };
    place.offset = offset;
    args.skip();
    Ok(place)
}

/// `pack_key8()`, `pack_key16()`, `pack_key32()`: moves a field to its place in the aligned word. A 16-bit field that does not
/// start at a word goes to the low half, wherever it starts.
fn pack(args: &Args<'_>, spec: &mut U32Spec, width: Width, value: u32, mask: u32, place: Place) -> Outcome<()> {
    let within = place.offset & 3;
    let shift = match (width, within) {
        (Width::Word, _) => 0,
        (Width::Half, 0) => 16,
        (Width::Half, _) => 0,
        (Width::Byte, within) => 24 - 8 * within,
    };
    let offset = if width == Width::Word { place.offset } else { place.offset & !3 };
    let place = Place { offset, ..place };
    pack_word(args, spec, value << shift, mask << shift, place)
}

/// `pack_key()`: keys on the same word merge unless they contradict each other.
fn pack_word(args: &Args<'_>, spec: &mut U32Spec, value: u32, mask: u32, place: Place) -> Outcome<()> {
    let refused = |why: String| Err(Failure::Illegal(Refused { why, token: args.position().saturating_sub(1) }));
    let value = value & mask;
    let same = spec.keys.iter_mut().find(|k| k.offset == place.offset && k.base == place.base);
    if let Some(key) = same {
        if (value ^ key.value) & mask & key.mask != 0 {
            return refused("this contradicts an earlier match on the same bytes: nothing could match both".to_owned());
        }
        key.value |= value;
        key.mask |= mask;
        return Ok(());
    }
    if spec.keys.len() >= U32_KEYS_MAX {
        return refused(format!("a u32 filter takes {U32_KEYS_MAX} keys"));
    }
    if place.offset % 4 != 0 {
        return refused(format!("a u32 key starts at a multiple of 4, not at {}; use u16 or u8", place.offset));
    }
    spec.keys.push(U32Key { value, mask, offset: place.offset, base: place.base });
    Ok(())
}

/// `if (argc < 2) return -1`: tc wants a word behind the field, even behind `nofrag`.
fn wants_more(args: &Args<'_>) -> Outcome<()> {
    if args.left() < 2 { illegal(args, "tc wants more words here: a value, or an action after it") } else { Ok(()) }
}

/// `match ip FIELD …` (`parse_ip()`).
fn ip(args: &mut Args<'_>, spec: &mut U32Spec) -> Outcome<()> {
    wants_more(args)?;
    let word = args.word().unwrap_or_default();
    let flag = match word {
        "nofrag" => Some((0, 0x3fff)),
        "firstfrag" => Some((0x2000, 0x3fff)),
        "df" => Some((0x4000, 0x4000)),
        "mf" => Some((0x2000, 0x2000)),
        _ => None,
    };
    if let Some((value, mask)) = flag {
        args.skip();
        return pack(args, spec, Width::Half, value, mask, Place::at(6));
    }
    let (width, offset) = match word {
        "src" => return ip_address(args, spec, 12),
        "dst" => return ip_address(args, spec, 16),
        "tos" => (Width::Byte, 1),
        "ihl" => (Width::Byte, 0),
        "protocol" => (Width::Byte, 9),
        "dport" => (Width::Half, 22),
        "sport" => (Width::Half, 20),
        "icmp_type" => (Width::Byte, 20),
        "icmp_code" => (Width::Byte, 21),
        _ if matches(word, "dsfield") || matches(word, "precedence") => (Width::Byte, 1),
        _ => {
            let fields = "src, dst, tos, ihl, protocol, sport, dport, nofrag, firstfrag, df, mf, icmp_type, icmp_code";
            return illegal(args, format!("match ip has no field \"{word}\"; it has {fields}"));
        }
    };
    args.next_word()?;
    field(args, spec, width, Place::at(offset))
}

/// `match ip6 FIELD …` (`parse_ip6()`).
fn ip6(args: &mut Args<'_>, spec: &mut U32Spec) -> Outcome<()> {
    wants_more(args)?;
    let word = args.word().unwrap_or_default();
    let (width, offset) = match word {
        "src" => return ip6_address(args, spec, 8),
        "dst" => return ip6_address(args, spec, 24),
        "priority" => {
            args.next_word()?;
            return traffic_class(args, spec);
        }
        "protocol" => (Width::Byte, 6),
        "flowlabel" => (Width::Word, 0),
        "dport" => (Width::Half, 42),
        "sport" => (Width::Half, 40),
        "icmp_type" => (Width::Byte, 40),
        "icmp_code" => (Width::Byte, 41),
        _ => {
            let fields = "src, dst, priority, protocol, flowlabel, sport, dport, icmp_type, icmp_code";
            return illegal(args, format!("match ip6 has no field \"{word}\"; it has {fields}"));
        }
    };
    args.next_word()?;
    field(args, spec, width, Place::at(offset))
}

/// The traffic class lies across bytes 0 and 1 (`parse_ip6_class()`).
fn traffic_class(args: &mut Args<'_>, spec: &mut U32Spec) -> Outcome<()> {
    if args.left() < 2 {
        return illegal(args, "a value and a mask are needed: VALUE MASK");
    }
    let value = number(args, 0)?;
    let mask = number(args, 16)?;
    if value > 0xff || mask > 0xff {
        return illegal(args, "value and mask must fit into a byte");
    }
    pack_word(args, spec, value << 20, mask << 20, Place::at(0))
}

/// `tcp`, `udp` and `icmp`: relative to the next header (`parse_udp()`, `parse_icmp()`).
fn layer4(args: &mut Args<'_>, spec: &mut U32Spec, fields: &[(&str, i32, Width)]) -> Outcome<()> {
    if args.left() < 2 {
        return illegal(args, "a field, a value and a mask are needed");
    }
    let word = args.word().unwrap_or_default();
    let Some((_, offset, width)) = fields.iter().find(|(name, _, _)| *name == word) else {
        let names: Vec<&str> = fields.iter().map(|(name, _, _)| *name).collect();
        return illegal(args, format!("\"{word}\" is not a field here; use {}", names.join(" or ")));
    };
    args.next_word()?;
    field(args, spec, *width, Place::next_header(*offset))
}

/// `match mark VALUE MASK` (`parse_mark()`).
fn mark(args: &mut Args<'_>, spec: &mut U32Spec) -> Outcome<()> {
    if args.left() < 2 {
        return illegal(args, "a value and a mask are needed: mark VALUE MASK");
    }
    let value = number(args, 0)?;
    let mask = number(args, 0)?;
    // NEXT_ARG() stands after the mask too, so tc wants a word there.
    if args.left() == 0 {
        return Err(TcError::incomplete(args.position()).into());
    }
    if value & mask != value {
        args.stderr.push("Illegal \"mark\" (impossible combination)".to_owned());
        return illegal(args, "the value has bits that the mask has not");
    }
    spec.mark = Some(U32Mark { value, mask });
    Ok(())
}
