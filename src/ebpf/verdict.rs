//! What can be known of a hook without a frame: how each action list ends, which chains are reached. It makes no program.

use std::collections::BTreeSet;

use super::ematch;
use super::refusal::{Reason, Refusal};
use super::steer::Target;
use crate::limits::{ACTIONS_PER_FILTER_MAX, RECLASSIFY_MAX};
use crate::rules::{
    Action, ActionId, Classifier, Control, Filter, FlowerRule, Hook, MatchallRule, MirredMode, Ruleset, U32Node,
};
use crate::types::{DeviceId, Direction, PacketType};

/// How an action list ends. Nothing in it depends on the frame, but for failures that end in a drop as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The kernel's stack must not get the frame.
    Take,
    /// The frame goes to the stack; classification is over.
    Pass,
    /// The next node or filter.
    Continue,
    /// Another chain.
    Goto(u32),
}

/// What an action list executes, and how it ends.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    pub executed: Vec<ActionId>,
    pub control: Control,
    pub end: End,
}

/// Follows `tcf_action_exec()` as far as the controls go; a redirect takes the frame whatever it says.
pub(super) fn listing(ruleset: &Ruleset, actions: &[ActionId]) -> Listing {
    let mut executed = Vec::new();
    let (mut skip, mut jumps) = (0, 0);
    let done = |executed, control, end| Listing { executed, control, end };
    if actions.is_empty() {
        return done(executed, Control::Pass, End::Pass);
    }
    'restart: loop {
        for id in actions.iter().skip(skip) {
            executed.push(*id);
            let action = &ruleset.action(*id).action;
            if is_redirect(action) {
                return done(executed, Control::Stolen, End::Take);
            }
            match action.control() {
                Control::Pipe => {}
                Control::Jump(count) => {
                    jumps += 1;
                    let count = count as usize;
                    if count == 0 || count > actions.len() || jumps >= ACTIONS_PER_FILTER_MAX {
                        return done(executed, Control::Pass, End::Pass);
                    }
                    skip = count;
                    continue 'restart;
                }
                Control::Pass => return done(executed, Control::Pass, End::Pass),
                Control::Continue => return done(executed, Control::Continue, End::Continue),
                Control::GotoChain(chain) => return done(executed, Control::GotoChain(chain), End::Goto(chain)),
                // The same frame makes the same way again until it is dropped for that: RECLASSIFY_MAX.
                control @ (Control::Reclassify | Control::Shot | Control::Stolen | Control::Queued | Control::Trap) => {
                    return done(executed, control, End::Take);
                }
            }
        }
        return done(executed, Control::Pipe, End::Pass);
    }
}

fn is_redirect(action: &Action) -> bool {
    matches!(action, Action::Mirred(m) if m.mode == MirredMode::Redirect)
}

/// A u32 node that can match at all at this device's ingress: mark is 0 there, see [`check_list`].
pub(super) fn mark_can_match(node: &U32Node) -> bool {
    node.mark.is_none_or(|m| m.value == 0)
}

/// Whether a matching node ends in its actions.
pub(super) fn node_acts(node: &U32Node, device: DeviceId) -> bool {
    node.terminal && node.indev.is_none_or(|d| d == device)
}

/// A rule that can match, as far as its actions are concerned.
pub(super) struct Rule<'a> {
    pub handle: u32,
    pub actions: &'a [ActionId],
}

/// The rules of a filter that can match at this device's ingress.
pub(super) fn rules_of<'a>(ruleset: &'a Ruleset, filter: &'a Filter, device: DeviceId) -> Vec<Rule<'a>> {
    match &filter.classifier {
        Classifier::U32(nodes) => ruleset
            .u32_nodes(nodes)
            .into_iter()
            .filter(|n| mark_can_match(n) && node_acts(n, device))
            .map(|n| Rule { handle: n.handle, actions: &n.actions })
            .collect(),
        Classifier::Flower(rules) => {
            rules.iter().map(|r: &FlowerRule| Rule { handle: r.handle, actions: &r.actions }).collect()
        }
        // The mark is 0 there, which no handle can be and no class is.
        Classifier::Fw(_) => Vec::new(),
        Classifier::Basic(rules) => rules.iter().map(|r| Rule { handle: r.handle, actions: &r.actions }).collect(),
        Classifier::Matchall(rule) => rule
            .iter()
            .filter(|r: &&MatchallRule| !r.skip_sw)
            .map(|r| Rule { handle: r.handle, actions: &r.actions })
            .collect(),
    }
}

/// A chain as it is entered: after how many `goto chain`s. Going on is always to a greater depth, so programs have no loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub depth: u32,
    pub chain: u32,
}

/// Where `goto chain` leads from this depth; `None` is the drop after too many.
pub(super) fn goto(depth: u32, chain: u32) -> Option<Entry> {
    (depth < RECLASSIFY_MAX).then_some(Entry { depth: depth + 1, chain })
}

/// All chains that a frame can reach, in the order in which they must be laid out.
pub(super) fn reachable(ruleset: &Ruleset, hook: &Hook) -> BTreeSet<Entry> {
    let mut found = BTreeSet::new();
    let mut open = vec![Entry { depth: 0, chain: 0 }];
    while let Some(entry) = open.pop() {
        if !found.insert(entry) {
            continue;
        }
        for filter in filters(hook, entry.chain) {
            for rule in rules_of(ruleset, filter, hook.device) {
                if let End::Goto(chain) = listing(ruleset, rule.actions).end {
                    open.extend(goto(entry.depth, chain));
                }
            }
        }
    }
    found
}

