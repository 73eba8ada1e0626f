//! In which order commands make the state that was read: u32 gives its root tables numbers in the order in which they are made, links
//! need their tables, chains are listed in the order in which they came to be. It writes no command itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::line::{Lines, Why};
use super::prio::{FIRST_ROOT, Fillers, GAP_MAX, Prio, Tables, mask_of, masked_key, sort_roots};
use super::{Import, Step};
use crate::host::tc::{
    Chain, Change, Filter, Lacking, Node, PARENT_ROOT, Place, Qdisc, SHARED_BLOCK, Snapshot, actions_of,
};
use crate::rules::{FlowerField, FlowerKey};
use crate::types::{DeviceId, ethertype};

/// The commands for a snapshot.
#[must_use]
pub fn plan(snapshot: &Snapshot) -> Import {
    let mut work = Work {
        snapshot,
        lines: Lines { links: &snapshot.links },
        blocks: BTreeSet::new(),
        out: Import { netns: snapshot.netns.clone(), ..Import::default() },
    };
    work.out.left_out.extend(snapshot.unread.iter().map(ToString::to_string));
    work.actions();
    for qdisc in &snapshot.qdiscs {
        work.qdisc(qdisc);
    }
    work.out
}

struct Work<'a> {
    snapshot: &'a Snapshot,
    lines: Lines<'a>,
    /// Shared blocks that are done.
    blocks: BTreeSet<u32>,
    out: Import,
}

/// A device, or that it is a shared block; the hook or qdisc, or the block's number.
type Hook = (DeviceId, u32);

impl<'a> Work<'a> {
    fn step(&mut self, change: Change, words: String) {
        self.out.steps.push(Step { change, words });
    }

    fn leave_out(&mut self, place: &Place, why: &dyn std::fmt::Display) {
        let Place { device, parent, chain, prio, protocol, kind, handle } = place;
        let hook = self.lines.hook(*device, *parent).unwrap_or_else(|_| "a device".to_owned());
        let protocol = crate::tc::words::protocol(*protocol);
        self.out
            .left_out
            .push(format!("{hook} protocol {protocol} pref {prio} {kind} chain {chain} handle {handle:#x}: {why}"));
    }

    /// Actions that were made by themselves: they stay when filters go.
    fn actions(&mut self) {
        let held = self.snapshot.filters.iter().flat_map(|f| actions_of(&f.node)).filter(|a| a.refs > a.binds);
        let mut known = BTreeSet::new();
        for action in held.chain(&self.snapshot.free_actions) {
            if !known.insert((action.kind.clone(), action.index)) {
                continue;
            }
            match self.lines.free_action(action) {
                Ok(words) => self.step(Change::Action(action.clone()), words),
                Err(why) => self.out.left_out.push(format!("the action {} index {}: {why}", action.kind, action.index)),
            }
        }
    }

    fn qdisc(&mut self, qdisc: &Qdisc) {
        let hooks = qdisc.hooks();
        if hooks.is_empty() {
            return;
        }
        let (shared, own): (Vec<Hook>, Vec<Hook>) = hooks.into_iter().partition(|(device, _)| *device == SHARED_BLOCK);
        let is_used = |hook: &Hook| {
            let of_hook = |device: DeviceId, parent: u32| (device, parent) == *hook;
            self.snapshot.filters.iter().any(|f| of_hook(f.place.device, f.place.parent))
                || self.snapshot.chains.iter().any(|c| of_hook(c.device, c.parent))
        };
        if qdisc.parent == PARENT_ROOT && !own.iter().any(is_used) {
            return;
        }
        match self.lines.qdisc(qdisc) {
            Ok(words) => self.step(Change::Qdisc(qdisc.clone()), words),
            Err(why) => {
                self.out.left_out.push(format!("a {} qdisc: it has {why}", qdisc.kind));
                return;
            }
        }
        self.hooks(&own);
        // A block is there from its first qdisc on, and has tables of its own.
        for block in shared {
            if self.blocks.insert(block.1) {
                self.hooks(&[block]);
            }
        }
    }

