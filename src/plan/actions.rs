//! What actions do to a frame: `tcf_action_exec()` and the `act_*.c` of net/sched, over the plan's flat steps.

use std::ops::Range;

use super::layout::{Edit, Op, Span, Step};
use super::run::{Place, Run, View};
use super::{Disposition, Outlet, Overlimits, Packet};
use crate::limits::{ACTIONS_PER_FILTER_MAX, ETHERNET_LEN, FRAME_HEADROOM, MIRRED_NEST_MAX};
use crate::rules::{ActionWord, Control, CounterSink, RandomKind};
use crate::types::{Checksums, DeviceId, Direction, DropReason, NatRule, PacketMeta, ethertype};
use crate::wire::headers::{IPV4_LEN_MIN, IPV6_LEN};
use crate::wire::{be16, csum, nat, pedit};

/// How it goes on after a step, a list of steps, a filter or a hook.
#[derive(Clone, Copy)]
pub(super) enum After {
    /// A `TC_ACT_*`; `continue` is "nothing matched" as well.
    Control(Control),
    /// Dropped for a reason of its own.
    Shot(DropReason),
    /// The frame goes on at another device.
    Redirect { direction: Direction, device: DeviceId, counters: u32 },
}

impl<C: CounterSink, O: Outlet> Run<'_, C, O> {
    /// `tcf_action_exec()`, net/sched/act_api.c. Without actions: pass. Jumps are bounded, so is the list.
    pub(super) fn steps(&mut self, steps: Span, view: &mut View<'_, '_>) -> After {
        let steps = steps.of(&self.plan.steps);
        if steps.is_empty() {
            return After::Control(Control::Pass);
        }
        let mut skip = 0;
        let mut jumps = 0;
        'restart: loop {
            for step in &steps[skip..] {
                match self.step(step, view) {
                    After::Control(Control::Pipe) => {}
                    After::Control(Control::Jump(count)) => {
                        jumps += 1;
                        let count = count as usize;
                        if count == 0 || count > steps.len() || jumps >= ACTIONS_PER_FILTER_MAX {
                            return After::Control(Control::Pass);
                        }
                        skip = count;
                        continue 'restart;
                    }
                    after @ (After::Control(_) | After::Shot(_) | After::Redirect { .. }) => return after,
                }
            }
            return After::Control(Control::Pipe);
        }
    }

    fn step(&mut self, step: &Step, view: &mut View<'_, '_>) -> After {
        let base = step.counters;
        match step.op {
            Op::Gact { control } => self.gact(base, view, control),
            Op::GactRandom { control, kind, other, val } => {
                let hit = match kind {
                    RandomKind::Netrand => self.outlet.random_below(val) == 0,
                    RandomKind::Determ => {
                        self.counters.add(base + ActionWord::STATE, 1);
                        self.counters.get(base + ActionWord::STATE).is_multiple_of(u64::from(val))
                    }
                };
                self.gact(base, view, if hit { other } else { control })
            }
            Op::Redirect { direction, device } => self.redirect(base, view, direction, device),
            Op::Mirror { direction, device, control } => self.mirror(base, view, direction, device, control),
            Op::Skbedit { edit, control } => self.skbedit(base, view, &edit, control),
            Op::SetMac { dmac, smac, etype, control } => {
                let fits = mac_is_writable(view.packet, view.place.direction);
                if fits {
                    set_mac(view.packet.data_mut(), dmac, smac, etype);
                    forget_overwritten(view);
                }
                self.skbmod(base, view, fits, control)
            }
            Op::SwapMac { control } => {
                let fits = mac_is_writable(view.packet, view.place.direction);
                if fits {
                    let (destination, rest) = view.packet.data_mut().split_at_mut(6);
                    destination.swap_with_slice(&mut rest[..6]);
                    forget_overwritten(view);
                }
                self.skbmod(base, view, fits, control)
            }
            Op::Ecn { control } => {
                let fits = ecn(view.packet);
                self.skbmod(base, view, fits, control)
            }
            Op::SkbmodShot => self.skbmod(base, view, false, Control::Shot),
            Op::Pedit { edits, control } => {
                self.count(base, view);
                let (data, meta) = view.packet.parts_mut();
                pedit::apply(data, meta, edits.of(&self.plan.edits));
                view.headers = None;
                After::Control(control)
            }
            Op::Csum { update, control } => self.csum(base, view, update, control),
            Op::Vlan { op, control } => self.vlan(base, view, op, control),
            Op::Nat { rule, control } => self.nat(base, view, rule, control),
            Op::Police(number) => self.police(base, view, number),
            Op::Count { control } => {
                self.count(base, view);
                After::Control(control)
            }
        }
    }

    /// `bstats_update()`, include/net/sch_generic.h: a super-frame counts as the segments that it stands for.
    pub(super) fn count(&mut self, base: u32, view: &View<'_, '_>) {
        self.counters.count_packets(base, view.bytes, view.packets);
    }

    /// `tcf_csum_act()`, net/sched/act_csum.c. With control `drop` it fails before anything is computed.
    fn csum(&mut self, base: u32, view: &mut View<'_, '_>, update: Checksums, control: Control) -> After {
        self.count(base, view);
        let start = match view.place.direction {
            Direction::Ingress => usize::from(view.packet.meta.network),
            Direction::Egress => 0,
        };
        // With an IHL below 5 the checksums are in the IP header.
        view.headers = None;
        let (data, meta) = view.packet.parts_mut();
        if control != Control::Shot && csum::mend(data, meta, start, update) {
            return After::Control(control);
        }
        self.counters.add(base + ActionWord::DROPS, 1);
        After::Control(Control::Shot)
    }

    /// `tcf_nat_act()`, net/sched/act_nat.c. With control `drop` nothing is translated.
    fn nat(&mut self, base: u32, view: &mut View<'_, '_>, rule: NatRule, control: Control) -> After {
        self.count(base, view);
        view.headers = None;
        let (data, meta) = view.packet.parts_mut();
        let (network, partial) = (usize::from(meta.network), meta.offload.checksum.is_some());
        if control != Control::Shot && nat::translate(data, network, rule, partial) {
            return After::Control(control);
        }
        self.counters.add(base + ActionWord::DROPS, 1);
        After::Control(Control::Shot)
    }

    /// The end of `tcf_gact_act()`, net/sched/act_gact.c.
    fn gact(&mut self, base: u32, view: &View<'_, '_>, control: Control) -> After {
        self.count(base, view);
        if control == Control::Shot {
            self.counters.add(base + ActionWord::DROPS, 1);
        }
        After::Control(control)
    }

    /// Counts as `tcf_skbmod_act()`, net/sched/act_skbmod.c; what does not fit is dropped.
    fn skbmod(&mut self, base: u32, view: &View<'_, '_>, fits: bool, control: Control) -> After {
        self.count(base, view);
        if fits {
            return After::Control(control);
        }
        self.counters.add(base + ActionWord::OVERLIMITS, 1);
        After::Control(Control::Shot)
    }

    /// `tcf_skbedit_act()`, net/sched/act_skbedit.c.
    fn skbedit(&mut self, base: u32, view: &mut View<'_, '_>, edit: &Edit, control: Control) -> After {
        self.count(base, view);
        let (data, meta) = view.packet.parts_mut();
        if let Some(priority) = edit.priority {
            meta.priority = priority;
        }
        if edit.inheritdsfield && !inherit_ds_field(data, meta) {
            self.counters.add(base + ActionWord::DROPS, 1);
            return After::Control(Control::Shot);
        }
        if let Some(queue_mapping) = edit.queue_mapping {
            meta.queue_mapping = queue_mapping;
        }
        meta.mark = (meta.mark & !edit.mark_mask) | edit.mark_value;
        if let Some(ptype) = edit.ptype {
            meta.ptype = ptype;
        }
        After::Control(control)
    }

    /// `tcf_mirred_act()`, net/sched/act_mirred.c, for a redirect: the caller takes the frame on, in place.
    fn redirect(&mut self, base: u32, view: &View<'_, '_>, direction: Direction, device: DeviceId) -> After {
        if view.place.nest >= MIRRED_NEST_MAX {
            return After::Shot(DropReason::MirredLoop);
        }
        self.count(base, view);
        if !self.outlet.is_up(device) {
            self.counters.add(base + ActionWord::OVERLIMITS, 1);
            return After::Shot(DropReason::TargetDown);
        }
        After::Redirect { direction, device, counters: base }
    }

    /// `tcf_mirred_act()` for a mirror: a copy goes its whole way before the frame goes on. `nest` bounds the recursion.
    fn mirror(
        &mut self,
        base: u32,
        view: &View<'_, '_>,
        direction: Direction,
        device: DeviceId,
        control: Control,
    ) -> After {
        if view.place.nest >= MIRRED_NEST_MAX {
            return After::Shot(DropReason::MirredLoop);
        }
        self.count(base, view);
        let mut overlimits = Overlimits::default();
        overlimits.push(base + ActionWord::OVERLIMITS, Direction::Egress);
        let copy = if self.outlet.is_up(device) { self.outlet.copy(view.packet.data()) } else { None };
        match copy {
            Some(copy) => {
                let place = Place { device, direction, iif: view.place.device, nest: view.place.nest + 1 };
                let frame = FRAME_HEADROOM..FRAME_HEADROOM + view.packet.frame().len();
                self.send_copy(copy, frame, view.packet.meta, place, overlimits);
            }
            None => self.failed(&overlimits),
        }
        After::Control(control)
    }

    fn send_copy(
        &mut self,
        mut copy: O::Copy,
        frame: Range<usize>,
        meta: PacketMeta,
        place: Place,
        overlimits: Overlimits,
    ) {
        let mut packet = Packet::new(copy.as_mut(), frame, meta);
        let disposition = self.travel(&mut packet, place, overlimits);
        let (frame, meta) = (packet.frame(), packet.meta);
        let sent = self.outlet.settle(copy, frame, &meta, &disposition);
        if let (false, Disposition::Transmit { overlimits, .. }) = (sent, &disposition) {
            self.failed(overlimits);
        }
    }
}

