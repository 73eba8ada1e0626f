//! The code that fetches what a program must know of a frame into the stack (drawn in [`super::layout`]). It decides nothing.

use super::asm::{Alu, Asm, Cond, Helper, Label, MapRef, Reg, Size};
use super::count::Total;
use super::layout::{Layout, slot};
use super::steer::Target;
use crate::limits::{ETHERNET_LEN, TAGGED_FRAME_LEN_MIN, VLAN_TAG_LEN};
use crate::types::ethertype;

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
    let Some((last, _)) = layout.words().last_key_value() else { return };
    let (short, done) = (asm.label(), asm.label());
    need(asm, Reg::R9, last + 4, short);
    for (at, slot) in layout.words() {
        xdp_word(asm, *at, *slot);
    }
    asm.jump(done);

    asm.bind(short);
    // Any value will do, readers check the length first; but the verifier wants one, and one that it does not know.
    asm.load(Size::D, Reg::R1, Reg::R7, Total::Zero.offset());
    for slot in layout.words().values() {
        asm.store(Size::W, Reg::R10, *slot, Reg::R1);
    }
    for (at, slot) in layout.words() {
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
    for (at, slot) in layout.words() {
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
