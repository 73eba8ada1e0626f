//! From a ruleset to a plan: flattens, precomputes offsets, sorts filters by protocol. Runs once for each set of rules.

use std::collections::BTreeSet;

use super::blocks::RUN_LEN_MIN;
use super::flower::compares;
use super::layout::{
    Chain, Dispatch, Edit, FarKey, FarNode, Filter, FilterKind, FwRule, Hook, Key, LinkTo, Node, Op, Rule, Span, Step,
};
use super::{HookIndex, Plan};
use crate::limits::{ACTIONS_PER_FILTER_MAX, U32_KEYS_MAX};
use crate::rules::{self, Action, ActionId, Classifier, Control, FwFilter, MirredMode, NodeWord, Ruleset, U32Base};
use crate::types::{DeviceId, Direction, Protocol};

/// How many protocols of one chain get a list of their own; the lists together are at most this many times the chain.
const PROTOCOLS_PER_CHAIN_MAX: usize = 8;

/// Why there is no plan for a ruleset. Nothing of it is in use then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A filter's action list is longer than the kernel takes.
    #[error(
        "filter with prio {prio} has {count} actions, {ACTIONS_PER_FILTER_MAX} are the most; use `goto chain` to go on"
    )]
    TooManyActions {
        /// The filter.
        prio: u16,
        /// Its actions.
        count: usize,
    },
    /// A u32 node has more keys than tc can say.
    #[error(
        "u32 node {handle:x} of prio {prio} has {count} keys, {U32_KEYS_MAX} are the most; split it into two prios"
    )]
    TooManyKeys {
        /// The filter.
        prio: u16,
        /// The node.
        handle: u32,
        /// Its keys.
        count: usize,
    },
    /// A filter names an action, or a hook or an action a device, that is not in the ruleset.
    #[error("the ruleset names {what} {index}, which it does not have; load the rules again")]
    Dangling {
        /// `device` or `action`.
        what: &'static str,
        /// Its number.
        index: u32,
    },
    /// A u32 table has a number of buckets that is no power of two.
    #[error("u32 table {id:x}: has {count} buckets; give it a divisor that is a power of two, up to 256")]
    BucketCount {
        /// The table.
        id: u32,
        /// Its buckets.
        count: usize,
    },
    /// More than 2^32 of something.
    #[error("the ruleset is too large for a plan ({what}); load fewer rules")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
    },
}

impl Plan {
    /// Compiles a ruleset. What is counted is what [`crate::rules::eval`] counts.
    ///
    /// # Errors
    /// See [`Refusal`]; rules that the front end made are not refused except for their size.
    pub fn compile(ruleset: &Ruleset) -> Result<Self, Refusal> {
        Self::of(ruleset, 0)
    }

    /// As [`Plan::compile`], with an index for runs of many rules, so that their cost follows the number of their mask shapes. What is
    /// counted is to be read by [`Plan::counts`], and keys of rules in such a run are counted only where all keys of a rule matched.
    ///
    /// # Errors
    /// As [`Plan::compile`].
    pub fn indexed(ruleset: &Ruleset) -> Result<Self, Refusal> {
        Self::of(ruleset, RUN_LEN_MIN)
    }

    pub(super) fn of(ruleset: &Ruleset, run_len_min: usize) -> Result<Self, Refusal> {
        let mut plan = Self { hook_of: vec![[None; 2]; ruleset.devices.len()], run_len_min, ..Self::default() };
        for (instance, police) in ruleset.policers() {
            plan.policer_numbers.insert(instance.counters, number(plan.policers.len(), "policers")?);
            plan.policers.push(police.policer());
            plan.policer_words.push(instance.counters);
        }
        for table in &ruleset.u32_tables {
            plan.u32_table(ruleset, table)?;
        }
        for hook in &ruleset.hooks {
            known_device(ruleset, hook.device)?;
            let index = HookIndex(number(plan.hooks.len(), "hooks")?);
            // Of two hooks at the same place the first counts, as in `Ruleset::hook`.
            plan.hook_of[hook.device.index()][hook.direction as usize].get_or_insert(index);
            let mut chains = Vec::new();
            for (chain_index, chain) in &hook.chains {
                chains.push(plan.chain(ruleset, hook.device, *chain_index, chain)?);
            }
            let chains = append(&mut plan.chains, chains, "chains")?;
            plan.hooks.push(Hook { device: hook.device, direction: hook.direction, chains });
        }
        Ok(plan)
    }

