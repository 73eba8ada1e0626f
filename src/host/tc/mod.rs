//! The kernel's own tc over rtnetlink: its state as data, and data as requests. Decoding and encoding of a kind stand in one file.
//! It decides nothing and knows no syntax of tc.

mod action;
mod attr;
mod basic;
mod common;
mod control;
mod counts;
mod ematch;
mod flower;
mod fw;
mod matchall;
mod message;
mod meta;
mod probe;
mod read;
mod request;
mod roots;
mod socket;
#[cfg(test)]
mod tests;
mod u32;

pub use counts::{Counted, CountedAction, read_counts};
pub use message::{
    decode_action_dump, decode_chain, decode_filter, decode_qdisc, encode_chain, encode_filter, encode_qdisc,
};
pub use probe::{Support, all_kinds, probe_kinds};
pub use read::{Snapshot, Subject, actions_of, assemble, read};
pub use request::{Change, apply, delete_filters, delete_qdisc};
pub use socket::{NetlinkError, Socket};

use std::sync::LazyLock;

use crate::rules::{Action, EmatchTerm, FlowerKey, U32Descent, U32Key, U32Mark};
use crate::types::{DeviceId, DeviceKey};

/// Why something of the kernel cannot be said in viscum's terms: what it is that viscum has not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Lacking(pub String);

/// What stands in the place of a device for the chains and filters of a shared block; `parent` is then the block's number. It is so in
/// the kernel's messages too (`TCM_IFINDEX_MAGIC_BLOCK`, include/uapi/linux/rtnetlink.h).
pub const SHARED_BLOCK: DeviceId = DeviceId(BLOCK_IFINDEX);
/// `TCM_IFINDEX_MAGIC_BLOCK`.
const BLOCK_IFINDEX: u32 = u32::MAX;
/// What [`Links::key`] says of a shared block; no device can be called so.
static BLOCK_KEY: LazyLock<DeviceKey> = LazyLock::new(|| DeviceKey::local("a shared block"));

/// Devices with the kernel's numbers, all of one namespace. `DeviceId(n)` is the n-th.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// Number and name.
    pub list: Vec<(u32, DeviceKey)>,
}

impl Links {
    /// The device with the kernel's number.
    #[must_use]
    pub fn device(&self, ifindex: u32) -> Option<DeviceId> {
        self.list.iter().position(|(index, _)| *index == ifindex).map(|at| DeviceId(at as u32))
    }

    /// The device of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<DeviceId> {
        self.list.iter().position(|(_, key)| key.name == name).map(|at| DeviceId(at as u32))
    }

    /// The kernel's number of a device, or what stands for [`SHARED_BLOCK`].
    #[must_use]
    pub fn ifindex(&self, device: DeviceId) -> Option<u32> {
        if device == SHARED_BLOCK {
            return Some(BLOCK_IFINDEX);
        }
        self.list.get(device.index()).map(|(index, _)| *index)
    }

    /// The name of a device; of [`SHARED_BLOCK`] something that is no name.
    ///
    /// # Panics
    /// If the id is of other links.
    #[must_use]
    pub fn key(&self, device: DeviceId) -> &DeviceKey {
        if device == SHARED_BLOCK {
            return &BLOCK_KEY;
        }
        &self.list[device.index()].1
    }

    /// Whose filters those of a hook are, for messages: a device's, or a shared block's.
    ///
    /// # Panics
    /// As [`Links::key`].
    #[must_use]
    pub fn owner(&self, device: DeviceId, parent: u32) -> String {
        if device == SHARED_BLOCK { format!("block {parent}") } else { self.key(device).to_string() }
    }
}

/// `TC_H_INGRESS`, the parent of the ingress and the clsact qdisc.
pub const PARENT_INGRESS_QDISC: u32 = 0xffff_fff1;
/// The ingress hook as a parent of filters: `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`.
pub const PARENT_INGRESS: u32 = 0xffff_fff2;
/// The egress hook as a parent of filters.
pub const PARENT_EGRESS: u32 = 0xffff_fff3;
/// `TC_H_ROOT`.
pub const PARENT_ROOT: u32 = u32::MAX;

