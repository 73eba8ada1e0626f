//! u32 and fw over the plan's arrays. They count and compare; what a match does is in `actions`.

use super::Outlet;
use super::actions::After;
use super::layout::{Node, Span};
use super::run::{Run, View};
use crate::rules::{Control, CounterSink, NodeWord};
use crate::types::Direction;

/// What comparing a node's keys came to.
enum Keys {
    Match,
    Differ,
    /// A word lies outside of the frame.
    Unreadable,
}

/// What trying a node came to.
pub(super) enum Tried {
    /// The next one has its turn.
    On,
    /// A word lies outside of the frame.
    Unreadable,
    /// It matched, and that is the end.
    Ends(After),
}

impl<C: CounterSink, O: Outlet> Run<'_, C, O> {
    /// `u32_classify()`, net/sched/cls_u32.c.
    pub(super) fn u32_filter(&mut self, nodes: Span, view: &mut View<'_, '_>) -> After {
        let plan = self.plan;
        // The kernel looks once where the network header is, from where its data begin: at egress that is the frame's start.
        let at_entry = view.packet.meta.network;
        for node in nodes.of(&plan.nodes) {
            self.counters.add(node.counters + NodeWord::HIT, 1);
            match self.u32_node(node, at_entry, view) {
                Tried::On => {}
                // A key that cannot be read ends the whole filter.
                Tried::Unreadable => break,
                Tried::Ends(verdict) => return verdict,
            }
        }
        After::Control(Control::Continue)
    }

    /// A node of a filter that was entered when the network header was at `at_entry`. That it is tried is counted by the caller.
    #[inline]
    pub(super) fn u32_node(&mut self, node: &Node, at_entry: u16, view: &mut View<'_, '_>) -> Tried {
        if !self.mark_fits(node, view.packet.meta.mark) {
            return Tried::On;
        }
        let network = match view.place.direction {
            Direction::Ingress => view.packet.meta.network,
            Direction::Egress => at_entry,
        };
        match self.keys(node, view.packet.data(), usize::from(network)) {
            Keys::Unreadable => return Tried::Unreadable,
            Keys::Differ => return Tried::On,
            Keys::Match => {}
        }
        if !node.terminal || node.indev.is_some_and(|device| device != view.place.iif) {
            return Tried::On;
        }
        self.counters.add(node.counters + NodeWord::SUCCESS, 1);
        match self.steps(node.steps, view) {
            After::Control(Control::Continue) => Tried::On,
            verdict @ (After::Control(_) | After::Shot(_) | After::Redirect { .. }) => Tried::Ends(verdict),
        }
    }

    /// Counts that the node is tried, and whether its mark fits.
    pub(super) fn u32_mark(&mut self, node: &Node, mark: u32) -> bool {
        self.counters.add(node.counters + NodeWord::HIT, 1);
        self.mark_fits(node, mark)
    }

    fn mark_fits(&mut self, node: &Node, mark: u32) -> bool {
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
            match key.compare(data, network).or_else(|| key.before(data, network)) {
                Some(true) => {}
                Some(false) => return Keys::Differ,
                None => return Keys::Unreadable,
            }
            self.counters.add(passed, 1);
        }
        Keys::Match
    }

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
