//! The fast form of a ruleset: flat arrays in which everything is decided that does not depend on a frame. It does no I/O.
//!
//! A [`Plan`] is never changed, only replaced. [`Plan::run`] takes a frame the whole way that the rules send it: ingress hook,
//! redirects into other hooks, the egress hook of the device that it leaves by. It agrees with [`crate::rules::eval`] on every
//! ruleset and frame; per frame it allocates nothing, locks nothing and every loop has a bound.
//!
//! ```text
//! hook ──▶ chain 0 ──(protocol of the frame)──▶ filters ──▶ nodes ──▶ keys
//!                                                             └─────▶ steps (actions, one copy per use; shared counters)
//! ```

mod actions;
mod compile;
mod driver;
mod filters;
mod run;

pub use compile::Refusal;
pub use driver::Driver;

use crate::limits::MIRRED_NEST_MAX;
use crate::rules::{Control, RandomKind};
use crate::types::{DeviceId, Direction, DropReason, PacketMeta, PacketType};

/// A compiled ruleset.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    hooks: Vec<Hook>,
    /// By device and direction: an index into `hooks`.
    hook_of: Vec<[Option<HookIndex>; 2]>,
    chains: Vec<Chain>,
    dispatch: Vec<Dispatch>,
    /// Lists of filters, one for each [`Dispatch`].
    lists: Vec<Filter>,
    nodes: Vec<Node>,
    keys: Vec<Key>,
    rules: Vec<Rule>,
    compares: Vec<Compare>,
    steps: Vec<Step>,
}

/// Position of a hook in a [`Plan`]. Found once, when a port is opened: [`Plan::hook`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookIndex(u32);

/// A frame on its way.
#[derive(Debug)]
pub struct Packet<'a> {
    /// From the destination MAC on, without the outer VLAN tag (see `wire::vlan::receive`); at least 14 bytes.
    pub data: &'a mut [u8],
    /// What travels beside it.
    pub meta: PacketMeta,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It got past the ingress hook of this device: the host's stack gets it, as rewritten so far.
    Stack {
        /// The device that it counts as received by.
        device: DeviceId,
    },
    /// The device transmits it, with its tag back in place.
    Transmit {
        /// The device.
        device: DeviceId,
        /// What to count if the transmission fails at once.
        overlimits: Overlimits,
    },
    /// It ended at a hook of this device.
    Dropped {
        /// The device.
        device: DeviceId,
        /// Why.
        reason: DropReason,
    },
}

/// Counter words that get 1 more if a transmission fails at once: the `overlimits` of the mirred actions that led to it and hear of it
/// (for a copy, that of the mirror too).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overlimits {
    words: [u32; MIRRED_NEST_MAX as usize],
    count: u8,
}

impl Overlimits {
    /// The words, at most [`MIRRED_NEST_MAX`].
    #[must_use]
    pub fn words(&self) -> &[u32] {
        &self.words[..usize::from(self.count)]
    }

    /// One more mirred action. A redirect at ingress hands the frame over for good: who sent it there hears of no failure behind.
    fn push(&mut self, word: u32, from: Direction) {
        if from == Direction::Ingress {
            self.count = 0;
        }
        self.words[usize::from(self.count)] = word;
        self.count += 1;
    }
}

/// What a plan needs from whoever owns the frames. Its calls are on the hot path: no allocation, no lock.
pub trait Outlet {
    /// A buffer of the owner's with a copy of a frame in it.
    type Copy: AsMut<[u8]>;

    /// Whether mirred may send to this device: it is up and has a carrier.
    fn is_up(&self, device: DeviceId) -> bool;

    /// A copy of a frame for `mirror`; its length is that of `data`. `None`: there is no buffer; the owner has counted that.
    fn copy(&mut self, data: &[u8]) -> Option<Self::Copy>;

    /// A copy has gone its way: deliver, transmit or count it. False: it was to be transmitted, and that failed at once. An owner
    /// that transmits later returns true, and adds 1 to the disposition's [`Overlimits`] itself should it fail then.
    fn settle(&mut self, copy: Self::Copy, meta: &PacketMeta, disposition: &Disposition) -> bool;

    /// A random number below `bound` (at least 1), for `gact random netrand`.
    fn random_below(&mut self, bound: u32) -> u32;
}

