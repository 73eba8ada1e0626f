//! Where a program counts: slots of a per-CPU map, given to counter words as they are needed. It reads no map.
//!
//! ```text
//! Counters map: blocks of 2048 slots of u64 per CPU.   slots 0..4: Total   slot 4+n: counter_words[n]
//! ```
//! R7 holds the first block's address all along; slots of other blocks are looked up each time.

use std::collections::BTreeMap;

use super::asm::{Alu, Asm, Cond, Reg, Size};
use super::frame::counter_block;
use super::layout::slot;
use crate::rules::ActionWord;

/// Slots in one block: 16 KiB, half of the most that the kernel gives one CPU in one piece (`PCPU_MIN_UNIT_SIZE`).
pub const BLOCK_WORDS: usize = 2048;
/// Blocks that a program may use.
pub(super) const BLOCKS_MAX: usize = 512;

/// Slots that every program has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    /// Frames that the rules left to the kernel.
    Passed,
    /// Frames that the rules took: sent to an AF_XDP socket, or dropped behind the tap.
    Taken,
    /// Of the taken ones, those whose queue had no AF_XDP socket: the kernel got them.
    Unserved,
    /// Always 0, which the verifier does not know.
    Zero,
}

impl Total {
    /// How many there are.
    pub const COUNT: usize = 4;

    /// Its slot.
    #[must_use]
    pub const fn slot(self) -> usize {
        self as usize
    }

    /// Its place in the first block, in bytes.
    pub(super) const fn offset(self) -> i16 {
        self as i16 * 8
    }
}

/// How the values of one slot on several CPUs, or before and after an update, make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotKind {
    /// Added up.
    Sum,
    /// The least that is not 0: a first use.
    First,
    /// The greatest: a last use.
    Last,
}

impl SlotKind {
    /// One value from two.
    #[must_use]
    pub fn join(self, a: u64, b: u64) -> u64 {
        match self {
            Self::Sum => a.wrapping_add(b),
            Self::First if a == 0 || b == 0 => a.max(b),
            Self::First => a.min(b),
            Self::Last => a.max(b),
        }
    }
}

/// What a slot behind the totals counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterSlot {
    /// The ruleset's counter word.
    pub word: u32,
    /// How to join values.
    pub kind: SlotKind,
}

/// Gives slots to words.
#[derive(Debug, Default)]
pub(super) struct Slots {
    pub used: Vec<CounterSlot>,
    by_word: BTreeMap<u32, usize>,
}

impl Slots {
    fn of(&mut self, word: u32, kind: SlotKind) -> usize {
        *self.by_word.entry(word).or_insert_with(|| {
            self.used.push(CounterSlot { word, kind });
            Total::COUNT + self.used.len() - 1
        })
    }

    /// Adds 1 to a word.
    pub fn add_one(&mut self, asm: &mut Asm, word: u32) {
        self.with(asm, word, SlotKind::Sum, |asm, base, at| {
            asm.load(Size::D, Reg::R1, base, at);
            asm.alu_imm(Alu::Add, Reg::R1, 1);
            asm.store(Size::D, base, at, Reg::R1);
        });
    }

    /// As `CounterSink::count_action`: bytes, packets, first and last use.
    pub fn count_action(&mut self, asm: &mut Asm, base: u32) {
        self.with(asm, base + ActionWord::BYTES, SlotKind::Sum, |asm, base, at| {
            asm.load(Size::D, Reg::R1, base, at);
            asm.load(Size::W, Reg::R2, Reg::R10, slot::DATA_LEN);
            asm.alu(Alu::Add, Reg::R1, Reg::R2);
            asm.alu_imm(Alu::Sub, Reg::R1, crate::limits::ETHERNET_LEN as i32);
            asm.store(Size::D, base, at, Reg::R1);
        });
        self.add_one(asm, base + ActionWord::PACKETS);
        self.with(asm, base + ActionWord::FIRST_USED, SlotKind::First, |asm, base, at| {
            let used = asm.label();
            asm.load(Size::D, Reg::R1, base, at);
            asm.jump_imm(Cond::Ne, Reg::R1, 0, used);
            asm.load(Size::D, Reg::R1, Reg::R10, slot::NOW_MS);
            asm.store(Size::D, base, at, Reg::R1);
            asm.bind(used);
        });
        self.with(asm, base + ActionWord::LAST_USED, SlotKind::Last, |asm, base, at| {
            asm.load(Size::D, Reg::R1, Reg::R10, slot::NOW_MS);
            asm.store(Size::D, base, at, Reg::R1);
        });
    }

    fn with(&mut self, asm: &mut Asm, word: u32, kind: SlotKind, code: impl FnOnce(&mut Asm, Reg, i16)) {
        let slot = self.of(word, kind);
        let (block, at) = (slot / BLOCK_WORDS, (slot % BLOCK_WORDS * 8) as i16);
        if block == 0 {
            return code(asm, Reg::R7, at);
        }
        let gone = asm.label();
        counter_block(asm, block as i32);
        asm.jump_imm(Cond::Eq, Reg::R0, 0, gone);
        code(asm, Reg::R0, at);
        asm.bind(gone);
    }
}

/// Adds 1 to a total.
pub(super) fn count_total(asm: &mut Asm, total: Total) {
    asm.load(Size::D, Reg::R1, Reg::R7, total.offset());
    asm.alu_imm(Alu::Add, Reg::R1, 1);
    asm.store(Size::D, Reg::R7, total.offset(), Reg::R1);
}
