//! Changes of the kernel's tc state: qdiscs, chains and filters made, filters of a hook taken away. Each is all or nothing by itself.

use super::message::{action_request, chain_request, encode_chain, encode_filter, encode_qdisc, filters_request};
use super::socket::Message;
use super::{BoundAction, Chain, Filter, Lacking, Links, NetlinkError, Place, Qdisc, Socket};
use crate::types::DeviceId;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An action of its own.
    Action(BoundAction),
    /// An `ingress` or `clsact` qdisc, or a root qdisc as it is by default.
    Qdisc(Qdisc),
    /// A chain, with its template if it has one.
    Chain(Chain),
    /// A filter, a u32 table, or (as a head) a u32 prio without filters.
    Filter(Filter),
    /// All filters of a prio go.
    DropPrio(Place),
}

/// Makes a change in the namespace of the socket. What it makes must not be there yet.
///
/// # Errors
/// [`NetlinkError::Refused`] with the kernel's words; [`NetlinkError::Lacking`] for what cannot be asked for.
pub fn apply(socket: &mut Socket, links: &Links, change: &Change) -> Result<(), NetlinkError> {
    match change {
        Change::Action(action) => {
            let what = format!("the action {} index {}", action.kind, action.index);
            socket.change(Message::NewAction, true, &action_request(action, links)?, &what)
        }
        Change::Qdisc(qdisc) => {
            let what = format!("the qdisc {} of {}", qdisc.kind, links.key(qdisc.device));
            socket.change(Message::NewQdisc, true, &encode_qdisc(qdisc, links)?, &what)
        }
        Change::Chain(chain) => {
            let what = format!("chain {} of {}", chain.index, links.owner(chain.device, chain.parent));
            socket.change(Message::NewChain, true, &encode_chain(chain, links)?, &what)
        }
        Change::Filter(filter) => {
            let what = describe(&filter.place, links);
            socket.change(Message::NewFilter, true, &encode_filter(filter, links)?, &what)
        }
        Change::DropPrio(place) => {
            let place = Place { handle: 0, ..place.clone() };
            let request = filters_request(ifindex(place.device, links)?, place.parent, Some(&place));
            socket.change(Message::DeleteFilter, false, &request, &describe(&place, links))
        }
    }
}

/// Takes all filters of a chain away. For frames it is one step: they see all of them or none (`tcf_chain_flush()`).
///
/// # Errors
/// [`NetlinkError::Refused`] with the kernel's words.
pub fn delete_filters(
    socket: &mut Socket,
    links: &Links,
    (device, parent): (DeviceId, u32),
    chain: u32,
) -> Result<(), NetlinkError> {
    let what = format!("to delete the filters of {} chain {chain}", links.owner(device, parent));
    socket.change(Message::DeleteFilter, false, &chain_request((device, parent), chain, links)?, &what)
}

/// Takes a qdisc away, with all that hangs on it.
///
/// # Errors
/// [`NetlinkError::Refused`] with the kernel's words.
pub fn delete_qdisc(socket: &mut Socket, links: &Links, qdisc: &Qdisc) -> Result<(), NetlinkError> {
    let what = format!("to delete the qdisc {} of {}", qdisc.kind, links.key(qdisc.device));
    socket.change(Message::DeleteQdisc, false, &encode_qdisc(qdisc, links)?, &what)
}

fn ifindex(device: DeviceId, links: &Links) -> Result<u32, Lacking> {
    links.ifindex(device).ok_or_else(|| Lacking("a device of another namespace".to_owned()))
}

fn describe(place: &Place, links: &Links) -> String {
    let Place { device, parent, chain, prio, kind, handle, .. } = place;
    format!("the filter of {} chain {chain} prio {prio} {kind} {handle:x}", links.owner(*device, *parent))
}