    /// What is at hooks that share their u32 tables.
    fn hooks(&mut self, hooks: &[Hook]) {
        let prios: Vec<Prio<'a>> = hooks.iter().flat_map(|(device, parent)| self.prios(*device, *parent)).collect();
        let mut explicit: Vec<&Chain> =
            hooks.iter().flat_map(|(device, parent)| self.chains(*device, *parent)).collect();
        self.filters(prios, &mut explicit);
        self.make_chains(&mut explicit, None);
    }

    /// Chains without a filter, which a command must have made, and those with a template; the last first.
    fn chains(&self, device: DeviceId, parent: u32) -> Vec<&'a Chain> {
        let snapshot = self.snapshot;
        let is_explicit = |chain: &&Chain| {
            let of_chain =
                |f: &Filter| (f.place.device, f.place.parent, f.place.chain) == (device, parent, chain.index);
            // Chain 0 is listed also where nobody made it.
            let by_itself = chain.index == 0 || snapshot.filters.iter().any(of_chain);
            (chain.device, chain.parent) == (device, parent) && (chain.template.is_some() || !by_itself)
        };
        snapshot.chains.iter().filter(is_explicit).collect()
    }

    /// Makes the explicit chains of a hook that the kernel lists before the chain of `next`, and that one; all without one.
    fn make_chains(&mut self, explicit: &mut Vec<&'a Chain>, next: Option<&Place>) {
        let all = &self.snapshot.chains;
        let rank = |device: DeviceId, parent: u32, index: u32| {
            all.iter().position(|c| (c.device, c.parent, c.index) == (device, parent, index))
        };
        let is_due = |chain: &&Chain| {
            next.is_none_or(|next| {
                let hook = (chain.device, chain.parent) == (next.device, next.parent);
                let [chain, next] = [(chain.device, chain.parent, chain.index), (next.device, next.parent, next.chain)];
                hook && rank(chain.0, chain.1, chain.2) <= rank(next.0, next.1, next.2)
            })
        };
        let (due, rest): (Vec<&Chain>, Vec<&Chain>) = explicit.iter().partition(|chain| is_due(chain));
        *explicit = rest;
        for chain in due {
            match self.lines.chain(chain) {
                Ok(words) => self.step(Change::Chain(chain.clone()), words),
                Err(why) => self.out.left_out.push(format!("chain {}: {why}", chain.index)),
            }
        }
    }

    /// The prios of a hook, chain by chain as the kernel lists them.
    fn prios(&self, device: DeviceId, parent: u32) -> Vec<Prio<'a>> {
        let mut prios: Vec<Prio<'a>> = Vec::new();
        for filter in self.snapshot.filters.iter().filter(|f| (f.place.device, f.place.parent) == (device, parent)) {
            let place = &filter.place;
            let known = prios.iter_mut().find(|p| (p.head.chain, p.head.prio) == (place.chain, place.prio));
            match known {
                Some(prio) => prio.records.push(filter),
                None => prios.push(Prio { head: place, root: None, records: vec![filter] }),
            }
        }
        prios
    }

    /// The filters of a qdisc, and before them the chains that are older.
    fn filters(&mut self, mut prios: Vec<Prio<'a>>, explicit: &mut Vec<&'a Chain>) {
        prios.iter_mut().for_each(|prio| self.find_root(prio));
        prios.retain(|prio| prio.head.kind != "u32" || prio.root.is_some());
        sort_roots(&mut prios);
        let roots: BTreeSet<u32> = prios.iter().filter_map(|p| p.root).collect();
        let mut fillers = Fillers::new(&prios);
        let mut later = Vec::new();
        let mut tables = Tables { known: roots.clone(), made: Vec::new() };
        for (at, prio) in prios.iter().enumerate() {
            self.make_chains(explicit, Some(prio.head));
            if let Some(root) = prio.root {
                self.fill(&prios[at..], root, &mut fillers);
            }
            let late = self.older_chains(prio.head, &prios, &fillers.chains);
            fillers.chains.insert((prio.head.parent, prio.head.chain));
            if let Some(late) = late.first() {
                self.out
                    .notes
                    .push(format!("chain {late} is listed behind chain {}, which is younger", prio.head.chain));
            }
            match prio.root {
                Some(root) => {
                    self.tables(prio, Some(root), &mut tables);
                    tables.made.push(prio.head);
                    later.extend(self.root_nodes(prio, root));
                }
                None => self.plain(prio),
            }
        }
        for prio in prios.iter().filter(|p| p.root.is_some()) {
            self.tables(prio, None, &mut tables);
        }
        later.extend(self.table_nodes(&prios, &roots));
        for (filter, root) in later {
            self.filter(filter, root);
        }
        for place in fillers.made {
            self.filler(&place, false);
        }
    }

    fn find_root(&mut self, prio: &mut Prio<'a>) {
        let head = prio.head;
        let same =
            |p: &Place| (p.device, p.parent, p.chain, p.prio) == (head.device, head.parent, head.chain, head.prio);
        match self.snapshot.roots.iter().find(|(place, _)| same(place)) {
            Some((_, Ok(root))) => prio.root = Some(*root),
            Some((place, Err(lacking))) => self.leave_out(place, &format!("it is not known {lacking}")),
            None => {}
        }
    }

    /// The chains that the kernel lists before the chain of `head`, and whose first filter comes only later: a filter that is gone made
    /// them. Without those that are there already.
    fn older_chains(&self, head: &Place, prios: &[Prio<'a>], made: &BTreeSet<(u32, u32)>) -> Vec<u32> {
        let of_hook = self.snapshot.chains.iter().filter(|c| (c.device, c.parent) == (head.device, head.parent));
        let before = of_hook.map(|c| c.index).take_while(|index| *index != head.chain);
        let comes_later = |index: &u32| prios.iter().any(|p| p.head.parent == head.parent && p.head.chain == *index);
        before.filter(comes_later).filter(|index| !made.contains(&(head.parent, *index))).collect()
    }

    fn add_filler(&mut self, head: &Place, chain: u32, fillers: &mut Fillers) {
        let Some(prio) = fillers.free.pop_last() else { return };
        let place = Place { chain, prio, protocol: ethertype::ALL, handle: 0, ..head.clone() };
        self.filler(&place, true);
        fillers.chains.insert((head.parent, chain));
        fillers.made.push(place);
    }

    /// Makes prios until the next root table, that of the first of `rest`, gets this number. The first of them in those chains that
    /// have to be there before a younger one comes.
    fn fill(&mut self, rest: &[Prio<'a>], root: u32, fillers: &mut Fillers) {
        let head = rest[0].head;
        let ahead = root.saturating_sub(fillers.next);
        if root < FIRST_ROOT || ahead > GAP_MAX {
            self.out.notes.push(format!("pref {}: its root table {root:x} gets another number", head.prio));
            fillers.next += 1;
            return;
        }
        if ahead > 0 {
            let mut places = Vec::new();
            let mut made = fillers.chains.clone();
            for prio in rest {
                let older = self.older_chains(prio.head, rest, &made);
                made.extend(older.iter().map(|chain| (prio.head.parent, *chain)));
                made.insert((prio.head.parent, prio.head.chain));
                places.extend(older.into_iter().map(|chain| (prio.head, chain)));
            }
            let places = places.into_iter().chain(std::iter::repeat((head, head.chain)));
            places.take(ahead as usize).for_each(|(head, chain)| self.add_filler(head, chain, fillers));
        }
        fillers.next = root + 1;
    }

    fn filler(&mut self, place: &Place, make: bool) {
        let (words, change) = if make {
            (self.lines.head(place), Change::Filter(Filter { place: place.clone(), node: Node::Head }))
        } else {
            (self.lines.drop_prio(place), Change::DropPrio(place.clone()))
        };
        match words {
            Ok(words) => self.step(change, words),
            Err(why) => self.leave_out(place, &why),
        }
    }

    /// The nodes of a root table without a link; those with one are given back, for when all tables are there.
    fn root_nodes(&mut self, prio: &Prio<'a>, root: u32) -> Vec<(&'a Filter, bool)> {
        let of_root = |f: &&&Filter| !matches!(f.node, Node::Head | Node::U32Table(_)) && f.place.handle >> 20 == root;
        let (linked, plain): (Vec<&Filter>, Vec<&Filter>) = prio
            .records
            .iter()
            .filter(of_root)
            .partition(|f| matches!(&f.node, Node::U32(node) if node.link.is_some()));
        let before = self.out.filters;
        let mut plain = plain.into_iter();
        // The first that can be said makes the table; without one it is made empty.
        for filter in plain.by_ref() {
            self.filter(filter, true);
            if self.out.filters > before {
                break;
            }
        }
        if self.out.filters == before {
            let place = Place { handle: 0, ..prio.head.clone() };
            self.filler(&place, true);
        }
        plain.for_each(|filter| self.filter(filter, true));
        linked.into_iter().map(|filter| (filter, true)).collect()
    }

    /// Filters of another kind than u32.
    fn plain(&mut self, prio: &Prio<'a>) {
        let mut nodes: Vec<&Filter> = prio.records.iter().copied().filter(|f| f.node != Node::Head).collect();
        match (prio.head.kind.as_str(), nodes.is_empty()) {
            // The old method: the mark is the class.
            ("fw", true) => self.filler(&Place { handle: 0, ..prio.head.clone() }, true),
            // Each is listed before those that are older.
            ("fw" | "basic", false) => nodes.reverse(),
            ("flower" | "matchall" | "basic", _) | (_, false) => {}
            (kind, true) => {
                let lacking = Lacking(format!("the classifier {kind}"));
                self.leave_out(prio.head, &Why::Lacking(lacking));
            }
        }
        let masks: BTreeSet<Vec<(FlowerField, u128)>> = nodes.iter().filter_map(|f| mask_of(&f.node)).collect();
        if masks.len() > 1 {
            let pref = prio.head.prio;
            self.out.notes.push(format!(
                "pref {pref} flower compares by {} masks, and the kernel does not say which is the oldest: taken by handle",
                masks.len()
            ));
        }
        let mut told: HashMap<FlowerKey, usize> = HashMap::new();
        for key in nodes.iter().filter_map(|f| masked_key(&f.node)) {
            *told.entry(key).or_default() += 1;
        }
        for filter in nodes {
            match masked_key(&filter.node).and_then(|key| told.get(&key)) {
                Some(count) if *count > 1 => {
                    let why =
                        format!("the kernel tells the same keys of {count} filters of this prio, which tc cannot add");
                    self.leave_out(&filter.place, &why);
                }
                Some(_) | None => self.filter(filter, false),
            }
        }
    }

    fn filter(&mut self, filter: &Filter, root: bool) {
        let mut notes = Vec::new();
        match self.lines.filter(filter, root, &mut notes) {
            Ok(words) => {
                self.out.filters += 1;
                self.out.notes.append(&mut notes);
                self.step(Change::Filter(filter.clone()), words);
            }
            Err(why) => self.leave_out(&filter.place, &why),
        }
    }

    /// The tables that `divisor` made for a prio's number, the oldest first; only those that are older than a root table.
    fn tables(&mut self, prio: &Prio<'a>, older_than: Option<u32>, tables: &mut Tables<'a>) {
        // They are made under a prio of that number that is there already.
        let Some(home) = tables.made.iter().copied().find(|head| head.prio == prio.head.prio) else { return };
        for record in prio.records.iter().rev() {
            let Node::U32Table(buckets) = record.node else { continue };
            let id = record.place.handle >> 20;
            if older_than == Some(id) {
                return;
            }
            if !tables.known.insert(id) {
                continue;
            }
            let place = Place { handle: record.place.handle, ..home.clone() };
            match self.lines.table(&place, buckets) {
                Ok(words) => self.step(Change::Filter(Filter { place, node: record.node.clone() }), words),
                Err(why) => self.leave_out(&place, &why),
            }
        }
    }

    /// The nodes of those tables, each once.
    fn table_nodes(&self, prios: &[Prio<'a>], roots: &BTreeSet<u32>) -> Vec<(&'a Filter, bool)> {
        let records = prios.iter().filter(|p| p.root.is_some()).flat_map(|p| p.records.iter().copied());
        let of_table =
            |f: &&Filter| !matches!(f.node, Node::Head | Node::U32Table(_)) && !roots.contains(&(f.place.handle >> 20));
        let nodes: BTreeMap<u32, &Filter> = records.filter(of_table).map(|f| (f.place.handle, f)).collect();
        nodes.into_values().map(|filter| (filter, false)).collect()
    }
}
