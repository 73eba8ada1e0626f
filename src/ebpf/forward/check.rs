//! What a forwarding program cannot do, found before it is written: by rule, with what to use instead.

use std::collections::BTreeSet;

use super::emit::Stage;
use crate::ebpf::layout::can_dissect;
use crate::ebpf::refusal::{Reason, Refusal};
use crate::ebpf::verdict::{Entry, control_name, filters, goto, listing, refusal};
use crate::limits::ETHERNET_LEN;
use crate::rules::{Action, ActionId, Classifier, Control, Filter, Hook, Mirred, MirredMode, Pedit, Ruleset, Skbedit};
use crate::types::{Checksums, Direction, PacketType, PeditHeader, VlanOp};

/// A rule of a filter with its actions; of u32 in linked tables, too.
pub(super) struct Rule<'a> {
    pub handle: u32,
    pub actions: &'a [ActionId],
    pub indev: bool,
}

/// All rules of a filter that can match.
pub(super) fn rules_of<'a>(ruleset: &'a Ruleset, filter: &'a Filter) -> Vec<Rule<'a>> {
    match &filter.classifier {
        Classifier::U32(nodes) => ruleset
            .u32_nodes(nodes)
            .into_iter()
            .filter(|n| n.terminal)
            .map(|n| Rule { handle: n.handle, actions: &n.actions, indev: n.indev.is_some() })
            .collect(),
        Classifier::Flower(rules) => {
            rules.iter().map(|r| Rule { handle: r.handle, actions: &r.actions, indev: false }).collect()
        }
        Classifier::Basic(rules) => {
            rules.iter().map(|r| Rule { handle: r.handle, actions: &r.actions, indev: false }).collect()
        }
        Classifier::Fw(fw) => {
            let rule =
                |r: &'a crate::rules::FwRule| Rule { handle: r.handle, actions: &r.actions, indev: r.indev.is_some() };
            fw.rules().iter().map(rule).collect()
        }
        Classifier::Matchall(rule) => rule
            .iter()
            .filter(|r| !r.skip_sw)
            .map(|r| Rule { handle: r.handle, actions: &r.actions, indev: false })
            .collect(),
    }
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
            for rule in rules_of(ruleset, filter) {
                match listing(ruleset, rule.actions).control {
                    Control::GotoChain(chain) => open.extend(goto(entry.depth, chain)),
                    Control::Reclassify => open.extend(goto(entry.depth, 0)),
                    Control::Pass
                    | Control::Pipe
                    | Control::Continue
                    | Control::Shot
                    | Control::Stolen
                    | Control::Queued
                    | Control::Trap
                    | Control::Jump(_) => {}
                }
            }
        }
    }
    found
}

/// Refuses what the program cannot do, for every rule that a frame can reach.
pub(super) fn check(ruleset: &Ruleset, hook: &Hook, stage: Stage, entries: &BTreeSet<Entry>) -> Result<(), Refusal> {
    for chain in entries.iter().map(|e| e.chain).collect::<BTreeSet<_>>() {
        for filter in filters(hook, chain) {
            if let Classifier::Flower(rules) = &filter.classifier {
                for rule in rules {
                    can_dissect(&rule.key, filter.protocol)
                        .map_err(|reason| refusal(ruleset, hook, Some((chain, filter, rule.handle)), reason))?;
                }
            }
            // In XDP there is no mark: fw matches nothing, as at any ingress.
            let unknown = match &filter.classifier {
                Classifier::Basic(_) => true,
                Classifier::Fw(_) => stage != Stage::Xdp,
                Classifier::U32(_) | Classifier::Flower(_) | Classifier::Matchall(_) => false,
            };
            if unknown {
                let reason = Reason::Kind { kind: filter.classifier.kind() };
                let handle = rules_of(ruleset, filter).first().map_or(0, |r| r.handle);
                return Err(refusal(ruleset, hook, Some((chain, filter, handle)), reason));
            }
            for rule in rules_of(ruleset, filter) {
                check_rule(ruleset, hook, stage, &rule)
                    .map_err(|reason| refusal(ruleset, hook, Some((chain, filter, rule.handle)), reason))?;
            }
        }
    }
    Ok(())
}