/// The filters of a chain; a chain that does not exist has none.
pub(super) fn filters(hook: &Hook, chain: u32) -> &[Filter] {
    hook.chains.get(&chain).map_or(&[][..], |c| &c.filters)
}

/// Whether the ingress hook of this device takes any frame from the kernel at all.
#[must_use]
pub fn takes(ruleset: &Ruleset, device: DeviceId) -> bool {
    let Some(hook) = ruleset.hook(device, Direction::Ingress) else { return false };
    reachable(ruleset, hook).iter().any(|entry| {
        filters(hook, entry.chain).iter().flat_map(|f| rules_of(ruleset, f, device)).any(|rule| {
            match listing(ruleset, rule.actions).end {
                End::Take => true,
                End::Goto(chain) => goto(entry.depth, chain).is_none(),
                End::Pass | End::Continue => false,
            }
        })
    })
}

/// Refuses what the program cannot do, for every rule that a frame can reach.
pub(super) fn check(ruleset: &Ruleset, hook: &Hook, target: Target) -> Result<(), Refusal> {
    let chains: BTreeSet<u32> = reachable(ruleset, hook).iter().map(|e| e.chain).collect();
    for chain in chains {
        for filter in filters(hook, chain) {
            if let Classifier::Basic(rules) = &filter.classifier {
                let device = &ruleset.devices[hook.device.index()].name;
                for rule in rules {
                    ematch::need(&rule.ematches, device, &mut BTreeSet::new())
                        .map_err(|reason| refusal(ruleset, hook, Some((chain, filter, rule.handle)), reason))?;
                }
            }
            for rule in rules_of(ruleset, filter, hook.device) {
                check_list(ruleset, rule.actions, target)
                    .map_err(|reason| refusal(ruleset, hook, Some((chain, filter, rule.handle)), reason))?;
            }
        }
    }
    Ok(())
}

/// A refusal of a rule, or of the hook.
pub(super) fn refusal(ruleset: &Ruleset, hook: &Hook, rule: Option<(u32, &Filter, u32)>, reason: Reason) -> Refusal {
    let place = rule.map_or(String::new(), |(chain, filter, handle)| {
        let handle = match filter.classifier {
            Classifier::U32(_) => u32_handle(handle),
            Classifier::Flower(_) | Classifier::Matchall(_) | Classifier::Fw(_) | Classifier::Basic(_) => {
                format!("{handle:#x}")
            }
        };
        format!(" chain {chain} prio {} handle {handle}", filter.prio)
    });
    Refusal { device: ruleset.devices[hook.device.index()].to_string(), direction: hook.direction, place, reason }
}

/// As tc prints it: table, bucket unless 0, node.
fn u32_handle(handle: u32) -> String {
    let (table, bucket, node) = (handle >> 20, (handle >> 12) & 0xff, handle & 0xfff);
    if bucket == 0 { format!("{table:x}::{node:x}") } else { format!("{table:x}:{bucket:x}:{node:x}") }
}

fn check_list(ruleset: &Ruleset, actions: &[ActionId], target: Target) -> Result<(), Reason> {
    let listing = listing(ruleset, actions);
    // A frame that starts again must be as it was; then it is dropped in the end.
    let unchanged = listing.end != End::Take || listing.control == Control::Reclassify;
    for id in &listing.executed {
        match &ruleset.action(*id).action {
            Action::Gact(gact) => {
                if gact.random.is_some() {
                    return Err(Reason::Random);
                }
            }
            Action::Mirred(mirred) => {
                let mode = if mirred.mode == MirredMode::Redirect { "redirect" } else { "mirror" };
                if mirred.direction == Direction::Ingress {
                    return Err(Reason::MirredIngress { mode });
                }
                if listing.end != End::Take && target == Target::Xdp {
                    return Err(Reason::MirrorThenPass { control: control_name(listing.control) });
                }
            }
            Action::Skbmod(_) | Action::Csum(_) | Action::Pedit(_) | Action::Vlan(_) | Action::Nat(_) => {
                if unchanged {
                    return Err(Reason::RewriteThenPass {
                        action: ruleset.action(*id).action.kind(),
                        control: control_name(listing.control),
                    });
                }
            }
            Action::Simple(_) => {}
            Action::Police(police) => {
                let dropped =
                    matches!(police.exceed, Control::Shot | Control::Stolen | Control::Queued | Control::Trap);
                if !dropped || unchanged {
                    return Err(Reason::Police);
                }
            }
            Action::Skbedit(edit) => {
                let what = if edit.mark.is_some() {
                    "the mark"
                } else if edit.priority.is_some() || edit.inheritdsfield {
                    "the priority"
                } else if edit.queue_mapping.is_some() {
                    "the queue"
                } else if edit.ptype.is_some_and(|t| t != PacketType::Host) {
                    "the packet type"
                } else {
                    continue;
                };
                if unchanged {
                    return Err(Reason::EditThenPass { what, control: control_name(listing.control) });
                }
            }
        }
    }
    Ok(())
}

pub(super) fn control_name(control: Control) -> String {
    match control {
        Control::Pass => "pass".to_owned(),
        Control::Pipe => "pipe".to_owned(),
        Control::Continue => "continue".to_owned(),
        Control::Reclassify => "reclassify".to_owned(),
        Control::Shot => "drop".to_owned(),
        Control::Stolen => "stolen".to_owned(),
        Control::Queued => "queued".to_owned(),
        Control::Trap => "trap".to_owned(),
        Control::Jump(n) => format!("jump {n}"),
        Control::GotoChain(n) => format!("goto chain {n}"),
    }
}
