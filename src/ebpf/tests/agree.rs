//! What programs take, pass and count is what `rules::eval` says, for random rulesets and frames.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::generate::{Maker, frame, topology};
use super::privileged;
use crate::ebpf::load::{Loaded, Tally};
use crate::ebpf::{Target, steer, takes};
use crate::rules::eval::{Event, Network};
use crate::rules::{
    Action, ActionInstance, ActionWord, Chain, Classifier, Control, CounterSource, Counters, Filter, Gact, Hook,
    Mirred, MirredMode, NodeWord, Ruleset, U32Base, U32Key,
};
use crate::sys::bpf::{Kind, SocketMap};
use crate::tc::{AnyDevice, Store, parse_script};
use crate::types::{Device, DeviceId, Direction, Protocol, Topology};

/// All devices up but `v1`.
pub fn topology_of(ruleset: &Ruleset) -> Topology {
    let mut devices: Vec<_> = ruleset.devices.iter().cloned().map(Device::assumed).collect();
    devices.iter_mut().filter(|d| d.key.name == "v1").for_each(|d| d.up = false);
    Topology { devices }
}

fn eval(ruleset: &Ruleset, device: DeviceId, frame: &[u8], counters: &mut Counters) -> bool {
    let topology = topology_of(ruleset);
    let network = Network { ruleset, topology: &topology };
    let mut before = counters.clone();
    let events = network.receive(device, frame, &mut before, &mut |_| 0);
    let passed = events.iter().any(|e| matches!(e, Event::Stack { device: d, .. } if *d == device));
    if passed {
        *counters = before;
    }
    !passed
}

/// Runs frames through the program and the interpreter. Returns how many were taken.
pub fn compare(ruleset: &Ruleset, target: Target, frames: &[Vec<u8>], context: &str) -> usize {
    compare_on(ruleset, DeviceId(0), target, frames, context)
}

fn compare_on(ruleset: &Ruleset, device: DeviceId, target: Target, frames: &[Vec<u8>], context: &str) -> usize {
    let object = steer(ruleset, device, target).unwrap();
    let sockets = SocketMap::new(c"viscum_test", 1).unwrap();
    let kind = if target == Target::Xdp { Kind::Xdp } else { Kind::Classifier };
    let loaded = match Loaded::new(&object, kind, "test", Some(&sockets)) {
        // Tables that lead to tables in each node are many paths; what the verifier gives up on is refused when it is loaded.
        Err(error) if error.raw_os_error() == Some(libc::E2BIG) && !ruleset.u32_tables.is_empty() => return 0,
        loaded => loaded.unwrap_or_else(|e| panic!("{context}: {e}")),
    };
    let mut expected = Counters::new(ruleset.counter_words);
    let (mut taken, mut tally) = (0, Tally::default());
    for frame in frames {
        let Ok(code) = loaded.program.test_run(frame) else {
            // The kernel makes no test packet of a cut IP header.
            assert!(frame.len() < 54, "{context}: test run of {} bytes", frame.len());
            continue;
        };
        let mut now = Tally::default();
        loaded.read_into(&mut now).unwrap();
        let took = now.taken > tally.taken;
        tally = now;
        assert_eq!(code, if took && target == Target::DropBehind { 2 } else { pass_code(target) }, "{context}");
        // Cut tagged frames: the kernel drops them itself, so they are passed and not counted.
        let cut = target == Target::Xdp && frame.len() < 20 && matches!(frame[12..14], [0x81, 0] | [0x88, 0xa8]);
        let should = !cut && eval(ruleset, device, frame, &mut expected);
        assert_eq!(took, should, "{context}: {frame:02x?}\n{ruleset:#?}");
        taken += usize::from(should);
    }
    assert_eq!(tally.unserved, if target == Target::Xdp { tally.taken } else { 0 });
    if target == Target::Xdp {
        if !object.tables.entries.is_empty() {
            excuse_keys(ruleset, &tally, &mut expected, context);
        }
        same_counters(ruleset, &tally, &expected, context);
    } else {
        assert!(tally.words.is_empty());
    }
    taken
}

fn pass_code(target: Target) -> u32 {
    if target == Target::Xdp { 2 } else { u32::MAX }
}

pub fn same_counters(ruleset: &Ruleset, tally: &Tally, expected: &Counters, context: &str) {
    let times_of = |a: &ActionInstance| [a.counters + ActionWord::FIRST_USED, a.counters + ActionWord::LAST_USED];
    let times: BTreeSet<u32> = ruleset.actions.iter().flat_map(times_of).collect();
    for word in 0..ruleset.counter_words {
        let (have, want) = (tally.word(word), expected.word(word));
        if times.contains(&word) {
            assert_eq!(have > 0, want > 0, "{context}: time word {word}");
        } else {
            assert_eq!(have, want, "{context}: word {word}\n{ruleset:#?}");
        }
    }
}

