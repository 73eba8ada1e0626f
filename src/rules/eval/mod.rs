//! The slow, obvious interpreter of a ruleset: what it does is the definition of "right". It opens no device.
//!
//! It follows net/sched and net/core of Linux 6.1 step by step: a frame is received by a device, crosses its ingress
//! hook, and ends in a stack, on a wire, or nowhere. Proven against a real kernel by the golden cases.

mod actions;
mod basic;
mod classify;
mod dissect;
mod flower;
pub mod trace;
mod u32_filter;
mod vlan;

use std::collections::VecDeque;

use crate::limits::{ETHERNET_LEN, TAGGED_FRAME_LEN_MIN, VETH_HOPS_MAX, VLAN_TAG_LEN};
use crate::rules::{Control, Counters, Ruleset};
use crate::types::{
    Device, DeviceId, DeviceKind, Direction, DropReason, MacAddr, Offload, PacketMeta, PacketType, Topology, VlanTag,
    ethertype, is_tag,
};
use crate::wire::transport;

/// What became of a received frame; one frame may cause several (mirror).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The device's driver got this frame, VLAN tag in its place.
    Transmit {
        /// The device.
        device: DeviceId,
        /// From the destination address on.
        frame: Vec<u8>,
    },
    /// The device's frame got past the ingress hook to the protocol handlers.
    Stack {
        /// The device that it counts as received by.
        device: DeviceId,
        /// From the destination address on, without the outer VLAN tag.
        data: Vec<u8>,
        /// What travels with it.
        meta: PacketMeta,
    },
    /// It ended here.
    Dropped {
        /// The device at whose hook or transmission it ended.
        device: DeviceId,
        /// Why.
        reason: DropReason,
    },
}

/// A random number below the argument, for `gact random netrand`.
pub type RandomBelow<'a> = &'a mut dyn FnMut(u32) -> u32;

/// Rules on devices: the machine that frames are let into.
#[derive(Clone, Copy, Debug)]
pub struct Network<'a> {
    /// The rules; their device ids are those of `topology`.
    pub ruleset: &'a Ruleset,
    /// The devices.
    pub topology: &'a Topology,
}

impl Network<'_> {
    /// What happens when a device receives this frame (from the destination address on, tags in place).
    ///
    /// `counters` must have room for the ruleset's words. A frame without a whole Ethernet header is dropped as malformed,
    /// as a device driver would.
    pub fn receive(
        &self,
        device: DeviceId,
        frame: &[u8],
        counters: &mut Counters,
        random_below: RandomBelow<'_>,
    ) -> Vec<Event> {
        self.receive_told(device, frame, counters, random_below, None)
    }

    /// As [`Network::receive`], telling each step.
    pub fn receive_told(
        &self,
        device: DeviceId,
        frame: &[u8],
        counters: &mut Counters,
        random_below: RandomBelow<'_>,
        tell: Option<trace::Tell<'_>>,
    ) -> Vec<Event> {
        let mut run = Run {
            ruleset: self.ruleset,
            topology: self.topology,
            counters,
            random_below,
            events: Vec::new(),
            nest: 0,
            places: Vec::new(),
            wire: VecDeque::new(),
            tell: tell.map(|tell| tell as trace::Tell<'_>),
        };
        match Skb::from_wire(frame, self.topology.device(device)) {
            None => run.drop_frame(device, DropReason::Malformed),
            Some(skb) => {
                run.ingress(device, skb);
            }
        }
        // What a veth transmits is received by its peer, after the present frame is done (netif_rx).
        let mut hops = 0;
        while let Some((device, skb)) = run.wire.pop_front() {
            hops += 1;
            if hops > VETH_HOPS_MAX {
                run.drop_frame(device, DropReason::MirredLoop);
                continue;
            }
            run.ingress(device, skb);
        }
        run.events
    }
}

/// A frame with what travels beside it (`struct sk_buff`): the outer tag is not in the data.
#[derive(Clone, Debug)]
pub(super) struct Skb {
    pub data: Vec<u8>,
    pub meta: PacketMeta,
    /// `skb->skb_iif`: the device it last came in by.
    pub iif: DeviceId,
    /// How many bytes are behind `skb->transport_header`, which was set when a device received the frame: a frame changes its length
    /// at its head only.
    pub behind_transport: usize,
}

