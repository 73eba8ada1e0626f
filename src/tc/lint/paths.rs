//! Lints about where frames go: missing devices, loops, packet types, and two directions that match the same end of a connection.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::view::{Port, View};
use super::{Facts, Warning, warn};
use crate::rules::Action;
use crate::tc::store::Store;
use crate::types::{DeviceId, DeviceKey, Direction, MacAddr, PacketType};

/// Devices that hooks and actions name and that do not exist.
pub fn missing_device(store: &Store, view: &View<'_>, facts: &Facts<'_>, out: &mut Vec<Warning>) {
    let targets = view.actions.iter().filter_map(|a| match a {
        Action::Mirred(m) => Some(m.device),
        Action::Gact(_)
        | Action::Skbedit(_)
        | Action::Skbmod(_)
        | Action::Csum(_)
        | Action::Pedit(_)
        | Action::Vlan(_)
        | Action::Nat(_)
        | Action::Simple(_)
        | Action::Police(_) => None,
    });
    let named: BTreeSet<DeviceId> = targets.chain([view.device]).collect();
    for key in named.into_iter().map(|id| &store.devices()[id.index()]) {
        if !facts.devices.exists(key) {
            let text = format!("there is no device {key}");
            let hint = "make it first, or correct its name; \"ip link\" lists what there is, tc -n NAMESPACE names another namespace";
            out.push(warn(view, "no-device", text, hint));
        }
    }
}

/// `ptype host`: the receiving device looks at the destination MAC.
pub fn packet_type(store: &Store, view: &View<'_>, facts: &Facts<'_>, out: &mut Vec<Warning>) {
    let makes_host = view.actions.iter().any(|a| matches!(a, Action::Skbedit(e) if e.ptype == Some(PacketType::Host)));
    if !makes_host {
        return;
    }
    // Behind an egress redirect the frame is received by the other end of the cable; only a known end can be judged.
    let receiver = match view.redirect() {
        Some((Direction::Ingress, device)) => Some(store.devices()[device.index()].clone()),
        Some((Direction::Egress, device)) => (facts.peer)(&store.devices()[device.index()]),
        None => Some(view.key.clone()),
    };
    let Some((receiver, mac)) = receiver.and_then(|r| (facts.mac)(&r).map(|mac| (r, mac))) else { return };
    let set = destination(view);
    // Without a redirect and without a rewrite the frame may well have the right address already.
    if set == Some(mac) || set.is_none() && view.redirect().is_none() {
        return;
    }
    let now = set.map_or_else(|| "stays as it came".to_owned(), |m| format!("is {m}"));
    let text = format!(
        "ptype host is not enough: {receiver} takes a frame for its own by destination MAC ({mac}), \
         and the destination {now}"
    );
    let hint = format!("write action skbmod set dmac {mac} before it");
    out.push(warn(view, "packet-type", text, hint));
}

/// The destination MAC that the actions leave in the frame.
fn destination(view: &View<'_>) -> Option<MacAddr> {
    let mut changes = view.actions.iter().filter_map(|a| match a {
        Action::Skbmod(m) => m.dmac,
        Action::Gact(_)
        | Action::Mirred(_)
        | Action::Skbedit(_)
        | Action::Csum(_)
        | Action::Pedit(_)
        | Action::Vlan(_)
        | Action::Nat(_)
        | Action::Simple(_)
        | Action::Police(_) => None,
    });
    changes.next_back()
}

/// A place on the way of a frame.
type Hook = (DeviceId, Direction);

