//! flower over the plan's arrays: keys become comparisons once, frames are held against them. What a match does is in `actions`.

use super::Outlet;
use super::actions::After;
use super::layout::{Compare, Rule, Span};
use super::run::{Run, View};
use crate::rules::flower::{FlowerField, NEVER_FAMILY, fragment};
use crate::rules::{Control, CounterSink, FlowerKey, NodeWord};
use crate::types::DeviceId;
use crate::wire::{Fragment, Headers, IpVersion, SeenTag, be16, be32};

/// The comparisons of a flower key, those that most often fail first.
pub(super) fn compares(key: &FlowerKey) -> Vec<Compare> {
    let mut list: Vec<(u8, Compare)> = Vec::new();
    key.all_fields(&mut |field, value, mask| {
        add(&mut list, field, value, mask);
        true
    });
    list.sort_by_key(|(rank, _)| *rank);
    list.into_iter().map(|(_, compare)| compare).collect()
}

/// Adds what a field asks for, to a comparison that is there where both are one word.
fn add(list: &mut Vec<(u8, Compare)>, field: FlowerField, value: u128, mask: u128) {
    use FlowerField as F;
    let (v16, m16, v32, m32) = (value as u16, mask as u16, value as u32, mask as u32);
    let (v64, m64) = (value as u64, mask as u64);
    let new = match field {
        F::EthType => (0, Compare::EthType(v16)),
        F::IpProto => (1, Compare::IpProto(value as u8)),
        F::DstPort => (2, Compare::Port { offset: 2, value: v16, mask: m16 }),
        F::DstPortRange => (2, Compare::PortRange { offset: 2, low: (v32 >> 16) as u16, high: v16 }),
        F::DstIpv4 => (3, Compare::Ipv4 { offset: 16, value: v32, mask: m32 }),
        F::SrcPort => (4, Compare::Port { offset: 0, value: v16, mask: m16 }),
        F::SrcPortRange => (4, Compare::PortRange { offset: 0, low: (v32 >> 16) as u16, high: v16 }),
        F::SrcIpv4 => (5, Compare::Ipv4 { offset: 12, value: v32, mask: m32 }),
        F::DstIpv6 => (6, Compare::Ipv6 { offset: 24, value, mask }),
        F::SrcIpv6 => (7, Compare::Ipv6 { offset: 8, value, mask }),
        F::TcpFlags => (8, Compare::TcpFlags { value: v16, mask: m16 }),
        F::DstMac => (9, Compare::Mac { offset: 0, value: v64, mask: m64 }),
        F::SrcMac => (10, Compare::Mac { offset: 6, value: v64, mask: m64 }),
        F::VlanId(index) => return tag(list, index, v64 << 32, m64 << 32),
        F::VlanPrio(index) => return tag(list, index, v64 << 45, m64 << 45),
        F::VlanTpid(index) => return tag(list, index, v64 << 16, m64 << 16),
        F::VlanEthType(index) => return tag(list, index, v64, m64),
        F::Tos => return pair(list, 12, v16 << 8, m16 << 8, |value, mask| Compare::TosTtl { value, mask }),
        F::Ttl => return pair(list, 12, v16, m16, |value, mask| Compare::TosTtl { value, mask }),
        F::IcmpType => return pair(list, 13, v16 << 8, m16 << 8, |value, mask| Compare::Icmp { value, mask }),
        F::IcmpCode => return pair(list, 13, v16, m16, |value, mask| Compare::Icmp { value, mask }),
        F::IpFlags => (14, Compare::Fragment { value: value as u8, mask: mask as u8 }),
        F::NumOfVlans => (15, Compare::TagCount(value as u8)),
        F::MplsEntries => (16, Compare::MplsEntries(value as u8)),
        F::Mpls(index) => (17, Compare::Mpls { index, value: v32, mask: m32 }),
        F::ArpOp => (18, Compare::ArpOp { value: v16, mask: m16 }),
        F::ArpSha => (19, Compare::ArpMac { offset: 8, value: v64, mask: m64 }),
        F::ArpSip => (19, Compare::ArpIpv4 { offset: 14, value: v32, mask: m32 }),
        F::ArpTha => (19, Compare::ArpMac { offset: 18, value: v64, mask: m64 }),
        F::ArpTip => (19, Compare::ArpIpv4 { offset: 24, value: v32, mask: m32 }),
        // That the header is there is asked together with what is in it.
        F::PppoeType => (20, Compare::Pppoe { value: 0, mask: 0 }),
        F::PppoeSid => return pppoe(list, v32 << 16, m32 << 16),
        F::PppProto => return pppoe(list, v32, m32),
        F::Indev => (21, Compare::Indev(DeviceId(v32))),
        // That addresses are there is asked together with their bits.
        F::Family if value != u128::from(NEVER_FAMILY) => return,
        F::Family => (0, Compare::Never),
    };
    list.push(new);
}

fn tag(list: &mut Vec<(u8, Compare)>, index: u8, value: u64, mask: u64) {
    for (_, compare) in list.iter_mut() {
        if let Compare::Tag { index: i, value: v, mask: m } = compare
            && *i == index
        {
            (*v, *m) = (*v | value, *m | mask);
            return;
        }
    }
    list.push((11, Compare::Tag { index, value, mask }));
}

fn pppoe(list: &mut Vec<(u8, Compare)>, value: u32, mask: u32) {
    for (_, compare) in list.iter_mut() {
        if let Compare::Pppoe { value: v, mask: m } = compare {
            (*v, *m) = (*v | value, *m | mask);
            return;
        }
    }
    list.push((20, Compare::Pppoe { value, mask }));
}

