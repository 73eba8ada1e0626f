//! What forwarding programs make of frames, and count, is what `rules::eval` says: random rules and frames, and the golden cases.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::agree::{excuse_keys, golden_ruleset, same_counters, topology_of};
use super::generate::Maker;
use super::privileged;
use super::rich::rich_frame;
use crate::ebpf::forward::{ForwardOptions, Stage, forward};
use crate::ebpf::load::Tally;
use crate::ebpf::load::forward::Forwarding;
use crate::rules::eval::{Event, Network};
use crate::rules::{
    Action, ActionId, ActionInstance, ActionWord, Chain, Classifier, Control, Counters, Filter, Hook, MatchallRule,
    Mirred, MirredMode, Pedit, Ruleset,
};
use crate::types::{DeviceId, DeviceKey, Direction, DropReason, PacketType, PeditKey, Protocol, Topology};

const LOOPBACK: u32 = 1;
const EXTENSIONS_MAX: usize = 5;
const XDP_CODES: [u32; 3] = [1, 2, 4];
const TC_CODES: [u32; 3] = [2, u32::MAX, 7];
/// Where the workspace has the number of the outgoing device, in words of 8 bytes.
const DEVICE_WORD: usize = 5;

/// What a program did with a frame.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Dropped,
    Passed(Vec<u8>),
    Sent(DeviceId, Vec<u8>),
}

/// A loaded program, whose devices are all the loopback device but those that are down. `None`: the verifier gave up.
fn load(ruleset: &Ruleset, device: DeviceId, stage: Stage, topology: &Topology, context: &str) -> Option<Forwarding> {
    let object = forward(ruleset, device, stage, ForwardOptions::default()).unwrap();
    let len = object.text.insns.len();
    let program = match Forwarding::load(object) {
        Err(error) if error.raw_os_error() == Some(libc::E2BIG) => {
            eprintln!("{context}: too much for the verifier: {len} instructions");
            return None;
        }
        loaded => loaded.unwrap_or_else(|e| panic!("{context}: {e}")),
    };
    for device in program.object().devices.clone() {
        let up = topology.device(device).up;
        program.set_device(device, if up { LOOPBACK } else { 0 }).unwrap();
    }
    Some(program)
}

fn run(program: &Forwarding, frame: &[u8]) -> Option<Fate> {
    let run = program.program().test_run_repeated(frame, 1).ok()?;
    let [drop, pass, redirect] = if program.object().stage == Stage::Xdp { XDP_CODES } else { TC_CODES };
    Some(if run.code == drop {
        Fate::Dropped
    } else if run.code == pass {
        Fate::Passed(run.frame)
    } else {
        assert_eq!(run.code, redirect);
        let mut numbers = Vec::new();
        program.workspace().read(&mut |word, value| numbers.extend((word == DEVICE_WORD).then_some(value))).unwrap();
        // The thread stays on the first CPU.
        Fate::Sent(program.object().devices[numbers[0] as u32 as usize], run.frame)
    })
}

/// A frame whose outer tag is beside it.
fn without_tag(frame: &[u8]) -> Vec<u8> {
    match frame.get(12..14) {
        Some([0x81, 0] | [0x88, 0xa8]) if frame.len() >= 16 => [&frame[..12], &frame[16..]].concat(),
        _ => frame.to_vec(),
    }
}

/// Without any tag that is in it: the stack takes them off where their id is 0.
fn without_tags(frame: &[u8]) -> Vec<u8> {
    let (mut before, mut now) = (Vec::new(), frame.to_vec());
    while before != now {
        before = now;
        now = without_tag(&before);
    }
    now
}

/// What reaches the stack, but for what does not show in the bytes; copies that were sent before are not in it.
fn stack_of(events: &[Event]) -> Vec<Event> {
    let mut events: Vec<Event> = events.iter().filter(|e| !matches!(e, Event::Transmit { .. })).cloned().collect();
    for event in &mut events {
        if let Event::Stack { meta, .. } = event {
            (meta.network, meta.mark, meta.priority, meta.queue_mapping) = (14, 0, 0, 0);
            meta.ptype = PacketType::Host;
        }
    }
    events
}

