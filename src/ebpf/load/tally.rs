//! What programs counted, joined over CPUs, programs and updates. It reads no map.

use std::collections::BTreeMap;

use crate::ebpf::count::{CounterSlot, SlotKind, Total};
use crate::ebpf::forward::LookedUp;
use crate::rules::{CounterSource, NodeWord};
use crate::sys::bpf::{Error, PerCpuMap};

/// Times of actions are milliseconds.
const NS_PER_MS: u64 = 1_000_000;

/// What programs counted: totals, and the ruleset's words of the frames that were passed (XDP only).
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Frames that the rules left to the kernel.
    pub passed: u64,
    /// Frames that the rules took.
    pub taken: u64,
    /// Of the taken, those that went to the kernel because their queue had no AF_XDP socket.
    pub unserved: u64,
    /// Words by number; joined as their kind wants.
    pub words: BTreeMap<u32, (SlotKind, u64)>,
}

impl CounterSource for Tally {
    fn word(&self, word: u32) -> u64 {
        self.words.get(&word).map_or(0, |(_, value)| *value)
    }
}

/// What the slots of a counter map mean.
#[derive(Clone, Debug, Default)]
pub(in crate::ebpf) struct Meaning {
    /// What those behind the totals count; `None`: nothing that is a word of the rules.
    pub slots: Vec<Option<CounterSlot>>,
    /// Times of actions are in nanoseconds, not milliseconds.
    pub nanoseconds: bool,
    /// Runs of rules that were looked up.
    pub looked_up: Vec<LookedUp>,
}

impl Tally {
    /// Adds what a program counted so far.
    pub(super) fn read_from(&mut self, counters: &PerCpuMap, meaning: &Meaning) -> Result<(), Error> {
        let mut values = vec![0u64; Total::COUNT + meaning.slots.len()];
        counters.read(&mut |slot, value| {
            let Some(joined) = values.get_mut(slot) else { return };
            let kind = slot.checked_sub(Total::COUNT).and_then(|n| meaning.slots[n]).map(|s| s.kind);
            *joined = kind.unwrap_or(SlotKind::Sum).join(*joined, value);
        })?;
        self.passed += values[Total::Passed.slot()];
        self.taken += values[Total::Taken.slot()];
        self.unserved += values[Total::Unserved.slot()];
        for (slot, value) in meaning.slots.iter().zip(&values[Total::COUNT..]) {
            if let Some(slot) = slot {
                // Times of actions are milliseconds, and 0 is never.
                let in_ns = meaning.nanoseconds && slot.kind != SlotKind::Sum;
                self.join(slot.word, slot.kind, if in_ns { value.div_ceil(NS_PER_MS) } else { *value });
            }
        }
        meaning.looked_up.iter().for_each(|run| self.add_tried(run, &values));
        Ok(())
    }

    /// Counts how often the rules of a run were tried: as often as it was entered, without those that an earlier rule ended.
    fn add_tried(&mut self, run: &LookedUp, values: &[u64]) {
        let mut left = values[run.entered as usize];
        for rule in &run.rules {
            let (matched, unreadable) = (values[rule.slot as usize], values[rule.slot as usize + 1]);
            self.join(rule.counters + NodeWord::HIT, SlotKind::Sum, left);
            for key in 0..rule.keys {
                self.join(rule.counters + NodeWord::KEYS + key, SlotKind::Sum, matched);
            }
            left = left.saturating_sub(matched + unreadable);
        }
    }

    /// Calls `each` with every word that was counted. Times of actions are among them (first and last use, in
    /// milliseconds of CLOCK_MONOTONIC), which must not be added up: `Counters::merge` knows.
    pub fn read(&self, each: &mut dyn FnMut(u32, u64)) {
        for (word, (_, value)) in &self.words {
            each(*word, *value);
        }
    }

    /// Both together.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.passed += other.passed;
        self.taken += other.taken;
        self.unserved += other.unserved;
        for (word, (kind, value)) in other.words {
            self.join(word, kind, value);
        }
        self
    }

    pub(in crate::ebpf) fn join(&mut self, word: u32, kind: SlotKind, value: u64) {
        let (_, joined) = self.words.entry(word).or_insert((kind, 0));
        *joined = kind.join(*joined, value);
    }
}
