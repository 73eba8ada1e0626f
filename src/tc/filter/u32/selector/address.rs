//! Addresses in u32 selectors: IPv4, IPv6 and Ethernet, each one or more masked words. It changes no state.

use super::super::super::super::args::Args;
use super::super::super::super::number::{Prefix, mac, mask_v4, prefix};
use super::super::U32Spec;
use super::{Outcome, Place, Width, at, illegal, pack, pack_word, wants_more};

/// `match ip src|dst PREFIX` (`parse_ip_addr()`).
pub(super) fn ip_address(args: &mut Args<'_>, spec: &mut U32Spec, offset: i32) -> Outcome<()> {
    let word = args.next_word()?;
    let Some(Prefix::V4(address, bits)) = prefix(word, Some(false)) else {
        return illegal(args, format!("\"{word}\" is not an IPv4 address or prefix"));
    };
    args.skip();
    let place = at(args, Place::at(offset))?;
    pack_word(args, spec, u32::from(address), mask_v4(bits), place)
}

/// One key for every 32 bits that the prefix reaches.
pub(super) fn ip6_address(args: &mut Args<'_>, spec: &mut U32Spec, offset: i32) -> Outcome<()> {
    let word = args.next_word()?;
    let Some(Prefix::V6(address, bits)) = prefix(word, Some(true)) else {
        return illegal(args, format!("\"{word}\" is not an IPv6 address or prefix"));
    };
    args.skip();
    let place = at(args, Place::at(offset))?;
    let address = u128::from(address);
    for part in 0..bits.div_ceil(32) {
        let mask = mask_v4((bits - 32 * part).min(32));
        let value = (address >> (96 - 32 * part)) as u32;
        let offset = place.offset.wrapping_add(4 * part as i32);
        pack_word(args, spec, value, mask, Place { offset, ..place })?;
    }
    Ok(())
}

/// `match ether src|dst MAC`: three 16-bit keys; `dst` is at −14, `src` at −8.
pub(super) fn ether(args: &mut Args<'_>, spec: &mut U32Spec) -> Outcome<()> {
    wants_more(args)?;
    let word = args.word().unwrap_or_default();
    let offset = match word {
        "src" => -8,
        "dst" => -14,
        _ => {
            args.stderr.push(format!("Unknown match: ether {word}"));
            return illegal(args, "use ether src or ether dst");
        }
    };
    let text = args.next_word()?;
    let Some(bytes) = mac(text) else {
        args.stderr.push(format!("parse_ether_addr: improperly formed address '{text}'"));
        return illegal(args, "write six hex bytes, like 70:00:00:00:00:00");
    };
    args.skip();
    let place = at(args, Place::at(offset))?;
    for (index, pair) in bytes.chunks(2).enumerate() {
        let value = u32::from(pair[0]) << 8 | u32::from(pair[1]);
        let offset = place.offset.wrapping_add(2 * index as i32);
        pack(args, spec, Width::Half, value, 0xffff, Place { offset, ..place })?;
    }
    Ok(())
}
