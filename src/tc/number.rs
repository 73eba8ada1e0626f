//! Numbers, addresses and class ids as iproute2 reads them (lib/utils.c, tc/tc_util.c). No grammar here.

use std::net::{Ipv4Addr, Ipv6Addr};

/// `strtoul()` over a whole word: base 0 knows `0x` and leading `0`; base 16 allows `0x`.
#[must_use]
pub fn unsigned(text: &str, base: u32) -> Option<u64> {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = match (base, hex) {
        (0 | 16, Some(digits)) => (digits, 16),
        (0, None) if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        (0, None) => (text, 10),
        (base, _) => (text, base),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// `get_u32()`.
#[must_use]
pub fn get_u32(text: &str, base: u32) -> Option<u32> {
    unsigned(text, base).and_then(|n| u32::try_from(n).ok())
}

/// `get_u16()`.
#[must_use]
pub fn get_u16(text: &str, base: u32) -> Option<u16> {
    unsigned(text, base).and_then(|n| u16::try_from(n).ok())
}

/// `get_u8()`.
#[must_use]
pub fn get_u8(text: &str, base: u32) -> Option<u8> {
    unsigned(text, base).and_then(|n| u8::try_from(n).ok())
}

/// `get_integer()` with base 0: a signed 32-bit number.
#[must_use]
pub fn get_integer(text: &str) -> Option<i32> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = i64::try_from(unsigned(digits, 0)?).ok()?;
    i32::try_from(if negative { -value } else { value }).ok()
}

/// `matches()` of iproute2: `prefix` is a non-empty prefix of `word`.
#[must_use]
pub fn matches(prefix: &str, word: &str) -> bool {
    !prefix.is_empty() && word.starts_with(prefix)
}

/// `get_tc_classid()`: `major:minor` in hex, `root`, `none`. Of a number without a colon the last eight digits count.
#[must_use]
pub fn classid(text: &str) -> Option<u32> {
    match text {
        "root" => return Some(0xffff_ffff),
        "none" => return Some(0),
        _ => {}
    }
    let part = |s: &str| if s.is_empty() { Some(0) } else { unsigned(s, 16) };
    match text.split_once(':') {
        None => unsigned(text, 16).map(|n| n as u32),
        Some((major, minor)) => {
            let (major, minor) = (part(major)?, part(minor)?);
            let fits = major < 0x1_0000 && minor < 0x1_0000;
            fits.then_some(((major as u32) << 16) | minor as u32)
        }
    }
}

/// `print_tc_classid()`.
#[must_use]
pub fn classid_text(id: u32) -> String {
    let (major, minor) = (id >> 16, id & 0xffff);
    match (id, major, minor) {
        (0xffff_ffff, _, _) => "root".to_owned(),
        (0, _, _) => "none".to_owned(),
        (_, 0, _) => format!(":{minor:x}"),
        (_, _, 0) => format!("{major:x}:"),
        _ => format!("{major:x}:{minor:x}"),
    }
}

/// `sscanf("%hhx:%hhx:…") == 6`: six hex bytes; what follows the sixth is ignored there, and here.
#[must_use]
pub fn mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0u8; 6];
    let mut rest = text;
    for (i, byte) in bytes.iter_mut().enumerate() {
        if i > 0 {
            rest = rest.strip_prefix(':')?;
        }
        rest = rest.strip_prefix("0x").unwrap_or(rest);
        let len = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        if len == 0 {
            return None;
        }
        // %hhx keeps the low byte of a number of any length.
        let tail = &rest[len.saturating_sub(2)..len];
        *byte = u8::from_str_radix(tail, 16).ok()?;
        rest = &rest[len..];
    }
    Some(bytes)
}

/// `ll_addr_a2n()` of six bytes (lib/ll_addr.c): hex bytes with colons between, those that are missing are 0; or an IPv4 address,
/// which is the first four.
#[must_use]
pub fn lladdr(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    if text.contains('.') {
        bytes[..4].copy_from_slice(&text.parse::<Ipv4Addr>().ok()?.octets());
        return Some(bytes);
    }
    for (byte, part) in bytes.iter_mut().zip(text.split(':')) {
        // sscanf("%x") takes what it can at the start.
        let digits = part.trim_start().trim_start_matches("0x");
        let len = digits.bytes().take_while(u8::is_ascii_hexdigit).count();
        *byte = u8::try_from(u32::from_str_radix(&digits[..len], 16).ok()?).ok()?;
    }
    Some(bytes)
}

/// An address with its prefix as `get_prefix()` reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// IPv4 and its prefix length, at most 32.
    V4(Ipv4Addr, u32),
    /// IPv6 and its prefix length, at most 128.
    V6(Ipv6Addr, u32),
    /// `any`, `default`, `all`: length 0, family not known.
    Any,
}

/// `get_prefix_1()` for one family (or, with `None`, for whichever fits).
#[must_use]
pub fn prefix(text: &str, v6: Option<bool>) -> Option<Prefix> {
    if matches!(text, "default" | "any" | "all") {
        return Some(match v6 {
            Some(false) => Prefix::V4(Ipv4Addr::UNSPECIFIED, 0),
            Some(true) => Prefix::V6(Ipv6Addr::UNSPECIFIED, 0),
            None => Prefix::Any,
        });
    }
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let is_v6 = v6.unwrap_or_else(|| address.contains(':'));
    let width = if is_v6 { 128 } else { 32 };
    let bits = match length {
        None => width,
        Some(text) => match unsigned(text, 0) {
            Some(bits) => u32::try_from(bits).ok()?,
            None => netmask(text, is_v6)?,
        },
    };
    if bits > width {
        return None;
    }
    if is_v6 {
        return address.parse().ok().map(|a| Prefix::V6(a, bits));
    }
    ipv4(address).map(|a| Prefix::V4(a, bits))
}

/// `get_addr_ipv4()`: one to four decimal bytes; what is missing is 0 (`1.2.3` is 1.2.3.0).
fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut bytes = [0u8; 4];
    for (i, part) in text.split('.').enumerate() {
        *bytes.get_mut(i)? = get_u8(part, 0)?;
    }
    Some(bytes.into())
}

/// A mask written as an address (`255.255.0.0`): only without holes.
fn netmask(text: &str, v6: bool) -> Option<u32> {
    if v6 {
        return None;
    }
    let mask = u32::from(ipv4(text)?);
    (mask.leading_ones() + mask.trailing_zeros() >= 32).then(|| mask.leading_ones())
}

/// The mask of an IPv4 prefix length.
#[must_use]
pub fn mask_v4(bits: u32) -> u32 {
    u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0)
}

/// The mask of an IPv6 prefix length.
#[must_use]
pub fn mask_v6(bits: u32) -> u128 {
    u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0)
}
