//! The action `vlan` on a frame in its room: `tcf_vlan_act()`, net/sched/act_vlan.c, and what it calls in net/core/skbuff.c.

use super::actions::After;
use super::run::{Run, View};
use super::{Outlet, Packet};
use crate::limits::{ETHERNET_LEN, TAGGED_FRAME_LEN_MIN, VLAN_TAG_LEN};
use crate::rules::{ActionWord, Control, CounterSink};
use crate::types::{DropReason, VlanOp, VlanTag, is_tag};
use crate::wire::{be16, vlan};

/// Length of the two MAC addresses.
const ADDRESSES_LEN: usize = 12;

impl<C: CounterSink, O: Outlet> Run<'_, C, O> {
    pub(super) fn vlan(&mut self, base: u32, view: &mut View<'_, '_>, op: VlanOp, control: Control) -> After {
        self.count(base, view);
        view.headers = None;
        match change(view.packet, op) {
            Ok(()) => After::Control(control),
            Err(reason) => {
                self.counters.add(base + ActionWord::DROPS, 1);
                After::Shot(reason)
            }
        }
    }
}

fn change(packet: &mut Packet<'_>, op: VlanOp) -> Result<(), DropReason> {
    match op {
        VlanOp::Pop => pop(packet),
        VlanOp::Push { tpid, tci } => push(packet, VlanTag { tpid, tci }),
        VlanOp::Modify { tpid, id, priority } => {
            let tci = match packet.meta.tag {
                Some(tag) => tag.tci,
                None if is_tag(packet.meta.protocol) => strip(packet)?,
                None => return Ok(()),
            };
            packet.meta.tag = Some(VlanTag { tpid, tci: VlanOp::modified(tci, id, priority) });
            Ok(())
        }
        VlanOp::PopEth => {
            if packet.meta.tag.is_some() || usize::from(packet.meta.network) < ETHERNET_LEN {
                return Err(DropReason::Rule);
            }
            packet.shrink(ETHERNET_LEN);
            Ok(())
        }
        VlanOp::PushEth { dst, src } => {
            if packet.meta.tag.is_some() || packet.meta.network != 0 {
                return Err(DropReason::Rule);
            }
            if !packet.grow(ETHERNET_LEN) {
                return Err(DropReason::TooLong);
            }
            let protocol = packet.meta.protocol.to_be_bytes();
            let data = packet.data_mut();
            data[..6].copy_from_slice(&dst.octets());
            data[6..12].copy_from_slice(&src.octets());
            data[12..14].copy_from_slice(&protocol);
            Ok(())
        }
    }
}

/// `skb_vlan_pop()`: the next tag takes the place of the one that goes.
fn pop(packet: &mut Packet<'_>) -> Result<(), DropReason> {
    if packet.meta.tag.take().is_none() {
        if !is_tag(packet.meta.protocol) {
            return Ok(());
        }
        strip(packet)?;
    }
    let tpid = packet.meta.protocol;
    if is_tag(tpid) {
        let tci = strip(packet)?;
        packet.meta.tag = Some(VlanTag { tpid, tci });
    }
    Ok(())
}

/// `skb_vlan_push()`: the tag that was outermost goes into the frame.
fn push(packet: &mut Packet<'_>, tag: VlanTag) -> Result<(), DropReason> {
    if let Some(inner) = packet.meta.tag {
        if packet.frame().len() < ADDRESSES_LEN {
            return Err(DropReason::Malformed);
        }
        if !packet.grow(VLAN_TAG_LEN) {
            return Err(DropReason::TooLong);
        }
        vlan::put_back(packet.data_mut(), inner);
        packet.meta.protocol = inner.tpid;
    }
    packet.meta.tag = Some(tag);
    Ok(())
}

/// `__skb_vlan_pop()`: takes the tag out of the frame, and returns its TCI.
fn strip(packet: &mut Packet<'_>) -> Result<u16, DropReason> {
    let data = packet.data_mut();
    if data.len() < ETHERNET_LEN + VLAN_TAG_LEN {
        return Err(DropReason::Rule);
    }
    let tci = be16(data, ETHERNET_LEN);
    data.copy_within(..ADDRESSES_LEN, VLAN_TAG_LEN);
    packet.shrink(VLAN_TAG_LEN);
    packet.meta.network = packet.meta.network.max(ETHERNET_LEN as u16);
    packet.meta.protocol = vlan::protocol(packet.data());
    Ok(tci)
}

/// `skb_vlan_untag()` of a frame that came in by a veth with its tag in it. False: it is too short, and dropped.
pub(super) fn untag(packet: &mut Packet<'_>) -> bool {
    if packet.frame().len() < TAGGED_FRAME_LEN_MIN {
        return false;
    }
    let tpid = packet.meta.protocol;
    let stripped = strip(packet).map(|tci| VlanTag { tpid, tci });
    packet.meta.tag = stripped.ok();
    stripped.is_ok()
}
