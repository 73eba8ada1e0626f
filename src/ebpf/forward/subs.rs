//! Subprograms: reads and writes anywhere in a frame, sums, and where transport headers are. R1 = context, R2 = workspace.

use super::emit::{Emit, Stage};
use super::work::{CHUNK, CHUNK_LEN, PIECE_LEN, field};
use crate::ebpf::asm::{Alu, Asm, Cond, Helper, Label, LoopStart, Reg, Size};
use crate::types::ethertype;

/// Extension headers that `pedit` follows to a transport header.
const EXTENSIONS_MAX: usize = 5;
/// Chunks of the longest frame: of XDP's one page, and of tc's super-frames.
const CHUNKS_XDP: i32 = 3;
/// See [`CHUNKS_XDP`].
const CHUNKS_TC: i32 = 34;
/// Stack slots of the sum: its end (u32), bytes of a piece (u32), and how many loops may still come (u64): the verifier wants to see
/// an end.
const TO: i16 = -12;
const PART: i16 = -28;
const LEFT: i16 = -24;

/// Writes the subprograms that are called.
pub(super) fn subprograms(emit: &mut Emit<'_>) {
    let subs = emit.subs;
    if emit.asm.is_referenced(subs.dissect) {
        emit.asm.bind(subs.dissect);
        super::dissect::dissect(&mut emit.asm, subs.read);
    }
    if emit.asm.is_referenced(subs.transport) {
        emit.asm.bind(subs.transport);
        transport(&mut emit.asm, subs.read);
    }
    if emit.asm.is_referenced(subs.sum) {
        emit.asm.bind(subs.sum);
        sum(&mut emit.asm, emit.stage, emit.head_end);
    }
    if emit.asm.is_referenced(subs.write) {
        emit.asm.bind(subs.write);
        write(&mut emit.asm, emit.stage);
    }
    if emit.asm.is_referenced(subs.read) {
        emit.asm.bind(subs.read);
        read(&mut emit.asm, emit.stage, emit.head_end);
    }
}

fn answer(asm: &mut Asm, value: i32) {
    asm.mov_imm(Reg::R0, value);
    asm.exit();
}

/// R3: position, R4: 1, 2 or 4 bytes.
fn read(asm: &mut Asm, stage: Stage, head_end: i32) {
    const WORD: i16 = -8;
    let (none, far, two, one, have) = (asm.label(), asm.label(), asm.label(), asm.label(), asm.label());
    asm.load(Size::W, Reg::R0, Reg::R2, field::START);
    asm.jump_reg(Cond::Lt, Reg::R3, Reg::R0, none);
    asm.load(Size::W, Reg::R0, Reg::R2, field::END);
    // Positions before the workspace are huge numbers.
    asm.jump_reg(Cond::Gt, Reg::R3, Reg::R0, none);
    asm.mov(Reg::R5, Reg::R3);
    asm.alu(Alu::Add, Reg::R5, Reg::R4);
    asm.jump_reg(Cond::Gt, Reg::R5, Reg::R0, none);
    asm.jump_imm(Cond::Gt, Reg::R5, head_end, far);
    asm.jump_imm(Cond::Gt, Reg::R3, head_end - 1, none);
    asm.alu(Alu::Add, Reg::R2, Reg::R3);
    asm.load(Size::W, Reg::R0, Reg::R2, 0);
    asm.jump(have);

    asm.bind(far);
    asm.load(Size::W, Reg::R5, Reg::R2, field::ORIGIN);
    asm.store_imm(Size::W, Reg::R10, WORD, 0);
    asm.mov(Reg::R2, Reg::R3);
    asm.alu(Alu::Sub, Reg::R2, Reg::R5);
    asm.mov(Reg::R6, Reg::R4);
    asm.mov(Reg::R3, Reg::R10);
    asm.alu_imm(Alu::Add, Reg::R3, i32::from(WORD));
    let some = asm.label();
    asm.jump_imm(Cond::Gt, Reg::R4, 4, none);
    asm.jump_imm(Cond::Ne, Reg::R4, 0, some);
    asm.jump(none);
    asm.bind(some);
    asm.call(stage.load());
    asm.jump_imm(Cond::Ne, Reg::R0, 0, none);
    asm.load(Size::W, Reg::R0, Reg::R10, WORD);
    asm.mov(Reg::R4, Reg::R6);
    asm.bind(have);
    asm.jump_imm(Cond::Eq, Reg::R4, 2, two);
    asm.jump_imm(Cond::Eq, Reg::R4, 1, one);
    asm.exit();
    asm.bind(two);
    asm.alu32_imm(Alu::And, Reg::R0, u32::from(u16::from_ne_bytes([0xff, 0xff])));
    asm.exit();
    asm.bind(one);
    asm.alu32_imm(Alu::And, Reg::R0, 0xff);
    asm.exit();
    asm.bind(none);
    answer(asm, -1);
}

