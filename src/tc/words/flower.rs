//! The keys of flower as words, each behind what it needs: types of tags before what is behind them, protocols before ports.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::{Unsayable, protocol, quoted};
use crate::rules::flower::{FlowerArp, FlowerMore, FlowerMpls, MaskedMac, fragment};
use crate::rules::{FlowerKey, PortMatch};
use crate::tc::proto;
use crate::types::{MacAddr, ethertype};

/// The keys of flower, beside the filter's protocol; `indev` is the name of the device in them.
///
/// # Errors
/// Masks as tc never makes them, or another protocol than the filter's.
pub fn flower(key: &FlowerKey, filter_protocol: u16, indev: Option<&str>) -> Result<String, Unsayable> {
    let expected = (filter_protocol != ethertype::ALL).then_some(filter_protocol);
    if key.protocol() != expected {
        return Err(Unsayable("flower with another protocol than its filter's".to_owned()));
    }
    let none = FlowerMore::default();
    let more = key.more.as_deref().unwrap_or(&none);
    let mut out = String::new();
    if let Some(name) = indev {
        let _ = write!(out, " indev {}", quoted(name)?);
    }
    layers(more, &mut out);
    mac("dst_mac", key.dst_mac, &mut out);
    mac("src_mac", key.src_mac, &mut out);
    if let Some(number) = key.ip_proto {
        let _ = write!(out, " ip_proto {}", ip_protocol(number, key.eth_type));
    }
    for (name, pair) in [("ip_tos", more.ip_tos), ("ip_ttl", more.ip_ttl)] {
        if let Some((value, mask)) = pair {
            let _ = write!(out, " {name} {value}/{mask:x}");
        }
    }
    mpls(&more.mpls, &mut out);
    addresses(key, &mut out)?;
    for (name, port) in [("dst_port", key.dst_port), ("src_port", key.src_port)] {
        let _ = match port {
            None => Ok(()),
            Some(PortMatch::Masked(value, mask)) => write!(out, " {name} {value}/{mask:#x}"),
            Some(PortMatch::Range(first, last)) => write!(out, " {name} {first}-{last}"),
        };
    }
    if let Some((flags, mask)) = key.tcp_flags {
        let _ = write!(out, " tcp_flags {flags:#x}/{mask:x}");
    }
    for (name, pair) in [("type", more.icmp_type), ("code", more.icmp_code)] {
        if let Some((value, mask)) = pair {
            let _ = write!(out, " {name} {value}/{mask}");
        }
    }
    arp(&more.arp, &mut out)?;
    if let Some((value, mask)) = more.ip_flags {
        let flags = [("frag", fragment::IS_FRAGMENT), ("firstfrag", fragment::FIRST)];
        let words = flags.iter().filter(|(_, bit)| mask & bit != 0);
        let words = words.map(|(name, bit)| if value & bit == 0 { format!("no{name}") } else { (*name).to_owned() });
        let _ = write!(out, " ip_flags {}", words.collect::<Vec<_>>().join("/"));
    }
    Ok(out)
}

/// Tags and PPPoE.
fn layers(more: &FlowerMore, out: &mut String) {
    if let Some(count) = more.num_of_vlans {
        let _ = write!(out, " num_of_vlans {count}");
    }
    for (tag, name) in more.vlan.iter().zip(["vlan", "cvlan"]) {
        if let Some(id) = tag.id {
            let _ = write!(out, " {name}_id {id}");
        }
        if let Some(prio) = tag.prio {
            let _ = write!(out, " {name}_prio {prio}");
        }
        if let Some(behind) = tag.eth_type {
            let _ = write!(out, " {name}_ethtype {}", protocol(behind));
        }
    }
    let pppoe = more.pppoe.unwrap_or_default();
    if let Some(sid) = pppoe.sid {
        let _ = write!(out, " pppoe_sid {sid}");
    }
    if let Some(number) = pppoe.proto {
        let _ = write!(out, " ppp_proto {}", ppp_protocol(number));
    }
}

