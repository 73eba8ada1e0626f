//! One edit of the action `pedit`. Plain data.

/// Where an edit's offset counts from: `TCA_PEDIT_KEY_EX_HDR_TYPE_*` of include/uapi/linux/tc_act/tc_pedit.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeditHeader {
    /// The network header, whatever it is (all there is without `ex`).
    #[default]
    Network,
    /// The Ethernet header.
    Eth,
    /// The network header, said to be IPv4; it is not checked.
    Ipv4,
    /// The network header, said to be IPv6; it is not checked.
    Ipv6,
    /// The transport header; with IPv4 its protocol is not checked.
    Tcp,
    /// As [`PeditHeader::Tcp`].
    Udp,
}

impl PeditHeader {
    /// tc's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Eth => "eth",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// One 32-bit word that is changed (`struct tc_pedit_key`): `word & mask ^ value`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeditKey {
    /// Where offsets count from.
    pub header: PeditHeader,
    /// `add`: the value is added (in x86's byte order, as the kernel does) before the mask is applied.
    pub add: bool,
    /// In network order, as tc prints it.
    pub value: u32,
    /// Bits that stay; in network order.
    pub mask: u32,
    /// Bytes from the header; a multiple of 4.
    pub offset: i32,
    /// Where the byte is that is added to the offset, in bytes from the header.
    pub at: i32,
    /// Its bits that count; 0: nothing is added.
    pub offmask: u32,
    /// By how much they are shifted to the right.
    pub shift: u32,
}