/// R3: position behind the head, R4: the word.
fn write(asm: &mut Asm, stage: Stage) {
    const WORD: i16 = -8;
    asm.store(Size::W, Reg::R10, WORD, Reg::R4);
    asm.load(Size::W, Reg::R5, Reg::R2, field::ORIGIN);
    asm.mov(Reg::R2, Reg::R3);
    asm.alu(Alu::Sub, Reg::R2, Reg::R5);
    asm.mov(Reg::R3, Reg::R10);
    asm.alu_imm(Alu::Add, Reg::R3, i32::from(WORD));
    asm.mov_imm(Reg::R4, 4);
    asm.mov_imm(Reg::R5, 0);
    asm.call(stage.store());
    answer(asm, 0);
}

/// Folds R0 to 16 bits. R1 is lost.
fn fold(asm: &mut Asm) {
    for (mask, shift) in [(u32::MAX, 32), (u32::MAX, 32), (0xffff, 16), (0xffff, 16), (0xffff, 16)] {
        asm.mov(Reg::R1, Reg::R0);
        asm.alu_imm(Alu::Rsh, Reg::R1, shift);
        asm.alu32_imm(Alu::And, Reg::R0, mask);
        asm.alu(Alu::Add, Reg::R0, Reg::R1);
    }
}

/// R0 = the sum of the bytes from position R3 to R4 and R5, folded to 16 bits, as it lies in memory.
fn sum(asm: &mut Asm, stage: Stage, head_end: i32) {
    let (none, packet, tail, done) = (asm.label(), asm.label(), asm.label(), asm.label());
    // R6 = context, R7 = sum, R8 = where it is, R9 = workspace; the end on the stack.
    asm.mov(Reg::R6, Reg::R1);
    asm.mov(Reg::R9, Reg::R2);
    asm.mov(Reg::R8, Reg::R3);
    asm.store(Size::W, Reg::R10, TO, Reg::R4);
    asm.mov(Reg::R0, Reg::R5);
    fold(asm);
    asm.mov(Reg::R7, Reg::R0);
    asm.load(Size::W, Reg::R0, Reg::R9, field::END);
    asm.jump_reg(Cond::Gt, Reg::R4, Reg::R0, none);
    asm.jump_reg(Cond::Ge, Reg::R8, Reg::R4, done);
    // What is in the workspace, up to the last whole word.
    asm.jump_imm(Cond::Ge, Reg::R8, head_end, packet);
    let within = asm.label();
    asm.jump_imm(Cond::Le, Reg::R4, head_end, within);
    asm.mov_imm(Reg::R4, head_end);
    asm.bind(within);
    asm.alu(Alu::Sub, Reg::R4, Reg::R8);
    asm.alu_imm(Alu::And, Reg::R4, 0x1fc);
    asm.jump_imm(Cond::Eq, Reg::R4, 0, tail);
    asm.mov(Reg::R3, Reg::R8);
    asm.alu(Alu::Add, Reg::R8, Reg::R4);
    asm.alu(Alu::Add, Reg::R3, Reg::R9);
    diff(asm);
    asm.jump_imm(Cond::Ge, Reg::R8, head_end, packet);
    // Up to three bytes behind it.
    asm.bind(tail);
    asm.load(Size::W, Reg::R4, Reg::R10, TO);
    asm.alu(Alu::Sub, Reg::R4, Reg::R8);
    asm.jump_imm(Cond::Eq, Reg::R4, 0, done);
    asm.alu_imm(Alu::And, Reg::R4, 3);
    asm.alu_imm(Alu::Lsh, Reg::R4, 3);
    asm.mov_imm(Reg::R5, 1);
    asm.alu(Alu::Lsh, Reg::R5, Reg::R4);
    asm.alu_imm(Alu::Sub, Reg::R5, 1);
    asm.jump_imm(Cond::Gt, Reg::R8, head_end, none);
    asm.mov(Reg::R3, Reg::R8);
    asm.alu(Alu::Add, Reg::R3, Reg::R9);
    asm.load(Size::W, Reg::R3, Reg::R3, 0);
    asm.alu(Alu::And, Reg::R3, Reg::R5);
    asm.alu(Alu::Add, Reg::R7, Reg::R3);
    asm.jump(done);

    // What is only in the packet.
    asm.bind(packet);
    chunks(asm, stage, none);
    pieces(asm, stage, none, done);

    asm.bind(done);
    asm.mov(Reg::R0, Reg::R7);
    fold(asm);
    asm.exit();
    asm.bind(none);
    answer(asm, -1);
}

