//! The keys of pedit as words: a field of the header that holds the changed bits, or a plain offset.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Unsayable;
use crate::rules::Pedit;
use crate::types::{MacAddr, PeditHeader, PeditKey};

/// Fields by which any bits of a header's words can be said: name, offset and length in bytes. (`flow_lbl` is a whole word.)
const FIELDS: &[(PeditHeader, &str, i32, u32)] = &[
    (PeditHeader::Eth, "type", 12, 2),
    (PeditHeader::Ipv4, "src", 12, 4),
    (PeditHeader::Ipv4, "dst", 16, 4),
    (PeditHeader::Ipv4, "tos", 1, 1),
    (PeditHeader::Ipv4, "ihl", 0, 1),
    (PeditHeader::Ipv4, "ttl", 8, 1),
    (PeditHeader::Ipv4, "protocol", 9, 1),
    (PeditHeader::Ipv4, "nofrag", 6, 1),
    (PeditHeader::Ipv4, "sport", 20, 2),
    (PeditHeader::Ipv4, "dport", 22, 2),
    (PeditHeader::Ipv6, "flow_lbl", 0, 4),
    (PeditHeader::Ipv6, "payload_len", 4, 2),
    (PeditHeader::Ipv6, "nexthdr", 6, 1),
    (PeditHeader::Ipv6, "hoplimit", 7, 1),
    (PeditHeader::Tcp, "sport", 0, 2),
    (PeditHeader::Tcp, "dport", 2, 2),
    (PeditHeader::Tcp, "flags", 13, 1),
    (PeditHeader::Udp, "sport", 0, 2),
    (PeditHeader::Udp, "dport", 2, 2),
];

pub(super) fn words(pedit: &Pedit) -> Result<String, Unsayable> {
    let mut out = if pedit.extended { "pedit ex".to_owned() } else { "pedit".to_owned() };
    let mut keys = pedit.keys.as_slice();
    while let Some((key, rest)) = keys.split_first() {
        if let Some((words, taken)) = address(keys) {
            out.push_str(&format!(" munge {words}"));
            keys = &keys[taken..];
            continue;
        }
        out.push_str(&format!(" munge {}", one(key)?));
        keys = rest;
    }
    Ok(out)
}

/// Keys that are together what one MAC or IPv6 address makes, and how many they are.
fn address(keys: &[PeditKey]) -> Option<(String, usize)> {
    let first = keys.first()?;
    let run = |len: usize| {
        let run = keys.get(..len)?;
        let plain = |(at, key): (usize, &PeditKey)| {
            let offset = first.offset.checked_add(4 * at as i32);
            key.header == first.header && !key.add && key.offmask == 0 && Some(key.offset) == offset
        };
        run.iter().enumerate().all(plain).then_some(run)
    };
    match (first.header, first.offset) {
        (PeditHeader::Eth, 0 | 4) => {
            let [a, b] = run(2)? else { return None };
            let masks = if first.offset == 0 { (0, 0xffff) } else { (0xffff_0000, 0) };
            if (a.mask, b.mask) != masks || a.value & a.mask != 0 || b.value & b.mask != 0 {
                return None;
            }
            let (name, bits) = if first.offset == 0 {
                ("dst", u64::from(a.value) << 16 | u64::from(b.value >> 16))
            } else {
                ("src", u64::from(a.value) << 32 | u64::from(b.value))
            };
            let [_, _, a, b, c, d, e, f] = bits.to_be_bytes();
            Some((format!("eth {name} set {}", MacAddr::new(a, b, c, d, e, f)), 2))
        }
        (PeditHeader::Ipv6, 8 | 24) => {
            let run = run(4)?;
            if run.iter().any(|key| key.mask != 0) {
                return None;
            }
            let bits = run.iter().fold(0u128, |all, key| all << 32 | u128::from(key.value));
            let name = if first.offset == 8 { "src" } else { "dst" };
            Some((format!("ip6 {name} set {}", Ipv6Addr::from(bits)), 4))
        }
        _ => None,
    }
}

/// One key.
fn one(key: &PeditKey) -> Result<String, Unsayable> {
    let unsayable = || {
        let PeditKey { header, offset, value, mask, .. } = key;
        Unsayable(format!("a pedit key at {}{offset:+} with value {value:08x} and mask {mask:08x}", header.as_str()))
    };
    if key.header == PeditHeader::Network {
        let at = match (key.at, key.offmask, key.shift) {
            (0, 0, 0) => String::new(),
            (at, offmask, shift) => format!("at {} {offmask:x} {shift} ", at.cast_unsigned()),
        };
        if key.offset % 4 != 0 {
            return Err(unsayable());
        }
        let command = command(key, !key.mask, key.value, |v| format!("{v:#x}")).ok_or_else(unsayable)?;
        return Ok(format!("offset {} u32 {at}{command}", key.offset));
    }
    if (key.at, key.offmask, key.shift) != (0, 0, 0) {
        return Err(unsayable());
    }
    let changed = if key.mask == u32::MAX { key.value } else { !key.mask };
    for (_, name, offset, len) in FIELDS.iter().filter(|(header, ..)| *header == key.header) {
        let stride = 8 * (4 - len - (offset & 3).cast_unsigned());
        let bits = (u32::MAX >> (32 - 8 * len)) << stride;
        if offset & !3 != key.offset || changed & !bits != 0 || key.value & !bits != 0 {
            continue;
        }
        let is_address = key.header == PeditHeader::Ipv4 && *len == 4;
        let show = |v: u32| if is_address { Ipv4Addr::from(v).to_string() } else { format!("{v:#x}") };
        if let Some(command) = command(key, !key.mask >> stride & (bits >> stride), key.value >> stride, show) {
            let header = match key.header {
                PeditHeader::Ipv4 => "ip",
                PeditHeader::Ipv6 => "ip6",
                PeditHeader::Eth | PeditHeader::Tcp | PeditHeader::Udp | PeditHeader::Network => key.header.as_str(),
            };
            return Ok(format!("{header} {name} {command}"));
        }
    }
    Err(unsayable())
}

/// `set V retain M`, `add V retain M`, or `invert retain M`; `changed` and `value` are moved to the field.
fn command(key: &PeditKey, changed: u32, value: u32, show: impl Fn(u32) -> String) -> Option<String> {
    if key.mask == u32::MAX && key.value != 0 {
        // Bits that stay and are flipped.
        return (!key.add).then(|| format!("invert retain {value:#x}"));
    }
    if key.value & key.mask != 0 {
        return None;
    }
    let verb = if key.add { "add" } else { "set" };
    Some(format!("{verb} {} retain {changed:#x}", show(value)))
}
