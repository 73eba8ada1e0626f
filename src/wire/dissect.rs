//! Where the headers of a frame are as the kernel's flow dissector sees them: offsets, checked once, then infallible. It compares
//! and changes nothing.

use super::be16;
use super::checksum::IP_PROTO_TCP;
use super::headers::{Fragment, IPV4_LEN_MIN, IPV6_LEN, IpVersion, TCP_LEN_MIN, ipv4_fragment};
use crate::limits::VLAN_TAG_LEN;
use crate::types::{PacketMeta, ethertype};

/// How many further headers the kernel goes to: `MAX_FLOW_DISSECT_HDRS`, net/core/flow_dissector.c.
const HEADERS_MAX: u32 = 15;
/// `FLOW_DIS_MPLS_MAX`, include/net/flow_dissector.h.
const MPLS_LABELS_MAX: u8 = 7;
const MPLS_LABEL_LEN: usize = 4;
/// Bottom of stack.
const MPLS_BOTTOM: u8 = 1;
/// `PPPOE_SES_HLEN`.
const PPPOE_LEN: usize = 8;
const ARP_LEN: usize = 28;
const ICMP_LEN: usize = 8;
/// `HSR_HLEN`.
const HSR_LEN: usize = 6;
/// `struct batadv_unicast_packet` and an Ethernet header.
const BATMAN_LEN: usize = 24;

/// A VLAN tag that was seen; all 0: there was none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeenTag {
    /// Priority, drop eligible, VLAN id.
    pub tci: u16,
    /// Its own type.
    pub tpid: u16,
    /// The type behind it.
    pub eth_type: u16,
}

/// The headers of a frame (`__skb_flow_dissect`, net/core/flow_dissector.c, with the flags that flower gives). It looks at the bytes
/// that are there, not at lengths in headers, and stops before encapsulation.
///
/// Every offset is from the frame's start (the MAC header) and what it names lies wholly within the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Where the IP header begins, if there is one; else where the network header was said to be.
    pub network: usize,
    /// The type that the dissector ended at: behind tags, PPPoE and the like.
    pub eth_type: u16,
    /// Which IP header is there; `None`: not IP, or cut off, or an IHL under 5.
    pub ip: Option<IpVersion>,
    /// The protocol behind IP (and behind IPv6 extension headers as far as they could be followed). 0 without IP.
    pub ip_proto: u8,
    /// See [`Fragment`].
    pub fragment: Fragment,
    /// Where the transport header begins, IHL-aware; may be beyond the frame's end. `None` without IP, and for fragments.
    pub l4: Option<usize>,
    /// Where four bytes of ports are, for a protocol that has them; `None` also for all fragments.
    pub ports: Option<usize>,
    /// Where the two bytes with TCP's data offset and flags are; only if all 20 bytes of the header are there and its own length
    /// is not less. `None` also for all fragments.
    pub tcp_flags: Option<usize>,
    /// Where ICMP's type and code are, if 8 bytes of it are there.
    pub icmp: Option<usize>,
    /// How many tags were seen outside of an encapsulated frame, the one that was taken off included.
    pub tag_count: u8,
    /// The first two tags.
    pub tags: [SeenTag; 2],
    /// Where the label stack begins.
    pub mpls: usize,
    /// How many of its labels were seen, 7 at most.
    pub mpls_count: u8,
    /// Where an ARP request or reply for IPv4 over Ethernet begins: 28 bytes.
    pub arp: Option<usize>,
    /// Where a PPPoE session header begins: 8 bytes.
    pub pppoe: Option<usize>,
}

/// Where the dissector is.
struct Walk<'a> {
    frame: &'a [u8],
    at: usize,
    /// How many further headers it may go to.
    left: u32,
    encapsulated: bool,
    found: Headers,
}

