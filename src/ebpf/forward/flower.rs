//! flower as code: `fl_classify()` on what the dissector put into the workspace.

use super::emit::Emit;
use super::lookup::{FlowerPart, flower_parts};
use super::slots::sum;
use super::work::{NETWORK, START, field};
use crate::ebpf::asm::{Alu, Cond, Label, Reg, Size};
use crate::ebpf::dissect::{FOUND_IPV4, FOUND_IPV6};
use crate::ebpf::verdict::Entry;
use crate::rules::NodeWord;
use crate::rules::flower::{FlowerKey, FlowerRule, PortMatch};

/// A part of a flower key as a comparison of masked memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Term {
    /// Offset in the workspace.
    pub at: i16,
    /// Whether it is four bytes, else two.
    pub wide: bool,
    /// As it lies in memory.
    pub mask: u32,
    /// As it lies in memory, masked.
    pub value: u32,
}

impl Emit<'_> {
    pub fn flower_filter(&mut self, entry: Entry, rules: &[FlowerRule], next: Label) {
        for part in flower_parts(rules) {
            match part {
                FlowerPart::Rule(rule) => self.flower_rule(entry, rule, next),
                FlowerPart::Block(block) => self.block(entry, &block, next),
            }
        }
    }

    fn flower_rule(&mut self, entry: Entry, rule: &FlowerRule, next: Label) {
        self.asm.relay();
        if self.too_long {
            return;
        }
        // Addresses of prefix length 0: no frame matches.
        if rule.key.no_address {
            return;
        }
        let miss = self.asm.label();
        for term in terms(&rule.key) {
            self.term(term, miss);
        }
        for (port, at) in [(rule.key.src_port, field::SRC_PORT), (rule.key.dst_port, field::DST_PORT)] {
            if let Some(PortMatch::Range(low, high)) = port {
                self.asm.load(Size::H, Reg::R1, Reg::R9, at);
                self.asm.jump32_imm(Cond::Lt, Reg::R1, u32::from(low), miss);
                self.asm.jump32_imm(Cond::Gt, Reg::R1, u32::from(high), miss);
            }
        }
        let counting = self.rule(&[sum(rule.counters), sum(rule.counters + NodeWord::SUCCESS)], &rule.actions);
        self.add_one(counting);
        self.add_one(counting.further(1));
        self.actions(entry, &rule.actions, counting.further(2), next);
        self.asm.bind(miss);
    }

    /// Goes to `miss` unless it holds.
    pub fn term(&mut self, term: Term, miss: Label) {
        self.load_term(term);
        self.asm.jump32_imm(Cond::Ne, Reg::R1, term.value, miss);
    }

    /// R1 = the masked memory.
    pub fn load_term(&mut self, term: Term) {
        let (size, all) = if term.wide { (Size::W, u32::MAX) } else { (Size::H, 0xffff) };
        self.asm.load(size, Reg::R1, Reg::R9, term.at);
        if term.mask != all {
            self.asm.alu32_imm(Alu::And, Reg::R1, term.mask);
        }
    }
}

/// All of a key but port ranges.
pub(super) fn terms(key: &FlowerKey) -> Vec<Term> {
    let mut terms = Vec::new();
    let mut half =
        |at: i16, mask: u16, value: u16| terms.push(Term { at, wide: false, mask: mask.into(), value: value.into() });
    if let Some(eth_type) = key.eth_type {
        half(field::ETH_TYPE, u16::MAX, eth_type);
    }
    if key.src_ipv4.is_some() || key.dst_ipv4.is_some() {
        half(field::FOUND, u16::MAX, FOUND_IPV4 as u16);
    }
    let [src6, dst6] = key.addresses6();
    if src6.is_some() || dst6.is_some() {
        half(field::FOUND, u16::MAX, FOUND_IPV6 as u16);
    }
    if let Some(proto) = key.ip_proto {
        half(field::IP_PROTO, u16::MAX, proto.into());
    }
    for (port, at) in [(key.src_port, field::SRC_PORT), (key.dst_port, field::DST_PORT)] {
        if let Some(PortMatch::Masked(value, mask)) = port {
            half(at, mask, value);
        }
    }
    if let Some((value, mask)) = key.tcp_flags {
        half(field::TCP_FLAGS, mask, value);
    }
    for (pair, at) in [(key.src_ipv4, NETWORK + 12), (key.dst_ipv4, NETWORK + 16)] {
        if let Some((value, mask)) = pair {
            words(&mut terms, at, &value.octets(), &mask.octets());
        }
    }
    for (pair, at) in [(src6, NETWORK + 8), (dst6, NETWORK + 24)] {
        if let Some((value, mask)) = pair {
            words(&mut terms, at, &value.octets(), &mask.octets());
        }
    }
    for (pair, at) in [(key.dst_mac, START), (key.src_mac, START + 6)] {
        if let Some((value, mask)) = pair {
            words(&mut terms, at, &value[..4], &mask[..4]);
            let two = |bytes: [u8; 6]| u32::from(u16::from_ne_bytes([bytes[4], bytes[5]]));
            let (mask, value) = (two(mask), two(value));
            terms.push(Term { at: at as i16 + 4, wide: false, mask, value: value & mask });
        }
    }
    terms
}

fn words(terms: &mut Vec<Term>, at: i32, value: &[u8], mask: &[u8]) {
    let word = |bytes: &[u8]| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    for (n, (value, mask)) in value.chunks_exact(4).zip(mask.chunks_exact(4)).enumerate() {
        let mask = word(mask);
        terms.push(Term { at: (at + 4 * n as i32) as i16, wide: true, mask, value: word(value) & mask });
    }
}
