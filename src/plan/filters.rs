//! u32, flower and fw over the plan's arrays. They count and compare; what a match does is in `actions`.

use super::Outlet;
use super::actions::After;
use super::compile::low48;
use super::layout::{Compare, Node, Span};
use super::run::{Run, View};
use crate::rules::{Control, CounterSink, NodeWord};
use crate::types::{Direction, PacketMeta};
use crate::wire::{Headers, IpVersion, be16, be32};

/// What comparing a node's keys came to.
enum Keys {
    Match,
    Differ,
    /// A word lies outside of the frame.
    Unreadable,
}

impl<C: CounterSink, O: Outlet> Run<'_, C, O> {
    /// `u32_classify()`, net/sched/cls_u32.c.
    pub(super) fn u32_filter(&mut self, nodes: Span, view: &mut View<'_, '_>) -> After {
        let plan = self.plan;
        // The kernel looks once where the network header is, from where its data begin: at egress that is the frame's start.
        let at_entry = view.packet.meta.network;
        for node in nodes.of(&plan.nodes) {
            if !self.u32_mark(node, view.packet.meta.mark) {
                continue;
            }
            let network = match view.place.direction {
                Direction::Ingress => view.packet.meta.network,
                Direction::Egress => at_entry,
            };
            match self.keys(node, view.packet.data(), usize::from(network)) {
                // A key that cannot be read ends the whole filter.
                Keys::Unreadable => break,
                Keys::Differ => continue,
                Keys::Match => {}
            }
            if !node.terminal || node.indev.is_some_and(|device| device != view.place.iif) {
                continue;
            }
            self.counters.add(node.counters + NodeWord::SUCCESS, 1);
            match self.steps(node.steps, view) {
                After::Control(Control::Continue) => {}
                verdict @ (After::Control(_) | After::Shot(_) | After::Redirect { .. }) => return verdict,
            }
        }
        After::Control(Control::Continue)
    }

    /// Counts that the node is tried, and whether its mark fits.
    pub(super) fn u32_mark(&mut self, node: &Node, mark: u32) -> bool {
        self.counters.add(node.counters + NodeWord::HIT, 1);
        if mark & node.mark_mask != node.mark_value {
            return false;
        }
        if node.mark_word != 0 {
            self.counters.add(node.mark_word, 1);
        }
        true
    }

    fn keys(&mut self, node: &Node, data: &[u8], network: usize) -> Keys {
        for (passed, key) in (node.counters + NodeWord::KEYS..).zip(node.keys.of(&self.plan.keys)) {
            // Before the frame it wraps to what is beyond any frame.
            let at = network.wrapping_add_signed(key.offset as isize);
            let Some(bytes) = at.checked_add(4).and_then(|end| data.get(at..end)) else { return Keys::Unreadable };
            let word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            if (word ^ key.value) & key.mask != 0 {
                return Keys::Differ;
            }
            self.counters.add(passed, 1);
        }
        Keys::Match
    }

    /// `fl_classify()`, net/sched/cls_flower.c: at most one rule matches.
    pub(super) fn flower_filter(&mut self, rules: Span, view: &mut View<'_, '_>) -> After {
        let plan = self.plan;
        let data = view.packet.data();
        let PacketMeta { protocol, network, .. } = view.packet.meta;
        let headers = *view.headers.get_or_insert_with(|| Headers::parse(data, protocol, usize::from(network)));
        let found = rules.of(&plan.rules).iter().find(|rule| {
            rule.compares.of(&plan.compares).iter().all(|compare| compare.holds(data, protocol, &headers))
        });
        let Some(rule) = found else { return After::Control(Control::Continue) };
        self.counters.add(rule.counters + NodeWord::HIT, 1);
        self.counters.add(rule.counters + NodeWord::SUCCESS, 1);
        self.steps(rule.steps, view)
    }
}

impl<C: CounterSink, O: Outlet> Run<'_, C, O> {
    /// `fw_classify()`, net/sched/cls_fw.c.
    pub(super) fn fw_filter(&mut self, mask: u32, rules: Span, view: &mut View<'_, '_>) -> After {
        let rules = rules.of(&self.plan.fw_rules);
        let found = rules.binary_search_by_key(&(view.packet.meta.mark & mask), |r| r.handle).ok();
        let rule = found.map(|at| &rules[at]).filter(|r| r.indev.is_none_or(|device| device == view.place.iif));
        let Some(rule) = rule else { return After::Control(Control::Continue) };
        self.counters.add(rule.counters + NodeWord::HIT, 1);
        self.counters.add(rule.counters + NodeWord::SUCCESS, 1);
        self.steps(rule.steps, view)
    }
}

impl Compare {
    fn holds(&self, data: &[u8], protocol: u16, headers: &Headers) -> bool {
        let port = |offset: u8| headers.ports.map_or(0, |at| be16(data, at + usize::from(offset)));
        match *self {
            Self::EthType(want) => protocol == want,
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
            Self::Mac { offset, value, mask } => {
                let at = usize::from(offset);
                low48(mac_at(data, at)) & mask == value
            }
        }
    }
}

/// Six bytes of the MAC header; a frame whose header was taken off may be shorter, and what it does not have is zero.
fn mac_at(data: &[u8], at: usize) -> [u8; 6] {
    let mut mac = [0; 6];
    let there = data.get(at..).unwrap_or(&[]);
    let count = there.len().min(6);
    mac[..count].copy_from_slice(&there[..count]);
    mac
}

fn be128(data: &[u8], at: usize) -> u128 {
    u128::from_be_bytes(data[at..at + 16].try_into().expect("a slice of 16 bytes is an array of 16"))
}
