//! A run of rules as lookups: one for each shape, then the code of the rule that is first.
//!
//! Rules whose actions are the same but for their counters share code; the map says which, and where the rule's counters are.
//! Of u32 rules that are looked up, keys are counted only when all of them matched.

use std::collections::BTreeMap;

use super::emit::Emit;
use super::flower::Term;
use super::lookup::{Block, KEY_WORDS_MAX, Kind, LookedUp, LookedUpRule, Mask, Member};
use super::slots::{of_actions, sum};
use super::work::{field, stack};
use crate::ebpf::asm::{Alu, Cond, Helper, Label, MapRef, Reg, Size};
use crate::ebpf::verdict::{End, Entry, listing};
use crate::rules::{ActionId, NodeWord};

/// Code number of "a key cannot be read, the filter ends here".
const UNREADABLE: u32 = 0;
/// No rule was found.
const NONE: i32 = -1;
/// Slots of a rule before those of its actions.
const OWN_SLOTS: i16 = 2;
/// Where keys begin on the stack.
const KEY_AT: i16 = stack::RULE_KEY_END - 4 * (KEY_WORDS_MAX as i16 + 1);

impl Emit<'_> {
    /// All of a run. Goes to `next` when the filter is done, and on when no rule matches.
    pub fn block(&mut self, entry: Entry, block: &Block<'_>, next: Label) {
        self.asm.relay();
        if self.too_long {
            return;
        }
        let none = self.asm.label();
        let entered = self.run(&[None]);
        if block.kind != Kind::Flower {
            let counting = self.counting(entered);
            self.add_one(counting);
        }
        let (codes, slots) = self.codes(block);
        self.asm.store_imm(Size::W, Reg::R9, field::BEST, NONE);
        for shape in 0..block.shapes.len() {
            self.shape(block, shape, &codes, &slots);
        }
        self.asm.load(Size::W, Reg::R1, Reg::R9, field::BEST);
        self.asm.jump32_imm(Cond::Eq, Reg::R1, NONE as u32, none);
        self.asm.load(Size::W, Reg::R1, Reg::R9, field::BEST_CODE);
        let mut lists: BTreeMap<u32, &[ActionId]> = BTreeMap::new();
        for (member, code) in block.members.iter().zip(&codes) {
            lists.entry(*code).or_insert(member.actions);
        }
        let mut all: Vec<(u32, &[ActionId])> = lists.into_iter().collect();
        if block.kind == Kind::Nodes {
            all.insert(0, (UNREADABLE, &[]));
        }
        self.one_of_codes(entry, block.kind, &all, next);
        self.asm.bind(none);
        if block.kind != Kind::Flower && self.counts {
            let rules = block.members.iter().zip(&slots).map(|(member, slot)| LookedUpRule {
                counters: member.counters,
                keys: member.values.len() as u32,
                slot: *slot,
            });
            self.tables.looked_up.push(LookedUp { entered, rules: rules.collect() });
        }
    }

    /// A run of prios, with the protocol that they are for.
    pub fn prios(&mut self, entry: Entry, block: &Block<'_>) {
        let next = self.asm.label();
        if let Kind::Prios(protocol) = block.kind {
            self.sees(protocol, next);
        }
        self.block(entry, block, next);
        self.asm.bind(next);
    }

    /// Which code each rule runs, and its first slot.
    fn codes(&mut self, block: &Block<'_>) -> (Vec<u32>, Vec<u32>) {
        let mut known = BTreeMap::new();
        let (mut codes, mut slots) = (Vec::new(), Vec::new());
        for member in &block.members {
            let listing = listing(self.ruleset, member.actions);
            if self.steers && listing.end == End::Take {
                // No matter how, and the worker counts it; but a filter that ends here for want of bytes is counted.
                let code = known.len() as u32 + 1;
                codes.push(*known.entry(String::new()).or_insert(code));
                slots.push(if block.kind == Kind::Flower { 0 } else { self.run(&[None, None]) });
                continue;
            }
            let executed: Vec<_> = listing.executed.iter().map(|id| &self.ruleset.action(*id).action).collect();
            let content = format!("{executed:?} {:?}", listing.control);
            let code = known.len() as u32 + 1;
            codes.push(*known.entry(content).or_insert(code));
            let success = sum(member.counters + NodeWord::SUCCESS);
            let first = if block.kind == Kind::Flower { sum(member.counters) } else { None };
            // u32: matched, unreadable; flower: hit, success.
            let mut words = if block.kind == Kind::Flower { vec![first, success] } else { vec![success, None] };
            words.extend(of_actions(self.ruleset, &listing.executed));
            slots.push(self.run(&words));
        }
        (codes, slots)
    }

    /// Looks up a shape's rule, and keeps it if it is before the best so far.
    fn shape(&mut self, block: &Block<'_>, shape: usize, codes: &[u32], slots: &[u32]) {
        let masks = &block.shapes[shape];
        let members: Vec<(usize, &Member<'_>)> =
            block.members.iter().enumerate().filter(|(_, m)| m.shape == shape).collect();
        let done = self.asm.label();
        if shape > 0 {
            // Best so far is before all of these: no need to look.
            self.asm.load(Size::W, Reg::R1, Reg::R9, field::BEST);
            self.asm.jump32_imm(Cond::Lt, Reg::R1, members[0].0 as u32, done);
        }
        let mut short = Vec::new();
        if block.kind != Kind::Flower {
            let mut there = 0;
            for (count, mask) in masks.iter().enumerate() {
                let end = i32::from(mask.at) + 4;
                if end > there {
                    let label = if block.kind == Kind::Nodes { self.asm.label() } else { done };
                    self.long_enough(end, &mut there, label);
                    short.push((count, label));
                }
            }
        }
        let found = |order: usize| [order as u32, codes[order], slots[order], 0];
        let entries = members.iter().map(|(order, m)| (m.values.clone(), found(*order)));
        self.lookup(masks, entries.collect(), done);
        if block.kind == Kind::Nodes {
            // Too short for a key: the filter ends at the first rule whose keys before that one fit.
            for (count, label) in short {
                self.asm.jump(done);
                self.asm.bind(label);
                let ended = |order: usize| [order as u32, UNREADABLE, slots[order] + 1, 0];
                let entries = members.iter().map(|(order, m)| (m.values[..count].to_vec(), ended(*order)));
                self.lookup(&masks[..count], entries.collect(), done);
            }
        }
        self.asm.bind(done);
    }

    /// Compares what all rules have in common, and looks up the rest. Of rules that are the same the first is found.
    fn lookup(&mut self, masks: &[Mask], entries: Vec<(Vec<u32>, [u32; 4])>, done: Label) {
        let first = entries[0].0.clone();
        let common: Vec<bool> = (0..masks.len()).map(|n| entries.iter().all(|(v, _)| v[n] == first[n])).collect();
        for (n, mask) in masks.iter().enumerate().filter(|(n, _)| common[*n]) {
            self.term(Term { at: mask.at, wide: mask.wide, mask: mask.mask, value: first[n] }, done);
        }
        let varied: Vec<usize> = (0..masks.len()).filter(|n| !common[*n]).collect();
        let id = self.tables.lookups;
        self.tables.lookups += 1;
        self.tables.key_words = self.tables.key_words.max(varied.len() + 1);
        for (values, found) in entries {
            let key = std::iter::once(id).chain(varied.iter().map(|n| values[*n])).collect();
            self.tables.entries.entry(key).or_insert(found);
        }
        self.asm.store_imm(Size::W, Reg::R10, KEY_AT, id as i32);
        for (place, n) in varied.iter().enumerate() {
            let Mask { at, wide, mask } = masks[*n];
            self.load_term(Term { at, wide, mask, value: 0 });
            self.asm.store(Size::W, Reg::R10, KEY_AT + 4 * (place as i16 + 1), Reg::R1);
        }
        // Keys are as long as the longest of the program.
        for place in varied.len() + 1..self.key_words {
            self.asm.store_imm(Size::W, Reg::R10, KEY_AT + 4 * place as i16, 0);
        }
        self.asm.load_map(Reg::R1, MapRef::Rules);
        self.asm.mov(Reg::R2, Reg::R10);
        self.asm.alu_imm(Alu::Add, Reg::R2, i32::from(KEY_AT));
        self.asm.call(Helper::MapLookup);
        self.asm.jump_imm(Cond::Eq, Reg::R0, 0, done);
        self.asm.load(Size::W, Reg::R1, Reg::R0, 0);
        self.asm.load(Size::W, Reg::R2, Reg::R9, field::BEST);
        self.asm.jump_reg(Cond::Ge, Reg::R1, Reg::R2, done);
        self.asm.store(Size::W, Reg::R9, field::BEST, Reg::R1);
        for (from, to) in [(4, field::BEST_CODE), (8, field::BEST_SLOT)] {
            self.asm.load(Size::W, Reg::R1, Reg::R0, from);
            self.asm.store(Size::W, Reg::R9, to, Reg::R1);
        }
    }

    /// The code with the number in R1: by halves.
    fn one_of_codes(&mut self, entry: Entry, kind: Kind, codes: &[(u32, &[ActionId])], next: Label) {
        self.asm.relay();
        match codes {
            [] => {}
            [(UNREADABLE, _)] => {
                let counting = self.counting_found(1);
                self.add_one(counting);
                self.asm.jump(next);
            }
            [(_, actions)] if self.steers && listing(self.ruleset, actions).end == End::Take => {
                let take = self.ways.drop;
                self.asm.jump(take);
            }
            [(_, actions)] => {
                let len = usize::try_from(OWN_SLOTS).unwrap_or(0)
                    + of_actions(self.ruleset, &listing(self.ruleset, actions).executed).len();
                let counting = self.counting_found(len);
                self.add_one(counting);
                if kind == Kind::Flower {
                    self.add_one(counting.further(1));
                }
                self.actions(entry, actions, counting.further(OWN_SLOTS), next);
            }
            _ => {
                let (low, high) = codes.split_at(codes.len() / 2);
                let above = self.asm.label();
                self.asm.jump32_imm(Cond::Ge, Reg::R1, high[0].0, above);
                self.one_of_codes(entry, kind, low, next);
                self.asm.bind(above);
                self.one_of_codes(entry, kind, high, next);
            }
        }
    }
}
