//! Lint about rules that never see a frame because an earlier one takes all that they match.

use std::collections::HashMap;

use super::view::View;
use super::{Warning, warn};
use crate::rules::ematch::ematches;
use crate::rules::{Ematch, EmatchTerm, FlowerField, FlowerKey, U32Base};
use crate::tc::store::{Body, ProtoKind};
use crate::types::{DeviceId, Direction, ethertype};

/// Earlier rules that a later one is compared with: beyond it, nobody wants to wait.
const COMPARED_MAX: usize = 4096;

/// Warns of every rule that an earlier one on the same hook and chain always matches first.
pub fn shadowed(views: &[View<'_>], out: &mut Vec<Warning>) {
    let mut earlier: HashMap<(DeviceId, Direction, u32), Vec<&View<'_>>> = HashMap::new();
    for view in ordered(views) {
        let list = earlier.entry((view.device, view.direction, view.chain)).or_default();
        if let Some(first) = list.iter().find(|first| takes_all(first, view)) {
            let same = takes_all(view, first);
            let how = if same { "the same" } else { "all that this one matches, and more" };
            let text = format!(
                "this rule is never reached: the rule of line {} (prio {}) matches {how} and ends classification",
                first.entry.line, first.proto.prio
            );
            let hint = match same && first.redirect() == view.redirect() {
                true => "delete one of them, or change what it matches (\"all other flags\" is no flags match at all)",
                false => "give the narrower rule the smaller prio, or end the wider one with \"continue\"",
            };
            out.push(warn(view, "shadowed", text, hint));
        }
        let reaches = list.len() < COMPARED_MAX && view.is_terminal();
        if reaches {
            list.push(view);
        }
    }
}

/// In the order of evaluation: prio, then node.
fn ordered<'a, 'b>(views: &'a [View<'b>]) -> Vec<&'a View<'b>> {
    let mut list: Vec<&View<'b>> = views.iter().collect();
    // Of basic the youngest comes first.
    list.sort_by_key(|v| {
        let within = if v.proto.kind == ProtoKind::Basic { !v.entry.sequence } else { v.entry.handle.into() };
        (v.proto.prio, within)
    });
    list
}

/// Whether every frame that `later` matches is matched by `first` too.
fn takes_all(first: &View<'_>, later: &View<'_>) -> bool {
    let protocol = first.proto.protocol == ethertype::ALL || first.proto.protocol == later.proto.protocol;
    if !protocol {
        return false;
    }
    match (first.proto.kind, later.proto.kind) {
        (ProtoKind::Matchall, _) => true,
        (ProtoKind::U32, ProtoKind::U32) => u32_takes_all(first, later),
        (ProtoKind::Flower, ProtoKind::Flower) => match (&first.flower, &later.flower) {
            (Some(first), Some(later)) => flower_takes_all(first, later),
            _ => false,
        },
        (ProtoKind::Basic, ProtoKind::Basic) => {
            matches!((&first.entry.body, &later.entry.body), (Body::Basic { ematches }, Body::Basic { ematches: other })
                if ematches.is_empty() || ematches == other && looks_at_bytes_only(ematches))
        }
        (ProtoKind::Basic, _) => matches!(&first.entry.body, Body::Basic { ematches } if ematches.is_empty()),
        (ProtoKind::U32 | ProtoKind::Flower | ProtoKind::Fw, _) => false,
    }
}

/// What travels with a frame is changed more often than its bytes (`skbedit mark … continue`), and `random` is another each time.
fn looks_at_bytes_only(terms: &[EmatchTerm]) -> bool {
    let mut only = true;
    ematches(terms, &mut |ematch| only &= !matches!(ematch, Ematch::Meta(_)));
    only
}

/// Every key of `first` must follow from the keys of `later`, bit for bit.
fn u32_takes_all(first: &View<'_>, later: &View<'_>) -> bool {
    let (Body::U32 { keys, mark, indev, .. }, Body::U32 { keys: others, mark: other_mark, indev: other_indev, .. }) =
        (&first.entry.body, &later.entry.body)
    else {
        return false;
    };
    let mark_follows =
        mark.is_none_or(|m| other_mark.is_some_and(|o| o.mask & m.mask == m.mask && o.value & m.mask == m.value));
    let indev_follows = indev.is_none() || indev == other_indev;
    // A key that no frame need have readable (beyond the shortest) is still implied when the other rule compares the same word.
    let keys_follow = keys.iter().all(|key| {
        let same = others.iter().find(|o| o.offset == key.offset && o.base == key.base);
        let always = key.mask == 0 && key.base == U32Base::Network && (0..=16).contains(&key.offset);
        always || same.is_some_and(|o| o.mask & key.mask == key.mask && o.value & key.mask == key.value)
    });
    mark_follows && indev_follows && keys_follow
}

/// As [`u32_takes_all`]: every field of `first` must follow from the same field of `later`.
fn flower_takes_all(first: &FlowerKey, later: &FlowerKey) -> bool {
    let others = later.fields();
    first.all_fields(&mut |field, value, mask| {
        let range = matches!(field, FlowerField::DstPortRange | FlowerField::SrcPortRange);
        others.iter().any(|(f, v, m)| match range {
            true => *f == field && v >> 16 >= value >> 16 && v & 0xffff <= value & 0xffff,
            false => *f == field && m & mask == mask && v & mask == value,
        })
    })
}
