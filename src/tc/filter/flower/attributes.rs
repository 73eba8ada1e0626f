//! What tc tells the kernel about a flower filter, and what the kernel makes of it: `fl_set_key()`, net/sched/cls_flower.c.
//!
//! Of an attribute that is given twice the last counts; one that does not belong to the protocol is ignored.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::rules::flower::{
    FlowerArp, FlowerMpls, FlowerPppoe, FlowerVlan, MPLS_DEPTH_MAX, MaskedMac, PortMatch, behind_ppp,
};
use crate::rules::{FlowerKey, flower::FlowerMore};
use crate::tc::error::TcError;
use crate::types::{ethertype, is_tag};

/// `TCA_FLOWER_KEY_*` that a command gives: values as written, with their masks.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    pub eth_type: Option<u16>,
    pub num_of_vlans: Option<u8>,
    /// `vlan_…` and `cvlan_…`; their `tpid` is not theirs to give.
    pub vlan: [FlowerVlan; 2],
    /// `mpls_…`.
    pub mpls_old: Option<FlowerMpls>,
    /// `mpls lse …`, as said.
    pub mpls_new: Option<Vec<Lse>>,
    pub pppoe: FlowerPppoe,
    pub dst_mac: Option<MaskedMac>,
    pub src_mac: Option<MaskedMac>,
    pub ip_proto: Option<u8>,
    pub ip_tos: Option<(u8, u8)>,
    pub ip_ttl: Option<(u8, u8)>,
    pub ip_flags: Option<(u8, u8)>,
    /// Source, destination.
    pub ipv4: [Option<(Ipv4Addr, Ipv4Addr)>; 2],
    pub ipv6: [Option<(Ipv6Addr, Ipv6Addr)>; 2],
    /// Of TCP, UDP and SCTP: source, destination.
    pub ports: [[Given; 2]; 3],
    /// Source, destination: first and last port.
    pub ranges: [Option<(u16, u16)>; 2],
    pub tcp_flags: Option<(u16, u16)>,
    /// Type and code, of ICMP and of ICMPv6.
    pub icmp: [[Option<(u8, u8)>; 2]; 2],
    pub arp: FlowerArp,
    /// An attribute has a length that is not its own: `dst_ip any`.
    pub out_of_range: bool,
}

/// A port of which only the value may have been given: the mask is then that of an earlier one, or all ones.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Given {
    pub value: Option<u16>,
    pub mask: Option<u16>,
}

/// `lse depth N …`.
#[derive(Debug)]
pub(super) struct Lse(pub FlowerMpls);

