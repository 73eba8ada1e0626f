//! u32's `link`: another table's buckets in the place of one node, unrolled. The depth is bounded, so there are no loops.

use super::classify::Level;
use super::emit::Emit;
use super::work::field;
use crate::ebpf::asm::{Alu, Cond, Label, Reg, Size};
use crate::ebpf::verdict::Entry;
use crate::limits::U32_DEPTH_MAX;
use crate::rules::{U32Link, U32Node};

impl Emit<'_> {
    /// Follows a link as `u32_classify()` does and comes back behind it when the table is done.
    pub fn link(&mut self, entry: Entry, link: U32Link, level: Level) {
        if level.depth >= U32_DEPTH_MAX {
            self.asm.jump(level.next);
            return;
        }
        let table = &self.ruleset.u32_tables[link.table as usize];
        self.bucket(link, level, table.buckets.len());
        self.descend(link, level);
        let (done, child) = (self.asm.label(), Level { depth: level.depth + 1, ..level });
        let descent = link.descent;
        if descent.plus.is_some() || descent.variable.is_some() || descent.eat {
            // A base behind the frame's end: as if the table were empty.
            self.base(child.depth);
            self.asm.load(Size::W, Reg::R1, Reg::R9, field::END);
            self.asm.jump_reg(Cond::Ge, Reg::R3, Reg::R1, done);
        }
        self.asm.load(Size::W, Reg::R1, Reg::R9, field::SCRATCH);
        let full: Vec<(u32, &[U32Node])> =
            (0..).zip(&table.buckets).filter(|(_, b)| !b.is_empty()).map(|(n, b)| (n, b.as_slice())).collect();
        self.one_of(entry, &full, child, done);
        self.asm.bind(done);
    }

    /// Into the scratch field: which bucket of the table the frame belongs to.
    fn bucket(&mut self, link: U32Link, level: Level, bucket_count: usize) {
        if bucket_count <= 1 {
            self.asm.store_imm(Size::W, Reg::R9, field::SCRATCH, 0);
            return;
        }
        let mask = link.descent.hash_mask;
        self.base(level.depth);
        self.asm.alu_imm(Alu::Add, Reg::R3, i32::from(link.descent.hash_at));
        self.read(4, level.next);
        self.asm.be32(Reg::R0);
        self.asm.alu32_imm(Alu::And, Reg::R0, mask);
        if mask != 0 {
            self.asm.alu32_imm(Alu::Rsh, Reg::R0, mask.trailing_zeros());
        }
        self.asm.alu32_imm(Alu::And, Reg::R0, bucket_count as u32 - 1);
        self.asm.store(Size::W, Reg::R9, field::SCRATCH, Reg::R0);
    }

    /// The bases of the next depth.
    fn descend(&mut self, link: U32Link, level: Level) {
        let descent = link.descent;
        match descent.variable {
            Some(variable) => {
                self.base(level.depth);
                self.asm.alu_imm(Alu::Add, Reg::R3, i32::from(variable.at));
                self.read(2, level.next);
                self.asm.be16(Reg::R0);
                self.asm.alu32_imm(Alu::And, Reg::R0, u32::from(variable.mask));
                self.asm.alu32_imm(Alu::Rsh, Reg::R0, u32::from(variable.shift));
                self.asm.alu32_imm(Alu::Add, Reg::R0, u32::from(descent.plus.unwrap_or(0)) + 3);
                self.asm.alu32_imm(Alu::And, Reg::R0, !3);
                self.asm.store(Size::W, Reg::R9, field::NEXT_HEADER, Reg::R0);
            }
            None if descent.plus.is_some() => {
                self.asm.store_imm(Size::W, Reg::R9, field::NEXT_HEADER, descent.distance(0));
            }
            None => {}
        }
        self.base(level.depth);
        if descent.eat {
            self.asm.load(Size::W, Reg::R1, Reg::R9, field::NEXT_HEADER);
            self.asm.alu(Alu::Add, Reg::R3, Reg::R1);
            self.asm.store_imm(Size::W, Reg::R9, field::NEXT_HEADER, 0);
        }
        self.asm.store(Size::W, Reg::R9, field::BASES + 4 * (level.depth as i16 + 1), Reg::R3);
    }

    /// The bucket with the number in R1: by halves.
    fn one_of(&mut self, entry: Entry, buckets: &[(u32, &[U32Node])], level: Level, done: Label) {
        self.asm.relay();
        match buckets {
            [] => self.asm.jump(done),
            [(number, nodes)] => {
                self.asm.jump32_imm(Cond::Ne, Reg::R1, *number, done);
                self.u32_nodes(entry, nodes, level);
                self.asm.jump(done);
            }
            _ => {
                let (low, high) = buckets.split_at(buckets.len() / 2);
                let above = self.asm.label();
                self.asm.jump32_imm(Cond::Ge, Reg::R1, high[0].0, above);
                self.one_of(entry, low, level, done);
                self.asm.bind(above);
                self.one_of(entry, high, level, done);
            }
        }
    }
}
