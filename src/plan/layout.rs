//! What a plan's flat arrays hold. Data only: `compile` writes it, `run`, `filters` and `actions` read it.

use crate::rules::{Control, EmatchCmp, EmatchLayer, EmatchOperand, FrameWord, MetaField, RandomKind, U32Descent};
use crate::types::{Checksums, DeviceId, Direction, NatRule, PacketType, Protocol, VlanOp};

/// A stretch of one of the arrays.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) len: u32,
}

impl Span {
    pub(super) fn of<T>(self, array: &[T]) -> &[T] {
        let start = self.start as usize;
        &array[start..start + self.len as usize]
    }
}

#[derive(Clone, Debug)]
pub(super) struct Hook {
    pub(super) device: DeviceId,
    pub(super) direction: Direction,
    /// Its chains, sorted by index.
    pub(super) chains: Span,
}

#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) index: u32,
    /// By protocol, sorted.
    pub(super) dispatch: Span,
    /// For a protocol that is not in `dispatch`.
    pub(super) others: Span,
    /// There were too many protocols for a list each: `others` is all filters, and each is asked for its protocol.
    pub(super) mixed: bool,
}

/// The filters of a chain that a packet of one protocol meets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dispatch {
    pub(super) protocol: u16,
    pub(super) filters: Span,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Filter {
    /// Its place in the chain: the same in each list that it is in.
    pub(super) order: u32,
    pub(super) protocol: Protocol,
    pub(super) kind: FilterKind,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum FilterKind {
    /// A stretch of `nodes`.
    U32(Span),
    /// One of `blocks`.
    U32Block(u32),
    /// A stretch of `far_nodes`: at least one of them links.
    U32Tables(Span),
    /// A stretch of `rules`.
    Flower(Span),
    /// One of `flower_blocks`.
    FlowerBlock(u32),
    Matchall {
        counters: u32,
        steps: Span,
    },
    /// A stretch of `fw_rules`, sorted by handle.
    Fw {
        mask: u32,
        rules: Span,
    },
    /// fw's old method.
    FwClasses {
        qdisc: u32,
    },
    /// A stretch of `basic_rules`.
    Basic(Span),
}

/// A fw rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct FwRule {
    pub(super) handle: u32,
    pub(super) counters: u32,
    pub(super) indev: Option<DeviceId>,
    pub(super) steps: Span,
}

/// A basic rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct BasicRule {
    pub(super) counters: u32,
    /// Its first test, or where an expression ends that asks nothing.
    pub(super) entry: u32,
    pub(super) steps: Span,
}

/// A match of an expression and where to go on: to another of `tests`, or to what is beyond any (`MATCH`, `MISS`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Test {
    pub(super) question: Question,
    pub(super) yes: u32,
    pub(super) no: u32,
}

/// What a test asks of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question {
    Cmp(EmatchCmp),
    /// From the network header; ready to be compared with four bytes as they are in memory.
    U32 {
        offset: i32,
        value: u32,
        mask: u32,
    },
    Nbyte {
        layer: EmatchLayer,
        offset: u16,
        /// A stretch of `needles`.
        needle: Span,
    },
    Meta {
        left: Number,
        operand: EmatchOperand,
        right: Number,
    },
}

/// A side of `meta`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Known(u64),
    Field { field: MetaField, shift: u8, mask: u32 },
}

/// A u32 node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) counters: u32,
    pub(super) keys: Span,
    pub(super) steps: Span,
    pub(super) mark_value: u32,
    /// 0: no mark is compared (the value is 0 then).
    pub(super) mark_mask: u32,
    /// Counts that the mark fitted; 0: no mark is compared.
    pub(super) mark_word: u32,
    pub(super) indev: Option<DeviceId>,
    pub(super) terminal: bool,
}

/// A u32 key, ready to be compared with four bytes as they are in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// From the network header.
    pub(super) offset: i32,
    pub(super) value: u32,
    pub(super) mask: u32,
}

