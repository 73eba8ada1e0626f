//! What the action `vlan` does. Plain data.

use super::MacAddr;

/// A change of tags or of the Ethernet header: `TCA_VLAN_ACT_*` of include/uapi/linux/tc_act/tc_vlan.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VlanOp {
    /// `pop`: the outer tag off, if there is one.
    Pop,
    /// `push`: one more tag, outside of those that are there.
    Push {
        /// 0x8100 or 0x88a8.
        tpid: u16,
        /// Priority and VLAN id.
        tci: u16,
    },
    /// `modify`: the outer tag rewritten, if there is one.
    Modify {
        /// 0x8100 or 0x88a8.
        tpid: u16,
        /// VLAN id.
        id: u16,
        /// Priority, 0..=7; `None`: it stays.
        priority: Option<u8>,
    },
    /// `pop_eth`: the Ethernet header off.
    PopEth,
    /// `push_eth`: an Ethernet header before a frame that has none.
    PushEth {
        /// Destination.
        dst: MacAddr,
        /// Source.
        src: MacAddr,
    },
}

/// The bits of a TCI that are the VLAN id.
pub const VLAN_ID_MASK: u16 = 0x0fff;
/// The bits of a TCI that are the priority.
pub const VLAN_PRIORITY_MASK: u16 = 0xe000;

impl VlanOp {
    /// tc's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pop => "pop",
            Self::Push { .. } => "push",
            Self::Modify { .. } => "modify",
            Self::PopEth => "pop_eth",
            Self::PushEth { .. } => "push_eth",
        }
    }

    /// What `modify` makes of a TCI (`tcf_vlan_act()`).
    #[must_use]
    pub const fn modified(tci: u16, id: u16, priority: Option<u8>) -> u16 {
        let tci = tci & !VLAN_ID_MASK | id;
        match priority {
            Some(priority) => tci & !VLAN_PRIORITY_MASK | (priority as u16) << 13,
            None => tci,
        }
    }
}
