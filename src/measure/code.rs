//! The programs of generator and sink, and that of a redirect written by hand: instructions only, nothing is loaded here.

use super::frames::{
    FLAGS_AT, FLOW_AT, FLOW_HIGH_AT, FLOWS_PER_ADDRESS, FRAME_LEN_MIN, MEASURED_FLAGS, NUMBER_AT, PORT, PORT_FIRST,
    STAMP_AT,
};
use super::times::{BUCKETS, LINEAR_BITS};
use crate::ebpf::asm::{Alu, Asm, Cond, Helper, Label, MapRef, Reg, Size, Text};
use crate::sys::bpf::Kind;
use crate::types::MacAddr;

/// The generator's counter of frames; the sink's memory of each flow ([`FLOW_WORDS`] words).
pub const FLOWS: MapRef = MapRef::Counters;
/// The sink's counts, one word each: [`FRAMES`], …, then the buckets of times.
pub const COUNTS: MapRef = MapRef::Sockets;
/// Words of a flow: the number after the highest seen, and which of the 64 before that were seen.
pub const FLOW_WORDS: usize = 2;

/// Frames that arrived.
pub const FRAMES: u32 = 0;
/// Of these, frames that came behind one with a higher number of their flow.
pub const REORDERED: u32 = 1;
/// Of these, frames that had come before.
pub const DUPLICATES: u32 = 2;
/// Of these, frames more than 64 numbers late: reordered or duplicates.
pub const LATE: u32 = 3;
/// The first bucket of times.
pub const TIMES: u32 = 4;
/// Entries of [`COUNTS`].
pub const COUNT_ENTRIES: u32 = TIMES + BUCKETS;

const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;
const TC_ACT_SHOT: i32 = 2;
const TC_ACT_OK: i32 = 0;
/// Numbers that the sink remembers before the highest.
const WINDOW: i32 = 64;

/// Where `data` and `data_end` are in the context of a program (`struct xdp_md`, `struct __sk_buff`).
const fn data_at(kind: Kind) -> (i16, i16) {
    match kind {
        Kind::Xdp => (0, 4),
        Kind::Classifier => (76, 80),
    }
}

const fn drop_code(kind: Kind) -> i32 {
    match kind {
        Kind::Xdp => XDP_DROP,
        Kind::Classifier => TC_ACT_SHOT,
    }
}

const fn pass_code(kind: Kind) -> i32 {
    match kind {
        Kind::Xdp => XDP_PASS,
        Kind::Classifier => TC_ACT_OK,
    }
}

fn leave(asm: &mut Asm, code: i32) {
    asm.mov_imm(Reg::R0, code);
    asm.exit();
}

/// R7 = the frame, which has [`FRAME_LEN_MIN`] bytes; else to `short`.
fn frame(asm: &mut Asm, kind: Kind, short: Label) {
    let (data, end) = data_at(kind);
    asm.mov(Reg::R6, Reg::R1);
    asm.load(Size::W, Reg::R7, Reg::R6, data);
    asm.load(Size::W, Reg::R3, Reg::R6, end);
    asm.mov(Reg::R4, Reg::R7);
    asm.alu_imm(Alu::Add, Reg::R4, FRAME_LEN_MIN as i32);
    asm.jump_reg(Cond::Gt, Reg::R4, Reg::R3, short);
}

/// R0 = the entry of `map` whose number is in R1; to `missing` if there is none.
fn entry(asm: &mut Asm, map: MapRef, missing: Label) {
    asm.store(Size::W, Reg::R10, -4, Reg::R1);
    asm.load_map(Reg::R1, map);
    asm.mov(Reg::R2, Reg::R10);
    asm.alu_imm(Alu::Add, Reg::R2, -4);
    asm.call(Helper::MapLookup);
    asm.jump_imm(Cond::Eq, Reg::R0, 0, missing);
}