impl Key {
    /// Whether it holds; `None`: it is not wholly in the frame.
    #[inline]
    pub(super) fn compare(&self, data: &[u8], network: usize) -> Option<bool> {
        // Before the frame it wraps to what is beyond any frame.
        let at = network.wrapping_add_signed(self.offset as isize);
        let bytes = data.get(at..at.checked_add(4)?)?.first_chunk::<4>()?;
        Some((u32::from_ne_bytes(*bytes) ^ self.value) & self.mask == 0)
    }

    /// Whether it holds where it is not wholly in the frame; `None`: it cannot be read.
    #[cold]
    pub(super) fn before(&self, data: &[u8], network: usize) -> Option<bool> {
        let word = FrameWord::at(data, network as i64 + i64::from(self.offset))?;
        Some(word.holds(u32::from_be_bytes(self.value.to_ne_bytes()), u32::from_be_bytes(self.mask.to_ne_bytes())))
    }
}

/// A node of a u32 filter that links, or of a linked table: its keys are a stretch of `far_keys`.
#[derive(Clone, Copy, Debug)]
pub(super) struct FarNode {
    pub(super) node: Node,
    pub(super) link: Option<LinkTo>,
}

/// A key whose place is known only when a frame comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct FarKey {
    pub(super) offset: i32,
    pub(super) next_header: bool,
    /// Host byte order.
    pub(super) value: u32,
    pub(super) mask: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct LinkTo {
    pub(super) table: u32,
    pub(super) descent: U32Descent,
    /// It has an offset or `eat`: only then a base behind the frame's end counts.
    pub(super) moves: bool,
}

/// A flower rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) counters: u32,
    pub(super) compares: Span,
    pub(super) steps: Span,
}

/// One comparison of a flower rule. What the frame does not have is zero, except addresses: those must be there. Values are masked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Compare {
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
    /// TOS (or traffic class) in the high byte, TTL (or hop limit) in the low one.
    TosTtl {
        value: u16,
        mask: u16,
    },
    /// Bits of `rules::flower::fragment`.
    Fragment {
        value: u8,
        mask: u8,
    },
    /// Type and code.
    Icmp {
        value: u16,
        mask: u16,
    },
    /// `num_of_vlans`.
    TagCount(u8),
    /// 0 is the outer tag. TCI, type and the type behind it, from the high bits of 48 on.
    Tag {
        index: u8,
        value: u64,
        mask: u64,
    },
    /// Entries of the label stack that must be there, as bits.
    MplsEntries(u8),
    /// 0 is the outermost entry.
    Mpls {
        index: u8,
        value: u32,
        mask: u32,
    },
    /// Two bytes of an ARP request or reply.
    ArpOp {
        value: u16,
        mask: u16,
    },
    /// An address of IPv4 in it, `offset` bytes from its start.
    ArpIpv4 {
        offset: u8,
        value: u32,
        mask: u32,
    },
    /// A MAC address in it. In the low 48 bits.
    ArpMac {
        offset: u8,
        value: u64,
        mask: u64,
    },
    /// Session and PPP protocol; the header must be there.
    Pppoe {
        value: u32,
        mask: u32,
    },
    Indev(DeviceId),
    Never,
}

/// One use of an action.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Base of the action's counter words: the same for each use.
    pub(super) counters: u32,
    pub(super) op: Op,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
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
    /// A stretch of `edits`.
    Pedit {
        edits: Span,
        control: Control,
    },
    Csum {
        update: Checksums,
        control: Control,
    },
    Vlan {
        op: VlanOp,
        control: Control,
    },
    Nat {
        rule: NatRule,
        control: Control,
    },
    /// One of `policers`.
    Police(u32),
    /// Only counts: simple.
    Count {
        control: Control,
    },
}

/// What skbedit changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edit {
    pub(super) ptype: Option<PacketType>,
    pub(super) mark_value: u32,
    /// 0: the mark stays.
    pub(super) mark_mask: u32,
    pub(super) priority: Option<u32>,
    pub(super) queue_mapping: Option<u16>,
    pub(super) inheritdsfield: bool,
}
