//! Rules that are looked up: the same frames and counts as rule by rule, for random runs of few shapes, and for very many.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::agree;
use super::forward::{compare, compare_but_keys, stay_on_the_first_cpu};
use super::generate::{Maker, topology};
use super::privileged;
use super::rich::rich_frame;
use crate::ebpf::forward::{ForwardOptions, Stage, forward};
use crate::ebpf::load::forward::Forwarding;
use crate::ebpf::{Target, steer};
use crate::rules::flower::{FlowerKey, FlowerRule, PortMatch};
use crate::rules::{
    Action, ActionId, ActionInstance, ActionWord, Chain, Classifier, Control, Filter, Gact, Hook, Mirred, MirredMode,
    NodeWord, Ruleset, Skbmod, U32Base, U32Key,
};
use crate::types::{DeviceId, Direction, MacAddr, Protocol};

/// The masked words of five shapes: offset and mask of each key.
const SHAPES: [&[(i32, u32)]; 5] = [
    &[(16, 0xffff_ffff)],
    &[(8, 0x00ff_0000), (16, 0xffff_ffff), (20, 0xffff)],
    &[(12, 0xffff_ffff), (16, 0xffff_ff00)],
    &[(8, 0x00ff_0000), (20, 0xffff_ffff)],
    &[(-8, 0xffff_ffff), (16, 0xffff_ffff), (32, 0x00ff_0000)],
];

fn maker(rng: &mut SmallRng) -> Maker<'_> {
    let devices = topology().devices.into_iter().map(|d| d.key).collect();
    Maker { rng, ruleset: Ruleset { devices, ..Ruleset::default() }, wild: false, rich: false, links: Vec::new() }
}

/// An action that no other rule has.
fn own(maker: &mut Maker<'_>, action: Action) -> ActionId {
    let counters = maker.words(ActionWord::LEN);
    let index = maker.ruleset.actions.len() as u32 + 1;
    maker.ruleset.actions.push(ActionInstance { index, action, counters });
    ActionId(index - 1)
}

/// A list that ends classification.
fn ending(maker: &mut Maker<'_>, redirects: bool) -> Vec<ActionId> {
    let mut actions = Vec::new();
    if maker.rng.gen_bool(0.5) {
        let dmac = Some(MacAddr::new(2, 0, 0, 0, 0, 9));
        let (smac, etype, swap_mac, ecn, control) = (None, None, false, false, Control::Pipe);
        actions.push(own(maker, Action::Skbmod(Skbmod { dmac, smac, etype, swap_mac, ecn, control })));
    }
    let last = if redirects || !actions.is_empty() {
        let (direction, mode) = (Direction::Egress, MirredMode::Redirect);
        Action::Mirred(Mirred {
            direction,
            mode,
            device: DeviceId(maker.rng.gen_range(1..3)),
            control: Control::Stolen,
        })
    } else {
        let control = *[Control::Pass, Control::Shot, Control::GotoChain(7), Control::Trap].choose(maker.rng).unwrap();
        Action::Gact(Gact { control, random: None })
    };
    actions.push(own(maker, last));
    actions
}

fn key(frame: &[u8], (offset, mask): (i32, u32)) -> U32Key {
    let at = (offset + 14) as usize;
    let word = frame.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    U32Key { value: word & mask, mask, offset, base: U32Base::Network }
}

/// u32 rules that random frames match, in one prio or each in its own; and the frames.
fn u32_rules(rng: &mut SmallRng, count: u32, prios: bool) -> (Ruleset, Vec<Vec<u8>>) {
    let frames: Vec<Vec<u8>> = (0..60).map(|_| rich_frame(rng, true)).collect();
    let mut maker = maker(rng);
    let mut filters = Vec::new();
    let mut nodes = Vec::new();
    for n in 0..count {
        let frame = frames.choose(maker.rng).unwrap();
        let shape = SHAPES.choose(maker.rng).unwrap();
        let mut keys: Vec<U32Key> = shape.iter().map(|part| key(frame, *part)).collect();
        if maker.rng.gen_bool(0.5) {
            // One that matches nothing, or something else.
            let mask = keys[0].mask;
            keys[0].value = maker.rng.r#gen::<u32>() & mask;
        }
        let redirects = maker.rng.gen_bool(0.5);
        let actions = if maker.rng.gen_bool(0.05) { Vec::new() } else { ending(&mut maker, redirects) };
        let mut node = maker.u32_node(0x8000_0800 + n, keys, actions);
        if maker.rng.gen_bool(0.97) {
            (node.mark, node.indev, node.terminal) = (None, None, true);
        }
        nodes.push(node);
    }
    let (ip, all) = (Protocol(0x0800), Protocol::ALL);
    if prios {
        for (prio, node) in (1..).zip(nodes) {
            let protocol = if maker.rng.gen_bool(0.01) { all } else { ip };
            filters.push(Filter { prio, protocol, classifier: Classifier::U32(vec![node]) });
        }
    } else {
        filters.push(Filter { prio: 1, protocol: all, classifier: Classifier::U32(nodes) });
    }
    let chains = BTreeMap::from([(0, Chain { filters })]);
    maker.ruleset.hooks = vec![Hook { device: DeviceId(0), direction: Direction::Ingress, chains }];
    (maker.ruleset, frames)
}

