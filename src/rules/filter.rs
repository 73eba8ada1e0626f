//! Filters: what a frame is compared with. One [`Filter`] is what the kernel calls a `tcf_proto`: all nodes of one prio.

use super::{ActionId, EmatchTerm, FlowerRule};
use crate::types::{DeviceId, Protocol};

/// All that one prio of a chain holds: one protocol, one kind.
#[derive(Clone, Debug)]
pub struct Filter {
    /// `prio` / `pref`: 1..=65535, smaller is tried first.
    pub prio: u16,
    /// Which packets it sees at all.
    pub protocol: Protocol,
    /// The kind, with its nodes.
    pub classifier: Classifier,
}

impl Filter {
    /// The actions of all its nodes, in order; one that is shared comes more than once. Those in linked u32 tables are not in it,
    /// see [`super::Ruleset::filter_actions`].
    pub fn actions(&self) -> impl Iterator<Item = ActionId> + '_ {
        let lists: Vec<&[ActionId]> = match &self.classifier {
            Classifier::U32(nodes) => nodes.iter().map(|n| n.actions.as_slice()).collect(),
            Classifier::Flower(rules) => rules.iter().map(|r| r.actions.as_slice()).collect(),
            Classifier::Matchall(rule) => rule.iter().map(|r| r.actions.as_slice()).collect(),
            Classifier::Fw(fw) => fw.rules().iter().map(|r| r.actions.as_slice()).collect(),
            Classifier::Basic(rules) => rules.iter().map(|r| r.actions.as_slice()).collect(),
        };
        lists.into_iter().flatten().copied()
    }
}

/// The kinds of filter.
#[derive(Clone, Debug)]
pub enum Classifier {
    /// `u32`: nodes of the root table in the order in which they are tried (by node id). Other tables are reached by links, see
    /// [`super::Ruleset::u32_tables`].
    U32(Vec<U32Node>),
    /// `flower`: rules in the order in which they are tried: by the age of their mask, then of themselves.
    /// Rules with `skip_sw` are not in it.
    Flower(Vec<FlowerRule>),
    /// `matchall`: at most one.
    Matchall(Option<MatchallRule>),
    /// `fw`.
    Fw(FwFilter),
    /// `basic`: rules in the order in which they are tried, the youngest first.
    Basic(Vec<BasicRule>),
}

impl Classifier {
    /// tc's name of the kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::U32(_) => "u32",
            Self::Flower(_) => "flower",
            Self::Matchall(_) => "matchall",
            Self::Fw(_) => "fw",
            Self::Basic(_) => "basic",
        }
    }
}

/// One u32 node (`tc_u_knode`): all keys must match.
#[derive(Clone, Debug)]
pub struct U32Node {
    /// `table:bucket:node`, as the kernel packs it: 12, 8 and 12 bits.
    pub handle: u32,
    /// The keys, in the order of comparison.
    pub keys: Vec<U32Key>,
    /// `match mark V M`.
    pub mark: Option<U32Mark>,
    /// `indev D`: only frames that came in by this device.
    pub indev: Option<DeviceId>,
    /// False without action and flowid: such a node matches nothing (`TC_U32_TERMINAL` is not set).
    pub terminal: bool,
    /// `flowid`/`classid`, as `major << 16 | minor`.
    pub classid: Option<u32>,
    /// Executed in order on a match.
    pub actions: Vec<ActionId>,
    /// `link`: on a match the frame first goes through another table.
    pub link: Option<U32Link>,
    /// Base of its counter words, see [`super::NodeWord`].
    pub counters: u32,
}

impl U32Node {
    /// How many counter words it takes.
    #[must_use]
    pub const fn words(&self) -> u32 {
        super::NodeWord::len(self.keys.len()) + self.mark.is_some() as u32
    }
}

/// A u32 table that `divisor` made (`struct tc_u_hnode`): nodes link to it. Its buckets are a power of two.
#[derive(Clone, Debug)]
pub struct U32Table {
    /// Its id, 1..=0xfff.
    pub id: u32,
    /// The device whose qdisc it belongs to.
    pub device: DeviceId,
    /// The prio that it was made under, where it is listed.
    pub prio: u16,
    /// The nodes of each bucket in the order in which they are tried.
    pub buckets: Vec<Vec<U32Node>>,
}

/// `link T`, with what says how to go on there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct U32Link {
    /// Position in [`super::Ruleset::u32_tables`].
    pub table: u32,
    /// Which bucket, and where its keys count from.
    pub descent: U32Descent,
}