pub fn compare(ruleset: &Ruleset, device: DeviceId, stage: Stage, frames: &[Vec<u8>], context: &str) -> [usize; 3] {
    let (fates, tally, expected) = compare_frames(ruleset, device, stage, frames, context);
    same_counters(ruleset, &tally, &expected, context);
    fates
}

/// As [`compare`]; keys of u32 nodes may be counted too rarely: only whole matches of rules that are looked up are.
pub fn compare_but_keys(
    ruleset: &Ruleset,
    device: DeviceId,
    stage: Stage,
    frames: &[Vec<u8>],
    context: &str,
) -> [usize; 3] {
    let (fates, tally, mut expected) = compare_frames(ruleset, device, stage, frames, context);
    excuse_keys(ruleset, &tally, &mut expected, context);
    same_counters(ruleset, &tally, &expected, context);
    fates
}

fn compare_frames(
    ruleset: &Ruleset,
    device: DeviceId,
    stage: Stage,
    frames: &[Vec<u8>],
    context: &str,
) -> ([usize; 3], Tally, Counters) {
    let topology = topology_of(ruleset);
    let Some(program) = load(ruleset, device, stage, &topology, context) else {
        return ([0; 3], Tally::default(), Counters::new(ruleset.counter_words));
    };
    let network = Network { ruleset, topology: &topology };
    let bare = Ruleset { devices: ruleset.devices.clone(), ..Ruleset::default() };
    let without_rules = Network { ruleset: &bare, topology: &topology };
    let mut expected = Counters::new(ruleset.counter_words);
    let mut fates = [0; 3];
    for frame in frames {
        let Some(fate) = run(&program, frame) else {
            assert!(frame.len() < 54, "{context}: test run of {} bytes", frame.len());
            continue;
        };
        // The kernel drops cut tagged frames itself, before tc.
        if stage == Stage::Xdp && frame.len() < 20 && matches!(frame[12..14], [0x81, 0] | [0x88, 0xa8]) {
            assert_eq!(fate, Fate::Passed(frame.clone()));
            continue;
        }
        let events = network.receive(device, frame, &mut expected, &mut |_| 0);
        let say = || format!("{context}: {frame:02x?}\n{events:02x?}\n{ruleset:#?}");
        match fate {
            Fate::Sent(to, out) => {
                // Before it there may be copies.
                let Some(Event::Transmit { device, frame }) = events.last() else { panic!("{}", say()) };
                let beside = stage != Stage::Xdp && without_tag(frame) == out;
                assert!(*device == to && (*frame == out || beside), "{out:02x?} {}", say());
                fates[0] += 1;
            }
            Fate::Passed(out) if stage != Stage::Xdp => {
                // The kernel keeps tag and protocol beside the frame, where a test cannot see them.
                let same =
                    |e: &Event| matches!(e, Event::Stack { data, .. } if without_tags(data) == without_tags(&out));
                let cut = |e: &Event| matches!(e, Event::Dropped { reason: DropReason::Malformed, .. });
                assert!(events.last().is_some_and(|e| same(e) || cut(e)), "{out:02x?} {}", say());
                fates[1] += 1;
            }
            Fate::Passed(out) => {
                let again = without_rules.receive(device, &out, &mut Counters::new(0), &mut |_| 0);
                assert_eq!(stack_of(&events), stack_of(&again), "{}", say());
                fates[1] += 1;
            }
            Fate::Dropped => {
                assert!(!events.iter().any(|e| matches!(e, Event::Stack { .. })), "{}", say());
                fates[2] += 1;
            }
        }
    }
    let mut tally = Tally::default();
    program.read_into(&mut tally).unwrap();
    (fates, tally, expected)
}

pub fn stay_on_the_first_cpu() {
    let mut cpus = nix::sched::CpuSet::new();
    cpus.set(0).unwrap();
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cpus).unwrap();
}