/// As steering: who takes the frames, and what is counted of the others. How many were taken.
fn steered(ruleset: &Ruleset, frames: &[Vec<u8>], looked_up: bool, context: &str) -> usize {
    let long: Vec<Vec<u8>> = frames.iter().filter(|f| f.len() >= 54).cloned().collect();
    let untagged = |f: &&Vec<u8>| !matches!(f[12..14], [0x81, 0] | [0x88, 0xa8]);
    let behind: Vec<Vec<u8>> = long.iter().filter(untagged).cloned().collect();
    let object = steer(ruleset, DeviceId(0), Target::Xdp).unwrap();
    assert!(!looked_up || !object.tables.entries.is_empty(), "{context}: nothing is looked up");
    agree::compare(ruleset, Target::DropBehind, &behind, context) + agree::compare(ruleset, Target::Xdp, &long, context)
}

#[test]
fn u32_rules_that_are_looked_up_agree_with_the_interpreter() {
    if !privileged() {
        return;
    }
    stay_on_the_first_cpu();
    let mut rng = SmallRng::seed_from_u64(21);
    let (mut fates, mut taken) = ([0; 3], 0);
    for round in 0..60 {
        let (ruleset, frames) = u32_rules(&mut rng, 20 + round * 4, round % 2 == 0);
        let frames: Vec<Vec<u8>> =
            frames.iter().flat_map(|f| [f.clone(), f[..rng.gen_range(14..=f.len())].to_vec()]).collect();
        let object = forward(&ruleset, DeviceId(0), Stage::Xdp, ForwardOptions::default()).unwrap();
        assert!(round < 5 || object.looked_up() > 10, "round {round}: nothing is looked up");
        let now = compare_but_keys(&ruleset, DeviceId(0), Stage::Xdp, &frames, &format!("round {round}"));
        taken += steered(&ruleset, &frames, round > 20, &format!("round {round}"));
        (0..3).for_each(|n| fates[n] += now[n]);
    }
    eprintln!("sent, passed, dropped: {fates:?}; taken: {taken}");
    assert!(taken > 100);
    assert!(fates.iter().all(|n| *n > 100));
}

