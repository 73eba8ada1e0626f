//! What flower's dissector finds, as a subprogram: `__skb_flow_dissect()` of net/core/flow_dissector.c for the keys that we know.
//!
//! What it does not reach stays zero.

use super::work::{NETWORK, field};
use crate::ebpf::asm::{Alu, Asm, Cond, Label, Reg, Size};
use crate::ebpf::dissect::{FOUND_IPV4, FOUND_IPV6, HEADERS_MAX, MPLS_IN_IP};
use crate::types::ethertype;

/// Fills the fields from [`field::IP_PROTO`] to [`field::TCP_FLAGS`].
pub(super) fn dissect(asm: &mut Asm, read: Label) {
    let (ipv4, ipv6, l4, last, done) = (asm.label(), asm.label(), asm.label(), asm.label(), asm.label());
    // R6 = context, R9 = workspace, R8 = position.
    asm.mov(Reg::R6, Reg::R1);
    asm.mov(Reg::R9, Reg::R2);
    for at in [field::IP_PROTO, field::FOUND, field::SRC_PORT, field::DST_PORT, field::TCP_FLAGS] {
        asm.store_imm(Size::H, Reg::R9, at, 0);
    }
    asm.load(Size::H, Reg::R1, Reg::R9, field::PROTOCOL);
    asm.store(Size::H, Reg::R9, field::ETH_TYPE, Reg::R1);
    asm.jump32_imm(Cond::Eq, Reg::R1, u32::from(ethertype::IPV4), ipv4);
    asm.jump32_imm(Cond::Eq, Reg::R1, u32::from(ethertype::IPV6), ipv6);
    asm.jump(done);
    asm.bind(ipv4);
    ipv4_header(asm, l4, done);
    asm.bind(ipv6);
    ipv6_header(asm, read, l4, last, done);
    asm.bind(l4);
    mpls(asm);
    tcp_flags(asm, read);
    asm.bind(last);
    ports(asm, read, done);
    asm.bind(done);
    asm.mov_imm(Reg::R0, 0);
    asm.exit();
}

/// Goes to `l4` with R8 behind the header; to `done` for fragments and cut headers.
fn ipv4_header(asm: &mut Asm, l4: Label, done: Label) {
    let at = NETWORK as i16;
    asm.load(Size::W, Reg::R1, Reg::R9, field::END);
    asm.jump_imm(Cond::Lt, Reg::R1, NETWORK + 20, done);
    asm.load(Size::B, Reg::R8, Reg::R9, at);
    asm.alu32_imm(Alu::And, Reg::R8, 0xf);
    asm.jump32_imm(Cond::Lt, Reg::R8, 5, done);
    asm.alu32_imm(Alu::Lsh, Reg::R8, 2);
    asm.alu_imm(Alu::Add, Reg::R8, NETWORK);
    asm.load(Size::B, Reg::R1, Reg::R9, at + 9);
    asm.store(Size::H, Reg::R9, field::IP_PROTO, Reg::R1);
    asm.store_imm(Size::H, Reg::R9, field::FOUND, FOUND_IPV4);
    asm.load(Size::H, Reg::R1, Reg::R9, at + 6);
    asm.be16(Reg::R1);
    asm.alu32_imm(Alu::And, Reg::R1, 0x3fff);
    asm.jump32_imm(Cond::Ne, Reg::R1, 0, done);
    asm.jump(l4);
}

