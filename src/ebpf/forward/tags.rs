//! The action `vlan` as code: `tcf_vlan_act()`; in XDP on the workspace, at tc's hook by the kernel's own functions.

use super::emit::{Counting, Emit, Stage};
use super::work::{self, START, dirty, field};
use crate::ebpf::asm::{Alu, Cond, Helper, Label, Reg, Size};
use crate::limits::{ETHERNET_LEN, NETWORK_OFFSET_MAX};
use crate::types::{VLAN_ID_MASK, VLAN_PRIORITY_MASK, VlanOp, ethertype};

impl Emit<'_> {
    /// What fails is counted and dropped. `pop_eth` and `push_eth` are refused before.
    pub fn vlan(&mut self, op: VlanOp, counting: Counting) {
        match self.stage {
            Stage::Xdp => self.vlan_xdp(op, counting),
            Stage::Tc(_) => self.vlan_tc(op, counting),
        }
    }

    fn vlan_xdp(&mut self, op: VlanOp, counting: Counting) {
        let (done, changed) = (self.asm.label(), self.asm.label());
        self.asm.load(Size::H, Reg::R4, Reg::R9, field::TPID);
        match op {
            VlanOp::Pop => {
                let inner = self.asm.label();
                self.asm.store_imm(Size::H, Reg::R9, field::TPID, 0);
                self.asm.jump_imm(Cond::Ne, Reg::R4, 0, inner);
                self.inner_tag(done);
                self.remove_tag(counting);
                self.asm.bind(inner);
                self.inner_tag(changed);
                self.remove_tag(counting);
                self.asm.store(Size::H, Reg::R9, field::TPID, Reg::R4);
                self.asm.store(Size::H, Reg::R9, field::TCI, Reg::R5);
            }
            VlanOp::Push { tpid, tci } => {
                let untagged = self.asm.label();
                self.asm.jump_imm(Cond::Eq, Reg::R4, 0, untagged);
                self.insert_tag(counting);
                self.asm.bind(untagged);
                self.asm.store_imm(Size::H, Reg::R9, field::TPID, tpid.into());
                self.asm.store_imm(Size::H, Reg::R9, field::TCI, tci.into());
            }
            VlanOp::Modify { tpid, id, priority } => {
                let tagged = self.asm.label();
                self.asm.load(Size::H, Reg::R5, Reg::R9, field::TCI);
                self.asm.jump_imm(Cond::Ne, Reg::R4, 0, tagged);
                self.inner_tag(done);
                self.remove_tag(counting);
                self.asm.bind(tagged);
                self.modified(id, priority);
                self.asm.store_imm(Size::H, Reg::R9, field::TPID, tpid.into());
                self.asm.store(Size::H, Reg::R9, field::TCI, Reg::R5);
            }
            VlanOp::PopEth | VlanOp::PushEth { .. } => {}
        }
        self.asm.bind(changed);
        self.changed(dirty::LINK);
        self.asm.bind(done);
        let tagged = self.asm.label();
        self.asm.load(Size::H, Reg::R1, Reg::R9, field::TPID);
        self.asm.jump_imm(Cond::Ne, Reg::R1, 0, tagged);
        self.asm.load(Size::H, Reg::R1, Reg::R9, field::PROTOCOL);
        self.asm.bind(tagged);
        self.asm.store(Size::H, Reg::R9, field::SEEN, Reg::R1);
    }

    /// R4 = `skb->protocol` if that is a tag's, else to `other`.
    fn inner_tag(&mut self, other: Label) {
        let tag = self.asm.label();
        self.asm.load(Size::H, Reg::R4, Reg::R9, field::PROTOCOL);
        self.asm.jump32_imm(Cond::Eq, Reg::R4, u32::from(ethertype::VLAN), tag);
        self.asm.jump32_imm(Cond::Ne, Reg::R4, u32::from(ethertype::QINQ), other);
        self.asm.bind(tag);
    }

    /// `__skb_vlan_pop()`: the tag behind the addresses out of the frame; R5 = its TCI. R4 stays.
    fn remove_tag(&mut self, counting: Counting) {
        let (long, behind, known) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.asm.load(Size::W, Reg::R1, Reg::R9, field::END);
        self.asm.load(Size::W, Reg::R3, Reg::R9, field::START);
        self.asm.alu(Alu::Sub, Reg::R1, Reg::R3);
        self.asm.jump_imm(Cond::Ge, Reg::R1, 18, long);
        self.fail(counting);
        self.asm.bind(long);
        let asm = &mut self.asm;
        asm.mov(Reg::R1, Reg::R3);
        asm.alu_imm(Alu::Add, Reg::R1, 4);
        asm.store(Size::W, Reg::R9, field::START, Reg::R1);
        // The network header is at least behind the Ethernet header.
        asm.alu_imm(Alu::Add, Reg::R1, ETHERNET_LEN as i32);
        asm.load(Size::W, Reg::R2, Reg::R9, field::NETWORK);
        asm.jump_reg(Cond::Ge, Reg::R2, Reg::R1, behind);
        asm.store(Size::W, Reg::R9, field::NETWORK, Reg::R1);
        asm.bind(behind);
        self.bounded(Reg::R3, 24);
        let asm = &mut self.asm;
        asm.load(Size::H, Reg::R5, Reg::R3, 14);
        asm.be16(Reg::R5);
        asm.load(Size::D, Reg::R1, Reg::R3, 0);
        asm.load(Size::W, Reg::R2, Reg::R3, 8);
        asm.store(Size::D, Reg::R3, 4, Reg::R1);
        asm.store(Size::W, Reg::R3, 12, Reg::R2);
        // eth_type_trans()
        asm.load(Size::H, Reg::R1, Reg::R3, 16);
        asm.be16(Reg::R1);
        asm.jump32_imm(Cond::Ge, Reg::R1, u32::from(ethertype::MIN), known);
        asm.mov_imm(Reg::R1, i32::from(ethertype::P_802_2));
        asm.load(Size::H, Reg::R2, Reg::R3, 18);
        asm.jump32_imm(Cond::Ne, Reg::R2, 0xffff, known);
        asm.load(Size::W, Reg::R2, Reg::R9, field::END);
        asm.load(Size::W, Reg::R3, Reg::R9, field::START);
        asm.alu(Alu::Sub, Reg::R2, Reg::R3);
        asm.jump_imm(Cond::Lt, Reg::R2, 16, known);
        asm.mov_imm(Reg::R1, i32::from(ethertype::P_802_3));
        asm.bind(known);
        asm.store(Size::H, Reg::R9, field::PROTOCOL, Reg::R1);
    }

    /// `__vlan_insert_tag()`: the tag beside the frame (R4: its TPID) into it.
    fn insert_tag(&mut self, counting: Counting) {
        let room = self.asm.label();
        let asm = &mut self.asm;
        asm.load(Size::W, Reg::R3, Reg::R9, field::START);
        asm.alu_imm(Alu::Sub, Reg::R3, 4);
        asm.load(Size::W, Reg::R1, Reg::R9, field::NETWORK);
        asm.alu(Alu::Sub, Reg::R1, Reg::R3);
        asm.jump_imm(Cond::Le, Reg::R1, NETWORK_OFFSET_MAX as i32, room);
        self.fail(counting);
        self.asm.bind(room);
        self.asm.store(Size::W, Reg::R9, field::START, Reg::R3);
        self.asm.store(Size::H, Reg::R9, field::PROTOCOL, Reg::R4);
        self.bounded(Reg::R3, 24);
        let asm = &mut self.asm;
        asm.load(Size::D, Reg::R1, Reg::R3, 4);
        asm.load(Size::W, Reg::R2, Reg::R3, 12);
        asm.store(Size::D, Reg::R3, 0, Reg::R1);
        asm.store(Size::W, Reg::R3, 8, Reg::R2);
        asm.be16(Reg::R4);
        asm.store(Size::H, Reg::R3, 12, Reg::R4);
        asm.load(Size::H, Reg::R4, Reg::R9, field::TCI);
        asm.be16(Reg::R4);
        asm.store(Size::H, Reg::R3, 14, Reg::R4);
    }

    /// [`VlanOp::modified`] of R5.
    fn modified(&mut self, id: u16, priority: Option<u8>) {
        let kept = !VLAN_ID_MASK & if priority.is_some() { !VLAN_PRIORITY_MASK } else { u16::MAX };
        self.asm.alu32_imm(Alu::And, Reg::R5, u32::from(kept));
        self.asm.alu32_imm(Alu::Or, Reg::R5, u32::from(id | u16::from(priority.unwrap_or(0)) << 13));
    }

    fn vlan_tc(&mut self, op: VlanOp, counting: Counting) {
        let (done, failed) = (self.asm.label(), self.asm.label());
        super::leave::commit(self);
        match op {
            VlanOp::Pop => self.skb_pop(failed),
            VlanOp::Push { tpid, tci } => {
                // The same bound as everywhere; the kernel has none.
                let room = self.asm.label();
                self.asm.load(Size::H, Reg::R1, Reg::R9, field::TPID);
                self.asm.jump_imm(Cond::Eq, Reg::R1, 0, room);
                self.asm.load(Size::W, Reg::R1, Reg::R9, field::NETWORK);
                self.asm.jump_imm(Cond::Gt, Reg::R1, START + NETWORK_OFFSET_MAX as i32 - 4, failed);
                self.asm.bind(room);
                self.asm.mov_imm(Reg::R3, tci.into());
                self.skb_push(tpid, failed);
            }
            VlanOp::Modify { tpid, id, priority } => {
                let (tagged, know) = (self.asm.label(), self.asm.label());
                self.asm.load(Size::H, Reg::R5, Reg::R9, field::TCI);
                self.asm.load(Size::H, Reg::R4, Reg::R9, field::TPID);
                self.asm.jump_imm(Cond::Ne, Reg::R4, 0, tagged);
                self.inner_tag(done);
                self.asm.load(Size::H, Reg::R5, Reg::R9, START as i16 + ETHERNET_LEN as i16);
                self.asm.be16(Reg::R5);
                self.asm.jump(know);
                self.asm.bind(tagged);
                self.asm.bind(know);
                self.modified(id, priority);
                self.asm.store(Size::W, Reg::R9, field::SCRATCH, Reg::R5);
                self.skb_pop(failed);
                self.asm.load(Size::W, Reg::R3, Reg::R9, field::SCRATCH);
                self.skb_push(tpid, failed);
            }
            VlanOp::PopEth | VlanOp::PushEth { .. } => {}
        }
        let fine = self.asm.label();
        self.asm.jump(fine);
        self.asm.bind(failed);
        self.fail(counting);
        self.asm.bind(fine);
        self.moved_by_kernel();
        self.asm.bind(done);
    }

    fn skb_pop(&mut self, failed: Label) {
        self.asm.mov(Reg::R1, Reg::R6);
        self.asm.call(Helper::SkbVlanPop);
        self.asm.jump_imm(Cond::Ne, Reg::R0, 0, failed);
    }

    /// With the TCI in R3.
    fn skb_push(&mut self, tpid: u16, failed: Label) {
        self.asm.mov(Reg::R1, Reg::R6);
        self.asm.mov_imm(Reg::R2, i32::from(tpid.to_be()));
        self.asm.call(Helper::SkbVlanPush);
        self.asm.jump_imm(Cond::Ne, Reg::R0, 0, failed);
    }

    /// Reads the frame anew; its network header moved by as much as it grew, and is behind the Ethernet header at least.
    fn moved_by_kernel(&mut self) {
        let behind = self.asm.label();
        self.asm.load(Size::W, Reg::R1, Reg::R9, field::NETWORK);
        self.asm.load(Size::W, Reg::R2, Reg::R9, field::END);
        self.asm.alu(Alu::Sub, Reg::R1, Reg::R2);
        self.asm.store(Size::W, Reg::R9, field::SCRATCH, Reg::R1);
        self.asm.store_imm(Size::W, Reg::R9, field::TPID, 0);
        super::enter::skb_link(&mut self.asm);
        super::leave::reload(self);
        let asm = &mut self.asm;
        asm.load(Size::W, Reg::R1, Reg::R9, field::SCRATCH);
        asm.load(Size::W, Reg::R2, Reg::R9, field::END);
        asm.alu32(Alu::Add, Reg::R1, Reg::R2);
        asm.jump32_imm(Cond::Ge, Reg::R1, work::NETWORK as u32, behind);
        asm.mov_imm(Reg::R1, work::NETWORK);
        asm.bind(behind);
        asm.store(Size::W, Reg::R9, field::NETWORK, Reg::R1);
    }
}
