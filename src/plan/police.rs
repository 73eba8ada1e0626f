//! The action `police` in a plan: `tcf_police_act()`, net/sched/act_police.c. The tokens are the counters' owner's.

use super::Outlet;
use super::actions::After;
use super::run::{Run, View};
use crate::rules::police::Policer;
use crate::rules::{ActionWord, Control, CounterSink};
use crate::types::Direction;

impl<C: CounterSink, O: Outlet> Run<'_, C, O> {
    pub(super) fn police(&mut self, base: u32, view: &View<'_, '_>, number: u32) -> After {
        self.count(base, view);
        let Policer { mtu, exceed, conform, buckets } = &self.plan.policers[number as usize];
        // The MTU counts the MAC header, the rate does not at ingress. Of a super-frame it counts one segment
        // (`tcf_police_mtu_check()`); the rate counts all of it, as one packet.
        let header = match view.place.direction {
            Direction::Ingress => u64::from(view.packet.meta.network),
            Direction::Egress => 0,
        };
        let len = view
            .packet
            .meta
            .offload
            .segments(view.packet.data())
            .map_or(view.bytes + header, |segments| (segments.header_len + segments.size) as u64);
        if len <= u64::from(*mtu) {
            let Some(buckets) = buckets else { return After::Control(*conform) };
            if self.counters.take_tokens(base, number, buckets, view.bytes as u32) {
                return self.police_end(base, *conform);
            }
        }
        self.counters.add(base + ActionWord::OVERLIMITS, 1);
        self.police_end(base, *exceed)
    }

    fn police_end(&mut self, base: u32, control: Control) -> After {
        if control == Control::Shot {
            self.counters.add(base + ActionWord::DROPS, 1);
        }
        After::Control(control)
    }
}
