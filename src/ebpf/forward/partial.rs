//! Partial checksums as code: what a local stack left to a device, and a veth or XDP lost the note of.
//!
//! The field holds the pseudo header's sum then. Frames behind IPv6 extension headers are not looked at: a stack does not send
//! such with a checksum left to do.

use super::emit::Emit;
use super::work::{NETWORK, field};
use crate::ebpf::asm::{Alu, Cond, Label, Reg, Size};
use crate::types::ethertype;

const TCP: i32 = 6;
const UDP: i32 = 17;

/// Position where the head must end at least: the fields behind an IPv4 header of any length, and behind IPv6.
pub(super) const HEAD_END: i32 = 304;

/// Behind the prologue: notes where a partial checksum is. Frames whose checksum looks partial by chance lose nothing: they get the
/// same one again.
pub(super) fn find(emit: &mut Emit<'_>) {
    let (ipv6, known, done) = (emit.asm.label(), emit.asm.label(), emit.asm.label());
    let at = NETWORK as i16;
    let asm = &mut emit.asm;
    asm.load(Size::H, Reg::R1, Reg::R9, field::PROTOCOL);
    asm.jump32_imm(Cond::Eq, Reg::R1, u32::from(ethertype::IPV6), ipv6);
    asm.jump32_imm(Cond::Ne, Reg::R1, u32::from(ethertype::IPV4), done);
    // R2 = end of the packet, R3 = transport header, R4 = protocol, R5 = sum of the addresses.
    asm.load(Size::W, Reg::R1, Reg::R9, field::END);
    asm.jump_imm(Cond::Lt, Reg::R1, NETWORK + 28, done);
    asm.load(Size::B, Reg::R3, Reg::R9, at);
    asm.mov(Reg::R4, Reg::R3);
    asm.alu_imm(Alu::And, Reg::R4, 0xf0);
    asm.jump_imm(Cond::Ne, Reg::R4, 0x40, done);
    asm.alu_imm(Alu::And, Reg::R3, 0xf);
    asm.jump_imm(Cond::Lt, Reg::R3, 5, done);
    asm.alu_imm(Alu::Lsh, Reg::R3, 2);
    asm.alu_imm(Alu::Add, Reg::R3, NETWORK);
    asm.load(Size::H, Reg::R2, Reg::R9, at + 6);
    asm.be16(Reg::R2);
    asm.alu_imm(Alu::And, Reg::R2, 0x3fff);
    asm.jump_imm(Cond::Ne, Reg::R2, 0, done);
    asm.load(Size::H, Reg::R2, Reg::R9, at + 2);
    asm.be16(Reg::R2);
    asm.alu_imm(Alu::Add, Reg::R2, NETWORK);
    asm.load(Size::B, Reg::R4, Reg::R9, at + 9);
    asm.load(Size::W, Reg::R5, Reg::R9, at + 12);
    asm.load(Size::W, Reg::R1, Reg::R9, at + 16);
    asm.alu(Alu::Add, Reg::R5, Reg::R1);
    asm.jump(known);

    asm.bind(ipv6);
    asm.load(Size::W, Reg::R1, Reg::R9, field::END);
    asm.jump_imm(Cond::Lt, Reg::R1, NETWORK + 48, done);
    asm.load(Size::H, Reg::R2, Reg::R9, at + 4);
    asm.be16(Reg::R2);
    asm.alu_imm(Alu::Add, Reg::R2, NETWORK + 40);
    asm.mov_imm(Reg::R3, NETWORK + 40);
    asm.load(Size::B, Reg::R4, Reg::R9, at + 6);
    asm.mov_imm(Reg::R5, 0);
    for word in (8..40).step_by(4) {
        asm.load(Size::W, Reg::R1, Reg::R9, at + word);
        asm.alu(Alu::Add, Reg::R5, Reg::R1);
    }
    asm.bind(known);
    compare(emit, done);
    emit.asm.bind(done);
}

/// Notes the field if it is the pseudo header's sum.
fn compare(emit: &mut Emit<'_>, done: Label) {
    let (udp, have) = (emit.asm.label(), emit.asm.label());
    let asm = &mut emit.asm;
    asm.load(Size::W, Reg::R1, Reg::R9, field::END);
    asm.jump_reg(Cond::Gt, Reg::R2, Reg::R1, done);
    asm.store(Size::W, Reg::R9, field::PARTIAL_FROM, Reg::R3);
    asm.store(Size::W, Reg::R9, field::PARTIAL_TO, Reg::R2);
    asm.alu(Alu::Sub, Reg::R2, Reg::R3);
    asm.jump_imm(Cond::Eq, Reg::R4, UDP, udp);
    asm.jump_imm(Cond::Ne, Reg::R4, TCP, done);
    asm.alu_imm(Alu::Add, Reg::R3, 10);
    asm.bind(udp);
    asm.alu_imm(Alu::Add, Reg::R3, 6);
    // All of the field must be there; a negative length is a huge number.
    asm.load(Size::W, Reg::R1, Reg::R9, field::PARTIAL_TO);
    asm.mov(Reg::R0, Reg::R3);
    asm.alu_imm(Alu::Add, Reg::R0, 2);
    asm.jump_reg(Cond::Gt, Reg::R0, Reg::R1, done);
    asm.bind(have);
    asm.be16(Reg::R2);
    asm.alu(Alu::Add, Reg::R5, Reg::R2);
    asm.alu32_imm(Alu::Lsh, Reg::R4, if cfg!(target_endian = "little") { 8 } else { 0 });
    asm.alu(Alu::Add, Reg::R5, Reg::R4);
    for shift in [16, 16, 16] {
        asm.mov(Reg::R1, Reg::R5);
        asm.alu_imm(Alu::Rsh, Reg::R1, shift);
        asm.alu_imm(Alu::And, Reg::R5, 0xffff);
        asm.alu(Alu::Add, Reg::R5, Reg::R1);
    }
    asm.mov(Reg::R1, Reg::R3);
    emit.bounded(Reg::R1, 4);
    emit.asm.load(Size::H, Reg::R2, Reg::R1, 0);
    emit.asm.jump_reg(Cond::Ne, Reg::R2, Reg::R5, done);
    emit.asm.store(Size::W, Reg::R9, field::PARTIAL, Reg::R3);
}

/// Computes a partial checksum, once (`skb_checksum_help()`).
pub(super) fn complete(emit: &mut Emit<'_>) {
    let (done, some) = (emit.asm.label(), emit.asm.label());
    let asm = &mut emit.asm;
    asm.load(Size::W, Reg::R1, Reg::R9, field::PARTIAL);
    asm.jump_imm(Cond::Eq, Reg::R1, 0, done);
    asm.load(Size::W, Reg::R3, Reg::R9, field::PARTIAL_FROM);
    asm.load(Size::W, Reg::R4, Reg::R9, field::PARTIAL_TO);
    asm.mov_imm(Reg::R5, 0);
    emit.sum(done);
    emit.asm.alu32_imm(Alu::Xor, Reg::R0, 0xffff);
    emit.asm.jump_imm(Cond::Ne, Reg::R0, 0, some);
    emit.asm.mov_imm(Reg::R0, 0xffff);
    emit.asm.bind(some);
    emit.address(Reg::R3, field::PARTIAL, 4);
    emit.asm.store(Size::H, Reg::R3, 0, Reg::R0);
    emit.asm.store_imm(Size::W, Reg::R9, field::PARTIAL, 0);
    emit.changed_head();
    emit.asm.bind(done);
}
