//! The way of one frame: from hook to hook, and within a hook from chain to chain. It owns no frame and opens no device.

use super::actions::After;
use super::layout::{Chain, Filter, FilterKind, Hook, Span};
use super::{Disposition, HookIndex, Outlet, Overlimits, Packet, Plan, vlan};
use crate::limits::RECLASSIFY_MAX;
use crate::rules::{ActionWord, Control, CounterSink, FwFilter, NodeWord};
use crate::types::{DeviceId, Direction, DropReason, is_tag};
use crate::wire::{Headers, transport};

impl Plan {
    /// Takes a frame that arrived at `hook` the whole way: the packet is rewritten in place; copies that
    /// `mirror` makes go to `outlet` while it runs.
    ///
    /// # Panics
    /// If `hook` is of another plan, or `counters` has not the ruleset's words.
    pub fn run<C: CounterSink, O: Outlet>(
        &self,
        hook: HookIndex,
        packet: &mut Packet<'_>,
        counters: &mut C,
        outlet: &mut O,
    ) -> Disposition {
        let Hook { device, direction, .. } = self.hooks[hook.0 as usize];
        let start = Place { device, direction, iif: device, nest: 0 };
        let behind_transport = self.behind_transport(packet);
        Run { plan: self, counters, outlet, behind_transport }.travel(packet, start, Overlimits::default())
    }

    /// As [`Plan::run`] for a frame that `device` received, whether it has a hook or not.
    pub fn receive<C: CounterSink, O: Outlet>(
        &self,
        device: DeviceId,
        packet: &mut Packet<'_>,
        counters: &mut C,
        outlet: &mut O,
    ) -> Disposition {
        let start = Place { device, direction: Direction::Ingress, iif: device, nest: 0 };
        let behind_transport = self.behind_transport(packet);
        Run { plan: self, counters, outlet, behind_transport }.travel(packet, start, Overlimits::default())
    }
}

impl Plan {
    /// How many bytes are behind the transport header of a frame that was just received; 0 where no rule asks for it.
    fn behind_transport(&self, packet: &Packet<'_>) -> usize {
        if !self.asks_transport {
            return 0;
        }
        let (data, meta) = (packet.data(), &packet.meta);
        data.len() - transport::offset(data, meta.protocol, usize::from(meta.network), meta.tag.is_some())
    }
}

/// Where a frame is.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub device: DeviceId,
    pub direction: Direction,
    /// `skb->skb_iif`: the device it last came in by.
    pub iif: DeviceId,
    /// How many mirred actions it is in (`mirred_nest_level`).
    pub nest: u32,
}

/// A frame in a hook.
pub(super) struct View<'a, 'p> {
    pub packet: &'a mut Packet<'p>,
    pub place: Place,
    /// What counts as the frame's length here: fixed when the hook is entered.
    pub bytes: u64,
    /// What it counts as: the segments of a super-frame (`gso_segs`), else 1. Fixed as well.
    pub packets: u64,
    /// Found when the first flower filter asks. Forgotten by the actions that change headers.
    pub headers: Option<Headers>,
}

/// What each frame's way is run with.
pub(super) struct Run<'a, C, O> {
    pub plan: &'a Plan,
    pub counters: &'a mut C,
    pub outlet: &'a mut O,
    /// See [`Plan::behind_transport`]: it stays the same on the whole way, for copies too, since frames change their length at their
    /// head only.
    pub behind_transport: usize,
}

