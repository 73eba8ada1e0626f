//! The code behind classification: the changed head back into the packet, and the packet on its way. It decides nothing.

use super::emit::{Emit, Stage};
use super::enter::{XDP_DATA, XDP_DATA_END, lookup_key};
use super::work::{CHUNK, NETWORK, START, dirty, field, stack};
use crate::ebpf::asm::{Alu, Cond, Helper, Label, MapRef, Reg, Size};
use crate::ebpf::count::{BLOCK_WORDS, Total, count_total};

const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;
const XDP_REDIRECT: i32 = 4;
const TC_ACT_SHOT: i32 = 2;
/// `TCX_NEXT` (= `TC_ACT_UNSPEC`): the next program, then the kernel's own filters.
const TCX_NEXT: i32 = -1;

/// The ends of the program. `untouched`: what was not looked at.
pub(super) fn leave(emit: &mut Emit<'_>, untouched: Label, rewrites: bool) {
    let ways = emit.ways;
    if emit.asm.is_referenced(ways.redirect) {
        emit.asm.bind(ways.redirect);
        redirect(emit, rewrites);
    }
    emit.asm.bind(ways.pass);
    if rewrites {
        commit(emit);
    }
    count_total(&mut emit.asm, Total::Passed);
    emit.asm.bind(untouched);
    emit.asm.mov_imm(Reg::R0, if emit.stage == Stage::Xdp { XDP_PASS } else { TCX_NEXT });
    emit.asm.exit();
    emit.asm.bind(ways.drop);
    count_total(&mut emit.asm, Total::Taken);
    emit.asm.mov_imm(Reg::R0, if emit.stage == Stage::Xdp { XDP_DROP } else { TC_ACT_SHOT });
    emit.asm.exit();
}

/// Sends the frame out by the device in [`field::DEVICE`], or counts an overlimit if that is not there.
fn redirect(emit: &mut Emit<'_>, rewrites: bool) {
    if emit.partial {
        super::partial::complete(emit);
    }
    if rewrites || emit.partial {
        commit(emit);
    }
    let gone = emit.asm.label();
    let asm = &mut emit.asm;
    count_total(asm, Total::Taken);
    match emit.stage {
        Stage::Xdp => {
            asm.load(Size::W, Reg::R2, Reg::R9, field::DEVICE);
            asm.load_map(Reg::R1, MapRef::Devices);
            asm.mov_imm(Reg::R3, XDP_DROP);
            asm.call(Helper::RedirectMap);
            asm.jump_imm(Cond::Ne, Reg::R0, XDP_REDIRECT, gone);
            asm.exit();
        }
        Stage::Tc(_) => {
            target(emit, gone);
            let asm = &mut emit.asm;
            asm.mov_imm(Reg::R2, 0);
            asm.call(Helper::Redirect);
            asm.exit();
        }
    }
    emit.asm.bind(gone);
    overlimit(emit);
}

/// R1 = number of the device in [`field::DEVICE`] in the kernel; to `gone` if it has none: it is down.
pub(super) fn target(emit: &mut Emit<'_>, gone: Label) {
    let asm = &mut emit.asm;
    asm.load(Size::W, Reg::R1, Reg::R9, field::DEVICE);
    asm.store(Size::W, Reg::R10, stack::MAP_KEY, Reg::R1);
    lookup_key(asm, MapRef::Devices);
    asm.jump_imm(Cond::Eq, Reg::R0, 0, gone);
    asm.load(Size::W, Reg::R1, Reg::R0, 0);
    asm.jump_imm(Cond::Eq, Reg::R1, 0, gone);
}

/// Counts in the slot that [`field::OVERLIMITS`] names, and drops.
fn overlimit(emit: &mut Emit<'_>) {
    let lost = emit.asm.label();
    let asm = &mut emit.asm;
    count_total(asm, Total::Unserved);
    asm.load(Size::W, Reg::R8, Reg::R9, field::OVERLIMITS);
    asm.mov(Reg::R1, Reg::R8);
    asm.alu_imm(Alu::Rsh, Reg::R1, BLOCK_WORDS.trailing_zeros() as i32);
    asm.store(Size::W, Reg::R10, stack::MAP_KEY, Reg::R1);
    lookup_key(asm, MapRef::Counters);
    asm.jump_imm(Cond::Eq, Reg::R0, 0, lost);
    asm.alu_imm(Alu::And, Reg::R8, BLOCK_WORDS as i32 - 1);
    asm.alu_imm(Alu::Lsh, Reg::R8, 3);
    asm.alu(Alu::Add, Reg::R0, Reg::R8);
    asm.load(Size::D, Reg::R1, Reg::R0, 0);
    asm.alu_imm(Alu::Add, Reg::R1, 1);
    asm.store(Size::D, Reg::R0, 0, Reg::R1);
    asm.bind(lost);
    asm.mov_imm(Reg::R0, if emit.stage == Stage::Xdp { XDP_DROP } else { TC_ACT_SHOT });
    emit.asm.exit();
}