impl Attributes {
    /// The key, values as written.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn key(&self) -> Result<FlowerKey, TcError> {
        if self.out_of_range {
            let hint = "leave an address out that may be any";
            return Err(TcError::errno("Numerical result out of range", hint));
        }
        let mut key = FlowerKey { dst_mac: mac(self.dst_mac), src_mac: mac(self.src_mac), ..FlowerKey::default() };
        let mut more = FlowerMore { num_of_vlans: self.num_of_vlans, ..FlowerMore::default() };
        self.tags(&mut key, &mut more);
        if key.eth_type == Some(ethertype::PPP_SES) {
            key.eth_type = self.pppoe.proto.map(|proto| behind_ppp(proto).unwrap_or(ethertype::PPP_SES));
            more.pppoe = Some(self.pppoe);
        }
        if matches!(key.eth_type, Some(ethertype::IPV4 | ethertype::IPV6)) {
            key.ip_proto = self.ip_proto;
            more.ip_tos = byte(self.ip_tos);
            more.ip_ttl = byte(self.ip_ttl);
        }
        self.addresses(&mut key);
        self.upper(&mut key, &mut more)?;
        more.ip_flags = byte(self.ip_flags);
        key.more = Some(Box::new(more));
        key.settle();
        Ok(key)
    }

    /// `is_vlan_key()` and `fl_set_key_vlan()`, for both tags.
    fn tags(&self, key: &mut FlowerKey, more: &mut FlowerMore) {
        let mut eth_type = self.eth_type;
        for (index, tag) in self.vlan.iter().enumerate() {
            let enough = usize::from(self.num_of_vlans.unwrap_or(0)) > index;
            match eth_type {
                Some(other) if !enough && !is_tag(other) => {
                    key.eth_type = eth_type;
                    return;
                }
                None if !enough => return,
                Some(_) | None => {}
            }
            more.vlan[index] = FlowerVlan { tpid: eth_type.filter(|t| *t != 0), ..*tag };
            eth_type = tag.eth_type;
        }
        key.eth_type = eth_type;
    }

    fn addresses(&self, key: &mut FlowerKey) {
        let given4 = self.ipv4.iter().any(Option::is_some);
        let given6 = !given4 && self.ipv6.iter().any(Option::is_some);
        if given4 {
            let [src, dst] = self.ipv4.map(|a| a.filter(|(_, mask)| !mask.is_unspecified()));
            (key.src_ipv4, key.dst_ipv4) = (src, dst);
            key.no_address = src.is_none() && dst.is_none();
        } else if given6 {
            let [src, dst] = self.ipv6.map(|a| a.filter(|(_, mask)| !mask.is_unspecified()));
            let pair = key.ipv6_mut();
            (pair.src, pair.dst) = (src, dst);
            key.no_address = src.is_none() && dst.is_none();
        }
    }

    /// What is behind the network header, by its protocol; MPLS and ARP.
    fn upper(&self, key: &mut FlowerKey, more: &mut FlowerMore) -> Result<(), TcError> {
        let kind = match (key.ip_proto, key.eth_type) {
            (Some(6), _) => Some(0),
            (Some(17), _) => Some(1),
            (Some(132), _) => Some(2),
            (Some(1), Some(ethertype::IPV4)) => {
                [more.icmp_type, more.icmp_code] = self.icmp[0].map(byte);
                None
            }
            (Some(58), Some(ethertype::IPV6)) => {
                [more.icmp_type, more.icmp_code] = self.icmp[1].map(byte);
                None
            }
            (_, Some(ethertype::MPLS_UC | ethertype::MPLS_MC)) => {
                more.mpls = self.mpls()?;
                None
            }
            (_, Some(ethertype::ARP | ethertype::RARP)) => {
                let address = |a: Option<(Ipv4Addr, Ipv4Addr)>| a.filter(|(_, mask)| !mask.is_unspecified());
                more.arp = FlowerArp {
                    sip: address(self.arp.sip),
                    tip: address(self.arp.tip),
                    op: byte(self.arp.op),
                    sha: mac(self.arp.sha),
                    tha: mac(self.arp.tha),
                };
                None
            }
            _ => None,
        };
        let Some(kind) = kind else { return Ok(()) };
        if kind == 0 {
            key.tcp_flags = self.tcp_flags.filter(|(_, mask)| *mask != 0);
        }
        key.src_port = self.port(kind, 0)?;
        key.dst_port = self.port(kind, 1)?;
        Ok(())
    }

    fn port(&self, kind: usize, end: usize) -> Result<Option<PortMatch>, TcError> {
        let Given { value, mask } = self.ports[kind][end];
        let exact = value.map(|value| (value, mask.unwrap_or(u16::MAX))).filter(|(_, mask)| *mask != 0);
        match (exact, self.ranges[end]) {
            (Some(_), Some(_)) => {
                let name = if end == 0 { "src_port" } else { "dst_port" };
                let mut error = TcError::unsupported(&format!("{name} both as a port and as a range in one filter"), 0);
                (error.hint, error.token) = (format!("give {name} once"), None);
                Err(error)
            }
            (Some((value, mask)), None) => Ok(Some(PortMatch::Masked(value, mask))),
            (None, range) => Ok(range.map(|(first, last)| PortMatch::Range(first, last))),
        }
    }

    /// `fl_set_key_mpls()`: what is said of one depth twice adds up.
    fn mpls(&self) -> Result<Vec<FlowerMpls>, TcError> {
        let mut merged: Vec<FlowerMpls> = Vec::new();
        for Lse(entry) in self.mpls_new.iter().flatten() {
            if usize::from(entry.depth) > MPLS_DEPTH_MAX {
                let hint = format!("the kernel looks at {MPLS_DEPTH_MAX} labels at most");
                return Err(TcError::kernel("Invalid MPLS depth", hint));
            }
            match merged.iter_mut().find(|e| e.depth == entry.depth) {
                None => merged.push(*entry),
                Some(earlier) => {
                    earlier.label = entry.label.or(earlier.label);
                    earlier.tc = entry.tc.or(earlier.tc);
                    earlier.bos = entry.bos.or(earlier.bos);
                    earlier.ttl = entry.ttl.or(earlier.ttl);
                }
            }
        }
        merged.sort_by_key(|entry| entry.depth);
        merged.extend(self.mpls_old);
        Ok(merged)
    }
}

/// A mask of 0 compares nothing, and the kernel does not list it.
fn byte(pair: Option<(u8, u8)>) -> Option<(u8, u8)> {
    pair.filter(|(_, mask)| *mask != 0)
}

fn mac(pair: Option<MaskedMac>) -> Option<MaskedMac> {
    pair.filter(|(_, mask)| *mask != [0; 6])
}
