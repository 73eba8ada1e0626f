//! Named cases: what a plan does that its twin cannot show (refusals, failing transmission, lack of buffers).

use std::collections::BTreeMap;
use std::ops::Range;

use super::Twins;
use crate::limits::FRAME_HEADROOM;
use crate::plan::{Disposition, Outlet, Packet, Plan, Refusal};
use crate::rules::eval::Event;
use crate::rules::{
    Action, ActionId, ActionInstance, ActionWord, Chain, Classifier, Control, Counters, Filter, Gact, Hook,
    MatchallRule, Mirred, MirredMode, Ruleset, U32Node,
};
use crate::types::{Device, DeviceId, DeviceKey, Direction, DropReason, PacketMeta, Protocol, Topology};
use crate::wire::vlan;

const ETH0: DeviceId = DeviceId(0);
const V0: DeviceId = DeviceId(1);
const V1: DeviceId = DeviceId(2);

/// A filter `matchall` with these actions at each hook, nothing else. Action n counts from word 7 n on.
fn ruleset(actions: Vec<Action>, hooks: &[(DeviceId, Direction, &[u32])]) -> Ruleset {
    let count = actions.len() as u32;
    let instance = |(n, action): (usize, Action)| ActionInstance {
        index: n as u32 + 1,
        action,
        counters: n as u32 * ActionWord::LEN,
    };
    let hook = |(n, (device, direction, ids)): (usize, &(DeviceId, Direction, &[u32]))| {
        let rule = MatchallRule {
            handle: 1,
            skip_sw: false,
            classid: None,
            actions: ids.iter().map(|id| ActionId(*id)).collect(),
            counters: count * ActionWord::LEN + n as u32 * 2,
        };
        let filter = Filter { prio: 1, protocol: Protocol::ALL, classifier: Classifier::Matchall(Some(rule)) };
        let chains = BTreeMap::from([(0, Chain { filters: vec![filter] })]);
        Hook { device: *device, direction: *direction, chains }
    };
    Ruleset {
        u32_tables: Vec::new(),
        devices: ["eth0", "v0", "v1"].map(DeviceKey::local).into(),
        actions: actions.into_iter().enumerate().map(instance).collect(),
        hooks: hooks.iter().enumerate().map(hook).collect(),
        counter_words: count * ActionWord::LEN + hooks.len() as u32 * 2,
    }
}

const fn mirred(mode: MirredMode, direction: Direction, device: DeviceId) -> Action {
    let control = match mode {
        MirredMode::Redirect => Control::Stolen,
        MirredMode::Mirror => Control::Pipe,
    };
    Action::Mirred(Mirred { direction, mode, device, control })
}

/// What a worker without buffers, or with a dead port, does.
#[derive(Default)]
struct Poor {
    buffers: usize,
    sends: bool,
    settled: Vec<Disposition>,
}

impl Outlet for Poor {
    type Copy = Vec<u8>;

    fn is_up(&self, _: DeviceId) -> bool {
        true
    }

    fn copy(&mut self, data: &[u8]) -> Option<Vec<u8>> {
        self.buffers = self.buffers.checked_sub(1)?;
        Some([&[0; FRAME_HEADROOM], data].concat())
    }

    fn settle(&mut self, _: Vec<u8>, _: Range<usize>, _: &PacketMeta, disposition: &Disposition) -> bool {
        self.settled.push(*disposition);
        self.sends
    }

    fn random_below(&mut self, _: u32) -> u32 {
        0
    }
}

fn run(ruleset: &Ruleset, outlet: &mut Poor) -> (Disposition, Counters) {
    let plan = Plan::compile(ruleset).unwrap();
    let mut counters = Counters::new(ruleset.counter_words);
    let mut data = vec![0; 60];
    let meta = vlan::receive(&mut data, crate::types::MacAddr::zero()).unwrap().meta;
    let hook = plan.hook(ETH0, Direction::Ingress).unwrap();
    let disposition = plan.run(hook, &mut Packet::new(&mut data, 0..60, meta), &mut counters, outlet);
    (disposition, counters)
}