    fn chain(
        &mut self,
        ruleset: &Ruleset,
        device: DeviceId,
        index: u32,
        chain: &rules::Chain,
    ) -> Result<Chain, Refusal> {
        let filters: Vec<Filter> = chain
            .filters
            .iter()
            .zip(0..)
            .filter_map(|(filter, order)| {
                let kind = self.filter(ruleset, device, filter).transpose()?;
                Some(kind.map(|kind| Filter { order, protocol: filter.protocol, kind }))
            })
            .collect::<Result<_, _>>()?;
        let filters = if self.run_len_min > 0 { self.with_blocks(filters) } else { filters };
        let protocols: BTreeSet<u16> =
            filters.iter().map(|f| f.protocol).filter(|p| *p != Protocol::ALL).map(|p| p.0).collect();
        let mixed = protocols.len() > PROTOCOLS_PER_CHAIN_MAX;
        if mixed {
            let others = append(&mut self.lists, filters, "filters")?;
            return Ok(Chain { index, dispatch: Span::default(), others, mixed });
        }
        let mut dispatch = Vec::new();
        for protocol in protocols {
            let seen = filters.iter().filter(|f| f.protocol.sees(protocol)).copied();
            dispatch.push(Dispatch { protocol, filters: append(&mut self.lists, seen, "filters")? });
        }
        let dispatch = append(&mut self.dispatch, dispatch, "protocols")?;
        let others = filters.iter().filter(|f| f.protocol == Protocol::ALL).copied();
        let others = append(&mut self.lists, others, "filters")?;
        Ok(Chain { index, dispatch, others, mixed })
    }

    /// `None`: it can never match or count anything.
    fn filter(
        &mut self,
        ruleset: &Ruleset,
        device: DeviceId,
        filter: &rules::Filter,
    ) -> Result<Option<FilterKind>, Refusal> {
        match &filter.classifier {
            Classifier::U32(nodes) if nodes.iter().any(|n| n.link.is_some()) => {
                Ok(Some(FilterKind::U32Tables(self.far_nodes(ruleset, filter.prio, nodes)?)))
            }
            Classifier::U32(nodes) => {
                let nodes = nodes.iter().map(|n| self.node(ruleset, filter.prio, n)).collect::<Result<Vec<_>, _>>()?;
                Ok(Some(FilterKind::U32(append(&mut self.nodes, nodes, "u32 nodes")?)))
            }
            Classifier::Flower(rules) => {
                let rules = rules.iter().map(|r| self.rule(ruleset, filter.prio, r)).collect::<Result<Vec<_>, _>>()?;
                Ok(Some(FilterKind::Flower(append(&mut self.rules, rules, "flower rules")?)))
            }
            Classifier::Matchall(Some(rule)) if !rule.skip_sw => {
                let steps = self.steps(ruleset, filter.prio, &rule.actions)?;
                Ok(Some(FilterKind::Matchall { counters: rule.counters, steps }))
            }
            Classifier::Matchall(_) => Ok(None),
            Classifier::Fw(FwFilter::Classes { qdisc }) => Ok(Some(FilterKind::FwClasses { qdisc: *qdisc })),
            Classifier::Fw(FwFilter::Marks { mask, rules }) => {
                let rules = self.fw_rules(ruleset, filter.prio, rules)?;
                Ok(Some(FilterKind::Fw { mask: *mask, rules }))
            }
            Classifier::Basic(rules) => Ok(Some(FilterKind::Basic(self.basic(ruleset, filter.prio, device, rules)?))),
        }
    }