/// A stretch of one of the arrays.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    fn of<T>(self, array: &[T]) -> &[T] {
        let start = self.start as usize;
        &array[start..start + self.len as usize]
    }
}

#[derive(Clone, Debug)]
struct Hook {
    device: DeviceId,
    direction: Direction,
    /// Its chains, sorted by index.
    chains: Span,
}

#[derive(Clone, Debug)]
struct Chain {
    index: u32,
    /// By protocol, sorted.
    dispatch: Span,
    /// For a protocol that is not in `dispatch`.
    others: Span,
    /// There were too many protocols for a list each: `others` is all filters, and each is asked for its protocol.
    mixed: bool,
}

/// The filters of a chain that a packet of one protocol meets.
#[derive(Clone, Copy, Debug)]
struct Dispatch {
    protocol: u16,
    filters: Span,
}

#[derive(Clone, Copy, Debug)]
struct Filter {
    protocol: crate::types::Protocol,
    kind: FilterKind,
}

#[derive(Clone, Copy, Debug)]
enum FilterKind {
    /// A stretch of `nodes`.
    U32(Span),
    /// A stretch of `rules`.
    Flower(Span),
    Matchall {
        counters: u32,
        steps: Span,
    },
}

/// A u32 node.
#[derive(Clone, Copy, Debug)]
struct Node {
    counters: u32,
    keys: Span,
    steps: Span,
    mark_value: u32,
    /// 0: no mark is compared (the value is 0 then).
    mark_mask: u32,
    indev: Option<DeviceId>,
    terminal: bool,
}

/// A u32 key, ready to be compared with four bytes as they are in memory.
#[derive(Clone, Copy, Debug)]
struct Key {
    /// From the frame's start; [`Key::NOWHERE`] before it or beyond any frame.
    at: u32,
    value: u32,
    mask: u32,
}

impl Key {
    const NOWHERE: u32 = u32::MAX;
}

/// A flower rule.
#[derive(Clone, Copy, Debug)]
struct Rule {
    counters: u32,
    compares: Span,
    steps: Span,
}

/// One comparison of a flower rule. What the frame does not have is zero, except addresses: those must be there.
#[derive(Clone, Copy, Debug)]
enum Compare {
    EthType(u16),
    IpProto(u8),
    /// `offset` bytes from the IPv4 header.
    Ipv4 {
        offset: u8,
        value: u32,
        mask: u32,
    },
    /// `offset` bytes from the IPv6 header.
    Ipv6 {
        offset: u8,
        value: u128,
        mask: u128,
    },
    /// 0 is the source port, 2 the destination port.
    Port {
        offset: u8,
        value: u16,
        mask: u16,
    },
    PortRange {
        offset: u8,
        low: u16,
        high: u16,
    },
    TcpFlags {
        value: u16,
        mask: u16,
    },
    /// 0 is the destination, 6 the source. In the low 48 bits.
    Mac {
        offset: u8,
        value: u64,
        mask: u64,
    },
}

/// One use of an action.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Base of the action's counter words: the same for each use.
    counters: u32,
    op: Op,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Gact {
        control: Control,
    },
    GactRandom {
        control: Control,
        kind: RandomKind,
        other: Control,
        val: u32,
    },
    Redirect {
        direction: Direction,
        device: DeviceId,
    },
    Mirror {
        direction: Direction,
        device: DeviceId,
        control: Control,
    },
    Skbedit {
        edit: Edit,
        control: Control,
    },
    SetMac {
        dmac: Option<[u8; 6]>,
        smac: Option<[u8; 6]>,
        etype: Option<[u8; 2]>,
        control: Control,
    },
    SwapMac {
        control: Control,
    },
    Ecn {
        control: Control,
    },
    /// skbmod with control `drop`: it counts as a failure before anything is rewritten.
    SkbmodShot,
}

/// What skbedit changes.
#[derive(Clone, Copy, Debug)]
struct Edit {
    ptype: Option<PacketType>,
    mark_value: u32,
    /// 0: the mark stays.
    mark_mask: u32,
    priority: Option<u32>,
    queue_mapping: Option<u16>,
    inheritdsfield: bool,
}

#[cfg(test)]
mod tests;
