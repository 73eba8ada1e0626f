//! A small assembler for eBPF: instructions, forward labels, map references. It knows nothing of rules and loads nothing.

use std::collections::BTreeMap;

pub use super::insn::{Alu, Cond, Helper, Insn, MapRef, Reg, Size};

/// A place in the program that jumps lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label(usize);

/// A place in the program that jumps go back to.
#[derive(Clone, Copy, Debug)]
pub struct LoopStart(usize);

/// Why a program cannot be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFar {
    /// How many instructions the jump would have to cross.
    pub distance: usize,
}

/// Program text with the places where map descriptors go.
#[derive(Clone, Debug, Default)]
pub struct Text {
    /// The instructions.
    pub insns: Vec<Insn>,
    /// Which instructions load a map's address.
    pub maps: Vec<(usize, MapRef)>,
}

impl Text {
    /// As the kernel takes it, with the maps' descriptors in place.
    #[must_use]
    pub fn raw(&self, descriptor: &dyn Fn(MapRef) -> i32) -> Vec<u64> {
        let mut insns = self.insns.clone();
        for (at, map) in &self.maps {
            insns[*at].imm = descriptor(*map);
        }
        insns.into_iter().map(Insn::raw).collect()
    }
}

/// Collects instructions. What cannot be reached is left out: the verifier refuses it.
#[derive(Debug, Default)]
pub struct Asm {
    text: Text,
    labels: Vec<Option<usize>>,
    /// Jumps to each place that is not bound yet.
    pending: BTreeMap<Label, Vec<usize>>,
    /// Calls of each subprogram that is not bound yet.
    calls: BTreeMap<Label, Vec<usize>>,
    referenced: Vec<bool>,
    dead: bool,
    too_far: Option<TooFar>,
}

/// After how many instructions a jump gets a stepping stone; half of what it can cross.
const RELAY_DISTANCE: usize = 16_000;
const PSEUDO_MAP_FD: u8 = 1;
const PSEUDO_CALL: u8 = 1;
const SRC_REGISTER: u8 = 0x08;
const CLASS_JMP: u8 = 0x05;
const CLASS_JMP32: u8 = 0x06;

