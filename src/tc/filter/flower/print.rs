//! The keys of a flower filter in tc's text and JSON (`flower_print_opt()`, tc/f_flower.c). It reads no counter.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use serde_json::{Map, Value, json};

use super::super::super::number::classid_text;
use super::super::super::proto;
use crate::rules::FlowerKey;
use crate::rules::flower::{FlowerMore, FlowerMpls, MaskedMac, PortMatch, fragment};
use crate::types::{MacAddr, ethertype};

/// `TC_H_MIN_PRIORITY`: the minor number of the first traffic class of a device.
pub(super) const HW_TC_FIRST: u32 = 0xffe0;

/// A key's value.
enum Shown {
    /// The same words in text and JSON.
    Text(String),
    /// The same, but a number in JSON.
    Number(u32),
    /// Value and mask, the mask in hex, and in JSON a member of its own.
    Masked {
        value: u32,
        mask: u32,
        all: u32,
    },
    Range(u16, u16),
    Mpls(Vec<FlowerMpls>),
    /// Value and mask of `ip_flags`.
    Flags(u8, u8),
}

/// `classid 1:1`, or `hw_tc N` for the class of a device's traffic class: the word and its value.
#[must_use]
pub fn classid_words(id: u32) -> (&'static str, Value) {
    match (id & 0xffff).checked_sub(HW_TC_FIRST) {
        Some(tc) if tc < 16 => ("hw_tc", tc.into()),
        Some(_) | None => ("classid", classid_text(id).into()),
    }
}

/// The lines of the keys, each with a newline before it. `indev` is the device's name.
#[must_use]
pub fn text(key: &FlowerKey, indev: Option<&str>) -> String {
    let mut out = indev.map_or(String::new(), |name| format!("\n  indev {name}"));
    for (name, shown) in shown(key) {
        let _ = match shown {
            Shown::Text(text) => write!(out, "\n  {name} {text}"),
            Shown::Number(number) => write!(out, "\n  {name} {number}"),
            Shown::Masked { value, mask, all } if mask == all => write!(out, "\n  {name} {value}"),
            Shown::Masked { value, mask, .. } => write!(out, "\n  {name} {value}/{mask:#x}"),
            Shown::Range(from, to) => write!(out, "\n  {name} {from}-{to}"),
            Shown::Mpls(entries) => {
                out.push_str("\n  mpls");
                for entry in entries {
                    out.push_str("\n    lse");
                    for (name, value) in lse(&entry) {
                        let _ = write!(out, " {name} {value}");
                    }
                }
                Ok(())
            }
            Shown::Flags(value, mask) => {
                let words = flags(value, mask).map(|(name, on)| if on { name.to_owned() } else { format!("no{name}") });
                write!(out, "\n  {name} {}", words.collect::<Vec<_>>().join("/"))
            }
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
            Shown::Number(number) => number.into(),
            Shown::Masked { value, mask, all } => {
                map.insert(name.to_owned(), value.into());
                map.extend((mask != all).then(|| (format!("{name}_mask"), format!("{mask:x}").into())));
                continue;
            }
            Shown::Range(from, to) => json!({"start": from, "end": to}),
            Shown::Mpls(entries) => {
                let object = |entry| lse(entry).map(|(name, value)| (name.to_owned(), Value::from(value)));
                entries.iter().map(|entry| object(entry).collect::<Map<_, _>>()).map(Value::Object).collect()
            }
            Shown::Flags(value, mask) => {
                Value::Object(flags(value, mask).map(|(name, on)| (name.to_owned(), on.into())).collect())
            }
        };
        map.insert(name.to_owned(), value);
    }
    Value::Object(map)
}

