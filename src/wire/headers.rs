//! Where the headers of a frame are: offsets only, checked once, then infallible. It compares and changes nothing.

use std::ops::Range;

use super::be16;
use super::checksum::{IP_PROTO_TCP, IP_PROTO_UDP};
use crate::limits::{ETHERNET_LEN, VLAN_TAG_LEN};
use crate::types::ethertype;

/// Length of an IPv4 header without options.
pub const IPV4_LEN_MIN: usize = 20;
/// Length of an IPv6 header without extensions.
pub const IPV6_LEN: usize = 40;
/// Length of a TCP header without options.
pub const TCP_LEN_MIN: usize = 20;
/// How many headers the kernel follows: `MAX_FLOW_DISSECT_HDRS`, net/core/flow_dissector.c.
const HEADERS_MAX: u32 = 15;
/// VLAN tags that [`Transport::find`] looks behind.
const TAGS_MAX: usize = 2;

/// Which IP header a frame has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpVersion {
    /// IPv4: 20 bytes or more are there and IHL is 5 or more.
    V4,
    /// IPv6: 40 bytes are there.
    V6,
}

/// What the IP header says about fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// A whole datagram.
    No,
    /// The first part of one.
    First,
    /// A later part.
    Later,
}

/// The headers of an untagged frame, as the kernel's flow dissector sees them (`__skb_flow_dissect`, net/core/flow_dissector.c, with
/// the flags that flower gives). It looks at the bytes that are there, not at lengths in headers, and stops before encapsulation.
///
/// Every offset is from the frame's start (the MAC header) and what it names lies wholly within the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Where the network header begins, as given.
    pub network: usize,
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
}

impl Headers {
    /// No IP header.
    const fn none(network: usize) -> Self {
        Self { network, ip: None, ip_proto: 0, fragment: Fragment::No, l4: None, ports: None, tcp_flags: None }
    }

    /// Finds the headers of an untagged frame (MAC header included) whose packet type is `protocol` and whose network header is at
    /// `network` (see `PacketMeta`: neither need be what the MAC header says).
    #[must_use]
    pub fn parse(frame: &[u8], protocol: u16, network: usize) -> Self {
        match protocol {
            ethertype::IPV4 => Self::parse_ipv4(frame, network),
            ethertype::IPV6 => Self::parse_ipv6(frame, network),
            _ => Self::none(network),
        }
    }

    fn parse_ipv4(frame: &[u8], network: usize) -> Self {
        let none = Self::none(network);
        if frame.len() < network + IPV4_LEN_MIN {
            return none;
        }
        let header_len = usize::from(frame[network] & 0x0f) * 4;
        if header_len < IPV4_LEN_MIN {
            return none;
        }
        let fragment = ipv4_fragment(be16(frame, network + 6));
        let found = Self { ip: Some(IpVersion::V4), ip_proto: frame[network + 9], fragment, ..none };
        if fragment == Fragment::No { found.with_l4(frame, network + header_len) } else { found }
    }

    fn parse_ipv6(frame: &[u8], network: usize) -> Self {
        let none = Self::none(network);
        if frame.len() < network + IPV6_LEN {
            return none;
        }
        let mut found = Self { ip: Some(IpVersion::V6), ip_proto: frame[network + 6], ..none };
        let mut offset = network + IPV6_LEN;
        // The IPv6 header itself is not counted.
        for _ in 0..=HEADERS_MAX {
            match found.ip_proto {
                IPV6_HOP_BY_HOP | IPV6_ROUTING | IPV6_DESTINATION => {
                    if frame.len() < offset + 2 {
                        return found.with_l4(frame, offset);
                    }
                    found.ip_proto = frame[offset];
                    offset += (usize::from(frame[offset + 1]) + 1) * 8;
                }
                IPV6_FRAGMENT => {
                    if frame.len() < offset + 8 {
                        return found.with_l4(frame, offset);
                    }
                    let later = be16(frame, offset + 2) & 0xfff8 != 0;
                    found.fragment = if later { Fragment::Later } else { Fragment::First };
                    found.ip_proto = frame[offset];
                    return found;
                }
                _ => return found.with_l4(frame, offset),
            }
        }
        found
    }