fn overlimits(counters: &Counters, action: u32) -> u64 {
    counters.words[(action * ActionWord::LEN + ActionWord::OVERLIMITS) as usize]
}

#[test]
fn a_failing_transmission_is_heard_of_by_each_redirect_at_egress() {
    let actions =
        vec![mirred(MirredMode::Redirect, Direction::Egress, V0), mirred(MirredMode::Redirect, Direction::Egress, V1)];
    let rules = ruleset(actions, &[(ETH0, Direction::Ingress, &[0]), (V0, Direction::Egress, &[1])]);
    let (disposition, _) = run(&rules, &mut Poor::default());
    let Disposition::Transmit { device: V1, overlimits } = disposition else { panic!("{disposition:?}") };
    assert_eq!(overlimits.words(), [ActionWord::OVERLIMITS, ActionWord::LEN + ActionWord::OVERLIMITS]);
}

#[test]
fn a_redirect_to_ingress_hands_the_frame_over_for_good() {
    let actions =
        vec![mirred(MirredMode::Redirect, Direction::Ingress, V0), mirred(MirredMode::Redirect, Direction::Egress, V1)];
    let rules = ruleset(actions, &[(ETH0, Direction::Ingress, &[0]), (V0, Direction::Ingress, &[1])]);
    let (disposition, _) = run(&rules, &mut Poor::default());
    let Disposition::Transmit { device: V1, overlimits } = disposition else { panic!("{disposition:?}") };
    assert_eq!(overlimits.words(), [ActionWord::LEN + ActionWord::OVERLIMITS]);
}

#[test]
fn a_mirror_whose_copy_fails_counts_it_and_the_frame_goes_on() {
    let actions = vec![mirred(MirredMode::Mirror, Direction::Egress, V0)];
    let rules = ruleset(actions, &[(ETH0, Direction::Ingress, &[0])]);
    for (buffers, sends, expected, settled) in [(1, true, 0, 1), (1, false, 1, 1), (0, true, 1, 0)] {
        let mut outlet = Poor { buffers, sends, ..Poor::default() };
        let (disposition, counters) = run(&rules, &mut outlet);
        assert_eq!(disposition, Disposition::Stack { device: ETH0 });
        assert_eq!(overlimits(&counters, 0), expected, "{buffers} buffers, sends: {sends}");
        assert_eq!(outlet.settled.len(), settled);
    }
}

#[test]
fn a_mirror_to_itself_ends_after_four_copies() {
    let actions = vec![mirred(MirredMode::Mirror, Direction::Ingress, ETH0)];
    let rules = ruleset(actions, &[(ETH0, Direction::Ingress, &[0])]);
    let mut outlet = Poor { buffers: 100, sends: true, ..Poor::default() };
    let (disposition, counters) = run(&rules, &mut outlet);
    assert_eq!(disposition, Disposition::Stack { device: ETH0 });
    let innermost = Disposition::Dropped { device: ETH0, reason: DropReason::MirredLoop };
    let stack = Disposition::Stack { device: ETH0 };
    assert_eq!(outlet.settled, [innermost, stack, stack, stack]);
    assert_eq!(counters.words[ActionWord::PACKETS as usize], 4);
    assert_eq!(overlimits(&counters, 0), 1);
}

