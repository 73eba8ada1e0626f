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
mod blocks;
mod compile;
mod driver;
mod ematch;
mod filters;
mod flower;
mod index;
mod layout;
mod packet;
mod police;
mod run;
mod tables;
mod vlan;

pub use crate::rules::police::{Buckets, Tokens};
pub use blocks::Counts;
pub use compile::Refusal;
pub use driver::Driver;
pub use packet::Packet;

use layout::{
    BasicRule, Chain, Compare, Dispatch, FarKey, FarNode, Filter, FwRule, Hook, Key, Node, Rule, Span, Step, Test,
};

use std::collections::HashMap;
use std::ops::Range;

use crate::limits::MIRRED_NEST_MAX;
use crate::rules::police::Policer;
use crate::types::{DeviceId, Direction, DropReason, PacketMeta, PeditKey};

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
    /// Long runs of u32 filters.
    blocks: Vec<blocks::Block>,
    /// Flower filters of many rules.
    flower_blocks: Vec<blocks::FlowerBlock>,
    /// Runs of so many rules get an index; 0: none does.
    run_len_min: usize,
    keys: Vec<Key>,
    /// Nodes of u32 filters that link, and of the tables that are linked to.
    far_nodes: Vec<FarNode>,
    far_keys: Vec<FarKey>,
    /// Stretches of `far_nodes`.
    buckets: Vec<Span>,
    /// Stretches of `buckets`, by position in the ruleset.
    tables: Vec<Span>,
    rules: Vec<Rule>,
    compares: Vec<Compare>,
    fw_rules: Vec<FwRule>,
    basic_rules: Vec<BasicRule>,
    tests: Vec<Test>,
    needles: Vec<u8>,
    /// Something counts from the transport header, which is to be found when a frame comes.
    asks_transport: bool,
    steps: Vec<Step>,
    edits: Vec<PeditKey>,
    policers: Vec<Policer>,
    /// Where the counter words of each policer begin.
    policer_words: Vec<u32>,
    /// By where their words begin, to compile with.
    policer_numbers: HashMap<u32, u32>,
}

impl Plan {
    /// Where the counter words of each policer begin, in the order in which the plan numbers them.
    #[must_use]
    pub fn policers(&self) -> &[u32] {
        &self.policer_words
    }
}

/// Position of a hook in a [`Plan`]. Found once, when a port is opened: [`Plan::hook`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookIndex(u32);

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
    /// A buffer of the owner's with a copy of a frame in it: [`crate::limits::FRAME_HEADROOM`] bytes from its start.
    type Copy: AsMut<[u8]>;

    /// Whether mirred may send to this device: it is up and has a carrier.
    fn is_up(&self, device: DeviceId) -> bool;

    /// A copy of a frame for `mirror`, with room before and perhaps behind it. `None`: there is no buffer; the owner has counted that.
    fn copy(&mut self, data: &[u8]) -> Option<Self::Copy>;

    /// A copy has gone its way, and is at `frame` of its buffer: deliver, transmit or count it. False: it was to be transmitted, and that failed at once. An owner
    /// that transmits later returns true, and adds 1 to the disposition's [`Overlimits`] itself should it fail then.
    fn settle(&mut self, copy: Self::Copy, frame: Range<usize>, meta: &PacketMeta, disposition: &Disposition) -> bool;

    /// A random number below `bound` (at least 1), for `gact random netrand`.
    fn random_below(&mut self, bound: u32) -> u32;
}

#[cfg(test)]
mod tests;