/// Two bytes that are compared as one word.
fn pair(list: &mut Vec<(u8, Compare)>, rank: u8, value: u16, mask: u16, make: fn(u16, u16) -> Compare) {
    let (value, mask) = match list.last() {
        Some((r, Compare::TosTtl { value: v, mask: m } | Compare::Icmp { value: v, mask: m })) if *r == rank => {
            let merged = (*v | value, *m | mask);
            list.pop();
            merged
        }
        Some(_) | None => (value, mask),
    };
    list.push((rank, make(value, mask)));
}

impl<C: CounterSink, O: Outlet> Run<'_, C, O> {
    /// `fl_classify()`, net/sched/cls_flower.c: at most one rule matches.
    pub(super) fn flower_filter(&mut self, rules: Span, view: &mut View<'_, '_>) -> After {
        let plan = self.plan;
        let iif = view.place.iif;
        let data = view.packet.data();
        let meta = &view.packet.meta;
        let headers = view.headers.get_or_insert_with(|| Headers::parse(data, meta));
        let found = rules
            .of(&plan.rules)
            .iter()
            .find(|rule| rule.compares.of(&plan.compares).iter().all(|compare| compare.holds(data, headers, iif)));
        self.flower_match(found, view)
    }

    /// What a rule does that matched, if one did.
    pub(super) fn flower_match(&mut self, found: Option<&Rule>, view: &mut View<'_, '_>) -> After {
        let Some(rule) = found else { return After::Control(Control::Continue) };
        self.counters.add(rule.counters + NodeWord::HIT, 1);
        self.counters.add(rule.counters + NodeWord::SUCCESS, 1);
        self.steps(rule.steps, view)
    }
}

impl Compare {
    pub(super) fn holds(&self, data: &[u8], headers: &Headers, iif: DeviceId) -> bool {
        let port = |offset: u8| headers.ports.map_or(0, |at| be16(data, at + usize::from(offset)));
        match *self {
            Self::EthType(want) => headers.eth_type == want,
            Self::IpProto(want) => headers.ip_proto == want,
            Self::Ipv4 { offset, value, mask } => {
                headers.ip == Some(IpVersion::V4) && be32(data, headers.network + usize::from(offset)) & mask == value
            }
            Self::Ipv6 { offset, value, mask } => {
                headers.ip == Some(IpVersion::V6) && be128(data, headers.network + usize::from(offset)) & mask == value
            }
            Self::Port { offset, value, mask } => port(offset) & mask == value,
            Self::PortRange { offset, low, high } => (low..=high).contains(&port(offset)),
            Self::TcpFlags { value, mask } => headers.tcp_flags.map_or(0, |at| be16(data, at) & 0x0fff) & mask == value,
            Self::Mac { offset, value, mask } => mac_at(data, usize::from(offset)) & mask == value,
            Self::TosTtl { value, mask } => tos_ttl(data, headers) & mask == value,
            Self::Fragment { value, mask } => fragment_bits(headers.fragment) & mask == value,
            Self::Icmp { value, mask } => headers.icmp.map_or(0, |at| be16(data, at)) & mask == value,
            Self::TagCount(want) => headers.tag_count == want,
            Self::Tag { index, value, mask } => tag_word(headers.tags[usize::from(index)]) & mask == value,
            Self::MplsEntries(want) => ((1_u8 << headers.mpls_count) - 1) & want == want,
            Self::Mpls { index, value, mask } => {
                let there = index < headers.mpls_count;
                let word = if there { be32(data, headers.mpls + 4 * usize::from(index)) } else { 0 };
                word & mask == value
            }
            Self::ArpOp { value, mask } => headers.arp.map_or(0, |at| be16(data, at + 6)) & mask == value,
            Self::ArpIpv4 { offset, value, mask } => {
                headers.arp.map_or(0, |at| be32(data, at + usize::from(offset))) & mask == value
            }
            Self::ArpMac { offset, value, mask } => {
                headers.arp.map_or(0, |at| mac_at(data, at + usize::from(offset))) & mask == value
            }
            Self::Pppoe { value, mask } => headers.pppoe.is_some_and(|at| {
                (u32::from(be16(data, at + 2)) << 16 | u32::from(be16(data, at + 6))) & mask == value
            }),
            Self::Indev(device) => device == iif,
            Self::Never => false,
        }
    }
}

/// As [`Compare::TosTtl`] says; 0 without IP.
fn tos_ttl(data: &[u8], headers: &Headers) -> u16 {
    let at = headers.network;
    match headers.ip {
        Some(IpVersion::V4) => u16::from_be_bytes([data[at + 1], data[at + 8]]),
        Some(IpVersion::V6) => u16::from_be_bytes([(be16(data, at) >> 4) as u8, data[at + 7]]),
        None => 0,
    }
}

const fn fragment_bits(fragment: Fragment) -> u8 {
    match fragment {
        Fragment::No => 0,
        Fragment::First => fragment::IS_FRAGMENT | fragment::FIRST,
        Fragment::Later => fragment::IS_FRAGMENT,
    }
}

/// As [`Compare::Tag`] says.
fn tag_word(tag: SeenTag) -> u64 {
    u64::from(tag.tci) << 32 | u64::from(tag.tpid) << 16 | u64::from(tag.eth_type)
}

/// Six bytes of the MAC header as the low 48 bits of a word; a frame whose header was taken off may be shorter, and what it does not
/// have is zero.
fn mac_at(data: &[u8], at: usize) -> u64 {
    let there = data.get(at..).unwrap_or(&[]);
    (0..6).fold(0, |word, i| word << 8 | there.get(i).map_or(0, |byte| u64::from(*byte)))
}

fn be128(data: &[u8], at: usize) -> u128 {
    u128::from_be_bytes(data[at..at + 16].try_into().expect("a slice of 16 bytes is an array of 16"))
}
