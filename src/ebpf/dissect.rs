//! What flower's dissector finds, as code: `__skb_flow_dissect()` of net/core/flow_dissector.c for the keys that we know.
//!
//! What it does not reach stays zero. R8 is the position in the frame as it is, with the outer tag if that is inline.

use super::asm::{Alu, Asm, Cond, Label, Reg, Size};
use super::count::Total;
use super::frame::load_bytes;
use super::layout::{Layout, slot};
use super::steer::Target;
use crate::types::ethertype;

/// `MAX_FLOW_DISSECT_HDRS`: how many further headers the dissector goes to.
pub(super) const HEADERS_MAX: usize = 15;
pub(super) const MPLS_IN_IP: u32 = 137;
/// Values of [`slot::FOUND`]: which addresses were found.
pub(super) const FOUND_IPV4: i32 = 1;
/// See [`FOUND_IPV4`].
pub(super) const FOUND_IPV6: i32 = 2;

/// Fills the slots from [`slot::IP_PROTO`] to [`slot::TCP_FLAGS`], if a rule needs them.
pub(super) fn dissect(asm: &mut Asm, layout: &Layout, target: Target) {
    if !layout.dissect {
        return;
    }
    let (not_ipv4, l4, last, done) = (asm.label(), asm.label(), asm.label(), asm.label());
    // A zero that the verifier does not know: else it would follow every combination of found and not found.
    asm.load(Size::D, Reg::R1, Reg::R7, Total::Zero.offset());
    for slot in [slot::IP_PROTO, slot::FOUND, slot::SRC_PORT, slot::DST_PORT, slot::TCP_FLAGS] {
        asm.store(Size::H, Reg::R10, slot, Reg::R1);
    }
    asm.load(Size::H, Reg::R1, Reg::R10, slot::ETH_TYPE);
    if layout.dissect_ipv4 {
        asm.jump32_imm(Cond::Ne, Reg::R1, u32::from(ethertype::IPV4), not_ipv4);
        ipv4(asm, layout, l4, done);
    }
    asm.bind(not_ipv4);
    if layout.dissect_ipv6 {
        asm.jump32_imm(Cond::Ne, Reg::R1, u32::from(ethertype::IPV6), done);
        ipv6(asm, layout, target, l4, last, done);
    } else {
        asm.jump(done);
    }
    asm.bind(l4);
    mpls(asm);
    tcp_flags(asm, target);
    asm.bind(last);
    ports(asm, target, done);
    asm.bind(done);
}

fn found(asm: &mut Asm, which: i32) {
    asm.mov_imm(Reg::R1, which);
    asm.store(Size::H, Reg::R10, slot::FOUND, Reg::R1);
}

/// Goes to `l4` with R8 behind the header; to `done` for fragments and cut headers.
fn ipv4(asm: &mut Asm, layout: &Layout, l4: Label, done: Label) {
    asm.load(Size::H, Reg::R1, Reg::R10, slot::LEN);
    asm.jump32_imm(Cond::Lt, Reg::R1, 14 + 20, done);
    asm.load(Size::B, Reg::R8, Reg::R10, layout.slot(14));
    asm.alu32_imm(Alu::And, Reg::R8, 0xf);
    asm.jump32_imm(Cond::Lt, Reg::R8, 5, done);
    asm.alu32_imm(Alu::Lsh, Reg::R8, 2);
    asm.load(Size::H, Reg::R1, Reg::R10, slot::NETWORK);
    asm.alu(Alu::Add, Reg::R8, Reg::R1);
    asm.load(Size::B, Reg::R1, Reg::R10, layout.slot(22) + 1);
    asm.store(Size::H, Reg::R10, slot::IP_PROTO, Reg::R1);
    found(asm, FOUND_IPV4);
    asm.load(Size::H, Reg::R1, Reg::R10, layout.slot(18) + 2);
    asm.be16(Reg::R1);
    asm.alu32_imm(Alu::And, Reg::R1, 0x3fff);
    asm.jump32_imm(Cond::Ne, Reg::R1, 0, done);
    asm.jump(l4);
}

