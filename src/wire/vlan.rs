//! The outer VLAN tag off a frame and back, in place, and what the kernel notes about a frame on receipt. It allocates nothing.

use std::ops::Range;

use super::be16;
use crate::limits::{ETHERNET_LEN, TAGGED_FRAME_LEN_MIN, VLAN_TAG_LEN};
use crate::types::{DropReason, MacAddr, Offload, PacketMeta, PacketType, VlanTag, ethertype, is_tag};

/// Length of the two MAC addresses, which a tag stands behind.
const ADDRESSES_LEN: usize = 12;

/// A received frame, made ready for tc.
#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    /// Where the untagged frame begins in the buffer: 0, or [`VLAN_TAG_LEN`] if a tag was taken off.
    pub start: usize,
    /// What travels with it.
    pub meta: PacketMeta,
}

/// Takes the outer tag off and notes type and addressee, as the kernel does before tc (`eth_type_trans`, `skb_vlan_untag`).
///
/// `frame` is as on the wire, from the destination MAC on; afterwards the untagged frame is `frame[received.start..]`.
///
/// # Errors
/// [`DropReason::Malformed`] for a frame without a whole MAC header, or a tagged one under [`TAGGED_FRAME_LEN_MIN`] bytes.
pub fn receive(frame: &mut [u8], device_mac: MacAddr) -> Result<Received, DropReason> {
    if frame.len() < ETHERNET_LEN {
        return Err(DropReason::Malformed);
    }
    let tag = take_off(frame)?;
    let start = if tag.is_some() { VLAN_TAG_LEN } else { 0 };
    let untagged = &frame[start..];
    let meta = PacketMeta {
        tag,
        protocol: protocol(untagged),
        network: ETHERNET_LEN as u16,
        ptype: packet_type(untagged, device_mac),
        mark: 0,
        priority: 0,
        queue_mapping: 0,
        offload: Offload::NONE,
    };
    Ok(Received { start, meta })
}

/// Takes the outer tag (0x8100 or 0x88a8, not 0x9100) off: the addresses move up by 4 bytes, the untagged frame is `frame[4..]`.
/// `None`: there is no tag and nothing moved.
///
/// # Errors
/// [`DropReason::Malformed`] for a tagged frame under [`TAGGED_FRAME_LEN_MIN`] bytes (`skb_vlan_untag`: `pskb_may_pull(VLAN_HLEN + 2)`).
pub fn take_off(frame: &mut [u8]) -> Result<Option<VlanTag>, DropReason> {
    if frame.len() < ETHERNET_LEN {
        return Ok(None);
    }
    let tpid = be16(frame, ADDRESSES_LEN);
    if !is_tag(tpid) {
        return Ok(None);
    }
    if frame.len() < TAGGED_FRAME_LEN_MIN {
        return Err(DropReason::Malformed);
    }
    let tci = be16(frame, ADDRESSES_LEN + 2);
    frame.copy_within(..ADDRESSES_LEN, VLAN_TAG_LEN);
    Ok(Some(VlanTag { tpid, tci }))
}

/// Puts a tag back: the untagged frame is `buffer[4..]` on entry, the tagged one is all of `buffer` afterwards.
///
/// # Panics
/// If the untagged frame has no two addresses.
pub fn put_back(buffer: &mut [u8], tag: VlanTag) {
    assert!(buffer.len() >= VLAN_TAG_LEN + ADDRESSES_LEN, "a frame has its addresses behind the room for its tag");
    buffer.copy_within(VLAN_TAG_LEN..VLAN_TAG_LEN + ADDRESSES_LEN, 0);
    buffer[ADDRESSES_LEN..ADDRESSES_LEN + 2].copy_from_slice(&tag.tpid.to_be_bytes());
    buffer[ADDRESSES_LEN + 2..ADDRESSES_LEN + 4].copy_from_slice(&tag.tci.to_be_bytes());
}

/// Puts a tag back into the frame at `frame` of its room, before it if there is headroom, else the frame behind the tag moves into
/// the tailroom. Returns where the tagged frame is.
///
/// # Errors
/// [`DropReason::TooLong`] without room, [`DropReason::Malformed`] for a frame without two addresses.
pub fn put_back_in(room: &mut [u8], frame: Range<usize>, tag: VlanTag) -> Result<Range<usize>, DropReason> {
    if frame.len() < ADDRESSES_LEN {
        return Err(DropReason::Malformed);
    }
    if frame.start >= VLAN_TAG_LEN {
        let start = frame.start - VLAN_TAG_LEN;
        put_back(&mut room[start..frame.end], tag);
        return Ok(start..frame.end);
    }
    if room.len() < frame.end + VLAN_TAG_LEN {
        return Err(DropReason::TooLong);
    }
    let at = frame.start + ADDRESSES_LEN;
    room.copy_within(at..frame.end, at + VLAN_TAG_LEN);
    room[at..at + 2].copy_from_slice(&tag.tpid.to_be_bytes());
    room[at + 2..at + 4].copy_from_slice(&tag.tci.to_be_bytes());
    Ok(frame.start..frame.end + VLAN_TAG_LEN)
}

/// `skb->protocol` of an untagged frame: its EtherType, or for a length (802.3) which header follows: raw IPX (0xffff) or LLC.
/// `eth_type_trans`, net/ethernet/eth.c; `vlan_set_encap_proto`, include/linux/if_vlan.h.
///
/// # Panics
/// If the frame has no whole MAC header.
#[must_use]
pub fn protocol(untagged: &[u8]) -> u16 {
    let ether_type = be16(untagged, ADDRESSES_LEN);
    if ether_type >= ethertype::MIN {
        return ether_type;
    }
    match untagged.get(ETHERNET_LEN..ETHERNET_LEN + 2) {
        Some([0xff, 0xff]) => ethertype::P_802_3,
        Some(_) | None => ethertype::P_802_2,
    }
}

/// Whom a frame is for, by its destination address: `eth_type_trans`, net/ethernet/eth.c.
///
/// # Panics
/// If the frame has no whole destination address.
#[must_use]
pub fn packet_type(frame: &[u8], device_mac: MacAddr) -> PacketType {
    let destination = &frame[..6];
    if destination == device_mac.octets() {
        PacketType::Host
    } else if destination == [0xff; 6] {
        PacketType::Broadcast
    } else if destination[0] & 1 != 0 {
        PacketType::Multicast
    } else {
        PacketType::OtherHost
    }
}
