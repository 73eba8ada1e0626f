//! The action `police` in a plan: `tcf_police_act()`, net/sched/act_police.c. The tokens are the counters' owner's.

use super::Outlet;
use super::actions::After;
use super::run::{Run, View};
use crate::rules::police::Policer;
use crate::rules::{ActionWord, Control, CounterSink};
use crate::types::Direction;

impl<C: CounterSink, O: Outlet> Run<'_, C, O> {
    pub(super) fn police(&mut self, base: u32, view: &View<'_, '_>, number: u32) -> After {
        self.counters.count_action(base, view.bytes);
        let Policer { mtu, exceed, conform, buckets } = &self.plan.policers[number as usize];
        // The MTU counts the MAC header, the rate does not at ingress.
        let header = match view.place.direction {
            Direction::Ingress => u64::from(view.packet.meta.network),
            Direction::Egress => 0,
        };
        if view.bytes + header <= u64::from(*mtu) {
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
