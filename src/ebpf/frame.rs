//! Where a program keeps what it must know of a frame, and the code that fetches it. It decides nothing.
//!
//! Everything is fetched once into the stack, so that classification is plain comparison, the same for both targets:
//!
//! ```text
//! fp−8   u64 milliseconds       fp−12  u32 length without outer tag   fp−14  u16 protocol of filters
//! fp−18  u16 EtherType          fp−20  u16 length, at most 65535      fp−22  u16 offset of the network header
//! fp−26… u16 what was dissected fp−40  u32 map key                    fp−44  4 bytes read on the way
//! fp−48… u32 words of the frame, in network order, by their offset in the frame without its outer tag
//! ```
//!
//! The verifier follows 8-aligned slots value by value and would try each combination of comparisons on its own. So the
//! small ones are at other offsets, and so are words, as long as there is room.

use std::collections::{BTreeMap, BTreeSet};

use super::asm::{Alu, Asm, Cond, Helper, Label, MapRef, Reg, Size};
use super::count::Total;
use super::refusal::Reason;
use super::steer::Target;
use super::verdict::{Entry, filters};
use crate::limits::{ETHERNET_LEN, TAGGED_FRAME_LEN_MIN, VLAN_TAG_LEN};
use crate::rules::{Classifier, FlowerKey, Hook};
use crate::types::ethertype;

/// Stack slots, as offsets from the frame pointer.
pub(super) mod slot {
    pub const NOW_MS: i16 = -8;
    pub const DATA_LEN: i16 = -12;
    pub const PROTOCOL: i16 = -14;
    pub const ETH_TYPE: i16 = -18;
    pub const LEN: i16 = -20;
    pub const NETWORK: i16 = -22;
    pub const IP_PROTO: i16 = -26;
    pub const FOUND: i16 = -28;
    pub const SRC_PORT: i16 = -30;
    pub const DST_PORT: i16 = -34;
    pub const TCP_FLAGS: i16 = -36;
    pub const MAP_KEY: i16 = -40;
    pub const SCRATCH: i16 = -44;
    pub const WORDS: i16 = -48;
    pub const END: i16 = -512;
}

/// Farthest word that a program reads, in bytes; offsets of instructions are 16 bits.
pub(super) const WORD_AT_MAX: i32 = 32_000;
/// Offsets in `struct xdp_md` and `struct __sk_buff` (include/uapi/linux/bpf.h).
const XDP_DATA: i16 = 0;
const XDP_DATA_END: i16 = 4;
const SKB_LEN: i16 = 0;
const SKB_PROTOCOL: i16 = 16;
const SKB_VLAN_PRESENT: i16 = 20;
const SKB_VLAN_PROTO: i16 = 28;

const NETWORK: i32 = ETHERNET_LEN as i32;
const TAG: i32 = VLAN_TAG_LEN as i32;
/// Behind the addresses: where the outer tag is.
const TAG_AT: i32 = 12;

/// Which words of the frame are needed, and where on the stack they are.
#[derive(Debug, Default)]
pub(super) struct Layout {
    words: BTreeMap<i32, i16>,
    /// A rule looks at what the dissector finds.
    pub dissect: bool,
    pub dissect_ipv4: bool,
    pub dissect_ipv6: bool,
}

impl Layout {
    /// For all rules that a frame can reach.
    pub fn of(hook: &Hook, entries: &BTreeSet<Entry>) -> Result<Self, Reason> {
        let mut layout = Self::default();
        let mut words = BTreeSet::new();
        for chain in entries.iter().map(|e| e.chain).collect::<BTreeSet<_>>() {
            for filter in filters(hook, chain) {
                match &filter.classifier {
                    Classifier::U32(nodes) => {
                        for key in nodes.iter().flat_map(|n| &n.keys) {
                            words.extend(word_at(key.offset)?);
                        }
                    }
                    Classifier::Flower(rules) => rules.iter().for_each(|r| layout.need(&r.key, &mut words)),
                    Classifier::Matchall(_) => {}
                }
            }
        }
        if layout.dissect_ipv4 {
            words.extend([14, 18, 22]);
        }
        if layout.dissect_ipv6 {
            words.insert(18);
        }
        let slots = (slot::END / 4..=slot::WORDS / 4).rev().map(|n| n * 4);
        let (odd, even): (Vec<i16>, Vec<i16>) = slots.partition(|s| s % 8 != 0);
        let limit = odd.len() + even.len();
        if words.len() > limit {
            return Err(Reason::TooManyWords { count: words.len(), limit });
        }
        layout.words = words.into_iter().zip(odd.into_iter().chain(even)).collect();
        Ok(layout)
    }