/// Adds 1 to the entry whose number is in R1.
fn count(asm: &mut Asm) {
    let missing = asm.label();
    entry(asm, COUNTS, missing);
    asm.load(Size::D, Reg::R1, Reg::R0, 0);
    asm.alu_imm(Alu::Add, Reg::R1, 1);
    asm.store(Size::D, Reg::R0, 0, Reg::R1);
    asm.bind(missing);
}

/// The generator: numbers each copy of a frame, stamps it and transmits it by the device. `flows` is a power of two.
///
/// It writes the MAC addresses as well: who gets the frames may write into them, and the kernel uses their memory again.
#[must_use]
pub fn generator(ifindex: u32, flows: u32, from: MacAddr, to: MacAddr) -> Text {
    assert!(flows.is_power_of_two(), "flows are counted by masking");
    let mut asm = Asm::new();
    let failed = asm.label();
    frame(&mut asm, Kind::Xdp, failed);
    asm.mov_imm(Reg::R1, 0);
    entry(&mut asm, FLOWS, failed);
    asm.load(Size::D, Reg::R8, Reg::R0, 0);
    asm.mov(Reg::R1, Reg::R8);
    asm.alu_imm(Alu::Add, Reg::R1, 1);
    asm.store(Size::D, Reg::R0, 0, Reg::R1);

    asm.mov(Reg::R9, Reg::R8);
    asm.alu_imm(Alu::And, Reg::R9, (flows - 1) as i32);
    asm.alu_imm(Alu::Rsh, Reg::R8, flows.trailing_zeros() as i32);
    asm.store(Size::W, Reg::R7, NUMBER_AT, Reg::R8);
    asm.mov(Reg::R1, Reg::R9);
    asm.alu_imm(Alu::And, Reg::R1, (FLOWS_PER_ADDRESS - 1) as i32);
    asm.alu_imm(Alu::Add, Reg::R1, i32::from(PORT_FIRST));
    asm.be16(Reg::R1);
    asm.store(Size::H, Reg::R7, FLOW_AT, Reg::R1);
    if flows > FLOWS_PER_ADDRESS {
        asm.alu_imm(Alu::Rsh, Reg::R9, FLOWS_PER_ADDRESS.trailing_zeros() as i32);
        asm.be16(Reg::R9);
        asm.store(Size::H, Reg::R7, FLOW_HIGH_AT, Reg::R9);
    }
    let macs = [to.octets(), from.octets()].concat();
    for (at, word) in macs.chunks_exact(4).enumerate() {
        let word = i32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
        asm.mov_imm(Reg::R1, word);
        asm.store(Size::W, Reg::R7, 4 * at as i16, Reg::R1);
    }
    asm.call(Helper::KtimeNs);
    asm.store(Size::W, Reg::R7, STAMP_AT, Reg::R0);
    asm.mov_imm(Reg::R1, ifindex as i32);
    asm.mov_imm(Reg::R2, 0);
    asm.call(Helper::Redirect);
    asm.exit();
    asm.bind(failed);
    leave(&mut asm, XDP_DROP);
    asm.finish().expect("no jump is far")
}