/// Whether `skb_ensure_writable()` can have a MAC header's length: it counts from `skb->data`, the network header at ingress.
fn mac_is_writable(packet: &Packet<'_>, direction: Direction) -> bool {
    let start = match direction {
        Direction::Ingress => usize::from(packet.meta.network),
        Direction::Egress => 0,
    };
    packet.frame().len() - start >= ETHERNET_LEN
}

/// Behind `vlan pop_eth` the network header is where the MAC header was, and skbmod writes into it.
fn forget_overwritten(view: &mut View<'_, '_>) {
    if usize::from(view.packet.meta.network) < ETHERNET_LEN {
        view.headers = None;
    }
}

/// `skbmod set`.
fn set_mac(data: &mut [u8], dmac: Option<[u8; 6]>, smac: Option<[u8; 6]>, etype: Option<[u8; 2]>) {
    if let Some(mac) = dmac {
        data[..6].copy_from_slice(&mac);
    }
    if let Some(mac) = smac {
        data[6..12].copy_from_slice(&mac);
    }
    if let Some(etype) = etype {
        data[12..14].copy_from_slice(&etype);
    }
}

/// `skbedit inheritdsfield`: false if the IP header is cut.
fn inherit_ds_field(data: &[u8], meta: &mut PacketMeta) -> bool {
    let network = &data[usize::from(meta.network)..];
    let ds_field = match meta.protocol {
        ethertype::IPV4 if network.len() >= IPV4_LEN_MIN => network[1],
        ethertype::IPV6 if network.len() >= IPV6_LEN => (network[0] << 4) | (network[1] >> 4),
        ethertype::IPV4 | ethertype::IPV6 => return false,
        _ => return true,
    };
    meta.priority = u32::from(ds_field >> 2);
    true
}

