//! A device's units in the kernel: put there, replaced prio by prio, counted, taken away.

use std::collections::BTreeMap;

use super::units::{COOKIE, Record, Unit, Units, filters, units};
use super::{TcError, Words, missing_kinds, tally};
use crate::ebpf::load::Tally;
use crate::host::netns;
use crate::host::tc::{
    Change, Filter, Links, NetlinkError, Node, PARENT_EGRESS, PARENT_INGRESS, PARENT_INGRESS_QDISC, Place, Qdisc,
    Socket, actions_of, apply, delete_filters, delete_qdisc, read, read_counts,
};
use crate::rules::{NodeWord, Ruleset};
use crate::types::{DeviceId, DeviceKey};

/// `ffff:`.
const HANDLE: u32 = 0xffff_0000;

/// A device's rules in the kernel. They go when this does.
#[derive(Debug)]
pub struct KernelTc {
    key: DeviceKey,
    links: Links,
    /// The qdisc that was made for them.
    made: Option<Qdisc>,
    /// It has an egress hook.
    clsact: bool,
    units: Units,
    /// Root tables of u32 prios, by hook, chain and prio.
    roots: BTreeMap<(u32, u32, u16), u32>,
    /// What units counted that are gone.
    retired: Words,
    /// What is not to be counted: it was under other rules.
    before: Words,
}

/// Rules that can be put in the kernel, and are not.
#[derive(Debug)]
pub struct Planned {
    links: Links,
    units: Units,
}

impl KernelTc {
    /// What the kernel is to be asked for.
    ///
    /// # Errors
    /// [`TcError::Lacks`], [`TcError::Refused`].
    pub fn plan(key: &DeviceKey, ruleset: &Ruleset) -> Result<Planned, TcError> {
        let Some(device) = ruleset.device(key) else {
            return Ok(Planned { links: Links::default(), units: Units::default() });
        };
        let refused = |why| TcError::Refused { place: key.to_string(), why };
        let missing = missing_kinds(ruleset, Some(device)).map_err(refused)?;
        if !missing.is_empty() {
            return Err(TcError::Lacks { device: key.clone(), kinds: missing.join(", ") });
        }
        let links = inside(key, || Ok(links(ruleset, device)))?;
        let units = units(ruleset, device, &links)?;
        Ok(Planned { links, units })
    }

    /// Puts rules on a device that has none of others.
    ///
    /// # Errors
    /// [`TcError`]; nothing is left then.
    pub fn install(key: &DeviceKey, ruleset: &Ruleset) -> Result<Self, TcError> {
        let planned = Self::plan(key, ruleset)?;
        let (made, clsact) = prepare_device(key, ruleset, &planned)?;
        let mut this = Self {
            key: key.clone(),
            links: planned.links.clone(),
            made,
            clsact,
            units: Units::default(),
            roots: BTreeMap::new(),
            retired: Words::new(),
            before: Words::new(),
        };
        // What is put so far goes with `this` if something fails.
        this.replace(planned)?;
        Ok(this)
    }

    /// Puts planned rules in the place of those that are there. Prios that are the same stay, and go on counting.
    ///
    /// # Errors
    /// [`TcError::Qdisc`], [`TcError::Kernel`]: then the old ones are there again, as far as the kernel lets them.
    pub fn replace(&mut self, planned: Planned) -> Result<(), TcError> {
        if planned.units.egress() && !self.clsact {
            let why = "the rules have some at the egress, which only clsact has";
            return Err(TcError::Qdisc { device: self.key.clone(), kind: "ingress".to_owned(), why });
        }
        let Planned { links, units } = planned;
        let whole = (self.units.entangled() || units.entangled()) && !same(&self.units, &units);
        let stays = |unit: &Unit, others: &[Unit]| !whole && others.iter().any(|o| o.same(unit));
        let counted = self.live().unwrap_or_default();
        let gone: Vec<Unit> = self.units.list.iter().filter(|u| !stays(u, &units.list)).cloned().collect();
        let new: Vec<Unit> = units.list.iter().filter(|u| !stays(u, &self.units.list)).cloned().collect();
        let tables = |of: &Units| if whole { of.tables.clone() } else { Vec::new() };
        let (old_tables, new_tables) = (tables(&self.units), tables(&units));
        let (old_links, key) = (std::mem::replace(&mut self.links, links), self.key.clone());
        let done = inside(&key, || {
            let mut socket = Socket::new()?;
            drop_units(&mut socket, &old_links, &gone)?;
            if let Err(error) = add(&mut socket, &self.links, &new, &new_tables) {
                // What is told is why it failed; what is put back may be refused as well.
                let _gone = drop_units(&mut socket, &self.links, &new);
                let _back = add(&mut socket, &old_links, &gone, &old_tables);
                return Err(error);
            }
            Ok(())
        });
        if let Err(error) = done {
            self.links = old_links;
            return Err(error);
        }
        for record in gone.iter().flat_map(|u| &u.records).chain(&old_tables) {
            for word in record.words() {
                let value = counted.get(&word).copied().unwrap_or(0);
                let value = value.saturating_sub(self.before.remove(&word).unwrap_or(0));
                *self.retired.entry(word).or_default() += value;
            }
        }
        self.units = units;
        self.roots = inside(&self.key, || find_roots(&self.key))?;
        Ok(())
    }

