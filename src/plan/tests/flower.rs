//! Random flower keys, taken from frames so that they match, of every kind.

use std::net::{Ipv4Addr, Ipv6Addr};

use rand::Rng;
use rand::rngs::SmallRng;

use super::frames::{ADDRESSES, MACS, pick};
use crate::rules::flower::{FlowerArp, FlowerMpls, FlowerPppoe, FlowerVlan, MaskedMac};
use crate::rules::{FlowerKey, PortMatch};
use crate::types::{DeviceId, Protocol, ethertype, is_tag};

const BEHIND_TAGS: [u16; 4] = [ethertype::IPV4, ethertype::IPV4, ethertype::IPV6, ethertype::VLAN];

fn maybe<T>(rng: &mut SmallRng, p: f64, value: impl FnOnce(&mut SmallRng) -> T) -> Option<T> {
    if rng.gen_bool(p) { Some(value(rng)) } else { None }
}

/// A key for a filter of this protocol; values are already masked.
pub fn key(rng: &mut SmallRng, devices: u32, protocol: Protocol, sample: &[u8]) -> FlowerKey {
    let mut key = FlowerKey::default();
    let nested = is_tag(protocol.0) || [ethertype::PPP_SES, ethertype::HSR, ethertype::BATMAN].contains(&protocol.0);
    if nested {
        key.eth_type = maybe(rng, 0.5, |rng| pick(rng, &BEHIND_TAGS));
    } else if protocol != Protocol::ALL {
        key.eth_type = maybe(rng, 0.9, |_| protocol.0);
    }
    let ip4 = key.eth_type == Some(ethertype::IPV4) || rng.gen_bool(0.1);
    let ip6 = key.eth_type == Some(ethertype::IPV6) || rng.gen_bool(0.1);
    let is = |t: u16, rng: &mut SmallRng| protocol.0 == t || key.eth_type == Some(t) || rng.gen_bool(0.02);
    let (is_mpls, is_ppp) = (is(ethertype::MPLS_UC, rng), is(ethertype::PPP_SES, rng));
    let is_arp = is(ethertype::ARP, rng) || is(ethertype::RARP, rng);
    ip(rng, &mut key, ip4, ip6, sample);
    key.dst_mac = maybe(rng, 0.15, |rng| (pick(rng, &MACS), [0xff; 6]));
    key.src_mac = maybe(rng, 0.15, |rng| ([pick(rng, &MACS)[0], 0, 0, 0, 0, 0], [0xff, 0, 0, 0, 0, 0]));
    let more = key.more_mut();
    if is_tag(protocol.0) || rng.gen_bool(0.03) {
        more.vlan = [tag(rng, 0.3), tag(rng, 0.1)];
    }
    more.num_of_vlans = maybe(rng, 0.06, |rng| rng.gen_range(0..4));
    more.indev = maybe(rng, 0.04, |rng| DeviceId(rng.gen_range(0..devices)));
    if ip4 || ip6 {
        more.ip_tos = maybe(rng, 0.1, |rng| byte(rng, &[0, 1, 2, 4]));
        more.ip_ttl = maybe(rng, 0.1, |rng| byte(rng, &[64, 1]));
        more.ip_flags = maybe(rng, 0.15, |rng| {
            let mask = rng.gen_range(1..4);
            (rng.gen_range(0..4) & mask, mask)
        });
        more.icmp_type = maybe(rng, 0.08, |rng| byte(rng, &[0, 8, 128]));
        more.icmp_code = maybe(rng, 0.08, |rng| byte(rng, &[0, 1]));
    }
    if is_arp {
        more.arp = arp(rng);
    }
    if is_mpls {
        let depths = (1..=7).filter(|depth| rng.gen_bool(0.4 / f64::from(*depth))).collect::<Vec<u8>>();
        more.mpls = depths.into_iter().map(|depth| entry(rng, depth)).collect();
    }
    if is_ppp {
        more.pppoe = Some(FlowerPppoe {
            sid: maybe(rng, 0.5, |rng| rng.gen_range(5..7)),
            proto: maybe(rng, 0.5, |rng| pick(rng, &[0x0021, 0x0057, 0xc021])),
        });
    }
    key.settle();
    key
}

