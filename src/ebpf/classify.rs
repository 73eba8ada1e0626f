//! From chains to jumps: `tcf_classify()` and the classifiers, as code on the stack that [`super::frame`] filled.
//!
//! The same rules are laid out once to decide, and once to count what the kernel would have counted on the way to "pass".

use std::collections::{BTreeMap, BTreeSet};

use super::asm::{Alu, Asm, Cond, Label, Reg, Size};
use super::count::Slots;
use super::dissect::{FOUND_IPV4, FOUND_IPV6};
use super::layout::{Layout, NETWORK, slot, word_at};
use super::verdict::{End, Entry, filters, goto, listing, mark_can_match, node_acts};
use crate::limits::ETHERNET_LEN;
use crate::rules::{
    ActionId, BasicRule, Classifier, Filter, FlowerKey, FlowerRule, Hook, InFrame, MatchallRule, NodeWord, PortMatch,
    Ruleset, U32Key, U32Node,
};
use crate::types::Protocol;

/// One layout of a hook's rules.
pub(super) struct Classify<'a> {
    pub asm: &'a mut Asm,
    pub ruleset: &'a Ruleset,
    pub hook: &'a Hook,
    pub layout: &'a Layout,
    /// Where taken frames go.
    pub take: Label,
    /// Where passed frames go.
    pub pass: Label,
    /// Counts if there is something to count into.
    pub slots: Option<&'a mut Slots>,
    /// Where each chain starts.
    pub chains: BTreeMap<Entry, Label>,
}

