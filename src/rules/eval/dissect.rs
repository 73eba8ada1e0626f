//! The kernel's flow dissector as flower uses it (`__skb_flow_dissect()`, net/core/flow_dissector.c). It compares nothing.

use super::Skb;
use crate::rules::FlowerField;
use crate::rules::flower::{MPLS_DEPTH_MAX, fragment};
use crate::types::{VlanTag, ethertype};

/// `MAX_FLOW_DISSECT_HDRS`: how many further headers the dissector goes to.
const HEADERS_MAX: u32 = 15;

const TCP: u8 = 6;
const MPLS_IN_IP: u8 = 137;

/// What was found. What was not reached is 0, and a key of value 0 matches that.
#[derive(Default)]
pub(super) struct Dissected {
    /// Number of the device that it came in by.
    iif: u32,
    macs: [u8; 12],
    /// How many tags were seen, and the first two of them.
    tags: u8,
    vlan: [Vlan; 2],
    eth_type: u16,
    /// 4, 6, or 0 for none.
    family: u8,
    src_ipv4: u32,
    dst_ipv4: u32,
    src_ipv6: u128,
    dst_ipv6: u128,
    ip_proto: u8,
    tos: u8,
    ttl: u8,
    fragment: u8,
    src_port: u16,
    dst_port: u16,
    tcp_flags: u16,
    icmp_type: u8,
    icmp_code: u8,
    mpls: Vec<u32>,
    arp: Arp,
    pppoe: Pppoe,
    /// How many further headers were gone to.
    headers: u32,
    /// Tags within an encapsulated frame do not count.
    encapsulated: bool,
}

#[derive(Clone, Copy, Default)]
struct Vlan {
    tci: u16,
    tpid: u16,
    eth_type: u16,
}

#[derive(Default)]
struct Arp {
    op: u8,
    sha: u64,
    sip: u32,
    tha: u64,
    tip: u32,
}

#[derive(Default)]
struct Pppoe {
    there: bool,
    sid: u16,
    proto: u16,
}

impl Dissected {
    pub(super) fn of(skb: &Skb) -> Self {
        let mut macs = [0; 12];
        let there = skb.data.len().min(12);
        macs[..there].copy_from_slice(&skb.data[..there]);
        let mut found = Self { iif: skb.iif.0, macs, ..Self::default() };
        let mut tag = skb.meta.tag;
        let mut proto = tag.map_or(skb.meta.protocol, |t| t.tpid);
        let mut rest = &skb.data[skb.network()..];
        while let Some(next) = found.header(proto, &mut rest, tag.take(), skb.meta.protocol) {
            proto = next;
            if !found.may_go_on() {
                break;
            }
        }
        found.eth_type = proto;
        found
    }

    /// `skb_flow_dissect_allowed()`.
    fn may_go_on(&mut self) -> bool {
        self.headers += 1;
        self.headers <= HEADERS_MAX
    }

    /// One turn of `proto_again`: the type of the next header, with `rest` at it; `None` at the end, good or bad. `tag` is the tag
    /// that was taken off the frame, `behind` the type behind that.
    fn header(&mut self, proto: u16, rest: &mut &[u8], tag: Option<VlanTag>, behind: u16) -> Option<u16> {
        match proto {
            ethertype::IPV4 => self.ipv4(rest),
            ethertype::IPV6 => self.ipv6(rest),
            ethertype::VLAN | ethertype::QINQ => self.tag(proto, rest, tag, behind),
            ethertype::PPP_SES => self.pppoe(rest),
            ethertype::MPLS_UC | ethertype::MPLS_MC => {
                if self.mpls.len() == MPLS_DEPTH_MAX {
                    return None;
                }
                let entry = u32::from_be_bytes(array(take(rest, 4)?));
                self.mpls.push(entry);
                (entry & 0x100 == 0).then_some(proto)
            }
            ethertype::ARP | ethertype::RARP => {
                self.arp(rest);
                None
            }
            ethertype::BATMAN => {
                // struct batadv_unicast_packet, then an Ethernet header: BATADV_UNICAST, BATADV_COMPAT_VERSION.
                if rest.get(..24)?[..2] != [0x40, 15] {
                    return None;
                }
                self.encapsulated = true;
                Some(be16(&take(rest, 24)?[22..]))
            }
            ethertype::HSR | ethertype::PRP => Some(be16(&take(rest, 6)?[4..])),
            _ => None,
        }
    }