impl Skb {
    /// As the receiving device's driver and `skb_vlan_untag()` make it; `None` if it is too short for that.
    fn from_wire(frame: &[u8], device: &Device) -> Option<Self> {
        if frame.len() < ETHERNET_LEN {
            return None;
        }
        let mut data = frame.to_vec();
        let tpid = u16::from_be_bytes([frame[12], frame[13]]);
        let mut tag = None;
        if tpid == ethertype::VLAN || tpid == ethertype::QINQ {
            if frame.len() < TAGGED_FRAME_LEN_MIN {
                return None;
            }
            tag = Some(VlanTag { tpid, tci: u16::from_be_bytes([frame[14], frame[15]]) });
            data.drain(12..12 + VLAN_TAG_LEN);
        }
        let meta = PacketMeta {
            tag,
            protocol: protocol_of(&data),
            network: ETHERNET_LEN as u16,
            ptype: packet_type(&data, device.mac),
            mark: 0,
            priority: 0,
            queue_mapping: 0,
            offload: Offload::NONE,
        };
        let mut skb = Self { data, meta, iif: DeviceId(0), behind_transport: 0 };
        skb.find_transport();
        Some(skb)
    }

    /// With the tag back in its place (`validate_xmit_vlan`); `None`: there is no place, since the Ethernet header was taken off.
    fn to_wire(&self) -> Option<Vec<u8>> {
        let mut frame = self.data.clone();
        if let Some(tag) = self.meta.tag {
            frame.get(..12)?;
            let bytes = [tag.tpid.to_be_bytes(), tag.tci.to_be_bytes()].concat();
            frame.splice(12..12, bytes);
        }
        Some(frame)
    }

    /// What the receiving device's driver does for the transport header.
    fn find_transport(&mut self) {
        let PacketMeta { protocol, tag, .. } = self.meta;
        let at = transport::offset(&self.data, protocol, self.network(), tag.is_some());
        self.behind_transport = self.data.len() - at;
    }

    /// Where the network header is.
    fn network(&self) -> usize {
        usize::from(self.meta.network)
    }
}

/// What `__netif_receive_skb_core()` does behind the ingress hook where no VLAN device exists: a tag with an id makes the
/// frame somebody else's, a priority tag (id 0) is ignored together with what it hid, and tags are forgotten.
///
/// # Errors
/// [`DropReason::Malformed`] if the tag behind a priority tag is cut.
pub fn enter_stack(data: &mut Vec<u8>, meta: &mut PacketMeta) -> Result<(), DropReason> {
    let inner_is_tag = |protocol| protocol == ethertype::VLAN || protocol == ethertype::QINQ;
    while let Some(tag) = meta.tag.take() {
        if tag.tci & 0x0fff != 0 {
            meta.ptype = PacketType::OtherHost;
        } else if inner_is_tag(meta.protocol) {
            // The network header may be elsewhere, or the Ethernet header gone: the tag is looked for where it always is.
            if data.len() < TAGGED_FRAME_LEN_MIN {
                return Err(DropReason::Malformed);
            }
            meta.tag = Some(VlanTag { tpid: meta.protocol, tci: u16::from_be_bytes([data[14], data[15]]) });
            data.drain(12..12 + VLAN_TAG_LEN);
            meta.protocol = protocol_of(data);
        }
    }
    Ok(())
}

/// `eth_type_trans()`: the type, or 802_2 / 802_3 where there is a length.
fn protocol_of(data: &[u8]) -> u16 {
    let number = u16::from_be_bytes([data[12], data[13]]);
    if number >= ethertype::MIN {
        return number;
    }
    if data.get(14..16) == Some(&[0xff, 0xff]) { ethertype::P_802_3 } else { ethertype::P_802_2 }
}

/// `eth_type_trans()`: whom the frame is for.
fn packet_type(data: &[u8], own: MacAddr) -> PacketType {
    let destination = [data[0], data[1], data[2], data[3], data[4], data[5]];
    if destination == [0xff; 6] {
        PacketType::Broadcast
    } else if destination[0] & 1 == 1 {
        PacketType::Multicast
    } else if destination == own.octets() {
        PacketType::Host
    } else {
        PacketType::OtherHost
    }
}

/// One frame on its way.
pub(super) struct Run<'a> {
    ruleset: &'a Ruleset,
    topology: &'a Topology,
    counters: &'a mut Counters,
    random_below: RandomBelow<'a>,
    events: Vec<Event>,
    /// How deep mirred is in itself.
    nest: u32,
    /// The hooks that the frame is in, innermost last.
    places: Vec<(DeviceId, Direction)>,
    /// What waits on the far end of a veth.
    wire: VecDeque<(DeviceId, Skb)>,
    /// Who wants to see each step.
    tell: Option<trace::Tell<'a>>,
}

