//! The action `nat` as code: `tcf_nat_act()` on the frame in the workspace, whatever protocol it has.

use super::emit::{Counting, Emit, Stage};
use super::work::field;
use crate::ebpf::asm::{Alu, Cond, Label, Reg, Size};
use crate::types::NatRule;

/// Stack slots of the address before and after (u32 each, as they lie in memory).
const OLD: i16 = -28;
const NEW: i16 = -36;
const ICMP: i32 = 1;
const TCP: i32 = 6;
const UDP: i32 = 17;
const IPV4_LEN_MIN: i32 = 20;

impl Emit<'_> {
    /// What is cut is counted and dropped, with what was changed before.
    pub fn nat(&mut self, rule: NatRule, counting: Counting) {
        if self.partial && self.stage == Stage::Xdp {
            super::partial::complete(self);
        }
        let (other, icmp, failed, done) = (self.asm.label(), self.asm.label(), self.asm.label(), self.asm.label());
        let long = self.asm.label();
        self.changed_head();
        self.network_has(IPV4_LEN_MIN, long);
        self.asm.jump(failed);
        self.asm.bind(long);
        self.address(Reg::R3, field::NETWORK, 60);
        self.translate(rule, if rule.egress { 12 } else { 16 }, other);
        self.replace(10);
        self.protocol(done);
        let (tcp, udp) = (self.asm.label(), self.asm.label());
        for (proto, to) in [(ICMP, icmp), (TCP, tcp), (UDP, udp)] {
            self.asm.jump_imm(Cond::Eq, Reg::R4, proto, to);
        }
        self.asm.jump(done);

        self.asm.bind(tcp);
        self.transport_header(20, failed);
        self.whose(16);
        self.replace_by(16);
        self.asm.jump(done);

        self.asm.bind(udp);
        self.transport_header(8, failed);
        self.whose(6);
        self.asm.load(Size::H, Reg::R1, Reg::R3, 6);
        self.asm.jump_imm(Cond::Eq, Reg::R1, 0, done);
        self.replace_by(6);
        self.asm.jump_imm(Cond::Ne, Reg::R1, 0, done);
        self.asm.store_imm(Size::H, Reg::R3, 6, 0xffff);
        self.asm.jump(done);

        self.asm.bind(other);
        self.protocol(done);
        self.asm.jump_imm(Cond::Ne, Reg::R4, ICMP, done);
        self.asm.bind(icmp);
        self.icmp_error(rule, failed, done);
        self.asm.jump(done);
        self.asm.bind(failed);
        self.fail(counting);
        self.asm.bind(done);
    }

    /// Translates the address at R3 + `at`; one that is not meant goes to `other`. R1 and R2 are lost.
    fn translate(&mut self, rule: NatRule, at: i16, other: Label) {
        let memory = |word: u32| u32::from_ne_bytes(word.to_be_bytes());
        let asm = &mut self.asm;
        asm.load(Size::W, Reg::R1, Reg::R3, at);
        asm.store(Size::W, Reg::R10, OLD, Reg::R1);
        asm.mov(Reg::R2, Reg::R1);
        asm.alu32_imm(Alu::Xor, Reg::R2, memory(rule.old));
        asm.alu32_imm(Alu::And, Reg::R2, memory(rule.mask));
        asm.jump_imm(Cond::Ne, Reg::R2, 0, other);
        asm.alu32_imm(Alu::And, Reg::R1, memory(!rule.mask));
        asm.alu32_imm(Alu::Or, Reg::R1, memory(rule.new & rule.mask));
        asm.store(Size::W, Reg::R10, NEW, Reg::R1);
        asm.store(Size::W, Reg::R3, at, Reg::R1);
    }

    /// R4 = the protocol of the packet at the network header; later fragments are done.
    fn protocol(&mut self, done: Label) {
        self.address(Reg::R3, field::NETWORK, 60);
        let asm = &mut self.asm;
        asm.load(Size::H, Reg::R1, Reg::R3, 6);
        asm.be16(Reg::R1);
        asm.alu_imm(Alu::And, Reg::R1, 0x1fff);
        asm.jump_imm(Cond::Ne, Reg::R1, 0, done);
        asm.load(Size::B, Reg::R4, Reg::R3, 9);
    }

    /// R3 = address of the transport header, R4 = its position; so many bytes of it are there.
    fn transport_header(&mut self, len: i32, cut: Label) {
        let asm = &mut self.asm;
        asm.load(Size::B, Reg::R3, Reg::R3, 0);
        asm.alu_imm(Alu::And, Reg::R3, 0xf);
        asm.alu_imm(Alu::Lsh, Reg::R3, 2);
        asm.load(Size::W, Reg::R1, Reg::R9, field::NETWORK);
        asm.alu(Alu::Add, Reg::R3, Reg::R1);
        asm.mov(Reg::R4, Reg::R3);
        self.reaches(len, cut);
        self.bounded(Reg::R3, 36);
    }

    /// To `cut` unless so many bytes from position R4 are in the frame. R1 and R2 are lost.
    fn reaches(&mut self, len: i32, cut: Label) {
        let asm = &mut self.asm;
        asm.mov(Reg::R2, Reg::R4);
        asm.alu_imm(Alu::Add, Reg::R2, len);
        asm.load(Size::W, Reg::R1, Reg::R9, field::END);
        asm.jump_reg(Cond::Gt, Reg::R2, Reg::R1, cut);
    }

    /// R5 = what turns the checksum at position R4 + `at` into a sum: nothing if it is partial, and a sum already.
    fn whose(&mut self, at: i32) {
        let whole = self.asm.label();
        self.asm.mov_imm(Reg::R5, 0xffff);
        if self.partial {
            self.asm.load(Size::W, Reg::R1, Reg::R9, field::PARTIAL);
            self.asm.mov(Reg::R2, Reg::R4);
            self.asm.alu_imm(Alu::Add, Reg::R2, at);
            self.asm.jump_reg(Cond::Ne, Reg::R1, Reg::R2, whole);
            self.asm.mov_imm(Reg::R5, 0);
        }
        self.asm.bind(whole);
    }

    /// `csum_replace4()` of the checksum at R3 + `at`.
    fn replace(&mut self, at: i16) {
        self.asm.mov_imm(Reg::R5, 0xffff);
        self.replace_by(at);
    }

    /// As [`Emit::replace`], with R5 as [`Emit::whose`] says; R1 = the new checksum. R2 is lost.
    fn replace_by(&mut self, at: i16) {
        let asm = &mut self.asm;
        asm.load(Size::H, Reg::R1, Reg::R3, at);
        asm.alu(Alu::Xor, Reg::R1, Reg::R5);
        for (slot, flip) in [(OLD, u32::MAX), (NEW, 0)] {
            asm.load(Size::W, Reg::R2, Reg::R10, slot);
            asm.alu32_imm(Alu::Xor, Reg::R2, flip);
            asm.mov(Reg::R0, Reg::R2);
            asm.alu_imm(Alu::And, Reg::R0, 0xffff);
            asm.alu(Alu::Add, Reg::R1, Reg::R0);
            asm.alu_imm(Alu::Rsh, Reg::R2, 16);
            asm.alu(Alu::Add, Reg::R1, Reg::R2);
        }
        for _ in 0..2 {
            asm.mov(Reg::R2, Reg::R1);
            asm.alu_imm(Alu::Rsh, Reg::R2, 16);
            asm.alu_imm(Alu::And, Reg::R1, 0xffff);
            asm.alu(Alu::Add, Reg::R1, Reg::R2);
        }
        asm.alu(Alu::Xor, Reg::R1, Reg::R5);
        asm.alu_imm(Alu::And, Reg::R1, 0xffff);
        asm.store(Size::H, Reg::R3, at, Reg::R1);
    }

    /// The packet that an ICMP error tells of went the other way: its other address is translated, its own checksums stay.
    fn icmp_error(&mut self, rule: NatRule, cut: Label, done: Label) {
        let error = self.asm.label();
        self.transport_header(8, cut);
        self.asm.load(Size::B, Reg::R1, Reg::R3, 0);
        for kind in [3, 4, 5, 11, 12] {
            self.asm.jump_imm(Cond::Eq, Reg::R1, kind, error);
        }
        self.asm.jump(done);
        self.asm.bind(error);
        self.reaches(8 + IPV4_LEN_MIN, cut);
        self.translate(rule, 8 + if rule.egress { 16 } else { 12 }, done);
        self.replace(2);
    }
}
