//! The code before classification: the frame's head into the workspace, its tag beside it. It decides nothing.

use super::emit::{Emit, Stage};
use super::work::{self, START, START_TAGGED, field, stack};
use crate::ebpf::asm::{Alu, Asm, Cond, Helper, Label, MapRef, Reg, Size};
use crate::limits::{ETHERNET_LEN, TAGGED_FRAME_LEN_MIN};
use crate::types::{Direction, ethertype};

/// Offsets in `struct xdp_md` and `struct __sk_buff` (include/uapi/linux/bpf.h).
pub(super) const XDP_DATA: i16 = 0;
pub(super) const XDP_DATA_END: i16 = 4;
const SKB_LEN: i16 = 0;
const SKB_PROTOCOL: i16 = 16;
const SKB_VLAN_PRESENT: i16 = 20;
const SKB_VLAN_TCI: i16 = 24;
const SKB_VLAN_PROTO: i16 = 28;
/// Behind the addresses.
const TYPE_AT: i16 = 12;
/// The most that the quick way copies.
const QUICK_LEN_MAX: i32 = 96;

/// Code before classification: R6 = context, R7 = first block of counters, R9 = workspace. What cannot be looked at goes to
/// `untouched`.
pub(super) fn enter(emit: &mut Emit<'_>, untouched: Label) {
    let asm = &mut emit.asm;
    asm.mov(Reg::R6, Reg::R1);
    lookup_array(asm, MapRef::Workspace, 0);
    asm.jump_imm(Cond::Eq, Reg::R0, 0, untouched);
    asm.mov(Reg::R9, Reg::R0);
    lookup_array(asm, MapRef::Counters, 0);
    asm.jump_imm(Cond::Eq, Reg::R0, 0, untouched);
    asm.mov(Reg::R7, Reg::R0);
    asm.call(Helper::KtimeCoarseNs);
    asm.store(Size::D, Reg::R9, field::NOW_NS, Reg::R0);
    asm.store_imm(Size::W, Reg::R9, field::DIRTY, 0);
    asm.store_imm(Size::W, Reg::R9, field::MARK, 0);
    asm.store_imm(Size::W, Reg::R9, field::PARTIAL, 0);
    asm.store_imm(Size::W, Reg::R9, field::TPID, 0);
    asm.store_imm(Size::W, Reg::R9, field::START, START);
    asm.store_imm(Size::W, Reg::R9, field::NETWORK, work::NETWORK);
    match emit.stage {
        Stage::Xdp => xdp(asm, emit.head_end, untouched),
        Stage::Tc(direction) => {
            skb(asm, emit.head_end);
            bytes(asm, direction);
        }
    }
}

/// R0 = address of an element of an array map, or null.
pub(super) fn lookup_array(asm: &mut Asm, map: MapRef, index: i32) {
    asm.store_imm(Size::W, Reg::R10, stack::MAP_KEY, index);
    lookup_key(asm, map);
}

/// As [`lookup_array`], with the index on the stack already.
pub(super) fn lookup_key(asm: &mut Asm, map: MapRef) {
    asm.load_map(Reg::R1, map);
    asm.mov(Reg::R2, Reg::R10);
    asm.alu_imm(Alu::Add, Reg::R2, i32::from(stack::MAP_KEY));
    asm.call(Helper::MapLookup);
}

