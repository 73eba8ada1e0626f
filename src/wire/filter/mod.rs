//! A filter for frames in tcpdump's words (`tcp and host 198.51.100.10`): what it holds of a frame. It reads bytes and changes none.
//!
//! The words and their meaning are those of pcap-filter(7) for Ethernet. What cannot be read because the frame is cut does not hold.

mod parse;
#[cfg(test)]
mod tests;
mod values;

pub use parse::FilterError;

use crate::limits::ETHERNET_LEN;
use crate::types::ethertype;

/// The fixed part of an IPv6 header.
const IPV6_LEN: usize = 40;
/// `IPPROTO_FRAGMENT`.
const FRAGMENT: u8 = 44;
/// Protocols with ports, as pcap-filter(7) counts them: TCP, UDP, SCTP.
const WITH_PORTS: [u8; 3] = [6, 17, 132];

/// A filter, ready to be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// `None` holds of every frame.
    root: Option<Node>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    /// The test, and the bytes of the VLAN tags that `vlan` words before it stepped over.
    Test(Test, usize),
}

/// Which end of the way an address or port is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
    Either,
    Both,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    EtherType(u16),
    EtherHost(Side, [u8; 6]),
    EtherMulticast,
    /// A VLAN tag, with this id if one is given.
    Vlan(Option<u16>),
    /// An address of IPv4, or in ARP and RARP.
    Ipv4 {
        side: Side,
        address: u32,
        mask: u32,
        ip: bool,
        arp: bool,
        rarp: bool,
    },
    Ipv6 {
        side: Side,
        address: u128,
        mask: u128,
    },
    /// The protocol in IPv4 and in IPv6.
    IpProtocol {
        number: u8,
        v4: bool,
        v6: bool,
    },
    /// A port of one protocol, or of any that has ports.
    Port {
        side: Side,
        protocol: Option<u8>,
        low: u16,
        high: u16,
    },
    LengthAtMost(usize),
    LengthAtLeast(usize),
}

impl Filter {
    /// Whether it holds of a frame (from the destination MAC on, tags in place).
    #[must_use]
    pub fn matches(&self, frame: &[u8]) -> bool {
        self.root.as_ref().is_none_or(|node| node.holds(frame))
    }

    /// Whether it holds of every frame.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.root.is_none()
    }
}

impl Node {
    fn holds(&self, frame: &[u8]) -> bool {
        match self {
            Self::Not(node) => !node.holds(frame),
            Self::And(a, b) => a.holds(frame) && b.holds(frame),
            Self::Or(a, b) => a.holds(frame) || b.holds(frame),
            Self::Test(test, tags) => test.holds(frame, *tags),
        }
    }
}

impl Side {
    fn holds<T>(self, source: T, destination: T, fits: impl Fn(T) -> bool) -> bool {
        match self {
            Self::Source => fits(source),
            Self::Destination => fits(destination),
            Self::Either => fits(source) || fits(destination),
            Self::Both => fits(source) && fits(destination),
        }
    }
}

impl Test {
    fn holds(&self, frame: &[u8], tags: usize) -> bool {
        let kind = u16_at(frame, 12 + tags);
        let network = frame.get(ETHERNET_LEN + tags..).unwrap_or(&[]);
        match self {
            Self::EtherType(want) => kind == Some(*want),
            Self::EtherHost(side, mac) => {
                let (Some(destination), Some(source)) = (frame.get(..6), frame.get(6..12)) else { return false };
                side.holds(source, destination, |have| have == mac)
            }
            Self::EtherMulticast => frame.first().is_some_and(|first| first & 1 == 1),
            Self::Vlan(id) => {
                let tagged = matches!(kind, Some(ethertype::VLAN | ethertype::QINQ | 0x9100));
                let tci = u16_at(frame, 14 + tags);
                tagged && id.is_none_or(|id| tci.is_some_and(|tci| tci & 0x0fff == id))
            }
            Self::Ipv4 { side, address, mask, ip, arp, rarp } => {
                let (source, destination) = match kind {
                    Some(ethertype::IPV4) if *ip => (12, 16),
                    Some(ethertype::ARP) if *arp => (14, 24),
                    Some(parse::RARP) if *rarp => (14, 24),
                    Some(_) | None => return false,
                };
                side.holds(source, destination, |at| {
                    array_at(network, at).is_some_and(|a| u32::from_be_bytes(a) & mask == *address)
                })
            }
            Self::Ipv6 { side, address, mask } => {
                let fits = |at| array_at(network, at).is_some_and(|a| u128::from_be_bytes(a) & mask == *address);
                kind == Some(ethertype::IPV6) && side.holds(8, 24, fits)
            }
            Self::IpProtocol { number, v4, v6 } => match kind {
                Some(ethertype::IPV4) => *v4 && network.get(9) == Some(number),
                Some(ethertype::IPV6) => {
                    let next = network.get(6);
                    *v6 && (next == Some(number) || (next == Some(&FRAGMENT) && network.get(IPV6_LEN) == Some(number)))
                }
                Some(_) | None => false,
            },
            Self::Port { side, protocol, low, high } => {
                let Some((found, ports)) = ports(kind, network) else { return false };
                let known = protocol.map_or(WITH_PORTS.contains(&found), |want| want == found);
                let fits = |at| u16_at(ports, at).is_some_and(|port| (*low..=*high).contains(&port));
                known && side.holds(0, 2, fits)
            }
            Self::LengthAtMost(len) => frame.len() <= *len,
            Self::LengthAtLeast(len) => frame.len() >= *len,
        }
    }
}

/// The protocol, and the bytes that begin with its ports: not of later fragments, not behind extension headers.
fn ports(kind: Option<u16>, network: &[u8]) -> Option<(u8, &[u8])> {
    match kind {
        Some(ethertype::IPV4) => {
            let first_fragment = u16_at(network, 6)? & 0x1fff == 0;
            let header_len = usize::from(network[0] & 0x0f) * 4;
            if first_fragment { Some((*network.get(9)?, network.get(header_len..)?)) } else { None }
        }
        Some(ethertype::IPV6) => Some((*network.get(6)?, network.get(IPV6_LEN..)?)),
        Some(_) | None => None,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_be_bytes)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