/// Writes the changed head into the packet, with the tag in its place (XDP). What cannot be written is dropped. R8 stays.
pub(super) fn commit(emit: &mut Emit<'_>) {
    let (done, lost) = (emit.asm.label(), emit.asm.label());
    emit.asm.load(Size::W, Reg::R1, Reg::R9, field::DIRTY);
    emit.asm.jump_imm(Cond::Eq, Reg::R1, 0, done);
    if emit.stage == Stage::Xdp {
        put_tag_back(emit);
        link_only(emit, done);
        let same = emit.asm.label();
        let asm = &mut emit.asm;
        asm.load(Size::W, Reg::R2, Reg::R9, field::START);
        asm.load(Size::W, Reg::R1, Reg::R9, field::ORIGIN);
        asm.alu(Alu::Sub, Reg::R2, Reg::R1);
        asm.jump_imm(Cond::Eq, Reg::R2, 0, same);
        asm.mov(Reg::R1, Reg::R6);
        asm.call(Helper::XdpAdjustHead);
        asm.jump_imm(Cond::Ne, Reg::R0, 0, lost);
        asm.bind(same);
    }
    let (len_known, whole) = (emit.asm.label(), emit.asm.label());
    let head_end = emit.head_end;
    emit.asm.load(Size::W, Reg::R4, Reg::R9, field::NETWORK);
    emit.asm.load(Size::W, Reg::R1, Reg::R9, field::DIRTY);
    emit.asm.alu_imm(Alu::And, Reg::R1, dirty::HEAD);
    emit.asm.jump_imm(Cond::Eq, Reg::R1, 0, len_known);
    emit.asm.load(Size::W, Reg::R4, Reg::R9, field::END);
    emit.asm.jump_imm(Cond::Le, Reg::R4, head_end, whole);
    emit.asm.mov_imm(Reg::R4, head_end);
    emit.asm.bind(whole);
    emit.asm.bind(len_known);
    emit.address(Reg::R3, field::START, 0);
    let asm = &mut emit.asm;
    asm.load(Size::W, Reg::R5, Reg::R9, field::START);
    asm.alu(Alu::Sub, Reg::R4, Reg::R5);
    asm.alu_imm(Alu::Sub, Reg::R4, 1);
    asm.jump_imm(Cond::Ge, Reg::R4, CHUNK, lost);
    asm.alu_imm(Alu::Add, Reg::R4, 1);
    asm.mov(Reg::R1, Reg::R6);
    asm.mov_imm(Reg::R2, 0);
    asm.mov_imm(Reg::R5, 0);
    asm.call(emit.stage.store());
    emit.asm.jump_imm(Cond::Eq, Reg::R0, 0, done);
    emit.asm.bind(lost);
    let drop = emit.ways.drop;
    emit.asm.jump(drop);
    emit.asm.bind(done);
    emit.asm.store_imm(Size::W, Reg::R9, field::DIRTY, 0);
}

/// `validate_xmit_vlan()`: the tag behind the addresses, which move four bytes ahead.
fn put_tag_back(emit: &mut Emit<'_>) {
    let untagged = emit.asm.label();
    emit.asm.load(Size::H, Reg::R4, Reg::R9, field::TPID);
    emit.asm.jump_imm(Cond::Eq, Reg::R4, 0, untagged);
    emit.asm.load(Size::W, Reg::R3, Reg::R9, field::START);
    emit.asm.alu_imm(Alu::Sub, Reg::R3, 4);
    emit.asm.store(Size::W, Reg::R9, field::START, Reg::R3);
    emit.bounded(Reg::R3, 16);
    let asm = &mut emit.asm;
    asm.load(Size::D, Reg::R1, Reg::R3, 4);
    asm.load(Size::W, Reg::R2, Reg::R3, 12);
    asm.store(Size::D, Reg::R3, 0, Reg::R1);
    asm.store(Size::W, Reg::R3, 8, Reg::R2);
    asm.be16(Reg::R4);
    asm.store(Size::H, Reg::R3, 12, Reg::R4);
    asm.load(Size::H, Reg::R4, Reg::R9, field::TCI);
    asm.be16(Reg::R4);
    asm.store(Size::H, Reg::R3, 14, Reg::R4);
    asm.bind(untagged);
}

/// The common case: new addresses on a frame without tag, written straight into the packet.
fn link_only(emit: &mut Emit<'_>, done: Label) {
    let other = emit.asm.label();
    let asm = &mut emit.asm;
    for (at, usual) in
        [(field::DIRTY, dirty::LINK), (field::START, START), (field::ORIGIN, START), (field::NETWORK, NETWORK)]
    {
        asm.load(Size::W, Reg::R1, Reg::R9, at);
        asm.jump_imm(Cond::Ne, Reg::R1, usual, other);
    }
    asm.load(Size::W, Reg::R2, Reg::R6, XDP_DATA);
    asm.load(Size::W, Reg::R3, Reg::R6, XDP_DATA_END);
    asm.mov(Reg::R4, Reg::R2);
    asm.alu_imm(Alu::Add, Reg::R4, NETWORK - START);
    asm.jump_reg(Cond::Gt, Reg::R4, Reg::R3, other);
    for (at, size) in [(0, Size::D), (8, Size::W), (12, Size::H)] {
        asm.load(size, Reg::R1, Reg::R9, START as i16 + at);
        asm.store(size, Reg::R2, at, Reg::R1);
    }
    asm.jump(done);
    asm.bind(other);
}

/// Reads an skb's bytes into the workspace anew, after somebody else worked on either.
pub(super) fn reload(emit: &mut Emit<'_>) {
    let head_end = emit.head_end;
    let asm = &mut emit.asm;
    asm.store(Size::D, Reg::R10, stack::SAVED, Reg::R8);
    super::enter::skb_head(asm, head_end);
    asm.load(Size::D, Reg::R8, Reg::R10, stack::SAVED);
}
