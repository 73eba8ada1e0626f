//! Where the kernel finds a frame's transport header when a device receives it. Offsets only; it compares and changes nothing.
//!
//! It follows tags, IP headers and tunnels as `__skb_flow_dissect()` of net/core/flow_dissector.c does without flags and with the
//! keys of `flow_keys_dissector_basic`: that is how tun/tap set it (`skb_probe_transport_header()`), and for plain IP a network
//! card with GRO comes to the same.

use super::headers::{IPV4_LEN_MIN, IPV6_LEN};
use crate::limits::VLAN_TAG_LEN;
use crate::types::ethertype;

/// `MAX_FLOW_DISSECT_HDRS`: how many headers are followed behind the first.
const HEADERS_MAX: u32 = 15;

const PPPOE: u16 = 0x8864;
const TIPC: u16 = 0x88ca;
const MPLS: u16 = 0x8847;
const MPLS_MULTICAST: u16 = 0x8848;
const FCOE: u16 = 0x8906;
const RARP: u16 = 0x8035;
const BATMAN: u16 = 0x4305;
const PTP: u16 = 0x88f7;
const PRP: u16 = 0x88fb;
const HSR: u16 = 0x892f;
const BRIDGED_ETHERNET: u16 = 0x6558;
const GRE_PPP: u16 = 0x880b;

/// How it goes on behind a header.
enum Next {
    /// The transport header is here.
    Found,
    /// Nothing is known of what is here.
    Unknown,
    /// A header of this EtherType.
    Type(u16),
    /// What IP carries, of this protocol number.
    Ip(u8),
}

/// Where the transport header of a received frame is, in bytes from the frame's start; at most the frame's length. The frame's outer
/// tag is beside it (`tagged`), `protocol` is the type behind that, `network` where its header is.
///
/// Where the dissector knows no header it is at the network header; with a tag, where that was before the tag was taken off.
#[must_use]
pub fn offset(frame: &[u8], protocol: u16, network: usize, tagged: bool) -> usize {
    // The tag that was taken off was a header too.
    let mut walk = Walk { frame, at: network, headers: u32::from(tagged) };
    match (walk.find(protocol), tagged) {
        (true, _) => walk.at.min(frame.len()),
        (false, true) => network.saturating_sub(VLAN_TAG_LEN),
        (false, false) => network,
    }
}

/// A position in a frame.
struct Walk<'a> {
    frame: &'a [u8],
    at: usize,
    headers: u32,
}