    fn tag(&mut self, tpid: u16, rest: &mut &[u8], tag: Option<VlanTag>, behind: u16) -> Option<u16> {
        let (tci, eth_type) = match tag {
            Some(tag) => (tag.tci, behind),
            None => {
                let header = take(rest, 4)?;
                (be16(header), be16(&header[2..]))
            }
        };
        let index = self.vlan.iter().position(|v| v.tpid == 0);
        if let Some(index) = index {
            self.vlan[index] = Vlan { tci, tpid, eth_type };
        }
        if !self.encapsulated {
            self.tags = self.tags.wrapping_add(1);
        }
        Some(eth_type)
    }

    fn pppoe(&mut self, rest: &mut &[u8]) -> Option<u16> {
        let header = rest.get(..8)?;
        let (sid, proto) = (be16(&header[2..]), be16(&header[6..]));
        // is_pppoe_ses_hdr_valid(), ppp_proto_is_valid(): the low bit of the first byte clear, of the second set.
        if header[..2] != [0x11, 0] {
            return None;
        }
        let next = match proto {
            0x0021 => Some(ethertype::IPV4),
            0x0057 => Some(ethertype::IPV6),
            0x0281 => Some(ethertype::MPLS_UC),
            0x0283 => Some(ethertype::MPLS_MC),
            _ if proto & 0x0101 == 1 => None,
            _ => return None,
        };
        *rest = &rest[8..];
        self.pppoe = Pppoe { there: true, sid, proto };
        next
    }

    fn arp(&mut self, arp: &[u8]) {
        let Some(arp) = arp.get(..28) else { return };
        // Ethernet, IPv4, lengths 6 and 4; a request or a reply.
        if arp[..6] != [0, 1, 8, 0, 6, 4] || !matches!(be16(&arp[6..]), 1 | 2) {
            return;
        }
        self.arp = Arp {
            op: arp[7],
            sha: number(&arp[8..14]) as u64,
            sip: number(&arp[14..18]) as u32,
            tha: number(&arp[18..24]) as u64,
            tip: number(&arp[24..28]) as u32,
        };
    }

    fn ipv4(&mut self, rest: &mut &[u8]) -> Option<u16> {
        let header = rest.get(..20)?;
        let header_len = usize::from(header[0] & 0xf) * 4;
        if header_len < 20 {
            return None;
        }
        self.family = 4;
        self.ip_proto = header[9];
        (self.tos, self.ttl) = (header[1], header[8]);
        self.src_ipv4 = number(&header[12..16]) as u32;
        self.dst_ipv4 = number(&header[16..20]) as u32;
        let place = be16(&header[6..]) & 0x3fff;
        *rest = rest.get(header_len..).unwrap_or(&[]);
        if place != 0 {
            self.fragment = fragment::IS_FRAGMENT | if place & 0x1fff == 0 { fragment::FIRST } else { 0 };
            return None;
        }
        self.l4(rest)
    }

    fn ipv6(&mut self, rest: &mut &[u8]) -> Option<u16> {
        let header = take(rest, 40)?;
        self.family = 6;
        self.ip_proto = header[6];
        (self.tos, self.ttl) = ((be16(header) >> 4) as u8, header[7]);
        self.src_ipv6 = number(&header[8..24]);
        self.dst_ipv6 = number(&header[24..40]);
        // ip_proto_again.
        loop {
            match self.ip_proto {
                // Hop-by-hop, routing and destination options.
                0 | 43 | 60 => {
                    let option = rest.get(..2)?;
                    self.ip_proto = option[0];
                    *rest = rest.get((usize::from(option[1]) + 1) * 8..).unwrap_or(&[]);
                    if !self.may_go_on() {
                        // The ports behind the last one are still looked at.
                        self.ports(rest);
                        return None;
                    }
                }
                44 => {
                    let option = take(rest, 8)?;
                    self.ip_proto = option[0];
                    let first = be16(&option[2..]) & 0xfff8 == 0;
                    self.fragment = fragment::IS_FRAGMENT | if first { fragment::FIRST } else { 0 };
                    return None;
                }
                _ => return self.l4(rest),
            }
        }
    }

