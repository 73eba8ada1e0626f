//! The tc state of a namespace as it is now: qdiscs, chains, filters, actions, read until it holds still. It changes nothing.

use std::collections::BTreeSet;

use super::message::{action_dump_request, decode_action_dump, filters_request, prio_request};
use super::socket::Message;
use super::{
    BoundAction, Chain, Common, Filter, Lacking, Links, NetlinkError, Node, PARENT_EGRESS, PARENT_INGRESS, PARENT_ROOT,
    Place, Qdisc, SHARED_BLOCK, Socket, decode_chain, decode_filter, decode_qdisc, roots,
};
use crate::host::{HostError, netns};
use crate::types::{DeviceId, DeviceKey};

/// How often the state is read again when it has changed meanwhile.
const READINGS_MAX: usize = 8;

/// Kinds of action that are asked for by name: those that viscum has.
const ACTION_KINDS: &[&str] =
    &["gact", "mirred", "skbedit", "skbmod", "csum", "pedit", "vlan", "nat", "simple", "police"];

/// The state of a namespace, or of one device of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The namespace; `None`: the caller's.
    pub netns: Option<String>,
    /// Its devices.
    pub links: Links,
    /// Its qdiscs that have a handle, and `ingress` and `clsact`.
    pub qdiscs: Vec<Qdisc>,
    /// The chains that the kernel lists, in its order.
    pub chains: Vec<Chain>,
    /// The filters, in the kernel's order. A u32 node can come more than once: under every prio that lists its table.
    pub filters: Vec<Filter>,
    /// Which u32 table is the root of a prio.
    pub roots: Vec<(Place, Result<u32, Lacking>)>,
    /// Actions that no filter holds. Only without a device.
    pub free_actions: Vec<BoundAction>,
    /// What could not be read, and why.
    pub unread: Vec<Lacking>,
}

/// What a message of the kernel is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `RTM_NEWQDISC`.
    Qdisc,
    /// `RTM_NEWCHAIN`, of this hook or qdisc.
    Chain(u32),
    /// `RTM_NEWTFILTER`.
    Filter,
    /// `RTM_GETACTION` as an answer.
    Actions,
}

/// The state that messages tell (without their headers), each hook's in the kernel's order. `is_root` says whether a u32 table is the
/// root of a prio, where messages leave that open; `None` if it is not known.
#[must_use]
pub fn assemble<'a>(
    links: Links,
    messages: impl IntoIterator<Item = (Subject, &'a [u8])>,
    is_root: &mut dyn FnMut(&Place, u32) -> Option<bool>,
) -> Snapshot {
    let mut now = Snapshot { links, ..Snapshot::default() };
    let mut actions = Vec::new();
    for (subject, payload) in messages {
        match subject {
            Subject::Qdisc => match decode_qdisc(payload, &now.links) {
                Ok(qdisc) if qdisc.handle != 0 => now.qdiscs.push(qdisc),
                Ok(_) | Err(_) => {}
            },
            Subject::Chain(parent) => now.keep(decode_chain(payload, parent, &now.links), Snapshot::add_chain),
            Subject::Filter => now.keep(decode_filter(payload, &now.links), |now, filter| now.filters.push(filter)),
            Subject::Actions => now.keep(decode_action_dump(payload, &now.links), |_, list| actions.extend(list)),
        }
    }
    now.roots = roots::find(&now.filters, is_root);
    now.add_free(actions);
    now
}

/// Reads the state of a namespace, or of one device of it.
///
/// # Errors
/// [`NetlinkError`]: the namespace or the device does not exist, the socket fails, or the state never holds still.
pub fn read(netns: Option<&str>, device: Option<&str>) -> Result<Snapshot, NetlinkError> {
    netns::in_namespace(netns, || {
        let mut socket = Socket::new()?;
        let mut last = None;
        for _ in 0..READINGS_MAX {
            let now = read_once(&mut socket, netns, device)?;
            if last.as_ref() == Some(&now) {
                return Ok(now);
            }
            last = Some(now);
        }
        let what = device.map_or_else(|| "this namespace".to_owned(), |d| DeviceKey::new(netns, d).to_string());
        Err(NetlinkError::Unsteady { what })
    })?
}