/// The sink: counts what arrives, per flow in which order, and drops it; of measured frames also how old they are. Everything
/// else passes.
#[must_use]
pub fn sink(kind: Kind, flows: u32) -> Text {
    assert!(flows.is_power_of_two(), "flows are counted by masking");
    let mut asm = Asm::new();
    let (other, done) = (asm.label(), asm.label());
    frame(&mut asm, kind, other);
    // IPv4, TCP, the scenario's port: what else comes by (ARP, the stack's own) is not ours.
    asm.load(Size::H, Reg::R1, Reg::R7, 12);
    asm.jump32_imm(Cond::Ne, Reg::R1, u32::from(0x0800u16.to_be()), other);
    asm.load(Size::H, Reg::R1, Reg::R7, 36);
    asm.jump32_imm(Cond::Ne, Reg::R1, u32::from(PORT.to_be()), other);
    asm.mov_imm(Reg::R1, FRAMES as i32);
    count(&mut asm);
    let numbered = asm.label();
    asm.load(Size::B, Reg::R1, Reg::R7, FLAGS_AT);
    asm.jump32_imm(Cond::Ne, Reg::R1, u32::from(MEASURED_FLAGS), numbered);
    age(&mut asm);
    asm.jump(done);
    asm.bind(numbered);
    flow_number(&mut asm, flows);
    entry(&mut asm, FLOWS, done);
    asm.mov(Reg::R8, Reg::R0);
    order(&mut asm);
    asm.bind(done);
    leave(&mut asm, drop_code(kind));
    asm.bind(other);
    leave(&mut asm, pass_code(kind));
    asm.finish().expect("no jump is far")
}

/// R1 = the flow's number.
fn flow_number(asm: &mut Asm, flows: u32) {
    asm.load(Size::H, Reg::R1, Reg::R7, FLOW_AT);
    asm.be16(Reg::R1);
    asm.alu_imm(Alu::Sub, Reg::R1, i32::from(PORT_FIRST));
    asm.alu_imm(Alu::And, Reg::R1, (FLOWS_PER_ADDRESS - 1) as i32);
    if flows > FLOWS_PER_ADDRESS {
        asm.load(Size::H, Reg::R2, Reg::R7, FLOW_HIGH_AT);
        asm.be16(Reg::R2);
        asm.alu_imm(Alu::Lsh, Reg::R2, FLOWS_PER_ADDRESS.trailing_zeros() as i32);
        asm.alu(Alu::Or, Reg::R1, Reg::R2);
    }
    asm.alu_imm(Alu::And, Reg::R1, (flows - 1) as i32);
}

/// R8 is the flow: its next number, and a bit for each of the 64 before it (bit 0 for the last).
fn order(asm: &mut Asm) {
    let [late, fresh, duplicate, old, tell, seen] = std::array::from_fn(|_| asm.label());
    asm.load(Size::W, Reg::R3, Reg::R7, NUMBER_AT);
    asm.load(Size::D, Reg::R2, Reg::R8, 0);
    asm.load(Size::D, Reg::R5, Reg::R8, 8);
    asm.jump_reg(Cond::Lt, Reg::R3, Reg::R2, late);
    asm.mov(Reg::R4, Reg::R3);
    asm.alu(Alu::Sub, Reg::R4, Reg::R2);
    asm.alu_imm(Alu::Add, Reg::R4, 1);
    asm.alu_imm(Alu::Add, Reg::R3, 1);
    asm.store(Size::D, Reg::R8, 0, Reg::R3);
    asm.jump_imm(Cond::Ge, Reg::R4, WINDOW, fresh);
    asm.alu(Alu::Lsh, Reg::R5, Reg::R4);
    asm.alu_imm(Alu::Or, Reg::R5, 1);
    asm.store(Size::D, Reg::R8, 8, Reg::R5);
    asm.jump(seen);
    asm.bind(fresh);
    asm.mov_imm(Reg::R5, 1);
    asm.store(Size::D, Reg::R8, 8, Reg::R5);
    asm.jump(seen);

    asm.bind(late);
    asm.alu(Alu::Sub, Reg::R2, Reg::R3);
    asm.alu_imm(Alu::Sub, Reg::R2, 1);
    asm.jump_imm(Cond::Ge, Reg::R2, WINDOW, old);
    asm.mov_imm(Reg::R4, 1);
    asm.alu(Alu::Lsh, Reg::R4, Reg::R2);
    asm.mov(Reg::R0, Reg::R5);
    asm.alu(Alu::And, Reg::R0, Reg::R4);
    asm.jump_imm(Cond::Ne, Reg::R0, 0, duplicate);
    asm.alu(Alu::Or, Reg::R5, Reg::R4);
    asm.store(Size::D, Reg::R8, 8, Reg::R5);
    asm.mov_imm(Reg::R1, REORDERED as i32);
    asm.jump(tell);
    asm.bind(duplicate);
    asm.mov_imm(Reg::R1, DUPLICATES as i32);
    asm.jump(tell);
    asm.bind(old);
    asm.mov_imm(Reg::R1, LATE as i32);
    asm.bind(tell);
    count(asm);
    asm.bind(seen);
}

