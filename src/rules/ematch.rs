//! Extended matches (`ematch`): the expression of a `basic` filter, as plain data. What they mean is in `eval`.

use crate::types::PacketMeta;

/// A match in an expression, what is done with its result, and how it goes on behind it (`struct tcf_ematch_hdr`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EmatchTerm {
    /// `not`.
    pub inverted: bool,
    /// What is asked.
    pub ask: EmatchAsk,
    /// The word behind it.
    pub then: EmatchThen,
}

/// What a term asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EmatchAsk {
    /// One match.
    One(Ematch),
    /// `( … )`: a sequence of its own (`TCF_EM_CONTAINER`).
    Group(Vec<EmatchTerm>),
}

/// How a sequence goes on behind a term. There is no precedence: `a or b and c` is `a or (b and c)`, `a and b or c` is `a and (b or c)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EmatchThen {
    /// It is the last.
    End,
    /// `and`: if the term is false, the sequence is, and ends.
    And,
    /// `or`: if the term is true, the sequence is, and ends.
    Or,
}

impl EmatchThen {
    /// Whether a sequence ends behind a term with this result (`tcf_em_early_end()`, include/net/pkt_cls.h).
    #[must_use]
    pub const fn ends(self, result: bool) -> bool {
        match self {
            Self::End => true,
            Self::And => !result,
            Self::Or => result,
        }
    }
}

/// One match.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ematch {
    /// `cmp(…)`.
    Cmp(EmatchCmp),
    /// `u32(…)`.
    U32(EmatchU32),
    /// `nbyte(…)`.
    Nbyte(EmatchNbyte),
    /// `meta(…)`.
    Meta(EmatchMeta),
}

/// Where an offset counts from (`TCF_LAYER_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EmatchLayer {
    /// The MAC header.
    Link = 0,
    /// The network header.
    Network = 1,
    /// The transport header, as the frame had it when a device received it.
    Transport = 2,
}

/// `eq`, `gt`, `lt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EmatchOperand {
    /// Equal.
    Eq,
    /// The left is greater.
    Gt,
    /// The left is less.
    Lt,
}

impl EmatchOperand {
    /// tc's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Gt => "gt",
            Self::Lt => "lt",
        }
    }

    /// Whether an order fits.
    #[must_use]
    pub fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Eq => order.is_eq(),
            Self::Gt => order.is_gt(),
            Self::Lt => order.is_lt(),
        }
    }
}

/// How wide the number is that `cmp` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EmatchWidth {
    /// One byte.
    U8 = 1,
    /// Two.
    U16 = 2,
    /// Four.
    U32 = 4,
}

/// `struct tcf_em_cmp`: a number of the frame, compared as unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EmatchCmp {
    /// `u8`, `u16`, `u32`.
    pub width: EmatchWidth,
    /// `at`: bytes.
    pub offset: u16,
    /// `layer`.
    pub layer: EmatchLayer,
    /// `mask`; 0: none.
    pub mask: u32,
    /// `trans`: the bytes are turned around once more, so the number is read in the host's order (little-endian here).
    pub trans: bool,
    /// How it is compared.
    pub operand: EmatchOperand,
    /// With what.
    pub value: u32,
}

impl EmatchCmp {
    /// Whether the bytes that are at the offset, as many as its width, fit (`em_cmp_match()`, net/sched/em_cmp.c).
    #[must_use]
    pub fn holds(&self, bytes: &[u8]) -> bool {
        let fold = |word: u32, byte: &u8| word << 8 | u32::from(*byte);
        let number = if self.trans { bytes.iter().rev().fold(0, fold) } else { bytes.iter().fold(0, fold) };
        let number = if self.mask == 0 { number } else { number & self.mask };
        self.operand.holds(number.cmp(&self.value))
    }
}

/// `struct tc_u32_key` in an ematch: four bytes from the network header, masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EmatchU32 {
    /// Already masked; host byte order.
    pub value: u32,
    /// Host byte order.
    pub mask: u32,
    /// Bytes from the network header; may be negative, also so that the word begins before the MAC header, see
    /// [`FrameWord`](super::FrameWord).
    pub offset: i32,
    /// `nexthdr+`: it is listed, and changes nothing (`basic` knows no next header).
    pub next_header: bool,
}

/// `struct tcf_em_nbyte`: bytes that must be there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EmatchNbyte {
    /// The bytes, at least one.
    pub needle: Vec<u8>,
    /// `at`: bytes.
    pub offset: u16,
    /// `layer`.
    pub layer: EmatchLayer,
}

/// `meta(LEFT OPERAND RIGHT)`. Both are numbers, or both are texts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EmatchMeta {
    /// The left.
    pub left: MetaObject,
    /// How it is compared with the right.
    pub operand: EmatchOperand,
    /// The right.
    pub right: MetaObject,
}