    fn with_l4(mut self, frame: &[u8], l4: usize) -> Self {
        self.l4 = Some(l4);
        self.ports = ports_offset(self.ip_proto).map(|offset| l4 + offset).filter(|at| at + 4 <= frame.len());
        if self.ip_proto == IP_PROTO_TCP
            && frame.len() >= l4 + TCP_LEN_MIN
            && usize::from(frame[l4 + 12] >> 4) * 4 >= TCP_LEN_MIN
        {
            self.tcp_flags = Some(l4 + 12);
        }
        self
    }
}

const IPV6_HOP_BY_HOP: u8 = 0;
const IPV6_ROUTING: u8 = 43;
const IPV6_FRAGMENT: u8 = 44;
const IPV6_DESTINATION: u8 = 60;

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

/// By the flags-and-offset word of an IPv4 header.
const fn ipv4_fragment(word: u16) -> Fragment {
    if word & 0x1fff != 0 {
        Fragment::Later
    } else if word & 0x2000 != 0 {
        Fragment::First
    } else {
        Fragment::No
    }
}

/// A whole TCP or UDP datagram within a frame *as it is on the wire*: lengths are those of the IP header, tags are looked behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Where the IP header begins.
    pub network: usize,
    /// Which IP header it is.
    pub ip: IpVersion,
    /// Source and destination address together.
    pub addresses: Range<usize>,
    /// TCP or UDP.
    pub ip_proto: u8,
    /// Transport header and payload, without padding of the frame.
    pub l4: Range<usize>,
}

impl Transport {
    /// Finds it; `None` for anything else: other protocols, fragments, frames that are shorter than their IP header says.
    #[must_use]
    pub fn find(frame: &[u8]) -> Option<Self> {
        let mut network = ETHERNET_LEN;
        for _ in 0..=TAGS_MAX {
            if frame.len() < network {
                return None;
            }
            match be16(frame, network - 2) {
                ethertype::VLAN | ethertype::QINQ => network += VLAN_TAG_LEN,
                ethertype::IPV4 => return Self::find_ipv4(frame, network),
                ethertype::IPV6 => return Self::find_ipv6(frame, network),
                _ => return None,
            }
        }
        None
    }

    fn find_ipv4(frame: &[u8], network: usize) -> Option<Self> {
        if frame.len() < network + IPV4_LEN_MIN || frame[network] >> 4 != 4 {
            return None;
        }
        let header_len = usize::from(frame[network] & 0x0f) * 4;
        let end = network + usize::from(be16(frame, network + 2));
        let fragment = ipv4_fragment(be16(frame, network + 6));
        if header_len < IPV4_LEN_MIN || end > frame.len() || network + header_len > end || fragment != Fragment::No {
            return None;
        }
        Self {
            network,
            ip: IpVersion::V4,
            addresses: network + 12..network + 20,
            ip_proto: frame[network + 9],
            l4: network + header_len..end,
        }
        .known()
    }

    fn find_ipv6(frame: &[u8], network: usize) -> Option<Self> {
        if frame.len() < network + IPV6_LEN || frame[network] >> 4 != 6 {
            return None;
        }
        let end = network + IPV6_LEN + usize::from(be16(frame, network + 4));
        if end > frame.len() {
            return None;
        }
        let (mut ip_proto, mut l4) = (frame[network + 6], network + IPV6_LEN);
        for _ in 0..HEADERS_MAX {
            // A routing header would put another address into the pseudo header; a stack does not leave such a sum to a device.
            if !matches!(ip_proto, IPV6_HOP_BY_HOP | IPV6_DESTINATION) || l4 + 2 > end {
                break;
            }
            ip_proto = frame[l4];
            l4 += (usize::from(frame[l4 + 1]) + 1) * 8;
        }
        if l4 > end {
            return None;
        }
        Self { network, ip: IpVersion::V6, addresses: network + 8..network + 40, ip_proto, l4: l4..end }.known()
    }

    fn known(self) -> Option<Self> {
        matches!(self.ip_proto, IP_PROTO_TCP | IP_PROTO_UDP).then_some(self)
    }
}
