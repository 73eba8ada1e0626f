//! The action `csum` as code: `tcf_csum_act()`, oddities included. Of IPv6, extension headers up to the end of the head are followed.

use super::emit::{Counting, Emit, Stage};
use super::work::{CHUNK, field};
use crate::ebpf::asm::{Alu, Cond, Label, Reg, Size};
use crate::types::{Checksums, Direction, ethertype};

/// Stack slots of what is known of the packet (u32 each).
mod local {
    pub const NETWORK: i16 = -28;
    /// Bytes from the network header to the transport header.
    pub const HEADER: i16 = -36;
    /// What IP says of all of it, from the network header.
    pub const TOTAL: i16 = -44;
    /// Position of the checksum's field.
    pub const FIELD: i16 = -52;
    /// Position where the sum ends.
    pub const TO: i16 = -60;
    /// The pseudo header's length.
    pub const LEN: i16 = -68;
    pub const PROTO: i16 = -76;
    /// u64: what the sum starts with.
    pub const SEED: i16 = -88;
    /// Whether a checksum of 0 is written as 0xffff.
    pub const NO_ZERO: i16 = -92;
    /// Which header comes before the transport header.
    pub const IS_IPV6: i16 = -91;
}

/// Offset of `gso_size` in `struct __sk_buff`.
const SKB_GSO_SIZE: i16 = 176;
/// Tags in the frame that are passed over; with more, nothing is mended.
const TAGS_MAX: usize = 3;
/// Extension headers that are followed; behind more, nothing is mended.
const EXTENSIONS_MAX: usize = 5;

/// A transport protocol that has a checksum.
struct Kind {
    proto: i32,
    wanted: Checksums,
    header_len: i32,
    field: i32,
}

const UDP: i32 = 17;
const UDPLITE: i32 = 136;
const ICMP: i32 = 1;
const IGMP: i32 = 2;

/// SCTP is refused before: no program can compute a CRC-32c.
fn kinds(ipv6: bool, update: Checksums) -> Vec<Kind> {
    let kind = |proto, wanted, header_len, field| Kind { proto, wanted, header_len, field };
    let mut all =
        vec![kind(6, Checksums::TCP, 20, 16), kind(UDP, Checksums::UDP, 8, 6), kind(UDPLITE, Checksums::UDPLITE, 8, 6)];
    if ipv6 {
        all.push(kind(58, Checksums::ICMP, 8, 2));
    } else {
        all.extend([kind(ICMP, Checksums::ICMP, 8, 2), kind(IGMP, Checksums::IGMP, 8, 2)]);
    }
    all.retain(|k| update.has(k.wanted));
    all
}