impl Asm {
    /// An empty program.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A new place, not yet known where.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        self.referenced.push(false);
        Label(self.labels.len() - 1)
    }

    /// Whether something jumps to it.
    #[must_use]
    pub fn is_referenced(&self, label: Label) -> bool {
        self.referenced[label.0]
    }

    /// The place is here. All jumps to it must have been made: there are only forward jumps.
    pub fn bind(&mut self, label: Label) {
        assert!(self.labels[label.0].is_none(), "a label is bound once");
        self.labels[label.0] = Some(self.text.insns.len());
        for at in self.pending.remove(&label).unwrap_or_default() {
            self.resolve(at);
        }
        for at in self.calls.remove(&label).unwrap_or_default() {
            self.text.insns[at].imm = (self.text.insns.len() - at - 1) as i32;
        }
        if self.referenced[label.0] {
            self.dead = false;
        }
    }

    /// How many instructions there are so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.text.insns.len()
    }

    /// Whether there is none yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.insns.is_empty()
    }

    /// A place that jumps go back to: here.
    #[must_use]
    pub fn loop_start(&self) -> LoopStart {
        LoopStart(self.text.insns.len())
    }

    /// `if dst cond imm goto start`, on 64 bits. The verifier wants to see that it ends.
    pub fn jump_back(&mut self, cond: Cond, dst: Reg, imm: i32, start: LoopStart) {
        let distance = (self.text.insns.len() + 1 - start.0) as i16;
        self.push(CLASS_JMP | cond as u8, dst, 0, -distance, imm);
    }

    /// Calls a subprogram: arguments R1 to R5, result R0; R1 to R5 are lost. It is bound behind the main program.
    pub fn call_sub(&mut self, sub: Label) {
        assert!(self.labels[sub.0].is_none(), "subprograms come behind their callers");
        if !self.dead {
            self.calls.entry(sub).or_default().push(self.text.insns.len());
            self.referenced[sub.0] = true;
            self.push(0x85, Reg::R0, PSEUDO_CALL, 0, 0);
        }
    }

    /// Lets the jump at `at` lead to the next instruction that is pushed.
    fn resolve(&mut self, at: usize) {
        let distance = self.text.insns.len() - at - 1;
        match i16::try_from(distance) {
            Ok(off) => self.text.insns[at].off = off,
            Err(_) => self.too_far = Some(TooFar { distance }),
        }
    }

    /// To be called now and then between instructions: jumps that have a long way behind them already get a stepping stone.
    pub fn relay(&mut self) {
        let here = self.text.insns.len();
        let is_old = |at: &usize| here - at > RELAY_DISTANCE;
        let stale: Vec<Label> =
            self.pending.iter().filter(|(_, jumps)| jumps.iter().any(is_old)).map(|(label, _)| *label).collect();
        if stale.is_empty() {
            return;
        }
        let over = self.label();
        self.jump(over);
        for label in stale {
            self.dead = false;
            for at in self.pending.remove(&label).unwrap_or_default() {
                self.resolve(at);
            }
            self.jump(label);
        }
        self.bind(over);
    }

    fn push(&mut self, code: u8, dst: Reg, src: u8, off: i16, imm: i32) {
        if !self.dead {
            self.text.insns.push(Insn { code, dst: dst as u8, src, off, imm });
        }
    }

    fn push_jump(&mut self, code: u8, dst: Reg, src: u8, imm: i32, to: Label) {
        assert!(self.labels[to.0].is_none(), "jumps go forward only");
        if !self.dead {
            self.pending.entry(to).or_default().push(self.text.insns.len());
            self.referenced[to.0] = true;
            self.push(code, dst, src, 0, imm);
        }
    }

    /// `dst = dst op imm`, 64 bits, immediate sign-extended.
    pub fn alu_imm(&mut self, op: Alu, dst: Reg, imm: i32) {
        self.push(0x07 | op as u8, dst, 0, 0, imm);
    }

    /// `dst = dst op imm`, 32 bits, upper half cleared.
    pub fn alu32_imm(&mut self, op: Alu, dst: Reg, imm: u32) {
        self.push(0x04 | op as u8, dst, 0, 0, imm as i32);
    }

    /// `dst = dst op src`, 64 bits.
    pub fn alu(&mut self, op: Alu, dst: Reg, src: Reg) {
        self.push(0x07 | op as u8 | SRC_REGISTER, dst, src as u8, 0, 0);
    }

    /// `dst = dst op src`, 32 bits, upper half cleared.
    pub fn alu32(&mut self, op: Alu, dst: Reg, src: Reg) {
        self.push(0x04 | op as u8 | SRC_REGISTER, dst, src as u8, 0, 0);
    }

    /// `dst = imm`.
    pub fn mov_imm(&mut self, dst: Reg, imm: i32) {
        self.alu_imm(Alu::Mov, dst, imm);
    }

    /// `dst = src`.
    pub fn mov(&mut self, dst: Reg, src: Reg) {
        self.alu(Alu::Mov, dst, src);
    }

    /// Turns the lower 16 bits from network into host order, and clears the rest.
    pub fn be16(&mut self, dst: Reg) {
        self.push(0xdc, dst, 0, 0, 16);
    }

    /// Turns the lower 32 bits from network into host order, and clears the rest.
    pub fn be32(&mut self, dst: Reg) {
        self.push(0xdc, dst, 0, 0, 32);
    }

    /// `*(size *)(dst + off) = imm`.
    pub fn store_imm(&mut self, size: Size, dst: Reg, off: i16, imm: i32) {
        self.push(0x62 | size.bits(), dst, 0, off, imm);
    }

    /// `dst = *(size *)(src + off)`.
    pub fn load(&mut self, size: Size, dst: Reg, src: Reg, off: i16) {
        self.push(0x61 | size.bits(), dst, src as u8, off, 0);
    }

    /// `*(size *)(dst + off) = src`.
    pub fn store(&mut self, size: Size, dst: Reg, off: i16, src: Reg) {
        self.push(0x63 | size.bits(), dst, src as u8, off, 0);
    }

    /// `dst = address of the map`.
    pub fn load_map(&mut self, dst: Reg, map: MapRef) {
        if !self.dead {
            self.text.maps.push((self.text.insns.len(), map));
            self.push(0x18, dst, PSEUDO_MAP_FD, 0, 0);
            self.push(0x00, Reg::R0, 0, 0, 0);
        }
    }

    /// Calls a helper: arguments R1 to R5, result R0; R1 to R5 are lost.
    pub fn call(&mut self, helper: Helper) {
        self.push(0x85, Reg::R0, 0, 0, helper as i32);
    }

    /// Ends the program with R0.
    pub fn exit(&mut self) {
        self.push(0x95, Reg::R0, 0, 0, 0);
        self.dead = true;
    }

    /// `goto to`.
    pub fn jump(&mut self, to: Label) {
        self.push_jump(CLASS_JMP, Reg::R0, 0, 0, to);
        self.dead = true;
    }

    /// `if dst cond imm goto to`, on the lower 32 bits.
    pub fn jump32_imm(&mut self, cond: Cond, dst: Reg, imm: u32, to: Label) {
        self.push_jump(CLASS_JMP32 | cond as u8, dst, 0, imm as i32, to);
    }

    /// `if dst cond src goto to`, on 64 bits (pointers, too).
    pub fn jump_reg(&mut self, cond: Cond, dst: Reg, src: Reg, to: Label) {
        self.push_jump(CLASS_JMP | cond as u8 | SRC_REGISTER, dst, src as u8, 0, to);
    }

    /// `if dst cond imm goto to`, on 64 bits (a pointer against null).
    pub fn jump_imm(&mut self, cond: Cond, dst: Reg, imm: i32, to: Label) {
        self.push_jump(CLASS_JMP | cond as u8, dst, 0, imm, to);
    }

    /// The program, with jumps resolved.
    ///
    /// # Errors
    /// If a jump would cross more than 32,767 instructions: see [`Asm::relay`].
    pub fn finish(self) -> Result<Text, TooFar> {
        assert!(self.pending.is_empty() && self.calls.is_empty(), "every label that is jumped to or called is bound");
        self.too_far.map_or(Ok(self.text), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::{Asm, Cond, Reg, Size};

    #[test]
    fn jumps_count_from_the_next_instruction_and_dead_code_is_left_out() {
        let mut asm = Asm::new();
        let (end, never) = (asm.label(), asm.label());
        asm.jump32_imm(Cond::Ne, Reg::R1, 7, end);
        asm.mov_imm(Reg::R0, 1);
        asm.exit();
        asm.mov_imm(Reg::R0, 9);
        asm.bind(never);
        asm.mov_imm(Reg::R0, 9);
        asm.bind(end);
        asm.mov_imm(Reg::R0, 2);
        asm.exit();
        let text = asm.finish().expect("short");
        assert_eq!(text.insns.len(), 5);
        assert_eq!(text.insns[0].off, 2);
    }

    #[test]
    fn instructions_have_the_kernels_encoding() {
        let mut asm = Asm::new();
        asm.load(Size::H, Reg::R3, Reg::R10, -14);
        let text = asm.finish().expect("no jump");
        if cfg!(target_endian = "little") {
            assert_eq!(text.insns[0].raw().to_le_bytes(), [0x69, 0xa3, 0xf2, 0xff, 0, 0, 0, 0]);
        }
    }

    #[test]
    fn a_jump_that_is_too_far_is_an_error() {
        let mut asm = Asm::new();
        let end = asm.label();
        asm.jump32_imm(Cond::Eq, Reg::R1, 0, end);
        for _ in 0..40_000 {
            asm.mov_imm(Reg::R0, 0);
        }
        asm.bind(end);
        asm.exit();
        assert_eq!(asm.finish().expect_err("too far").distance, 40_000);
    }

    #[test]
    fn a_stepping_stone_carries_a_long_jump() {
        let mut asm = Asm::new();
        let end = asm.label();
        asm.jump32_imm(Cond::Eq, Reg::R1, 0, end);
        for _ in 0..40_000 {
            asm.mov_imm(Reg::R0, 0);
            asm.relay();
        }
        asm.bind(end);
        asm.exit();
        let insns = asm.finish().expect("in steps").insns;
        let mut at = 0;
        for _ in 0..3 {
            at += 1 + insns[at].off as usize;
        }
        assert_eq!(at, insns.len() - 1, "three jumps lead to the end");
    }
}
