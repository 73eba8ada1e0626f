//! From chain to verdict: `tcf_classify()` and the classifiers of net/sched, without any speed.

use super::trace::Step;
use super::{Outcome, Run, Skb};
use crate::limits::RECLASSIFY_MAX;
use crate::rules::{Classifier, Control, CounterSink, Filter, FwFilter, Hook, MatchallRule, NodeWord};
use crate::types::DropReason;

impl Run<'_> {
    /// `__tcf_classify()`, net/sched/cls_api.c.
    pub(super) fn classify(&mut self, hook: &Hook, skb: &mut Skb, bytes: u64) -> Outcome {
        let mut chain = 0;
        let mut restarts = 0;
        'again: loop {
            let filters = hook.chains.get(&chain).map_or(&[][..], |c| &c.filters);
            self.tell(Step::Chain { index: chain, exists: !filters.is_empty() });
            for filter in filters {
                // The protocol is read anew for each filter.
                let protocol = skb.meta.classify_protocol();
                if !filter.protocol.sees(protocol) {
                    self.tell(Step::OtherProtocol { prio: filter.prio, wanted: filter.protocol.0, protocol });
                    continue;
                }
                self.tell(Step::Filter { prio: filter.prio, kind: filter.classifier.kind() });
                match self.filter(filter, skb, bytes) {
                    Outcome::Control(Control::Continue) => {}
                    Outcome::Control(control @ (Control::Reclassify | Control::GotoChain(_))) => {
                        if restarts >= RECLASSIFY_MAX {
                            return Outcome::Shot(DropReason::ReclassifyLoop);
                        }
                        restarts += 1;
                        chain = if let Control::GotoChain(to) = control { to } else { 0 };
                        continue 'again;
                    }
                    verdict => return verdict,
                }
            }
            return Outcome::Control(Control::Continue);
        }
    }

    fn filter(&mut self, filter: &Filter, skb: &mut Skb, bytes: u64) -> Outcome {
        match &filter.classifier {
            Classifier::U32(nodes) => self.u32_filter(nodes, skb, bytes),
            Classifier::Flower(rules) => self.flower_filter(rules, skb, bytes),
            Classifier::Matchall(rule) => match rule {
                Some(rule) => self.matchall_filter(rule, skb, bytes),
                None => Outcome::Control(Control::Continue),
            },
            Classifier::Fw(fw) => self.fw_filter(fw, skb, bytes),
            Classifier::Basic(rules) => self.basic_filter(rules, skb, bytes),
        }
    }

    /// `fw_classify()`, net/sched/cls_fw.c.
    fn fw_filter(&mut self, fw: &FwFilter, skb: &mut Skb, bytes: u64) -> Outcome {
        let nothing = Outcome::Control(Control::Continue);
        let mark = skb.meta.mark;
        self.tell(Step::Fw { fw, mark });
        match fw {
            FwFilter::Classes { qdisc } if FwFilter::is_class(mark, *qdisc) => Outcome::Control(Control::Pass),
            FwFilter::Classes { .. } => nothing,
            FwFilter::Marks { mask, rules } => {
                let Some(rule) = rules.iter().find(|r| r.handle == mark & mask) else { return nothing };
                let other_device = rule.indev.is_some_and(|device| device != skb.iif);
                let but = other_device.then_some("the frame came in by another device than indev");
                self.tell(Step::Match { handle: rule.handle, but });
                if other_device {
                    return nothing;
                }
                self.counters.add(rule.counters + NodeWord::HIT, 1);
                self.counters.add(rule.counters + NodeWord::SUCCESS, 1);
                self.action_list(&rule.actions, skb, bytes)
            }
        }
    }

    /// `mall_classify()`, net/sched/cls_matchall.c.
    fn matchall_filter(&mut self, rule: &MatchallRule, skb: &mut Skb, bytes: u64) -> Outcome {
        if rule.skip_sw {
            return Outcome::Control(Control::Continue);
        }
        self.counters.add(rule.counters + NodeWord::HIT, 1);
        self.counters.add(rule.counters + NodeWord::SUCCESS, 1);
        self.tell(Step::Match { handle: rule.handle, but: None });
        self.action_list(&rule.actions, skb, bytes)
    }
}
