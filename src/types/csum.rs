//! Which checksums the action `csum` mends. Plain data.

/// A set of checksums: `TCA_CSUM_UPDATE_FLAG_*` of include/uapi/linux/tc_act/tc_csum.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksums(pub u8);

impl Checksums {
    /// Of the IPv4 header.
    pub const IPV4_HEADER: Self = Self(1);
    /// ICMP and ICMPv6.
    pub const ICMP: Self = Self(2);
    /// IGMP.
    pub const IGMP: Self = Self(4);
    /// TCP.
    pub const TCP: Self = Self(8);
    /// UDP.
    pub const UDP: Self = Self(16);
    /// UDP-Lite.
    pub const UDPLITE: Self = Self(32);
    /// SCTP.
    pub const SCTP: Self = Self(64);

    /// All of them with tc's names, in the order in which tc lists them.
    pub const NAMES: [(Self, &'static str); 7] = [
        (Self::IPV4_HEADER, "iph"),
        (Self::ICMP, "icmp"),
        (Self::IGMP, "igmp"),
        (Self::TCP, "tcp"),
        (Self::UDP, "udp"),
        (Self::UDPLITE, "udplite"),
        (Self::SCTP, "sctp"),
    ];

    /// Whether all of `other` are in it.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
