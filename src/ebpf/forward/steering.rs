//! Steering by rules with u32 hash tables, and by very many: who takes the frame, decided and counted by the forwarder's classifier. It
//! loads nothing.
//!
//! As in [`crate::ebpf::steer`], rules are laid out once to decide, and once to count what the kernel would have counted on the way
//! to "pass".

use std::collections::{BTreeMap, BTreeSet};

use super::emit::Stage;
use super::lookup::Tables;
use super::{ForwardOptions, Needs, begin, enter, shortest_keys, subs};
use crate::ebpf::asm::Text;
use crate::ebpf::count::{CounterSlot, Total, count_total};
use crate::ebpf::refusal::Reason;
use crate::ebpf::steer::{Target, leave, taken};
use crate::ebpf::verdict::Entry;
use crate::rules::{Hook, Ruleset};
use crate::types::Direction;

/// All chains that a frame can reach, and those that only frames could that do not come.
pub(in crate::ebpf) fn every_entry(ruleset: &Ruleset, hook: &Hook) -> BTreeSet<Entry> {
    super::check::reachable(ruleset, hook)
}

/// A program, what its slots count, and what it looks up.
pub(in crate::ebpf) type Parts = (Text, Vec<Option<CounterSlot>>, Tables);

/// The program.
pub(in crate::ebpf) fn steering(
    ruleset: &Ruleset,
    hook: &Hook,
    target: Target,
    entries: &BTreeSet<Entry>,
) -> Result<Parts, Reason> {
    shortest_keys(|key_words| program(ruleset, hook, target, entries, key_words), |(_, _, tables)| tables)
}

fn program(
    ruleset: &Ruleset,
    hook: &Hook,
    target: Target,
    entries: &BTreeSet<Entry>,
    key_words: usize,
) -> Result<Parts, Reason> {
    let stage = match target {
        Target::Xdp => Stage::Xdp,
        Target::DropBehind => Stage::Tc(Direction::Ingress),
    };
    let needs = Needs::of(ruleset, hook, stage, ForwardOptions::default(), entries);
    let (mut emit, untouched) = begin(ruleset, hook, stage, &needs, entries);
    (emit.steers, emit.counts, emit.partial, emit.key_words) = (true, false, false, key_words);
    enter::enter(&mut emit, untouched);
    if needs.dissects {
        let dissect = emit.subs.dissect;
        emit.call(dissect);
    }
    emit.classify();
    emit.asm.bind(emit.ways.drop);
    taken(&mut emit.asm, target);
    emit.asm.bind(untouched);
    leave(&mut emit.asm, target);

    emit.asm.bind(emit.ways.pass);
    let (passed, never) = (emit.asm.label(), emit.asm.label());
    (emit.ways.pass, emit.ways.drop, emit.counts) = (passed, never, true);
    if target == Target::Xdp {
        // The same lookups again; now what they find has its counters.
        (emit.tables.lookups, emit.tables.entries) = (0, BTreeMap::new());
        emit.classify();
    }
    emit.asm.bind(passed);
    count_total(&mut emit.asm, Total::Passed);
    emit.asm.bind(never);
    leave(&mut emit.asm, target);
    subs::subprograms(&mut emit);
    let object = super::finish(emit)?;
    Ok((object.text, object.slots, object.tables))
}
