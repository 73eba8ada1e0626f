//! The filters of a namespace, or of a device of it, as they were read: deleted in the kernel, and made again.

use std::collections::BTreeSet;

use crate::app::import::{Import, plan};
use crate::host::netns;
use crate::host::tc::{
    Change, NetlinkError, Node, PARENT_EGRESS, PARENT_INGRESS, Place, Qdisc, SHARED_BLOCK, Snapshot, Socket, apply,
    delete_filters, read as read_kernel,
};
use crate::types::{DeviceId, DeviceKey};

/// What was read of a namespace, or of a device of it.
pub(super) struct Part {
    pub netns: Option<String>,
    pub device: Option<String>,
    pub snapshot: Snapshot,
    pub import: Import,
}

impl Part {
    pub fn read(netns: Option<&str>, device: Option<&str>) -> Result<Self, NetlinkError> {
        let mut snapshot = read_kernel(netns, device)?;
        // Filters of a root qdisc choose queues there: that stays the kernel's, and so do actions that no filter has.
        let is_hook = |parent: u32| matches!(parent, PARENT_INGRESS | PARENT_EGRESS);
        snapshot.filters.retain(|f| is_hook(f.place.parent) && f.place.device != SHARED_BLOCK);
        let with_filters: BTreeSet<DeviceId> = snapshot.filters.iter().map(|f| f.place.device).collect();
        snapshot.chains.retain(|c| is_hook(c.parent) && with_filters.contains(&c.device));
        snapshot.roots.retain(|(place, _)| is_hook(place.parent));
        let is_of_hook = |q: &Qdisc| matches!(q.kind.as_str(), "ingress" | "clsact");
        snapshot.qdiscs.retain(|q| is_of_hook(q) && (with_filters.contains(&q.device) || q.blocks != [0, 0]));
        snapshot.free_actions.clear();
        let mut import = plan(&snapshot);
        for step in &mut import.steps {
            // As the words say it: whatever number the root table gets.
            match &mut step.change {
                Change::Filter(f) if matches!(f.node, Node::U32(_)) && in_root(&snapshot, &f.place) => {
                    f.place.handle &= 0xfff;
                }
                Change::Action(_) | Change::Qdisc(_) | Change::Chain(_) | Change::Filter(_) | Change::DropPrio(_) => {}
            }
        }
        Ok(Self { netns: netns.map(str::to_owned), device: device.map(str::to_owned), snapshot, import })
    }

    /// Where filters are: device, hook, chain. Frames begin with chain 0, so that goes first.
    pub fn hooks(&self) -> BTreeSet<(DeviceId, u32, u32)> {
        self.snapshot.filters.iter().map(|f| (f.place.device, f.place.parent, f.place.chain)).collect()
    }

    pub fn names(&self) -> String {
        let devices: BTreeSet<DeviceId> = self.hooks().iter().map(|(device, _, _)| *device).collect();
        devices.iter().map(|d| self.snapshot.links.key(*d).to_string()).collect::<Vec<_>>().join(", ")
    }

    pub fn delete(&self) -> Result<(), NetlinkError> {
        netns::in_namespace(self.netns.as_deref(), || {
            let mut socket = Socket::new()?;
            let links = &self.snapshot.links;
            let mut hooks = self.hooks().into_iter();
            hooks.try_for_each(|(device, parent, chain)| delete_filters(&mut socket, links, (device, parent), chain))
        })?
    }

    /// Makes all again, as far as the kernel lets it; in the part's namespace.
    pub fn make(&self, partly: bool, failures: &mut Vec<String>, gone: &mut BTreeSet<DeviceKey>) {
        let links = &self.snapshot.links;
        let mut socket = match Socket::new() {
            Ok(socket) => socket,
            Err(error) => return failures.push(error.to_string()),
        };
        // By their numbers: another device may have a name by now, and one may have another name. Without an answer the kernel will say it.
        let there: Option<Vec<u32>> =
            nix::net::if_::if_nameindex().ok().map(|list| list.iter().map(nix::net::if_::Interface::index).collect());
        let is_gone = |ifindex: u32| there.as_ref().is_some_and(|there| !there.contains(&ifindex));
        for step in &self.import.steps {
            if let Some(device) = device_of(&step.change) {
                if links.ifindex(device).is_some_and(is_gone) {
                    gone.insert(links.key(device).clone());
                    continue;
                }
            }
            let Err(error) = apply(&mut socket, links, &step.change) else { continue };
            if !is_there(&step.change, &error, partly) {
                failures.push(error.to_string());
            }
        }
    }
}

/// Whether a u32 node is in the root table of its prio.
fn in_root(snapshot: &Snapshot, node: &Place) -> bool {
    let same = |p: &Place| (p.device, p.parent, p.chain, p.prio) == (node.device, node.parent, node.chain, node.prio);
    snapshot.roots.iter().any(|(place, root)| same(place) && *root == Ok(node.handle >> 20))
}

/// Whether an error only says that what is to be made is there: qdiscs, chains and actions stay when filters go.
fn is_there(change: &Change, error: &NetlinkError, partly: bool) -> bool {
    let exists = error.errno() == Some(libc::EEXIST);
    match change {
        Change::Action(_) | Change::Qdisc(_) | Change::Chain(_) => exists,
        Change::Filter(_) | Change::DropPrio(_) => partly && exists,
    }
}

fn device_of(change: &Change) -> Option<DeviceId> {
    match change {
        Change::Action(_) => None,
        Change::Qdisc(qdisc) => Some(qdisc.device),
        Change::Chain(chain) => Some(chain.device),
        Change::Filter(filter) => Some(filter.place.device),
        Change::DropPrio(place) => Some(place.device),
    }
}
