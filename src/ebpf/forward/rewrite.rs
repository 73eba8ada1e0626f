//! skbmod and pedit as code, on the frame in the workspace.

use super::emit::{Counting, Emit};
use super::work::{ROOM, START, dirty, field};
use crate::ebpf::asm::{Alu, Cond, Label, Reg, Size};
use crate::limits::ETHERNET_LEN;
use crate::rules::Skbmod;
use crate::types::{Direction, MacAddr, PeditHeader, PeditKey, ethertype};

/// How far before the frame an edit may reach (`NET_SKB_PAD`), in bytes.
const HEADROOM: i32 = 64;
/// Stack slot of the transport header's position (u32).
const TRANSPORT: i16 = -28;

impl Emit<'_> {
    /// `tcf_skbmod_act()`. `moved`: the frame's start is not where it was.
    pub fn skbmod(&mut self, edit: &Skbmod, counting: Counting, moved: bool) {
        if edit.ecn {
            return self.ecn(counting);
        }
        let long = self.asm.label();
        // skb_ensure_writable() counts from where skb->data points.
        let from = if self.stage.direction() == Direction::Ingress { field::NETWORK } else { field::START };
        self.asm.load(Size::W, Reg::R1, Reg::R9, field::END);
        self.asm.load(Size::W, Reg::R2, Reg::R9, from);
        self.asm.alu_imm(Alu::Add, Reg::R2, ETHERNET_LEN as i32);
        self.asm.jump_reg(Cond::Ge, Reg::R1, Reg::R2, long);
        self.fail(counting);
        self.asm.bind(long);
        let (frame, at) = if moved { (Reg::R3, 0) } else { (Reg::R9, START as i16) };
        if moved {
            self.address(Reg::R3, field::START, 16);
        }
        if edit.swap_mac {
            for (offset, size) in [(0, Size::W), (4, Size::H)] {
                self.asm.load(size, Reg::R1, frame, at + offset);
                self.asm.load(size, Reg::R2, frame, at + offset + 6);
                self.asm.store(size, frame, at + offset, Reg::R2);
                self.asm.store(size, frame, at + offset + 6, Reg::R1);
            }
        } else {
            for (mac, offset) in [(edit.dmac, 0), (edit.smac, 6)] {
                if let Some(mac) = mac {
                    self.mac(frame, at + offset, mac);
                }
            }
            if let Some(etype) = edit.etype {
                self.asm.store_imm(Size::H, frame, at + 12, i32::from(etype.to_be().cast_signed()));
            }
        }
        self.changed(dirty::LINK);
    }

    fn mac(&mut self, frame: Reg, at: i16, mac: MacAddr) {
        let MacAddr(a, b, c, d, e, f) = mac;
        self.asm.store_imm(Size::W, frame, at, i32::from_ne_bytes([a, b, c, d]));
        self.asm.store_imm(Size::H, frame, at + 4, i32::from(i16::from_ne_bytes([e, f])));
    }

    /// `INET_ECN_set_ce()`: by the outermost protocol, so that tagged frames stay as they are; but a cut IP header drops.
    fn ecn(&mut self, counting: Counting) {
        let (ipv4, ipv6, done) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.asm.load(Size::H, Reg::R1, Reg::R9, field::PROTOCOL);
        self.asm.jump32_imm(Cond::Eq, Reg::R1, u32::from(ethertype::IPV4), ipv4);
        self.asm.jump32_imm(Cond::Eq, Reg::R1, u32::from(ethertype::IPV6), ipv6);
        self.asm.jump(done);

        self.asm.bind(ipv4);
        let long = self.asm.label();
        self.network_has(20, long);
        self.fail(counting);
        self.asm.bind(long);
        self.untagged(done);
        self.address(Reg::R3, field::NETWORK, 20);
        self.asm.load(Size::B, Reg::R1, Reg::R3, 1);
        self.asm.mov(Reg::R2, Reg::R1);
        self.asm.alu_imm(Alu::Add, Reg::R2, 1);
        self.asm.alu_imm(Alu::And, Reg::R2, 3);
        // Not-ECT and CE stay.
        self.asm.jump_imm(Cond::Lt, Reg::R2, 2, done);
        self.asm.alu_imm(Alu::Or, Reg::R1, 3);
        self.asm.store(Size::B, Reg::R3, 1, Reg::R1);
        self.asm.load(Size::H, Reg::R1, Reg::R3, 10);
        self.asm.be16(Reg::R1);
        self.asm.alu(Alu::Add, Reg::R1, Reg::R2);
        self.asm.alu_imm(Alu::Add, Reg::R1, 0xfffb);
        self.asm.mov(Reg::R2, Reg::R1);
        self.asm.alu_imm(Alu::Rsh, Reg::R2, 16);
        self.asm.alu(Alu::Add, Reg::R1, Reg::R2);
        self.asm.be16(Reg::R1);
        self.asm.store(Size::H, Reg::R3, 10, Reg::R1);
        self.changed_head();
        self.asm.jump(done);

        self.asm.bind(ipv6);
        let long = self.asm.label();
        self.network_has(40, long);
        self.fail(counting);
        self.asm.bind(long);
        self.untagged(done);
        self.address(Reg::R3, field::NETWORK, 20);
        self.asm.load(Size::B, Reg::R1, Reg::R3, 1);
        self.asm.mov(Reg::R2, Reg::R1);
        self.asm.alu_imm(Alu::And, Reg::R2, 0x30);
        self.asm.jump_imm(Cond::Eq, Reg::R2, 0, done);
        self.asm.alu_imm(Alu::Or, Reg::R1, 0x30);
        self.asm.store(Size::B, Reg::R3, 1, Reg::R1);
        self.changed_head();
        self.asm.bind(done);
    }

    fn untagged(&mut self, tagged: Label) {
        self.asm.load(Size::H, Reg::R1, Reg::R9, field::TPID);
        self.asm.jump_imm(Cond::Ne, Reg::R1, 0, tagged);
    }

    /// `tcf_pedit_act()`: ends at the first key that has no place in the frame.
    pub fn pedit(&mut self, keys: &[PeditKey]) {
        let end = self.asm.label();
        if self.partial {
            super::partial::complete(self);
        }
        self.changed_head();
        // Edits behind the network header do not move the transport header: it is looked for once.
        let mut known = None;
        for key in keys {
            self.asm.relay();
            self.pedit_key(key, known == Some(key.header), end);
            let stays = matches!(key.header, PeditHeader::Tcp | PeditHeader::Udp) && key.offset >= 0;
            known = stays.then_some(key.header);
        }
        self.asm.bind(end);
    }

    /// `known`: the key before this one found the header.
    fn pedit_key(&mut self, key: &PeditKey, known: bool, end: Label) {
        match key.header {
            PeditHeader::Network | PeditHeader::Ipv4 | PeditHeader::Ipv6 => {
                self.asm.load(Size::W, Reg::R3, Reg::R9, field::NETWORK);
            }
            PeditHeader::Eth => self.asm.load(Size::W, Reg::R3, Reg::R9, field::START),
            PeditHeader::Tcp | PeditHeader::Udp if known => {
                self.asm.load(Size::W, Reg::R3, Reg::R10, TRANSPORT);
            }
            PeditHeader::Tcp | PeditHeader::Udp => {
                self.asm.mov_imm(Reg::R3, if key.header == PeditHeader::Tcp { 6 } else { 17 });
                let transport = self.subs.transport;
                self.call(transport);
                self.asm.jump_imm(Cond::Eq, Reg::R0, -1, end);
                self.asm.mov(Reg::R3, Reg::R0);
                self.asm.store(Size::W, Reg::R10, TRANSPORT, Reg::R3);
            }
        }
        // R3 = where the word is.
        if key.offmask != 0 {
            self.asm.store(Size::W, Reg::R9, field::SCRATCH, Reg::R3);
            self.asm.alu_imm(Alu::Add, Reg::R3, key.at);
            self.read(1, end);
            self.asm.alu32_imm(Alu::And, Reg::R0, key.offmask & 0xff);
            self.asm.alu32_imm(Alu::Rsh, Reg::R0, key.shift.min(31));
            self.asm.alu_imm(Alu::Add, Reg::R0, key.offset);
            self.asm.mov(Reg::R1, Reg::R0);
            self.asm.alu_imm(Alu::And, Reg::R1, 3);
            self.asm.jump_imm(Cond::Ne, Reg::R1, 0, end);
            self.asm.load(Size::W, Reg::R3, Reg::R9, field::SCRATCH);
            self.asm.alu(Alu::Add, Reg::R3, Reg::R0);
        } else if key.offset % 4 != 0 {
            self.asm.jump(end);
            return;
        } else {
            self.asm.alu_imm(Alu::Add, Reg::R3, key.offset);
        }
        self.edit(key, end);
    }

    /// Changes the word at position R3.
    fn edit(&mut self, key: &PeditKey, end: Label) {
        let (far, lost, done) = (self.asm.label(), self.asm.label(), self.asm.label());
        // Neither before the headroom nor behind the frame; both by comparison of signed numbers moved up.
        let up = 1 << 20;
        self.asm.load(Size::W, Reg::R2, Reg::R9, field::START);
        self.asm.mov(Reg::R1, Reg::R3);
        self.asm.alu_imm(Alu::Add, Reg::R1, up + HEADROOM);
        self.asm.mov(Reg::R4, Reg::R2);
        self.asm.alu_imm(Alu::Add, Reg::R4, up);
        self.asm.jump_reg(Cond::Lt, Reg::R1, Reg::R4, end);
        self.asm.load(Size::W, Reg::R4, Reg::R9, field::END);
        self.asm.alu_imm(Alu::Add, Reg::R4, up + HEADROOM - 4);
        self.asm.jump_reg(Cond::Gt, Reg::R1, Reg::R4, end);
        self.asm.jump_imm(Cond::Gt, Reg::R1, up + HEADROOM + self.head_end - 4, far);
        // What is before the frame counts as 0, and is lost.
        self.asm.jump_imm(Cond::Lt, Reg::R1, up + HEADROOM + ROOM, lost);
        self.asm.alu_imm(Alu::Sub, Reg::R2, 4);
        self.bounded(Reg::R2, 4);
        self.asm.store_imm(Size::W, Reg::R2, 0, 0);
        self.asm.alu_imm(Alu::Sub, Reg::R1, up + HEADROOM);
        self.bounded(Reg::R1, 4);
        self.asm.load(Size::W, Reg::R2, Reg::R1, 0);
        self.new_word(key);
        self.asm.store(Size::W, Reg::R1, 0, Reg::R2);
        self.asm.jump(done);

        self.asm.bind(far);
        self.asm.store(Size::W, Reg::R9, field::SCRATCH, Reg::R3);
        self.read(4, end);
        self.asm.mov(Reg::R2, Reg::R0);
        self.new_word(key);
        self.asm.mov(Reg::R4, Reg::R2);
        self.asm.load(Size::W, Reg::R3, Reg::R9, field::SCRATCH);
        let write = self.subs.write;
        self.call(write);
        self.asm.bind(lost);
        self.asm.bind(done);
    }

    /// R2 = what becomes of the word R2, as they lie in memory. R3 is lost.
    fn new_word(&mut self, key: &PeditKey) {
        let memory = |word: u32| u32::from_ne_bytes(word.to_be_bytes());
        let (mask, value) = (memory(key.mask), memory(key.value));
        if !key.add {
            self.asm.alu32_imm(Alu::And, Reg::R2, mask);
            self.asm.alu32_imm(Alu::Xor, Reg::R2, value);
            return;
        }
        // The kernel adds in the order of x86.
        self.asm.mov(Reg::R3, Reg::R2);
        self.asm.alu32_imm(Alu::Add, Reg::R3, value);
        self.asm.alu32_imm(Alu::And, Reg::R3, !mask);
        self.asm.alu32_imm(Alu::And, Reg::R2, mask);
        self.asm.alu32(Alu::Xor, Reg::R2, Reg::R3);
    }
}
