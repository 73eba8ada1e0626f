//! flower filters: what a frame is compared with (`struct fl_flow_key` with its mask, net/sched/cls_flower.c). Plain data.
//!
//! What is seldom used is kept in boxes, since there may be a million rules.

mod fields;

pub use fields::{FlowerField, NEVER_FAMILY};

use std::net::{Ipv4Addr, Ipv6Addr};

use super::ActionId;
use crate::types::{DeviceId, ethertype};

/// Labels of an MPLS stack that are looked at: `FLOW_DIS_MPLS_MAX`, include/net/flow_dissector.h.
pub const MPLS_DEPTH_MAX: usize = 7;

/// A flower filter: every key that is given must match.
#[derive(Clone, Debug)]
pub struct FlowerRule {
    /// Its handle, 1, 2, … unless given.
    pub handle: u32,
    /// What it compares.
    pub key: FlowerKey,
    /// `classid`.
    pub classid: Option<u32>,
    /// Executed in order on a match.
    pub actions: Vec<ActionId>,
    /// Base of its counter words.
    pub counters: u32,
}

/// A MAC address and a mask.
pub type MaskedMac = ([u8; 6], [u8; 6]);

/// The keys of a flower filter. `None`: not compared; a mask is never 0. [`FlowerKey::masked`] has no bits outside its masks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowerKey {
    /// The type that the dissector ends at: the filter's protocol unless that is `all` or a VLAN tag, or what
    /// `vlan_ethtype`, `cvlan_ethtype` or `ppp_proto` say is behind it.
    pub eth_type: Option<u16>,
    /// `ip_proto`.
    pub ip_proto: Option<u8>,
    /// Addresses were given, but all with prefix length 0: the kernel then wants a family of addresses that it does not look for
    /// (`fl_init_dissector()`), and no frame matches.
    pub no_address: bool,
    /// `src_ip` / `dst_ip` of IPv4: value and mask.
    pub src_ipv4: Option<(Ipv4Addr, Ipv4Addr)>,
    /// See `src_ipv4`.
    pub dst_ipv4: Option<(Ipv4Addr, Ipv4Addr)>,
    /// `src_port`.
    pub src_port: Option<PortMatch>,
    /// `dst_port`.
    pub dst_port: Option<PortMatch>,
    /// `tcp_flags`: value and mask, 12 bits.
    pub tcp_flags: Option<(u16, u16)>,
    /// `src_mac`: value and mask.
    pub src_mac: Option<MaskedMac>,
    /// `dst_mac`: value and mask.
    pub dst_mac: Option<MaskedMac>,
    /// `src_ip` / `dst_ip` of IPv6. Never a box of nothing.
    pub ipv6: Option<Box<FlowerIpv6>>,
    /// All other keys. Never a box of nothing.
    pub more: Option<Box<FlowerMore>>,
}

/// Addresses of IPv6: value and mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowerIpv6 {
    /// `src_ip`.
    pub src: Option<(Ipv6Addr, Ipv6Addr)>,
    /// `dst_ip`.
    pub dst: Option<(Ipv6Addr, Ipv6Addr)>,
}

/// Keys that few rules have; value and mask where there are two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowerMore {
    /// `indev D`: only frames that came in by this device.
    pub indev: Option<DeviceId>,
    /// `num_of_vlans`.
    pub num_of_vlans: Option<u8>,
    /// `vlan_…` and `cvlan_…`: the outer and the next tag.
    pub vlan: [FlowerVlan; 2],
    /// `ip_tos`: the TOS byte, or the traffic class.
    pub ip_tos: Option<(u8, u8)>,
    /// `ip_ttl`: TTL, or hop limit.
    pub ip_ttl: Option<(u8, u8)>,
    /// `ip_flags`: bits of [`fragment`].
    pub ip_flags: Option<(u8, u8)>,
    /// `type` of ICMP and ICMPv6.
    pub icmp_type: Option<(u8, u8)>,
    /// `code`.
    pub icmp_code: Option<(u8, u8)>,
    /// `arp_…`.
    pub arp: FlowerArp,
    /// `mpls_…` or `mpls lse …`, sorted by depth.
    pub mpls: Vec<FlowerMpls>,
    /// `pppoe_sid` and `ppp_proto`; also without either when the protocol is `ppp_ses`.
    pub pppoe: Option<FlowerPppoe>,
}

