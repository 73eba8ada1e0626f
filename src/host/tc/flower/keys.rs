//! Keys of flower with a value and a mask: addresses, ports, flags, ICMP, ARP.

use super::super::Lacking;
use super::super::attr::{Attrs, Put};
use super::pair;
use crate::rules::flower::{FlowerArp, FlowerIpv6, fragment};
use crate::rules::{FlowerKey, PortMatch};
use crate::types::ethertype;

// A mask's attribute is the next one, but for ports.
const ETH_DST: u16 = 4;
const ETH_SRC: u16 = 6;
const IP_PROTO: u16 = 9;
const IPV4_SRC: u16 = 10;
const IPV4_DST: u16 = 12;
const IPV6_SRC: u16 = 14;
const IPV6_DST: u16 = 16;
const IP_FLAGS: u16 = 47;
/// Code and type, of ICMP and of ICMPv6.
const ICMP: [[u16; 2]; 2] = [[49, 51], [53, 55]];
const ARP_SIP: u16 = 57;
const ARP_TIP: u16 = 59;
const ARP_OP: u16 = 61;
const ARP_SHA: u16 = 63;
const ARP_THA: u16 = 65;
const TCP_FLAGS: u16 = 71;
const IP_TOS: u16 = 73;
const IP_TTL: u16 = 75;
/// Protocol, then value and mask of source and destination port.
const PORTS: [(u8, [u16; 4]); 3] = [(6, [18, 35, 19, 36]), (17, [20, 37, 21, 38]), (132, [41, 39, 42, 40])];
/// The first and last port of a range, of source and destination.
const RANGES: [[u16; 2]; 2] = [[87, 88], [89, 90]];

/// # Errors
/// A length is wrong, or something is compared that viscum has not.
pub(super) fn decode(attrs: &Attrs<'_>, key: &mut FlowerKey) -> Result<(), Lacking> {
    let mac = |kind| pair::<6, _>(attrs, (kind, kind + 1), |bytes| bytes);
    let v4 = |kind| pair::<4, _>(attrs, (kind, kind + 1), Into::into);
    let v6 = |kind| pair::<16, _>(attrs, (kind, kind + 1), Into::into);
    let byte = |kind| pair::<1, _>(attrs, (kind, kind + 1), |[byte]| byte);
    (key.src_mac, key.dst_mac) = (mac(ETH_SRC)?, mac(ETH_DST)?);
    key.ip_proto = attrs.u8(IP_PROTO)?;
    (key.src_ipv4, key.dst_ipv4) = (v4(IPV4_SRC)?, v4(IPV4_DST)?);
    *key.ipv6_mut() = FlowerIpv6 { src: v6(IPV6_SRC)?, dst: v6(IPV6_DST)? };
    (key.src_port, key.dst_port) = (port(attrs, 0)?, port(attrs, 1)?);
    key.tcp_flags = pair::<2, _>(attrs, (TCP_FLAGS, TCP_FLAGS + 1), u16::from_be_bytes)?;
    let given = [IPV4_SRC, IPV4_DST, IPV6_SRC, IPV6_DST].iter().any(|kind| attrs.get(*kind).is_some());
    let compared = key.src_ipv4.is_some() || key.dst_ipv4.is_some() || key.addresses6() != [None, None];
    key.no_address = given && !compared;
    let more = key.more_mut();
    (more.ip_tos, more.ip_ttl, more.ip_flags) = (byte(IP_TOS)?, byte(IP_TTL)?, ip_flags(attrs)?);
    for [code, of_type] in ICMP {
        more.icmp_code = more.icmp_code.or(byte(code)?);
        more.icmp_type = more.icmp_type.or(byte(of_type)?);
    }
    more.arp =
        FlowerArp { sip: v4(ARP_SIP)?, tip: v4(ARP_TIP)?, op: byte(ARP_OP)?, sha: mac(ARP_SHA)?, tha: mac(ARP_THA)? };
    Ok(())
}

fn ip_flags(attrs: &Attrs<'_>) -> Result<Option<(u8, u8)>, Lacking> {
    const ALL: u32 = (fragment::IS_FRAGMENT | fragment::FIRST) as u32;
    match pair::<4, _>(attrs, (IP_FLAGS, IP_FLAGS + 1), u32::from_be_bytes)? {
        Some((_, mask)) if mask & !ALL != 0 => Err(Lacking(format!("the flower key ip_flags with the bits {mask:#x}"))),
        found => Ok(found.map(|(value, mask)| ((value & ALL) as u8, mask as u8))),
    }
}

