//! Long runs of u32 nodes, and flower filters of many rules, with an index: the same as trying one after the other, and the same is
//! counted but for single keys (only those of whole matches are). It changes no frame.
//!
//! How often a node was tried follows from how often its run was entered, and from where it ended. So the `HIT` words of a run hold
//! differences, which [`Plan::counts`] adds up:
//!
//! ```text
//! entered, and node 2 ended it:   HIT of node 0: +1    of node 3: −1      added up: 1 1 1 0 0 …
//! ```

use std::collections::{BTreeMap, HashMap};

use super::actions::After;
use super::filters::Tried;
use super::index::{Index, Terms, WORDS_MAX, Words};
use super::layout::{Compare, Filter, FilterKind, Span};
use super::run::{Run, View};
use super::{Outlet, Plan};
use crate::limits::ETHERNET_LEN;
use crate::rules::{Control, CounterSink, CounterSource, NodeWord};
use crate::types::Protocol;
use crate::wire::{Headers, IpVersion, be16, be32};

/// Shorter runs are tried one after the other: that is as quick, and counts each key.
pub(super) const RUN_LEN_MIN: usize = 64;
/// Keys farther than this from the network header make a run that is not indexed: short frames would not profit.
const REACH_MAX: i32 = 256;

/// A run of u32 filters of one protocol, none of which links.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// All their nodes.
    nodes: Span,
    protocol: Protocol,
    /// Those of each filter: a key that cannot be read ends one.
    filters: Box<[Span]>,
    /// Where the words are that frames are looked up by, from the network header.
    offsets: Box<[i32]>,
    /// The lowest and the highest byte that any key reads, from the network header.
    from: i32,
    to: i32,
    index: Index,
}

/// A flower filter with an index over its rules.
#[derive(Clone, Debug)]
pub(super) struct FlowerBlock {
    pub(super) rules: Span,
    index: Index,
}

impl Plan {
    /// Puts runs of a chain's filters together where they are long.
    pub(super) fn with_blocks(&mut self, filters: Vec<Filter>) -> Vec<Filter> {
        let mut out: Vec<Filter> = Vec::with_capacity(filters.len());
        let mut filters = filters.as_slice();
        while let [first, rest @ ..] = filters {
            let run = filters.iter().take_while(|f| f.protocol == first.protocol && self.fits(f)).count();
            let (block, taken) = match first.kind {
                FilterKind::Flower(rules) if rules.len as usize >= self.run_len_min => {
                    self.flower_blocks.push(FlowerBlock { rules, index: self.flower_index(rules) });
                    (Some(FilterKind::FlowerBlock(self.flower_blocks.len() as u32 - 1)), 1)
                }
                _ => (self.u32_block(&filters[..run]), run.max(1)),
            };
            match block {
                // After its last filter, if tags change.
                Some(kind) => out.push(Filter { order: filters[taken - 1].order, kind, ..*first }),
                None => out.extend(&filters[..taken]),
            }
            filters = if taken == 1 { rest } else { &filters[taken..] };
        }
        out
    }

    /// Whether a filter can be in a run.
    fn fits(&self, filter: &Filter) -> bool {
        let FilterKind::U32(nodes) = filter.kind else { return false };
        let near = -(ETHERNET_LEN as i32)..=REACH_MAX;
        nodes.of(&self.nodes).iter().all(|node| node.keys.of(&self.keys).iter().all(|key| near.contains(&key.offset)))
    }

    fn u32_block(&mut self, filters: &[Filter]) -> Option<FilterKind> {
        let spans = filters.iter().filter_map(|f| match f.kind {
            FilterKind::U32(nodes) if nodes.len > 0 => Some(nodes),
            _ => None,
        });
        let spans: Box<[Span]> = spans.collect();
        let nodes = Span { start: spans.first()?.start, len: spans.iter().map(|s| s.len).sum() };
        // The nodes of filters that follow each other were made one after the other.
        let contiguous = spans.windows(2).all(|pair| pair[0].start + pair[0].len == pair[1].start);
        if !contiguous || (nodes.len as usize) < self.run_len_min {
            return None;
        }
        let all = || nodes.of(&self.nodes).iter().flat_map(|node| node.keys.of(&self.keys));
        let mut often: BTreeMap<i32, usize> = BTreeMap::new();
        all().filter(|key| key.mask != 0).for_each(|key| *often.entry(key.offset).or_default() += 1);
        let mut offsets: Vec<(i32, usize)> = often.into_iter().collect();
        offsets.sort_by_key(|(offset, count)| (std::cmp::Reverse(*count), *offset));
        let offsets: Box<[i32]> = offsets.into_iter().take(WORDS_MAX).map(|(offset, _)| offset).collect();
        let place: HashMap<i32, u8> = offsets.iter().copied().zip(0..).collect();
        let terms = nodes.of(&self.nodes).iter().map(|node| {
            let keys = node.keys.of(&self.keys).iter().filter(|key| key.mask != 0);
            let words = keys.filter_map(|key| {
                let memory = |word: u32| u32::from_be_bytes(word.to_ne_bytes());
                Some((*place.get(&key.offset)?, memory(key.mask), memory(key.value)))
            });
            // Nothing happens when a node matches that is not final.
            node.terminal.then(|| merged(words))
        });
        let index = Index::new(&terms.collect::<Vec<_>>());
        let (from, to) = (all().map(|k| k.offset).min().unwrap_or(0), all().map(|k| k.offset + 4).max().unwrap_or(0));
        let protocol = filters.first()?.protocol;
        self.blocks.push(Block { nodes, protocol, filters: spans, offsets, from, to, index });
        Some(FilterKind::U32Block(self.blocks.len() as u32 - 1))
    }

