//! What actions do to a frame: `tcf_action_exec()` and the `act_*.c` of net/sched.

use super::trace::Step;
use super::{Outcome, Run, Skb};
use crate::limits::{ACTIONS_PER_FILTER_MAX, ETHERNET_LEN, MIRRED_NEST_MAX};
use crate::rules::police::Police;
use crate::rules::{
    Action, ActionId, ActionWord, Control, CounterSink, Csum, Gact, Mirred, MirredMode, Nat, RandomKind, Skbedit,
    Skbmod,
};
use crate::types::{DeviceId, Direction, DropReason, ethertype};
use crate::wire;

/// Where a frame is when an action sees it.
#[derive(Clone, Copy)]
struct Place {
    device: DeviceId,
    direction: Direction,
}

impl Run<'_> {
    /// `tcf_action_exec()`, net/sched/act_api.c. Without actions: pass.
    pub(super) fn action_list(&mut self, actions: &[ActionId], skb: &mut Skb, bytes: u64) -> Outcome {
        if actions.is_empty() {
            return Outcome::Control(Control::Pass);
        }
        let mut skip = 0;
        let mut jumps = 0;
        'restart: loop {
            for (order, id) in actions.iter().enumerate().skip(skip) {
                match self.told_action(order + 1, *id, skb, bytes) {
                    Outcome::Control(Control::Pipe) => {}
                    Outcome::Control(Control::Jump(count)) => {
                        jumps += 1;
                        let count = count as usize;
                        if count == 0 || count > actions.len() || jumps >= ACTIONS_PER_FILTER_MAX {
                            return Outcome::Control(Control::Pass);
                        }
                        skip = count;
                        continue 'restart;
                    }
                    outcome => return outcome,
                }
            }
            return Outcome::Control(Control::Pipe);
        }
    }

    /// Runs an action and tells what it did.
    fn told_action(&mut self, order: usize, id: ActionId, skb: &mut Skb, bytes: u64) -> Outcome {
        if !self.is_traced() {
            return self.action(id, skb, bytes);
        }
        let before = skb.clone();
        let outcome = self.action(id, skb, bytes);
        let ruleset = self.ruleset;
        self.tell(Step::Action {
            order,
            instance: ruleset.action(id),
            before: (&before.data, &before.meta),
            after: (&skb.data, &skb.meta),
            end: outcome.into(),
        });
        outcome
    }

    fn action(&mut self, id: ActionId, skb: &mut Skb, bytes: u64) -> Outcome {
        let ruleset = self.ruleset;
        let instance = ruleset.action(id);
        let base = instance.counters;
        match &instance.action {
            Action::Gact(gact) => self.gact(gact, base, bytes),
            Action::Mirred(mirred) => self.mirred(mirred, base, skb, bytes),
            Action::Skbedit(skbedit) => self.skbedit(skbedit, base, skb, bytes),
            Action::Skbmod(skbmod) => self.skbmod(skbmod, base, skb, bytes),
            Action::Csum(csum) => self.csum(csum, base, skb, bytes),
            Action::Vlan(vlan) => self.vlan(vlan, base, skb, bytes),
            Action::Nat(nat) => self.nat(nat, base, skb, bytes),
            Action::Police(police) => self.police(police, base, skb, bytes),
            Action::Simple(simple) => {
                self.counters.count_action(base, bytes);
                Outcome::Control(simple.control)
            }
            Action::Pedit(pedit) => {
                self.counters.count_action(base, bytes);
                wire::pedit::apply(&mut skb.data, &skb.meta, &pedit.keys);
                Outcome::Control(pedit.control)
            }
        }
    }

    /// `tcf_gact_act()`, net/sched/act_gact.c.
    fn gact(&mut self, gact: &Gact, base: u32, bytes: u64) -> Outcome {
        let mut control = gact.control;
        if let Some(random) = &gact.random {
            let other = match random.kind {
                RandomKind::Netrand => (self.random_below)(u32::from(random.val)) == 0,
                RandomKind::Determ => {
                    self.counters.add(base + ActionWord::STATE, 1);
                    self.counters.get(base + ActionWord::STATE).is_multiple_of(u64::from(random.val.max(1)))
                }
            };
            if other {
                control = random.control;
            }
        }
        self.counters.count_action(base, bytes);
        if control == Control::Shot {
            self.counters.add(base + ActionWord::DROPS, 1);
        }
        Outcome::Control(control)
    }

    /// `tcf_skbedit_act()`, net/sched/act_skbedit.c.
    fn skbedit(&mut self, edit: &Skbedit, base: u32, skb: &mut Skb, bytes: u64) -> Outcome {
        self.counters.count_action(base, bytes);
        if let Some(priority) = edit.priority {
            skb.meta.priority = priority;
        }
        if edit.inheritdsfield {
            let Some(dsfield) = dsfield_of(skb) else {
                self.counters.add(base + ActionWord::DROPS, 1);
                return Outcome::Control(Control::Shot);
            };
            if let Some(dsfield) = dsfield {
                skb.meta.priority = u32::from(dsfield >> 2);
            }
        }
        if let Some(queue_mapping) = edit.queue_mapping {
            skb.meta.queue_mapping = queue_mapping;
        }
        if let Some((mark, mask)) = edit.mark {
            skb.meta.mark = (skb.meta.mark & !mask) | (mark & mask);
        }
        if let Some(ptype) = edit.ptype {
            skb.meta.ptype = ptype;
        }
        Outcome::Control(edit.control)
    }

    /// `tcf_skbmod_act()`, net/sched/act_skbmod.c.
    fn skbmod(&mut self, edit: &Skbmod, base: u32, skb: &mut Skb, bytes: u64) -> Outcome {
        self.counters.count_action(base, bytes);
        if edit.control == Control::Shot || !self.skbmod_edit(edit, skb) {
            self.counters.add(base + ActionWord::OVERLIMITS, 1);
            return Outcome::Control(Control::Shot);
        }
        Outcome::Control(edit.control)
    }

    /// `tcf_csum_act()`, net/sched/act_csum.c.
    fn csum(&mut self, csum: &Csum, base: u32, skb: &mut Skb, bytes: u64) -> Outcome {
        self.counters.count_action(base, bytes);
        let data_start = if self.at_ingress() { skb.network() } else { 0 };
        let whole =
            csum.control != Control::Shot && wire::csum::mend(&mut skb.data, &mut skb.meta, data_start, csum.update);
        if !whole {
            self.counters.add(base + ActionWord::DROPS, 1);
            return Outcome::Control(Control::Shot);
        }
        Outcome::Control(csum.control)
    }

    /// `tcf_police_act()`, net/sched/act_police.c.
    fn police(&mut self, police: &Police, base: u32, skb: &Skb, bytes: u64) -> Outcome {
        self.counters.count_action(base, bytes);
        let whole_len = bytes + if self.at_ingress() { skb.network() as u64 } else { 0 };
        let buckets = police.policer().buckets;
        let conforms = whole_len <= u64::from(police.mtu)
            && buckets.is_none_or(|buckets| self.counters.take_tokens(base, 0, &buckets, bytes as u32));
        let control = if conforms { police.conform } else { police.exceed };
        if !conforms {
            self.counters.add(base + ActionWord::OVERLIMITS, 1);
        }
        // What conforms to an MTU alone is not counted as dropped even if it is.
        if control == Control::Shot && !(conforms && buckets.is_none()) {
            self.counters.add(base + ActionWord::DROPS, 1);
        }
        Outcome::Control(control)
    }

    /// `tcf_nat_act()`, net/sched/act_nat.c. With control `drop` nothing is translated.
    fn nat(&mut self, nat: &Nat, base: u32, skb: &mut Skb, bytes: u64) -> Outcome {
        self.counters.count_action(base, bytes);
        let network = skb.network();
        if nat.control == Control::Shot || !wire::nat::translate(&mut skb.data, network, nat.rule, false) {
            self.counters.add(base + ActionWord::DROPS, 1);
            return Outcome::Control(Control::Shot);
        }
        Outcome::Control(nat.control)
    }

    /// Rewrites; false if the frame is too short for it.
    fn skbmod_edit(&self, edit: &Skbmod, skb: &mut Skb) -> bool {
        let protocol = skb.meta.protocol;
        let ip_header_len = match protocol {
            ethertype::IPV4 => 20,
            ethertype::IPV6 => 40,
            _ => 0,
        };
        if edit.ecn && ip_header_len == 0 {
            return true;
        }
        // skb_ensure_writable() counts from where skb->data points: behind the Ethernet header at ingress. For ecn the whole
        // IP header must be there in both directions; measured with cut frames on a 6.1 kernel.
        let network = skb.network();
        let (reach, needed) = match self.place().direction {
            _ if edit.ecn => (skb.data.len() - network, ip_header_len),
            Direction::Ingress => (skb.data.len() - network, ETHERNET_LEN),
            Direction::Egress => (skb.data.len(), ETHERNET_LEN),
        };
        if reach < needed {
            return false;
        }
        if edit.ecn {
            set_ecn(skb);
        } else if edit.swap_mac {
            let (destination, rest) = skb.data.split_at_mut(6);
            destination.swap_with_slice(&mut rest[..6]);
        } else {
            if let Some(mac) = edit.dmac {
                skb.data[..6].copy_from_slice(&mac.octets());
            }
            if let Some(mac) = edit.smac {
                skb.data[6..12].copy_from_slice(&mac.octets());
            }
            if let Some(etype) = edit.etype {
                skb.data[12..14].copy_from_slice(&etype.to_be_bytes());
            }
        }
        true
    }

    /// `tcf_mirred_act()`, net/sched/act_mirred.c.
    fn mirred(&mut self, mirred: &Mirred, base: u32, skb: &mut Skb, bytes: u64) -> Outcome {
        if self.nest >= MIRRED_NEST_MAX {
            return Outcome::Shot(DropReason::MirredLoop);
        }
        self.counters.count_action(base, bytes);
        let place = self.place();
        let redirect = mirred.mode == MirredMode::Redirect;
        if !self.topology.device(mirred.device).up {
            self.counters.add(base + ActionWord::OVERLIMITS, 1);
            return if redirect { Outcome::Shot(DropReason::TargetDown) } else { Outcome::Control(mirred.control) };
        }
        let mut copy = skb.clone();
        copy.iif = place.device;
        self.nest += 1;
        let forwarded = match mirred.direction {
            Direction::Ingress => self.ingress(mirred.device, copy),
            Direction::Egress => self.egress(mirred.device, copy),
        };
        self.nest -= 1;
        if !forwarded {
            self.counters.add(base + ActionWord::OVERLIMITS, 1);
        }
        if !redirect {
            return Outcome::Control(mirred.control);
        }
        // At ingress the frame itself was reinserted and is gone; at egress a copy was sent and the caller learns of a failure.
        if forwarded || place.direction == Direction::Ingress { Outcome::Sent } else { Outcome::Lost }
    }

    pub(super) fn at_ingress(&self) -> bool {
        self.place().direction == Direction::Ingress
    }

    fn place(&self) -> Place {
        let (device, direction) = *self.places.last().expect("an action runs inside a hook");
        Place { device, direction }
    }
}

