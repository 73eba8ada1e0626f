//! What hangs on one hook: chains, their filters (`tcf_proto`), their nodes. Data with look-ups; no command is known here.

use super::actions::ActionSlot;
use super::flower::FlowerIndex;
use crate::rules::{EmatchTerm, FlowerKey, U32Descent, U32Key, U32Mark};
use crate::tc::command::Parent;
use crate::types::DeviceId;

/// A filter block: chains in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// The chains, also those that only a `goto chain` has made.
    pub chains: Vec<Chain>,
    /// The parent by which the last filter was added (`block->classid`).
    pub parent: Option<Parent>,
}

/// A chain.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Its number.
    pub index: u32,
    /// Made by `chain add`.
    pub explicit: bool,
    /// What its filters may compare: protocol and flower key.
    pub template: Option<FlowerKey>,
    /// Sorted by prio.
    pub protos: Vec<Proto>,
}

/// All that one prio of a chain holds.
#[derive(Clone, Debug)]
pub struct Proto {
    /// `pref`.
    pub prio: u16,
    /// `protocol`.
    pub protocol: u16,
    /// The kind.
    pub kind: ProtoKind,
    /// u32: the root table's id, 0x800..=0xfff; else 0.
    pub table: u32,
    /// When it was made: larger is later.
    pub sequence: u64,
    /// Its nodes, sorted by handle.
    pub entries: Vec<Entry>,
    /// flower: keys and masks in use.
    pub flower: FlowerIndex,
    /// fw: the mask of all its handles; `None` in the old method.
    pub mask: Option<u32>,
}

/// The kinds of filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtoKind {
    /// `u32`.
    U32,
    /// `flower`.
    Flower,
    /// `matchall`.
    Matchall,
    /// `fw`.
    Fw,
    /// `basic`.
    Basic,
}

impl ProtoKind {
    /// tc's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::U32 => "u32",
            Self::Flower => "flower",
            Self::Matchall => "matchall",
            Self::Fw => "fw",
            Self::Basic => "basic",
        }
    }
}

/// One node: what tc calls a filter.
#[derive(Clone, Debug)]
pub struct Entry {
    /// u32: `table << 20 | node`; else a number.
    pub handle: u32,
    /// `classid`.
    pub classid: Option<u32>,
    /// Its actions.
    pub actions: Vec<ActionSlot>,
    /// See `tc::filter::Common::old_police`.
    pub old_police: bool,
    /// `skip_hw` was given.
    pub skip_hw: bool,
    /// Base of its counter words.
    pub counters: u32,
    /// Line of the script that made it; 0: none.
    pub line: usize,
    /// When it was made: larger is later. fw and basic: one that takes another's place takes its age.
    pub sequence: u64,
    /// What its kind adds.
    pub body: Body,
}

/// What the kinds add to a node.
#[derive(Clone, Debug)]
pub enum Body {
    /// `u32`.
    U32 {
        /// The keys.
        keys: Vec<U32Key>,
        /// `match mark`.
        mark: Option<U32Mark>,
        /// `indev`.
        indev: Option<DeviceId>,
        /// Whether a match counts.
        terminal: bool,
        /// Id of the table that it links to.
        link: Option<u32>,
        /// `offset …` and `hashkey …`; without a link they are only listed.
        offset: U32Descent,
    },
    /// `flower`.
    Flower {
        /// The key as written.
        written: Box<FlowerKey>,
        /// Age of its mask.
        mask_sequence: u64,
        /// Its place among the filters of its mask: a replaced one keeps it.
        place_in_mask: u64,
    },
    /// `matchall`.
    Matchall,
    /// `fw`.
    Fw {
        /// `indev`.
        indev: Option<DeviceId>,
    },
    /// `basic`.
    Basic {
        /// The expression.
        ematches: Vec<EmatchTerm>,
    },
}

impl Block {
    /// The chain with this number.
    #[must_use]
    pub fn chain(&self, index: u32) -> Option<&Chain> {
        self.chains.iter().find(|c| c.index == index)
    }

    /// The same, to change.
    pub fn chain_mut(&mut self, index: u32) -> Option<&mut Chain> {
        self.chains.iter_mut().find(|c| c.index == index)
    }

    /// The chain, made if it is not there.
    pub fn chain_or_new(&mut self, index: u32) -> &mut Chain {
        let at = self.chains.iter().position(|c| c.index == index).unwrap_or_else(|| {
            self.chains.push(Chain { index, explicit: false, template: None, protos: Vec::new() });
            self.chains.len() - 1
        });
        &mut self.chains[at]
    }

    /// All filters of all chains.
    pub fn protos(&self) -> impl Iterator<Item = (&Chain, &Proto)> {
        self.chains.iter().flat_map(|c| c.protos.iter().map(move |p| (c, p)))
    }

    /// Whether it holds any filter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.protos().next().is_none()
    }
}

impl Chain {
    /// Position of a prio, or where it would be.
    pub fn position(&self, prio: u16) -> Result<usize, usize> {
        self.protos.binary_search_by_key(&prio, |p| p.prio)
    }
}

impl Proto {
    /// Position of a handle, or where it would be.
    pub fn position(&self, handle: u32) -> Result<usize, usize> {
        // Handles mostly come in ascending order.
        match self.entries.last() {
            Some(last) if last.handle < handle => Err(self.entries.len()),
            _ => self.entries.binary_search_by_key(&handle, |e| e.handle),
        }
    }

    /// Its nodes in the order in which the kernel lists them (`tp->ops->walk()`).
    #[must_use]
    pub fn listed(&self) -> Vec<&Entry> {
        let mut list: Vec<&Entry> = self.entries.iter().collect();
        match self.kind {
            ProtoKind::U32 | ProtoKind::Flower | ProtoKind::Matchall => {}
            // By hash (`fw_hash()`), then the youngest first.
            ProtoKind::Fw => list.sort_by_key(|e| {
                let hash = e.handle ^ e.handle >> 16;
                ((hash ^ hash >> 8) & 0xff, std::cmp::Reverse(e.sequence))
            }),
            ProtoKind::Basic => list.sort_by_key(|e| std::cmp::Reverse(e.sequence)),
        }
        list
    }

    /// The lowest handle in a range that is free.
    #[must_use]
    pub fn free_handle(&self, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
        super::u32::free_handle(&self.entries, range)
    }
}