/// As [`ipv4_header`], with extension headers followed; to `last` behind more of them than the kernel follows.
fn ipv6_header(asm: &mut Asm, read: Label, l4: Label, last: Label, done: Label) {
    let (fragment, next) = (asm.label(), NETWORK as i16 + 6);
    asm.load(Size::W, Reg::R1, Reg::R9, field::END);
    asm.jump_imm(Cond::Lt, Reg::R1, NETWORK + 40, done);
    asm.load(Size::B, Reg::R1, Reg::R9, next);
    asm.store(Size::H, Reg::R9, field::IP_PROTO, Reg::R1);
    asm.store_imm(Size::H, Reg::R9, field::FOUND, FOUND_IPV6);
    asm.mov_imm(Reg::R8, NETWORK + 40);
    for _ in 0..=HEADERS_MAX {
        let options = asm.label();
        asm.load(Size::H, Reg::R1, Reg::R9, field::IP_PROTO);
        // Hop-by-hop, routing and destination options.
        for proto in [0, 43, 60] {
            asm.jump32_imm(Cond::Eq, Reg::R1, proto, options);
        }
        asm.jump32_imm(Cond::Ne, Reg::R1, 44, l4);
        asm.jump(fragment);
        asm.bind(options);
        at(asm, read, 0, 2, done);
        asm.mov(Reg::R1, Reg::R0);
        asm.alu_imm(Alu::And, Reg::R1, 0xff);
        asm.be16(Reg::R0);
        if cfg!(target_endian = "big") {
            asm.mov(Reg::R1, Reg::R0);
            asm.alu_imm(Alu::Rsh, Reg::R1, 8);
        }
        asm.store(Size::H, Reg::R9, field::IP_PROTO, Reg::R1);
        asm.alu32_imm(Alu::And, Reg::R0, 0xff);
        asm.alu32_imm(Alu::Add, Reg::R0, 1);
        asm.alu32_imm(Alu::Lsh, Reg::R0, 3);
        asm.alu(Alu::Add, Reg::R8, Reg::R0);
    }
    asm.jump(last);
    asm.bind(fragment);
    at(asm, read, 4, 4, done);
    at(asm, read, 0, 1, done);
    asm.store(Size::H, Reg::R9, field::IP_PROTO, Reg::R0);
    asm.jump(done);
}

/// The kernel goes on with MPLS within IP: such a frame's type is MPLS then.
fn mpls(asm: &mut Asm) {
    let other = asm.label();
    asm.load(Size::H, Reg::R1, Reg::R9, field::IP_PROTO);
    asm.jump32_imm(Cond::Ne, Reg::R1, MPLS_IN_IP, other);
    asm.store_imm(Size::H, Reg::R9, field::ETH_TYPE, i32::from(ethertype::MPLS_UC));
    asm.bind(other);
}

/// Only with the full 20 bytes of a TCP header.
fn tcp_flags(asm: &mut Asm, read: Label) {
    let none = asm.label();
    asm.load(Size::H, Reg::R1, Reg::R9, field::IP_PROTO);
    asm.jump32_imm(Cond::Ne, Reg::R1, 6, none);
    at(asm, read, 16, 4, none);
    at(asm, read, 12, 2, none);
    asm.be16(Reg::R0);
    asm.jump32_imm(Cond::Lt, Reg::R0, 5 << 12, none);
    asm.alu32_imm(Alu::And, Reg::R0, 0x0fff);
    asm.store(Size::H, Reg::R9, field::TCP_FLAGS, Reg::R0);
    asm.bind(none);
}

/// `proto_ports_offset()`: TCP, UDP, DCCP, ESP, SCTP and UDP-Lite have ports at once, AH behind four bytes.
fn ports(asm: &mut Asm, read: Label, done: Label) {
    let at_once = asm.label();
    asm.load(Size::H, Reg::R1, Reg::R9, field::IP_PROTO);
    for proto in [6, 17, 33, 50, 132, 136] {
        asm.jump32_imm(Cond::Eq, Reg::R1, proto, at_once);
    }
    asm.jump32_imm(Cond::Ne, Reg::R1, 51, done);
    asm.alu_imm(Alu::Add, Reg::R8, 4);
    asm.bind(at_once);
    at(asm, read, 0, 4, done);
    asm.be32(Reg::R0);
    asm.store(Size::H, Reg::R9, field::DST_PORT, Reg::R0);
    asm.alu32_imm(Alu::Rsh, Reg::R0, 16);
    asm.store(Size::H, Reg::R9, field::SRC_PORT, Reg::R0);
}

/// R0 = `len` bytes so far behind R8.
fn at(asm: &mut Asm, read: Label, ahead: i32, len: i32, none: Label) {
    asm.mov(Reg::R1, Reg::R6);
    asm.mov(Reg::R2, Reg::R9);
    asm.mov(Reg::R3, Reg::R8);
    asm.alu_imm(Alu::Add, Reg::R3, ahead);
    asm.mov_imm(Reg::R4, len);
    asm.call_sub(read);
    asm.jump_imm(Cond::Eq, Reg::R0, -1, none);
}
