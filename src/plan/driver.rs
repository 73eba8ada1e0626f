//! A plan run as `rules::eval` is: a whole network of devices, one frame at a time, into events. Off the hot path: it allocates.

use std::collections::VecDeque;

use super::{Disposition, Outlet, Packet, Plan};
use crate::limits::{ETHERNET_LEN, VETH_HOPS_MAX, VLAN_TAG_LEN};
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
        let mut data = frame.to_vec();
        match vlan::receive(&mut data, self.topology.device(device).mac) {
            Err(reason) => far.events.push(Event::Dropped { device, reason }),
            Ok(received) => {
                data.drain(..received.start);
                self.arrive(Waiting { device, data, meta: received.meta }, counters, &mut far);
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
        let mut packet = Packet { data: &mut waiting.data, meta: waiting.meta };
        let disposition = self.plan.receive(waiting.device, &mut packet, counters, far);
        let meta = packet.meta;
        if far.settle(waiting.data, &meta, &disposition) {
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
    data: Vec<u8>,
    meta: PacketMeta,
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
        Some(data.to_vec())
    }

    fn settle(&mut self, mut copy: Vec<u8>, meta: &PacketMeta, disposition: &Disposition) -> bool {
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
            self.events.push(Event::Transmit { device, frame: on_the_wire(&data, &meta) });
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
        meta.priority = 0;
        meta.protocol = vlan::protocol(&data);
        meta.ptype = vlan::packet_type(&data, to.mac);
        self.wire.push_back(Waiting { device: peer, data, meta });
        true
    }
}

/// With the tag back in its place.
fn on_the_wire(data: &[u8], meta: &PacketMeta) -> Vec<u8> {
    let Some(tag) = meta.tag else { return data.to_vec() };
    let mut frame = vec![0; VLAN_TAG_LEN];
    frame.extend_from_slice(data);
    vlan::put_back(&mut frame, tag);
    frame
}