/// Whole chunks, straight on.
fn chunks(asm: &mut Asm, stage: Stage, none: Label) {
    let end = asm.label();
    asm.store_imm(Size::D, Reg::R10, LEFT, if stage == Stage::Xdp { CHUNKS_XDP } else { CHUNKS_TC });
    let start = asm.loop_start();
    asm.load(Size::W, Reg::R4, Reg::R10, TO);
    asm.alu(Alu::Sub, Reg::R4, Reg::R8);
    asm.jump_imm(Cond::Lt, Reg::R4, CHUNK_LEN, end);
    load_part(asm, stage, none, Some(CHUNK_LEN));
    for at in (0..CHUNK_LEN).step_by(PIECE_LEN as usize) {
        asm.mov(Reg::R3, Reg::R9);
        asm.alu_imm(Alu::Add, Reg::R3, CHUNK + at);
        asm.mov_imm(Reg::R4, PIECE_LEN);
        diff(asm);
    }
    again(asm, start);
    asm.jump(none);
    asm.bind(end);
}

/// What is left, in pieces that are padded with zeros.
fn pieces(asm: &mut Asm, stage: Stage, none: Label, done: Label) {
    asm.store_imm(Size::D, Reg::R10, LEFT, CHUNK_LEN / PIECE_LEN + 1);
    let start = asm.loop_start();
    asm.load(Size::W, Reg::R4, Reg::R10, TO);
    asm.jump_reg(Cond::Ge, Reg::R8, Reg::R4, done);
    asm.alu(Alu::Sub, Reg::R4, Reg::R8);
    let (part, some) = (asm.label(), asm.label());
    asm.jump_imm(Cond::Le, Reg::R4, PIECE_LEN, part);
    asm.mov_imm(Reg::R4, PIECE_LEN);
    asm.bind(part);
    asm.mov(Reg::R5, Reg::R9);
    asm.alu_imm(Alu::Add, Reg::R5, CHUNK);
    asm.alu(Alu::Add, Reg::R5, Reg::R4);
    asm.store_imm(Size::W, Reg::R5, 0, 0);
    asm.store(Size::W, Reg::R10, PART, Reg::R4);
    asm.jump_imm(Cond::Ne, Reg::R4, 0, some);
    asm.jump(none);
    asm.bind(some);
    load_part(asm, stage, none, None);
    asm.mov(Reg::R3, Reg::R9);
    asm.alu_imm(Alu::Add, Reg::R3, CHUNK);
    asm.load(Size::W, Reg::R4, Reg::R10, PART);
    asm.alu_imm(Alu::Add, Reg::R4, 3);
    asm.alu_imm(Alu::And, Reg::R4, 0x3fc);
    asm.jump_imm(Cond::Gt, Reg::R4, PIECE_LEN, none);
    diff(asm);
    again(asm, start);
    asm.jump(none);
}

/// The next bytes of the packet into the chunk: so many, or R4.
fn load_part(asm: &mut Asm, stage: Stage, none: Label, len: Option<i32>) {
    asm.mov(Reg::R1, Reg::R6);
    asm.mov(Reg::R2, Reg::R8);
    asm.load(Size::W, Reg::R5, Reg::R9, field::ORIGIN);
    asm.alu(Alu::Sub, Reg::R2, Reg::R5);
    asm.mov(Reg::R3, Reg::R9);
    asm.alu_imm(Alu::Add, Reg::R3, CHUNK);
    if let Some(len) = len {
        asm.mov_imm(Reg::R4, len);
    }
    asm.alu(Alu::Add, Reg::R8, Reg::R4);
    asm.call(stage.load());
    asm.jump_imm(Cond::Ne, Reg::R0, 0, none);
}

/// Counts down and goes back.
fn again(asm: &mut Asm, start: LoopStart) {
    asm.load(Size::D, Reg::R1, Reg::R10, LEFT);
    asm.alu_imm(Alu::Sub, Reg::R1, 1);
    asm.store(Size::D, Reg::R10, LEFT, Reg::R1);
    asm.jump_back(Cond::Ne, Reg::R1, 0, start);
}

/// Adds the R4 bytes (a multiple of four) at R3 to R7.
fn diff(asm: &mut Asm) {
    asm.mov_imm(Reg::R1, 0);
    asm.mov_imm(Reg::R2, 0);
    asm.mov_imm(Reg::R5, 0);
    asm.call(Helper::CsumDiff);
    asm.alu(Alu::Add, Reg::R7, Reg::R0);
}