impl Headers {
    /// Finds the headers of a frame, given its bytes without the tag that was taken off, and what travels with it.
    #[must_use]
    pub fn parse(frame: &[u8], meta: &PacketMeta) -> Self {
        let network = usize::from(meta.network);
        let found = Self {
            network,
            eth_type: meta.protocol,
            ip: None,
            ip_proto: 0,
            fragment: Fragment::No,
            l4: None,
            ports: None,
            tcp_flags: None,
            icmp: None,
            tag_count: 0,
            tags: [SeenTag::default(); 2],
            mpls: 0,
            mpls_count: 0,
            arp: None,
            pppoe: None,
        };
        let mut walk = Walk { frame, at: network, left: HEADERS_MAX, encapsulated: false, found };
        if let Some(tag) = meta.tag {
            walk.tag(tag.tci, tag.tpid, meta.protocol);
            walk.left -= 1;
        }
        walk.run(meta.protocol);
        walk.found
    }
}

impl Walk<'_> {
    /// From header to header. Each turn but the last uses one of `left`.
    fn run(&mut self, protocol: u16) {
        let mut protocol = protocol;
        loop {
            let next = match protocol {
                ethertype::IPV4 => self.ipv4(),
                ethertype::IPV6 => self.ipv6(),
                _ => self.other(protocol),
            };
            protocol = next.unwrap_or(protocol);
            if next.is_none() || self.left == 0 {
                break;
            }
            self.left -= 1;
        }
        self.found.eth_type = protocol;
    }

    fn has(&self, len: usize) -> bool {
        self.frame.len() >= self.at + len
    }

    /// All but IP. The next type, or `None` at the end.
    fn other(&mut self, protocol: u16) -> Option<u16> {
        match protocol {
            ethertype::VLAN | ethertype::QINQ if self.has(VLAN_TAG_LEN) => {
                let (tci, eth_type) = (be16(self.frame, self.at), be16(self.frame, self.at + 2));
                self.at += VLAN_TAG_LEN;
                self.tag(tci, protocol, eth_type);
                Some(eth_type)
            }
            ethertype::MPLS_UC | ethertype::MPLS_MC => self.mpls(protocol),
            ethertype::PPP_SES if self.has(PPPOE_LEN) => self.pppoe(),
            ethertype::ARP | ethertype::RARP if self.has(ARP_LEN) => {
                let arp = &self.frame[self.at..self.at + ARP_LEN];
                // Ethernet, IPv4, lengths 6 and 4; a request or a reply.
                if arp[..7] == [0, 1, 8, 0, 6, 4, 0] && matches!(arp[7], 1 | 2) {
                    self.found.arp = Some(self.at);
                }
                None
            }
            ethertype::HSR | ethertype::PRP if self.has(HSR_LEN) => {
                self.at += HSR_LEN;
                Some(be16(self.frame, self.at - 2))
            }
            // BATADV_UNICAST, BATADV_COMPAT_VERSION.
            ethertype::BATMAN if self.has(BATMAN_LEN) && self.frame[self.at..self.at + 2] == [0x40, 15] => {
                self.encapsulated = true;
                self.at += BATMAN_LEN;
                Some(be16(self.frame, self.at - 2))
            }
            _ => None,
        }
    }

    fn tag(&mut self, tci: u16, tpid: u16, eth_type: u16) {
        if let Some(free) = self.found.tags.iter_mut().find(|t| t.tpid == 0) {
            *free = SeenTag { tci, tpid, eth_type };
        }
        if !self.encapsulated {
            self.found.tag_count += 1;
        }
    }

    fn mpls(&mut self, protocol: u16) -> Option<u16> {
        if self.found.mpls_count == MPLS_LABELS_MAX || !self.has(MPLS_LABEL_LEN) {
            return None;
        }
        if self.found.mpls_count == 0 {
            self.found.mpls = self.at;
        }
        self.found.mpls_count += 1;
        let bottom = self.frame[self.at + 2] & MPLS_BOTTOM != 0;
        self.at += MPLS_LABEL_LEN;
        (!bottom).then_some(protocol)
    }

    fn pppoe(&mut self) -> Option<u16> {
        let at = self.at;
        // is_pppoe_ses_hdr_valid()
        if self.frame[at..at + 2] != [0x11, 0] {
            return None;
        }
        let protocol = be16(self.frame, at + 6);
        // ppp_proto_is_valid()
        if protocol & 0x0101 != 1 {
            return None;
        }
        self.found.pppoe = Some(at);
        self.at += PPPOE_LEN;
        match protocol {
            0x0021 => Some(ethertype::IPV4),
            0x0057 => Some(ethertype::IPV6),
            0x0281 => Some(ethertype::MPLS_UC),
            0x0283 => Some(ethertype::MPLS_MC),
            _ => None,
        }
    }

    fn ipv4(&mut self) -> Option<u16> {
        if !self.has(IPV4_LEN_MIN) {
            return None;
        }
        let header = &self.frame[self.at..self.at + IPV4_LEN_MIN];
        let header_len = usize::from(header[0] & 0x0f) * 4;
        if header_len < IPV4_LEN_MIN {
            return None;
        }
        let found = &mut self.found;
        found.network = self.at;
        found.ip = Some(IpVersion::V4);
        found.ip_proto = header[9];
        found.fragment = ipv4_fragment(be16(header, 6));
        self.at += header_len;
        if found.fragment == Fragment::No { self.l4() } else { None }
    }

    fn ipv6(&mut self) -> Option<u16> {
        if !self.has(IPV6_LEN) {
            return None;
        }
        let found = &mut self.found;
        found.network = self.at;
        found.ip = Some(IpVersion::V6);
        found.ip_proto = self.frame[self.at + 6];
        self.at += IPV6_LEN;
        loop {
            match self.found.ip_proto {
                IPV6_HOP_BY_HOP | IPV6_ROUTING | IPV6_DESTINATION => {
                    if !self.has(2) {
                        self.found.l4 = Some(self.at);
                        return None;
                    }
                    self.found.ip_proto = self.frame[self.at];
                    self.at += (usize::from(self.frame[self.at + 1]) + 1) * 8;
                    if self.left == 0 {
                        // The ports behind the last one are still looked at.
                        self.found.l4 = Some(self.at);
                        self.ports();
                        return None;
                    }
                    self.left -= 1;
                }
                IPV6_FRAGMENT => {
                    if !self.has(8) {
                        self.found.l4 = Some(self.at);
                        return None;
                    }
                    let later = be16(self.frame, self.at + 2) & 0xfff8 != 0;
                    self.found.fragment = if later { Fragment::Later } else { Fragment::First };
                    self.found.ip_proto = self.frame[self.at];
                    return None;
                }
                _ => return self.l4(),
            }
        }
    }

    /// What is behind IP.
    fn l4(&mut self) -> Option<u16> {
        let l4 = self.at;
        self.found.l4 = Some(l4);
        match self.found.ip_proto {
            IP_PROTO_TCP if self.has(TCP_LEN_MIN) && usize::from(self.frame[l4 + 12] >> 4) * 4 >= TCP_LEN_MIN => {
                self.found.tcp_flags = Some(l4 + 12);
            }
            // Either, in either IP.
            ICMP | ICMPV6 if self.has(ICMP_LEN) => self.found.icmp = Some(l4),
            MPLS_IN_IP => return Some(ethertype::MPLS_UC),
            _ => {}
        }
        self.ports();
        None
    }

    fn ports(&mut self) {
        let at = ports_offset(self.found.ip_proto).map(|offset| self.at + offset);
        self.found.ports = at.filter(|at| at + 4 <= self.frame.len());
    }
}

const IPV6_HOP_BY_HOP: u8 = 0;
const ICMP: u8 = 1;
const IPV6_ROUTING: u8 = 43;
const IPV6_FRAGMENT: u8 = 44;
const ICMPV6: u8 = 58;
const IPV6_DESTINATION: u8 = 60;
const MPLS_IN_IP: u8 = 137;

/// Where the ports are, from the transport header: `proto_ports_offset`, include/net/ip.h.
const fn ports_offset(ip_proto: u8) -> Option<usize> {
    match ip_proto {
        // TCP, UDP, DCCP, ESP (its SPI), SCTP, UDP-Lite.
        6 | 17 | 33 | 50 | 132 | 136 => Some(0),
        // AH: its SPI.
        51 => Some(4),
        _ => None,
    }
}