fn random_rulesets(stage: Stage, seed: u64, count: usize, rich: bool) {
    if !privileged() {
        return;
    }
    stay_on_the_first_cpu();
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut fates = [0; 3];
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for round in 0..count {
        let ruleset = if rich { Maker::linked_ruleset(&mut rng, true) } else { Maker::ruleset(&mut rng, true) };
        if let Err(refusal) = forward(&ruleset, DeviceId(0), stage, ForwardOptions::default()) {
            assert!(refusal.to_string().starts_with("eth0 ingress"), "{refusal}");
            let kind = format!("{:?}", refusal.reason);
            *refused.entry(kind.split([' ', '{']).next().unwrap().to_owned()).or_default() += 1;
            continue;
        }
        let mut frames: Vec<_> = (0..40).map(|_| rich_frame(&mut rng, stage == Stage::Xdp)).collect();
        // Behind more extension headers a program finds no transport header to edit or sum up.
        frames.retain(|frame| !rich || extensions(frame) <= EXTENSIONS_MAX);
        let now = compare(&ruleset, DeviceId(0), stage, &frames, &format!("seed {seed} round {round}"));
        (0..3).for_each(|n| fates[n] += now[n]);
    }
    eprintln!("sent, passed, dropped: {fates:?}; refused: {refused:?}");
    assert!(fates.iter().all(|n| *n > count / 4), "the generator makes dull cases");
}

#[test]
fn xdp_forwarding_agrees_with_the_interpreter() {
    random_rulesets(Stage::Xdp, 11, 200, false);
}

#[test]
fn xdp_forwarding_of_all_actions_agrees_with_the_interpreter() {
    random_rulesets(Stage::Xdp, 12, 300, true);
}

#[test]
fn tc_forwarding_of_all_actions_agrees_with_the_interpreter() {
    random_rulesets(Stage::Tc(Direction::Ingress), 13, 120, true);
}

#[test]
fn forwarding_programs_of_the_golden_cases_agree() {
    if !privileged() {
        return;
    }
    stay_on_the_first_cpu();
    let (mut programs, mut fates) = (0, [0; 3]);
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
            for stage in [Stage::Xdp, Stage::Tc(Direction::Ingress)] {
                let mut ruleset = ruleset.clone();
                if stage != Stage::Xdp {
                    // The hooks that frames come to next have programs of their own.
                    ruleset.hooks.retain(|h| (h.device, h.direction) == (hook.device, hook.direction));
                }
                if let Err(refusal) = forward(&ruleset, hook.device, stage, ForwardOptions::default()) {
                    eprintln!("{}: {refusal}", case.file_name().unwrap().to_string_lossy());
                    continue;
                }
                // A test packet's tag stays in the frame; the kernel takes it off a real one before this hook.
                let tagged = |f: &&Vec<u8>| stage == Stage::Xdp || !matches!(f[12..14], [0x81, 0] | [0x88, 0xa8]);
                let frames: Vec<_> = frames.iter().filter(tagged).cloned().collect();
                let now = compare(&ruleset, hook.device, stage, &frames, &case.display().to_string());
                (0..3).for_each(|n| fates[n] += now[n]);
                programs += 1;
            }
        }
    }
    eprintln!("{programs} programs; sent, passed, dropped: {fates:?}");
    assert!(programs > 20 && fates[0] > 100);
}

/// Extension headers of an IPv6 frame.
fn extensions(frame: &[u8]) -> usize {
    let mut at = 14;
    while frame.len() > at + 4 && matches!(frame[at - 2..at], [0x81, 0] | [0x88, 0xa8]) {
        at += 4;
    }
    if frame.len() < at + 40 || frame[at - 2..at] != [0x86, 0xdd] {
        return 0;
    }
    let (mut count, mut next) = (0, frame[at + 6]);
    at += 40;
    while matches!(next, 0 | 43 | 44 | 51 | 60) && frame.len() > at + 1 {
        let len = if next == 51 { (usize::from(frame[at + 1]) + 2) * 4 } else { (usize::from(frame[at + 1]) + 1) * 8 };
        (count, next, at) = (count + 1, frame[at], at + len);
    }
    count
}

