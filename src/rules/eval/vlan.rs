//! The action `vlan`: `tcf_vlan_act()` of net/sched/act_vlan.c, with `skb_vlan_pop()` and its kin of net/core/skbuff.c.

use super::{Outcome, Run, Skb, protocol_of};
use crate::limits::{ETHERNET_LEN, NETWORK_OFFSET_MAX, TAGGED_FRAME_LEN_MIN};
use crate::rules::{ActionWord, CounterSink, Vlan};
use crate::types::{DropReason, VlanOp, VlanTag, is_tag};

impl Run<'_> {
    pub(super) fn vlan(&mut self, vlan: &Vlan, base: u32, skb: &mut Skb, bytes: u64) -> Outcome {
        self.counters.count_action(base, bytes);
        match skb.vlan(vlan.op) {
            Ok(()) => Outcome::Control(vlan.control),
            Err(reason) => {
                self.counters.add(base + ActionWord::DROPS, 1);
                Outcome::Shot(reason)
            }
        }
    }
}

impl Skb {
    fn vlan(&mut self, op: VlanOp) -> Result<(), DropReason> {
        match op {
            VlanOp::Pop => {
                if self.meta.tag.is_some() {
                    self.meta.tag = None;
                } else if is_tag(self.meta.protocol) {
                    self.remove_tag()?;
                } else {
                    return Ok(());
                }
                if is_tag(self.meta.protocol) {
                    self.meta.tag = Some(self.remove_tag()?);
                }
            }
            VlanOp::Push { tpid, tci } => {
                if let Some(tag) = self.meta.tag {
                    self.insert_tag(tag)?;
                }
                self.meta.tag = Some(VlanTag { tpid, tci });
            }
            VlanOp::Modify { tpid, id, priority } => {
                if self.meta.tag.is_none() {
                    if !is_tag(self.meta.protocol) {
                        return Ok(());
                    }
                    self.meta.tag = Some(self.remove_tag()?);
                }
                self.meta.tag = self.meta.tag.map(|tag| VlanTag { tpid, tci: VlanOp::modified(tag.tci, id, priority) });
            }
            VlanOp::PopEth => {
                if self.meta.tag.is_some() || self.network() < ETHERNET_LEN {
                    return Err(DropReason::Rule);
                }
                self.data.drain(..ETHERNET_LEN);
                self.meta.network -= ETHERNET_LEN as u16;
            }
            VlanOp::PushEth { dst, src } => {
                if self.meta.tag.is_some() || self.network() != 0 {
                    return Err(DropReason::Rule);
                }
                let mut header = dst.octets().to_vec();
                header.extend(src.octets());
                header.extend(self.meta.protocol.to_be_bytes());
                self.data.splice(..0, header);
                self.meta.network = ETHERNET_LEN as u16;
            }
        }
        Ok(())
    }

    /// `__vlan_insert_tag()`: into the frame, behind the addresses.
    fn insert_tag(&mut self, tag: VlanTag) -> Result<(), DropReason> {
        if self.data.len() < 12 {
            return Err(DropReason::Malformed);
        }
        if self.network() + 4 > NETWORK_OFFSET_MAX {
            return Err(DropReason::TooLong);
        }
        self.data.splice(12..12, [tag.tpid.to_be_bytes(), tag.tci.to_be_bytes()].concat());
        self.meta.network += 4;
        self.meta.protocol = tag.tpid;
        Ok(())
    }

    /// `__skb_vlan_pop()`: out of the frame.
    fn remove_tag(&mut self) -> Result<VlanTag, DropReason> {
        if self.data.len() < 18 {
            return Err(DropReason::Rule);
        }
        let tag = VlanTag { tpid: self.meta.protocol, tci: u16::from_be_bytes([self.data[14], self.data[15]]) };
        // The addresses move up to the type behind the tag; what stood before the tag's TCI was a type, whatever it said.
        self.data.drain(12..16);
        self.meta.network = self.meta.network.saturating_sub(4).max(ETHERNET_LEN as u16);
        self.meta.protocol = protocol_of(&self.data);
        Ok(tag)
    }

    /// `skb_vlan_untag()`, when a frame comes in with its tag in it. False: it is too short.
    pub(super) fn untag(&mut self) -> bool {
        if self.data.len() < TAGGED_FRAME_LEN_MIN {
            return false;
        }
        self.meta.tag = self.remove_tag().ok();
        true
    }
}
