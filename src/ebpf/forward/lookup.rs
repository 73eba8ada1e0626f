//! Many rules of few mask shapes become map lookups: which rules, and under which keys. The code is in [`super::block`].
//!
//! Rules of one *shape* compare the same masked words. A run of rules is looked up shape by shape, and the rule that is first in
//! the kernel's order wins, as if they had been tried one after the other. That is so only for rules that end classification when
//! they match; others stay code, as do short runs.

use std::collections::BTreeMap;

use super::flower::{Term, terms};
use super::work::{HEAD_END_MAX, NETWORK, START};
use crate::ebpf::verdict::listing;
use crate::rules::flower::{FlowerRule, PortMatch};
use crate::rules::{ActionId, Classifier, Control, Filter, Hook, Ruleset, U32Base, U32Key, U32Node};
use crate::types::Protocol;

/// Shorter runs are code: they are as quick, and each key is counted.
pub const RUN_LEN_MIN: usize = 16;
/// So many rules of a run there must be for each of its shapes.
const RULES_PER_SHAPE_MIN: usize = 4;
/// Words of a key in the map, at most: as many as the stack has room for.
pub(super) const KEY_WORDS_MAX: usize = 14;

/// The map of rules of one program.
#[derive(Clone, Debug, Default)]
pub(in crate::ebpf) struct Tables {
    /// Keys (which lookup, then words) and what is found.
    pub entries: BTreeMap<Vec<u32>, [u32; 4]>,
    /// Lookups so far.
    pub lookups: u32,
    /// What was looked up, for counters.
    pub looked_up: Vec<LookedUp>,
    /// Slots in the keys at most.
    pub key_words: usize,
}

/// How often the rules of a run were tried follows from how often each of them ended it.
#[derive(Clone, Debug)]
pub struct LookedUp {
    /// Slot that counts how often the run was entered.
    pub entered: u32,
    /// Its rules in order.
    pub rules: Vec<LookedUpRule>,
}

/// A u32 node that is looked up.
#[derive(Clone, Copy, Debug)]
pub struct LookedUpRule {
    /// Base of its counter words.
    pub counters: u32,
    /// How many keys it has.
    pub keys: u32,
    /// Slot that counts how often it matched; the next one, how often the filter ended at it since a key could not be read.
    pub slot: u32,
}

/// What a shape compares, in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mask {
    pub at: i16,
    pub wide: bool,
    pub mask: u32,
}

/// A rule in a run.
pub(super) struct Member<'a> {
    pub shape: usize,
    /// The masked words, as they lie in memory.
    pub values: Vec<u32>,
    pub actions: &'a [ActionId],
    pub counters: u32,
}

/// What kind of rules they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nodes of one u32 filter: a key that cannot be read ends it.
    Nodes,
    /// u32 filters of one node each: such a key ends only that one.
    Prios(Protocol),
    /// Rules of a flower filter, all of one shape.
    Flower,
}

/// A run of rules that are looked up.
pub(super) struct Block<'a> {
    pub kind: Kind,
    pub shapes: Vec<Vec<Mask>>,
    pub members: Vec<Member<'a>>,
}

/// A part of a chain.
pub(super) enum Part<'a> {
    Filter(&'a Filter),
    Prios(Block<'a>),
}

/// A part of a u32 filter.
pub(super) enum NodePart<'a> {
    Nodes(&'a [U32Node]),
    Block(Block<'a>),
}

/// A part of a flower filter.
pub(super) enum FlowerPart<'a> {
    Rule(&'a FlowerRule),
    Block(Block<'a>),
}

impl NodePart<'_> {
    fn looked_up(&self) -> usize {
        if let Self::Block(block) = self { block.members.len() } else { 0 }
    }
}

impl FlowerPart<'_> {
    fn looked_up(&self) -> usize {
        if let Self::Block(block) = self { block.members.len() } else { 0 }
    }
}

/// Runs of items for which `key` is something, and the same; the others one by one.
fn runs<T, K: PartialEq>(items: &[T], key: impl Fn(&T) -> Option<K>) -> Vec<(Option<K>, &[T])> {
    let mut runs: Vec<(Option<K>, &[T])> = Vec::new();
    let mut at = 0;
    while at < items.len() {
        let own = key(&items[at]);
        let len = match own {
            None => 1,
            Some(_) => items[at..].iter().take_while(|item| key(item) == own).count(),
        };
        runs.push((own, &items[at..at + len]));
        at += len;
    }
    runs
}

/// A chain's filters, with runs of prios that are looked up.
pub(super) fn parts<'a>(ruleset: &Ruleset, hook: &Hook, filters: &'a [Filter]) -> Vec<Part<'a>> {
    let single = |filter: &'a Filter| match &filter.classifier {
        Classifier::U32(nodes) => nodes.first().filter(|_| nodes.len() == 1),
        Classifier::Flower(_) | Classifier::Matchall(_) | Classifier::Fw(_) | Classifier::Basic(_) => None,
    };
    let mut parts = Vec::new();
    let fits = |f: &Filter| match &f.classifier {
        Classifier::U32(nodes) => (nodes.len() == 1 && fits(ruleset, hook, &nodes[0], false)).then_some(f.protocol),
        Classifier::Flower(_) | Classifier::Matchall(_) | Classifier::Fw(_) | Classifier::Basic(_) => None,
    };
    for (protocol, run) in runs(filters, fits) {
        let nodes: Vec<&U32Node> = run.iter().filter_map(single).collect();
        match protocol.and_then(|p| block(Kind::Prios(p), &nodes)) {
            Some(block) => parts.push(Part::Prios(block)),
            None => parts.extend(run.iter().map(Part::Filter)),
        }
    }
    parts
}

