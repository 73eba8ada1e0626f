//! The same rules as a complete forwarder in the kernel: match, rewrite, redirect, drop, pass and count, without a worker.
//!
//! ```text
//! enter     the frame's head into a workspace (map memory), its tag beside it
//! classify  chains, filters, nodes as jumps (or lookups, see [`lookup`]); each counts as `rules::eval` does
//! actions   rewrite the workspace
//! leave     what changed goes back into the packet; then pass, drop, or redirect by a map of devices
//! ```
//!
//! Only [`super::load`] touches the kernel.

mod actions;
mod block;
mod check;
mod classify;
mod csum;
mod dissect;
mod emit;
mod enter;
mod flower;
mod leave;
mod link;
pub(super) mod lookup;
mod nat;
mod partial;
mod rewrite;
mod slots;
pub(super) mod steering;
mod subs;
mod tags;
pub(super) mod work;

pub use emit::Stage;
pub use lookup::{LookedUp, RUN_LEN_MIN};

use std::collections::{BTreeMap, BTreeSet};

use emit::{Emit, Subs, Ways};
use lookup::Tables;
use slots::Slots;
use work::{HEAD_END_MAX, HEAD_END_MIN, NETWORK};

use super::asm::{Asm, Label, Text};
use super::count::{BLOCK_WORDS, BLOCKS_MAX, CounterSlot, Total};
use super::refusal::{Reason, Refusal};
use super::verdict::{Entry, filters, listing, refusal};
use crate::rules::{Action, Classifier, Hook, Ruleset, U32Node};
use crate::types::{DeviceId, PeditHeader};

/// What a program must know besides the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForwardOptions {
    /// Frames may carry partial checksums (the device is a veth): they are completed before the frame is sent on.
    pub partial_checksums: bool,
}

/// A forwarding program with what a loader must know of it.
#[derive(Clone, Debug)]
pub struct ForwardObject {
    /// Where it hangs.
    pub stage: Stage,
    /// The instructions and where map descriptors go.
    pub text: Text,
    /// Outgoing devices: the n-th is number n in the map of devices.
    pub devices: Vec<DeviceId>,
    /// What the slots behind the totals count.
    pub(super) slots: Vec<Option<CounterSlot>>,
    /// Rules that are looked up.
    pub(super) tables: Tables,
}

impl ForwardObject {
    /// Blocks of [`BLOCK_WORDS`] slots that its counter map needs.
    #[must_use]
    pub fn counter_blocks(&self) -> u32 {
        (Total::COUNT + self.slots.len()).div_ceil(BLOCK_WORDS) as u32
    }

    /// How many entries its map of rules has.
    #[must_use]
    pub fn looked_up(&self) -> usize {
        self.tables.entries.len()
    }
}

/// Instructions that the verifier looks at (`BPF_COMPLEXITY_LIMIT_INSNS`, include/linux/bpf.h); some paths twice.
const INSNS_MAX: usize = 400_000;
/// Outgoing devices of one program.
pub const DEVICES_MAX: usize = 256;

/// Makes the program for a hook of a device. A device without rules gets one that passes (and counts) everything.
///
/// Frames come out byte for byte, and are counted, as `rules::eval` says; what it cannot do so is refused.
///
/// # Errors
/// The first rule that cannot be expressed, by name, with what to use instead.
pub fn forward(
    ruleset: &Ruleset,
    device: DeviceId,
    stage: Stage,
    options: ForwardOptions,
) -> Result<ForwardObject, Refusal> {
    let none = Hook { device, direction: stage.direction(), chains: BTreeMap::new() };
    let hook = ruleset.hook(device, stage.direction()).unwrap_or(&none);
    let entries = check::reachable(ruleset, hook);
    check::check(ruleset, hook, stage, &entries)?;
    let make = |key_words| program(ruleset, hook, stage, options, &entries, key_words);
    shortest_keys(make, |object| &object.tables).map_err(|reason| refusal(ruleset, hook, None, reason))
}

/// What `make` makes for this many words of a key in the map of rules, with keys no longer than they must be.
fn shortest_keys<T>(make: impl Fn(usize) -> Result<T, Reason>, tables: impl Fn(&T) -> &Tables) -> Result<T, Reason> {
    let mut key_words = lookup::KEY_WORDS_MAX + 1;
    loop {
        let made = make(key_words)?;
        let tables = tables(&made);
        if tables.entries.is_empty() || tables.key_words == key_words {
            return Ok(made);
        }
        key_words = tables.key_words;
    }
}

fn program(
    ruleset: &Ruleset,
    hook: &Hook,
    stage: Stage,
    options: ForwardOptions,
    entries: &BTreeSet<Entry>,
    key_words: usize,
) -> Result<ForwardObject, Reason> {
    let needs = Needs::of(ruleset, hook, stage, options, entries);
    let (mut emit, untouched) = begin(ruleset, hook, stage, &needs, entries);
    emit.key_words = key_words;
    enter::enter(&mut emit, untouched);
    if needs.partial {
        partial::find(&mut emit);
    }
    if needs.dissects {
        let dissect = emit.subs.dissect;
        emit.call(dissect);
    }
    emit.classify();
    leave::leave(&mut emit, untouched, needs.rewrites);
    subs::subprograms(&mut emit);
    finish(emit)
}