/// A qdisc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qdisc {
    /// Its device.
    pub device: DeviceId,
    /// `MAJOR << 16`.
    pub handle: u32,
    /// See [`PARENT_INGRESS_QDISC`], [`PARENT_ROOT`].
    pub parent: u32,
    /// `clsact`, `fq`, …
    pub kind: String,
    /// Shared blocks that it is bound to, for ingress and egress; 0: none.
    pub blocks: [u32; 2],
}

/// A chain that the kernel lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its device, or [`SHARED_BLOCK`].
    pub device: DeviceId,
    /// The hook or qdisc, or the block's number.
    pub parent: u32,
    /// Its number.
    pub index: u32,
    /// What its filters may compare: the kind, and flower's key.
    pub template: Option<(String, Result<FlowerKey, Lacking>)>,
}

/// Where a filter is, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its device, or [`SHARED_BLOCK`].
    pub device: DeviceId,
    /// The hook or qdisc, or the block's number.
    pub parent: u32,
    /// Its chain.
    pub chain: u32,
    /// `pref`.
    pub prio: u16,
    /// `protocol`, host byte order.
    pub protocol: u16,
    /// `u32`, `flower`, …
    pub kind: String,
    /// 0: the record of the whole prio.
    pub handle: u32,
}

/// A record of the kernel's list of filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Where it is.
    pub place: Place,
    /// What it is.
    pub node: Node,
}

/// What a record of the list is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// The whole prio: its kind and protocol.
    Head,
    /// A table of u32, with so many buckets.
    U32Table(u32),
    /// A node of u32.
    U32(U32),
    /// A filter of flower.
    Flower(Flower),
    /// The filter of matchall.
    Matchall(Common),
    /// A filter of fw; without one, a head of fw is the old method.
    Fw(Fw),
    /// A filter of basic.
    Basic(Basic),
    /// What viscum has not.
    Other(Lacking),
}

/// What all kinds of filter have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Common {
    /// `classid`.
    pub classid: Option<u32>,
    /// Its actions, in order.
    pub actions: Vec<BoundAction>,
    /// The actions stand under the old word `police`.
    pub old_police: bool,
    /// `skip_hw`.
    pub skip_hw: bool,
    /// `skip_sw`.
    pub skip_sw: bool,
}

/// A node of u32.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct U32 {
    /// The keys, in order.
    pub keys: Vec<U32Key>,
    /// `match mark`.
    pub mark: Option<U32Mark>,
    /// `indev`.
    pub indev: Option<String>,
    /// `TC_U32_TERMINAL`.
    pub terminal: bool,
    /// `link T:`, as a handle.
    pub link: Option<u32>,
    /// `offset …`, `hashkey …`.
    pub descent: U32Descent,
    /// The rest.
    pub common: Common,
}

/// A filter of flower.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flower {
    /// What it compares.
    pub key: FlowerKey,
    /// The rest.
    pub common: Common,
}

/// A filter of fw; its handle is the mark that it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fw {
    /// The bits of the mark that count, the same for its whole prio.
    pub mask: u32,
    /// `indev`.
    pub indev: Option<String>,
    /// The rest.
    pub common: Common,
}

/// A filter of basic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Basic {
    /// Its expression; empty: all frames.
    pub ematches: Vec<EmatchTerm>,
    /// The rest.
    pub common: Common,
}

/// An action as the kernel keeps it. Devices in it are of the [`Links`] that it was decoded with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundAction {
    /// Its kind.
    pub kind: String,
    /// `index N`.
    pub index: u32,
    /// `ref`: more than `binds` if it was made by itself.
    pub refs: u32,
    /// `bind`.
    pub binds: u32,
    /// `cookie`.
    pub cookie: Option<Vec<u8>>,
    /// `hw_stats`: `TCA_ACT_HW_STATS_*`; `None`: any.
    pub hw_stats: Option<u32>,
    /// `TCA_ACT_FLAGS_*`.
    pub flags: u32,
    /// What it does.
    pub what: Result<Action, Lacking>,
}