/// A redirect that can come back to its own hook, over other hooks' redirects and known veth peers.
pub fn loops(store: &Store, views: &[View<'_>], facts: &Facts<'_>, out: &mut Vec<Warning>) {
    let ids: HashMap<&DeviceKey, DeviceId> =
        store.devices().iter().enumerate().map(|(i, key)| (key, DeviceId(i as u32))).collect();
    let mut edges: BTreeMap<Hook, BTreeSet<Hook>> = BTreeMap::new();
    for view in views {
        if let Some((direction, device)) = view.redirect() {
            edges.entry((view.device, view.direction)).or_default().insert((device, direction));
        }
    }
    for (key, id) in &ids {
        // What a veth sends, its peer receives.
        if let Some(peer) = (facts.peer)(key).and_then(|p| ids.get(&p).copied()) {
            edges.entry((*id, Direction::Egress)).or_default().insert((peer, Direction::Ingress));
        }
    }
    for view in views {
        let from = (view.device, view.direction);
        let Some((direction, device)) = view.redirect() else { continue };
        let target = &store.devices()[device.index()];
        if direction == Direction::Egress && device == view.device {
            let (text, hint) = back_out(view, target);
            out.push(warn(view, "redirect-loop", text, hint));
        } else if reaches((device, direction), from, &edges) {
            let text = format!(
                "a frame that is redirected to {target} {} can come back to {}",
                direction.as_str(),
                view.place()
            );
            let hint = "let one of the rules match only what the other does not send (a port, a mark, an address)";
            out.push(warn(view, "redirect-loop", text, hint));
        }
    }
}

fn back_out(view: &View<'_>, target: &DeviceKey) -> (String, &'static str) {
    match view.direction {
        Direction::Egress => (
            format!(
                "what {target} sends is redirected to {target} itself: it meets this rule again, until the kernel drops it"
            ),
            "redirect to another device, or to ingress",
        ),
        Direction::Ingress => (
            format!(
                "what {target} receives is sent back out of {target}: with a bridge or a switch behind it that is a loop"
            ),
            "redirect to another device, unless hairpinning is meant",
        ),
    }
}

fn reaches(from: Hook, goal: Hook, edges: &BTreeMap<Hook, BTreeSet<Hook>>) -> bool {
    let mut seen = HashSet::new();
    let mut open = vec![from];
    while let Some(hook) = open.pop() {
        if hook == goal {
            return true;
        }
        if seen.insert(hook) {
            open.extend(edges.get(&hook).into_iter().flatten());
        }
    }
    false
}

/// Both directions of a path match the source port. Of a connection's two directions one has the port as source, the other as
/// destination, so one of the rules is wrong: the one that leads inwards, if that can be told.
pub fn same_direction(store: &Store, views: &[View<'_>], facts: &Facts<'_>, out: &mut Vec<Warning>) {
    let inside = |id: DeviceId| is_inside(&store.devices()[id.index()], facts);
    for view in views.iter().filter(|v| v.direction == Direction::Ingress) {
        let Some(((_, target), port)) = view.redirect().zip(only_source(view)) else { continue };
        let outwards = inside(view.device) && !inside(target);
        if target == view.device || outwards {
            continue;
        }
        let back = views.iter().find(|other| {
            let leads_back = other.redirect().is_some_and(|(_, d)| d == view.device);
            leads_back
                && (other.device, other.direction) == (target, Direction::Ingress)
                && only_source(other).is_some_and(|p| p.value & port.mask == port.value & p.mask)
        });
        let target_key = &store.devices()[target.index()];
        let text = match back {
            Some(back) => format!(
                "this rule and the way back (line {}, {}) both match source port {}: a connection has it as source in one \
                 direction only",
                back.entry.line,
                back.place(),
                shown(port)
            ),
            None if inside(target) => format!(
                "this rule takes frames with source port {} to {target_key}: requests carry the service's port as destination",
                shown(port)
            ),
            None => continue,
        };
        let hint =
            "where clients come in, match the destination port (ip dport); where the service answers, the source port";
        out.push(warn(view, "source-port", text, hint));
    }
}

/// Whether a device leads into a namespace: a veth whose other end is known, or one that is called so.
fn is_inside(key: &DeviceKey, facts: &Facts<'_>) -> bool {
    let name = key.name.to_ascii_lowercase();
    (facts.peer)(key).is_some_and(|peer| peer.netns != key.netns) || name.contains("veth") || name.starts_with("tap")
}

/// The source port that it compares, if it compares no destination port.
fn only_source(view: &View<'_>) -> Option<Port> {
    let ports = view.ports();
    let one_sided = ports.iter().all(|p| !p.destination);
    ports.first().copied().filter(|_| one_sided)
}

fn shown(port: Port) -> String {
    if port.mask == u16::MAX { port.value.to_string() } else { format!("{}/{:#x}", port.value, port.mask) }
}
