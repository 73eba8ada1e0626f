//! The words that every layer shares: devices, VLAN tags, packet types, verdict and drop reasons. Plain data, no behaviour of a layer.

mod csum;
mod device;
mod drop_reason;
mod nat;
mod offload;
mod packet;
mod pedit;
mod vlan;

pub use csum::Checksums;
pub use device::{Device, DeviceId, DeviceKey, DeviceKind, Direction, Topology};
pub use drop_reason::DropReason;
pub use nat::NatRule;
pub use offload::{Gso, GsoKind, Offload, PartialChecksum, Segments};
pub use packet::{PacketMeta, PacketType, Protocol, VlanTag, ethertype, is_tag};
pub use pedit::{PeditHeader, PeditKey};
pub use pnet::util::MacAddr;
pub use vlan::{VLAN_ID_MASK, VLAN_PRIORITY_MASK, VlanOp};
