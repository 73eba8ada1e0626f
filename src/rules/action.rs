//! Actions: what is done with a frame that a filter matched, and how to go on after it.

use super::police::Police;
use crate::types::{Checksums, DeviceId, MacAddr, NatRule, PacketType, PeditKey, VlanOp};

/// Position of an action in [`super::Ruleset::actions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActionId(pub u32);

impl ActionId {
    /// As an index into the slice of actions.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// An action as it stands in its kind's table, with its counters. Several filters can share one.
#[derive(Clone, Debug)]
pub struct ActionInstance {
    /// `index N`, unique per kind and network namespace.
    pub index: u32,
    /// What it does.
    pub action: Action,
    /// Base of its counter words, see [`super::ActionWord`].
    pub counters: u32,
}

/// The kinds of action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `gact`: only a verdict.
    Gact(Gact),
    /// `mirred`: send the frame or a copy somewhere.
    Mirred(Mirred),
    /// `skbedit`: change what travels with the frame.
    Skbedit(Skbedit),
    /// `skbmod`: change the Ethernet header (or ECN).
    Skbmod(Skbmod),
    /// `csum`: compute checksums anew.
    Csum(Csum),
    /// `pedit`: change any bytes.
    Pedit(Pedit),
    /// `vlan`: change tags or the Ethernet header.
    Vlan(Vlan),
    /// `nat`: translate an address, without state.
    Nat(Nat),
    /// `simple`: a text, which the kernel would print for each packet.
    Simple(Simple),
    /// `police`: let by so much in a time.
    Police(Police),
}

impl Action {
    /// tc's name of the kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Gact(_) => "gact",
            Self::Mirred(_) => "mirred",
            Self::Skbedit(_) => "skbedit",
            Self::Skbmod(_) => "skbmod",
            Self::Csum(_) => "csum",
            Self::Pedit(_) => "pedit",
            Self::Vlan(_) => "vlan",
            Self::Nat(_) => "nat",
            Self::Simple(_) => "simple",
            Self::Police(_) => "police",
        }
    }

    /// How to go on after it (after a mirred redirect that cannot fail, unused; of police: with what conforms).
    #[must_use]
    pub const fn control(&self) -> Control {
        match self {
            Self::Gact(a) => a.control,
            Self::Mirred(a) => a.control,
            Self::Skbedit(a) => a.control,
            Self::Skbmod(a) => a.control,
            Self::Csum(a) => a.control,
            Self::Pedit(a) => a.control,
            Self::Vlan(a) => a.control,
            Self::Nat(a) => a.control,
            Self::Simple(a) => a.control,
            Self::Police(a) => a.conform,
        }
    }
}

/// How to go on after an action: `TC_ACT_*` of include/uapi/linux/pkt_cls.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// `pass` / `ok`: the frame goes on to the stack; no further filter.
    Pass,
    /// `pipe`: the next action; at the end of the list: like pass.
    Pipe,
    /// `continue` (`TC_ACT_UNSPEC`): the next filter.
    Continue,
    /// `reclassify`: start again at the first filter.
    Reclassify,
    /// `drop` / `shot`.
    Shot,
    /// `stolen`: consumed.
    Stolen,
    /// `queued`: consumed.
    Queued,
    /// `trap`: consumed (there is no hardware).
    Trap,
    /// `jump N`: run the list again from the start without its first N actions.
    Jump(u32),
    /// `goto chain N`.
    GotoChain(u32),
}

/// `gact`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gact {
    /// What it decides.
    pub control: Control,
    /// `random …`: something else now and then.
    pub random: Option<Random>,
}

/// `random KIND CONTROL VAL` of gact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random {
    /// How it is decided.
    pub kind: RandomKind,
    /// What is decided every `val`-th time (on average).
    pub control: Control,
    /// 1..=65535 in tc; 0 is refused there.
    pub val: u16,
}

/// How gact's `random` decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RandomKind {
    /// By chance.
    Netrand,
    /// Every `val`-th time.
    Determ,
}

/// `mirred`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirred {
    /// Egress: transmit on the device. Ingress: as if received by it.
    pub direction: crate::types::Direction,
    /// The frame itself, or a copy.
    pub mode: MirredMode,
    /// Where to.
    pub device: DeviceId,
    /// `stolen` for redirect and `pipe` for mirror, unless given.
    pub control: Control,
}

/// Whether mirred sends the frame or a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirredMode {
    /// The frame itself; it is gone afterwards.
    Redirect,
    /// A copy as rewritten so far.
    Mirror,
}

/// `skbedit`. `None`: left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skbedit {
    /// `ptype`.
    pub ptype: Option<PacketType>,
    /// `mark V/M`: value and mask.
    pub mark: Option<(u32, u32)>,
    /// The mask was written, although it is of all bits: listings then show it.
    pub full_mask: bool,
    /// `priority`.
    pub priority: Option<u32>,
    /// `queue_mapping`.
    pub queue_mapping: Option<u16>,
    /// `inheritdsfield`: priority from the DS field.
    pub inheritdsfield: bool,
    /// How to go on.
    pub control: Control,
}

/// `skbmod`. The kernel takes either addresses and type, or `swap mac`, or `ecn`; of several the later in this list wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skbmod {
    /// `set dmac`.
    pub dmac: Option<MacAddr>,
    /// `set smac`.
    pub smac: Option<MacAddr>,
    /// `set etype`, host byte order.
    pub etype: Option<u16>,
    /// `swap mac`.
    pub swap_mac: bool,
    /// `ecn`: mark congestion.
    pub ecn: bool,
    /// How to go on.
    pub control: Control,
}

/// `csum`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Csum {
    /// Which checksums it computes.
    pub update: Checksums,
    /// How to go on.
    pub control: Control,
}

/// `vlan`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// What it does.
    pub op: VlanOp,
    /// How to go on.
    pub control: Control,
}

/// `nat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nat {
    /// What it translates.
    pub rule: NatRule,
    /// How to go on; `drop` translates nothing.
    pub control: Control,
}

/// `simple`. The packets that it counts are what the kernel would have printed lines for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simple {
    /// `sdata`, at most 31 bytes.
    pub data: String,
    /// How to go on.
    pub control: Control,
}

/// `pedit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pedit {
    /// The words that it changes, in order.
    pub keys: Vec<PeditKey>,
    /// Whether it was written with `ex`.
    pub extended: bool,
    /// How to go on.
    pub control: Control,
}