/// `pedit_l4_skb_offset()`: R3: TCP or UDP. With IPv4 what IHL says, with IPv6 only if extension headers lead there.
fn transport(asm: &mut Asm, read: Label) {
    let (ipv6, none) = (asm.label(), asm.label());
    // R6 = context, R9 = workspace, R8 = protocol wanted, R7 = position.
    asm.mov(Reg::R6, Reg::R1);
    asm.mov(Reg::R9, Reg::R2);
    asm.mov(Reg::R8, Reg::R3);
    asm.load(Size::W, Reg::R7, Reg::R9, field::NETWORK);
    asm.load(Size::W, Reg::R4, Reg::R9, field::END);
    asm.alu(Alu::Sub, Reg::R4, Reg::R7);
    asm.load(Size::H, Reg::R1, Reg::R9, field::PROTOCOL);
    asm.jump32_imm(Cond::Eq, Reg::R1, u32::from(ethertype::IPV6), ipv6);
    asm.jump32_imm(Cond::Ne, Reg::R1, u32::from(ethertype::IPV4), none);
    asm.jump_imm(Cond::Lt, Reg::R4, 20, none);
    at(asm, read, 0, 1, none);
    asm.alu_imm(Alu::And, Reg::R0, 0xf);
    asm.alu_imm(Alu::Lsh, Reg::R0, 2);
    asm.alu(Alu::Add, Reg::R0, Reg::R7);
    asm.exit();

    asm.bind(ipv6);
    asm.jump_imm(Cond::Lt, Reg::R4, 40, none);
    at(asm, read, 6, 1, none);
    asm.store(Size::D, Reg::R10, -8, Reg::R0);
    asm.alu_imm(Alu::Add, Reg::R7, 40);
    for _ in 0..=EXTENSIONS_MAX {
        extension(asm, read, none);
    }
    asm.bind(none);
    answer(asm, -1);
}

/// Answers if the next header (on the stack) is the one; else goes one further (`ipv6_find_hdr()`). Where four bytes of a header
/// cannot be read, nothing behind it can be edited either.
fn extension(asm: &mut Asm, read: Label, none: Label) {
    let (other, known, fragment, auth, further) = (asm.label(), asm.label(), asm.label(), asm.label(), asm.label());
    asm.load(Size::D, Reg::R1, Reg::R10, -8);
    asm.jump_reg(Cond::Ne, Reg::R1, Reg::R8, other);
    asm.mov(Reg::R0, Reg::R7);
    asm.exit();
    asm.bind(other);
    at(asm, read, 0, 4, none);
    asm.be32(Reg::R0);
    asm.load(Size::D, Reg::R1, Reg::R10, -8);
    asm.mov(Reg::R2, Reg::R0);
    asm.alu_imm(Alu::Rsh, Reg::R2, 24);
    asm.store(Size::D, Reg::R10, -8, Reg::R2);
    asm.mov(Reg::R2, Reg::R0);
    asm.alu_imm(Alu::Rsh, Reg::R2, 16);
    asm.alu_imm(Alu::And, Reg::R2, 0xff);
    for proto in [0, 43, 60] {
        asm.jump_imm(Cond::Eq, Reg::R1, proto, known);
    }
    asm.jump_imm(Cond::Eq, Reg::R1, 44, fragment);
    asm.jump_imm(Cond::Eq, Reg::R1, 51, auth);
    asm.jump(none);
    asm.bind(fragment);
    // A later fragment has no transport header.
    asm.alu_imm(Alu::And, Reg::R0, 0xfff8);
    asm.jump_imm(Cond::Ne, Reg::R0, 0, none);
    asm.mov_imm(Reg::R2, 8);
    asm.jump(further);
    asm.bind(auth);
    asm.alu_imm(Alu::Add, Reg::R2, 2);
    asm.alu_imm(Alu::Lsh, Reg::R2, 2);
    asm.jump(further);
    asm.bind(known);
    asm.alu_imm(Alu::Add, Reg::R2, 1);
    asm.alu_imm(Alu::Lsh, Reg::R2, 3);
    asm.bind(further);
    asm.alu(Alu::Add, Reg::R7, Reg::R2);
}

/// R0 = `len` bytes so far behind R7.
fn at(asm: &mut Asm, read: Label, ahead: i32, len: i32, none: Label) {
    asm.mov(Reg::R1, Reg::R6);
    asm.mov(Reg::R2, Reg::R9);
    asm.mov(Reg::R3, Reg::R7);
    asm.alu_imm(Alu::Add, Reg::R3, ahead);
    asm.mov_imm(Reg::R4, len);
    asm.call_sub(read);
    asm.jump_imm(Cond::Eq, Reg::R0, -1, none);
}
