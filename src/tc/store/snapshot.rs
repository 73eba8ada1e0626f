//! The store as a [`Ruleset`]: what back ends run. It adds nothing and decides nothing.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Store;
use super::actions::ActionSlot;
use super::block::{Block, Body, Entry, Proto, ProtoKind};
use super::qdiscs::BlockId;
use crate::rules::{
    ActionId, ActionInstance, BasicRule, Chain, Classifier, Filter, FlowerRule, FwFilter, FwRule, Hook, MatchallRule,
    Ruleset, U32Link, U32Node, U32Table,
};
use crate::tc::command::Parent;
use crate::types::{DeviceId, Direction, Protocol};

/// What filters name, as positions in the ruleset.
struct Ids<'a> {
    actions: &'a HashMap<ActionSlot, ActionId>,
    /// u32 tables of one qdisc, by their ids.
    tables: HashMap<u32, u32>,
    /// Handle of that qdisc.
    qdisc: u32,
}

impl Store {
    /// A snapshot of all rules. Counter words are stable while their owner lives; `DeviceId`s never change.
    #[must_use]
    pub fn ruleset(&self) -> Ruleset {
        let mut slots = HashMap::new();
        let mut actions = Vec::new();
        for (slot, state) in self.actions.iter() {
            slots.insert(slot, ActionId(actions.len() as u32));
            actions.push(ActionInstance { index: state.index, action: state.action.clone(), counters: state.counters });
        }
        let mut u32_tables = Vec::new();
        let mut tables = |device: DeviceId, made: &[super::U32Table], qdisc: Parent| {
            let positions = (u32_tables.len() as u32..).zip(made).map(|(at, t)| (t.id, at)).collect();
            let ids = Ids { actions: &slots, tables: positions, qdisc: qdisc.0 };
            u32_tables.extend(made.iter().map(|t| u32_table(device, t, &ids)));
            ids
        };
        let shared: HashMap<DeviceId, Ids<'_>> = self
            .shared_blocks()
            .filter_map(|(id, state)| {
                let user = self.states().find(|(_, _, user)| user.shared.contains(&Some(id)))?.0;
                Some((id, tables(user, &state.hook_u32.tables, Parent::INGRESS_QDISC)))
            })
            .collect();
        let mut hooks = Vec::new();
        for (device, _, state) in self.states() {
            let own = tables(device, &state.hook_u32.tables, Parent::INGRESS_QDISC);
            let on_root = tables(device, &state.root_u32.tables, state.handle(BlockId::Root));
            let on = |direction: Direction| {
                let (at, block) = self.hook_block(state, direction);
                let ids = state.shared[usize::from(direction == Direction::Egress)].map_or(&own, |id| &shared[&id]);
                Hook { device, direction, chains: chains(at.block(block), ids) }
            };
            if state.ingress.is_some() {
                hooks.push(on(Direction::Ingress));
            }
            // Filters on a root qdisc run at egress too.
            if !state.root_block.is_empty() {
                let chains = chains(&state.root_block, &on_root);
                hooks.push(Hook { device, direction: Direction::Egress, chains });
            } else if state.ingress == Some(super::IngressKind::Clsact) {
                hooks.push(on(Direction::Egress));
            }
        }
        Ruleset { devices: self.devices.clone(), hooks, u32_tables, actions, counter_words: self.counter_words }
    }
}

fn u32_table(device: DeviceId, table: &super::U32Table, ids: &Ids<'_>) -> U32Table {
    let nodes = |bucket: &Vec<Entry>| bucket.iter().filter_map(|e| u32_node(e, ids)).collect();
    U32Table { id: table.id, device, prio: table.prio, buckets: table.buckets.iter().map(nodes).collect() }
}

fn chains(block: &Block, ids: &Ids<'_>) -> BTreeMap<u32, Chain> {
    let with_filters = block.chains.iter().filter(|c| !c.protos.is_empty());
    with_filters.map(|c| (c.index, Chain { filters: c.protos.iter().map(|p| filter(p, ids)).collect() })).collect()
}

