//! The store as a [`Ruleset`]: what back ends run. It adds nothing and decides nothing.

use std::collections::{BTreeMap, HashMap};

use super::actions::ActionSlot;
use super::block::{Block, Body, Entry, Proto, ProtoKind};
use super::qdiscs::BlockId;
use super::{DeviceState, Store};
use crate::rules::{
    ActionId, ActionInstance, Chain, Classifier, Filter, FlowerRule, Hook, MatchallRule, Ruleset, U32Node,
};
use crate::tc::filter::flower::masked;
use crate::types::{DeviceId, Direction, Protocol};

/// Slots of actions as positions in the ruleset.
type ActionIds = HashMap<ActionSlot, ActionId>;

impl Store {
    /// A snapshot of all rules. Counter words are stable while their owner lives; `DeviceId`s never change.
    #[must_use]
    pub fn ruleset(&self) -> Ruleset {
        let mut ids = ActionIds::new();
        let mut actions = Vec::new();
        for (slot, state) in self.actions.iter() {
            ids.insert(slot, ActionId(actions.len() as u32));
            actions.push(ActionInstance { index: state.index, action: state.action.clone(), counters: state.counters });
        }
        let hooks = self.states().flat_map(|(id, _, state)| hooks(id, state, &ids)).collect();
        Ruleset { devices: self.devices.clone(), hooks, actions, counter_words: self.counter_words }
    }
}

/// The hooks of a device: ingress and egress if there is a qdisc for them, egress also for filters on a root qdisc.
fn hooks(device: DeviceId, state: &DeviceState, ids: &ActionIds) -> Vec<Hook> {
    let hook = |direction, block: &Block| Hook { device, direction, chains: chains(block, ids) };
    let mut hooks = Vec::new();
    if state.ingress.is_some() {
        hooks.push(hook(Direction::Ingress, state.block(BlockId::Ingress)));
    }
    if !state.root_block.is_empty() {
        hooks.push(hook(Direction::Egress, state.block(BlockId::Root)));
    } else if state.ingress == Some(super::IngressKind::Clsact) {
        hooks.push(hook(Direction::Egress, state.block(BlockId::Egress)));
    }
    hooks
}

fn chains(block: &Block, ids: &ActionIds) -> BTreeMap<u32, Chain> {
    let with_filters = block.chains.iter().filter(|c| !c.protos.is_empty());
    with_filters.map(|c| (c.index, Chain { filters: c.protos.iter().map(|p| filter(p, ids)).collect() })).collect()
}

fn filter(proto: &Proto, ids: &ActionIds) -> Filter {
    let classifier = match proto.kind {
        ProtoKind::U32 => Classifier::U32(proto.entries.iter().filter_map(|e| u32_node(e, ids)).collect()),
        ProtoKind::Flower => Classifier::Flower(flower_rules(proto, ids)),
        ProtoKind::Matchall => Classifier::Matchall(proto.entries.first().map(|e| matchall(e, ids))),
    };
    Filter { prio: proto.prio, protocol: Protocol(proto.protocol), classifier }
}

fn action_ids(entry: &Entry, ids: &ActionIds) -> Vec<ActionId> {
    entry.actions.iter().map(|slot| ids[slot]).collect()
}

fn u32_node(entry: &Entry, ids: &ActionIds) -> Option<U32Node> {
    let Body::U32 { keys, mark, indev, terminal } = &entry.body else { return None };
    Some(U32Node {
        handle: entry.handle,
        keys: keys.clone(),
        mark: *mark,
        indev: *indev,
        terminal: *terminal,
        classid: entry.classid,
        actions: action_ids(entry, ids),
        counters: entry.counters,
    })
}

/// By the age of their masks, then their own: the order in which the kernel looks (`fl_classify()`).
fn flower_rules(proto: &Proto, ids: &ActionIds) -> Vec<FlowerRule> {
    let mut rules: Vec<(u64, u64, FlowerRule)> = Vec::new();
    for entry in &proto.entries {
        let Body::Flower { written, mask_sequence } = &entry.body else { continue };
        let rule = FlowerRule {
            handle: entry.handle,
            key: masked(written),
            classid: entry.classid,
            actions: action_ids(entry, ids),
            counters: entry.counters,
        };
        rules.push((*mask_sequence, entry.sequence, rule));
    }
    rules.sort_by_key(|(mask, own, _)| (*mask, *own));
    rules.into_iter().map(|(_, _, rule)| rule).collect()
}

fn matchall(entry: &Entry, ids: &ActionIds) -> MatchallRule {
    MatchallRule {
        handle: entry.handle,
        skip_sw: false,
        classid: entry.classid,
        actions: action_ids(entry, ids),
        counters: entry.counters,
    }
}
