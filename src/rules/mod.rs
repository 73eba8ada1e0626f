//! What a set of tc rules means, as plain data: hooks, chains, filters, actions. It knows no syntax and no device of the host.
//!
//! [`Ruleset`] is the middle of the program: the tc front end makes it, [`eval`] says what it means, and every
//! back end (`plan`, `ebpf`) is measured against that.

pub mod action;
#[cfg(test)]
pub mod arbitrary;
pub mod counters;
pub mod ematch;
#[cfg(test)]
pub mod ematch_random;
pub mod eval;
pub mod filter;
pub mod flower;
pub mod police;
mod word;

pub use action::{
    Action, ActionId, ActionInstance, Control, Csum, Gact, Mirred, MirredMode, Nat, Pedit, Random, RandomKind, Simple,
    Skbedit, Skbmod, Vlan,
};
pub use counters::{ActionWord, CounterSink, CounterSource, Counters, NodeWord};
pub use ematch::{
    Ematch, EmatchAsk, EmatchCmp, EmatchLayer, EmatchMeta, EmatchNbyte, EmatchOperand, EmatchTerm, EmatchThen,
    EmatchU32, EmatchWidth, MetaField, MetaObject,
};
pub use filter::{
    BasicRule, Classifier, Filter, FwFilter, FwRule, MatchallRule, U32Base, U32Descent, U32Key, U32Link, U32Mark,
    U32Node, U32Table, U32VariableOffset,
};
pub use flower::{FlowerField, FlowerKey, FlowerRule, PortMatch};
pub use word::{FrameWord, HEADROOM_LEN, InFrame};

use std::collections::BTreeMap;

use crate::types::{DeviceId, DeviceKey, Direction};

/// A consistent snapshot of all rules: never changed, only replaced.
#[derive(Clone, Debug, Default)]
pub struct Ruleset {
    /// The devices that hooks and actions name; `DeviceId(n)` is the n-th.
    pub devices: Vec<DeviceKey>,
    /// The places where rules are attached, without order.
    pub hooks: Vec<Hook>,
    /// The u32 tables besides the roots; links name them by position. Several filters can link to the same one.
    pub u32_tables: Vec<U32Table>,
    /// All actions; filters name them by [`ActionId`], several may name the same one (`index N`).
    pub actions: Vec<ActionInstance>,
    /// How many counter words the rules use: every `counters` base below is smaller. Words never move while their owner lives.
    pub counter_words: u32,
}

impl Ruleset {
    /// The hook of a device, if rules or a qdisc made one.
    #[must_use]
    pub fn hook(&self, device: DeviceId, direction: Direction) -> Option<&Hook> {
        self.hooks.iter().find(|h| h.device == device && h.direction == direction)
    }

    /// The action with this id.
    ///
    /// # Panics
    /// If the id is of another ruleset.
    #[must_use]
    pub fn action(&self, id: ActionId) -> &ActionInstance {
        &self.actions[id.index()]
    }

    /// The actions that are policers, in the order of their ids.
    pub fn policers(&self) -> impl Iterator<Item = (&ActionInstance, &police::Police)> {
        self.actions.iter().filter_map(|instance| match &instance.action {
            Action::Police(police) => Some((instance, police)),
            Action::Gact(_)
            | Action::Mirred(_)
            | Action::Skbedit(_)
            | Action::Skbmod(_)
            | Action::Csum(_)
            | Action::Pedit(_)
            | Action::Vlan(_)
            | Action::Nat(_)
            | Action::Simple(_) => None,
        })
    }

    /// The id of a device that the rules name.
    #[must_use]
    pub fn device(&self, key: &DeviceKey) -> Option<DeviceId> {
        self.devices.iter().position(|d| d == key).map(|i| DeviceId(i as u32))
    }

    /// All filters of all hooks and chains.
    pub fn filters(&self) -> impl Iterator<Item = (&Hook, u32, &Filter)> {
        self.hooks
            .iter()
            .flat_map(|h| h.chains.iter().flat_map(move |(index, c)| c.filters.iter().map(move |f| (h, *index, f))))
    }
}

impl Ruleset {
    /// The nodes of a u32 filter's root table and of all tables that it links to, each table once.
    #[must_use]
    pub fn u32_nodes<'a>(&'a self, root: &'a [U32Node]) -> Vec<&'a U32Node> {
        let mut found: Vec<&U32Node> = root.iter().collect();
        let mut seen = vec![false; self.u32_tables.len()];
        let mut open: Vec<u32> = links(root).collect();
        while let Some(table) = open.pop() {
            if std::mem::replace(&mut seen[table as usize], true) {
                continue;
            }
            for bucket in &self.u32_tables[table as usize].buckets {
                found.extend(bucket);
                open.extend(links(bucket));
            }
        }
        found
    }

    /// The actions that a filter can run, those of linked u32 tables too, each table once.
    #[must_use]
    pub fn filter_actions(&self, filter: &Filter) -> Vec<ActionId> {
        let mut actions: Vec<ActionId> = filter.actions().collect();
        let mut seen = vec![false; self.u32_tables.len()];
        let mut open: Vec<u32> = match &filter.classifier {
            Classifier::U32(nodes) => links(nodes).collect(),
            Classifier::Flower(_) | Classifier::Matchall(_) | Classifier::Fw(_) | Classifier::Basic(_) => Vec::new(),
        };
        while let Some(table) = open.pop() {
            if std::mem::replace(&mut seen[table as usize], true) {
                continue;
            }
            for bucket in &self.u32_tables[table as usize].buckets {
                actions.extend(bucket.iter().flat_map(|n| &n.actions));
                open.extend(links(bucket));
            }
        }
        actions
    }
}

fn links(nodes: &[U32Node]) -> impl Iterator<Item = u32> + '_ {
    nodes.iter().filter_map(|n| n.link).map(|l| l.table)
}

/// A place where frames meet rules: one direction of one device.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The device.
    pub device: DeviceId,
    /// Ingress, or egress (`egress` of clsact, or a filter on a root qdisc).
    pub direction: Direction,
    /// Chains by index; a frame starts in chain 0. A chain that `goto chain` names but that has no filter is missing here.
    pub chains: BTreeMap<u32, Chain>,
}

/// A list of filters, tried in order.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// Sorted by prio, ascending; no two have the same.
    pub filters: Vec<Filter>,
}
