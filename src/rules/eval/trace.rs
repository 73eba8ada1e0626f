//! What the interpreter does, step by step, for those who want to see it. It changes nothing.

use super::Run;
use crate::rules::{ActionInstance, Control, Ematch, FrameWord, FwFilter, U32Key, U32Node};
use crate::types::{DeviceId, Direction, DropReason, PacketMeta};

/// One step.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// A frame comes to a hook.
    Enter {
        /// The device.
        device: DeviceId,
        /// The hook.
        direction: Direction,
        /// From the destination address on, without the outer VLAN tag.
        data: &'a [u8],
        /// What travels with it.
        meta: &'a PacketMeta,
    },
    /// Classification begins, or begins again, at a chain.
    Chain {
        /// Its number.
        index: u32,
        /// Whether it has any filter.
        exists: bool,
    },
    /// A filter is not asked: it is for another protocol.
    OtherProtocol {
        /// `pref`.
        prio: u16,
        /// The filter's.
        wanted: u16,
        /// The packet's.
        protocol: u16,
    },
    /// A filter is asked.
    Filter {
        /// `pref`.
        prio: u16,
        /// tc's name of it.
        kind: &'static str,
    },
    /// A u32 node's mark is compared.
    Mark {
        /// The node.
        node: &'a U32Node,
        /// The packet's mark.
        mark: u32,
    },
    /// A u32 key is compared.
    Key {
        /// The node.
        node: &'a U32Node,
        /// The key.
        key: &'a U32Key,
        /// The frame's four bytes there; `None`: they are not all in the frame, which ends the whole filter.
        word: Option<FrameWord>,
        /// Where they are, in bytes from the frame's start (without its outer tag).
        at: i64,
        /// How long the frame is so.
        frame_len: usize,
    },
    /// A u32 node's link is followed.
    Link {
        /// The node.
        node: &'a U32Node,
        /// Id of the table.
        table: u32,
        /// Its bucket.
        bucket: usize,
        /// Where its keys count from: bytes behind the network header.
        offset: i64,
        /// Where its `nexthdr+` keys count from: bytes behind that.
        next_header: i64,
        /// That is behind the frame's end: nothing in the table is tried.
        beyond: bool,
    },
    /// A u32 node's link cannot be followed, which ends the whole filter.
    LinkFails {
        /// The node.
        node: &'a U32Node,
        /// Why.
        failure: LinkFailure,
    },
    /// A key of a flower rule is compared.
    Flower {
        /// The rule.
        handle: u32,
        /// tc's name of the key.
        name: &'static str,
        /// What the rule wants.
        want: &'a str,
        /// What the frame has.
        have: &'a str,
        /// Whether that fits.
        holds: bool,
    },
    /// A fw filter looks at the mark.
    Fw {
        /// The filter.
        fw: &'a FwFilter,
        /// The packet's mark.
        mark: u32,
    },
    /// An extended match is asked.
    Ematch {
        /// The rule.
        handle: u32,
        /// The match.
        ematch: &'a Ematch,
        /// `not` stands before it.
        inverted: bool,
        /// Whether it holds, without the `not`.
        holds: bool,
    },
    /// All keys of a node or rule fit.
    Match {
        /// Its handle.
        handle: u32,
        /// Why nothing is done all the same.
        but: Option<&'static str>,
    },
    /// An action was run.
    Action {
        /// From 1.
        order: usize,
        /// The action.
        instance: &'a ActionInstance,
        /// The frame before it.
        before: (&'a [u8], &'a PacketMeta),
        /// The frame after it.
        after: (&'a [u8], &'a PacketMeta),
        /// What it came to.
        end: End,
    },
    /// The hook is left.
    Leave {
        /// The device.
        device: DeviceId,
        /// The hook.
        direction: Direction,
        /// What it came to.
        end: End,
    },
}

/// Why a link cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkFailure {
    /// What it hashes, or adds to the offset, is not all in the frame.
    Cut {
        /// Where that is, in bytes from the frame's start.
        at: i64,
        /// How many bytes.
        bytes: i64,
        /// How long the frame is.
        frame_len: usize,
    },
    /// Tables link too deep.
    Deep,
}

/// What an action or a hook came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A verdict; `continue` of a hook is "nothing matched".
    Control(Control),
    /// Dropped for a reason of its own.
    Dropped(DropReason),
    /// mirred sent it on.
    Sent,
    /// mirred tried to.
    Lost,
}

/// Who listens.
pub type Tell<'a> = &'a mut dyn FnMut(&Step<'_>);

impl Run<'_> {
    /// Whether anybody listens.
    pub(super) fn is_traced(&self) -> bool {
        self.tell.is_some()
    }

    pub(super) fn tell(&mut self, step: Step<'_>) {
        if let Some(tell) = &mut self.tell {
            tell(&step);
        }
    }
}