    fn need(&mut self, key: &FlowerKey, words: &mut BTreeSet<i32>) {
        let addresses4 = key.src_ipv4.is_some() || key.dst_ipv4.is_some();
        let addresses6 = key.src_ipv6.is_some() || key.dst_ipv6.is_some();
        let upper = key.ip_proto.is_some()
            || key.src_port.is_some()
            || key.dst_port.is_some()
            || key.tcp_flags.is_some()
            || addresses4
            || addresses6;
        self.dissect |= upper;
        self.dissect_ipv4 |= upper && key.eth_type.is_none_or(|t| t == ethertype::IPV4);
        self.dissect_ipv6 |= upper && key.eth_type.is_none_or(|t| t == ethertype::IPV6);
        if addresses4 {
            words.extend([26, 30]);
        }
        if addresses6 {
            words.extend((22..54).step_by(4));
        }
        if key.src_mac.is_some() || key.dst_mac.is_some() {
            words.extend([0, 4, 8]);
        }
    }

    /// Stack slot of the word at this offset of the frame without its outer tag.
    pub fn slot(&self, at: i32) -> i16 {
        self.words[&at]
    }
}

/// A u32 key's place in the frame without its outer tag; `None` before the frame, where nothing can be read.
pub(super) fn word_at(offset: i32) -> Result<Option<i32>, Reason> {
    if offset < -NETWORK {
        return Ok(None);
    }
    if offset > WORD_AT_MAX - NETWORK {
        return Err(Reason::OffsetTooFar { offset, limit: WORD_AT_MAX as u32 });
    }
    Ok(Some(offset + NETWORK))
}

/// Code before classification: R6 = context, R7 = counters, the stack as drawn above. What cannot be looked at goes to `untouched`.
pub(super) fn prologue(asm: &mut Asm, layout: &Layout, target: Target, untouched: Label) {
    asm.mov(Reg::R6, Reg::R1);
    counter_block(asm, 0);
    asm.jump_imm(Cond::Eq, Reg::R0, 0, untouched);
    asm.mov(Reg::R7, Reg::R0);
    match target {
        Target::Xdp => {
            xdp_header(asm, untouched);
            xdp_words(asm, layout);
        }
        Target::DropBehind => {
            skb_header(asm);
            skb_words(asm, layout);
        }
    }
}

/// R0 = address of a block of counters, or null.
pub(super) fn counter_block(asm: &mut Asm, block: i32) {
    asm.mov_imm(Reg::R1, block);
    asm.store(Size::W, Reg::R10, slot::MAP_KEY, Reg::R1);
    asm.load_map(Reg::R1, MapRef::Counters);
    asm.mov(Reg::R2, Reg::R10);
    asm.alu_imm(Alu::Add, Reg::R2, i32::from(slot::MAP_KEY));
    asm.call(Helper::MapLookup);
}

/// Leaves R2 = data, R3 = data_end, R9 = data moved past the tag (all but the addresses is relative to it).
fn xdp_header(asm: &mut Asm, untouched: Label) {
    let (tagged, untagged, known) = (asm.label(), asm.label(), asm.label());
    asm.load(Size::W, Reg::R2, Reg::R6, XDP_DATA);
    asm.load(Size::W, Reg::R3, Reg::R6, XDP_DATA_END);
    asm.mov(Reg::R8, Reg::R3);
    asm.alu(Alu::Sub, Reg::R8, Reg::R2);
    need(asm, Reg::R2, NETWORK, untouched);
    asm.load(Size::H, Reg::R5, Reg::R2, TAG_AT as i16);
    asm.be16(Reg::R5);
    asm.mov(Reg::R9, Reg::R2);
    asm.jump32_imm(Cond::Eq, Reg::R5, u32::from(ethertype::VLAN), tagged);
    asm.jump32_imm(Cond::Ne, Reg::R5, u32::from(ethertype::QINQ), untagged);

    asm.bind(tagged);
    // The kernel drops shorter ones before tc (skb_vlan_untag); it will do so if it gets them.
    need(asm, Reg::R2, TAGGED_FRAME_LEN_MIN as i32, untouched);
    asm.store(Size::H, Reg::R10, slot::PROTOCOL, Reg::R5);
    asm.alu_imm(Alu::Add, Reg::R9, TAG);
    asm.alu_imm(Alu::Sub, Reg::R8, TAG);
    asm.load(Size::H, Reg::R5, Reg::R9, TAG_AT as i16);
    asm.be16(Reg::R5);
    xdp_protocol(asm);
    asm.mov_imm(Reg::R1, NETWORK + TAG);
    asm.jump(known);

    asm.bind(untagged);
    xdp_protocol(asm);
    asm.store(Size::H, Reg::R10, slot::PROTOCOL, Reg::R5);
    asm.mov_imm(Reg::R1, NETWORK);

    asm.bind(known);
    asm.store(Size::H, Reg::R10, slot::NETWORK, Reg::R1);
    asm.store(Size::H, Reg::R10, slot::ETH_TYPE, Reg::R5);
    store_len(asm);
}