    /// Sorted by mark, to be looked up.
    fn fw_rules(&mut self, ruleset: &Ruleset, prio: u16, rules: &[rules::FwRule]) -> Result<Span, Refusal> {
        let mut list = Vec::with_capacity(rules.len());
        for rule in rules {
            let steps = self.steps(ruleset, prio, &rule.actions)?;
            list.push(FwRule { handle: rule.handle, counters: rule.counters, indev: rule.indev, steps });
        }
        list.sort_by_key(|r| r.handle);
        list.dedup_by_key(|r| r.handle);
        append(&mut self.fw_rules, list, "fw filters")
    }

    fn node(&mut self, ruleset: &Ruleset, prio: u16, node: &rules::U32Node) -> Result<Node, Refusal> {
        let keys = append(&mut self.keys, node.keys.iter().map(key), "u32 keys")?;
        self.node_with_keys(ruleset, prio, node, keys)
    }

    fn node_with_keys(
        &mut self,
        ruleset: &Ruleset,
        prio: u16,
        node: &rules::U32Node,
        keys: Span,
    ) -> Result<Node, Refusal> {
        if node.keys.len() > U32_KEYS_MAX {
            return Err(Refusal::TooManyKeys { prio, handle: node.handle, count: node.keys.len() });
        }
        let steps = self.steps(ruleset, prio, &node.actions)?;
        let (mark_value, mark_mask) = node.mark.map_or((0, 0), |m| (m.value, m.mask));
        let mark_word = if node.mark.is_some() { node.counters + NodeWord::mark(node.keys.len()) } else { 0 };
        Ok(Node {
            counters: node.counters,
            keys,
            steps,
            mark_value,
            mark_mask,
            mark_word,
            indev: node.indev,
            terminal: node.terminal,
        })
    }

    fn u32_table(&mut self, ruleset: &Ruleset, table: &rules::U32Table) -> Result<(), Refusal> {
        if !table.buckets.len().is_power_of_two() {
            return Err(Refusal::BucketCount { id: table.id, count: table.buckets.len() });
        }
        let buckets =
            table.buckets.iter().map(|nodes| self.far_nodes(ruleset, 0, nodes)).collect::<Result<Vec<_>, _>>()?;
        let buckets = append(&mut self.buckets, buckets, "u32 buckets")?;
        self.tables.push(buckets);
        Ok(())
    }

    fn far_nodes(&mut self, ruleset: &Ruleset, prio: u16, nodes: &[rules::U32Node]) -> Result<Span, Refusal> {
        let mut list = Vec::with_capacity(nodes.len());
        for node in nodes {
            let keys = node.keys.iter().map(|k| FarKey {
                offset: k.offset,
                next_header: k.base == U32Base::NextHeader,
                value: k.value,
                mask: k.mask,
            });
            let keys = append(&mut self.far_keys, keys, "u32 keys")?;
            let link = node.link.map(|link| LinkTo {
                table: link.table,
                descent: link.descent,
                moves: link.descent.plus.is_some() || link.descent.variable.is_some() || link.descent.eat,
            });
            if let Some(link) = link.filter(|l| l.table as usize >= ruleset.u32_tables.len()) {
                return Err(Refusal::Dangling { what: "u32 table", index: link.table });
            }
            list.push(FarNode { node: self.node_with_keys(ruleset, prio, node, keys)?, link });
        }
        append(&mut self.far_nodes, list, "u32 nodes")
    }

    fn rule(&mut self, ruleset: &Ruleset, prio: u16, rule: &rules::FlowerRule) -> Result<Rule, Refusal> {
        let compares = append(&mut self.compares, compares(&rule.key), "flower keys")?;
        let steps = self.steps(ruleset, prio, &rule.actions)?;
        Ok(Rule { counters: rule.counters, compares, steps })
    }

    pub(super) fn steps(&mut self, ruleset: &Ruleset, prio: u16, actions: &[ActionId]) -> Result<Span, Refusal> {
        if actions.len() > ACTIONS_PER_FILTER_MAX {
            return Err(Refusal::TooManyActions { prio, count: actions.len() });
        }
        let mut steps = Vec::with_capacity(actions.len());
        for id in actions {
            let instance = ruleset.actions.get(id.index()).ok_or(Refusal::Dangling { what: "action", index: id.0 })?;
            if let Action::Mirred(mirred) = &instance.action {
                known_device(ruleset, mirred.device)?;
            }
            let op = match &instance.action {
                Action::Pedit(pedit) => {
                    let edits = append(&mut self.edits, pedit.keys.iter().copied(), "pedit keys")?;
                    Op::Pedit { edits, control: pedit.control }
                }
                Action::Police(_) => {
                    let number = self.policer_numbers.get(&instance.counters).copied();
                    Op::Police(number.ok_or(Refusal::Dangling { what: "action", index: id.0 })?)
                }
                action => op(action),
            };
            steps.push(Step { counters: instance.counters, op });
        }
        append(&mut self.steps, steps, "actions")
    }
}