/// What is printed, in tc's order.
fn shown(key: &FlowerKey) -> Vec<(&'static str, Shown)> {
    let none = FlowerMore::default();
    let more = key.more.as_deref().unwrap_or(&none);
    let mut list = Vec::new();
    tags(key, more, &mut list);
    let mut push = |name, text: Option<String>| list.extend(text.map(|t| (name, Shown::Text(t))));
    push("dst_mac", key.dst_mac.map(mac));
    push("src_mac", key.src_mac.map(mac));
    push("eth_type", key.eth_type.map(proto::eth_type_name));
    push("ip_proto", key.ip_proto.map(proto::ip_name));
    let masked = |(value, mask): (u8, u8)| Shown::Masked { value: value.into(), mask: mask.into(), all: 0xff };
    list.extend(more.ip_tos.map(|pair| ("ip_tos", masked(pair))));
    list.extend(more.ip_ttl.map(|pair| ("ip_ttl", masked(pair))));
    mpls(more, &mut list);
    let mut push = |name, text: Option<String>| list.extend(text.map(|t| (name, Shown::Text(t))));
    let is = |eth_type| key.eth_type == Some(eth_type);
    if is(ethertype::IPV4) {
        push("dst_ip", key.dst_ipv4.map(ipv4));
        push("src_ip", key.src_ipv4.map(ipv4));
    } else if is(ethertype::IPV6) {
        let [src, dst] = key.addresses6();
        push("dst_ip", dst.map(|(a, m)| address(&a.to_string(), u128::from(m).leading_ones(), 128)));
        push("src_ip", src.map(|(a, m)| address(&a.to_string(), u128::from(m).leading_ones(), 128)));
    }
    let is_exact = |port: &Option<PortMatch>| matches!(port, Some(PortMatch::Masked(..)));
    let ports = [("dst_port", key.dst_port), ("src_port", key.src_port)];
    list.extend(ports.iter().filter(|(_, p)| is_exact(p)).filter_map(|(name, p)| Some((*name, port((*p)?)))));
    list.extend(ports.iter().filter(|(_, p)| !is_exact(p)).filter_map(|(name, p)| Some((*name, port((*p)?)))));
    list.extend(key.tcp_flags.map(|(v, m)| ("tcp_flags", Shown::Text(format!("{v:#x}/{m:x}")))));
    upper(more, &mut list);
    list
}