/// As [`ipv4`], with extension headers followed; to `last` behind more of them than the kernel follows, where only ports are found.
fn ipv6(asm: &mut Asm, layout: &Layout, target: Target, l4: Label, last: Label, done: Label) {
    let fragment = asm.label();
    asm.load(Size::H, Reg::R1, Reg::R10, slot::LEN);
    asm.jump32_imm(Cond::Lt, Reg::R1, 14 + 40, done);
    asm.load(Size::B, Reg::R1, Reg::R10, layout.slot(18) + 2);
    asm.store(Size::H, Reg::R10, slot::IP_PROTO, Reg::R1);
    found(asm, FOUND_IPV6);
    asm.load(Size::H, Reg::R8, Reg::R10, slot::NETWORK);
    asm.alu_imm(Alu::Add, Reg::R8, 40);
    for _ in 0..=HEADERS_MAX {
        let options = asm.label();
        asm.load(Size::H, Reg::R1, Reg::R10, slot::IP_PROTO);
        // Hop-by-hop, routing and destination options.
        for proto in [0, 43, 60] {
            asm.jump32_imm(Cond::Eq, Reg::R1, proto, options);
        }
        asm.jump32_imm(Cond::Ne, Reg::R1, 44, l4);
        asm.jump(fragment);
        asm.bind(options);
        read(asm, target, 0, 2, done);
        asm.load(Size::B, Reg::R1, Reg::R10, slot::SCRATCH);
        asm.store(Size::H, Reg::R10, slot::IP_PROTO, Reg::R1);
        asm.load(Size::B, Reg::R1, Reg::R10, slot::SCRATCH + 1);
        asm.alu32_imm(Alu::Add, Reg::R1, 1);
        asm.alu32_imm(Alu::Lsh, Reg::R1, 3);
        asm.alu(Alu::Add, Reg::R8, Reg::R1);
    }
    asm.jump(last);
    asm.bind(fragment);
    read(asm, target, 4, 4, done);
    read(asm, target, 0, 1, done);
    asm.load(Size::B, Reg::R1, Reg::R10, slot::SCRATCH);
    asm.store(Size::H, Reg::R10, slot::IP_PROTO, Reg::R1);
    asm.jump(done);
}

/// Reads `len` bytes at R8 + `ahead` into the scratch slot, or goes to `short`.
fn read(asm: &mut Asm, target: Target, ahead: i32, len: i32, short: Label) {
    asm.mov(Reg::R2, Reg::R8);
    asm.alu_imm(Alu::Add, Reg::R2, ahead);
    load_bytes(asm, target, slot::SCRATCH, len);
    asm.jump_imm(Cond::Ne, Reg::R0, 0, short);
}

/// The kernel goes on with MPLS within IP: such a frame's type is MPLS then.
fn mpls(asm: &mut Asm) {
    let other = asm.label();
    asm.load(Size::H, Reg::R1, Reg::R10, slot::IP_PROTO);
    asm.jump32_imm(Cond::Ne, Reg::R1, MPLS_IN_IP, other);
    asm.mov_imm(Reg::R1, i32::from(ethertype::MPLS_UC));
    asm.store(Size::H, Reg::R10, slot::ETH_TYPE, Reg::R1);
    asm.bind(other);
}

/// Only with the full 20 bytes of a TCP header.
fn tcp_flags(asm: &mut Asm, target: Target) {
    let none = asm.label();
    asm.load(Size::H, Reg::R1, Reg::R10, slot::IP_PROTO);
    asm.jump32_imm(Cond::Ne, Reg::R1, 6, none);
    read(asm, target, 16, 4, none);
    read(asm, target, 12, 2, none);
    asm.load(Size::H, Reg::R1, Reg::R10, slot::SCRATCH);
    asm.be16(Reg::R1);
    asm.jump32_imm(Cond::Lt, Reg::R1, 5 << 12, none);
    asm.alu32_imm(Alu::And, Reg::R1, 0x0fff);
    asm.store(Size::H, Reg::R10, slot::TCP_FLAGS, Reg::R1);
    asm.bind(none);
}

/// `proto_ports_offset()`: TCP, UDP, DCCP, ESP, SCTP and UDP-Lite have ports at once, AH behind four bytes.
fn ports(asm: &mut Asm, target: Target, done: Label) {
    let at_once = asm.label();
    asm.load(Size::H, Reg::R1, Reg::R10, slot::IP_PROTO);
    for proto in [6, 17, 33, 50, 132, 136] {
        asm.jump32_imm(Cond::Eq, Reg::R1, proto, at_once);
    }
    asm.jump32_imm(Cond::Ne, Reg::R1, 51, done);
    asm.alu_imm(Alu::Add, Reg::R8, 4);
    asm.bind(at_once);
    read(asm, target, 0, 4, done);
    for (from, to) in [(slot::SCRATCH, slot::SRC_PORT), (slot::SCRATCH + 2, slot::DST_PORT)] {
        asm.load(Size::H, Reg::R1, Reg::R10, from);
        asm.be16(Reg::R1);
        asm.store(Size::H, Reg::R10, to, Reg::R1);
    }
}