#[test]
fn flower_rules_that_are_looked_up_agree_with_the_interpreter() {
    if !privileged() {
        return;
    }
    stay_on_the_first_cpu();
    let mut rng = SmallRng::seed_from_u64(22);
    let (mut fates, mut taken) = ([0; 3], 0);
    for round in 0..40u32 {
        let frames: Vec<Vec<u8>> = (0..60).map(|_| rich_frame(&mut rng, true)).collect();
        let mut maker = maker(&mut rng);
        let mut rules = Vec::new();
        for shape in 0..3 {
            for _ in 0..30 {
                let mut key = FlowerKey { eth_type: Some(0x0800), ..FlowerKey::default() };
                let address = [198, 18, 0, maker.rng.gen_range(0..4)].into();
                if shape != 1 {
                    key.dst_ipv4 = Some((address, [255; 4].into()));
                }
                if shape != 0 {
                    key.dst_port = Some(PortMatch::Masked(maker.rng.gen_range(50..90), u16::MAX));
                    key.ip_proto = Some(if maker.rng.gen_bool(0.5) { 6 } else { 17 });
                }
                let redirects = maker.rng.gen_bool(0.5);
                let mut actions = ending(&mut maker, redirects);
                if maker.rng.gen_bool(0.3) {
                    actions = vec![own(&mut maker, Action::Gact(Gact { control: Control::Continue, random: None }))];
                }
                let counters = maker.words(NodeWord::len(0));
                rules.push(FlowerRule { handle: rules.len() as u32 + 1, key, classid: None, actions, counters });
            }
        }
        let filter = Filter { prio: 1, protocol: Protocol(0x0800), classifier: Classifier::Flower(rules) };
        let chains = BTreeMap::from([(0, Chain { filters: vec![filter] })]);
        maker.ruleset.hooks = vec![Hook { device: DeviceId(0), direction: Direction::Ingress, chains }];
        let ruleset = maker.ruleset;
        let object = forward(&ruleset, DeviceId(0), Stage::Xdp, ForwardOptions::default()).unwrap();
        assert!(object.looked_up() > 5, "round {round}: nothing is looked up");
        let now = compare(&ruleset, DeviceId(0), Stage::Xdp, &frames, &format!("round {round}"));
        taken += steered(&ruleset, &frames, true, &format!("round {round}"));
        (0..3).for_each(|n| fates[n] += now[n]);
    }
    eprintln!("sent, passed, dropped: {fates:?}; taken: {taken}");
    assert!(taken > 100);
    assert!(fates.iter().all(|n| *n > 20), "{fates:?}");
}

/// So many rules of five shapes, one after the other, that lead to redirects; the last one matches the frame.
fn very_many(count: u32) -> (Ruleset, Vec<u8>) {
    let mut rng = SmallRng::seed_from_u64(23);
    let mut frame = vec![0u8; 64];
    (frame[12], frame[14], frame[23]) = (8, 0x45, 6);
    frame[26..34].copy_from_slice(&[198, 18, 0, 1, 198, 18, 0, 2]);
    frame[34..38].copy_from_slice(&[1, 2, 3, 4]);
    let mut maker = maker(&mut rng);
    let mut nodes = Vec::new();
    for n in 0..count {
        let shape = SHAPES[n as usize % SHAPES.len()];
        let mut keys: Vec<U32Key> = shape.iter().map(|part| key(&frame, *part)).collect();
        if n + 1 < count {
            let last = keys.iter_mut().rfind(|k| k.mask.count_ones() >= 16).unwrap();
            last.value = (last.value ^ (n + 1).rotate_left(last.mask.trailing_zeros())) & last.mask;
        }
        let actions = ending(&mut maker, true);
        let mut node = maker.u32_node(n, keys, actions);
        (node.mark, node.indev, node.terminal) = (None, None, true);
        nodes.push(node);
    }
    let filter = Filter { prio: 1, protocol: Protocol(0x0800), classifier: Classifier::U32(nodes) };
    let chains = BTreeMap::from([(0, Chain { filters: vec![filter] })]);
    maker.ruleset.hooks = vec![Hook { device: DeviceId(0), direction: Direction::Ingress, chains }];
    (maker.ruleset, frame)
}

#[test]
fn very_many_rules_load_and_are_quick() {
    if !privileged() {
        return;
    }
    stay_on_the_first_cpu();
    for count in [10, 100, 1_000, 10_000, 60_000] {
        let (ruleset, frame) = very_many(count);
        for stage in [Stage::Xdp, Stage::Tc(Direction::Ingress)] {
            let object = forward(&ruleset, DeviceId(0), stage, ForwardOptions::default()).unwrap();
            let (insns, looked_up) = (object.text.insns.len(), object.looked_up());
            let program = Forwarding::load(object).unwrap();
            for device in [1, 2] {
                program.set_device(DeviceId(device), 1).unwrap();
            }
            let run = program.program().test_run_repeated(&frame, 1).unwrap();
            assert_eq!(run.code, if stage == Stage::Xdp { 4 } else { 7 });
            let best = (0..5).map(|_| program.program().test_run_repeated(&frame, 200_000).unwrap().nanoseconds).min();
            eprintln!("{count} rules, {stage:?}: {insns} instructions, {looked_up} entries, {} ns", best.unwrap());
        }
        for target in [Target::Xdp, Target::DropBehind] {
            let taken = agree::compare(&ruleset, target, std::slice::from_ref(&frame), "very many");
            assert_eq!(taken, 1, "{count} rules, {target:?}");
        }
    }
}