fn tags(key: &FlowerKey, more: &FlowerMore, list: &mut Vec<(&'static str, Shown)>) {
    let [vlan, cvlan] = &more.vlan;
    // fl_dump_key(): the types are told only where the last of them is compared.
    let inner = key.eth_type.filter(|_| cvlan.eth_type.is_some());
    let outer = vlan.eth_type.filter(|_| key.eth_type.is_some() && inner.is_none());
    let number = |n: u16| Shown::Number(n.into());
    let name = |t: u16| Shown::Text(proto::link_name(t));
    list.extend(more.num_of_vlans.map(|n| ("num_of_vlans", Shown::Number(n.into()))));
    list.extend(vlan.id.map(|id| ("vlan_id", number(id))));
    list.extend(vlan.prio.map(|prio| ("vlan_prio", number(prio.into()))));
    list.extend(outer.or(cvlan.tpid).map(|t| ("vlan_ethtype", name(t))));
    list.extend(cvlan.id.map(|id| ("cvlan_id", number(id))));
    list.extend(cvlan.prio.map(|prio| ("cvlan_prio", number(prio.into()))));
    list.extend(inner.map(|t| ("cvlan_ethtype", name(t))));
}

/// One outermost entry in the old form unless nothing of it is compared (`fl_dump_key_mpls()`).
fn mpls(more: &FlowerMore, list: &mut Vec<(&'static str, Shown)>) {
    let outermost = match more.mpls.as_slice() {
        [] => return,
        [entry] if entry.depth == 1 && entry.word().1 != 0 => entry,
        entries => return list.push(("mpls", Shown::Mpls(entries.to_vec()))),
    };
    list.extend(outermost.label.map(|label| ("mpls_label", Shown::Number(label))));
    for (name, value) in [("mpls_tc", outermost.tc), ("mpls_bos", outermost.bos), ("mpls_ttl", outermost.ttl)] {
        list.extend(value.map(|v| (name, Shown::Text(v.to_string()))));
    }
}

fn lse(entry: &FlowerMpls) -> impl Iterator<Item = (&'static str, u32)> + use<> {
    let byte = |value: Option<u8>| value.map(u32::from);
    let parts = [
        ("depth", Some(entry.depth.into())),
        ("label", entry.label),
        ("tc", byte(entry.tc)),
        ("bos", byte(entry.bos)),
        ("ttl", byte(entry.ttl)),
    ];
    parts.into_iter().filter_map(|(name, value)| Some((name, value?)))
}

/// ICMP, ARP, PPPoE and `ip_flags`.
fn upper(more: &FlowerMore, list: &mut Vec<(&'static str, Shown)>) {
    let mut push = |name, text: Option<String>| list.extend(text.map(|t| (name, Shown::Text(t))));
    push("icmp_type", more.icmp_type.map(decimal));
    push("icmp_code", more.icmp_code.map(decimal));
    let arp = &more.arp;
    push("arp_sip", arp.sip.map(ipv4));
    push("arp_tip", arp.tip.map(ipv4));
    push(
        "arp_op",
        arp.op.map(|pair| match pair {
            (1, 0xff) => "request".to_owned(),
            (2, 0xff) => "reply".to_owned(),
            other => decimal(other),
        }),
    );
    push("arp_sha", arp.sha.map(mac));
    push("arp_tha", arp.tha.map(mac));
    let pppoe = more.pppoe.unwrap_or_default();
    list.extend(pppoe.sid.map(|sid| ("pppoe_sid", Shown::Number(sid.into()))));
    list.extend(pppoe.proto.map(|p| ("ppp_proto", Shown::Text(proto::ppp_name(p)))));
    list.extend(more.ip_flags.map(|(value, mask)| ("ip_flags", Shown::Flags(value, mask))));
}

/// The flags that are compared, and whether they must be set.
fn flags(value: u8, mask: u8) -> impl Iterator<Item = (&'static str, bool)> {
    let all = [("frag", fragment::IS_FRAGMENT), ("firstfrag", fragment::FIRST)];
    all.into_iter().filter(move |(_, bit)| mask & bit != 0).map(move |(name, bit)| (name, value & bit != 0))
}

/// `VALUE` or `VALUE/MASK`, both decimal.
fn decimal((value, mask): (u8, u8)) -> String {
    if mask == u8::MAX { value.to_string() } else { format!("{value}/{mask}") }
}

fn ipv4((a, mask): (Ipv4Addr, Ipv4Addr)) -> String {
    address(&a.to_string(), u32::from(mask).leading_ones(), 32)
}

fn address(text: &str, bits: u32, width: u32) -> String {
    if bits == width { text.to_owned() } else { format!("{text}/{bits}") }
}

fn port(port: PortMatch) -> Shown {
    match port {
        PortMatch::Masked(value, mask) => Shown::Masked { value: value.into(), mask: mask.into(), all: 0xffff },
        PortMatch::Range(from, to) => Shown::Range(from, to),
    }
}

/// `MAC`, `MAC/BITS`, or `MAC/MASK` for a mask with holes.
fn mac((value, mask): MaskedMac) -> String {
    let text = |b: [u8; 6]| MacAddr::new(b[0], b[1], b[2], b[3], b[4], b[5]).to_string();
    let bits = mask.iter().fold(0u64, |all, b| all << 8 | u64::from(*b));
    let (ones, zeros) = ((bits << 16).leading_ones(), bits.trailing_zeros().min(48));
    match ones {
        48 => text(value),
        _ if ones + zeros == 48 => format!("{}/{ones}", text(value)),
        _ => format!("{}/{}", text(value), text(mask)),
    }
}
