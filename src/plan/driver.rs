//! A plan run as `rules::eval` is: a whole network of devices, one frame at a time, into events. Off the hot path: it allocates.

use std::collections::VecDeque;
use std::ops::Range;

use super::{Disposition, Outlet, Packet, Plan};
use crate::limits::{ETHERNET_LEN, FRAME_HEADROOM, VETH_HOPS_MAX, VLAN_TAG_LEN};
use crate::rules::CounterSink;
use crate::rules::eval::{Event, RandomBelow, enter_stack};
use crate::types::{DeviceId, DeviceKind, DropReason, PacketMeta, Topology};
use crate::wire::vlan;

/// A plan on devices: the machine that frames are let into.
#[derive(Clone, Copy, Debug)]
pub struct Driver<'a> {
    /// The compiled rules; their device ids are those of `topology`.
    pub plan: &'a Plan,
    /// The devices.
    pub topology: &'a Topology,
}

impl Driver<'_> {
    /// What happens when a device receives this frame: the same events and counts as of [`crate::rules::eval::Network::receive`].
    ///
    /// # Panics
    /// If `counters` has not the ruleset's words, or `device` is of another topology.
    pub fn receive<C: CounterSink>(
        &self,
        device: DeviceId,
        frame: &[u8],
        counters: &mut C,
        random_below: RandomBelow<'_>,
    ) -> Vec<Event> {
        let mut far = Far { topology: self.topology, events: Vec::new(), wire: VecDeque::new(), random_below };
        let mut room = with_headroom(frame);
        match vlan::receive(&mut room[FRAME_HEADROOM..], self.topology.device(device).mac) {
            Err(reason) => far.events.push(Event::Dropped { device, reason }),
            Ok(received) => {
                let frame = FRAME_HEADROOM + received.start..room.len();
                self.arrive(Waiting { device, room, frame, meta: received.meta }, counters, &mut far);
            }
        }
        // What a veth transmits is received by its peer after the present frame is done.
        let mut hops = 0;
        while let Some(waiting) = far.wire.pop_front() {
            hops += 1;
            if hops > VETH_HOPS_MAX {
                far.events.push(Event::Dropped { device: waiting.device, reason: DropReason::MirredLoop });
                continue;
            }
            self.arrive(waiting, counters, &mut far);
        }
        far.events
    }

    fn arrive<C: CounterSink>(&self, mut waiting: Waiting, counters: &mut C, far: &mut Far<'_>) {
        let mut packet = Packet::new(&mut waiting.room, waiting.frame, waiting.meta);
        let disposition = self.plan.receive(waiting.device, &mut packet, counters, far);
        let (frame, meta) = (packet.frame(), packet.meta);
        if far.settle(waiting.room, frame, &meta, &disposition) {
            return;
        }
        if let Disposition::Transmit { overlimits, .. } = disposition {
            for word in overlimits.words() {
                counters.add(*word, 1);
            }
        }
    }
}

/// A frame on its way to a veth's peer, or just received.
struct Waiting {
    device: DeviceId,
    room: Vec<u8>,
    frame: Range<usize>,
    meta: PacketMeta,
}

/// A frame with [`FRAME_HEADROOM`] before it.
fn with_headroom(frame: &[u8]) -> Vec<u8> {
    let mut room = vec![0; FRAME_HEADROOM];
    room.extend_from_slice(frame);
    room
}

/// What is behind the hooks.
struct Far<'a> {
    topology: &'a Topology,
    events: Vec<Event>,
    wire: VecDeque<Waiting>,
    random_below: RandomBelow<'a>,
}

impl Outlet for Far<'_> {
    type Copy = Vec<u8>;

    fn is_up(&self, device: DeviceId) -> bool {
        self.topology.device(device).up
    }

    fn copy(&mut self, data: &[u8]) -> Option<Vec<u8>> {
        Some(with_headroom(data))
    }

    fn settle(&mut self, mut copy: Vec<u8>, frame: Range<usize>, meta: &PacketMeta, disposition: &Disposition) -> bool {
        copy.truncate(frame.end);
        copy.drain(..frame.start);
        match *disposition {
            Disposition::Stack { device } => {
                let mut meta = *meta;
                self.events.push(match enter_stack(&mut copy, &mut meta) {
                    Ok(()) => Event::Stack { device, data: copy, meta },
                    Err(reason) => Event::Dropped { device, reason },
                });
                true
            }
            Disposition::Dropped { device, reason } => {
                self.events.push(Event::Dropped { device, reason });
                true
            }
            Disposition::Transmit { device, .. } => self.drive(device, copy, *meta),
        }
    }

    fn random_below(&mut self, bound: u32) -> u32 {
        (self.random_below)(bound)
    }
}

impl Far<'_> {
    /// The device's driver. False: it did not take the frame.
    fn drive(&mut self, device: DeviceId, data: Vec<u8>, mut meta: PacketMeta) -> bool {
        let from = self.topology.device(device);
        let peer = match from.kind {
            DeviceKind::Wire => None,
            DeviceKind::Veth { peer } => peer,
            DeviceKind::Loopback => Some(device),
        };
        if from.kind != DeviceKind::Loopback {
            match on_the_wire(&data, &meta) {
                Ok(frame) => self.events.push(Event::Transmit { device, frame }),
                Err(reason) => {
                    self.events.push(Event::Dropped { device, reason });
                    return false;
                }
            }
        }
        let Some(peer) = peer else { return true };
        let to = self.topology.device(peer);
        // veth_forward_skb() and is_skb_forwardable(): the tag beside the frame does not count.
        if !to.up || data.len() > to.mtu as usize + ETHERNET_LEN + VLAN_TAG_LEN {
            let reason = if to.up { DropReason::TooLong } else { DropReason::TargetDown };
            self.events.push(Event::Dropped { device, reason });
            return false;
        }
        if to.key.netns != from.key.netns {
            meta.mark = 0;
        }
        if data.len() < ETHERNET_LEN {
            // A frame whose Ethernet header was taken off: the receiver finds none.
            self.events.push(Event::Dropped { device: peer, reason: DropReason::Malformed });
            return true;
        }
        meta.priority = 0;
        meta.protocol = vlan::protocol(&data);
        meta.network = ETHERNET_LEN as u16;
        meta.ptype = vlan::packet_type(&data, to.mac);
        let room = with_headroom(&data);
        let frame = FRAME_HEADROOM..room.len();
        self.wire.push_back(Waiting { device: peer, room, frame, meta });
        true
    }
}

/// With the tag back in its place.
fn on_the_wire(data: &[u8], meta: &PacketMeta) -> Result<Vec<u8>, DropReason> {
    let Some(tag) = meta.tag else { return Ok(data.to_vec()) };
    let mut room = with_headroom(data);
    let frame = vlan::put_back_in(&mut room, FRAME_HEADROOM..FRAME_HEADROOM + data.len(), tag)?;
    Ok(room[frame].to_vec())
}
