//! A whole datagram within a frame, by the lengths that its headers say. It compares and changes nothing.

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
/// Extension headers that [`Transport::find`] goes to.
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

const IPV6_HOP_BY_HOP: u8 = 0;
const IPV6_DESTINATION: u8 = 60;

/// By the flags-and-offset word of an IPv4 header.
pub(super) const fn ipv4_fragment(word: u16) -> Fragment {
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
