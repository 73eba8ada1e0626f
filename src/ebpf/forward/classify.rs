//! From chains to jumps, counting on the way: `tcf_classify()` and the classifiers, on the frame in the workspace.

use super::emit::{Counting, Emit, Stage};
use super::lookup::{NodePart, Part, node_parts, parts};
use super::slots::{of_actions, sum};
use super::work::{NETWORK, START, field};
use crate::ebpf::asm::{Alu, Cond, Label, Reg, Size};
use crate::ebpf::count::CounterSlot;
use crate::ebpf::verdict::{Entry, filters, listing, mark_can_match};
use crate::limits::ETHERNET_LEN;
use crate::rules::{
    ActionId, Classifier, Filter, HEADROOM_LEN, Hook, InFrame, MatchallRule, NodeWord, U32Base, U32Key, U32Node,
};
use crate::types::Protocol;

/// Offset of `mark` in `struct __sk_buff`.
pub(super) const SKB_MARK: i16 = 8;
/// Instructions that are written at most before it is given up.
const INSNS_MAX: usize = 400_000;

/// Where the keys of a u32 node count from, and where a filter goes on.
#[derive(Clone, Copy)]
pub(super) struct Level {
    /// 0: the root table.
    pub depth: usize,
    /// Some node of the root table links: `nexthdr+` is not the network header.
    pub links: bool,
    /// Behind the filter: a key that cannot be read, and "nothing matched".
    pub next: Label,
}

