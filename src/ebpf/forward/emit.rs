//! What is known while a forwarding program is written, and the small pieces of code that all its parts use.

use std::collections::{BTreeMap, BTreeSet};

use super::lookup::Tables;
use super::slots::{Slots, place};
use super::work::{self, field, stack};
use crate::ebpf::asm::{Alu, Asm, Cond, Helper, Label, MapRef, Reg, Size};
use crate::ebpf::count::{BLOCK_WORDS, CounterSlot};
use crate::ebpf::verdict::Entry;
use crate::rules::{Hook, Ruleset};
use crate::types::{DeviceId, Direction};

/// Where a program hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// In the driver, before there is an skb: the place of an ingress hook.
    Xdp,
    /// At tc's own hook: tcx, or cls_bpf.
    Tc(Direction),
}

impl Stage {
    /// Which hook's rules it runs.
    #[must_use]
    pub const fn direction(self) -> Direction {
        match self {
            Self::Xdp => Direction::Ingress,
            Self::Tc(direction) => direction,
        }
    }

    pub(super) fn load(self) -> Helper {
        if self == Self::Xdp { Helper::XdpLoadBytes } else { Helper::SkbLoadBytes }
    }

    pub(super) fn store(self) -> Helper {
        if self == Self::Xdp { Helper::XdpStoreBytes } else { Helper::SkbStoreBytes }
    }
}

/// Where frames leave the rules.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ways {
    pub pass: Label,
    pub drop: Label,
    /// To the device in [`field::DEVICE`].
    pub redirect: Label,
}

/// Subprograms, all with R1 = context and R2 = workspace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subs {
    /// R0 = the R4 bytes at position R3 as they lie in memory, or −1 if they are not all in the frame.
    pub read: Label,
    /// Writes the 4 bytes at [`stack::WORD`]… of R4 to position R3.
    pub write: Label,
    /// R0 = the sum R5 and that of the bytes from position R3 to R4, not folded; −1 if they cannot be read.
    pub sum: Label,
    /// What flower's dissector finds, into the workspace.
    pub dissect: Label,
    /// R0 = position of the transport header of protocol R3, or −1 (`pedit`).
    pub transport: Label,
}

/// Where counters are: a register that holds an address, and how many bytes behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counting {
    pub reg: Reg,
    pub at: i16,
    /// Its slot number, if it is known when the program is made; else it is in [`field::BEST_SLOT`], plus this.
    pub slot: Result<u32, u32>,
}

impl Counting {
    /// So many slots further.
    pub fn further(self, slots: i16) -> Self {
        let more = slots as u32;
        Self { at: self.at + slots * 8, slot: self.slot.map(|s| s + more).map_err(|s| s + more), ..self }
    }
}

/// A program that is being written.
pub(super) struct Emit<'a> {
    pub asm: Asm,
    pub ruleset: &'a Ruleset,
    pub hook: &'a Hook,
    pub stage: Stage,
    /// Position where the part of the frame in the workspace ends, if the frame is that long.
    pub head_end: i32,
    pub slots: Slots,
    /// Outgoing devices by their number in the program.
    pub devices: Vec<DeviceId>,
    pub chains: BTreeMap<Entry, Label>,
    pub ways: Ways,
    pub subs: Subs,
    /// Frames may carry partial checksums that a device would have completed.
    pub partial: bool,
    /// A rule looks at what the dissector finds.
    pub dissects: bool,
    /// Rules that are looked up.
    pub tables: Tables,
    /// Whether what is written counts.
    pub counts: bool,
    /// Only who takes the frame is decided: nothing is rewritten, see [`super::steering`].
    pub steers: bool,
    /// Words of a key in the map of rules.
    pub key_words: usize,
    /// Chains that a frame can reach.
    pub entries: BTreeSet<Entry>,
    /// More instructions than the kernel takes: what is written from here on does not matter.
    pub too_long: bool,
}

