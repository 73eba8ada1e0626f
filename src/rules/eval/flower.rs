//! flower: `__skb_flow_dissect()` of net/core/flow_dissector.c for the keys that we know, then comparison.

use super::{Outcome, Run, Skb};
use crate::limits::ETHERNET_LEN;
use crate::rules::{Control, CounterSink, FlowerKey, FlowerRule, NodeWord, PortMatch};
use crate::types::ethertype;

/// `MAX_FLOW_DISSECT_HDRS`: how many headers the dissector follows.
const HEADERS_MAX: usize = 15;

impl Run<'_> {
    /// `fl_classify()`, net/sched/cls_flower.c: at most one rule matches.
    pub(super) fn flower_filter(&mut self, rules: &[FlowerRule], skb: &mut Skb, bytes: u64) -> Outcome {
        let found = Dissected::of(skb);
        let Some(rule) = rules.iter().find(|r| found.matches(&r.key)) else {
            return Outcome::Control(Control::Continue);
        };
        self.counters.add(rule.counters + NodeWord::HIT, 1);
        self.counters.add(rule.counters + NodeWord::SUCCESS, 1);
        self.action_list(&rule.actions, skb, bytes)
    }
}

/// What the dissector found. What it did not reach is zero, and a key of value zero matches that.
#[derive(Default)]
struct Dissected {
    eth_type: u16,
    macs: [u8; 12],
    ip_proto: u8,
    ipv4: Option<([u8; 4], [u8; 4])>,
    ipv6: Option<([u8; 16], [u8; 16])>,
    src_port: u16,
    dst_port: u16,
    tcp_flags: u16,
}

impl Dissected {
    fn of(skb: &Skb) -> Self {
        let mut macs = [0; 12];
        macs.copy_from_slice(&skb.data[..12]);
        let mut found = Self { eth_type: skb.meta.protocol, macs, ..Self::default() };
        let network = &skb.data[ETHERNET_LEN..];
        let l4 = match skb.meta.protocol {
            ethertype::IPV4 => found.ipv4(network),
            ethertype::IPV6 => found.ipv6(network),
            _ => None,
        };
        if let Some(l4) = l4 {
            found.l4(l4);
        }
        found
    }

    /// The bytes behind the IP header; `None` where the dissector stops.
    fn ipv4<'a>(&mut self, network: &'a [u8]) -> Option<&'a [u8]> {
        let header = network.get(..20)?;
        let header_len = usize::from(header[0] & 0xf) * 4;
        if header_len < 20 {
            return None;
        }
        self.ip_proto = header[9];
        self.ipv4 = Some((array(&header[12..16]), array(&header[16..20])));
        let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
        if fragment {
            return None;
        }
        Some(network.get(header_len..).unwrap_or(&[]))
    }

    fn ipv6<'a>(&mut self, network: &'a [u8]) -> Option<&'a [u8]> {
        let header = network.get(..40)?;
        self.ip_proto = header[6];
        self.ipv6 = Some((array(&header[8..24]), array(&header[24..40])));
        let mut rest = &network[40..];
        // The IPv6 header itself is not counted.
        for _ in 0..=HEADERS_MAX {
            match self.ip_proto {
                // Hop-by-hop, routing and destination options.
                0 | 43 | 60 => {
                    let option = rest.get(..2)?;
                    self.ip_proto = option[0];
                    rest = rest.get((usize::from(option[1]) + 1) * 8..).unwrap_or(&[]);
                }
                44 => {
                    self.ip_proto = rest.get(..8)?[0];
                    return None;
                }
                _ => return Some(rest),
            }
        }
        None
    }

    fn l4(&mut self, l4: &[u8]) {
        const TCP: u8 = 6;
        if self.ip_proto == TCP && l4.len() >= 20 && l4[12] >> 4 >= 5 {
            self.tcp_flags = u16::from_be_bytes([l4[12], l4[13]]) & 0x0fff;
        }
        // proto_ports_offset(): TCP, UDP, DCCP, ESP, SCTP, UDP-Lite at once, AH behind four bytes.
        let at = match self.ip_proto {
            TCP | 17 | 33 | 50 | 132 | 136 => 0,
            51 => 4,
            _ => return,
        };
        if let Some(ports) = l4.get(at..at + 4) {
            self.src_port = u16::from_be_bytes([ports[0], ports[1]]);
            self.dst_port = u16::from_be_bytes([ports[2], ports[3]]);
        }
    }

    fn matches(&self, key: &FlowerKey) -> bool {
        let mac = |want: &Option<([u8; 6], [u8; 6])>, have: &[u8]| {
            want.is_none_or(|(value, mask)| (0..6).all(|i| have[i] & mask[i] == value[i]))
        };
        key.eth_type.is_none_or(|want| want == self.eth_type)
            && key.ip_proto.is_none_or(|want| want == self.ip_proto)
            && key.src_ipv4.is_none_or(|(v, m)| self.ipv4.is_some_and(|(s, _)| masked(&s, &m.octets(), &v.octets())))
            && key.dst_ipv4.is_none_or(|(v, m)| self.ipv4.is_some_and(|(_, d)| masked(&d, &m.octets(), &v.octets())))
            && key.src_ipv6.is_none_or(|(v, m)| self.ipv6.is_some_and(|(s, _)| masked(&s, &m.octets(), &v.octets())))
            && key.dst_ipv6.is_none_or(|(v, m)| self.ipv6.is_some_and(|(_, d)| masked(&d, &m.octets(), &v.octets())))
            && key.src_port.is_none_or(|want| port(want, self.src_port))
            && key.dst_port.is_none_or(|want| port(want, self.dst_port))
            && key.tcp_flags.is_none_or(|(value, mask)| self.tcp_flags & mask == value)
            && mac(&key.dst_mac, &self.macs[..6])
            && mac(&key.src_mac, &self.macs[6..])
    }
}

fn port(want: PortMatch, have: u16) -> bool {
    match want {
        PortMatch::Masked(value, mask) => have & mask == value,
        PortMatch::Range(low, high) => (low..=high).contains(&have),
    }
}

fn masked(have: &[u8], mask: &[u8], value: &[u8]) -> bool {
    have.iter().zip(mask).zip(value).all(|((h, m), v)| h & m == v & m)
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(bytes);
    out
}
