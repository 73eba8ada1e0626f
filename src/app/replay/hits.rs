//! Which counters a frame moved, in the words of `frames.jsonl`. It reads counters; it runs no frame.

use serde_json::{Map, Value, json};

use crate::rules::{
    Action, ActionId, ActionWord, Classifier, CounterSource, Filter, FwFilter, Hook, NodeWord, Ruleset, U32Node,
};
use crate::tc::filter::u32::handle_text;
use crate::tc::proto::link_name;
use crate::types::{DeviceId, Direction};

/// One filter node as the listing names it, with the words that it counts in.
struct Row {
    name: String,
    /// Base of the node's words, where the listing shows them per node (u32).
    node: Option<u32>,
    /// Label and base of each action.
    actions: Vec<(String, u32)>,
}

/// The rows of all devices that are shown, and the counters as of the frame before.
pub struct Hits {
    rows: Vec<Row>,
    before: Vec<u64>,
    word_count: u32,
}

impl Hits {
    /// For the hooks of these devices, in this order; `two_hooks` says whether a device's hooks must be told apart (clsact).
    #[must_use]
    pub fn new(ruleset: &Ruleset, shown: &[DeviceId], two_hooks: &dyn Fn(DeviceId) -> bool) -> Self {
        let mut rows = Vec::new();
        for device in shown {
            for direction in [Direction::Ingress, Direction::Egress] {
                let suffix = if two_hooks(*device) { format!(" {}", direction.as_str()) } else { String::new() };
                if let Some(hook) = ruleset.hook(*device, direction) {
                    hook_rows(ruleset, hook, &suffix, &mut rows);
                }
            }
        }
        Self { rows, before: vec![0; ruleset.counter_words as usize], word_count: ruleset.counter_words }
    }

    /// What moved since the last call, as the `hits` object of a frame.
    pub fn since_last(&mut self, counters: &dyn CounterSource) -> Value {
        let moved = |word: u32| counters.word(word).wrapping_sub(self.before[word as usize]);
        let mut hits = Map::new();
        for row in &self.rows {
            let mut entry = Map::new();
            if let Some(node) = row.node {
                let (hit, success) = (moved(node + NodeWord::HIT), moved(node + NodeWord::SUCCESS));
                if hit != 0 || success != 0 {
                    entry.insert("rule".to_owned(), json!([hit, success]));
                }
            }
            for (label, base) in &row.actions {
                let words = [ActionWord::BYTES, ActionWord::PACKETS, ActionWord::DROPS, ActionWord::OVERLIMITS]
                    .map(|w| moved(base + w));
                if words != [0; 4] {
                    entry.insert(label.clone(), json!(words));
                }
            }
            if !entry.is_empty() {
                hits.insert(row.name.clone(), Value::Object(entry));
            }
        }
        for word in 0..self.word_count {
            self.before[word as usize] = counters.word(word);
        }
        Value::Object(hits)
    }
}

fn hook_rows(ruleset: &Ruleset, hook: &Hook, suffix: &str, rows: &mut Vec<Row>) {
    let device = &ruleset.devices[hook.device.index()].name;
    for (chain, filters) in &hook.chains {
        for filter in &filters.filters {
            let kind = filter.classifier.kind();
            let head = format!("{device} pref {} {} {kind} chain {chain}", filter.prio, link_name(filter.protocol.0));
            let mut push = |handle: String, node: Option<u32>, actions: &[ActionId]| {
                rows.push(Row { name: format!("{head} {handle}{suffix}"), node, actions: labels(ruleset, actions) });
            };
            match &filter.classifier {
                Classifier::U32(_) => {
                    for node in listed_nodes(ruleset, hook, filter) {
                        push(handle_text(node.handle), Some(node.counters), &node.actions);
                    }
                }
                Classifier::Flower(rules) => {
                    rules.iter().for_each(|r| push(format!("{:#x}", r.handle), None, &r.actions));
                }
                Classifier::Matchall(rule) => {
                    rule.iter().for_each(|r| push(format!("{:#x}", r.handle), None, &r.actions));
                }
                Classifier::Fw(FwFilter::Classes { .. }) => {}
                Classifier::Fw(FwFilter::Marks { mask, rules }) => {
                    let mask = if *mask == u32::MAX { String::new() } else { format!("/{mask:#x}") };
                    rules.iter().for_each(|r| push(format!("{:#x}{mask}", r.handle), None, &r.actions));
                }
                Classifier::Basic(rules) => {
                    rules.iter().for_each(|r| push(format!("{:#x}", r.handle), None, &r.actions));
                }
            }
        }
    }
}

/// The kernel lists under a u32 filter the tables of its prio in *all* chains of the qdisc (`u32_walk()` compares `ht->prio` only);
/// both hooks of a clsact are one qdisc, a root qdisc is another.
fn listed_nodes<'a>(ruleset: &'a Ruleset, hook: &'a Hook, filter: &Filter) -> Vec<&'a U32Node> {
    let hooks = ruleset.hooks.iter().filter(|h| h.device == hook.device);
    let roots = hooks.flat_map(|h| h.chains.values()).flat_map(|c| &c.filters).filter(|f| f.prio == filter.prio);
    let roots = roots.filter_map(|f| match &f.classifier {
        Classifier::U32(nodes) => Some(nodes),
        Classifier::Flower(_) | Classifier::Matchall(_) | Classifier::Fw(_) | Classifier::Basic(_) => None,
    });
    let made = ruleset.u32_tables.iter().filter(|t| t.device == hook.device && t.prio == filter.prio);
    roots.flatten().chain(made.flat_map(|t| t.buckets.iter().flatten())).collect()
}

fn labels(ruleset: &Ruleset, actions: &[ActionId]) -> Vec<(String, u32)> {
    actions
        .iter()
        .enumerate()
        .map(|(order, id)| (order, ruleset.action(*id)))
        // The old word `police` is listed without a line of its own for the action.
        .filter(|(_, instance)| !matches!(&instance.action, Action::Police(police) if police.compat))
        .map(|(order, instance)| {
            // As the listing begins: tc writes this one with a capital.
            let kind = if matches!(instance.action, Action::Simple(_)) { "Simple" } else { instance.action.kind() };
            (format!("{} {kind}", order + 1), instance.counters)
        })
        .collect()
}