/// A program of which nothing is written yet, and where frames go that are not looked at.
fn begin<'a>(
    ruleset: &'a Ruleset,
    hook: &'a Hook,
    stage: Stage,
    needs: &Needs,
    entries: &BTreeSet<Entry>,
) -> (Emit<'a>, Label) {
    let mut asm = Asm::new();
    let mut label = || asm.label();
    let ways = Ways { pass: label(), drop: label(), redirect: label() };
    let subs = Subs { read: label(), write: label(), sum: label(), dissect: label(), transport: label() };
    let untouched = label();
    let emit = Emit {
        asm,
        ruleset,
        hook,
        stage,
        head_end: needs.head_end,
        slots: Slots::default(),
        devices: Vec::new(),
        chains: BTreeMap::new(),
        ways,
        subs,
        partial: needs.partial,
        dissects: needs.dissects,
        tables: Tables::default(),
        counts: true,
        steers: false,
        key_words: 0,
        entries: entries.clone(),
        too_long: false,
    };
    (emit, untouched)
}

fn finish(emit: Emit<'_>) -> Result<ForwardObject, Reason> {
    let Emit { asm, stage, slots, devices, tables, too_long, .. } = emit;
    let count = Total::COUNT + slots.used.len();
    if count > BLOCKS_MAX * BLOCK_WORDS {
        return Err(Reason::TooManyCounters { count, limit: BLOCKS_MAX * BLOCK_WORDS });
    }
    if devices.len() > DEVICES_MAX {
        return Err(Reason::TooManyDevices { count: devices.len(), limit: DEVICES_MAX });
    }
    let count = asm.len();
    if too_long || count > INSNS_MAX {
        return Err(Reason::TooLarge { count, limit: INSNS_MAX });
    }
    let text = asm.finish().map_err(|far| Reason::TooLarge { count: far.distance, limit: i16::MAX as usize })?;
    Ok(ForwardObject { stage, text, devices, slots: slots.used, tables })
}

/// What the rules of a hook need of the program.
struct Needs {
    head_end: i32,
    dissects: bool,
    rewrites: bool,
    partial: bool,
}

impl Needs {
    fn of(ruleset: &Ruleset, hook: &Hook, stage: Stage, options: ForwardOptions, entries: &BTreeSet<Entry>) -> Self {
        let mut needs = Self { head_end: HEAD_END_MIN, dissects: false, rewrites: false, partial: false };
        let mut sums = false;
        for chain in entries.iter().map(|e| e.chain).collect::<BTreeSet<_>>() {
            for filter in filters(hook, chain) {
                match &filter.classifier {
                    Classifier::U32(nodes) => ruleset.u32_nodes(nodes).into_iter().for_each(|n| needs.node(n)),
                    Classifier::Flower(_) => {
                        needs.dissects = true;
                        needs.reach(partial::HEAD_END);
                    }
                    Classifier::Matchall(_) | Classifier::Fw(_) | Classifier::Basic(_) => {}
                }
                for rule in check::rules_of(ruleset, filter) {
                    for id in listing(ruleset, rule.actions).executed {
                        sums |= needs.action(&ruleset.action(id).action);
                    }
                }
            }
        }
        // In XDP the note of a partial checksum is lost; at tc's hook it is there, but cannot be read.
        needs.partial = if stage == Stage::Xdp { options.partial_checksums } else { sums };
        if needs.partial {
            needs.reach(partial::HEAD_END);
        }
        needs
    }

    fn reach(&mut self, position: i32) {
        self.head_end = self.head_end.max((position + 3) & !3).min(HEAD_END_MAX);
    }

    fn node(&mut self, node: &U32Node) {
        for key in &node.keys {
            self.reach(NETWORK + key.offset.clamp(-NETWORK, NETWORK * 2) + 4);
        }
        if node.link.is_some() {
            self.reach(partial::HEAD_END);
        }
    }

    /// Whether it computes checksums.
    fn action(&mut self, action: &Action) -> bool {
        match action {
            Action::Gact(_) | Action::Mirred(_) | Action::Skbedit(_) | Action::Simple(_) | Action::Police(_) => {
                return false;
            }
            Action::Skbmod(_) | Action::Vlan(_) => {}
            Action::Csum(_) | Action::Nat(_) => {
                self.reach(HEAD_END_MAX);
                self.rewrites = true;
                return true;
            }
            Action::Pedit(pedit) => {
                for key in &pedit.keys {
                    match key.header {
                        PeditHeader::Tcp | PeditHeader::Udp => self.reach(HEAD_END_MAX),
                        PeditHeader::Network | PeditHeader::Ipv4 | PeditHeader::Ipv6 | PeditHeader::Eth => {
                            self.reach(NETWORK + key.offset.clamp(-NETWORK, NETWORK * 2) + 4);
                        }
                    }
                }
            }
        }
        self.rewrites = true;
        false
    }
}
