//! What filters compare, as words: the keys of u32 and of flower. Actions and classids are the caller's.

use std::fmt::Write as _;

use super::Unsayable;
use crate::rules::{FlowerKey, PortMatch, U32Base, U32Descent, U32Key, U32Mark};
use crate::tc::proto;
use crate::types::{MacAddr, ethertype};

/// What stands after the word `protocol`.
#[must_use]
pub fn protocol(number: u16) -> String {
    let name = proto::link_name(number);
    if name.starts_with('[') { format!("{number:#06x}") } else { name }
}

/// `match u32 V M at N …`.
///
/// # Errors
/// Keys as tc never makes them: at an odd place, or two at one place.
pub fn u32_keys(keys: &[U32Key]) -> Result<String, Unsayable> {
    let mut out = String::new();
    for (number, key) in keys.iter().enumerate() {
        let same = |other: &U32Key| (other.offset, other.base) == (key.offset, key.base);
        if key.offset % 4 != 0 || keys[..number].iter().any(same) {
            return Err(Unsayable(format!("a u32 key at {}, which is odd, or the second one there", key.offset)));
        }
        let base = match key.base {
            U32Base::Network => "",
            U32Base::NextHeader => "nexthdr+",
        };
        let _ = write!(out, " match u32 {:#x} {:08x} at {base}{}", key.value, key.mask, key.offset);
    }
    Ok(out)
}

/// `match mark V M`.
#[must_use]
pub fn u32_mark(mark: U32Mark) -> String {
    format!(" match mark {:#x} {:#x}", mark.value, mark.mask)
}

/// `offset …` and `hashkey …`.
///
/// # Errors
/// Fields as tc never makes them.
pub fn u32_descent(descent: &U32Descent) -> Result<String, Unsayable> {
    let U32Descent { plus, variable, eat, hash_mask, hash_at } = *descent;
    let mut out = String::new();
    if plus.is_some() || variable.is_some() || eat {
        out.push_str(" offset");
    }
    if let Some(plus) = plus {
        let _ = write!(out, " plus {plus}");
    }
    if let Some(variable) = variable {
        if variable.at % 2 != 0 {
            return Err(Unsayable(format!("a u32 offset at the odd byte {}", variable.at)));
        }
        let _ = write!(out, " at {} mask {:x} shift {}", variable.at, variable.mask, variable.shift);
    }
    out.push_str(if eat { " eat" } else { "" });
    if hash_mask != 0 || hash_at != 0 {
        if hash_at % 4 != 0 {
            return Err(Unsayable(format!("a u32 hashkey at byte {hash_at}")));
        }
        let _ = write!(out, " hashkey mask {hash_mask:08x} at {hash_at}");
    }
    Ok(out)
}

/// The keys of flower, beside the filter's protocol.
///
/// # Errors
/// Masks as tc never makes them, or another protocol than the filter's.
pub fn flower(key: &FlowerKey, filter_protocol: u16) -> Result<String, Unsayable> {
    let expected = (filter_protocol != ethertype::ALL).then_some(filter_protocol);
    if key.eth_type != expected {
        return Err(Unsayable("flower with another protocol than its filter's".to_owned()));
    }
    if key.no_address || key.more.is_some() {
        return Err(Unsayable("flower with keys beyond addresses, ports and flags".to_owned()));
    }
    let mut out = String::new();
    for (name, mac) in [("dst_mac", &key.dst_mac), ("src_mac", &key.src_mac)] {
        if let Some((value, mask)) = mac {
            let text = |b: &[u8; 6]| MacAddr::new(b[0], b[1], b[2], b[3], b[4], b[5]);
            let _ = write!(out, " {name} {}/{}", text(value), text(mask));
        }
    }
    if let Some(number) = key.ip_proto {
        let _ = write!(out, " ip_proto {}", proto::ip_name(number));
    }
    let [src_ipv6, dst_ipv6] = key.addresses6();
    for (name, v4, v6) in [("dst_ip", key.dst_ipv4, dst_ipv6), ("src_ip", key.src_ipv4, src_ipv6)] {
        if let Some((address, mask)) = v4 {
            let bits = u32::from(mask);
            let _ = write!(out, " {name} {address}/{}", prefix_len(bits.into(), bits.count_ones(), 32)?);
        }
        if let Some((address, mask)) = v6 {
            let bits = u128::from(mask);
            let _ = write!(out, " {name} {address}/{}", prefix_len(bits, bits.count_ones(), 128)?);
        }
    }
    for (name, port) in [("dst_port", key.dst_port), ("src_port", key.src_port)] {
        match port {
            None => {}
            Some(PortMatch::Masked(value, mask)) => drop(write!(out, " {name} {value}/{mask:#x}")),
            Some(PortMatch::Range(first, last)) => drop(write!(out, " {name} {first}-{last}")),
        }
    }
    if let Some((flags, mask)) = key.tcp_flags {
        let _ = write!(out, " tcp_flags {flags:#x}/{mask:x}");
    }
    Ok(out)
}

/// The length of a mask's prefix, which must be all of it.
fn prefix_len(mask: u128, ones: u32, width: u32) -> Result<u32, Unsayable> {
    let leading = (mask << (128 - width)).leading_ones();
    if leading == ones { Ok(ones) } else { Err(Unsayable(format!("flower with an address mask {mask:#x} with holes"))) }
}