    /// What all of them counted under the present rules.
    ///
    /// # Errors
    /// [`TcError::Kernel`].
    pub fn counters(&self) -> Result<Tally, TcError> {
        let mut words = self.retired.clone();
        for (word, value) in self.live()? {
            *words.entry(word).or_default() += value.saturating_sub(self.before.get(&word).copied().unwrap_or(0));
        }
        Ok(tally(words))
    }

    /// Counts from zero from now on.
    pub fn forget(&mut self) {
        self.retired.clear();
        self.before = self.live().unwrap_or_default();
    }

    /// Takes all away. What was counted.
    #[must_use]
    pub fn end(self) -> Option<Tally> {
        self.counters().ok()
    }

    /// How many filters are there.
    #[must_use]
    pub fn filter_count(&self) -> usize {
        self.units.list.iter().map(|u| u.records.len()).sum::<usize>() + self.units.tables.len()
    }

    /// What the kernel counted of what is there, by words of the rules.
    fn live(&self) -> Result<Words, TcError> {
        let Some(ifindex) = self.units.list.first().and_then(|u| self.links.ifindex(u.place.device)) else {
            return Ok(Words::new());
        };
        let hooks: &[u32] = if self.units.egress() { &[PARENT_INGRESS, PARENT_EGRESS] } else { &[PARENT_INGRESS] };
        let mut words = Words::new();
        for hook in hooks {
            let counts = inside(&self.key, || read_counts(&mut Socket::new()?, ifindex, *hook))?;
            let counts: BTreeMap<_, _> = counts.iter().map(|c| ((c.chain, c.prio, c.handle), c)).collect();
            for record in self.records() {
                let place = &record.filter.place;
                if place.parent != *hook {
                    continue;
                }
                let root = self.roots.get(&(place.parent, place.chain, place.prio)).copied();
                let handle = match (&record.filter.node, place.handle >> 20, root) {
                    (Node::U32(_), 0, Some(root)) => root << 20 | place.handle,
                    _ => place.handle,
                };
                if let Some(counted) = counts.get(&(place.chain, place.prio, handle)) {
                    record.read(counted, &mut words);
                }
            }
        }
        Ok(words)
    }

    fn records(&self) -> impl Iterator<Item = &Record> {
        self.units.list.iter().flat_map(|u| &u.records).chain(&self.units.tables)
    }
}

impl Drop for KernelTc {
    fn drop(&mut self) {
        let taken_away = inside(&self.key, || {
            let mut socket = Socket::new()?;
            drop_units(&mut socket, &self.links, &self.units.list)?;
            self.made.as_ref().map_or(Ok(()), |qdisc| delete_qdisc(&mut socket, &self.links, qdisc))
        });
        // The device may be gone, and all of it with it; nobody is left to be told of anything else.
        drop(taken_away);
    }
}

impl Record {
    fn words(&self) -> Vec<u32> {
        let node = self.node.0..self.node.0 + self.node.1;
        node.chain(self.actions.iter().flat_map(|base| *base..base + 4)).collect()
    }

    fn read(&self, counted: &crate::host::tc::Counted, words: &mut Words) {
        let (base, count) = self.node;
        for (word, value) in (base..base + count).zip(&counted.nodes) {
            words.insert(word, *value);
        }
        if counted.nodes.is_empty() && count > NodeWord::SUCCESS {
            // A kernel that does not count matches: those that came to an action are known.
            let packets = counted.actions.first().map_or(0, |a| a.packets);
            words.insert(base + NodeWord::SUCCESS, packets);
        }
        for (base, action) in self.actions.iter().zip(&counted.actions) {
            // In the order of `ActionWord`.
            let values = [action.bytes, action.packets, action.drops, action.overlimits];
            words.extend((*base..).zip(values));
        }
    }
}

fn same(one: &Units, other: &Units) -> bool {
    one.list.len() == other.list.len()
        && one.list.iter().zip(&other.list).all(|(a, b)| a.same(b))
        && filters(&one.tables).eq(filters(&other.tables))
}

fn inside<T: Send>(key: &DeviceKey, f: impl FnOnce() -> Result<T, NetlinkError> + Send) -> Result<T, TcError> {
    let failed = |error: NetlinkError| TcError::Kernel { device: key.clone(), source: Box::new(error) };
    netns::in_namespace(key.netns.as_deref(), f).map_err(|e| failed(e.into()))?.map_err(failed)
}