impl Emit<'_> {
    /// What fails is counted and dropped.
    pub fn csum(&mut self, update: Checksums, counting: Counting) {
        if self.partial && self.stage == Stage::Xdp {
            super::partial::complete(self);
        }
        let (ipv4, ipv6, failed, done) = (self.asm.label(), self.asm.label(), self.asm.label(), self.asm.label());
        self.changed_head();
        self.past_tags(done);
        self.asm.jump32_imm(Cond::Eq, Reg::R0, u32::from(ethertype::IPV4), ipv4);
        self.asm.jump32_imm(Cond::Eq, Reg::R0, u32::from(ethertype::IPV6), ipv6);
        self.asm.jump(done);
        let (transport, header) = (self.asm.label(), self.asm.label());
        self.asm.bind(ipv4);
        self.csum_ipv4(update, failed, [transport, header]);
        self.asm.bind(ipv6);
        self.csum_ipv6(update, failed, [transport, done]);
        if self.asm.is_referenced(transport) {
            self.asm.bind(transport);
            self.transport_put(failed);
            self.asm.load(Size::B, Reg::R1, Reg::R10, local::IS_IPV6);
            self.asm.jump_imm(Cond::Ne, Reg::R1, 0, done);
        }
        self.asm.bind(header);
        if update.has(Checksums::IPV4_HEADER) {
            self.ipv4_header(failed);
        }
        self.asm.jump(done);
        if self.asm.is_referenced(failed) {
            self.asm.bind(failed);
            self.fail(counting);
        }
        self.asm.bind(done);
    }

    /// R0 = the type behind tags that are left in the frame, and where its header is.
    fn past_tags(&mut self, done: Label) {
        let found = self.asm.label();
        let from = if self.stage.direction() == Direction::Ingress { field::NETWORK } else { field::START };
        self.asm.load(Size::W, Reg::R1, Reg::R9, field::NETWORK);
        self.asm.store(Size::W, Reg::R10, local::NETWORK, Reg::R1);
        self.asm.load(Size::W, Reg::R1, Reg::R9, from);
        self.asm.store(Size::W, Reg::R9, field::SCRATCH, Reg::R1);
        self.asm.load(Size::H, Reg::R0, Reg::R9, field::PROTOCOL);
        for _ in 0..TAGS_MAX {
            let tag = self.asm.label();
            self.asm.jump32_imm(Cond::Eq, Reg::R0, u32::from(ethertype::VLAN), tag);
            self.asm.jump32_imm(Cond::Ne, Reg::R0, u32::from(ethertype::QINQ), found);
            self.asm.bind(tag);
            self.asm.load(Size::W, Reg::R1, Reg::R9, from);
            self.asm.store(Size::W, Reg::R9, field::NETWORK, Reg::R1);
            self.asm.load(Size::W, Reg::R3, Reg::R9, field::SCRATCH);
            self.asm.alu_imm(Alu::Add, Reg::R3, 2);
            self.read(2, done);
            self.asm.be16(Reg::R0);
            self.asm.load(Size::W, Reg::R1, Reg::R9, field::SCRATCH);
            self.asm.alu_imm(Alu::Add, Reg::R1, 4);
            self.asm.store(Size::W, Reg::R9, field::SCRATCH, Reg::R1);
            self.asm.store(Size::W, Reg::R10, local::NETWORK, Reg::R1);
        }
        self.asm.bind(found);
    }

    /// R3 = address of the network header.
    fn network(&mut self) {
        self.asm.load(Size::W, Reg::R3, Reg::R10, local::NETWORK);
        self.bounded(Reg::R3, 60);
    }

    /// To `short` unless so many bytes from the network header (and what R2 holds) are in the frame. R1 is lost.
    fn holds(&mut self, short: Label) {
        self.asm.load(Size::W, Reg::R1, Reg::R10, local::NETWORK);
        self.asm.alu(Alu::Add, Reg::R2, Reg::R1);
        self.asm.load(Size::W, Reg::R1, Reg::R9, field::END);
        self.asm.jump_reg(Cond::Lt, Reg::R1, Reg::R2, short);
    }

    /// `tcf_csum_ipv4()`.
    fn csum_ipv4(&mut self, update: Checksums, failed: Label, [sum, header]: [Label; 2]) {
        self.asm.mov_imm(Reg::R2, 20);
        self.holds(failed);
        self.network();
        let asm = &mut self.asm;
        asm.load(Size::B, Reg::R1, Reg::R3, 0);
        asm.alu_imm(Alu::And, Reg::R1, 0xf);
        asm.alu_imm(Alu::Lsh, Reg::R1, 2);
        asm.store(Size::W, Reg::R10, local::HEADER, Reg::R1);
        asm.load(Size::H, Reg::R1, Reg::R3, 2);
        asm.be16(Reg::R1);
        asm.store(Size::W, Reg::R10, local::TOTAL, Reg::R1);
        asm.load(Size::B, Reg::R4, Reg::R3, 9);
        asm.store(Size::W, Reg::R10, local::PROTO, Reg::R4);
        asm.load(Size::H, Reg::R1, Reg::R3, 6);
        asm.be16(Reg::R1);
        asm.alu_imm(Alu::And, Reg::R1, 0x1fff);
        asm.jump_imm(Cond::Ne, Reg::R1, 0, header);
        self.transports(false, update, failed, [sum, header]);
        self.asm.jump(header);
    }

    /// `ip_send_check()`; x86 adds nothing for a header that is too short, and takes its first word as it is.
    fn ipv4_header(&mut self, failed: Label) {
        let (sum, have, within) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.network();
        self.asm.store_imm(Size::H, Reg::R3, 10, 0);
        self.asm.load(Size::W, Reg::R4, Reg::R10, local::HEADER);
        self.asm.load(Size::H, Reg::R0, Reg::R3, 0);
        self.asm.jump_imm(Cond::Gt, Reg::R4, 16, sum);
        self.asm.jump(have);
        self.asm.bind(sum);
        self.asm.load(Size::W, Reg::R3, Reg::R10, local::NETWORK);
        self.asm.alu(Alu::Add, Reg::R4, Reg::R3);
        self.asm.load(Size::W, Reg::R1, Reg::R9, field::END);
        self.asm.jump_reg(Cond::Le, Reg::R4, Reg::R1, within);
        self.asm.mov(Reg::R4, Reg::R1);
        self.asm.bind(within);
        self.asm.mov_imm(Reg::R5, 0);
        self.sum(failed);
        self.asm.alu32_imm(Alu::Xor, Reg::R0, 0xffff);
        self.asm.bind(have);
        self.network();
        self.asm.store(Size::H, Reg::R3, 10, Reg::R0);
    }

    /// R0 = the folded sum of what is between R3 and R4, and R5.
    pub fn sum(&mut self, failed: Label) {
        let sum = self.subs.sum;
        self.call(sum);
        self.asm.jump_imm(Cond::Eq, Reg::R0, -1, failed);
    }

    /// `tcf_csum_ipv6()`. Options are not looked into: a jumbo frame is longer than any that gets here.
    fn csum_ipv6(&mut self, update: Checksums, failed: Label, [sum, done]: [Label; 2]) {
        self.asm.mov_imm(Reg::R2, 40);
        self.holds(failed);
        self.network();
        let asm = &mut self.asm;
        asm.load(Size::H, Reg::R1, Reg::R3, 4);
        asm.be16(Reg::R1);
        asm.alu_imm(Alu::Add, Reg::R1, 40);
        asm.store(Size::W, Reg::R10, local::TOTAL, Reg::R1);
        asm.load(Size::B, Reg::R4, Reg::R3, 6);
        asm.store(Size::W, Reg::R10, local::PROTO, Reg::R4);
        asm.store_imm(Size::W, Reg::R10, local::HEADER, 40);
        let found = self.asm.label();
        for _ in 0..=EXTENSIONS_MAX {
            let option = self.asm.label();
            for proto in [0, 43, 60] {
                self.asm.jump_imm(Cond::Eq, Reg::R4, proto, option);
            }
            self.asm.jump(found);
            self.asm.bind(option);
            self.extension(failed, done);
        }
        self.asm.jump(done);
        self.asm.bind(found);
        self.transports(true, update, failed, [sum, done]);
        self.asm.jump(done);
    }

    /// One further; R4 = the next header.
    fn extension(&mut self, failed: Label, done: Label) {
        self.asm.load(Size::W, Reg::R3, Reg::R10, local::NETWORK);
        self.asm.load(Size::W, Reg::R1, Reg::R10, local::HEADER);
        self.asm.alu(Alu::Add, Reg::R3, Reg::R1);
        self.read(2, failed);
        self.asm.mov(Reg::R4, Reg::R0);
        self.asm.be16(Reg::R4);
        self.asm.mov(Reg::R2, Reg::R4);
        self.asm.alu_imm(Alu::And, Reg::R2, 0xff);
        self.asm.alu_imm(Alu::Add, Reg::R2, 1);
        self.asm.alu_imm(Alu::Lsh, Reg::R2, 3);
        self.asm.alu_imm(Alu::Rsh, Reg::R4, 8);
        self.asm.load(Size::W, Reg::R1, Reg::R10, local::HEADER);
        self.asm.alu(Alu::Add, Reg::R2, Reg::R1);
        self.asm.store(Size::W, Reg::R10, local::HEADER, Reg::R2);
        self.asm.store(Size::W, Reg::R10, local::PROTO, Reg::R4);
        self.holds(failed);
        // Nothing behind it: no transport header.
        self.asm.jump_reg(Cond::Eq, Reg::R1, Reg::R2, done);
    }

    /// The transport header's checksum by protocol (R4): prepares its sum and goes there, or `on` if there is nothing to do.
    fn transports(&mut self, ipv6: bool, update: Checksums, failed: Label, [sum, on]: [Label; 2]) {
        if self.stage != Stage::Xdp {
            // A super-frame's checksums are computed for each segment; it has none now.
            self.asm.load(Size::W, Reg::R1, Reg::R6, SKB_GSO_SIZE);
            self.asm.jump_imm(Cond::Ne, Reg::R1, 0, on);
        }
        for kind in kinds(ipv6, update) {
            self.asm.relay();
            let other = self.asm.label();
            self.asm.jump_imm(Cond::Ne, Reg::R4, kind.proto, other);
            self.transport_sum(&kind, ipv6, failed, on);
            self.asm.jump(sum);
            self.asm.bind(other);
        }
    }

    fn transport_sum(&mut self, kind: &Kind, ipv6: bool, failed: Label, on: Label) {
        // tcf_csum_skb_nextlayer()
        self.asm.load(Size::W, Reg::R2, Reg::R10, local::TOTAL);
        self.holds(failed);
        self.asm.store(Size::W, Reg::R10, local::TO, Reg::R2);
        self.asm.load(Size::W, Reg::R5, Reg::R10, local::TOTAL);
        self.asm.load(Size::W, Reg::R4, Reg::R10, local::HEADER);
        self.asm.mov(Reg::R1, Reg::R4);
        self.asm.alu_imm(Alu::Add, Reg::R1, kind.header_len);
        self.asm.jump_reg(Cond::Lt, Reg::R5, Reg::R1, failed);
        self.asm.alu(Alu::Sub, Reg::R5, Reg::R4);
        self.asm.store(Size::W, Reg::R10, local::LEN, Reg::R5);
        self.asm.load(Size::W, Reg::R3, Reg::R10, local::NETWORK);
        self.asm.alu(Alu::Add, Reg::R3, Reg::R4);
        self.asm.mov(Reg::R1, Reg::R3);
        self.asm.alu_imm(Alu::Add, Reg::R1, kind.field);
        self.asm.store(Size::W, Reg::R10, local::FIELD, Reg::R1);
        // Farther than the head there is no field to write to.
        self.asm.jump_imm(Cond::Gt, Reg::R3, CHUNK - 24, failed);
        self.asm.alu(Alu::Add, Reg::R3, Reg::R9);
        if kind.proto == UDP || kind.proto == UDPLITE {
            self.datagram(kind, on);
        } else {
            self.asm.store_imm(Size::H, Reg::R3, kind.field as i16, 0);
        }
        if ipv6 || !matches!(kind.proto, ICMP | IGMP) {
            self.pseudo(ipv6, kind.proto);
        } else {
            self.asm.mov_imm(Reg::R5, 0);
        }
        let datagram = kind.proto == UDP || kind.proto == UDPLITE;
        self.asm.store(Size::D, Reg::R10, local::SEED, Reg::R5);
        self.asm.store_imm(Size::B, Reg::R10, local::NO_ZERO, i32::from(datagram));
        self.asm.store_imm(Size::B, Reg::R10, local::IS_IPV6, i32::from(ipv6));
    }

    /// Sums up what was prepared, and writes the checksum.
    fn transport_put(&mut self, failed: Label) {
        self.asm.load(Size::W, Reg::R3, Reg::R10, local::NETWORK);
        self.asm.load(Size::W, Reg::R1, Reg::R10, local::HEADER);
        self.asm.alu(Alu::Add, Reg::R3, Reg::R1);
        self.asm.load(Size::W, Reg::R4, Reg::R10, local::TO);
        self.asm.load(Size::D, Reg::R5, Reg::R10, local::SEED);
        let (put, whole) = (self.asm.label(), self.asm.label());
        if self.partial {
            // The device will add the rest: only the pseudo header's sum is due.
            self.asm.load(Size::W, Reg::R1, Reg::R9, field::PARTIAL);
            self.asm.load(Size::W, Reg::R2, Reg::R10, local::FIELD);
            self.asm.jump_reg(Cond::Ne, Reg::R1, Reg::R2, whole);
            self.asm.mov(Reg::R3, Reg::R4);
        }
        self.asm.bind(whole);
        self.sum(failed);
        if self.partial {
            self.asm.load(Size::W, Reg::R1, Reg::R9, field::PARTIAL);
            self.asm.load(Size::W, Reg::R2, Reg::R10, local::FIELD);
            self.asm.jump_reg(Cond::Eq, Reg::R1, Reg::R2, put);
        }
        self.asm.alu32_imm(Alu::Xor, Reg::R0, 0xffff);
        self.asm.load(Size::B, Reg::R1, Reg::R10, local::NO_ZERO);
        self.asm.jump_imm(Cond::Eq, Reg::R1, 0, put);
        self.asm.jump_imm(Cond::Ne, Reg::R0, 0, put);
        self.asm.mov_imm(Reg::R0, 0xffff);
        self.asm.bind(put);
        self.address_of(local::FIELD);
        self.asm.store(Size::H, Reg::R3, 0, Reg::R0);
    }

    fn address_of(&mut self, local: i16) {
        self.asm.load(Size::W, Reg::R3, Reg::R10, local);
        self.bounded(Reg::R3, 4);
    }

    /// UDP and UDP-Lite at R3: how far the sum goes. R5 = bytes that IP has for it.
    fn datagram(&mut self, kind: &Kind, on: Label) {
        let (all, fits) = (self.asm.label(), self.asm.label());
        let asm = &mut self.asm;
        asm.load(Size::H, Reg::R1, Reg::R3, kind.field as i16);
        if kind.proto == UDP {
            // Without a checksum there is none to mend.
            asm.jump_imm(Cond::Eq, Reg::R1, 0, on);
        }
        asm.load(Size::H, Reg::R1, Reg::R3, 4);
        asm.be16(Reg::R1);
        asm.store(Size::W, Reg::R10, local::LEN, Reg::R1);
        asm.store_imm(Size::H, Reg::R3, kind.field as i16, 0);
        if kind.proto == UDP {
            // "obscure": the checksum stays 0.
            asm.jump_reg(Cond::Ne, Reg::R1, Reg::R5, on);
        } else {
            asm.jump_imm(Cond::Eq, Reg::R1, 0, all);
            asm.jump_imm(Cond::Lt, Reg::R1, 8, on);
            asm.jump_reg(Cond::Gt, Reg::R1, Reg::R5, on);
        }
        asm.jump(fits);
        asm.bind(all);
        asm.mov(Reg::R1, Reg::R5);
        asm.bind(fits);
        // The end is as far as the length says.
        asm.load(Size::W, Reg::R2, Reg::R10, local::NETWORK);
        asm.load(Size::W, Reg::R4, Reg::R10, local::HEADER);
        asm.alu(Alu::Add, Reg::R2, Reg::R4);
        asm.alu(Alu::Add, Reg::R2, Reg::R1);
        asm.store(Size::W, Reg::R10, local::TO, Reg::R2);
    }

    /// R5 = the pseudo header's sum, not folded. Addresses are read after the field was cleared: with a short IHL it may lie in them.
    fn pseudo(&mut self, ipv6: bool, proto: i32) {
        self.network();
        let asm = &mut self.asm;
        asm.load(Size::W, Reg::R5, Reg::R10, local::LEN);
        asm.be16(Reg::R5);
        asm.alu_imm(Alu::Add, Reg::R5, i32::from((proto as u16).to_be()));
        let words = if ipv6 { 8..40 } else { 12..20 };
        for at in words.step_by(4) {
            asm.load(Size::W, Reg::R1, Reg::R3, at);
            asm.alu(Alu::Add, Reg::R5, Reg::R1);
        }
    }
}