    /// What is behind the IP header.
    fn l4(&mut self, l4: &[u8]) -> Option<u16> {
        match self.ip_proto {
            TCP if l4.len() >= 20 && l4[12] >> 4 >= 5 => self.tcp_flags = be16(&l4[12..]) & 0x0fff,
            // ICMP and ICMPv6, in either IP: the header has 8 bytes.
            1 | 58 if l4.len() >= 8 => (self.icmp_type, self.icmp_code) = (l4[0], l4[1]),
            _ => {}
        }
        self.ports(l4);
        (self.ip_proto == MPLS_IN_IP).then_some(ethertype::MPLS_UC)
    }

    /// `proto_ports_offset()`: TCP, UDP, DCCP, ESP, SCTP, UDP-Lite at once, AH behind four bytes.
    fn ports(&mut self, l4: &[u8]) {
        let at = match self.ip_proto {
            TCP | 17 | 33 | 50 | 132 | 136 => 0,
            51 => 4,
            _ => return,
        };
        if let Some(ports) = l4.get(at..at + 4) {
            (self.src_port, self.dst_port) = (be16(ports), be16(&ports[2..]));
        }
    }

    /// The number of a field.
    pub(super) fn number(&self, field: FlowerField) -> u128 {
        use FlowerField as F;
        let tag = |index: u8| self.vlan[usize::from(index)];
        match field {
            F::Indev => self.iif.into(),
            F::NumOfVlans => self.tags.into(),
            F::VlanId(index) => (tag(index).tci & 0xfff).into(),
            F::VlanPrio(index) => (tag(index).tci >> 13).into(),
            F::VlanTpid(index) => tag(index).tpid.into(),
            F::VlanEthType(index) => tag(index).eth_type.into(),
            F::DstMac => number(&self.macs[..6]),
            F::SrcMac => number(&self.macs[6..]),
            F::EthType => self.eth_type.into(),
            F::IpProto => self.ip_proto.into(),
            F::Family => self.family.into(),
            F::Tos => self.tos.into(),
            F::Ttl => self.ttl.into(),
            F::MplsEntries => (1 << self.mpls.len()) - 1,
            F::Mpls(index) => self.mpls.get(usize::from(index)).map_or(0, |entry| (*entry).into()),
            F::DstIpv4 => self.dst_ipv4.into(),
            F::SrcIpv4 => self.src_ipv4.into(),
            F::DstIpv6 => self.dst_ipv6,
            F::SrcIpv6 => self.src_ipv6,
            F::DstPort | F::DstPortRange => self.dst_port.into(),
            F::SrcPort | F::SrcPortRange => self.src_port.into(),
            F::TcpFlags => self.tcp_flags.into(),
            F::IcmpType => self.icmp_type.into(),
            F::IcmpCode => self.icmp_code.into(),
            F::ArpSip => self.arp.sip.into(),
            F::ArpTip => self.arp.tip.into(),
            F::ArpOp => self.arp.op.into(),
            F::ArpSha => self.arp.sha.into(),
            F::ArpTha => self.arp.tha.into(),
            F::PppoeType => if self.pppoe.there { ethertype::PPP_SES } else { 0 }.into(),
            F::PppoeSid => self.pppoe.sid.into(),
            F::PppProto => self.pppoe.proto.into(),
            F::IpFlags => self.fragment.into(),
        }
    }
}

/// The first bytes, and `rest` behind them; `None` if there are fewer.
fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    Some(head)
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn number(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    std::array::from_fn(|i| bytes[i])
}