#[test]
fn what_no_front_end_makes_is_refused_by_name() {
    let pass = || Action::Gact(Gact { control: Control::Pass, random: None });
    let long: Vec<u32> = vec![0; 33];
    let rules = ruleset(vec![pass()], &[(ETH0, Direction::Ingress, &long)]);
    assert_eq!(Plan::compile(&rules).unwrap_err(), Refusal::TooManyActions { prio: 1, count: 33 });
    let rules = ruleset(vec![pass()], &[(ETH0, Direction::Ingress, &[1])]);
    assert_eq!(Plan::compile(&rules).unwrap_err(), Refusal::Dangling { what: "action", index: 1 });
    let nowhere = mirred(MirredMode::Redirect, Direction::Egress, DeviceId(9));
    let rules = ruleset(vec![nowhere], &[(ETH0, Direction::Ingress, &[0])]);
    assert_eq!(Plan::compile(&rules).unwrap_err(), Refusal::Dangling { what: "device", index: 9 });
    let rules = ruleset(vec![pass()], &[(DeviceId(3), Direction::Ingress, &[0])]);
    assert_eq!(Plan::compile(&rules).unwrap_err(), Refusal::Dangling { what: "device", index: 3 });
}

#[test]
fn a_device_without_a_hook_has_none() {
    let rules = ruleset(vec![], &[(ETH0, Direction::Ingress, &[])]);
    let plan = Plan::compile(&rules).unwrap();
    assert!(plan.hook(ETH0, Direction::Ingress).is_some());
    assert_eq!(plan.hook(ETH0, Direction::Egress), None);
    assert_eq!(plan.hook(DeviceId(77), Direction::Ingress), None);
}

/// The sender of a copy does not hear of what fails behind a redirect at ingress, and does of what fails behind one at egress.
#[test]
fn only_a_redirect_at_ingress_hides_a_drop_from_the_mirror() {
    for (direction, heard) in [(Direction::Ingress, 0), (Direction::Egress, 1)] {
        let actions = vec![
            mirred(MirredMode::Mirror, direction, V0),
            mirred(MirredMode::Redirect, Direction::Egress, V1),
            Action::Gact(Gact { control: Control::Shot, random: None }),
        ];
        let hooks: [(_, _, &[u32]); 3] =
            [(ETH0, Direction::Ingress, &[0]), (V0, direction, &[1]), (V1, Direction::Egress, &[2])];
        let rules = ruleset(actions, &hooks);
        let topology = Topology { devices: rules.devices.iter().cloned().map(Device::assumed).collect() };
        let mut twins = Twins::new(0, &rules, &topology);
        let (events, _) = twins.receive(ETH0, &[0; 60], 1);
        assert_eq!(events[0], Event::Dropped { device: V1, reason: DropReason::Rule });
        assert_eq!((overlimits(&twins.fast, 0), overlimits(&twins.fast, 1)), (heard, 1));
    }
}

/// `indev` at an egress hook is the device whose hook sent the frame there, for copies too (`skb2->skb_iif = skb->dev->ifindex`).
#[test]
fn a_copy_came_in_by_the_device_whose_hook_made_it() {
    for (indev, packets) in [(ETH0, 0), (V0, 1), (V1, 0)] {
        let actions = vec![
            mirred(MirredMode::Redirect, Direction::Egress, V0),
            mirred(MirredMode::Mirror, Direction::Egress, V1),
            Action::Gact(Gact { control: Control::Shot, random: None }),
        ];
        let hooks: [(_, _, &[u32]); 3] =
            [(ETH0, Direction::Ingress, &[0]), (V0, Direction::Egress, &[1]), (V1, Direction::Egress, &[])];
        let mut rules = ruleset(actions, &hooks);
        rules.hooks[2].chains.get_mut(&0).unwrap().filters[0].classifier = Classifier::U32(vec![U32Node {
            handle: 0x8000_0800,
            keys: Vec::new(),
            mark: None,
            indev: Some(indev),
            terminal: true,
            classid: None,
            actions: vec![ActionId(2)],
            counters: rules.counter_words - 2,
            link: None,
        }]);
        let topology = Topology { devices: rules.devices.iter().cloned().map(Device::assumed).collect() };
        let mut twins = Twins::new(0, &rules, &topology);
        twins.receive(ETH0, &[0; 60], 1);
        let word = 2 * ActionWord::LEN + ActionWord::PACKETS;
        assert_eq!(twins.fast.words[word as usize], packets, "indev {indev:?}");
    }
}