/// How many rules of a chain are looked up.
pub(in crate::ebpf) fn looked_up(ruleset: &Ruleset, hook: &Hook, filters: &[Filter]) -> usize {
    let of_filter = |filter: &Filter| match &filter.classifier {
        Classifier::U32(nodes) => node_parts(ruleset, hook, nodes).iter().map(NodePart::looked_up).sum(),
        Classifier::Flower(rules) => flower_parts(rules).iter().map(FlowerPart::looked_up).sum(),
        Classifier::Matchall(_) | Classifier::Fw(_) | Classifier::Basic(_) => 0,
    };
    let of_part = |part: &Part<'_>| match part {
        Part::Filter(filter) => of_filter(filter),
        Part::Prios(block) => block.members.len(),
    };
    parts(ruleset, hook, filters).iter().map(of_part).sum()
}

/// A filter's nodes, with runs that are looked up.
pub(super) fn node_parts<'a>(ruleset: &Ruleset, hook: &Hook, nodes: &'a [U32Node]) -> Vec<NodePart<'a>> {
    let links = nodes.iter().any(|n| n.link.is_some());
    let mut parts: Vec<NodePart<'_>> = Vec::new();
    // Where nodes begin that are not looked up.
    let (mut from, mut at) = (0, 0);
    for (_, run) in runs(nodes, |n| fits(ruleset, hook, n, links).then_some(())) {
        let end = at + run.len();
        if let Some(block) = block(Kind::Nodes, &run.iter().collect::<Vec<_>>()) {
            if from < at {
                parts.push(NodePart::Nodes(&nodes[from..at]));
            }
            parts.push(NodePart::Block(block));
            from = end;
        }
        at = end;
    }
    if from < nodes.len() {
        parts.push(NodePart::Nodes(&nodes[from..]));
    }
    parts
}

/// Whether a node can be looked up.
fn fits(ruleset: &Ruleset, hook: &Hook, node: &U32Node, links: bool) -> bool {
    let key = |key: &U32Key| {
        let position = NETWORK + key.offset.clamp(-NETWORK, NETWORK * 2);
        (START..=HEAD_END_MAX - 4).contains(&position) && (key.base == U32Base::Network || !links)
    };
    node.link.is_none()
        && node.mark.is_none()
        && node.indev.is_none_or(|d| d == hook.device)
        && node.terminal
        && (1..=KEY_WORDS_MAX).contains(&node.keys.len())
        && node.keys.iter().all(key)
        && listing(ruleset, &node.actions).control != Control::Continue
}

fn block<'a>(kind: Kind, nodes: &[&'a U32Node]) -> Option<Block<'a>> {
    if nodes.len() < RUN_LEN_MIN {
        return None;
    }
    let memory = |word: u32| u32::from_ne_bytes(word.to_be_bytes());
    let mask = |k: &U32Key| Mask { at: (NETWORK + k.offset) as i16, wide: true, mask: memory(k.mask) };
    let mut block = Block { kind, shapes: Vec::new(), members: Vec::new() };
    let mut known = BTreeMap::new();
    for node in nodes {
        let masks: Vec<Mask> = node.keys.iter().map(mask).collect();
        let shape = *known.entry(masks.clone()).or_insert_with(|| {
            block.shapes.push(masks);
            block.shapes.len() - 1
        });
        let values = node.keys.iter().map(|k| memory(k.value & k.mask)).collect();
        block.members.push(Member { shape, values, actions: &node.actions, counters: node.counters });
    }
    (block.shapes.len() * RULES_PER_SHAPE_MIN <= nodes.len()).then_some(block)
}

/// A flower filter's rules, with runs that are looked up.
pub(super) fn flower_parts(rules: &[FlowerRule]) -> Vec<FlowerPart<'_>> {
    let shape = |rule: &FlowerRule| {
        let range = |port: Option<PortMatch>| matches!(port, Some(PortMatch::Range(..)));
        let terms = terms(&rule.key);
        let fits = !terms.is_empty() && terms.len() <= KEY_WORDS_MAX && !rule.key.no_address;
        (fits && !range(rule.key.src_port) && !range(rule.key.dst_port)).then(|| masks(&terms))
    };
    let mut parts = Vec::new();
    for (shape, run) in runs(rules, shape) {
        match shape.filter(|_| run.len() >= RUN_LEN_MIN) {
            Some(shape) => {
                let members = run.iter().map(flower_member).collect();
                parts.push(FlowerPart::Block(Block { kind: Kind::Flower, shapes: vec![shape], members }));
            }
            None => parts.extend(run.iter().map(FlowerPart::Rule)),
        }
    }
    parts
}

fn flower_member(rule: &FlowerRule) -> Member<'_> {
    let values = terms(&rule.key).iter().map(|t| t.value).collect();
    Member { shape: 0, values, actions: &rule.actions, counters: rule.counters }
}

fn masks(terms: &[Term]) -> Vec<Mask> {
    terms.iter().map(|t| Mask { at: t.at, wide: t.wide, mask: t.mask }).collect()
}
