//! Lints about what travels with a frame: marks that nothing sets, protocols in the wrong byte order.

use super::view::View;
use super::{Warning, warn};
use crate::rules::ematch::ematches;
use crate::rules::{Action, Ematch, MetaField, MetaObject};
use crate::tc::store::{Body, Store};
use crate::types::ethertype;

/// fw filters where no rule sets a mark: a received frame has none.
pub fn unset(store: &Store, views: &[View<'_>], out: &mut Vec<Warning>) {
    let wants = |view: &&View<'_>| matches!(view.entry.body, Body::Fw { .. });
    if !views.iter().any(|view| wants(&view)) {
        return;
    }
    let ruleset = store.ruleset();
    if ruleset.actions.iter().any(|a| matches!(&a.action, Action::Skbedit(edit) if edit.mark.is_some())) {
        return;
    }
    for view in views.iter().filter(wants) {
        let text = format!(
            "fw wants the mark {:#x}, and no rule sets one: a received frame has mark 0, which no handle can be",
            view.entry.handle
        );
        let hint = "set it in a rule before: … action skbedit mark MARK action continue";
        out.push(warn(view, "mark-unset", text, hint));
    }
}

/// `meta(protocol …)` beside an EtherType as people write it.
pub fn protocol_order(view: &View<'_>, out: &mut Vec<Warning>) {
    let Body::Basic { ematches: terms } = &view.entry.body else { return };
    let known = [ethertype::IPV4, ethertype::ARP, ethertype::IPV6, ethertype::VLAN, ethertype::QINQ];
    let is_protocol = |o: &MetaObject| matches!(o, MetaObject::Field { field: MetaField::Protocol, shift: 0, .. });
    ematches(terms, &mut |ematch| {
        let Ematch::Meta(meta) = ematch else { return };
        let number = match (&meta.left, &meta.right) {
            (field, MetaObject::Number(n)) | (MetaObject::Number(n), field) if is_protocol(field) => *n,
            _ => return,
        };
        let Some(protocol) = known.into_iter().find(|p| u32::from(*p) == number) else { return };
        let text = format!("meta(protocol) is in network order, so {protocol:#06x} never is what a frame has");
        let hint = format!(
            "write {:#x} (on little-endian machines), or leave it out and give the filter its protocol",
            protocol.swap_bytes()
        );
        out.push(warn(view, "protocol-order", text, hint));
    });
}