impl Emit<'_> {
    /// Makes the slot addressable: in the first block by R7, else by R8 (which is lost).
    pub fn counting(&mut self, slot: u32) -> Counting {
        if !self.counts {
            return Counting { reg: Reg::R7, at: 0, slot: Ok(0) };
        }
        let (block, at) = (slot as usize / BLOCK_WORDS, (slot as usize % BLOCK_WORDS * 8) as i16);
        if block == 0 {
            return Counting { reg: Reg::R7, at, slot: Ok(slot) };
        }
        super::enter::lookup_array(&mut self.asm, MapRef::Counters, block as i32);
        self.asm.jump_imm(Cond::Eq, Reg::R0, 0, self.ways.drop);
        self.asm.mov(Reg::R8, Reg::R0);
        Counting { reg: Reg::R8, at, slot: Ok(slot) }
    }

    /// The first slot of a run for these words.
    pub fn run(&mut self, words: &[Option<CounterSlot>]) -> u32 {
        if self.counts { self.slots.run(words) } else { 0 }
    }

    /// As [`Emit::counting`] for the slot in [`field::BEST_SLOT`]; `len` slots from there are within one block.
    pub fn counting_found(&mut self, len: usize) -> Counting {
        if !self.counts {
            return Counting { reg: Reg::R7, at: 0, slot: Err(0) };
        }
        let asm = &mut self.asm;
        asm.load(Size::W, Reg::R8, Reg::R9, field::BEST_SLOT);
        asm.mov(Reg::R1, Reg::R8);
        asm.alu_imm(Alu::Rsh, Reg::R1, BLOCK_WORDS.trailing_zeros() as i32);
        asm.store(Size::W, Reg::R10, stack::MAP_KEY, Reg::R1);
        super::enter::lookup_key(asm, MapRef::Counters);
        asm.jump_imm(Cond::Eq, Reg::R0, 0, self.ways.drop);
        asm.alu_imm(Alu::And, Reg::R8, BLOCK_WORDS as i32 - 1);
        asm.jump_imm(Cond::Gt, Reg::R8, (BLOCK_WORDS - len) as i32, self.ways.drop);
        asm.alu_imm(Alu::Lsh, Reg::R8, 3);
        asm.alu(Alu::Add, Reg::R8, Reg::R0);
        Counting { reg: Reg::R8, at: 0, slot: Err(0) }
    }

    /// Adds 1. R1 is lost.
    pub fn add_one(&mut self, counting: Counting) {
        if !self.counts {
            return;
        }
        self.asm.load(Size::D, Reg::R1, counting.reg, counting.at);
        self.asm.alu_imm(Alu::Add, Reg::R1, 1);
        self.asm.store(Size::D, counting.reg, counting.at, Reg::R1);
    }

    /// As `CounterSink::count_action`. R1 to R3 are lost.
    pub fn count_action(&mut self, counting: Counting) {
        if !self.counts {
            return;
        }
        let used = self.asm.label();
        let at = |place: i16| counting.at + place * 8;
        let (asm, reg) = (&mut self.asm, counting.reg);
        asm.load(Size::D, Reg::R1, reg, at(place::BYTES));
        asm.load(Size::W, Reg::R2, Reg::R9, field::BYTES);
        asm.alu(Alu::Add, Reg::R1, Reg::R2);
        asm.store(Size::D, reg, at(place::BYTES), Reg::R1);
        asm.load(Size::D, Reg::R3, Reg::R9, field::NOW_NS);
        asm.store(Size::D, reg, at(place::LAST), Reg::R3);
        asm.load(Size::D, Reg::R1, reg, at(place::FIRST));
        asm.jump_imm(Cond::Ne, Reg::R1, 0, used);
        asm.store(Size::D, reg, at(place::FIRST), Reg::R3);
        asm.bind(used);
        self.add_one(counting.further(place::PACKETS));
    }

    /// Counts a failure of the action and drops the frame.
    pub fn fail(&mut self, counting: Counting) {
        self.add_one(counting.further(place::FAILED));
        let drop = self.ways.drop;
        self.asm.jump(drop);
    }

    /// `to` = address of the byte at the position in a field, of which so many bytes from there are inside the workspace.
    pub fn address(&mut self, to: Reg, position: i16, room: i32) {
        self.asm.load(Size::W, to, Reg::R9, position);
        self.bounded(to, room);
    }

    /// Turns a position in a register into an address; one that cannot be is no frame's, and ends it.
    pub fn bounded(&mut self, to: Reg, room: i32) {
        let drop = self.ways.drop;
        self.asm.jump_imm(Cond::Gt, to, work::CHUNK - room, drop);
        self.asm.alu(Alu::Add, to, Reg::R9);
    }

    /// Notes that the head differs from the packet. R1 is lost.
    pub fn changed(&mut self, how: i32) {
        self.asm.load(Size::W, Reg::R1, Reg::R9, field::DIRTY);
        self.asm.alu_imm(Alu::Or, Reg::R1, how);
        self.asm.store(Size::W, Reg::R9, field::DIRTY, Reg::R1);
    }

    /// Calls a subprogram that takes context and workspace.
    pub fn call(&mut self, sub: Label) {
        self.asm.mov(Reg::R1, Reg::R6);
        self.asm.mov(Reg::R2, Reg::R9);
        self.asm.call_sub(sub);
    }

    /// The number of an outgoing device.
    pub fn device(&mut self, device: DeviceId) -> i32 {
        let known = self.devices.iter().position(|d| *d == device);
        known.unwrap_or_else(|| {
            self.devices.push(device);
            self.devices.len() - 1
        }) as i32
    }
}