/// Keys of u32 nodes may be counted too rarely where rules are looked up: only those of whole matches are.
pub fn excuse_keys(ruleset: &Ruleset, tally: &Tally, expected: &mut Counters, context: &str) {
    for (_, _, filter) in ruleset.filters() {
        let Classifier::U32(nodes) = &filter.classifier else { continue };
        for word in nodes.iter().flat_map(|n| (0..n.keys.len()).map(|k| n.counters + NodeWord::KEYS + k as u32)) {
            assert!(tally.word(word) <= expected.word(word), "{context}: key word {word}");
            expected.words[word as usize] = tally.word(word);
        }
    }
}

fn random_rulesets(target: Target, seed: u64, count: usize, links: bool) {
    if !privileged() {
        return;
    }
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut taken, mut total, mut refused) = (0, 0, 0);
    for round in 0..count {
        let ruleset = if links { Maker::linked_ruleset(&mut rng, false) } else { Maker::ruleset(&mut rng, true) };
        if let Err(refusal) = steer(&ruleset, DeviceId(0), target) {
            assert!(refusal.to_string().starts_with("eth0 ingress"), "{refusal}");
            refused += 1;
            continue;
        }
        let frames: Vec<_> = (0..60).map(|_| frame(&mut rng, target == Target::Xdp)).collect();
        let hits = compare(&ruleset, target, &frames, &format!("seed {seed} round {round}"));
        assert!(hits == 0 || takes(&ruleset, DeviceId(0)), "round {round}: `takes` says no");
        taken += hits;
        total += frames.len();
    }
    eprintln!("{total} frames, {taken} taken, {refused} of {count} rulesets refused");
    assert!(refused * 2 < count && taken * 10 > total && taken * 10 < total * 9, "the generator makes dull cases");
}

#[test]
fn xdp_agrees_with_the_interpreter() {
    random_rulesets(Target::Xdp, 1, 300, false);
}

#[test]
fn drop_behind_agrees_with_the_interpreter() {
    random_rulesets(Target::DropBehind, 2, 300, false);
}

#[test]
fn programs_follow_links_as_the_interpreter_does() {
    random_rulesets(Target::Xdp, 4, 200, true);
    random_rulesets(Target::DropBehind, 5, 200, true);
}

/// The scenario's form of rule, many times: source, destination, port, flags; every other one redirects.
pub fn many_rules(count: u32, prios: bool) -> Ruleset {
    let mut rng = SmallRng::seed_from_u64(count.into());
    let devices = topology().devices.into_iter().map(|d| d.key).collect();
    let mut maker = Maker {
        rng: &mut rng,
        ruleset: Ruleset { devices, ..Ruleset::default() },
        wild: false,
        rich: false,
        links: Vec::new(),
    };
    let mut nodes = Vec::new();
    for n in 0..count {
        let key = |value, mask, offset| U32Key { value, mask, offset, base: U32Base::Network };
        let keys = vec![
            key(0x0006_0000, 0x00ff_0000, 8),
            key(0xc612_0000 + n, 0xffff_ffff, 16),
            key(0x39, 0xff, 20),
            key(0x0002_0000, 0x00ff_0000, 32),
        ];
        let action = if n % 2 == 0 {
            Action::Mirred(Mirred {
                direction: Direction::Egress,
                mode: MirredMode::Redirect,
                device: DeviceId(1),
                control: Control::Stolen,
            })
        } else {
            Action::Gact(Gact { control: Control::Pass, random: None })
        };
        let actions = vec![maker.action(action)];
        let mut node = maker.u32_node(0x8000_0800 + n, keys, actions);
        (node.mark, node.indev, node.terminal) = (None, None, true);
        nodes.push(node);
    }
    let ip = Protocol(0x0800);
    let filters = if prios {
        (1..).zip(nodes).map(|(prio, n)| Filter { prio, protocol: ip, classifier: Classifier::U32(vec![n]) }).collect()
    } else {
        vec![Filter { prio: 1, protocol: ip, classifier: Classifier::U32(nodes) }]
    };
    let chains = BTreeMap::from([(0, Chain { filters })]);
    maker.ruleset.hooks = vec![Hook { device: DeviceId(0), direction: Direction::Ingress, chains }];
    maker.ruleset
}