fn xdp(asm: &mut Asm, head_end: i32, untouched: Label) {
    let (tagged, untagged, slow, loaded) = (asm.label(), asm.label(), asm.label(), asm.label());
    asm.load(Size::W, Reg::R2, Reg::R6, XDP_DATA);
    asm.load(Size::W, Reg::R3, Reg::R6, XDP_DATA_END);
    asm.mov(Reg::R8, Reg::R3);
    asm.alu(Alu::Sub, Reg::R8, Reg::R2);
    asm.mov(Reg::R4, Reg::R2);
    asm.alu_imm(Alu::Add, Reg::R4, ETHERNET_LEN as i32);
    asm.jump_reg(Cond::Gt, Reg::R4, Reg::R3, untouched);
    asm.load(Size::H, Reg::R5, Reg::R2, TYPE_AT);
    asm.be16(Reg::R5);
    asm.jump32_imm(Cond::Eq, Reg::R5, u32::from(ethertype::VLAN), tagged);
    asm.jump32_imm(Cond::Eq, Reg::R5, u32::from(ethertype::QINQ), tagged);

    asm.store_imm(Size::W, Reg::R9, field::ORIGIN, START);
    asm.mov(Reg::R1, Reg::R8);
    asm.alu_imm(Alu::Add, Reg::R1, START);
    asm.store(Size::W, Reg::R9, field::END, Reg::R1);
    let quick_len = (head_end - START + 7) & !7;
    if quick_len <= QUICK_LEN_MAX {
        asm.mov(Reg::R4, Reg::R2);
        asm.alu_imm(Alu::Add, Reg::R4, quick_len);
        asm.jump_reg(Cond::Gt, Reg::R4, Reg::R3, slow);
        for at in (0..quick_len).step_by(8) {
            asm.load(Size::D, Reg::R1, Reg::R2, at as i16);
            asm.store(Size::D, Reg::R9, (START + at) as i16, Reg::R1);
        }
        asm.jump(untagged);
        asm.bind(slow);
    }
    load_head(asm, Helper::XdpLoadBytes, START, head_end);
    asm.jump_imm(Cond::Ne, Reg::R0, 0, untouched);
    asm.jump(untagged);

    asm.bind(tagged);
    // The kernel drops shorter ones before tc (skb_vlan_untag); it will do so if it gets them.
    asm.jump_imm(Cond::Lt, Reg::R8, TAGGED_FRAME_LEN_MIN as i32, untouched);
    asm.store(Size::H, Reg::R9, field::TPID, Reg::R5);
    asm.store_imm(Size::W, Reg::R9, field::ORIGIN, START_TAGGED);
    asm.mov(Reg::R1, Reg::R8);
    asm.alu_imm(Alu::Add, Reg::R1, START_TAGGED);
    asm.store(Size::W, Reg::R9, field::END, Reg::R1);
    load_head(asm, Helper::XdpLoadBytes, START_TAGGED, head_end);
    asm.jump_imm(Cond::Ne, Reg::R0, 0, untouched);
    take_tag(asm);

    asm.bind(untagged);
    protocol(asm, loaded);
    asm.bind(loaded);
    asm.load(Size::H, Reg::R2, Reg::R9, field::TPID);
    let seen = asm.label();
    asm.store(Size::H, Reg::R9, field::PROTOCOL, Reg::R1);
    asm.jump32_imm(Cond::Eq, Reg::R2, 0, seen);
    asm.mov(Reg::R1, Reg::R2);
    asm.bind(seen);
    asm.store(Size::H, Reg::R9, field::SEEN, Reg::R1);
    bytes(asm, Direction::Ingress);
}

/// Bytes of the packet (R8: its length) to where they belong; R0 is not 0 if that failed.
fn load_head(asm: &mut Asm, helper: Helper, origin: i32, head_end: i32) {
    let all = asm.label();
    asm.mov(Reg::R4, Reg::R8);
    asm.jump_imm(Cond::Le, Reg::R4, head_end - origin, all);
    asm.mov_imm(Reg::R4, head_end - origin);
    asm.bind(all);
    asm.mov(Reg::R1, Reg::R6);
    asm.mov_imm(Reg::R2, 0);
    asm.mov(Reg::R3, Reg::R9);
    asm.alu_imm(Alu::Add, Reg::R3, origin);
    // The lower bound that the verifier wants; every frame has an Ethernet header.
    let some = asm.label();
    asm.jump_imm(Cond::Ge, Reg::R4, ETHERNET_LEN as i32, some);
    asm.mov_imm(Reg::R4, ETHERNET_LEN as i32);
    asm.bind(some);
    asm.call(helper);
}