impl<C: CounterSink, O: Outlet> Run<'_, C, O> {
    /// From a hook to where the frame ends. Each turn but the last is a redirect, and `nest` bounds those.
    /// `overlimits` is empty, or has the mirror's word for a copy.
    pub(super) fn travel(
        &mut self,
        packet: &mut Packet<'_>,
        mut place: Place,
        mut overlimits: Overlimits,
    ) -> Disposition {
        loop {
            let device = place.device;
            if place.direction == Direction::Ingress {
                place.iif = device;
                if packet.meta.tag.is_none() && is_tag(packet.meta.protocol) && !vlan::untag(packet) {
                    return self.lost(&overlimits, device, DropReason::Malformed);
                }
            }
            match self.hook(packet, place) {
                After::Control(Control::Shot) => return self.lost(&overlimits, device, DropReason::Rule),
                After::Shot(reason) => return self.lost(&overlimits, device, reason),
                After::Control(Control::Stolen | Control::Queued | Control::Trap) => {
                    return Disposition::Dropped { device, reason: DropReason::Consumed };
                }
                After::Control(
                    Control::Pass
                    | Control::Pipe
                    | Control::Continue
                    | Control::Reclassify
                    | Control::Jump(_)
                    | Control::GotoChain(_),
                ) => {
                    return match place.direction {
                        Direction::Ingress => Disposition::Stack { device },
                        Direction::Egress => Disposition::Transmit { device, overlimits },
                    };
                }
                After::Redirect { direction, device: to, counters } => {
                    overlimits.push(counters + ActionWord::OVERLIMITS, place.direction);
                    place = Place { device: to, direction, iif: device, nest: place.nest + 1 };
                }
            }
        }
    }

    /// The mirred actions that the frame came by fail if it is dropped behind them.
    fn lost(&mut self, overlimits: &Overlimits, device: DeviceId, reason: DropReason) -> Disposition {
        self.failed(overlimits);
        Disposition::Dropped { device, reason }
    }

    pub(super) fn failed(&mut self, overlimits: &Overlimits) {
        for word in overlimits.words() {
            self.counters.add(*word, 1);
        }
    }

    /// `sch_handle_ingress()` and `sch_handle_egress()`, net/core/dev.c.
    fn hook(&mut self, packet: &mut Packet<'_>, place: Place) -> After {
        let plan = self.plan;
        let Some(index) = plan.hook(place.device, place.direction) else { return After::Control(Control::Pass) };
        let len = packet.frame().len();
        let segments = packet.meta.offload.segments(packet.data());
        let bytes = match (place.direction, segments) {
            (Direction::Ingress, _) => len - usize::from(packet.meta.network),
            (Direction::Egress, None) => len,
            // As on the wire, with headers for each (`qdisc_pkt_len_init()`).
            (Direction::Egress, Some(segments)) => len + (segments.count - 1) * segments.header_len,
        };
        let packets = segments.map_or(1, |segments| segments.count as u64);
        let mut view = View { packet, place, bytes: bytes as u64, packets, headers: None };
        self.classify(&plan.hooks[index.0 as usize], &mut view)
    }

    /// `__tcf_classify()`, net/sched/cls_api.c. `restarts` bounds the outer loop.
    fn classify(&mut self, hook: &Hook, view: &mut View<'_, '_>) -> After {
        let plan = self.plan;
        let chains = hook.chains.of(&plan.chains);
        let mut chain = 0;
        let mut restarts = 0;
        'again: loop {
            let mut protocol = view.packet.meta.classify_protocol();
            let (filters, mixed) = plan.filters_of(chains, chain, protocol);
            let mut filters = filters.of(&plan.lists);
            while let [filter, rest @ ..] = filters {
                filters = rest;
                if mixed && !filter.protocol.sees(protocol) {
                    continue;
                }
                match self.filter(filter, view) {
                    After::Control(Control::Continue) => {
                        let now = view.packet.meta.classify_protocol();
                        if now != protocol {
                            // Tags changed: the later filters of this chain are asked for the new protocol.
                            protocol = now;
                            let (all, _) = plan.filters_of(chains, chain, protocol);
                            let all = all.of(&plan.lists);
                            filters = &all[all.partition_point(|f| f.order <= filter.order)..];
                        }
                    }
                    After::Control(control @ (Control::Reclassify | Control::GotoChain(_))) => {
                        if restarts >= RECLASSIFY_MAX {
                            return After::Shot(DropReason::ReclassifyLoop);
                        }
                        restarts += 1;
                        chain = if let Control::GotoChain(to) = control { to } else { 0 };
                        continue 'again;
                    }
                    verdict @ (After::Control(_) | After::Shot(_) | After::Redirect { .. }) => return verdict,
                }
            }
            return After::Control(Control::Continue);
        }
    }

    fn filter(&mut self, filter: &Filter, view: &mut View<'_, '_>) -> After {
        match filter.kind {
            FilterKind::U32(nodes) => self.u32_filter(nodes, view),
            FilterKind::U32Tables(nodes) => self.u32_tables(nodes, view),
            FilterKind::U32Block(block) => self.u32_block(block, view),
            FilterKind::Flower(rules) => self.flower_filter(rules, view),
            FilterKind::FlowerBlock(block) => self.flower_block(block, view),
            FilterKind::Matchall { counters, steps } => {
                self.counters.add(counters + NodeWord::HIT, 1);
                self.counters.add(counters + NodeWord::SUCCESS, 1);
                self.steps(steps, view)
            }
            FilterKind::Fw { mask, rules } => self.fw_filter(mask, rules, view),
            FilterKind::FwClasses { qdisc } => {
                let is_class = FwFilter::is_class(view.packet.meta.mark, qdisc);
                After::Control(if is_class { Control::Pass } else { Control::Continue })
            }
            FilterKind::Basic(rules) => self.basic_filter(rules, view),
        }
    }
}

impl Plan {
    /// What a packet of this protocol meets in a chain, and whether that is still to be asked for its protocol.
    fn filters_of(&self, chains: &[Chain], index: u32, protocol: u16) -> (Span, bool) {
        // Chain 0 comes first where there is one.
        let chain = match chains.first() {
            Some(chain) if chain.index == index => chain,
            Some(_) => match chains.binary_search_by_key(&index, |c| c.index) {
                Ok(at) => &chains[at],
                Err(_) => return (Span::default(), false),
            },
            None => return (Span::default(), false),
        };
        let own = chain.dispatch.of(&self.dispatch).iter().find(|d| d.protocol == protocol);
        (own.map_or(chain.others, |d| d.filters), chain.mixed)
    }
}