pub fn syn_to(last: u32) -> Vec<u8> {
    let mut frame = vec![0u8; 54];
    frame[12] = 8;
    frame[14] = 0x45;
    frame[23] = 6;
    frame[30..34].copy_from_slice(&(0xc612_0000 + last).to_be_bytes());
    frame[36..38].copy_from_slice(&12345u16.to_be_bytes());
    (frame[46], frame[47]) = (0x50, 2);
    frame
}

#[test]
fn the_verifier_accepts_hundreds_of_rules() {
    if !privileged() {
        return;
    }
    for (count, prios) in [(200, false), (200, true), (800, false), (800, true)] {
        let ruleset = many_rules(count, prios);
        let frames: Vec<_> = [0, 1, 77, count - 2, count - 1, count].map(syn_to).to_vec();
        for target in [Target::Xdp, Target::DropBehind] {
            let taken = compare(&ruleset, target, &frames, &format!("{count} rules"));
            assert_eq!(taken, 2, "rules 0 and count - 2 redirect");
        }
    }
}

#[test]
fn too_many_rules_are_refused_by_name() {
    let mut ruleset = many_rules(20_000, false);
    let filter = &mut ruleset.hooks[0].chains.get_mut(&0).unwrap().filters[0];
    let Classifier::U32(nodes) = &mut filter.classifier else { panic!("u32") };
    for (n, node) in (0..).zip(nodes) {
        // Each with a mask of its own: nothing can be looked up.
        node.keys[1].mask = 0xffff_0000 | n;
    }
    let refusal = steer(&ruleset, DeviceId(0), Target::Xdp).unwrap_err();
    assert!(refusal.to_string().contains("Use fewer rules"), "{refusal}");
}

#[test]
fn truncated_frames_are_read_no_further_than_they_are_long() {
    if !privileged() {
        return;
    }
    let mut rng = SmallRng::seed_from_u64(3);
    for round in 0..30 {
        let ruleset = Maker::ruleset(&mut rng, false);
        if steer(&ruleset, DeviceId(0), Target::Xdp).is_err() {
            continue;
        }
        let whole = frame(&mut rng, true);
        let frames: Vec<_> = (14..=whole.len()).map(|len| whole[..len].to_vec()).collect();
        compare(&ruleset, Target::Xdp, &frames, &format!("round {round}"));
        let long: Vec<_> = (0..5).map(|_| [whole.clone(), vec![rng.r#gen(); 2000]].concat()).collect();
        compare(&ruleset, Target::Xdp, &long, &format!("long, round {round}"));
    }
}

/// The rules of a golden case as the kernel took them: lines that it refused are left out.
pub fn golden_ruleset(case: &Path) -> Ruleset {
    let config: toml::Table = std::fs::read_to_string(case.join("case.toml")).unwrap().parse().unwrap();
    let env = config.get("env").and_then(|e| e.as_table()).into_iter().flatten();
    let env = env.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
    let text = std::fs::read_to_string(case.join("rules.tc")).unwrap();
    let mut store = Store::new();
    for line in &parse_script(&text, "rules.tc", &env).lines {
        let _refused = store.apply_line(line, &AnyDevice);
    }
    store.ruleset()
}

#[test]
fn programs_of_the_golden_cases_agree() {
    if !privileged() {
        return;
    }
    let (mut programs, mut taken) = (0, 0);
    for case in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).unwrap() {
        let case = case.unwrap().path();
        let ruleset = golden_ruleset(&case);
        let pcap = std::fs::File::open(case.join("in.pcap")).unwrap();
        let mut reader = pcap_file::pcap::PcapReader::new(pcap).unwrap();
        let mut frames = Vec::new();
        while let Some(packet) = reader.next_packet() {
            frames.push(packet.unwrap().data.into_owned());
        }
        frames.retain(|f| (14..3000).contains(&f.len()));
        for hook in ruleset.hooks.iter().filter(|h| h.direction == Direction::Ingress) {
            for target in [Target::Xdp, Target::DropBehind] {
                if let Err(refusal) = steer(&ruleset, hook.device, target) {
                    eprintln!("{}: {refusal}", case.display());
                    continue;
                }
                // A test packet's tag stays in the frame; the kernel takes it off a real one before this hook.
                let tagged = |f: &&Vec<u8>| target == Target::Xdp || !matches!(f[12..14], [0x81, 0] | [0x88, 0xa8]);
                let frames: Vec<_> = frames.iter().filter(tagged).cloned().collect();
                let context = case.display().to_string();
                taken += compare_on(&ruleset, hook.device, target, &frames, &context);
                programs += 1;
            }
        }
    }
    eprintln!("{programs} programs, {taken} frames taken");
    assert!(programs > 10 && taken > 100);
}
