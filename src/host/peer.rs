//! Who is at the other end of a veth pair: by name in the same namespace, by the kernel's namespace ids across them. It changes no device.

use super::link::{Link, all, json};
use super::netns;

/// Completes what is known of the peer; one in a namespace without a name stays a number.
pub(super) fn complete(link: &mut Link) {
    let Some(mut peer) = link.peer.take() else { return };
    let found = match &peer.key {
        Some(key) => all(key.netns.as_deref()).unwrap_or_default().into_iter().find(|l| l.key.name == key.name),
        None => search(link, peer.ifindex),
    };
    if let Some(other) = found {
        peer.ifindex = other.ifindex;
        peer.mtu = Some(other.mtu);
        peer.tx_queues = Some(other.tx_queues);
        peer.key = Some(other.key);
    }
    link.peer = Some(peer);
}

/// The peer in another namespace. Pairs of different namespaces can have the same numbers, so numbers that fit are no proof:
/// one of the two must name the other's namespace, or none is named rather than the wrong one.
fn search(link: &Link, ifindex: u32) -> Option<Link> {
    let names = netns::names();
    let here = link.key.netns.as_deref();
    std::iter::once(None)
        .chain(names.iter().map(|n| Some(n.as_str())))
        .filter(|place| *place != here)
        .flat_map(|place| all(place).unwrap_or_default())
        .filter(|other| other.ifindex == ifindex && other.peer.as_ref().is_some_and(|p| p.ifindex == link.ifindex))
        .find(|other| points_to(link, other) || points_to(other, link))
}

/// Whether the kernel's id of the namespace of `from`'s peer (`link_netnsid`) has the name of the namespace that `to` is in.
/// Ids are of the asking namespace (`peernet2id_alloc()`, net/core/net_namespace.c); showing the link makes the kernel give one.
fn points_to(from: &Link, to: &Link) -> bool {
    let Some(wanted) = to.key.netns.as_deref() else { return false };
    let netns = from.key.netns.as_deref();
    let Ok(shown) = json("ip", netns, &["-json", "link", "show", "dev", &from.key.name]) else { return false };
    let Some(id) = shown.first().and_then(|v| v["link_netnsid"].as_u64()) else { return false };
    let ids = json("ip", netns, &["-json", "netns", "list-id"]).unwrap_or_default();
    ids.iter().any(|v| v["nsid"].as_u64() == Some(id) && v["name"].as_str() == Some(wanted))
}
