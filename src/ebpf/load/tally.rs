//! What programs counted, joined over CPUs, programs and updates. It reads no map.

use std::collections::BTreeMap;

use crate::ebpf::count::SlotKind;
use crate::rules::CounterSource;

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

impl Tally {
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
