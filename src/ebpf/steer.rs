//! The programs as a whole: does the ingress hook of a device take this frame? It loads nothing.

use std::collections::BTreeMap;

use super::asm::{Alu, Asm, Cond, Helper, Label, MapRef, Reg, Size, Text};
use super::classify::Classify;
use super::count::{BLOCK_WORDS, BLOCKS_MAX, CounterSlot, Slots, Total, count_total};
use super::dissect::dissect;
use super::forward::lookup::{Tables, looked_up};
use super::forward::steering::{every_entry, steering};
use super::frame::prologue;
use super::layout::{Layout, can_dissect, slot};
use super::refusal::{Reason, Refusal};
use super::verdict::{check, reachable, refusal, takes};
use crate::rules::{Classifier, Hook, Ruleset};
use crate::types::{DeviceId, Direction};

/// Which program is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// XDP: taken frames go to the queue's AF_XDP socket.
    Xdp,
    /// tcx or cls_bpf at ingress: taken frames are dropped, a tap has a copy of each.
    DropBehind,
}

/// A program with what a loader must know of it.
#[derive(Clone, Debug)]
pub struct Object {
    /// What it is for.
    pub target: Target,
    /// The instructions and where map descriptors go.
    pub text: Text,
    /// What the slots behind the totals count; `None`: nothing.
    pub counter_words: Vec<Option<CounterSlot>>,
    /// Times of actions are noted in nanoseconds, not milliseconds.
    pub(super) nanoseconds: bool,
    /// Rules that are looked up.
    pub(super) tables: Tables,
    /// Whether it takes any frame; if not, an XDP program only counts.
    pub takes: bool,
}

impl Object {
    /// Blocks of [`BLOCK_WORDS`] slots that its counter map needs.
    #[must_use]
    pub fn counter_blocks(&self) -> u32 {
        (Total::COUNT + self.counter_words.len()).div_ceil(BLOCK_WORDS) as u32
    }
}

/// `XDP_PASS` and `XDP_REDIRECT`, include/uapi/linux/bpf.h.
const XDP_PASS: i32 = 2;
const XDP_REDIRECT: u32 = 4;
/// Offset of `rx_queue_index` in `struct xdp_md`.
const XDP_RX_QUEUE_INDEX: i16 = 16;
/// `TC_ACT_SHOT` and `TCX_NEXT` (= `TC_ACT_UNSPEC`): the next program, then the kernel's own filters.
const TC_ACT_SHOT: i32 = 2;
pub(super) const TCX_NEXT: i32 = -1;
/// Instructions that the verifier looks at (`BPF_COMPLEXITY_LIMIT_INSNS`, include/linux/bpf.h); both copies and some paths twice.
const INSNS_MAX: usize = 500_000;
const NS_PER_MS: i32 = 1_000_000;
/// Fewer rules are tried one after the other: on the stack, without map memory.
const LOOKED_UP_MIN: usize = 64;

/// Makes the program for the ingress hook of a device. A device without rules gets one that passes (and counts) everything.
///
/// What a program passes, the kernel's stack gets as `rules::eval` says; what it takes, `rules::eval` does not give to the
/// stack. An XDP program counts, for what it passes, what `rules::eval` counts.
///
/// # Errors
/// The first rule that cannot be expressed, by name, with what to use instead.
pub fn steer(ruleset: &Ruleset, device: DeviceId, target: Target) -> Result<Object, Refusal> {
    let none = Hook { device, direction: Direction::Ingress, chains: BTreeMap::new() };
    let hook = ruleset.hook(device, Direction::Ingress).unwrap_or(&none);
    check(ruleset, hook, target)?;
    let takes = takes(ruleset, device);
    let whole = |reason| refusal(ruleset, hook, None, reason);
    let links = links(hook);
    if links || (looks_up(ruleset, hook) && check_keys(ruleset, hook).is_ok()) {
        check_keys(ruleset, hook)?;
        let entries = every_entry(ruleset, hook);
        let (text, counter_words, tables) = steering(ruleset, hook, target, &entries).map_err(whole)?;
        return Ok(Object { target, text, counter_words, nanoseconds: true, tables, takes });
    }
    let (text, counter_words) = program(ruleset, hook, target, takes).map_err(whole)?;
    let counter_words = counter_words.into_iter().map(Some).collect();
    Ok(Object { target, text, counter_words, nanoseconds: false, tables: Tables::default(), takes })
}

/// Whether there are so many rules of few shapes that looking them up is quicker than trying them.
fn looks_up(ruleset: &Ruleset, hook: &Hook) -> bool {
    hook.chains.values().map(|chain| looked_up(ruleset, hook, &chain.filters)).sum::<usize>() >= LOOKED_UP_MIN
}