impl Emit<'_> {
    /// All chains, from where the program stands.
    pub fn classify(&mut self) {
        let entries = self.entries.clone();
        for entry in &entries {
            let label = self.asm.label();
            self.chains.insert(*entry, label);
        }
        // The first is where the program stands; all others are jumped to.
        for entry in &entries {
            let start = self.chains[entry];
            self.asm.bind(start);
            let hook: &Hook = self.hook;
            let filters = filters(hook, entry.chain);
            for part in parts(self.ruleset, hook, filters) {
                match part {
                    Part::Filter(filter) => self.filter(*entry, filter),
                    Part::Prios(block) => self.prios(*entry, &block),
                }
            }
            let pass = self.ways.pass;
            self.asm.jump(pass);
        }
    }

    fn filter(&mut self, entry: Entry, filter: &Filter) {
        self.asm.relay();
        self.too_long |= self.asm.len() > INSNS_MAX;
        let next = self.asm.label();
        self.sees(filter.protocol, next);
        match &filter.classifier {
            Classifier::U32(nodes) => self.u32_filter(entry, nodes, next),
            Classifier::Flower(rules) => self.flower_filter(entry, rules, next),
            Classifier::Matchall(rule) => self.matchall_filter(entry, rule.as_ref(), next),
            // The mark is 0: nothing matches. What is refused before is not written.
            Classifier::Fw(_) | Classifier::Basic(_) => {}
        }
        self.asm.bind(next);
    }

    /// Goes to `other` unless a filter for this protocol sees the frame.
    pub fn sees(&mut self, protocol: Protocol, other: Label) {
        if protocol != Protocol::ALL {
            self.asm.load(Size::H, Reg::R1, Reg::R9, field::SEEN);
            self.asm.jump32_imm(Cond::Ne, Reg::R1, u32::from(protocol.0), other);
        }
    }

    /// `mall_classify()`.
    fn matchall_filter(&mut self, entry: Entry, rule: Option<&MatchallRule>, next: Label) {
        if let Some(rule) = rule.filter(|r| !r.skip_sw) {
            let counting = self.rule(&[sum(rule.counters), sum(rule.counters + NodeWord::SUCCESS)], &rule.actions);
            self.add_one(counting);
            self.add_one(counting.further(1));
            self.actions(entry, &rule.actions, counting.further(2), next);
        }
    }

    /// A run of slots for a rule and its actions, addressable.
    pub fn rule(&mut self, own: &[Option<CounterSlot>], actions: &[ActionId]) -> Counting {
        let mut words = own.to_vec();
        words.extend(of_actions(self.ruleset, &listing(self.ruleset, actions).executed));
        let slot = self.run(&words);
        self.counting(slot)
    }

    /// `u32_classify()`: a key that cannot be read ends the whole filter.
    fn u32_filter(&mut self, entry: Entry, nodes: &[U32Node], next: Label) {
        let links = nodes.iter().any(|n| n.link.is_some());
        if links {
            self.asm.store_imm(Size::W, Reg::R9, field::NEXT_HEADER, 0);
            self.asm.store_imm(Size::W, Reg::R9, field::BASES, NETWORK);
        }
        let level = Level { depth: 0, links, next };
        for part in node_parts(self.ruleset, self.hook, nodes) {
            match part {
                NodePart::Nodes(nodes) => self.u32_nodes(entry, nodes, level),
                NodePart::Block(block) => self.block(entry, &block, next),
            }
        }
    }

    /// Nodes one after the other.
    pub fn u32_nodes(&mut self, entry: Entry, nodes: &[U32Node], level: Level) {
        // Bytes that are known to be there; every node that is reached has passed the first key's check of those before.
        let mut there = NETWORK;
        for node in nodes {
            self.asm.relay();
            self.too_long |= self.asm.len() > INSNS_MAX;
            if self.too_long {
                return;
            }
            self.u32_node(entry, node, level, &mut there);
        }
    }

    fn u32_node(&mut self, entry: Entry, node: &U32Node, level: Level, there: &mut i32) {
        let miss = self.asm.label();
        let own: Vec<_> = (0..node.words()).map(|word| sum(node.counters + word)).collect();
        let mut words = own.clone();
        words.extend(of_actions(self.ruleset, &listing(self.ruleset, &node.actions).executed));
        let slot = self.run(&words);
        let counting = self.counting(slot);
        self.add_one(counting);
        if self.steers && !mark_can_match(node) {
            self.asm.bind(miss);
            return;
        }
        if let Some(mark) = node.mark {
            self.mark();
            self.asm.alu32_imm(Alu::And, Reg::R1, mark.mask);
            self.asm.jump32_imm(Cond::Ne, Reg::R1, mark.value, miss);
            self.add_one(counting.further(NodeWord::mark(node.keys.len()) as i16));
        }
        let mut there_in_node = *there;
        for (index, key) in node.keys.iter().enumerate() {
            self.u32_key(key, level, &mut there_in_node, miss);
            self.add_one(counting.further((NodeWord::KEYS + index as u32) as i16));
            // Before a mark that differs nothing is read.
            if index == 0 && node.mark.is_none() {
                *there = there_in_node;
            }
        }
        let counting = match node.link {
            Some(link) => {
                self.link(entry, link, level);
                self.counting(slot)
            }
            None => counting,
        };
        if node.terminal && node.indev.is_none_or(|d| d == self.hook.device) {
            self.add_one(counting.further(NodeWord::SUCCESS as i16));
            self.actions(entry, &node.actions, counting.further(own.len() as i16), miss);
        }
        self.asm.bind(miss);
    }

    /// R1 = `skb->mark`.
    pub fn mark(&mut self) {
        match self.stage {
            Stage::Xdp => self.asm.load(Size::W, Reg::R1, Reg::R9, field::MARK),
            Stage::Tc(_) => self.asm.load(Size::W, Reg::R1, Reg::R6, SKB_MARK),
        }
    }

    fn u32_key(&mut self, key: &U32Key, level: Level, there: &mut i32, miss: Label) {
        let position = NETWORK + key.offset.clamp(-NETWORK, 1 << 20);
        let fixed = level.depth == 0 && (key.base == U32Base::Network || !level.links);
        let holds = self.asm.label();
        let (key, position) = match key.in_frame(ETHERNET_LEN as i32) {
            InFrame::Key(inside) if fixed => (inside, NETWORK + inside.offset.min(1 << 20)),
            InFrame::Never if fixed => return self.asm.jump(miss),
            InFrame::Unreadable if fixed => return self.asm.jump(level.next),
            InFrame::Key(_) | InFrame::Never | InFrame::Unreadable => (*key, position),
        };
        if fixed && position + 4 <= self.head_end {
            self.long_enough(position + 4, there, level.next);
            self.asm.load(Size::W, Reg::R1, Reg::R9, position as i16);
        } else {
            self.base(level.depth);
            if !fixed && key.base == U32Base::NextHeader {
                self.asm.load(Size::W, Reg::R1, Reg::R9, field::NEXT_HEADER);
                self.asm.alu(Alu::Add, Reg::R3, Reg::R1);
            }
            self.asm.alu_imm(Alu::Add, Reg::R3, key.offset);
            if key.offset < 0 {
                self.u32_key_before(&key, level, miss, holds);
            }
            self.read(4, level.next);
            self.asm.mov(Reg::R1, Reg::R0);
        }
        self.masked((key.value & key.mask).to_be_bytes(), key.mask.to_be_bytes(), miss);
        self.asm.bind(holds);
    }

    /// A key that may begin before the frame, at R3: goes on if it does not.
    fn u32_key_before(&mut self, key: &U32Key, level: Level, miss: Label, holds: Label) {
        let inside = self.asm.label();
        self.asm.jump_imm(Cond::SGe, Reg::R3, START, inside);
        self.asm.jump_imm(Cond::SLt, Reg::R3, START - HEADROOM_LEN as i32, level.next);
        for missing in 1..4 {
            let other = self.asm.label();
            self.asm.jump_imm(Cond::Ne, Reg::R3, START - missing, other);
            match (U32Key { offset: -missing, ..*key }).in_frame(0) {
                InFrame::Key(key) => {
                    self.asm.load(Size::W, Reg::R1, Reg::R9, START as i16);
                    self.masked((key.value & key.mask).to_be_bytes(), key.mask.to_be_bytes(), miss);
                    self.asm.jump(holds);
                }
                InFrame::Never | InFrame::Unreadable => self.asm.jump(miss),
            }
            self.asm.bind(other);
        }
        self.asm.jump(if key.mask == 0 { holds } else { miss });
        self.asm.bind(inside);
    }

    /// R3 = where keys of this depth count from.
    pub fn base(&mut self, depth: usize) {
        match depth {
            0 => self.asm.mov_imm(Reg::R3, NETWORK),
            depth => self.asm.load(Size::W, Reg::R3, Reg::R9, field::BASES + 4 * depth as i16),
        }
    }

    /// R0 = `len` bytes at position R3, or to `unreadable`.
    pub fn read(&mut self, len: i32, unreadable: Label) {
        self.asm.mov_imm(Reg::R4, len);
        let read = self.subs.read;
        self.call(read);
        self.asm.jump_imm(Cond::Eq, Reg::R0, -1, unreadable);
    }

    /// Goes to `short` unless the frame reaches to this position. R1 is lost.
    pub fn long_enough(&mut self, position: i32, there: &mut i32, short: Label) {
        if position > *there {
            self.asm.load(Size::W, Reg::R1, Reg::R9, field::END);
            self.asm.jump32_imm(Cond::Lt, Reg::R1, position as u32, short);
            *there = position;
        }
    }

    /// Goes to `miss` unless the masked word in R1 is the value, both in network order.
    pub fn masked(&mut self, value: [u8; 4], mask: [u8; 4], miss: Label) {
        let (value, mask) = (u32::from_ne_bytes(value), u32::from_ne_bytes(mask));
        if mask == 0 && value == 0 {
            return;
        }
        if mask != u32::MAX {
            self.asm.alu32_imm(Alu::And, Reg::R1, mask);
        }
        self.asm.jump32_imm(Cond::Ne, Reg::R1, value, miss);
    }
}
