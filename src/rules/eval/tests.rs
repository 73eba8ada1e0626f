//! Named cases of what the kernel does, small enough to read. The golden cases are the proof; these say what they prove.

use std::collections::BTreeMap;

use super::*;
use crate::rules::{
    Action, ActionId, ActionInstance, ActionWord, Chain, Classifier, Filter, Gact, Hook, MatchallRule, Mirred,
    MirredMode, NodeWord,
};
use crate::types::{DeviceKey, Protocol};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A device `a` whose ingress does this with every frame, and a device `b`.
fn network(action: Action) -> (Ruleset, Topology) {
    let rule = MatchallRule { handle: 1, skip_sw: false, classid: None, actions: vec![ActionId(0)], counters: 0 };
    let filter = Filter { prio: 1, protocol: Protocol::ALL, classifier: Classifier::Matchall(Some(rule)) };
    let chains = BTreeMap::from([(0, Chain { filters: vec![filter] })]);
    let devices = vec![DeviceKey::local("a"), DeviceKey::local("b")];
    let ruleset = Ruleset {
        u32_tables: Vec::new(),
        hooks: vec![Hook { device: DeviceId(0), direction: Direction::Ingress, chains }],
        actions: vec![ActionInstance { index: 1, action, counters: NodeWord::len(0) }],
        counter_words: NodeWord::len(0) + ActionWord::LEN,
        devices: devices.clone(),
    };
    let device = |key| Device { mac: MacAddr::from(MAC), ..Device::assumed(key) };
    (ruleset, Topology { devices: devices.into_iter().map(device).collect() })
}

fn frame(tail: &[u8]) -> Vec<u8> {
    [&MAC[..], &[2, 0, 0, 0, 0, 9], tail].concat()
}

fn receive(ruleset: &Ruleset, topology: &Topology, frame: &[u8]) -> (Vec<Event>, Counters) {
    let mut counters = Counters::new(ruleset.counter_words);
    let events = Network { ruleset, topology }.receive(DeviceId(0), frame, &mut counters, &mut |_| 0);
    (events, counters)
}

fn action_words(counters: &Counters) -> [u64; 4] {
    [ActionWord::BYTES, ActionWord::PACKETS, ActionWord::DROPS, ActionWord::OVERLIMITS]
        .map(|word| counters.words[(NodeWord::len(0) + word) as usize])
}

fn gact(control: Control) -> Action {
    Action::Gact(Gact { control, random: None })
}

fn mirred(direction: Direction, device: u32) -> Action {
    let device = DeviceId(device);
    Action::Mirred(Mirred { direction, mode: MirredMode::Redirect, device, control: Control::Stolen })
}

#[test]
fn bytes_are_counted_without_the_ethernet_header_and_the_outer_tag() {
    let (ruleset, topology) = network(gact(Control::Pass));
    let (_, counters) = receive(&ruleset, &topology, &frame(&[0x81, 0, 0, 100, 8, 0, 1, 2, 3]));
    assert_eq!(action_words(&counters), [3, 1, 0, 0]);
}

#[test]
fn a_vlan_id_that_no_device_has_makes_the_frame_somebody_elses_and_a_priority_tag_does_not() {
    let (ruleset, topology) = network(gact(Control::Pass));
    for (tci, expected) in [(100, PacketType::OtherHost), (0, PacketType::Host)] {
        let (events, _) = receive(&ruleset, &topology, &frame(&[0x81, 0, 0, tci, 8, 0, 1, 2]));
        let [Event::Stack { data, meta, .. }] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!((meta.ptype, meta.tag, data.len()), (expected, None, 16));
    }
}

#[test]
fn a_tagged_frame_under_twenty_bytes_never_meets_a_rule() {
    let (ruleset, topology) = network(gact(Control::Pass));
    let (events, counters) = receive(&ruleset, &topology, &frame(&[0x81, 0, 0, 100, 8, 0, 1]));
    assert_eq!(events, [Event::Dropped { device: DeviceId(0), reason: DropReason::Malformed }]);
    assert_eq!(action_words(&counters), [0; 4]);
}

#[test]
fn reclassify_for_ever_is_dropped_after_seventeen_runs() {
    let (ruleset, topology) = network(gact(Control::Reclassify));
    let (events, counters) = receive(&ruleset, &topology, &frame(&[8, 0, 1]));
    assert_eq!(events, [Event::Dropped { device: DeviceId(0), reason: DropReason::ReclassifyLoop }]);
    assert_eq!(action_words(&counters), [17, 17, 0, 0]);
}

#[test]
fn ingress_redirect_to_itself_is_counted_four_times_and_fails_the_fifth() {
    let (ruleset, topology) = network(mirred(Direction::Ingress, 0));
    let (events, counters) = receive(&ruleset, &topology, &frame(&[8, 0, 1]));
    assert_eq!(events, [Event::Dropped { device: DeviceId(0), reason: DropReason::MirredLoop }]);
    assert_eq!(action_words(&counters), [4, 4, 0, 1]);
}

#[test]
fn a_redirect_to_a_device_that_is_down_counts_its_bytes_and_an_overlimit() {
    let (ruleset, mut topology) = network(mirred(Direction::Egress, 1));
    topology.devices[1].up = false;
    let (events, counters) = receive(&ruleset, &topology, &frame(&[8, 0, 1]));
    assert_eq!(events, [Event::Dropped { device: DeviceId(0), reason: DropReason::TargetDown }]);
    assert_eq!(action_words(&counters), [1, 1, 0, 1]);
}

#[test]
fn a_redirected_frame_gets_its_tag_back() {
    let (ruleset, topology) = network(mirred(Direction::Egress, 1));
    let tagged = frame(&[0x88, 0xa8, 0x60, 5, 8, 0, 1, 2]);
    let (events, _) = receive(&ruleset, &topology, &tagged);
    assert_eq!(events, [Event::Transmit { device: DeviceId(1), frame: tagged }]);
}

#[test]
fn a_length_in_place_of_a_type_is_802_2_or_with_ffff_behind_it_802_3() {
    let (ruleset, topology) = network(gact(Control::Pass));
    for (sap, protocol) in [([0x42, 0x42], ethertype::P_802_2), ([0xff, 0xff], ethertype::P_802_3)] {
        let (events, _) = receive(&ruleset, &topology, &frame(&[0, 40, sap[0], sap[1]]));
        let [Event::Stack { meta, .. }] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!(meta.protocol, protocol);
    }
}