/// A frame whose TCP or UDP checksum is left to a device that never comes.
fn partial_frame(rng: &mut SmallRng) -> Vec<u8> {
    let payload = vec![rng.r#gen(); rng.gen_range(0..3000)];
    let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]);
    let mut frame = Vec::new();
    match rng.gen_range(0..4) {
        0 => builder.ipv4([198, 18, 0, 1], [198, 18, 0, 2], 9).tcp(1, 2, 3, 4).write(&mut frame, &payload),
        1 => builder.ipv4([198, 18, 0, 1], [198, 18, 0, 2], 9).udp(1, 2).write(&mut frame, &payload),
        2 => builder.ipv6([1; 16], [2; 16], 9).tcp(1, 2, 3, 4).write(&mut frame, &payload),
        _ => builder.ipv6([1; 16], [2; 16], 9).udp(1, 2).write(&mut frame, &payload),
    }
    .unwrap();
    let mut network = 14;
    if rng.gen_bool(0.3) {
        frame.splice(12..12, [0x81, 0, 0, 5]);
        network = 18;
    }
    let v4 = frame[network] >> 4 == 4;
    let (l4, proto) = if v4 { (network + 20, frame[network + 9]) } else { (network + 40, frame[network + 6]) };
    let addresses = if v4 { network + 12..network + 20 } else { network + 8..network + 40 };
    let pseudo = crate::wire::checksum::pseudo_header(&frame[addresses], proto, frame.len() - l4).fold();
    let field = l4 + if proto == 6 { 16 } else { 6 };
    if rng.gen_bool(0.8) {
        frame[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
    }
    frame
}

#[test]
fn partial_checksums_are_completed_before_a_frame_is_sent_on() {
    if !privileged() {
        return;
    }
    stay_on_the_first_cpu();
    let mut rng = SmallRng::seed_from_u64(14);
    for edit in [
        None,
        Some(Action::Pedit(Pedit {
            keys: vec![PeditKey { mask: 0, value: 77, offset: 8, ..PeditKey::default() }],
            extended: false,
            control: Control::Pipe,
        })),
    ] {
        let ruleset = redirect_all(edit);
        let topology = topology_of(&ruleset);
        let options = ForwardOptions { partial_checksums: true };
        let program = Forwarding::load(forward(&ruleset, DeviceId(0), Stage::Xdp, options).unwrap()).unwrap();
        program.set_device(DeviceId(1), LOOPBACK).unwrap();
        let network = Network { ruleset: &ruleset, topology: &topology };
        let mut completed = 0;
        for _ in 0..300 {
            let frame = partial_frame(&mut rng);
            let mut whole = frame.clone();
            completed += usize::from(crate::wire::checksum::complete_partial(&mut whole));
            let events = network.receive(DeviceId(0), &whole, &mut Counters::new(ruleset.counter_words), &mut |_| 0);
            let Some(Fate::Sent(device, out)) = run(&program, &frame) else { panic!("not sent") };
            assert_eq!(events, [Event::Transmit { device, frame: out }]);
        }
        assert!(completed > 100);
    }
}

/// `matchall action [edit] mirred egress redirect`.
fn redirect_all(edit: Option<Action>) -> Ruleset {
    let (direction, mode) = (Direction::Egress, MirredMode::Redirect);
    let redirect = Action::Mirred(Mirred { direction, mode, device: DeviceId(1), control: Control::Stolen });
    let list: Vec<Action> = edit.into_iter().chain([redirect]).collect();
    let actions = (0..list.len() as u32).map(ActionId).collect();
    let rule = MatchallRule { handle: 1, skip_sw: false, classid: None, actions, counters: 0 };
    let filter = Filter { prio: 1, protocol: Protocol::ALL, classifier: Classifier::Matchall(Some(rule)) };
    let instance =
        |(n, action)| ActionInstance { index: n as u32 + 1, action, counters: 2 + n as u32 * ActionWord::LEN };
    Ruleset {
        u32_tables: Vec::new(),
        devices: ["a", "b"].map(DeviceKey::local).to_vec(),
        hooks: vec![Hook {
            device: DeviceId(0),
            direction: Direction::Ingress,
            chains: [(0, Chain { filters: vec![filter] })].into(),
        }],
        counter_words: 2 + list.len() as u32 * ActionWord::LEN,
        actions: list.into_iter().enumerate().map(instance).collect(),
    }
}