/// The devices of the rules at their positions, with the numbers of those that are in the device's namespace; 0 for others.
fn links(ruleset: &Ruleset, device: DeviceId) -> Links {
    let netns = &ruleset.devices[device.index()].netns;
    let number = |key: &DeviceKey| match key.netns == *netns {
        true => nix::net::if_::if_nametoindex(key.name.as_str()).unwrap_or(0),
        false => 0,
    };
    Links { list: ruleset.devices.iter().map(|key| (number(key), key.clone())).collect() }
}

/// Makes a qdisc if there is none. What a killed process left goes.
fn prepare_device(key: &DeviceKey, ruleset: &Ruleset, planned: &Planned) -> Result<(Option<Qdisc>, bool), TcError> {
    let failed = |error: NetlinkError| TcError::Kernel { device: key.clone(), source: Box::new(error) };
    let found = read(key.netns.as_deref(), Some(&key.name)).map_err(failed)?;
    let device = key.clone();
    let qdisc = found.qdiscs.iter().find(|q| q.parent == PARENT_INGRESS_QDISC);
    if let Some(qdisc) = qdisc {
        let kind = qdisc.kind.clone();
        if qdisc.blocks != [0, 0] {
            return Err(TcError::Qdisc { device, kind, why: "its filters are in a shared block" });
        }
        if kind == "ingress" && planned.units.egress() {
            let why = "the rules have some at the egress, which only clsact has";
            return Err(TcError::Qdisc { device, kind, why });
        }
    }
    let at_hooks: Vec<&Filter> =
        found.filters.iter().filter(|f| matches!(f.place.parent, PARENT_INGRESS | PARENT_EGRESS)).collect();
    if let Some(foreign) =
        foreign(&at_hooks).or_else(|| found.unread.first().map(|_| "filters that cannot be read".to_owned()))
    {
        return Err(TcError::Foreign { device, what: foreign });
    }
    let Some(id) = ruleset.device(key) else { return Ok((None, true)) };
    let mut left: Vec<(u32, u32)> = at_hooks.iter().map(|f| (f.place.parent, f.place.chain)).collect();
    left.dedup();
    inside(key, || {
        let mut socket = Socket::new()?;
        for (parent, chain) in left {
            delete_filters(&mut socket, &planned.links, (id, parent), chain)?;
        }
        if let Some(qdisc) = qdisc {
            return Ok((None, qdisc.kind == "clsact"));
        }
        let made = Qdisc {
            device: id,
            handle: HANDLE,
            parent: PARENT_INGRESS_QDISC,
            kind: "clsact".to_owned(),
            blocks: [0, 0],
        };
        apply(&mut socket, &planned.links, &Change::Qdisc(made.clone()))?;
        Ok((Some(made), true))
    })
}

/// A filter that is not ours, in words. Ours have actions with our cookie; what has no action is taken for ours among such.
fn foreign(filters: &[&Filter]) -> Option<String> {
    let ours = |f: &Filter| actions_of(&f.node).iter().any(|a| a.cookie.as_deref() == Some(COOKIE));
    let any_of_ours = filters.iter().any(|f| ours(f));
    let may_be_ours = |f: &Filter| ours(f) || any_of_ours && actions_of(&f.node).is_empty();
    let theirs = filters.iter().rev().find(|f| !may_be_ours(f))?;
    let Place { chain, prio, kind, .. } = &theirs.place;
    Some(format!("chain {chain} prio {prio} {kind}"))
}

/// The last first, so that what is left at any time are the first ones.
fn drop_units(socket: &mut Socket, links: &Links, units: &[Unit]) -> Result<(), NetlinkError> {
    let mut result = Ok(());
    for unit in units.iter().rev() {
        result = result.and(match apply(socket, links, &Change::DropPrio(unit.place.clone())) {
            // It is gone already, with the device or by somebody else's hand.
            Err(error) if matches!(error.errno(), Some(nix::libc::ENOENT | nix::libc::ENODEV | nix::libc::EINVAL)) => {
                Ok(())
            }
            other => other,
        });
    }
    result
}

fn add(socket: &mut Socket, links: &Links, units: &[Unit], tables: &[Record]) -> Result<(), NetlinkError> {
    let mut make = |filter: &Filter| apply(socket, links, &Change::Filter(filter.clone()));
    if !tables.is_empty() {
        // Tables need a prio, and links need tables: the prios come first, empty.
        for unit in units.iter().filter(|u| u.place.kind == "u32") {
            make(&Filter { place: unit.place.clone(), node: Node::Head })?;
        }
        filters(tables).try_for_each(&mut make)?;
    }
    units.iter().flat_map(|u| filters(&u.records)).try_for_each(make)
}

/// Which table is the root of which u32 prio.
fn find_roots(key: &DeviceKey) -> Result<BTreeMap<(u32, u32, u16), u32>, NetlinkError> {
    // In place: the caller is in the namespace.
    let found = read(None, Some(&key.name))?;
    let one = |(place, root): (Place, Result<u32, _>)| Some(((place.parent, place.chain, place.prio), root.ok()?));
    Ok(found.roots.into_iter().filter_map(one).collect())
}
