//! What the kernel keeps beside a frame's bytes while tc looks at it: tag, protocol, packet type, mark. Plain data.

use super::Offload;

/// EtherTypes and the kernel's pseudo types (include/uapi/linux/if_ether.h), in host byte order.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// Reverse ARP.
    pub const RARP: u16 = 0x8035;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// MPLS.
    pub const MPLS_UC: u16 = 0x8847;
    /// MPLS multicast.
    pub const MPLS_MC: u16 = 0x8848;
    /// A PPPoE session.
    pub const PPP_SES: u16 = 0x8864;
    /// HSR (IEC 62439-3): a tag with another type behind it.
    pub const HSR: u16 = 0x892f;
    /// PRP version 0, of the same form.
    pub const PRP: u16 = 0x88fb;
    /// batman-adv: a whole Ethernet frame may be in it.
    pub const BATMAN: u16 = 0x4305;
    /// 802.1Q VLAN tag.
    pub const VLAN: u16 = 0x8100;
    /// 802.1ad service tag.
    pub const QINQ: u16 = 0x88a8;
    /// The least number that is a type and not a length.
    pub const MIN: u16 = 0x0600;
    /// `ETH_P_802_3`: raw IPX in an 802.3 frame.
    pub const P_802_3: u16 = 0x0001;
    /// `ETH_P_ALL`.
    pub const ALL: u16 = 0x0003;
    /// `ETH_P_802_2`: an 802.3 frame with an LLC header.
    pub const P_802_2: u16 = 0x0004;
}

/// The protocol that a filter is for: `protocol ip`, `protocol all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Protocol(pub u16);

impl Protocol {
    /// `protocol all`.
    pub const ALL: Self = Self(ethertype::ALL);

    /// Whether a filter with this protocol sees a packet with that one.
    #[must_use]
    pub const fn sees(self, packet: u16) -> bool {
        self.0 == ethertype::ALL || self.0 == packet
    }
}

/// Whether this is the EtherType of a VLAN tag (`eth_type_vlan()`, include/linux/if_vlan.h).
#[must_use]
pub const fn is_tag(protocol: u16) -> bool {
    matches!(protocol, ethertype::VLAN | ethertype::QINQ)
}

/// A VLAN tag that was taken off the frame: host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VlanTag {
    /// Tag protocol identifier: 0x8100 or 0x88a8.
    pub tpid: u16,
    /// Priority (3 bits), drop eligible (1) and VLAN id (12).
    pub tci: u16,
}

/// `skb->pkt_type` (include/uapi/linux/if_packet.h): whom the frame is for, by its destination address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// `PACKET_HOST`: for this host.
    Host = 0,
    /// `PACKET_BROADCAST`.
    Broadcast = 1,
    /// `PACKET_MULTICAST`.
    Multicast = 2,
    /// `PACKET_OTHERHOST`: for somebody else; IP drops it.
    OtherHost = 3,
}

impl PacketType {
    /// tc's word for it (`skbedit ptype`).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Broadcast => "broadcast",
            Self::Multicast => "multicast",
            Self::OtherHost => "otherhost",
        }
    }
}

/// What travels with a frame besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketMeta {
    /// The outer VLAN tag, taken off as the kernel does before tc.
    pub tag: Option<VlanTag>,
    /// `skb->protocol` of the untagged frame: its EtherType, or 802_2 / 802_3. `skbmod set etype` does not change it.
    pub protocol: u16,
    /// Where the network header begins, in bytes from the frame's start: 14, unless actions changed tags or the Ethernet header.
    pub network: u16,
    /// See [`PacketType`].
    pub ptype: PacketType,
    /// `skb->mark`.
    pub mark: u32,
    /// `skb->priority`.
    pub priority: u32,
    /// `skb->queue_mapping`.
    pub queue_mapping: u16,
    /// What is left to the device that transmits it.
    pub offload: Offload,
}

impl PacketMeta {
    /// What filters compare with their protocol: the tag's when there is one (`skb_protocol(skb, false)`).
    #[must_use]
    pub fn classify_protocol(&self) -> u16 {
        self.tag.map_or(self.protocol, |tag| tag.tpid)
    }
}