/// `offset …` and `hashkey …`: the fields of `struct tc_u32_sel` that matter when a link is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct U32Descent {
    /// `offset plus N`: bytes (`TC_U32_OFFSET`).
    pub plus: Option<u16>,
    /// `offset at A mask M shift S` (`TC_U32_VAROFFSET`).
    pub variable: Option<U32VariableOffset>,
    /// `eat`: the offset moves the base of all keys, not only of those with `nexthdr+` (`TC_U32_EAT`).
    pub eat: bool,
    /// `hashkey mask M`, host byte order; 0: bucket 0.
    pub hash_mask: u32,
    /// `hashkey … at A`: bytes from the present base.
    pub hash_at: i16,
}

/// An offset that the frame itself says: the 16-bit word at `at`, masked, shifted right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct U32VariableOffset {
    /// Bytes from the present base.
    pub at: i16,
    /// Host byte order.
    pub mask: u16,
    /// Bits to the right, below 16.
    pub shift: u8,
}

impl U32Descent {
    /// The bucket for a word (host byte order) of a table with so many buckets (`u32_hash_fold()`).
    #[must_use]
    pub const fn bucket(&self, word: u32, bucket_count: usize) -> usize {
        let shift = if self.hash_mask == 0 { 0 } else { self.hash_mask.trailing_zeros() };
        ((word & self.hash_mask) >> shift) as usize & (bucket_count - 1)
    }

    /// How far the next header is behind the base, given the 16-bit word that `variable` reads; a multiple of 4.
    #[must_use]
    pub fn distance(&self, word: u16) -> i32 {
        let read = self.variable.map_or(0, |v| (word & v.mask) >> v.shift);
        (i32::from(self.plus.unwrap_or(0)) + 3 + i32::from(read)) & !3
    }
}

/// Where a key's offset counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum U32Base {
    /// The network header; in a linked table what `offset … eat` reached.
    Network,
    /// `nexthdr+`: what the `offset` of the last link without `eat` reached; without one that is the same base
    /// (`offmask` −1: `key->off + (off2 & key->offmask)`, u32_classify()).
    NextHeader,
}

/// One u32 key: the 32-bit word at an offset, masked, must equal a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct U32Key {
    /// Already masked; host byte order (as tc prints it).
    pub value: u32,
    /// Host byte order.
    pub mask: u32,
    /// Bytes from the base; may be negative, also so that the word begins before the MAC header at −14, see [`FrameWord`](super::FrameWord).
    pub offset: i32,
    /// See [`U32Base`].
    pub base: U32Base,
}

/// `match mark VALUE MASK` of a u32 node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct U32Mark {
    /// Already masked.
    pub value: u32,
    /// Compared bits.
    pub mask: u32,
}

/// A matchall filter.
#[derive(Clone, Debug)]
pub struct MatchallRule {
    /// Its handle, 1 unless given.
    pub handle: u32,
    /// `skip_sw`: never matches here.
    pub skip_sw: bool,
    /// `classid`.
    pub classid: Option<u32>,
    /// Executed in order.
    pub actions: Vec<ActionId>,
    /// Base of its counter words.
    pub counters: u32,
}

/// All fw filters of one prio.
#[derive(Clone, Debug)]
pub enum FwFilter {
    /// Rules by mark.
    Marks {
        /// `HANDLE/MASK`: the bits of the mark that are looked up, the same for the whole prio.
        mask: u32,
        /// At most one with each mark; in no order.
        rules: Vec<FwRule>,
    },
    /// The old method, `fw` without handle: a mark that names a class of this qdisc ends classification.
    Classes {
        /// The upper half of the qdisc's handle, in its place: `0xffff_0000` for ingress and clsact.
        qdisc: u32,
    },
}

impl FwFilter {
    /// The rules; the old method has none.
    #[must_use]
    pub fn rules(&self) -> &[FwRule] {
        match self {
            Self::Marks { rules, .. } => rules,
            Self::Classes { .. } => &[],
        }
    }

    /// Whether a mark names a class (`fw_classify()`, net/sched/cls_fw.c: the old method).
    #[must_use]
    pub const fn is_class(mark: u32, qdisc: u32) -> bool {
        mark != 0 && (mark >> 16 == 0 || mark >> 16 == qdisc >> 16)
    }
}

/// A fw filter.
#[derive(Clone, Debug)]
pub struct FwRule {
    /// Its handle, which is the mark that it wants (after the mask).
    pub handle: u32,
    /// `indev D`: only frames that came in by this device.
    pub indev: Option<DeviceId>,
    /// `classid`.
    pub classid: Option<u32>,
    /// Executed in order on a match.
    pub actions: Vec<ActionId>,
    /// Base of its counter words.
    pub counters: u32,
}

/// A basic filter.
#[derive(Clone, Debug)]
pub struct BasicRule {
    /// Its handle, 1, 2, … unless given.
    pub handle: u32,
    /// The expression; empty: it matches everything.
    pub ematches: Vec<EmatchTerm>,
    /// `classid`.
    pub classid: Option<u32>,
    /// Executed in order on a match.
    pub actions: Vec<ActionId>,
    /// Base of its counter words.
    pub counters: u32,
}