/// `skb_vlan_untag()`: the TCI beside the frame, the addresses up to the type behind the tag.
fn take_tag(asm: &mut Asm) {
    asm.load(Size::H, Reg::R1, Reg::R9, START as i16 + 10);
    asm.be16(Reg::R1);
    asm.store(Size::H, Reg::R9, field::TCI, Reg::R1);
    asm.load(Size::D, Reg::R1, Reg::R9, START_TAGGED as i16);
    asm.load(Size::W, Reg::R2, Reg::R9, START_TAGGED as i16 + 8);
    asm.store(Size::D, Reg::R9, START as i16, Reg::R1);
    asm.store(Size::W, Reg::R9, START as i16 + 8, Reg::R2);
}

/// `eth_type_trans()`: R1 = the type, or 802_2 or 802_3 where there is a length.
fn protocol(asm: &mut Asm, done: Label) {
    asm.load(Size::H, Reg::R1, Reg::R9, START as i16 + TYPE_AT);
    asm.be16(Reg::R1);
    asm.jump32_imm(Cond::Ge, Reg::R1, u32::from(ethertype::MIN), done);
    asm.mov_imm(Reg::R1, i32::from(ethertype::P_802_2));
    asm.load(Size::W, Reg::R2, Reg::R9, field::END);
    asm.jump32_imm(Cond::Lt, Reg::R2, (work::NETWORK + 2) as u32, done);
    asm.load(Size::H, Reg::R2, Reg::R9, work::NETWORK as i16);
    asm.jump32_imm(Cond::Ne, Reg::R2, 0xffff, done);
    asm.mov_imm(Reg::R1, i32::from(ethertype::P_802_3));
}

/// What actions count: at ingress without the Ethernet header. Fixed from here on.
fn bytes(asm: &mut Asm, direction: Direction) {
    asm.load(Size::W, Reg::R1, Reg::R9, field::END);
    asm.alu_imm(Alu::Sub, Reg::R1, if direction == Direction::Ingress { work::NETWORK } else { START });
    asm.store(Size::W, Reg::R9, field::BYTES, Reg::R1);
}

/// From an skb: its tag is beside it already.
fn skb(asm: &mut Asm, head_end: i32) {
    skb_link(asm);
    asm.store_imm(Size::W, Reg::R9, field::ORIGIN, START);
    skb_head(asm, head_end);
}

/// Protocol and tag of an skb.
pub(super) fn skb_link(asm: &mut Asm) {
    let untagged = asm.label();
    asm.load(Size::W, Reg::R1, Reg::R6, SKB_PROTOCOL);
    asm.be16(Reg::R1);
    asm.store(Size::H, Reg::R9, field::PROTOCOL, Reg::R1);
    asm.load(Size::W, Reg::R2, Reg::R6, SKB_VLAN_PRESENT);
    asm.jump32_imm(Cond::Eq, Reg::R2, 0, untagged);
    asm.load(Size::W, Reg::R1, Reg::R6, SKB_VLAN_TCI);
    asm.store(Size::H, Reg::R9, field::TCI, Reg::R1);
    asm.load(Size::W, Reg::R1, Reg::R6, SKB_VLAN_PROTO);
    asm.be16(Reg::R1);
    asm.store(Size::H, Reg::R9, field::TPID, Reg::R1);
    asm.bind(untagged);
    asm.store(Size::H, Reg::R9, field::SEEN, Reg::R1);
}

/// Length and bytes of an skb. R8 is lost.
pub(super) fn skb_head(asm: &mut Asm, head_end: i32) {
    asm.load(Size::W, Reg::R8, Reg::R6, SKB_LEN);
    asm.mov(Reg::R1, Reg::R8);
    asm.alu_imm(Alu::Add, Reg::R1, START);
    asm.store(Size::W, Reg::R9, field::END, Reg::R1);
    load_head(asm, Helper::SkbLoadBytes, START, head_end);
}
