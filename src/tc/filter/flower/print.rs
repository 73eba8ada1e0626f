//! The keys of a flower filter in tc's text and JSON. It reads no counter.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::super::super::proto;
use crate::rules::{FlowerKey, PortMatch};
use crate::types::MacAddr;

/// A key's value, the same for text and JSON except ports.
enum Shown {
    Text(String),
    /// Value and mask.
    Port(u16, u16),
    Range(u16, u16),
}

/// The lines of the keys, each with a newline before it (`flower_print_opt()`).
#[must_use]
pub fn text(key: &FlowerKey) -> String {
    let mut out = String::new();
    for (name, shown) in shown(key) {
        let _ = match shown {
            Shown::Text(text) => write!(out, "\n  {name} {text}"),
            Shown::Port(port, u16::MAX) => write!(out, "\n  {name} {port}"),
            Shown::Port(port, mask) => write!(out, "\n  {name} {port}/{mask:#x}"),
            Shown::Range(from, to) => write!(out, "\n  {name} {from}-{to}"),
        };
    }
    out
}

/// The object `keys`.
#[must_use]
pub fn json(key: &FlowerKey) -> Value {
    let mut map = Map::new();
    for (name, shown) in shown(key) {
        let value = match shown {
            Shown::Text(text) => Value::String(text),
            Shown::Port(port, mask) => {
                map.insert(name.to_owned(), port.into());
                map.extend((mask != u16::MAX).then(|| (format!("{name}_mask"), format!("{mask:x}").into())));
                continue;
            }
            Shown::Range(from, to) => json!({"start": from, "end": to}),
        };
        map.insert(name.to_owned(), value);
    }
    Value::Object(map)
}

/// What is printed, in tc's order.
fn shown(key: &FlowerKey) -> Vec<(&'static str, Shown)> {
    let mut list = Vec::new();
    let mut push = |name, text: Option<String>| list.extend(text.map(|t| (name, Shown::Text(t))));
    push("dst_mac", key.dst_mac.as_ref().map(mac));
    push("src_mac", key.src_mac.as_ref().map(mac));
    push("eth_type", key.eth_type.map(proto::eth_type_name));
    push("ip_proto", key.ip_proto.map(proto::ip_name));
    push("dst_ip", key.dst_ipv4.map(|(a, m)| address(&a.to_string(), u32::from(m).leading_ones(), 32)));
    push("src_ip", key.src_ipv4.map(|(a, m)| address(&a.to_string(), u32::from(m).leading_ones(), 32)));
    push("dst_ip", key.dst_ipv6.map(|(a, m)| address(&a.to_string(), u128::from(m).leading_ones(), 128)));
    push("src_ip", key.src_ipv6.map(|(a, m)| address(&a.to_string(), u128::from(m).leading_ones(), 128)));
    list.extend(key.dst_port.map(|p| ("dst_port", port(p))));
    list.extend(key.src_port.map(|p| ("src_port", port(p))));
    list.extend(key.tcp_flags.map(|(v, m)| ("tcp_flags", Shown::Text(format!("{v:#x}/{m:x}")))));
    list
}

fn address(text: &str, bits: u32, width: u32) -> String {
    if bits == width { text.to_owned() } else { format!("{text}/{bits}") }
}

fn port(port: PortMatch) -> Shown {
    match port {
        PortMatch::Masked(value, mask) => Shown::Port(value, mask),
        PortMatch::Range(from, to) => Shown::Range(from, to),
    }
}

/// `MAC`, `MAC/BITS`, or `MAC/MASK` for a mask with holes.
fn mac((value, mask): &([u8; 6], [u8; 6])) -> String {
    let text = |b: &[u8; 6]| MacAddr::new(b[0], b[1], b[2], b[3], b[4], b[5]).to_string();
    let bits = mask.iter().fold(0u64, |all, b| all << 8 | u64::from(*b));
    let (ones, zeros) = ((bits << 16).leading_ones(), bits.trailing_zeros().min(48));
    match ones {
        48 => text(value),
        _ if ones + zeros == 48 => format!("{}/{ones}", text(value)),
        _ => format!("{}/{}", text(value), text(mask)),
    }
}
