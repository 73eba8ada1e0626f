//! Actions, verdicts and changes of a frame in words. It runs nothing.

use crate::rules::eval::trace::End;
use crate::rules::{Action, ActionInstance, Control, Ematch, FwFilter, MetaField, MetaObject};
use crate::tc::ListOptions;
use crate::tc::action;
use crate::tc::filter::basic;
use crate::tc::number::classid_text;
use crate::types::{DeviceId, PacketMeta, VlanTag};

/// An action as its listing says it, on one line.
pub fn describe(instance: &ActionInstance, names: &dyn Fn(DeviceId) -> String) -> String {
    let text = match &instance.action {
        Action::Gact(a) => action::gact::text(a),
        Action::Mirred(a) => action::mirred::text(a, &names(a.device)),
        Action::Skbedit(a) => action::skbedit::text(a),
        Action::Skbmod(a) => action::skbmod::text(a),
        Action::Csum(a) => action::csum::text(a),
        Action::Pedit(a) => action::pedit::text(a) + &action::pedit::keys_text(a),
        Action::Vlan(a) => action::vlan::text(a, false),
        Action::Nat(a) => action::nat::text(a),
        Action::Police(a) => {
            return one_line(&action::police::text(a, instance.index, (1, 1), &ListOptions::default()));
        }
        Action::Simple(a) => action::simple::text(a),
    };
    format!("{} index {}", one_line(&text), instance.index)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What an action or a hook came to.
pub fn verdict(end: End) -> String {
    match end {
        End::Control(Control::Continue) => "continue".to_owned(),
        End::Control(Control::Pass) => "pass".to_owned(),
        End::Control(Control::Pipe) => "pipe".to_owned(),
        End::Control(Control::Reclassify) => "reclassify: once more from the first filter".to_owned(),
        End::Control(Control::Shot) => "drop".to_owned(),
        End::Control(Control::Stolen) => "stolen".to_owned(),
        End::Control(Control::Queued) => "queued".to_owned(),
        End::Control(Control::Trap) => "trap".to_owned(),
        End::Control(Control::Jump(n)) => format!("jump {n}"),
        End::Control(Control::GotoChain(n)) => format!("goto chain {n}"),
        End::Dropped(reason) => format!("dropped ({})", reason.as_str()),
        End::Sent => "sent on".to_owned(),
        End::Lost => "could not be sent on".to_owned(),
    }
}

/// What an action changed.
pub fn changes(before: (&[u8], &PacketMeta), after: (&[u8], &PacketMeta)) -> Vec<String> {
    let mut list = Vec::new();
    if before.0.len() == after.0.len() {
        changed_bytes(before.0, after.0, &mut list);
    } else {
        list.push(changed_head(before.0, after.0));
    }
    let (old, new) = (before.1, after.1);
    if old.tag != new.tag {
        list.push(format!("outer tag {} -> {}", tag_text(old.tag), tag_text(new.tag)));
    }
    if old.protocol != new.protocol {
        list.push(format!("protocol behind it {:#06x} -> {:#06x}", old.protocol, new.protocol));
    }
    if old.mark != new.mark {
        list.push(format!("mark {:#x} -> {:#x}", old.mark, new.mark));
    }
    if old.priority != new.priority {
        list.push(format!("priority {} -> {}", classid_text(old.priority), classid_text(new.priority)));
    }
    if old.ptype != new.ptype {
        list.push(format!("packet type {} -> {}", old.ptype.as_str(), new.ptype.as_str()));
    }
    if old.queue_mapping != new.queue_mapping {
        list.push(format!("queue {} -> {}", old.queue_mapping, new.queue_mapping));
    }
    list
}

fn changed_bytes(old: &[u8], new: &[u8], list: &mut Vec<String>) {
    let mut at = 0;
    while at < old.len() {
        if old[at] == new[at] {
            at += 1;
            continue;
        }
        let end = (at..old.len()).find(|i| old[*i] == new[*i]).unwrap_or(old.len());
        list.push(format!("bytes {at}..{end}: {} -> {}", hex(&old[at..end]), hex(&new[at..end])));
        at = end;
    }
}

/// A frame that grew or shrank does so at its head: what is the same stands at the end.
fn changed_head(old: &[u8], new: &[u8]) -> String {
    let same = old.iter().rev().zip(new.iter().rev()).take_while(|(o, n)| o == n).count();
    let (was, is) = (&old[..old.len() - same], &new[..new.len() - same]);
    let shown = |bytes: &[u8]| if bytes.is_empty() { "nothing".to_owned() } else { hex(bytes) };
    format!("{} -> {} bytes; its head: {} -> {}", old.len(), new.len(), shown(was), shown(is))
}

fn tag_text(tag: Option<VlanTag>) -> String {
    tag.map_or("none".to_owned(), |t| format!("VLAN {} priority {} ({:#06x})", t.tci & 0xfff, t.tci >> 13, t.tpid))
}

/// Bytes in hex, with spaces.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}

/// What a fw filter makes of a mark, and whether the old method takes it for a class.
pub fn fw_words(fw: &FwFilter, mark: u32) -> (String, bool) {
    let yes = |holds| if holds { "yes" } else { "no" };
    match fw {
        FwFilter::Classes { qdisc } => {
            let is_class = FwFilter::is_class(mark, *qdisc);
            (format!("the mark {mark:#x} names a class of {}: {}", classid_text(*qdisc), yes(is_class)), is_class)
        }
        FwFilter::Marks { mask, rules } => {
            let found = rules.iter().any(|r| r.handle == mark & mask);
            (format!("a handle {:#x} for the mark {mark:#x}/{mask:#x}: {}", mark & mask, yes(found)), false)
        }
    }
}

/// An extended match as its listing says it, and whether it decides by chance.
pub fn ematch_words(ematch: &Ematch, inverted: bool) -> (String, bool) {
    let is_random = |object: &MetaObject| matches!(object, MetaObject::Field { field: MetaField::Random, .. });
    let by_chance = matches!(ematch, Ematch::Meta(meta) if is_random(&meta.left) || is_random(&meta.right));
    (format!("{}{}", if inverted { "NOT " } else { "" }, basic::one_line(ematch)), by_chance)
}