impl Classify<'_> {
    /// All chains, from where the program stands.
    pub fn emit(&mut self, entries: &BTreeSet<Entry>) {
        for entry in entries {
            let label = self.asm.label();
            self.chains.insert(*entry, label);
        }
        for entry in entries {
            let start = self.chains[entry];
            self.asm.bind(start);
            for filter in filters(self.hook, entry.chain) {
                self.filter(*entry, filter);
            }
            let pass = self.pass;
            self.asm.jump(pass);
        }
    }

    fn filter(&mut self, entry: Entry, filter: &Filter) {
        self.asm.relay();
        let next = self.asm.label();
        if filter.protocol != Protocol::ALL {
            self.asm.load(Size::H, Reg::R1, Reg::R10, slot::PROTOCOL);
            self.asm.jump32_imm(Cond::Ne, Reg::R1, u32::from(filter.protocol.0), next);
        }
        match &filter.classifier {
            Classifier::U32(nodes) => self.u32_filter(entry, nodes, next),
            Classifier::Flower(rules) => self.flower_filter(entry, rules, next),
            Classifier::Matchall(rule) => self.matchall_filter(entry, rule.as_ref(), next),
            // The mark is 0 here: no rule can want that.
            Classifier::Fw(_) => {}
            Classifier::Basic(rules) => self.basic_filter(entry, rules),
        }
        self.asm.bind(next);
    }

    /// `u32_classify()`: a key that cannot be read ends the whole filter.
    fn u32_filter(&mut self, entry: Entry, nodes: &[U32Node], next: Label) {
        // Bytes that are known to be there; every node that is reached has passed the first key's check of those before.
        let mut there = ETHERNET_LEN as i32;
        for node in nodes {
            self.asm.relay();
            let miss = self.asm.label();
            self.count(node.counters + NodeWord::HIT);
            if mark_can_match(node) {
                if node.mark.is_some() {
                    self.count(node.counters + NodeWord::mark(node.keys.len()));
                }
                let mut there_in_node = there;
                for (index, key) in node.keys.iter().enumerate() {
                    self.u32_key(key, &mut there_in_node, miss, next);
                    self.count(node.counters + NodeWord::KEYS + index as u32);
                    if index == 0 {
                        there = there_in_node;
                    }
                }
                if node_acts(node, self.hook.device) {
                    self.count(node.counters + NodeWord::SUCCESS);
                    self.actions(entry, &node.actions, miss);
                }
            }
            self.asm.bind(miss);
        }
    }

    fn u32_key(&mut self, key: &U32Key, there: &mut i32, miss: Label, unreadable: Label) {
        let key = match key.in_frame(NETWORK) {
            InFrame::Key(key) => key,
            InFrame::Never => return self.asm.jump(miss),
            InFrame::Unreadable => return self.asm.jump(unreadable),
        };
        let at = word_at(key.offset).expect("the layout was made from the same keys");
        if at + 4 > *there {
            self.asm.load(Size::H, Reg::R1, Reg::R10, slot::LEN);
            self.asm.jump32_imm(Cond::Lt, Reg::R1, (at + 4) as u32, unreadable);
            *there = at + 4;
        }
        self.word(at, (key.value & key.mask).to_be_bytes(), key.mask.to_be_bytes(), miss);
    }

    /// Goes to `miss` unless the masked word is the value, both in network order.
    pub(super) fn word(&mut self, at: i32, value: [u8; 4], mask: [u8; 4], miss: Label) {
        let (value, mask) = (u32::from_ne_bytes(value), u32::from_ne_bytes(mask));
        if mask == 0 && value == 0 {
            return;
        }
        self.asm.load(Size::W, Reg::R1, Reg::R10, self.layout.slot(at));
        if mask != u32::MAX {
            self.asm.alu32_imm(Alu::And, Reg::R1, mask);
        }
        self.asm.jump32_imm(Cond::Ne, Reg::R1, value, miss);
    }

    /// `basic_classify()`.
    fn basic_filter(&mut self, entry: Entry, rules: &[BasicRule]) {
        for rule in rules {
            self.asm.relay();
            let (fits, miss) = (self.asm.label(), self.asm.label());
            self.count(rule.counters + NodeWord::HIT);
            if !rule.ematches.is_empty() {
                self.ematch_terms(&rule.ematches, fits, miss);
            }
            self.asm.bind(fits);
            self.count(rule.counters + NodeWord::SUCCESS);
            self.actions(entry, &rule.actions, miss);
            self.asm.bind(miss);
        }
    }

    /// `mall_classify()`.
    fn matchall_filter(&mut self, entry: Entry, rule: Option<&MatchallRule>, next: Label) {
        if let Some(rule) = rule.filter(|r| !r.skip_sw) {
            self.count(rule.counters + NodeWord::HIT);
            self.count(rule.counters + NodeWord::SUCCESS);
            self.actions(entry, &rule.actions, next);
        }
    }

    /// `fl_classify()`: at most one rule matches.
    fn flower_filter(&mut self, entry: Entry, rules: &[FlowerRule], next: Label) {
        for rule in rules {
            self.asm.relay();
            let miss = self.asm.label();
            self.flower_key(&rule.key, miss);
            self.count(rule.counters + NodeWord::HIT);
            self.count(rule.counters + NodeWord::SUCCESS);
            self.actions(entry, &rule.actions, next);
            self.asm.bind(miss);
        }
    }

    fn flower_key(&mut self, key: &FlowerKey, miss: Label) {
        if key.no_address {
            self.asm.jump(miss);
            return;
        }
        if let Some(eth_type) = key.eth_type {
            self.half(slot::ETH_TYPE, u16::MAX, eth_type, miss);
        }
        self.addresses(key, miss);
        if let Some(proto) = key.ip_proto {
            self.half(slot::IP_PROTO, u16::MAX, u16::from(proto), miss);
        }
        for (port, at) in [(key.src_port, slot::SRC_PORT), (key.dst_port, slot::DST_PORT)] {
            match port {
                None => {}
                Some(PortMatch::Masked(value, mask)) => self.half(at, mask, value, miss),
                Some(PortMatch::Range(low, high)) => {
                    self.asm.load(Size::H, Reg::R1, Reg::R10, at);
                    self.asm.jump32_imm(Cond::Lt, Reg::R1, u32::from(low), miss);
                    self.asm.jump32_imm(Cond::Gt, Reg::R1, u32::from(high), miss);
                }
            }
        }
        if let Some((value, mask)) = key.tcp_flags {
            self.half(slot::TCP_FLAGS, mask, value, miss);
        }
        if let Some((value, mask)) = key.dst_mac {
            let ([v0, v1, v2, v3, v4, v5], [m0, m1, m2, m3, m4, m5]) = (value, mask);
            self.word(0, [v0, v1, v2, v3], [m0, m1, m2, m3], miss);
            self.word(4, [v4, v5, 0, 0], [m4, m5, 0, 0], miss);
        }
        if let Some((value, mask)) = key.src_mac {
            let ([v0, v1, v2, v3, v4, v5], [m0, m1, m2, m3, m4, m5]) = (value, mask);
            self.word(4, [0, 0, v0, v1], [0, 0, m0, m1], miss);
            self.word(8, [v2, v3, v4, v5], [m2, m3, m4, m5], miss);
        }
    }

    /// Goes to `miss` unless the masked slot is the value.
    fn half(&mut self, at: i16, mask: u16, value: u16, miss: Label) {
        self.asm.load(Size::H, Reg::R1, Reg::R10, at);
        if mask != u16::MAX {
            self.asm.alu32_imm(Alu::And, Reg::R1, u32::from(mask));
        }
        self.asm.jump32_imm(Cond::Ne, Reg::R1, u32::from(value), miss);
    }

    /// Compares addresses, which must have been found.
    fn addresses(&mut self, key: &FlowerKey, miss: Label) {
        let ipv4 = key.src_ipv4.is_some() || key.dst_ipv4.is_some();
        let [src6, dst6] = key.addresses6();
        let ipv6 = src6.is_some() || dst6.is_some();
        for (wanted, found) in [(ipv4, FOUND_IPV4), (ipv6, FOUND_IPV6)] {
            if wanted {
                self.half(slot::FOUND, u16::MAX, found as u16, miss);
            }
        }
        for (pair, at) in [(key.src_ipv4, 26), (key.dst_ipv4, 30)] {
            if let Some((value, mask)) = pair {
                let value = u32::from(value) & u32::from(mask);
                self.word(at, value.to_be_bytes(), mask.octets(), miss);
            }
        }
        for (pair, at) in [(src6, 22), (dst6, 38)] {
            if let Some((value, mask)) = pair {
                let value = (u128::from(value) & u128::from(mask)).to_be_bytes();
                for (part, (value, mask)) in value.chunks_exact(4).zip(mask.octets().chunks_exact(4)).enumerate() {
                    let array = |b: &[u8]| [b[0], b[1], b[2], b[3]];
                    self.word(at + 4 * part as i32, array(value), array(mask), miss);
                }
            }
        }
    }

    /// Goes where a list of actions ends; `Continue` goes to `on`.
    fn actions(&mut self, entry: Entry, actions: &[ActionId], on: Label) {
        let listing = listing(self.ruleset, actions);
        let to = match listing.end {
            End::Take => self.take,
            End::Pass => self.pass,
            End::Continue => on,
            End::Goto(chain) => goto(entry.depth, chain).map_or(self.take, |entry| self.chains[&entry]),
        };
        if to != self.take {
            for id in &listing.executed {
                self.count_action(self.ruleset.action(*id).counters);
            }
        }
        self.asm.jump(to);
    }

    fn count(&mut self, word: u32) {
        if let Some(slots) = &mut self.slots {
            slots.add_one(self.asm, word);
        }
    }

    fn count_action(&mut self, base: u32) {
        if let Some(slots) = &mut self.slots {
            slots.count_action(self.asm, base);
        }
    }
}
