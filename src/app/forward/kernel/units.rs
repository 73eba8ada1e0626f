//! A device's rules as what the kernel is asked for: one unit per prio. It asks nothing.

use crate::host::tc::{
    Basic, BoundAction, Common, Filter, Flower, Fw, Links, Node, PARENT_EGRESS, PARENT_INGRESS, Place, U32,
};
use crate::rules::{self, Action, ActionId, Classifier, FwFilter, MirredMode, Ruleset, U32Node};
use crate::types::{DeviceId, DeviceKey, Direction};

use super::TcError;

/// What actions of ours are known by.
pub(super) const COOKIE: &[u8] = b"viscum";

/// One prio of one chain.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    /// Hook, chain and prio, without a handle.
    pub place: Place,
    /// Its filters, in the order in which they are to come.
    pub records: Vec<Record>,
}

/// A filter, and where its counts belong.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub filter: Filter,
    /// Base of the node's counter words, and how many follow it.
    pub node: (u32, u32),
    /// Base of each action's.
    pub actions: Vec<u32>,
}

/// All of a device.
#[derive(Clone, Debug, Default)]
pub(super) struct Units {
    /// In the order in which they may come into force one after the other: with some of them missing at the end, frames are passed.
    pub list: Vec<Unit>,
    /// Tables that `divisor` made, then their nodes: they need a prio that is there.
    pub tables: Vec<Record>,
}

impl Units {
    /// Whether the prios hang together, so that none can be replaced alone.
    pub fn entangled(&self) -> bool {
        !self.tables.is_empty()
    }

    /// Whether it has rules at the egress.
    pub fn egress(&self) -> bool {
        self.list.iter().any(|u| u.place.parent == PARENT_EGRESS)
    }
}

impl Unit {
    /// Whether both ask the same of the kernel.
    pub fn same(&self, other: &Self) -> bool {
        self.place == other.place && filters(&self.records).eq(filters(&other.records))
    }
}

pub(super) fn filters(records: &[Record]) -> impl Iterator<Item = &Filter> {
    records.iter().map(|r| &r.filter)
}

/// Makes units of what a ruleset says of a device. `links` has the ruleset's devices at their own positions.
pub(super) fn units(ruleset: &Ruleset, device: DeviceId, links: &Links) -> Result<Units, TcError> {
    let work = Work { ruleset, device, links };
    let mut units = Units::default();
    for (direction, parent) in [(Direction::Ingress, PARENT_INGRESS), (Direction::Egress, PARENT_EGRESS)] {
        for hook in ruleset.hooks.iter().filter(|h| (h.device, h.direction) == (device, direction)) {
            // Chain 0 comes last: it is where frames come in.
            let (first, rest): (Vec<_>, Vec<_>) = hook.chains.iter().partition(|(index, _)| **index == 0);
            for (chain, filters) in rest.into_iter().chain(first) {
                for filter in &filters.filters {
                    units.list.push(work.unit(parent, *chain, filter)?);
                }
            }
        }
    }
    work.tables(&mut units)?;
    work.shared(&units)?;
    Ok(units)
}

struct Work<'a> {
    ruleset: &'a Ruleset,
    device: DeviceId,
    links: &'a Links,
}