fn links(netns: Option<&str>) -> Result<Links, NetlinkError> {
    let failed = |e: nix::Error| NetlinkError::Socket { what: "listing devices", source: e.into() };
    let interfaces = nix::net::if_::if_nameindex().map_err(failed)?;
    let one = |i: &nix::net::if_::Interface| (i.index(), DeviceKey::new(netns, &i.name().to_string_lossy()));
    Ok(Links { list: interfaces.into_iter().map(one).collect() })
}

fn read_once(socket: &mut Socket, netns: Option<&str>, device: Option<&str>) -> Result<Snapshot, NetlinkError> {
    let links = links(netns)?;
    let wanted = match device {
        None => None,
        Some(name) => Some(links.named(name).ok_or_else(|| {
            let names: Vec<&str> = links.list.iter().map(|(_, key)| key.name.as_str()).collect();
            HostError::NoDevice { key: DeviceKey::new(netns, name), others: names.join(", ") }
        })?),
    };
    let mut now = Snapshot { netns: netns.map(str::to_owned), links, ..Snapshot::default() };
    qdiscs(socket, wanted, &mut now)?;
    for (device, parent) in now.hooks() {
        let Some(ifindex) = now.links.ifindex(device) else { continue };
        let request = filters_request(ifindex, parent, None);
        for answer in socket.dump(Message::GetChain, &request, "the list of chains")? {
            now.keep(decode_chain(&answer, parent, &now.links), Snapshot::add_chain);
        }
        let from = now.filters.len();
        for answer in filters(socket, (ifindex, parent), &now)? {
            now.keep(decode_filter(&answer, &now.links), |now, filter| now.filters.push(filter));
        }
        complete_matchall(socket, from, ifindex, &mut now)?;
    }
    now.roots =
        roots::find(&now.filters, &mut |place, table| roots::ask(socket, &now.links, &now.filters, place, table));
    if wanted.is_none() {
        free_actions(socket, &mut now)?;
    }
    Ok(now)
}

impl Snapshot {
    fn keep<T>(&mut self, result: Result<T, Lacking>, put: impl FnOnce(&mut Self, T)) {
        match result {
            Ok(value) => put(self, value),
            Err(lacking) => self.unread.push(lacking),
        }
    }

    /// Some kernels list a chain twice.
    fn add_chain(&mut self, chain: Chain) {
        if !self.chains.contains(&chain) {
            self.chains.push(chain);
        }
    }

    /// Keeps those that were made by themselves and that no filter holds. One of a filter that goes just now is listed without its filter.
    fn add_free(&mut self, actions: Vec<BoundAction>) {
        let held: BTreeSet<(String, u32)> =
            self.filters.iter().flat_map(|f| actions_of(&f.node)).map(|a| (a.kind.clone(), a.index)).collect();
        let is_free = |a: &BoundAction| a.refs > a.binds && !held.contains(&(a.kind.clone(), a.index));
        self.free_actions.extend(actions.into_iter().filter(is_free));
    }

    /// Where filters can be: the hooks of `ingress` and `clsact`, root qdiscs with a handle, and shared blocks, each once.
    #[must_use]
    pub fn hooks(&self) -> Vec<(DeviceId, u32)> {
        let mut hooks = Vec::new();
        for hook in self.qdiscs.iter().flat_map(Qdisc::hooks) {
            if !hooks.contains(&hook) {
                hooks.push(hook);
            }
        }
        hooks
    }
}

impl Qdisc {
    /// Where its filters are: its own hooks, or the shared blocks in their place. What is below a root qdisc only queues.
    #[must_use]
    pub fn hooks(&self) -> Vec<(DeviceId, u32)> {
        let own = match self.kind.as_str() {
            "ingress" => vec![PARENT_INGRESS],
            "clsact" => vec![PARENT_INGRESS, PARENT_EGRESS],
            _ if self.parent == PARENT_ROOT => vec![self.handle],
            _ => Vec::new(),
        };
        let hook = |(parent, block)| if block == 0 { (self.device, parent) } else { (SHARED_BLOCK, block) };
        own.into_iter().zip(self.blocks).map(hook).collect()
    }
}