/// Bits of `ip_flags` (`FLOW_DIS_*`, include/net/flow_dissector.h).
pub mod fragment {
    /// `frag`: it is part of a datagram.
    pub const IS_FRAGMENT: u8 = 1;
    /// `firstfrag`: and the first.
    pub const FIRST: u8 = 2;
}

/// What is compared of one VLAN tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowerVlan {
    /// `vlan_id`, 12 bits.
    pub id: Option<u16>,
    /// `vlan_prio`, 0..=7.
    pub prio: Option<u8>,
    /// The tag's own protocol identifier.
    pub tpid: Option<u16>,
    /// `vlan_ethtype`: the type behind the tag.
    pub eth_type: Option<u16>,
}

/// What is compared of an ARP request or reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowerArp {
    /// `arp_sip`.
    pub sip: Option<(Ipv4Addr, Ipv4Addr)>,
    /// `arp_tip`.
    pub tip: Option<(Ipv4Addr, Ipv4Addr)>,
    /// `arp_op`.
    pub op: Option<(u8, u8)>,
    /// `arp_sha`.
    pub sha: Option<MaskedMac>,
    /// `arp_tha`.
    pub tha: Option<MaskedMac>,
}

/// What is compared of one entry of a label stack. The entry must be there even if nothing of it is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowerMpls {
    /// 1: the outermost.
    pub depth: u8,
    /// 20 bits.
    pub label: Option<u32>,
    /// Traffic class, 3 bits.
    pub tc: Option<u8>,
    /// Bottom of stack.
    pub bos: Option<u8>,
    /// Time to live.
    pub ttl: Option<u8>,
}

/// What is compared of a PPPoE session frame, which it must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowerPppoe {
    /// `pppoe_sid`.
    pub sid: Option<u16>,
    /// `ppp_proto`.
    pub proto: Option<u16>,
}

/// A flower port: masked, or a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortMatch {
    /// `80` or `80/0xfff0`: value and mask.
    Masked(u16, u16),
    /// `8000-9000`: both ends included.
    Range(u16, u16),
}

/// The type behind a PPP protocol (`fl_set_key_pppoe()`).
#[must_use]
pub const fn behind_ppp(proto: u16) -> Option<u16> {
    match proto {
        0x0021 => Some(ethertype::IPV4),
        0x0057 => Some(ethertype::IPV6),
        0x0281 => Some(ethertype::MPLS_UC),
        0x0283 => Some(ethertype::MPLS_MC),
        _ => None,
    }
}

impl FlowerMpls {
    /// The whole entry as value and mask, as on the wire.
    #[must_use]
    pub fn word(&self) -> (u32, u32) {
        let parts = [
            (self.label, 0xfffff, 12),
            (self.tc.map(u32::from), 7, 9),
            (self.bos.map(u32::from), 1, 8),
            (self.ttl.map(u32::from), 0xff, 0),
        ];
        parts.iter().fold((0, 0), |(value, mask), (part, bits, shift)| match part {
            Some(part) => (value | part << shift, mask | bits << shift),
            None => (value, mask),
        })
    }
}

impl FlowerKey {
    /// The box of rare keys, made if it is not there. Follow it by [`FlowerKey::settle`].
    pub fn more_mut(&mut self) -> &mut FlowerMore {
        self.more.get_or_insert_default()
    }