fn known_device(ruleset: &Ruleset, device: DeviceId) -> Result<(), Refusal> {
    if device.index() < ruleset.devices.len() {
        Ok(())
    } else {
        Err(Refusal::Dangling { what: "device", index: device.0 })
    }
}

fn number(len: usize, what: &'static str) -> Result<u32, Refusal> {
    u32::try_from(len).map_err(|_| Refusal::TooLarge { what })
}

pub(super) fn append<T>(
    array: &mut Vec<T>,
    new: impl IntoIterator<Item = T>,
    what: &'static str,
) -> Result<Span, Refusal> {
    let start = number(array.len(), what)?;
    array.extend(new);
    Ok(Span { start, len: number(array.len(), what)? - start })
}

fn key(key: &rules::U32Key) -> Key {
    // Without a linked table both bases are the network header.
    Key {
        offset: key.offset,
        value: u32::from_ne_bytes(key.value.to_be_bytes()),
        mask: u32::from_ne_bytes(key.mask.to_be_bytes()),
    }
}

/// All but the words of `pedit` and policers, which are in arrays of their own.
fn op(action: &Action) -> Op {
    match action {
        Action::Gact(gact) => match &gact.random {
            None => Op::Gact { control: gact.control },
            Some(random) => Op::GactRandom {
                control: gact.control,
                kind: random.kind,
                other: random.control,
                val: u32::from(random.val.max(1)),
            },
        },
        Action::Mirred(mirred) => match mirred.mode {
            MirredMode::Redirect => Op::Redirect { direction: mirred.direction, device: mirred.device },
            MirredMode::Mirror => {
                Op::Mirror { direction: mirred.direction, device: mirred.device, control: mirred.control }
            }
        },
        Action::Skbedit(edit) => {
            let (mark_value, mark_mask) = edit.mark.map_or((0, 0), |(value, mask)| (value & mask, mask));
            Op::Skbedit {
                edit: Edit {
                    ptype: edit.ptype,
                    mark_value,
                    mark_mask,
                    priority: edit.priority,
                    queue_mapping: edit.queue_mapping,
                    inheritdsfield: edit.inheritdsfield,
                },
                control: edit.control,
            }
        }
        Action::Pedit(pedit) => Op::Pedit { edits: Span::default(), control: pedit.control },
        Action::Vlan(vlan) => Op::Vlan { op: vlan.op, control: vlan.control },
        Action::Police(police) => Op::Count { control: police.conform },
        Action::Nat(nat) => Op::Nat { rule: nat.rule, control: nat.control },
        Action::Simple(simple) => Op::Count { control: simple.control },
        Action::Csum(csum) => Op::Csum { update: csum.update, control: csum.control },
        Action::Skbmod(edit) if edit.control == Control::Shot => Op::SkbmodShot,
        Action::Skbmod(edit) if edit.ecn => Op::Ecn { control: edit.control },
        Action::Skbmod(edit) if edit.swap_mac => Op::SwapMac { control: edit.control },
        Action::Skbmod(edit) => Op::SetMac {
            dmac: edit.dmac.map(|mac| mac.octets()),
            smac: edit.smac.map(|mac| mac.octets()),
            etype: edit.etype.map(u16::to_be_bytes),
            control: edit.control,
        },
    }
}

impl Plan {
    /// The hook of a device, if the rules have one there.
    #[must_use]
    pub fn hook(&self, device: DeviceId, direction: Direction) -> Option<HookIndex> {
        self.hook_of.get(device.index()).and_then(|hooks| hooks[direction as usize])
    }
}
