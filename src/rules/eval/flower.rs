//! flower: `__skb_flow_dissect()` of net/core/flow_dissector.c for the keys that we know, then comparison.

use super::trace::Step;
use super::{Outcome, Run, Skb};
use crate::rules::{Control, CounterSink, FlowerKey, FlowerRule, NodeWord, PortMatch};
use crate::types::ethertype;

/// `MAX_FLOW_DISSECT_HDRS`: how many headers the dissector follows.
const HEADERS_MAX: usize = 15;

impl Run<'_> {
    /// `fl_classify()`, net/sched/cls_flower.c: at most one rule matches.
    pub(super) fn flower_filter(&mut self, rules: &[FlowerRule], skb: &mut Skb, bytes: u64) -> Outcome {
        let found = Dissected::of(skb);
        if self.is_traced() {
            self.tell_flower(rules, &found);
        }
        let Some(rule) = rules.iter().find(|r| found.matches(&r.key)) else {
            return Outcome::Control(Control::Continue);
        };
        self.counters.add(rule.counters + NodeWord::HIT, 1);
        self.counters.add(rule.counters + NodeWord::SUCCESS, 1);
        self.tell(Step::Match { handle: rule.handle, but: None });
        self.action_list(&rule.actions, skb, bytes)
    }
}

impl Run<'_> {
    /// Tells each comparison up to the first that fails, of each rule up to the first that matches.
    fn tell_flower(&mut self, rules: &[FlowerRule], found: &Dissected) {
        for rule in rules {
            for (name, want, have, holds) in found.comparisons(&rule.key) {
                self.tell(Step::Flower { handle: rule.handle, name, want: &want, have: &have, holds });
                if !holds {
                    break;
                }
            }
            if found.matches(&rule.key) {
                return;
            }
        }
    }
}

/// A comparison in words: key, what the rule wants, what the frame has, whether that fits.
type Comparison = (&'static str, String, String, bool);

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
        let there = skb.data.len().min(12);
        macs[..there].copy_from_slice(&skb.data[..there]);
        let mut found = Self { eth_type: skb.meta.protocol, macs, ..Self::default() };
        let network = &skb.data[skb.network()..];
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

impl Dissected {
    /// What [`Dissected::matches`] compares, in words.
    fn comparisons(&self, key: &FlowerKey) -> Vec<Comparison> {
        const NONE: &str = "none";
        let one = |key: FlowerKey| self.matches(&key);
        let mut list: Vec<Comparison> = Vec::new();
        let only = FlowerKey::default;
        if let Some(want) = key.eth_type {
            let fits = one(FlowerKey { eth_type: Some(want), ..only() });
            list.push(("eth_type", format!("{want:#06x}"), format!("{:#06x}", self.eth_type), fits));
        }
        for (name, want, have, alone) in [
            ("dst_mac", key.dst_mac, &self.macs[..6], FlowerKey { dst_mac: key.dst_mac, ..only() }),
            ("src_mac", key.src_mac, &self.macs[6..], FlowerKey { src_mac: key.src_mac, ..only() }),
        ] {
            if let Some((value, mask)) = want {
                list.push((name, format!("{}/{}", hex(&value), hex(&mask)), hex(have), one(alone)));
            }
        }
        if let Some(want) = key.ip_proto {
            let fits = one(FlowerKey { ip_proto: Some(want), ..only() });
            list.push(("ip_proto", want.to_string(), self.ip_proto.to_string(), fits));
        }
        for (name, want, have, alone) in [
            ("dst_ip", key.dst_ipv4, self.ipv4.map(|(_, d)| d), FlowerKey { dst_ipv4: key.dst_ipv4, ..only() }),
            ("src_ip", key.src_ipv4, self.ipv4.map(|(s, _)| s), FlowerKey { src_ipv4: key.src_ipv4, ..only() }),
        ] {
            if let Some((value, mask)) = want {
                let have = have.map_or(NONE.to_owned(), |a| std::net::Ipv4Addr::from(a).to_string());
                list.push((name, format!("{value}/{mask}"), have, one(alone)));
            }
        }
        for (name, want, have, alone) in [
            ("dst_ip", key.dst_ipv6, self.ipv6.map(|(_, d)| d), FlowerKey { dst_ipv6: key.dst_ipv6, ..only() }),
            ("src_ip", key.src_ipv6, self.ipv6.map(|(s, _)| s), FlowerKey { src_ipv6: key.src_ipv6, ..only() }),
        ] {
            if let Some((value, mask)) = want {
                let have = have.map_or(NONE.to_owned(), |a| std::net::Ipv6Addr::from(a).to_string());
                list.push((name, format!("{value}/{mask}"), have, one(alone)));
            }
        }
        for (name, want, have, alone) in [
            ("dst_port", key.dst_port, self.dst_port, FlowerKey { dst_port: key.dst_port, ..only() }),
            ("src_port", key.src_port, self.src_port, FlowerKey { src_port: key.src_port, ..only() }),
        ] {
            match want {
                Some(PortMatch::Masked(value, mask)) => {
                    list.push((name, format!("{value}/{mask:#x}"), have.to_string(), one(alone)));
                }
                Some(PortMatch::Range(low, high)) => {
                    list.push((name, format!("{low}-{high}"), have.to_string(), one(alone)));
                }
                None => {}
            }
        }
        if let Some((value, mask)) = key.tcp_flags {
            let fits = one(FlowerKey { tcp_flags: key.tcp_flags, ..only() });
            list.push(("tcp_flags", format!("{value:#x}/{mask:#x}"), format!("{:#x}", self.tcp_flags), fits));
        }
        list
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule matches exactly if each of its comparisons holds.
    #[test]
    fn comparisons_are_what_is_matched() {
        let found = Dissected {
            eth_type: 0x0800,
            macs: [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2],
            ip_proto: 6,
            ipv4: Some(([10, 0, 0, 1], [10, 0, 0, 2])),
            src_port: 1000,
            dst_port: 80,
            tcp_flags: 2,
            ..Dissected::default()
        };
        let mut outcomes = [0, 0];
        for bits in 0..1024_u32 {
            let on = |bit: u32| bits >> bit & 1 == 1;
            let good = bits % 3 != 0;
            let key = FlowerKey {
                eth_type: on(0).then_some(if good { 0x0800 } else { 0x86dd }),
                ip_proto: on(1).then_some(6),
                src_ipv4: on(2).then_some(([10, 0, 0, 0].into(), [255, 255, 255, 0].into())),
                dst_ipv4: on(3).then_some(([10, 0, 0, if good { 2 } else { 3 }].into(), [255; 4].into())),
                src_port: on(4).then_some(PortMatch::Range(900, if good { 1000 } else { 999 })),
                dst_port: on(5).then_some(PortMatch::Masked(80, 0xffff)),
                tcp_flags: on(6).then_some((if good { 2 } else { 16 }, 0x12)),
                src_mac: on(7).then_some(([2, 0, 0, 0, 0, 2], [255; 6])),
                dst_mac: on(8).then_some(([2, 0, 0, 0, 0, 0], [255, 0, 0, 0, 0, 0])),
                dst_ipv6: on(9).then_some((std::net::Ipv6Addr::LOCALHOST, std::net::Ipv6Addr::LOCALHOST)),
                src_ipv6: None,
            };
            let all_hold = found.comparisons(&key).iter().all(|(_, _, _, holds)| *holds);
            assert_eq!(all_hold, found.matches(&key), "{key:?}");
            outcomes[usize::from(all_hold)] += 1;
        }
        assert!(outcomes.iter().all(|n| *n > 50), "{outcomes:?}");
    }
}