    /// The box of IPv6 addresses, made if it is not there. Follow it by [`FlowerKey::settle`].
    pub fn ipv6_mut(&mut self) -> &mut FlowerIpv6 {
        self.ipv6.get_or_insert_default()
    }

    /// Drops boxes of nothing, so that equal keys are equal.
    pub fn settle(&mut self) {
        self.more = self.more.take().filter(|more| **more != FlowerMore::default());
        self.ipv6 = self.ipv6.take().filter(|ipv6| **ipv6 != FlowerIpv6::default());
    }

    /// The protocol of the filter that has this key: the type of the outer tag, of a PPPoE frame, or else what the key ends at.
    /// `None`: all.
    #[must_use]
    pub fn protocol(&self) -> Option<u16> {
        let Some(more) = &self.more else { return self.eth_type };
        let outer = more.vlan[0];
        if outer != FlowerVlan::default() || more.num_of_vlans.is_some_and(|count| count > 0) {
            return outer.tpid;
        }
        if more.pppoe.is_some() { Some(ethertype::PPP_SES) } else { self.eth_type }
    }

    /// The addresses of IPv6, source first.
    #[must_use]
    pub fn addresses6(&self) -> [Option<(Ipv6Addr, Ipv6Addr)>; 2] {
        self.ipv6.as_ref().map_or([None, None], |ipv6| [ipv6.src, ipv6.dst])
    }

    /// The same key without the bits that are not compared (`fl_set_masked_key()`).
    #[must_use]
    pub fn masked(&self) -> Self {
        let port = |p: PortMatch| match p {
            PortMatch::Masked(value, mask) => PortMatch::Masked(value & mask, mask),
            PortMatch::Range(from, to) => PortMatch::Range(from, to),
        };
        Self {
            eth_type: self.eth_type,
            ip_proto: self.ip_proto,
            no_address: self.no_address,
            src_ipv4: self.src_ipv4.map(ipv4),
            dst_ipv4: self.dst_ipv4.map(ipv4),
            src_port: self.src_port.map(port),
            dst_port: self.dst_port.map(port),
            tcp_flags: self.tcp_flags.map(|(v, m)| (v & m, m)),
            src_mac: self.src_mac.map(mac),
            dst_mac: self.dst_mac.map(mac),
            ipv6: self.ipv6.as_ref().map(|pair| {
                let masked = |(a, m): (Ipv6Addr, Ipv6Addr)| (a & m, m);
                Box::new(FlowerIpv6 { src: pair.src.map(masked), dst: pair.dst.map(masked) })
            }),
            more: self.more.as_ref().map(|more| Box::new(more.masked())),
        }
    }
}

impl FlowerMore {
    fn masked(&self) -> Self {
        let byte = |(value, mask): (u8, u8)| (value & mask, mask);
        let arp = &self.arp;
        Self {
            indev: self.indev,
            num_of_vlans: self.num_of_vlans,
            vlan: self.vlan,
            ip_tos: self.ip_tos.map(byte),
            ip_ttl: self.ip_ttl.map(byte),
            ip_flags: self.ip_flags.map(byte),
            icmp_type: self.icmp_type.map(byte),
            icmp_code: self.icmp_code.map(byte),
            arp: FlowerArp {
                sip: arp.sip.map(ipv4),
                tip: arp.tip.map(ipv4),
                op: arp.op.map(byte),
                sha: arp.sha.map(mac),
                tha: arp.tha.map(mac),
            },
            mpls: self.mpls.clone(),
            pppoe: self.pppoe,
        }
    }
}

fn ipv4((address, mask): (Ipv4Addr, Ipv4Addr)) -> (Ipv4Addr, Ipv4Addr) {
    (address & mask, mask)
}

fn mac((address, mask): MaskedMac) -> MaskedMac {
    (std::array::from_fn(|i| address[i] & mask[i]), mask)
}

// A million rules are kept twice each, as written and masked.
const _: () = assert!(size_of::<FlowerKey>() <= 96);
