//! `--mode tc`: a device's rules in the kernel's own tc, by netlink. What is put there is taken away again; frames are the kernel's.
//!
//! Filters of others are never touched: a device that has any is refused. Filters are known as ours by their actions' cookie, so that a
//! start finds what a killed process left.

mod live;
mod units;

pub use live::{KernelTc, Planned};

use std::sync::OnceLock;

use crate::ebpf::load::Tally;
use crate::host::tc::{NetlinkError, Support, probe_kinds};
use crate::rules::Ruleset;
use crate::types::{DeviceId, DeviceKey};

/// Why the kernel's tc cannot have the rules.
#[derive(Debug, thiserror::Error)]
pub enum TcError {
    /// Kinds that the kernel has not.
    #[error(
        "{device}: this kernel's tc has no {kinds}; use --mode auto, which does without, or a kernel that has it (viscum probe lists all)"
    )]
    Lacks {
        /// The device.
        device: DeviceKey,
        /// `classifier flower, action gact`.
        kinds: String,
    },
    /// A rule that cannot be asked for.
    #[error("{place}: {why}; use --mode auto for these rules")]
    Refused {
        /// The rule.
        place: String,
        /// Why.
        why: String,
    },
    /// Filters of somebody else.
    #[error(
        "{device} has filters of somebody else in the kernel ({what}): theirs and ours would meet the same frames. \
         `viscum import --dev {}` shows them; take them away, or use --mode auto",
        .device.name
    )]
    Foreign {
        /// The device.
        device: DeviceKey,
        /// One of them.
        what: String,
    },
    /// A qdisc of somebody else that does not do.
    #[error("{device} has the qdisc {kind} already, and {why}; `tc qdisc del dev {} {kind}` if nobody needs it", .device.name)]
    Qdisc {
        /// The device.
        device: DeviceKey,
        /// `ingress` or `clsact`.
        kind: String,
        /// What stands against it.
        why: &'static str,
    },
    /// The kernel.
    #[error("{device}: {source}")]
    Kernel {
        /// The device.
        device: DeviceKey,
        /// Its answer.
        source: Box<NetlinkError>,
    },
}

/// The classifiers and actions of tc that rules use and this kernel has not, as words; empty: it has all.
///
/// # Errors
/// It cannot be tried, e.g. without CAP_SYS_ADMIN.
pub fn missing_kinds(ruleset: &Ruleset, device: Option<DeviceId>) -> Result<Vec<String>, String> {
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    for (_, _, filter) in ruleset.filters().filter(|(hook, _, _)| device.is_none_or(|d| d == hook.device)) {
        wanted.push(("classifier", filter.classifier.kind()));
        wanted
            .extend(ruleset.filter_actions(filter).into_iter().map(|id| ("action", ruleset.action(id).action.kind())));
    }
    // Tables that nothing links to yet are made as well.
    let tables = ruleset.u32_tables.iter().filter(|t| device.is_none_or(|d| d == t.device));
    let nodes = tables.flat_map(|t| &t.buckets).flatten();
    wanted.extend(nodes.flat_map(|n| &n.actions).map(|id| ("action", ruleset.action(*id).action.kind())));
    wanted.sort_unstable();
    wanted.dedup();
    let has = kinds()?;
    let there = |what: &str, kind: &str| has.iter().any(|s| s.what == what && s.kind == kind && s.present);
    Ok(wanted
        .into_iter()
        .filter(|(what, kind)| !there(what, kind))
        .map(|(what, kind)| format!("{what} {kind}"))
        .collect())
}

/// What this kernel has; tried once.
fn kinds() -> Result<&'static [Support], String> {
    static KINDS: OnceLock<Result<Vec<Support>, String>> = OnceLock::new();
    KINDS.get_or_init(|| probe_kinds().map_err(|e| e.to_string())).as_deref().map_err(Clone::clone)
}

/// Counter words with their values.
type Words = std::collections::BTreeMap<u32, u64>;

fn tally(words: Words) -> Tally {
    use crate::ebpf::SlotKind;
    Tally { words: words.into_iter().map(|(word, value)| (word, (SlotKind::Sum, value))).collect(), ..Tally::default() }
}