    fn flower_index(&self, rules: Span) -> Index {
        let terms = rules.of(&self.rules).iter().map(|rule| {
            let compares = rule.compares.of(&self.compares);
            let never = compares.iter().any(|c| matches!(c, Compare::Never));
            (!never).then(|| merged(compares.iter().flat_map(flower_terms)))
        });
        Index::new(&terms.collect::<Vec<_>>())
    }

    /// Counters that were counted by this plan, as the kernel would show them.
    #[must_use]
    pub fn counts<'a>(&self, counted: &'a dyn CounterSource) -> Counts<'a> {
        let mut hits = HashMap::new();
        for block in &self.blocks {
            let mut hit = 0u64;
            for node in block.nodes.of(&self.nodes) {
                hit = hit.wrapping_add(counted.word(node.counters + NodeWord::HIT));
                hits.insert(node.counters + NodeWord::HIT, hit);
            }
        }
        Counts { counted, hits }
    }
}

/// See [`Plan::counts`].
pub struct Counts<'a> {
    counted: &'a dyn CounterSource,
    hits: HashMap<u32, u64>,
}

impl CounterSource for Counts<'_> {
    fn word(&self, word: u32) -> u64 {
        self.hits.get(&word).copied().unwrap_or_else(|| self.counted.word(word))
    }
}

/// Sorted by place, each place once.
fn merged(terms: impl Iterator<Item = (u8, u32, u32)>) -> Terms {
    let mut words: BTreeMap<u8, (u32, u32)> = BTreeMap::new();
    for (at, mask, value) in terms {
        let (all, values) = words.entry(at).or_default();
        // What contradicts itself matches nothing; the caller compares.
        (*all, *values) = (*all | mask, *values | value);
    }
    words.into_iter().map(|(at, (mask, value))| (at, mask, value)).collect()
}

/// Where flower's words are: type and protocol, addresses, ports, the words of IPv6 addresses.
mod place {
    pub const TYPES: u8 = 0;
    pub const PORTS: u8 = 1;
    pub const SRC_IPV4: u8 = 2;
    pub const DST_IPV4: u8 = 3;
    pub const SRC_IPV6: u8 = 4;
    pub const DST_IPV6: u8 = 8;
}

/// What of a comparison can be looked up by.
fn flower_terms(compare: &Compare) -> Vec<(u8, u32, u32)> {
    match *compare {
        Compare::EthType(value) => vec![(place::TYPES, 0xffff_0000, u32::from(value) << 16)],
        Compare::IpProto(value) => vec![(place::TYPES, 0xff, value.into())],
        Compare::Port { offset, value, mask } => {
            let shift = if offset == 0 { 16 } else { 0 };
            vec![(place::PORTS, u32::from(mask) << shift, u32::from(value) << shift)]
        }
        Compare::Ipv4 { offset, value, mask } => {
            vec![(if offset == 12 { place::SRC_IPV4 } else { place::DST_IPV4 }, mask, value)]
        }
        Compare::Ipv6 { offset, value, mask } => {
            let first = if offset == 8 { place::SRC_IPV6 } else { place::DST_IPV6 };
            let word = |of: u128, n: u8| (of >> (96 - 32 * n)) as u32;
            (0..4).map(|n| (first + n, word(mask, n), word(value, n))).filter(|(_, mask, _)| *mask != 0).collect()
        }
        Compare::PortRange { .. }
        | Compare::TcpFlags { .. }
        | Compare::Mac { .. }
        | Compare::TosTtl { .. }
        | Compare::Fragment { .. }
        | Compare::Icmp { .. }
        | Compare::TagCount(_)
        | Compare::Tag { .. }
        | Compare::MplsEntries(_)
        | Compare::Mpls { .. }
        | Compare::ArpOp { .. }
        | Compare::ArpIpv4 { .. }
        | Compare::ArpMac { .. }
        | Compare::Pppoe { .. }
        | Compare::Indev(_)
        | Compare::Never => Vec::new(),
    }
}

