//! `tc -p`: u32 keys in words, as far as tc knows them (`print_ipv4()`, `print_ipv6()`, tc/f_u32.c). It changes nothing.
//!
//! What tc has no words for it leaves out, and IPv6 it reads as if it were IPv4, with the ports' sides exchanged. So do we.

use std::net::Ipv4Addr;

use serde_json::{Map, Value, json};

use crate::rules::U32Key;
use crate::types::ethertype;

/// A key in words: its text, and its members in JSON.
pub(super) struct Words {
    pub text: String,
    pub json: Value,
}

/// The key in words, whatever its offset counts from; `None` if keys of this protocol are never told in words.
pub(super) fn words(protocol: u16, key: &U32Key) -> Option<Words> {
    if !matches!(protocol, ethertype::IPV4 | ethertype::IPV6) {
        return None;
    }
    let one = |text: String, name: &str, value: u32| Some((text, json!({name: value})));
    let known = match (key.offset, key.mask) {
        (0, 0x0f00_0000) => one(format!("\n  match IP ihl {}", key.value >> 24), "ip_ihl", key.value >> 24),
        (0, 0x00ff_0000) => {
            let field = key.value >> 16;
            let shown = if field == 0 { "0".to_owned() } else { format!("{field:#x}") };
            Some((format!("\n  match IP dsfield {shown}"), json!({"ip_dsfield": format!("{field:#x}")})))
        }
        (8, 0x00ff_0000) => one(format!("\n  match IP protocol {}", key.value >> 16), "ip_protocol", key.value >> 16),
        (12 | 16, mask) if mask.leading_ones() == mask.count_ones() => {
            let (side, bits) = (if key.offset == 12 { "src" } else { "dst" }, mask.count_ones());
            let address = Ipv4Addr::from(key.value).to_string();
            let text = format!("\n  match IP {side} {address}/{bits}");
            Some((text, json!({side: {"address": address, "prefixlen": bits}})))
        }
        (20, mask) => ports(protocol == ethertype::IPV4, key.value, mask),
        (_, _) => None,
    };
    let (text, json) = known.unwrap_or_else(|| (String::new(), Value::Object(Map::new())));
    Some(Words { text, json })
}

/// Of a single `dport` (IPv4: the low half; IPv6: the high one) tc begins no new line.
fn ports(v4: bool, value: u32, mask: u32) -> Option<(String, Value)> {
    let (high, low) = (value >> 16, value & 0xffff);
    match (v4, mask) {
        (true, 0x0000_ffff) => Some((format!("match dport {low}"), json!({"dport": low}))),
        (true, 0xffff_0000) => Some((format!("\n  match sport {high}"), json!({"sport": high}))),
        (true, 0xffff_ffff) => {
            Some((format!("\n  match dport {low}, match sport {high}"), json!({"dport": low, "sport": high})))
        }
        (false, 0x0000_ffff) => Some((format!("\n  match sport {low}"), json!({"sport": low}))),
        (false, 0xffff_0000) => Some((format!("match dport {high}"), json!({"dport": high}))),
        (false, 0xffff_ffff) => {
            Some((format!("\n  match sport {low}, match dport {high}"), json!({"sport": low, "dport": high})))
        }
        (_, _) => None,
    }
}