/// `eth_type_trans()`: R5 stays an EtherType, or becomes 802_2 or 802_3 where it is a length.
fn xdp_protocol(asm: &mut Asm) {
    let (done, llc) = (asm.label(), asm.label());
    asm.jump32_imm(Cond::Ge, Reg::R5, u32::from(ethertype::MIN), done);
    asm.mov_imm(Reg::R5, i32::from(ethertype::P_802_2));
    need(asm, Reg::R9, NETWORK + 2, done);
    asm.load(Size::H, Reg::R1, Reg::R9, NETWORK as i16);
    asm.jump32_imm(Cond::Ne, Reg::R1, 0xffff, llc);
    asm.mov_imm(Reg::R5, i32::from(ethertype::P_802_3));
    asm.bind(llc);
    asm.bind(done);
}

/// R8 = length without the tag.
fn store_len(asm: &mut Asm) {
    let small = asm.label();
    asm.store(Size::W, Reg::R10, slot::DATA_LEN, Reg::R8);
    asm.jump32_imm(Cond::Le, Reg::R8, 0xffff, small);
    asm.mov_imm(Reg::R8, 0xffff);
    asm.bind(small);
    asm.store(Size::H, Reg::R10, slot::LEN, Reg::R8);
}

/// Goes to `short` unless `len` bytes from `base` are in the frame. R4 is lost.
fn need(asm: &mut Asm, base: Reg, len: i32, short: Label) {
    asm.mov(Reg::R4, base);
    asm.alu_imm(Alu::Add, Reg::R4, len);
    asm.jump_reg(Cond::Gt, Reg::R4, Reg::R3, short);
}

/// All words at once if the frame is long enough, else one after the other until its end.
fn xdp_words(asm: &mut Asm, layout: &Layout) {
    let Some((last, _)) = layout.words.last_key_value() else { return };
    let (short, done) = (asm.label(), asm.label());
    need(asm, Reg::R9, last + 4, short);
    for (at, slot) in &layout.words {
        xdp_word(asm, *at, *slot);
    }
    asm.jump(done);

    asm.bind(short);
    // Any value will do, readers check the length first; but the verifier wants one, and one that it does not know.
    asm.load(Size::D, Reg::R1, Reg::R7, Total::Zero.offset());
    for slot in layout.words.values() {
        asm.store(Size::W, Reg::R10, *slot, Reg::R1);
    }
    for (at, slot) in &layout.words {
        need(asm, Reg::R9, at + 4, done);
        xdp_word(asm, *at, *slot);
    }
    asm.bind(done);
}

fn xdp_word(asm: &mut Asm, at: i32, slot: i16) {
    let base = |at: i32| if at < TAG_AT { Reg::R2 } else { Reg::R9 };
    if base(at) == base(at + 3) {
        asm.load(Size::W, Reg::R1, base(at), at as i16);
        asm.store(Size::W, Reg::R10, slot, Reg::R1);
        return;
    }
    for byte in 0..4 {
        asm.load(Size::B, Reg::R1, base(at + byte), (at + byte) as i16);
        asm.store(Size::B, Reg::R10, slot + byte as i16, Reg::R1);
    }
}

fn skb_header(asm: &mut Asm) {
    let untagged = asm.label();
    asm.load(Size::W, Reg::R1, Reg::R6, SKB_PROTOCOL);
    asm.be16(Reg::R1);
    asm.store(Size::H, Reg::R10, slot::ETH_TYPE, Reg::R1);
    asm.load(Size::W, Reg::R2, Reg::R6, SKB_VLAN_PRESENT);
    asm.jump32_imm(Cond::Eq, Reg::R2, 0, untagged);
    asm.load(Size::W, Reg::R1, Reg::R6, SKB_VLAN_PROTO);
    asm.be16(Reg::R1);
    asm.bind(untagged);
    asm.store(Size::H, Reg::R10, slot::PROTOCOL, Reg::R1);
    asm.mov_imm(Reg::R1, NETWORK);
    asm.store(Size::H, Reg::R10, slot::NETWORK, Reg::R1);
    asm.load(Size::W, Reg::R8, Reg::R6, SKB_LEN);
    store_len(asm);
}

/// Through the helper, which also reads what is not in the linear part; it zeroes what it cannot read.
fn skb_words(asm: &mut Asm, layout: &Layout) {
    for (at, slot) in &layout.words {
        asm.mov_imm(Reg::R2, *at);
        load_bytes(asm, Target::DropBehind, *slot, 4);
    }
}

/// Reads `len` bytes at offset R2 of the frame as it is into the stack; R0 is not 0 if they are not there.
pub(super) fn load_bytes(asm: &mut Asm, target: Target, slot: i16, len: i32) {
    asm.mov(Reg::R1, Reg::R6);
    asm.mov(Reg::R3, Reg::R10);
    asm.alu_imm(Alu::Add, Reg::R3, i32::from(slot));
    asm.mov_imm(Reg::R4, len);
    asm.call(match target {
        Target::Xdp => Helper::XdpLoadBytes,
        Target::DropBehind => Helper::SkbLoadBytes,
    });
}