/// `end` is 0 for the source, 1 for the destination.
fn port(attrs: &Attrs<'_>, end: usize) -> Result<Option<PortMatch>, Lacking> {
    let mut exact = None;
    for (_, kinds) in PORTS {
        let found = pair::<2, _>(attrs, (kinds[2 * end], kinds[2 * end + 1]), u16::from_be_bytes)?;
        exact = exact.or(found);
    }
    let [first, last] = RANGES[end];
    match (exact, attrs.be16(first)?.zip(attrs.be16(last)?)) {
        (Some(_), Some(_)) => Err(Lacking("a flower port both by value and as a range".to_owned())),
        (Some((value, mask)), None) => Ok(Some(PortMatch::Masked(value, mask))),
        (None, range) => Ok(range.map(|(first, last)| PortMatch::Range(first, last))),
    }
}

/// # Errors
/// Ports beside a protocol that has none.
pub(super) fn encode(key: &FlowerKey, put: &mut Put) -> Result<(), Lacking> {
    let mut pair = |kind: u16, value: &[u8], mask: &[u8]| {
        put.bytes(kind, value).bytes(kind + 1, mask);
    };
    for (kind, field) in [(ETH_DST, key.dst_mac), (ETH_SRC, key.src_mac)] {
        field.iter().for_each(|(value, mask)| pair(kind, value, mask));
    }
    for (kind, field) in [(IPV4_SRC, key.src_ipv4), (IPV4_DST, key.dst_ipv4)] {
        field.iter().for_each(|(value, mask)| pair(kind, &value.octets(), &mask.octets()));
    }
    let [src, dst] = key.addresses6();
    for (kind, field) in [(IPV6_SRC, src), (IPV6_DST, dst)] {
        field.iter().for_each(|(value, mask)| pair(kind, &value.octets(), &mask.octets()));
    }
    if key.no_address {
        pair(IPV4_DST, &[0; 4], &[0; 4]);
    }
    if let Some((value, mask)) = key.tcp_flags {
        pair(TCP_FLAGS, &value.to_be_bytes(), &mask.to_be_bytes());
    }
    if let Some(protocol) = key.ip_proto {
        put.u8(IP_PROTO, protocol);
    }
    for (end, port) in [key.src_port, key.dst_port].into_iter().enumerate() {
        match port {
            None => {}
            Some(PortMatch::Range(first, last)) => {
                put.be16(RANGES[end][0], first).be16(RANGES[end][1], last);
            }
            Some(PortMatch::Masked(value, mask)) => {
                let known = PORTS.iter().find(|(protocol, _)| key.ip_proto == Some(*protocol));
                let (_, kinds) =
                    known.ok_or_else(|| Lacking("a flower port without ip_proto tcp, udp or sctp".to_owned()))?;
                put.be16(kinds[2 * end], value).be16(kinds[2 * end + 1], mask);
            }
        }
    }
    encode_more(key, put);
    Ok(())
}

fn encode_more(key: &FlowerKey, put: &mut Put) {
    let Some(more) = &key.more else { return };
    let mut pair = |kind: u16, value: &[u8], mask: &[u8]| {
        put.bytes(kind, value).bytes(kind + 1, mask);
    };
    let [code, of_type] = ICMP[usize::from(key.eth_type == Some(ethertype::IPV6))];
    let bytes = [
        (IP_TOS, more.ip_tos),
        (IP_TTL, more.ip_ttl),
        (code, more.icmp_code),
        (of_type, more.icmp_type),
        (ARP_OP, more.arp.op),
    ];
    for (kind, field) in bytes {
        field.iter().for_each(|(value, mask)| pair(kind, &[*value], &[*mask]));
    }
    if let Some((value, mask)) = more.ip_flags {
        pair(IP_FLAGS, &u32::from(value).to_be_bytes(), &u32::from(mask).to_be_bytes());
    }
    for (kind, field) in [(ARP_SIP, more.arp.sip), (ARP_TIP, more.arp.tip)] {
        field.iter().for_each(|(value, mask)| pair(kind, &value.octets(), &mask.octets()));
    }
    for (kind, field) in [(ARP_SHA, more.arp.sha), (ARP_THA, more.arp.tha)] {
        field.iter().for_each(|(value, mask)| pair(kind, value, mask));
    }
}