/// A name only where tc takes it: that of ICMP is for one family each.
fn ip_protocol(number: u8, eth_type: Option<u16>) -> String {
    match (number, eth_type) {
        (1, Some(ethertype::IPV4)) | (58, Some(ethertype::IPV6)) => proto::ip_name(number),
        (1 | 58, _) => format!("{number:02x}"),
        _ => proto::ip_name(number),
    }
}

fn ppp_protocol(number: u16) -> String {
    let name = proto::ppp_name(number);
    if name.starts_with('[') { format!("{number:#06x}") } else { name }
}

fn addresses(key: &FlowerKey, out: &mut String) -> Result<(), Unsayable> {
    let [src_ipv6, dst_ipv6] = key.addresses6();
    for (name, v4, v6) in [("dst_ip", key.dst_ipv4, dst_ipv6), ("src_ip", key.src_ipv4, src_ipv6)] {
        ipv4(name, v4, out)?;
        if let Some((address, mask)) = v6 {
            let bits = u128::from(mask);
            let _ = write!(out, " {name} {address}/{}", prefix_len(bits, bits.count_ones(), 128)?);
        }
    }
    match (key.no_address, key.eth_type) {
        (false, _) => {}
        (true, Some(ethertype::IPV4)) => out.push_str(" dst_ip 0.0.0.0/0"),
        (true, Some(ethertype::IPV6)) => out.push_str(" dst_ip ::/0"),
        (true, Some(_) | None) => return Err(Unsayable("flower with addresses of no protocol".to_owned())),
    }
    Ok(())
}

fn ipv4(name: &str, pair: Option<(Ipv4Addr, Ipv4Addr)>, out: &mut String) -> Result<(), Unsayable> {
    if let Some((address, mask)) = pair {
        let bits = u32::from(mask);
        let _ = write!(out, " {name} {address}/{}", prefix_len(bits.into(), bits.count_ones(), 32)?);
    }
    Ok(())
}

fn mac(name: &str, pair: Option<MaskedMac>, out: &mut String) {
    if let Some((value, mask)) = pair {
        let text = |b: [u8; 6]| MacAddr::new(b[0], b[1], b[2], b[3], b[4], b[5]);
        let _ = write!(out, " {name} {}/{}", text(value), text(mask));
    }
}

/// One outermost entry in the old form unless nothing of it is compared.
fn mpls(entries: &[FlowerMpls], out: &mut String) {
    let (start, name) = match entries {
        [] => return,
        [entry] if entry.depth == 1 && entry.word().1 != 0 => ("", "mpls_"),
        _ => (" mpls", ""),
    };
    out.push_str(start);
    for entry in entries {
        if name.is_empty() {
            let _ = write!(out, " lse depth {}", entry.depth);
        }
        let byte = |value: Option<u8>| value.map(u32::from);
        let parts =
            [("label", entry.label), ("tc", byte(entry.tc)), ("bos", byte(entry.bos)), ("ttl", byte(entry.ttl))];
        for (part, value) in parts {
            if let Some(value) = value {
                let _ = write!(out, " {name}{part} {value}");
            }
        }
    }
}

fn arp(arp: &FlowerArp, out: &mut String) -> Result<(), Unsayable> {
    ipv4("arp_tip", arp.tip, out)?;
    ipv4("arp_sip", arp.sip, out)?;
    if let Some((value, mask)) = arp.op {
        if value > 2 {
            return Err(Unsayable(format!("flower with the ARP operation {value}")));
        }
        let _ = write!(out, " arp_op {value}/{mask}");
    }
    mac("arp_tha", arp.tha, out);
    mac("arp_sha", arp.sha, out);
    Ok(())
}

/// The length of a mask's prefix, which must be all of it.
fn prefix_len(mask: u128, ones: u32, width: u32) -> Result<u32, Unsayable> {
    let leading = (mask << (128 - width)).leading_ones();
    if leading == ones { Ok(ones) } else { Err(Unsayable(format!("flower with an address mask {mask:#x} with holes"))) }
}