impl Work<'_> {
    fn key(&self) -> &DeviceKey {
        &self.ruleset.devices[self.device.index()]
    }

    fn unit(&self, parent: u32, chain: u32, filter: &rules::Filter) -> Result<Unit, TcError> {
        let kind = filter.classifier.kind();
        let place = Place {
            device: self.device,
            parent,
            chain,
            prio: filter.prio,
            protocol: filter.protocol.0,
            kind: kind.to_owned(),
            handle: 0,
        };
        let records = match &filter.classifier {
            // The root table has the number that the kernel gives it: only the node is named.
            Classifier::U32(nodes) => {
                nodes.iter().map(|n| self.u32(&place, n.handle & 0xfff, n)).collect::<Result<Vec<_>, _>>()?
            }
            Classifier::Flower(rules) => rules
                .iter()
                .map(|r| {
                    let common = self.common(&place, r.classid, &r.actions)?;
                    let node = Node::Flower(Flower { key: r.key.clone(), common });
                    Ok(self.record(&place, r.handle, node, (r.counters, 2), &r.actions))
                })
                .collect::<Result<_, TcError>>()?,
            Classifier::Matchall(rule) => rule
                .iter()
                .map(|r| {
                    let node = Node::Matchall(self.common(&place, r.classid, &r.actions)?);
                    Ok(self.record(&place, r.handle, node, (r.counters, 2), &r.actions))
                })
                .collect::<Result<_, TcError>>()?,
            // Without a filter, the prio itself is the old method.
            Classifier::Fw(FwFilter::Classes { .. }) => vec![self.record(&place, 0, Node::Head, (0, 0), &[])],
            Classifier::Fw(FwFilter::Marks { mask, rules }) => rules
                .iter()
                .map(|r| {
                    let common = self.common(&place, r.classid, &r.actions)?;
                    let indev = r.indev.map(|d| self.ruleset.devices[d.index()].name.clone());
                    let node = Node::Fw(Fw { mask: *mask, indev, common });
                    Ok(self.record(&place, r.handle, node, (r.counters, 2), &r.actions))
                })
                .collect::<Result<_, TcError>>()?,
            // The youngest is tried first, so it comes last.
            Classifier::Basic(rules) => rules
                .iter()
                .rev()
                .map(|r| {
                    let common = self.common(&place, r.classid, &r.actions)?;
                    let node = Node::Basic(Basic { ematches: r.ematches.clone(), common });
                    Ok(self.record(&place, r.handle, node, (r.counters, 2), &r.actions))
                })
                .collect::<Result<_, TcError>>()?,
        };
        Ok(Unit { place, records })
    }

    fn u32(&self, place: &Place, handle: u32, node: &U32Node) -> Result<Record, TcError> {
        let link = node.link.map(|l| self.ruleset.u32_tables[l.table as usize].id << 20);
        let made = U32 {
            keys: node.keys.clone(),
            mark: node.mark,
            indev: node.indev.map(|d| self.ruleset.devices[d.index()].name.clone()),
            terminal: node.terminal,
            link,
            descent: node.link.map(|l| l.descent).unwrap_or_default(),
            common: self.common(place, node.classid, &node.actions)?,
        };
        Ok(self.record(place, handle, Node::U32(made), (node.counters, node.words()), &node.actions))
    }

    fn record(&self, place: &Place, handle: u32, node: Node, words: (u32, u32), actions: &[ActionId]) -> Record {
        let place = Place { handle, ..place.clone() };
        let actions = actions.iter().map(|id| self.ruleset.action(*id).counters).collect();
        Record { filter: Filter { place, node }, node: words, actions }
    }

    fn common(&self, place: &Place, classid: Option<u32>, actions: &[ActionId]) -> Result<Common, TcError> {
        let bound = |id: &ActionId| {
            let action = &self.ruleset.action(*id).action;
            if let Action::Mirred(mirred) = action {
                self.reachable(place, mirred.device, mirred.mode)?;
            }
            Ok(BoundAction {
                kind: action.kind().to_owned(),
                // The kernel's to choose: others may have the rules' own.
                index: 0,
                refs: 0,
                binds: 0,
                cookie: Some(COOKIE.to_vec()),
                hw_stats: None,
                flags: 0,
                what: Ok(action.clone()),
            })
        };
        Ok(Common { classid, actions: actions.iter().map(bound).collect::<Result<_, TcError>>()?, ..Common::default() })
    }

    fn reachable(&self, place: &Place, to: DeviceId, mode: MirredMode) -> Result<(), TcError> {
        let target = &self.ruleset.devices[to.index()];
        if target.netns != self.key().netns {
            let word = if mode == MirredMode::Redirect { "redirect" } else { "mirror" };
            return Err(self
                .unsayable(place, format!("the kernel's tc has no mirred {word} into another namespace ({target})")));
        }
        if self.links.ifindex(to).is_none_or(|ifindex| ifindex == 0) {
            return Err(self.unsayable(place, format!("there is no device {target}")));
        }
        Ok(())
    }

    /// Tables behind links, and what is in them.
    fn tables(&self, units: &mut Units) -> Result<(), TcError> {
        let of_device = self.ruleset.u32_tables.iter().filter(|t| t.device == self.device);
        let mut nodes = Vec::new();
        for table in of_device {
            let homes = || units.list.iter().filter(|u| u.place.kind == "u32");
            // Every prio of the qdisc can use it: without one nobody links to it.
            let Some(home) = homes().find(|u| u.place.prio == table.prio).or_else(|| homes().next()) else { continue };
            if table.id >= 0x800 {
                let why = format!(
                    "the u32 table {:x}: has a number that the kernel gives by itself; number it below 800:",
                    table.id
                );
                return Err(self.unsayable(&home.place, why));
            }
            let buckets = Node::U32Table(table.buckets.len() as u32);
            units.tables.push(self.record(&home.place, table.id << 20, buckets, (0, 0), &[]));
            for node in table.buckets.iter().flatten() {
                nodes.push(self.u32(&home.place, node.handle, node)?);
            }
        }
        units.tables.extend(nodes);
        Ok(())
    }

    /// That no two filters share an action: the kernel would give it to a filter that comes later as it was, not as it is.
    fn shared(&self, units: &Units) -> Result<(), TcError> {
        let mut seen = std::collections::BTreeSet::new();
        for record in units.list.iter().flat_map(|u| &u.records).chain(&units.tables) {
            for base in &record.actions {
                if !seen.insert(*base) {
                    let instance = self.ruleset.actions.iter().find(|a| a.counters == *base);
                    let name = instance.map_or_else(String::new, |a| format!("{} index {}", a.action.kind(), a.index));
                    return Err(self
                        .unsayable(&record.filter.place, format!("it shares the action {name} with another filter")));
                }
            }
        }
        Ok(())
    }

    fn unsayable(&self, place: &Place, why: String) -> TcError {
        let direction = if place.parent == PARENT_EGRESS { Direction::Egress } else { Direction::Ingress };
        TcError::Refused {
            place: format!("{} {} chain {} prio {}", self.key(), direction.as_str(), place.chain, place.prio),
            why,
        }
    }
}