fn ip(rng: &mut SmallRng, key: &mut FlowerKey, ip4: bool, ip6: bool, sample: &[u8]) {
    let bytes = |at: usize| sample.get(at..at + 4).map_or([0; 4], |b| b.try_into().unwrap());
    let long = |at: usize| sample.get(at..at + 16).map_or([0; 16], |b| b.try_into().unwrap());
    let l4 = if ip4 { 34 } else { 54 };
    let ports: [u16; 2] = [0, 2].map(|i| u16::from_be_bytes([bytes(l4)[i], bytes(l4)[i + 1]]));
    if ip4 || ip6 {
        let proto = if ip4 { bytes(20)[3] } else { bytes(20)[0] };
        key.ip_proto =
            maybe(rng, 0.5, |rng| if rng.gen_bool(0.8) { proto } else { pick(rng, &[6, 17, 0, 1, 58, 137]) });
        key.src_port = maybe(rng, 0.25, |rng| port(rng, ports[0]));
        key.dst_port = maybe(rng, 0.35, |rng| port(rng, ports[1]));
        let flags = u16::from_be_bytes([bytes(l4 + 12)[0], bytes(l4 + 12)[1]]) & 0x0fff;
        key.tcp_flags = maybe(rng, 0.2, |rng| {
            let mask = pick(rng, &[0x0fff, 0x2, 0x17]);
            (flags & mask, mask)
        });
    }
    if ip4 {
        let address = |rng: &mut SmallRng, at: usize| {
            let (value, mask) = (u32::from_be_bytes(bytes(at)), pick(rng, &[u32::MAX, 0xffff_0000, 0xff00_00ff]));
            (Ipv4Addr::from(value & mask), Ipv4Addr::from(mask))
        };
        key.src_ipv4 = maybe(rng, 0.25, |rng| address(rng, 26));
        key.dst_ipv4 = maybe(rng, 0.25, |rng| address(rng, 30));
    } else if ip6 {
        let address = |rng: &mut SmallRng, at: usize| {
            let (value, mask) = (u128::from_be_bytes(long(at)), pick(rng, &[u128::MAX, u128::MAX << 96, 1]));
            (Ipv6Addr::from(value & mask), Ipv6Addr::from(mask))
        };
        let (src, dst) = (maybe(rng, 0.25, |rng| address(rng, 22)), maybe(rng, 0.25, |rng| address(rng, 38)));
        (key.ipv6_mut().src, key.ipv6_mut().dst) = (src, dst);
    }
    key.no_address = key.src_ipv4.is_none() && key.dst_ipv4.is_none() && key.ipv6.is_none() && rng.gen_bool(0.01);
}

fn tag(rng: &mut SmallRng, p: f64) -> FlowerVlan {
    FlowerVlan {
        id: maybe(rng, p, |rng| pick(rng, &[0, 100])),
        prio: maybe(rng, p, |rng| pick(rng, &[0, 3])),
        tpid: maybe(rng, p, |rng| pick(rng, &[ethertype::VLAN, ethertype::QINQ])),
        eth_type: maybe(rng, p, |rng| pick(rng, &BEHIND_TAGS)),
    }
}

fn entry(rng: &mut SmallRng, depth: u8) -> FlowerMpls {
    FlowerMpls {
        depth,
        label: maybe(rng, 0.5, |rng| pick(rng, &[16, 16, 17])),
        tc: maybe(rng, 0.3, |rng| pick(rng, &[0, 1])),
        bos: maybe(rng, 0.3, |rng| pick(rng, &[0, 1])),
        ttl: maybe(rng, 0.3, |rng| pick(rng, &[64, 64, 1])),
    }
}

fn arp(rng: &mut SmallRng) -> FlowerArp {
    let address = |rng: &mut SmallRng| {
        let mask = pick(rng, &[u32::MAX, 0xff00_0000]);
        (Ipv4Addr::from(u32::from_be_bytes(pick(rng, &ADDRESSES)) & mask), Ipv4Addr::from(mask))
    };
    let mac = |rng: &mut SmallRng| -> MaskedMac { (pick(rng, &MACS), [0xff; 6]) };
    FlowerArp {
        sip: maybe(rng, 0.2, address),
        tip: maybe(rng, 0.2, address),
        op: maybe(rng, 0.4, |rng| byte(rng, &[0, 1, 2])),
        sha: maybe(rng, 0.1, mac),
        tha: maybe(rng, 0.1, mac),
    }
}

fn byte(rng: &mut SmallRng, values: &[u8]) -> (u8, u8) {
    let mask = pick(rng, &[0xff, 0xff, 1]);
    (pick(rng, values) & mask, mask)
}

fn port(rng: &mut SmallRng, sample: u16) -> PortMatch {
    match rng.gen_range(0..4) {
        0 => PortMatch::Range(sample.saturating_sub(5), sample.saturating_add(5)),
        1 => PortMatch::Masked(sample & 0xff, 0xff),
        _ => PortMatch::Masked(sample, 0xffff),
    }
}