fn filter(proto: &Proto, ids: &Ids<'_>) -> Filter {
    let classifier = match proto.kind {
        ProtoKind::U32 => Classifier::U32(proto.entries.iter().filter_map(|e| u32_node(e, ids)).collect()),
        ProtoKind::Flower => Classifier::Flower(flower_rules(proto, ids)),
        ProtoKind::Matchall => Classifier::Matchall(proto.entries.first().map(|e| matchall(e, ids))),
        ProtoKind::Fw => Classifier::Fw(match proto.mask {
            None => FwFilter::Classes { qdisc: ids.qdisc },
            Some(mask) => FwFilter::Marks { mask, rules: proto.entries.iter().filter_map(|e| fw(e, ids)).collect() },
        }),
        ProtoKind::Basic => Classifier::Basic(proto.listed().into_iter().filter_map(|e| basic(e, ids)).collect()),
    };
    Filter { prio: proto.prio, protocol: Protocol(proto.protocol), classifier }
}

fn action_ids(entry: &Entry, ids: &Ids<'_>) -> Vec<ActionId> {
    entry.actions.iter().map(|slot| ids.actions[slot]).collect()
}

fn u32_node(entry: &Entry, ids: &Ids<'_>) -> Option<U32Node> {
    let Body::U32 { keys, mark, indev, terminal, link, offset } = &entry.body else { return None };
    let link = link.map(|id| U32Link { table: ids.tables[&id], descent: *offset });
    Some(U32Node {
        handle: entry.handle,
        keys: keys.clone(),
        mark: *mark,
        indev: *indev,
        terminal: *terminal,
        classid: entry.classid,
        actions: action_ids(entry, ids),
        link,
        counters: entry.counters,
    })
}

fn fw(entry: &Entry, ids: &Ids<'_>) -> Option<FwRule> {
    let Body::Fw { indev } = &entry.body else { return None };
    Some(FwRule {
        handle: entry.handle,
        indev: *indev,
        classid: entry.classid,
        actions: action_ids(entry, ids),
        counters: entry.counters,
    })
}

fn basic(entry: &Entry, ids: &Ids<'_>) -> Option<BasicRule> {
    let Body::Basic { ematches } = &entry.body else { return None };
    Some(BasicRule {
        handle: entry.handle,
        ematches: ematches.clone(),
        classid: entry.classid,
        actions: action_ids(entry, ids),
        counters: entry.counters,
    })
}

/// By the age of their masks, then their own: the order in which the kernel looks (`fl_classify()`). Of those with ranges of ports
/// (`fl_lookup_range()`) all that have the same ranges come where the first of them is. Of two with the same key it finds the newer.
fn flower_rules(proto: &Proto, ids: &Ids<'_>) -> Vec<FlowerRule> {
    let mut rules: Vec<((u64, u64, u64), FlowerRule)> = Vec::with_capacity(proto.entries.len());
    let mut groups = HashMap::new();
    for entry in &proto.entries {
        let Body::Flower { written, mask_sequence, place_in_mask } = &entry.body else { continue };
        let rule = FlowerRule {
            handle: entry.handle,
            key: written.masked(),
            classid: entry.classid,
            actions: action_ids(entry, ids),
            counters: entry.counters,
        };
        if let Some(ranges) = super::flower::ranges(&rule.key) {
            let first = groups.entry((*mask_sequence, ranges)).or_insert(*place_in_mask);
            *first = (*first).min(*place_in_mask);
        }
        rules.push(((*mask_sequence, 0, entry.sequence), rule));
    }
    if !groups.is_empty() {
        for ((mask, group, _), rule) in &mut rules {
            *group = super::flower::ranges(&rule.key).map_or(0, |ranges| groups[&(*mask, ranges)]);
        }
    }
    rules.sort_by_key(|(order, _)| *order);
    let mut rules: Vec<FlowerRule> = rules.into_iter().map(|(_, rule)| rule).collect();
    if proto.flower.has_twins() {
        let mut seen = HashSet::new();
        let newest: Vec<bool> = rules.iter().rev().map(|rule| seen.insert(rule.key.clone())).collect();
        let mut newest = newest.into_iter().rev();
        rules.retain(|_| newest.next().unwrap_or(true));
    }
    rules
}

fn matchall(entry: &Entry, ids: &Ids<'_>) -> MatchallRule {
    MatchallRule {
        handle: entry.handle,
        skip_sw: false,
        classid: entry.classid,
        actions: action_ids(entry, ids),
        counters: entry.counters,
    }
}