/// One side of `meta(…)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MetaObject {
    /// A number as written.
    Number(u32),
    /// A quoted text.
    Text(Vec<u8>),
    /// A number that travels with the frame.
    Field {
        /// Which.
        field: MetaField,
        /// `shift`: bits to the right; the low six bits of it count.
        shift: u8,
        /// `mask`, after the shift; 0: none.
        mask: u32,
    },
    /// `dev` beside a text: the name of the device whose hook the frame is at.
    Device {
        /// `shift`: how many characters at its end do not count; as many as it has or more: all count.
        shift: u8,
    },
}

/// A number that travels with the frame (`TCF_META_ID_*`). Those of sockets, routes, the system's load and drivers are not known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetaField {
    /// `random`: 64 new random bits each time.
    Random,
    /// `priority`: `skb->priority`.
    Priority,
    /// `protocol`: as it is in memory in network order, so IPv4 is 8 (on little-endian machines).
    Protocol,
    /// `pkt_type`: 0 host, 1 broadcast, 2 multicast, 3 other host.
    PacketType,
    /// `pkt_len`: bytes from the network header at ingress, of the whole frame at egress.
    PacketLen,
    /// `mac_len`: from the frame's start to its network header.
    MacLen,
    /// `nf_mark`, `fwmark`.
    Mark,
    /// `vlan`: priority and id of the outer tag.
    Vlan,
}

impl MetaField {
    /// tc's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Priority => "priority",
            Self::Protocol => "protocol",
            Self::PacketType => "pkt_type",
            Self::PacketLen => "pkt_len",
            Self::MacLen => "mac_len",
            Self::Mark => "nf_mark",
            Self::Vlan => "vlan",
        }
    }

    /// Its value for a frame whose data (what `skb->data` points to: the network header at ingress) are these (net/sched/em_meta.c).
    /// `None`: it has none, and the match does not hold. `random` makes 16 random bits.
    pub fn value(self, meta: &PacketMeta, data: &[u8], random: &mut dyn FnMut() -> u16) -> Option<u64> {
        Some(match self {
            Self::Random => (0..4).fold(0, |word, _| word << 16 | u64::from(random())),
            Self::Priority => meta.priority.into(),
            Self::Protocol => u16::from_le_bytes(meta.classify_protocol().to_be_bytes()).into(),
            Self::PacketType => meta.ptype as u64,
            Self::PacketLen => data.len() as u64,
            Self::MacLen => meta.network.into(),
            Self::Mark => meta.mark.into(),
            // `__vlan_get_tag()` takes what `skb->data` points to for an Ethernet header, which it is at egress only.
            Self::Vlan => match (meta.tag, data.get(12..16)) {
                (Some(tag), _) => tag.tci.into(),
                (None, Some([0x81, 0x00, high, low] | [0x88, 0xa8, high, low])) => {
                    u16::from_be_bytes([*high, *low]).into()
                }
                (None, _) => return None,
            },
        })
    }
}

/// `meta_int_apply_extras()`: a shift by 64 or more is what the processor makes of it.
#[must_use]
pub const fn meta_extras(value: u64, shift: u8, mask: u32) -> u64 {
    let shifted = value.wrapping_shr(shift as u32);
    if mask == 0 { shifted } else { shifted & mask as u64 }
}

/// `meta_var_compare()`: the shorter is the less, then by bytes.
#[must_use]
pub fn meta_text_order(left: &[u8], right: &[u8]) -> std::cmp::Ordering {
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

/// `meta_var_apply_extras()`: a device's name without its last characters.
#[must_use]
pub fn meta_device(name: &[u8], shift: u8) -> &[u8] {
    match name.len().checked_sub(usize::from(shift)) {
        Some(len) if len > 0 => &name[..len],
        Some(_) | None => name,
    }
}

/// All matches of an expression, those in parentheses too.
pub fn ematches(terms: &[EmatchTerm], each: &mut dyn FnMut(&Ematch)) {
    for term in terms {
        match &term.ask {
            EmatchAsk::One(ematch) => each(ematch),
            EmatchAsk::Group(terms) => ematches(terms, each),
        }
    }
}

/// Whether anything in an expression counts from the transport header.
#[must_use]
pub fn asks_transport(terms: &[EmatchTerm]) -> bool {
    let mut found = false;
    ematches(terms, &mut |ematch| {
        found |= match ematch {
            Ematch::Cmp(cmp) => cmp.layer == EmatchLayer::Transport,
            Ematch::Nbyte(nbyte) => nbyte.layer == EmatchLayer::Transport,
            Ematch::U32(_) | Ematch::Meta(_) => false,
        };
    });
    found
}