fn check_rule(ruleset: &Ruleset, hook: &Hook, stage: Stage, rule: &Rule<'_>) -> Result<(), Reason> {
    if rule.indev && hook.direction == Direction::Egress {
        return Err(Reason::IndevAtEgress);
    }
    let listing = listing(ruleset, rule.actions);
    let list = List {
        stage,
        control: listing.control,
        executed: listing.executed.iter().map(|id| &ruleset.action(*id).action).collect(),
    };
    for action in &list.executed {
        match action {
            Action::Gact(gact) => {
                if gact.random.is_some() {
                    return Err(Reason::NotByItself { action: "gact random" });
                }
            }
            Action::Police(_) => return Err(Reason::NotByItself { action: "police" }),
            Action::Mirred(mirred) => check_mirred(ruleset, hook, stage, mirred)?,
            Action::Skbedit(edit) => list.check_skbedit(edit)?,
            Action::Skbmod(edit) => {
                if edit.etype.is_some() || ((edit.dmac.is_some() || edit.swap_mac) && !list.says_host()) {
                    list.check_link("skbmod")?;
                }
            }
            Action::Pedit(pedit) => {
                if edits_link(pedit) {
                    list.check_link("pedit")?;
                }
            }
            Action::Csum(csum) => {
                if csum.update.has(Checksums::SCTP) {
                    return Err(Reason::Sctp);
                }
            }
            Action::Vlan(vlan) => match vlan.op {
                VlanOp::PopEth | VlanOp::PushEth { .. } => return Err(Reason::NoEthernet { op: vlan.op.as_str() }),
                VlanOp::Pop | VlanOp::Push { .. } | VlanOp::Modify { .. } => list.check_tags(vlan.op)?,
            },
            Action::Nat(_) | Action::Simple(_) => {}
        }
    }
    Ok(())
}

fn check_mirred(ruleset: &Ruleset, hook: &Hook, stage: Stage, mirred: &Mirred) -> Result<(), Reason> {
    let mode = if mirred.mode == MirredMode::Redirect { "redirect" } else { "mirror" };
    if mirred.direction == Direction::Ingress {
        return Err(Reason::MirredIngress { mode });
    }
    let target = &ruleset.devices[mirred.device.index()];
    match stage {
        Stage::Xdp => {
            if mirred.mode == MirredMode::Mirror {
                return Err(Reason::MirrorInXdp);
            }
            let egress = ruleset.hook(mirred.device, Direction::Egress);
            if egress.is_some_and(|h| h.chains.values().any(|c| !c.filters.is_empty())) {
                return Err(Reason::PastEgress { device: target.to_string() });
            }
        }
        Stage::Tc(_) => {
            if target.netns != ruleset.devices[hook.device.index()].netns {
                return Err(Reason::OtherNamespace { device: target.to_string() });
            }
        }
    }
    Ok(())
}

/// Bytes before the network header.
fn edits_link(pedit: &Pedit) -> bool {
    pedit.keys.iter().any(|key| match key.header {
        PeditHeader::Eth => key.offset < ETHERNET_LEN as i32,
        PeditHeader::Network | PeditHeader::Ipv4 | PeditHeader::Ipv6 => key.offset < 0,
        PeditHeader::Tcp | PeditHeader::Udp => key.offset < -40,
    })
}

/// An action list that a program is to run.
struct List<'a> {
    stage: Stage,
    control: Control,
    executed: Vec<&'a Action>,
}

impl List<'_> {
    /// Whether the kernel's stack may get the frame afterwards.
    fn leaves(&self) -> bool {
        match self.control {
            Control::Pass | Control::Pipe | Control::Jump(_) => true,
            Control::Continue | Control::Reclassify | Control::GotoChain(_) => true,
            Control::Shot | Control::Stolen | Control::Queued | Control::Trap => false,
        }
    }

    fn says_host(&self) -> bool {
        self.executed.iter().any(|a| matches!(a, Action::Skbedit(e) if e.ptype == Some(PacketType::Host)))
    }

    /// An XDP program comes before the kernel reads the Ethernet header, tc comes behind.
    fn check_link(&self, action: &'static str) -> Result<(), Reason> {
        if self.stage == Stage::Xdp && self.leaves() {
            return Err(Reason::LinkThenPass { action, control: control_name(self.control) });
        }
        Ok(())
    }

    fn check_tags(&self, op: VlanOp) -> Result<(), Reason> {
        match self.control {
            Control::Continue | Control::Reclassify | Control::GotoChain(_) => {
                Err(Reason::TagsThenFilters { op: op.as_str(), control: control_name(self.control) })
            }
            Control::Pass
            | Control::Pipe
            | Control::Jump(_)
            | Control::Shot
            | Control::Stolen
            | Control::Queued
            | Control::Trap => Ok(()),
        }
    }

    fn check_skbedit(&self, edit: &Skbedit) -> Result<(), Reason> {
        if self.stage != Stage::Xdp || !self.leaves() {
            return Ok(());
        }
        let what = if edit.mark.is_some() {
            "the mark"
        } else if edit.priority.is_some() || edit.inheritdsfield {
            "the priority"
        } else if edit.queue_mapping.is_some() {
            "the queue"
        } else if edit.ptype.is_some_and(|t| t != PacketType::Host) {
            "the packet type"
        } else {
            return Ok(());
        };
        Err(Reason::EditThenPass { what, control: control_name(self.control) })
    }
}