impl Walk<'_> {
    /// True: the transport header is at `at`.
    fn find(&mut self, mut protocol: u16) -> bool {
        loop {
            let mut next = self.header(protocol);
            while let Next::Ip(carried) = next {
                next = self.ip_payload(protocol, carried);
                if matches!(next, Next::Ip(_)) && !self.may_go_on() {
                    return true;
                }
            }
            match next {
                Next::Found | Next::Ip(_) => return true,
                Next::Unknown => return false,
                Next::Type(_) if !self.may_go_on() => return true,
                Next::Type(inner) => protocol = inner,
            }
        }
    }

    /// `skb_flow_dissect_allowed()`.
    fn may_go_on(&mut self) -> bool {
        self.headers += 1;
        self.headers <= HEADERS_MAX
    }

    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let start = self.at + offset;
        self.frame.get(start..start + N)?.try_into().ok()
    }

    fn word(&self, offset: usize) -> Option<u16> {
        self.bytes::<2>(offset).map(u16::from_be_bytes)
    }

    /// Goes over `count` bytes if at least `there` are in the frame.
    fn over(&mut self, there: usize, count: usize, next: Next) -> Next {
        if self.at + there > self.frame.len() {
            return Next::Unknown;
        }
        self.at += count;
        next
    }

    /// What an EtherType names.
    fn header(&mut self, protocol: u16) -> Next {
        match protocol {
            ethertype::IPV4 => self.ipv4().unwrap_or(Next::Unknown),
            ethertype::IPV6 => match self.bytes::<1>(6) {
                Some([carried]) => self.over(IPV6_LEN, IPV6_LEN, Next::Ip(carried)),
                None => Next::Unknown,
            },
            ethertype::VLAN | ethertype::QINQ => match self.word(2) {
                Some(inner) => self.over(VLAN_TAG_LEN, VLAN_TAG_LEN, Next::Type(inner)),
                None => Next::Unknown,
            },
            PPPOE => self.pppoe().unwrap_or(Next::Unknown),
            TIPC => self.over(16, 0, Next::Found),
            MPLS | MPLS_MULTICAST => self.over(0, 4, Next::Found),
            FCOE => self.over(38, 38, Next::Found),
            ethertype::ARP | RARP => Next::Found,
            BATMAN => match (self.bytes::<2>(0), self.word(22)) {
                // A unicast packet of version 15 carries an Ethernet frame.
                (Some([0x40, 15]), Some(inner)) => self.over(24, 24, Next::Type(inner)),
                _ => Next::Unknown,
            },
            PTP => self.over(34, 34, Next::Found),
            PRP | HSR => match self.word(4) {
                Some(inner) => self.over(6, 6, Next::Type(inner)),
                None => Next::Unknown,
            },
            _ => Next::Unknown,
        }
    }

    fn ipv4(&mut self) -> Option<Next> {
        let [first] = self.bytes::<1>(0)?;
        let header_len = usize::from(first & 0xf) * 4;
        let (fragment, [carried]) = (self.word(6)?, self.bytes::<1>(9)?);
        if header_len < IPV4_LEN_MIN {
            return None;
        }
        let next = if fragment & 0x3fff == 0 { Next::Ip(carried) } else { Next::Found };
        Some(self.over(IPV4_LEN_MIN, header_len, next))
    }

    fn pppoe(&mut self) -> Option<Next> {
        let ([version, code], protocol) = (self.bytes::<2>(0)?, self.word(6)?);
        if version != 0x11 || code != 0 {
            return None;
        }
        let next = ppp(protocol).unwrap_or(if protocol & 0x0101 == 1 { Next::Found } else { Next::Unknown });
        Some(self.over(8, 8, next))
    }

    /// What IP carries; `ip` is the type of the header before.
    fn ip_payload(&mut self, ip: u16, carried: u8) -> Next {
        match carried {
            47 => self.gre().unwrap_or(Next::Unknown),
            // Hop-by-hop, routing and destination options.
            0 | 43 | 60 if ip == ethertype::IPV6 => match self.bytes::<2>(0) {
                Some([inner, len]) => self.over(0, (usize::from(len) + 1) * 8, Next::Ip(inner)),
                None => Next::Unknown,
            },
            // A fragment ends it, the first one too.
            44 if ip == ethertype::IPV6 => self.over(8, 8, Next::Found),
            4 => Next::Type(ethertype::IPV4),
            41 => Next::Type(ethertype::IPV6),
            137 => Next::Type(MPLS),
            _ => Next::Found,
        }
    }

    /// `__skb_flow_dissect_gre()`.
    fn gre(&mut self) -> Option<Next> {
        const CHECKSUM: u16 = 0x8000;
        const ROUTING: u16 = 0x4000;
        const KEY: u16 = 0x2000;
        const SEQUENCE: u16 = 0x1000;
        const ACKNOWLEDGE: u16 = 0x0080;
        let (flags, protocol) = (self.word(0)?, self.word(2)?);
        let version = flags & 7;
        if flags & ROUTING != 0 || version > 1 || version == 1 && !(protocol == GRE_PPP && flags & KEY != 0) {
            return Some(Next::Found);
        }
        let four = |flag: u16| if flags & flag == 0 { 0 } else { 4 };
        let key_at = 4 + four(CHECKSUM);
        if flags & KEY != 0 {
            self.bytes::<4>(key_at)?;
        }
        let mut len = key_at + four(KEY) + four(SEQUENCE);
        let mut inner = protocol;
        if version == 0 && protocol == BRIDGED_ETHERNET {
            inner = self.word(len + 12)?;
            len += 14;
        }
        if version == 1 {
            len += four(ACKNOWLEDGE);
            inner = match self.word(len + 2)? {
                0x0021 => ethertype::IPV4,
                0x0057 => ethertype::IPV6,
                _ => protocol,
            };
            len += 4;
        }
        self.at += len;
        Some(Next::Type(inner))
    }
}

/// What a PPP protocol number carries.
fn ppp(protocol: u16) -> Option<Next> {
    match protocol {
        0x0021 => Some(Next::Type(ethertype::IPV4)),
        0x0057 => Some(Next::Type(ethertype::IPV6)),
        0x0281 => Some(Next::Type(MPLS)),
        0x0283 => Some(Next::Type(MPLS_MULTICAST)),
        _ => None,
    }
}