/// What a frame has there; 0 where it has nothing.
fn flower_words(data: &[u8], headers: &Headers) -> Words {
    let mut words = [0; WORDS_MAX];
    words[usize::from(place::TYPES)] = u32::from(headers.eth_type) << 16 | u32::from(headers.ip_proto);
    if let Some(at) = headers.ports {
        words[usize::from(place::PORTS)] = u32::from(be16(data, at)) << 16 | u32::from(be16(data, at + 2));
    }
    let at = headers.network;
    match headers.ip {
        Some(IpVersion::V4) => {
            words[usize::from(place::SRC_IPV4)] = be32(data, at + 12);
            words[usize::from(place::DST_IPV4)] = be32(data, at + 16);
        }
        Some(IpVersion::V6) => {
            for n in 0..8 {
                words[usize::from(place::SRC_IPV6) + n] = be32(data, at + 8 + 4 * n);
            }
        }
        None => {}
    }
    words
}

impl<C: CounterSink, O: Outlet> Run<'_, C, O> {
    /// All of a run.
    pub(super) fn u32_block(&mut self, number: u32, view: &mut View<'_, '_>) -> After {
        let plan = self.plan;
        let block = &plan.blocks[number as usize];
        let nodes = block.nodes.of(&plan.nodes);
        let (data, network) = (view.packet.data(), i64::from(view.packet.meta.network));
        if network + i64::from(block.from) < 0 || network + i64::from(block.to) > data.len() as i64 {
            // Some key cannot be read: which ones are tried before it decides.
            return self.u32_run(block, 0, view.packet.meta.network, view);
        }
        let mut words = [0; WORDS_MAX];
        for (word, offset) in words.iter_mut().zip(&block.offsets) {
            *word = be32(data, (network + i64::from(*offset)) as usize);
        }
        let (mark, iif) = (view.packet.meta.mark, view.place.iif);
        let found = block.index.find(&words, |number| {
            let node = &nodes[number as usize];
            mark & node.mark_mask == node.mark_value
                && node.indev.is_none_or(|device| device == iif)
                && node.keys.of(&plan.keys).iter().all(|key| key.compare(data, network as usize) == Some(true))
        });
        self.counters.add(nodes[0].counters + NodeWord::HIT, 1);
        let Some(at) = found.map(|at| at as usize) else { return After::Control(Control::Continue) };
        let node = &nodes[at];
        if node.mark_word != 0 {
            self.counters.add(node.mark_word, 1);
        }
        for key in 0..node.keys.len {
            self.counters.add(node.counters + NodeWord::KEYS + key, 1);
        }
        self.counters.add(node.counters + NodeWord::SUCCESS, 1);
        let at_entry = view.packet.meta.network;
        match self.steps(node.steps, view) {
            After::Control(Control::Continue) => {
                self.tried_no_further(nodes, at + 1);
                self.u32_run(block, at + 1, at_entry, view)
            }
            verdict @ (After::Control(_) | After::Shot(_) | After::Redirect { .. }) => {
                self.tried_no_further(nodes, at + 1);
                verdict
            }
        }
    }

    /// The nodes of a run from this one on, one after the other. The filter of the first one was entered when the network header was at
    /// `entered`: the kernel looks that up once for each filter, see `u32_filter`.
    fn u32_run(&mut self, block: &Block, start: usize, entered: u16, view: &mut View<'_, '_>) -> After {
        let plan = self.plan;
        let nodes = block.nodes.of(&plan.nodes);
        let mut first = 0;
        for filter in &block.filters {
            let end = first + filter.len as usize;
            let (begins, from) = (first, first.max(start));
            let at_entry = if begins < start { entered } else { view.packet.meta.network };
            first = end;
            if from >= end {
                continue;
            }
            // Tags that an action changed make it another packet for the filters behind.
            if from == begins && !block.protocol.sees(view.packet.meta.classify_protocol()) {
                return After::Control(Control::Continue);
            }
            self.counters.add(nodes[from].counters + NodeWord::HIT, 1);
            let mut after = end;
            for (at, node) in (from..end).zip(&nodes[from..end]) {
                match self.u32_node(node, at_entry, view) {
                    Tried::On => {}
                    // It ends this filter; the next one is tried.
                    Tried::Unreadable => {
                        after = at + 1;
                        break;
                    }
                    Tried::Ends(verdict) => {
                        self.tried_no_further(nodes, at + 1);
                        return verdict;
                    }
                }
            }
            self.tried_no_further(nodes, after);
        }
        After::Control(Control::Continue)
    }

    /// The node at `at` and those behind it were not tried.
    fn tried_no_further(&mut self, nodes: &[super::Node], at: usize) {
        if let Some(node) = nodes.get(at) {
            self.counters.add(node.counters + NodeWord::HIT, u64::MAX);
        }
    }

    /// As `flower_filter`.
    pub(super) fn flower_block(&mut self, number: u32, view: &mut View<'_, '_>) -> After {
        let plan = self.plan;
        let block = &plan.flower_blocks[number as usize];
        let rules = block.rules.of(&plan.rules);
        let iif = view.place.iif;
        let data = view.packet.data();
        let meta = &view.packet.meta;
        let headers = view.headers.get_or_insert_with(|| Headers::parse(data, meta));
        let found = block.index.find(&flower_words(data, headers), |number| {
            rules[number as usize].compares.of(&plan.compares).iter().all(|compare| compare.holds(data, headers, iif))
        });
        self.flower_match(found.map(|at| &rules[at as usize]), view)
    }
}