/// Counts the frame's age in ns in its bucket, see [`super::times`].
fn age(asm: &mut Asm) {
    let small = asm.label();
    asm.call(Helper::KtimeNs);
    asm.load(Size::W, Reg::R1, Reg::R7, STAMP_AT);
    asm.alu(Alu::Sub, Reg::R0, Reg::R1);
    // The lower 32 bits alone are meant.
    asm.alu_imm(Alu::Lsh, Reg::R0, 32);
    asm.alu_imm(Alu::Rsh, Reg::R0, 32);
    asm.mov(Reg::R1, Reg::R0);
    asm.jump_imm(Cond::Lt, Reg::R0, 1 << LINEAR_BITS, small);
    // R3 = the number of its highest bit.
    asm.mov(Reg::R2, Reg::R0);
    asm.mov_imm(Reg::R3, 0);
    for bits in [16, 8, 4, 2, 1] {
        let below = asm.label();
        asm.jump_imm(Cond::Lt, Reg::R2, 1 << bits, below);
        asm.alu_imm(Alu::Rsh, Reg::R2, bits);
        asm.alu_imm(Alu::Add, Reg::R3, bits);
        asm.bind(below);
    }
    asm.mov(Reg::R4, Reg::R3);
    asm.alu_imm(Alu::Sub, Reg::R4, LINEAR_BITS as i32);
    asm.mov(Reg::R1, Reg::R0);
    asm.alu(Alu::Rsh, Reg::R1, Reg::R4);
    asm.alu_imm(Alu::And, Reg::R1, (1 << LINEAR_BITS) - 1);
    asm.alu_imm(Alu::Sub, Reg::R3, LINEAR_BITS as i32 - 1);
    asm.alu_imm(Alu::Lsh, Reg::R3, LINEAR_BITS as i32);
    asm.alu(Alu::Add, Reg::R1, Reg::R3);
    asm.bind(small);
    asm.alu_imm(Alu::Add, Reg::R1, TIMES as i32);
    count(asm);
}

/// What somebody would write by hand for the scenario's one rule: TCP to the port is transmitted by the device, all else passes.
#[must_use]
pub fn by_hand(kind: Kind, ifindex: u32) -> Text {
    let mut asm = Asm::new();
    let other = asm.label();
    frame(&mut asm, kind, other);
    asm.load(Size::H, Reg::R1, Reg::R7, 12);
    asm.jump32_imm(Cond::Ne, Reg::R1, u32::from(0x0800u16.to_be()), other);
    asm.load(Size::B, Reg::R1, Reg::R7, 23);
    asm.jump32_imm(Cond::Ne, Reg::R1, 6, other);
    asm.load(Size::H, Reg::R1, Reg::R7, 36);
    asm.jump32_imm(Cond::Ne, Reg::R1, u32::from(PORT.to_be()), other);
    asm.mov_imm(Reg::R1, ifindex as i32);
    asm.mov_imm(Reg::R2, 0);
    asm.call(Helper::Redirect);
    asm.exit();
    asm.bind(other);
    leave(&mut asm, pass_code(kind));
    asm.finish().expect("no jump is far")
}

/// Lets everything pass: it makes a veth take frames that were sent to it by a redirect.
#[must_use]
pub fn pass() -> Text {
    let mut asm = Asm::new();
    leave(&mut asm, XDP_PASS);
    asm.finish().expect("it has no jump")
}