fn qdiscs(socket: &mut Socket, wanted: Option<DeviceId>, now: &mut Snapshot) -> Result<(), NetlinkError> {
    for answer in socket.dump(Message::GetQdisc, &filters_request(0, 0, None), "the list of qdiscs")? {
        // A device that came after the list of names is read the next time.
        let Ok(qdisc) = decode_qdisc(&answer, &now.links) else { continue };
        if wanted.is_none_or(|device| device == qdisc.device) && qdisc.handle != 0 {
            now.qdiscs.push(qdisc);
        }
    }
    Ok(())
}

/// The records of a hook. The kernel ends its list at a prio of fw in the old method (`fw_walk()`: it says that there is no more room):
/// then each prio is asked for by itself, and one with such in every chain by itself. That takes a good part of a second.
fn filters(socket: &mut Socket, (ifindex, parent): (u32, u32), now: &Snapshot) -> Result<Vec<Vec<u8>>, NetlinkError> {
    const WHAT: &str = "the list of filters";
    let (mut answers, complete) =
        socket.dump_some(Message::GetFilter, &filters_request(ifindex, parent, None), WHAT)?;
    if complete {
        return Ok(answers);
    }
    answers.clear();
    let hook = |chain: &&Chain| chain.parent == parent && now.links.ifindex(chain.device) == Some(ifindex);
    let chains: Vec<u32> = now.chains.iter().filter(hook).map(|chain| chain.index).collect();
    for prio in 1..=u16::MAX {
        let (mut list, complete) =
            socket.dump_some(Message::GetFilter, &prio_request(ifindex, parent, prio, None), WHAT)?;
        if !complete {
            list.clear();
            for chain in &chains {
                let request = prio_request(ifindex, parent, prio, Some(*chain));
                list.extend(socket.dump_some(Message::GetFilter, &request, WHAT)?.0);
            }
        }
        answers.append(&mut list);
    }
    let place = |answer: &Vec<u8>| {
        let index = decode_filter(answer, &now.links).map_or(0, |filter| filter.place.chain);
        chains.iter().position(|chain| *chain == index)
    };
    answers.sort_by_cached_key(place);
    Ok(answers)
}

/// The kernel leaves a matchall filter out of a list when a message ends before it (`mall_walk()` counts it as shown); the list of its
/// prio alone is short enough.
fn complete_matchall(socket: &mut Socket, from: usize, ifindex: u32, now: &mut Snapshot) -> Result<(), NetlinkError> {
    let lost: Vec<Place> = now.filters[from..]
        .iter()
        .filter(|f| f.node == Node::Head && f.place.kind == "matchall")
        .map(|f| f.place.clone())
        .filter(|head| !now.filters[from..].iter().any(|f| f.node != Node::Head && same_prio(&f.place, head)))
        .collect();
    for head in lost {
        let request = filters_request(ifindex, head.parent, Some(&head));
        for answer in socket.dump(Message::GetFilter, &request, "the filter of a prio")? {
            now.keep(decode_filter(&answer, &now.links), |now, filter| {
                if filter.node != Node::Head {
                    now.filters.push(filter);
                }
            });
        }
    }
    Ok(())
}

/// Whether two records are of one prio of one chain.
#[must_use]
pub(super) fn same_prio(a: &Place, b: &Place) -> bool {
    (a.device, a.parent, a.chain, a.prio) == (b.device, b.parent, b.chain, b.prio)
}

fn free_actions(socket: &mut Socket, now: &mut Snapshot) -> Result<(), NetlinkError> {
    for kind in ACTION_KINDS {
        let answers = match socket.dump(Message::GetAction, &action_dump_request(kind), "the list of actions") {
            Ok(answers) => answers,
            // The kernel does not have the kind.
            Err(NetlinkError::Refused { .. }) => continue,
            Err(error) => return Err(error),
        };
        for answer in answers {
            now.keep(decode_action_dump(&answer, &now.links), Snapshot::add_free);
        }
    }
    Ok(())
}

/// The actions of a record.
#[must_use]
pub fn actions_of(node: &Node) -> &[BoundAction] {
    let common: Option<&Common> = match node {
        Node::U32(u32) => Some(&u32.common),
        Node::Flower(flower) => Some(&flower.common),
        Node::Matchall(common) => Some(common),
        Node::Fw(fw) => Some(&fw.common),
        Node::Basic(basic) => Some(&basic.common),
        Node::Head | Node::U32Table(_) | Node::Other(_) => None,
    };
    common.map_or(&[], |c| c.actions.as_slice())
}