/// Flower keys and kinds of filter that a program with links does not know.
fn check_keys(ruleset: &Ruleset, hook: &Hook) -> Result<(), Refusal> {
    for (chain, filter) in hook.chains.iter().flat_map(|(n, c)| c.filters.iter().map(move |f| (*n, f))) {
        if let Classifier::Basic(rules) = &filter.classifier {
            let reason = Reason::Kind { kind: filter.classifier.kind() };
            let handle = rules.first().map_or(0, |r| r.handle);
            return Err(refusal(ruleset, hook, Some((chain, filter, handle)), reason));
        }
        let Classifier::Flower(rules) = &filter.classifier else { continue };
        for rule in rules {
            can_dissect(&rule.key, filter.protocol)
                .map_err(|reason| refusal(ruleset, hook, Some((chain, filter, rule.handle)), reason))?;
        }
    }
    Ok(())
}

/// Whether a frame can come to another hash table.
fn links(hook: &Hook) -> bool {
    hook.chains.values().flat_map(|c| &c.filters).any(|filter| match &filter.classifier {
        Classifier::U32(nodes) => nodes.iter().any(|n| n.link.is_some()),
        Classifier::Flower(_) | Classifier::Matchall(_) | Classifier::Fw(_) | Classifier::Basic(_) => false,
    })
}

fn program(ruleset: &Ruleset, hook: &Hook, target: Target, takes: bool) -> Result<(Text, Vec<CounterSlot>), Reason> {
    let entries = reachable(ruleset, hook);
    let layout = Layout::of(hook, &ruleset.devices[hook.device.index()].name, &entries)?;
    let mut asm = Asm::new();
    let (untouched, take, pass) = (asm.label(), asm.label(), asm.label());
    let mut slots = Slots::default();
    prologue(&mut asm, &layout, target, untouched);
    dissect(&mut asm, &layout, target);
    if takes {
        let chains = BTreeMap::new();
        Classify { asm: &mut asm, ruleset, hook, layout: &layout, take, pass, slots: None, chains }.emit(&entries);
    } else {
        asm.jump(pass);
    }
    // Before the long copy that counts: jumps reach 32,767 instructions.
    asm.bind(take);
    taken(&mut asm, target);
    asm.bind(untouched);
    leave(&mut asm, target);

    asm.bind(pass);
    let (passed, never) = (asm.label(), asm.label());
    if target == Target::Xdp {
        now_ms(&mut asm);
        let (chains, slots, take) = (BTreeMap::new(), Some(&mut slots), never);
        Classify { asm: &mut asm, ruleset, hook, layout: &layout, take, pass: passed, slots, chains }.emit(&entries);
    }
    asm.bind(passed);
    count_total(&mut asm, Total::Passed);
    asm.bind(never);
    leave(&mut asm, target);
    let count = Total::COUNT + slots.used.len();
    let limit = BLOCKS_MAX * BLOCK_WORDS;
    if count > limit {
        return Err(Reason::TooManyCounters { count, limit });
    }
    let text = asm
        .finish()
        .map_err(|far| Reason::TooLarge { count: far.distance, limit: usize::from(i16::MAX.unsigned_abs()) })?;
    let count = text.insns.len();
    if count > INSNS_MAX {
        return Err(Reason::TooLarge { count, limit: INSNS_MAX });
    }
    Ok((text, slots.used))
}

pub(super) fn leave(asm: &mut Asm, target: Target) {
    asm.mov_imm(Reg::R0, if target == Target::Xdp { XDP_PASS } else { TCX_NEXT });
    asm.exit();
}

/// Milliseconds on the monotonic clock, for the times of actions.
fn now_ms(asm: &mut Asm) {
    asm.call(Helper::KtimeNs);
    asm.alu_imm(Alu::Div, Reg::R0, NS_PER_MS);
    asm.store(Size::D, Reg::R10, slot::NOW_MS, Reg::R0);
}

pub(super) fn taken(asm: &mut Asm, target: Target) {
    count_total(asm, Total::Taken);
    match target {
        Target::Xdp => {
            let served: Label = asm.label();
            asm.load(Size::W, Reg::R2, Reg::R6, XDP_RX_QUEUE_INDEX);
            asm.load_map(Reg::R1, MapRef::Sockets);
            asm.mov_imm(Reg::R3, XDP_PASS);
            asm.call(Helper::RedirectMap);
            asm.jump_imm(Cond::Eq, Reg::R0, XDP_REDIRECT as i32, served);
            count_total(asm, Total::Unserved);
            asm.bind(served);
        }
        Target::DropBehind => asm.mov_imm(Reg::R0, TC_ACT_SHOT),
    }
    asm.exit();
}
