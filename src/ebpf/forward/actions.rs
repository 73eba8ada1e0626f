//! Action lists as code: `tcf_action_exec()` with every control followed when the program is made.

use super::emit::{Counting, Emit, Stage};
use super::slots::action_len;
use super::work::{ROOM, dirty, field};
use crate::ebpf::asm::{Alu, Cond, Helper, Label, Reg, Size};
use crate::ebpf::verdict::{End, Entry, Listing, goto, listing};
use crate::rules::{Action, ActionId, Control, Mirred, MirredMode, Skbedit};
use crate::types::ethertype;

/// Offsets in `struct __sk_buff`.
const SKB_QUEUE_MAPPING: i16 = 12;
const SKB_PRIORITY: i16 = 32;

impl Emit<'_> {
    /// Runs the actions of a rule that matched, and goes where their list ends; `Continue` goes to `on`.
    pub fn actions(&mut self, entry: Entry, actions: &[ActionId], counting: Counting, on: Label) {
        let ruleset = self.ruleset;
        let listing = listing(ruleset, actions);
        if self.steers {
            return self.decide(entry, &listing, counting, on);
        }
        let (mut at, mut moved, mut rewrote) = (counting, false, false);
        for id in &listing.executed {
            let action = &ruleset.action(*id).action;
            if let Action::Mirred(mirred) = action {
                if mirred.mode == MirredMode::Redirect {
                    return self.redirect(mirred, at);
                }
            }
            self.count_action(at);
            match action {
                Action::Gact(gact) => {
                    if gact.control == Control::Shot {
                        return self.fail(at);
                    }
                }
                Action::Mirred(mirred) => self.mirror(mirred, at),
                Action::Skbedit(edit) => self.skbedit(edit, at),
                Action::Skbmod(edit) => {
                    if edit.control == Control::Shot {
                        return self.fail(at);
                    }
                    self.skbmod(edit, at, moved);
                    rewrote |= edit.ecn;
                }
                Action::Csum(csum) => {
                    if csum.control == Control::Shot {
                        return self.fail(at);
                    }
                    self.csum(csum.update, at);
                    rewrote = true;
                }
                Action::Vlan(vlan) => {
                    self.vlan(vlan.op, at);
                    moved = true;
                }
                Action::Nat(nat) => {
                    if nat.control == Control::Shot {
                        return self.fail(at);
                    }
                    self.nat(nat.rule, at);
                    rewrote = true;
                }
                Action::Pedit(pedit) => {
                    self.pedit(&pedit.keys);
                    rewrote = true;
                }
                Action::Simple(_) => {}
                // Refused before.
                Action::Police(_) => {}
            }
            at = at.further(action_len(action));
        }
        let to = |emit: &Self, depth: u32, chain: u32| goto(depth, chain).map_or(emit.ways.drop, |e| emit.chains[&e]);
        let next = match listing.control {
            Control::Pass | Control::Pipe | Control::Jump(_) => self.ways.pass,
            Control::Continue => on,
            Control::Reclassify => to(self, entry.depth, 0),
            Control::GotoChain(chain) => to(self, entry.depth, chain),
            Control::Shot | Control::Stolen | Control::Queued | Control::Trap => self.ways.drop,
        };
        if rewrote && self.dissects && next != self.ways.pass && next != self.ways.drop {
            let dissect = self.subs.dissect;
            self.call(dissect);
        }
        self.asm.jump(next);
    }

    /// Goes where a list ends without doing any of it.
    fn decide(&mut self, entry: Entry, listing: &Listing, counting: Counting, on: Label) {
        let mut at = counting;
        for id in &listing.executed {
            self.count_action(at);
            at = at.further(action_len(&self.ruleset.action(*id).action));
        }
        let next = match listing.end {
            End::Take => self.ways.drop,
            End::Pass => self.ways.pass,
            End::Continue => on,
            End::Goto(chain) => goto(entry.depth, chain).map_or(self.ways.drop, |entry| self.chains[&entry]),
        };
        self.asm.jump(next);
    }

    fn redirect(&mut self, mirred: &Mirred, counting: Counting) {
        self.count_action(counting);
        let device = self.device(mirred.device);
        self.asm.store_imm(Size::W, Reg::R9, field::DEVICE, device);
        match counting.further(super::slots::place::FAILED).slot {
            Ok(slot) => self.asm.store_imm(Size::W, Reg::R9, field::OVERLIMITS, slot as i32),
            Err(further) => {
                self.asm.load(Size::W, Reg::R1, Reg::R9, field::BEST_SLOT);
                self.asm.alu_imm(Alu::Add, Reg::R1, further as i32);
                self.asm.store(Size::W, Reg::R9, field::OVERLIMITS, Reg::R1);
            }
        }
        let redirect = self.ways.redirect;
        self.asm.jump(redirect);
    }

    /// A copy as rewritten so far. The other device's hook may run this program again, on this workspace: it is read anew.
    fn mirror(&mut self, mirred: &Mirred, counting: Counting) {
        let (gone, sent, done) = (self.asm.label(), self.asm.label(), self.asm.label());
        super::leave::commit(self);
        let device = self.device(mirred.device);
        self.asm.store_imm(Size::W, Reg::R9, field::DEVICE, device);
        super::leave::target(self, gone);
        for at in (0..ROOM as i16).step_by(8) {
            self.asm.load(Size::D, Reg::R2, Reg::R9, at);
            self.asm.store(Size::D, Reg::R10, KEPT + at, Reg::R2);
        }
        self.asm.mov(Reg::R2, Reg::R1);
        self.asm.mov(Reg::R1, Reg::R6);
        self.asm.mov_imm(Reg::R3, 0);
        self.asm.call(Helper::CloneRedirect);
        for at in (0..ROOM as i16).step_by(8) {
            self.asm.load(Size::D, Reg::R2, Reg::R10, KEPT + at);
            self.asm.store(Size::D, Reg::R9, at, Reg::R2);
        }
        self.asm.store(Size::W, Reg::R9, field::SCRATCH, Reg::R0);
        super::leave::reload(self);
        self.asm.load(Size::W, Reg::R0, Reg::R9, field::SCRATCH);
        self.asm.jump_imm(Cond::Eq, Reg::R0, 0, sent);
        self.asm.bind(gone);
        self.add_one(counting.further(super::slots::place::FAILED));
        self.asm.jump(done);
        self.asm.bind(sent);
        self.asm.bind(done);
    }

    /// `tcf_skbedit_act()`. In XDP only what later filters see; [`super::check`] refused what the stack would have to see.
    fn skbedit(&mut self, edit: &Skbedit, counting: Counting) {
        let tc = self.stage != Stage::Xdp;
        if let Some(priority) = edit.priority.filter(|_| tc) {
            self.asm.mov_imm(Reg::R1, priority as i32);
            self.asm.store(Size::W, Reg::R6, SKB_PRIORITY, Reg::R1);
        }
        if edit.inheritdsfield {
            self.inherit_ds_field(counting);
        }
        if let Some(queue) = edit.queue_mapping.filter(|_| tc) {
            self.asm.mov_imm(Reg::R1, i32::from(queue));
            self.asm.store(Size::W, Reg::R6, SKB_QUEUE_MAPPING, Reg::R1);
        }
        if let Some((mark, mask)) = edit.mark {
            self.mark();
            self.asm.alu32_imm(Alu::And, Reg::R1, !mask);
            self.asm.alu32_imm(Alu::Or, Reg::R1, mark & mask);
            match self.stage {
                Stage::Xdp => self.asm.store(Size::W, Reg::R9, field::MARK, Reg::R1),
                Stage::Tc(_) => self.asm.store(Size::W, Reg::R6, super::classify::SKB_MARK, Reg::R1),
            }
        }
        if let Some(ptype) = edit.ptype.filter(|_| tc) {
            self.asm.mov(Reg::R1, Reg::R6);
            self.asm.mov_imm(Reg::R2, ptype as i32);
            self.asm.call(Helper::SkbChangeType);
        }
    }

    /// Priority from the DS field; a cut IP header drops.
    fn inherit_ds_field(&mut self, counting: Counting) {
        let (ipv4, ipv6, have, other) = (self.asm.label(), self.asm.label(), self.asm.label(), self.asm.label());
        let (long4, long6) = (self.asm.label(), self.asm.label());
        self.asm.load(Size::H, Reg::R1, Reg::R9, field::PROTOCOL);
        self.asm.jump32_imm(Cond::Eq, Reg::R1, u32::from(ethertype::IPV4), ipv4);
        self.asm.jump32_imm(Cond::Eq, Reg::R1, u32::from(ethertype::IPV6), ipv6);
        self.asm.jump(other);
        self.asm.bind(ipv4);
        self.network_has(20, long4);
        self.fail(counting);
        self.asm.bind(ipv6);
        self.network_has(40, long6);
        self.fail(counting);
        self.asm.bind(long4);
        self.address(Reg::R2, field::NETWORK, 4);
        self.asm.load(Size::B, Reg::R1, Reg::R2, 1);
        self.asm.jump(have);
        self.asm.bind(long6);
        self.address(Reg::R2, field::NETWORK, 4);
        self.asm.load(Size::H, Reg::R1, Reg::R2, 0);
        self.asm.be16(Reg::R1);
        self.asm.alu32_imm(Alu::Rsh, Reg::R1, 4);
        self.asm.alu32_imm(Alu::And, Reg::R1, 0xff);
        self.asm.bind(have);
        self.asm.alu32_imm(Alu::Rsh, Reg::R1, 2);
        if self.stage != Stage::Xdp {
            self.asm.store(Size::W, Reg::R6, SKB_PRIORITY, Reg::R1);
        }
        self.asm.bind(other);
    }

    /// Goes to `long` if so many bytes from the network header are in the frame. R1 and R2 are lost.
    pub fn network_has(&mut self, len: i32, long: Label) {
        self.asm.load(Size::W, Reg::R1, Reg::R9, field::END);
        self.asm.load(Size::W, Reg::R2, Reg::R9, field::NETWORK);
        self.asm.alu_imm(Alu::Add, Reg::R2, len);
        self.asm.jump_reg(Cond::Ge, Reg::R1, Reg::R2, long);
    }

    /// Notes that what the workspace holds of the network layer differs from the packet.
    pub fn changed_head(&mut self) {
        self.changed(dirty::HEAD);
    }
}

/// Where the workspace's fields are put away while a copy is sent.
const KEPT: i16 = -96 - ROOM as i16;