/// The DS field of an IP packet; `Some(None)` for another protocol, `None` if it is cut.
fn dsfield_of(skb: &Skb) -> Option<Option<u8>> {
    let network = &skb.data[skb.network()..];
    match skb.meta.protocol {
        ethertype::IPV4 if network.len() >= 20 => Some(Some(network[1])),
        ethertype::IPV6 if network.len() >= 40 => Some(Some((network[0] << 4) | (network[1] >> 4))),
        ethertype::IPV4 | ethertype::IPV6 => None,
        _ => Some(None),
    }
}

/// `INET_ECN_set_ce()`, include/net/inet_ecn.h: it looks at the outermost protocol, so tagged frames stay as they are.
fn set_ecn(skb: &mut Skb) {
    let protocol = skb.meta.classify_protocol();
    let network = skb.network();
    let network = &mut skb.data[network..];
    if protocol == ethertype::IPV4 {
        let ecn = network[1].wrapping_add(1) & 3;
        if ecn & 2 == 0 {
            return;
        }
        let check = u16::from_be_bytes([network[10], network[11]]);
        let (sum, carry) = check.overflowing_add(0xfffb + u16::from(ecn));
        network[10..12].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
        network[1] |= 3;
    } else if protocol == ethertype::IPV6 && network[1] & 0x30 != 0 {
        network[1] |= 0x30;
    }
}