/// `skbmod ecn`: ECT becomes CE, with the IP checksum mended (`INET_ECN_set_ce()`, include/net/inet_ecn.h). It looks at the
/// outermost protocol, so a tagged frame stays as it is. False if the IP header is cut.
fn ecn(packet: &mut Packet<'_>) -> bool {
    let header_len = match packet.meta.protocol {
        ethertype::IPV4 => IPV4_LEN_MIN,
        ethertype::IPV6 => IPV6_LEN,
        _ => return true,
    };
    // The whole IP header must be there, in both directions; measured with cut frames on a 6.1 kernel.
    let (data, meta) = packet.parts_mut();
    let network = &mut data[usize::from(meta.network)..];
    if network.len() < header_len {
        return false;
    }
    match meta.classify_protocol() {
        ethertype::IPV4 => {
            let ecn = network[1].wrapping_add(1) & 3;
            // Not-ECT gives 1 and CE gives 0: both stay.
            if ecn & 2 != 0 {
                // csum16_add() of what the DS field grows by, complemented: the kernel's zero is kept apart from its 0xffff.
                let (sum, carry) = be16(network, 10).overflowing_add(0xfffb + u16::from(ecn));
                network[10..12].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
                network[1] |= 3;
            }
        }
        ethertype::IPV6 if network[1] & 0x30 != 0 => network[1] |= 0x30,
        _ => {}
    }
    true
}