impl Run<'_> {
    fn drop_frame(&mut self, device: DeviceId, reason: DropReason) {
        self.events.push(Event::Dropped { device, reason });
    }

    /// `__netif_receive_skb_core()` from the ingress hook on. False: `NET_RX_DROP`.
    fn ingress(&mut self, device: DeviceId, mut skb: Skb) -> bool {
        skb.iif = device;
        if skb.meta.tag.is_none() && is_tag(skb.meta.protocol) && !skb.untag() {
            self.drop_frame(device, DropReason::Malformed);
            return false;
        }
        let bytes = (skb.data.len() - skb.network()) as u64;
        if let Some(success) = self.hook(device, Direction::Ingress, &mut skb, bytes) {
            return success;
        }
        match enter_stack(&mut skb.data, &mut skb.meta) {
            Ok(()) => self.events.push(Event::Stack { device, data: skb.data, meta: skb.meta }),
            Err(reason) => self.drop_frame(device, reason),
        }
        true
    }

    /// `dev_queue_xmit()`. False: it returned an error.
    fn egress(&mut self, device: DeviceId, mut skb: Skb) -> bool {
        let bytes = skb.data.len() as u64;
        if let Some(success) = self.hook(device, Direction::Egress, &mut skb, bytes) {
            return success;
        }
        self.drive(device, skb)
    }

    /// The device's driver.
    fn drive(&mut self, device: DeviceId, mut skb: Skb) -> bool {
        let from = self.topology.device(device);
        let peer = match from.kind {
            DeviceKind::Wire => None,
            DeviceKind::Veth { peer } => peer,
            DeviceKind::Loopback => Some(device),
        };
        if from.kind != DeviceKind::Loopback {
            let Some(frame) = skb.to_wire() else {
                self.drop_frame(device, DropReason::Malformed);
                return false;
            };
            self.events.push(Event::Transmit { device, frame });
        }
        let Some(peer) = peer else { return true };
        let to = self.topology.device(peer);
        // veth_forward_skb() and is_skb_forwardable(): the tag beside the frame does not count.
        if !to.up || skb.data.len() > to.mtu as usize + ETHERNET_LEN + VLAN_TAG_LEN {
            self.drop_frame(device, if to.up { DropReason::TooLong } else { DropReason::TargetDown });
            return false;
        }
        if to.key.netns != from.key.netns {
            skb.meta.mark = 0;
        }
        if skb.data.len() < ETHERNET_LEN {
            // A frame whose Ethernet header was taken off: the receiver finds none.
            self.drop_frame(peer, DropReason::Malformed);
            return true;
        }
        skb.meta.priority = 0;
        skb.meta.network = ETHERNET_LEN as u16;
        skb.meta.protocol = protocol_of(&skb.data);
        skb.meta.ptype = packet_type(&skb.data, to.mac);
        // A veth's peer keeps what the sender had; here as on the wire each device looks for itself.
        skb.find_transport();
        self.wire.push_back((peer, skb));
        true
    }

    /// `sch_handle_ingress()` and `sch_handle_egress()`. `None`: the frame goes on. Else it ended here, and this is whether
    /// whoever handed it over hears of a success.
    fn hook(&mut self, device: DeviceId, direction: Direction, skb: &mut Skb, bytes: u64) -> Option<bool> {
        let ruleset = self.ruleset;
        let hook = ruleset.hook(device, direction)?;
        self.places.push((device, direction));
        self.tell(trace::Step::Enter { device, direction, data: &skb.data, meta: &skb.meta });
        let outcome = self.classify(hook, skb, bytes);
        self.tell(trace::Step::Leave { device, direction, end: outcome.into() });
        self.places.pop();
        let (reason, success) = match outcome {
            Outcome::Control(control) => match control {
                Control::Shot => (DropReason::Rule, false),
                Control::Stolen | Control::Queued | Control::Trap => (DropReason::Consumed, true),
                Control::Pass
                | Control::Pipe
                | Control::Continue
                | Control::Reclassify
                | Control::Jump(_)
                | Control::GotoChain(_) => return None,
            },
            Outcome::Shot(reason) => (reason, false),
            Outcome::Sent => return Some(true),
            Outcome::Lost => return Some(false),
        };
        self.drop_frame(device, reason);
        Some(success)
    }
}

/// What classification, a filter or an action list came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A `TC_ACT_*`; [`Control::Continue`] is "nothing matched" as well.
    Control(Control),
    /// Dropped for a reason of its own.
    Shot(DropReason),
    /// mirred has sent it on (`TC_ACT_CONSUMED`, or `stolen` by a redirect).
    Sent,
    /// mirred at egress tried to send it on (`TC_ACT_SHOT`); the drop was noted where it happened.
    Lost,
}

impl From<Outcome> for trace::End {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Control(control) => Self::Control(control),
            Outcome::Shot(reason) => Self::Dropped(reason),
            Outcome::Sent => Self::Sent,
            Outcome::Lost => Self::Lost,
        }
    }
}

#[cfg(test)]
mod tests;
