//! flower: what the dissector found, compared with rules, also in words. Where headers are is found in `dissect`.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::dissect::Dissected;
use super::trace::Step;
use super::{Outcome, Run, Skb};
use crate::rules::flower::{NEVER_FAMILY, fragment};
use crate::rules::{Control, CounterSink, FlowerField, FlowerKey, FlowerRule, NodeWord};

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

    /// Tells each comparison up to the first that fails, of each rule up to the first that matches.
    fn tell_flower(&mut self, rules: &[FlowerRule], found: &Dissected) {
        for rule in rules {
            let matches = rule.key.all_fields(&mut |field, value, mask| {
                let have = found.number(field);
                let holds = field.holds(have, value, mask);
                let none = is_address(field) && found.number(FlowerField::Family) == 0;
                let have = if none { "none".to_owned() } else { plain(field, have) };
                let want = self.wanted(field, value, mask);
                let have = self.device_name(field, have);
                let handle = rule.handle;
                self.tell(Step::Flower { handle, name: field.name(), want: &want, have: &have, holds });
                holds
            });
            if matches {
                return;
            }
        }
    }

    /// What a rule wants, in words.
    fn wanted(&self, field: FlowerField, value: u128, mask: u128) -> String {
        use FlowerField as F;
        match field {
            F::DstPortRange | F::SrcPortRange => format!("{}-{}", value >> 16, value & 0xffff),
            F::DstMac | F::SrcMac | F::ArpSha | F::ArpTha => format!("{}/{}", mac(value), mac(mask)),
            F::DstIpv4 | F::SrcIpv4 | F::DstIpv6 | F::SrcIpv6 | F::ArpSip | F::ArpTip => {
                format!("{}/{}", plain(field, value), plain(field, mask))
            }
            F::DstPort | F::SrcPort | F::Tos | F::Ttl | F::IcmpType | F::IcmpCode | F::ArpOp => {
                format!("{value}/{mask:#x}")
            }
            F::TcpFlags => format!("{value:#x}/{mask:#x}"),
            F::IpFlags => fragment_words(value, mask),
            F::Mpls(_) => mpls_words(value, mask),
            F::Family if value == u128::from(NEVER_FAMILY) => "of prefix length 0, which no frame has".to_owned(),
            F::Indev => self.device_name(field, value.to_string()),
            F::NumOfVlans
            | F::VlanId(_)
            | F::VlanPrio(_)
            | F::VlanTpid(_)
            | F::VlanEthType(_)
            | F::EthType
            | F::IpProto
            | F::Family
            | F::MplsEntries
            | F::PppoeType
            | F::PppoeSid
            | F::PppProto => plain(field, value),
        }
    }

    /// A device's name in the place of its number.
    fn device_name(&self, field: FlowerField, number: String) -> String {
        if field != FlowerField::Indev {
            return number;
        }
        let device = number.parse().ok().and_then(|n: usize| self.ruleset.devices.get(n));
        device.map_or(number, |key| key.name.clone())
    }
}

impl Dissected {
    fn matches(&self, key: &FlowerKey) -> bool {
        key.all_fields(&mut |field, value, mask| field.holds(self.number(field), value, mask))
    }
}

fn is_address(field: FlowerField) -> bool {
    use FlowerField as F;
    matches!(field, F::DstIpv4 | F::SrcIpv4 | F::DstIpv6 | F::SrcIpv6)
}

/// A number as one writes it.
fn plain(field: FlowerField, number: u128) -> String {
    use FlowerField as F;
    match field {
        F::DstMac | F::SrcMac | F::ArpSha | F::ArpTha => mac(number),
        F::DstIpv4 | F::SrcIpv4 | F::ArpSip | F::ArpTip => Ipv4Addr::from(number as u32).to_string(),
        F::DstIpv6 | F::SrcIpv6 => Ipv6Addr::from(number).to_string(),
        F::EthType | F::VlanTpid(_) | F::VlanEthType(_) | F::PppoeType | F::PppProto => format!("{number:#06x}"),
        F::TcpFlags => format!("{number:#x}"),
        F::IpFlags => fragment_words(number, u128::MAX),
        F::Mpls(_) => mpls_words(number, u128::MAX),
        F::Family => match number {
            4 => "IPv4".to_owned(),
            6 => "IPv6".to_owned(),
            _ => "none".to_owned(),
        },
        F::MplsEntries => format!("{number:#09b}"),
        F::Indev
        | F::NumOfVlans
        | F::VlanId(_)
        | F::VlanPrio(_)
        | F::IpProto
        | F::Tos
        | F::Ttl
        | F::DstPort
        | F::SrcPort
        | F::DstPortRange
        | F::SrcPortRange
        | F::IcmpType
        | F::IcmpCode
        | F::ArpOp
        | F::PppoeSid => number.to_string(),
    }
}

/// The flags that a mask has, as tc says them.
fn fragment_words(value: u128, mask: u128) -> String {
    let all = [("frag", fragment::IS_FRAGMENT), ("firstfrag", fragment::FIRST)];
    let word = |(name, bit): (&str, u8)| {
        let no = if value & u128::from(bit) == 0 { "no" } else { "" };
        (mask & u128::from(bit) != 0).then(|| format!("{no}{name}"))
    };
    all.into_iter().filter_map(word).collect::<Vec<_>>().join("/")
}

/// The parts of an entry of a label stack that a mask has.
fn mpls_words(value: u128, mask: u128) -> String {
    let parts = [("label", 12, 0xf_ffff), ("tc", 9, 7), ("bos", 8, 1), ("ttl", 0, 0xff)];
    let there = parts.into_iter().filter(|(_, shift, bits)| mask >> shift & bits != 0);
    there.map(|(name, shift, bits)| format!("{name} {}", value >> shift & bits)).collect::<Vec<_>>().join(" ")
}

fn mac(number: u128) -> String {
    let bytes = number.to_be_bytes();
    bytes[10..].iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
}
