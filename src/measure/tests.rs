//! The generator's and the sink's programs against slow twins, and a bed on real devices.

use std::collections::HashSet;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::bed::Bed;
use super::code::{self, COUNT_ENTRIES, DUPLICATES, FLOW_WORDS, FRAMES, LATE, REORDERED, TIMES};
use super::frames::{Ends, FLAGS_AT, FLOW_AT, MEASURED_FLAGS, NUMBER_AT, PORT_FIRST, STAMP_AT, frame};
use super::generator::{Generator, Load};
use super::lane::{Lane, Path};
use super::programs::load;
use super::sink::{Sink, SinkKind};
use super::times::BUCKETS;
use super::trial::{Conditions, run};
use crate::sys::bpf::{Kind, Program, WordsMap};
use crate::types::MacAddr;

fn privileged() -> bool {
    let root = nix::unistd::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "CI must be able to load programs");
    if !root {
        eprintln!("skipped: it needs root");
    }
    root
}

fn ends() -> Ends {
    let mac = |n| MacAddr::new(2, 0, 0, 0, 0, n);
    Ends { from: mac(1), to: mac(2), source: [198, 18, 0, 1], destination: [198, 18, 0, 2] }
}

struct Loaded {
    program: Program,
    counts: WordsMap,
    _flows: WordsMap,
}

fn sink(kind: Kind, flows: u32) -> Loaded {
    let counts = WordsMap::new(c"viscum_arrived", 1, COUNT_ENTRIES).unwrap();
    let memory = WordsMap::new(c"viscum_flows", FLOW_WORDS, flows).unwrap();
    let maps = [(code::COUNTS, counts.map()), (code::FLOWS, memory.map())];
    let program = load(kind, "sink", &code::sink(kind, flows), &maps).unwrap();
    Loaded { program, counts, _flows: memory }
}

/// What the sink should say of these numbers of one flow, counted the slow way.
fn expected(numbers: &[u32]) -> [u64; 3] {
    let (mut seen, mut highest) = (HashSet::new(), None::<u32>);
    let [mut reordered, mut duplicates, mut late] = [0; 3];
    for number in numbers {
        match highest {
            Some(highest) if *number <= highest => {
                if highest - number >= 64 {
                    late += 1;
                } else if !seen.insert(*number) {
                    duplicates += 1;
                } else {
                    reordered += 1;
                }
            }
            _ => highest = Some(*number),
        }
        seen.insert(*number);
    }
    [reordered, duplicates, late]
}

#[test]
fn the_sink_tells_reordered_frames_from_those_that_come_twice() {
    if !privileged() {
        return;
    }
    let mut rng = SmallRng::seed_from_u64(3);
    for kind in [Kind::Xdp, Kind::Classifier] {
        for _ in 0..40 {
            let numbers: Vec<u32> =
                (0..200).map(|n: u32| n.saturating_sub(rng.gen_range(0..if n % 50 == 7 { 150 } else { 6 }))).collect();
            let loaded = sink(kind, 4);
            for number in &numbers {
                let mut frame = frame(&ends(), 64);
                frame[FLOW_AT as usize..][..2].copy_from_slice(&(PORT_FIRST + 2).to_be_bytes());
                frame[NUMBER_AT as usize..][..4].copy_from_slice(&number.to_ne_bytes());
                loaded.program.test_run(&frame).unwrap();
            }
            let have = [REORDERED, DUPLICATES, LATE].map(|entry| loaded.counts.get(entry).unwrap()[0]);
            assert_eq!(have, expected(&numbers), "{numbers:?}");
            assert_eq!(loaded.counts.get(FRAMES).unwrap()[0], 200);
        }
    }
}

#[test]
fn the_sink_counts_ages_of_measured_frames_and_leaves_others_frames_alone() {
    if !privileged() {
        return;
    }
    let loaded = sink(Kind::Xdp, 1);
    let mut measured = frame(&ends(), 64);
    measured[FLAGS_AT as usize] = MEASURED_FLAGS;
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    let now = now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64;
    let second_ago = (now - 1_000_000_000) as u32;
    measured[STAMP_AT as usize..][..4].copy_from_slice(&second_ago.to_ne_bytes());
    assert_eq!(loaded.program.test_run(&measured).unwrap(), 1, "XDP_DROP");
    let ages = (0..BUCKETS).filter(|b| loaded.counts.get(TIMES + b).unwrap()[0] != 0).map(super::times::middle);
    let ages: Vec<u64> = ages.collect();
    assert!(ages.len() == 1 && ages[0] > 960_000_000 && ages[0] < 4_000_000_000, "{ages:?}");
    let mut other = frame(&ends(), 64);
    other[36] ^= 1;
    assert_eq!(loaded.program.test_run(&other).unwrap(), 2, "XDP_PASS");
    assert_eq!(loaded.counts.get(FRAMES).unwrap()[0], 1);
}

#[test]
fn what_the_generator_sends_arrives_once_and_in_order() {
    if !privileged() {
        return;
    }
    let conditions = Conditions { flows: 16, sink: SinkKind::Xdp, core: 0 };
    let lane = Lane::start(Path::XdpByHand, 91, 1500, 0).unwrap();
    for (rate, measured_rate) in [(20_000.0, 0.0), (5_000.0, 500.0), (f64::INFINITY, 0.0)] {
        let sizes = vec![(64, 7), (570, 4), (1518, 1)];
        let load = Load { rate, sizes, measured_rate, duration: Duration::from_millis(100) };
        let outcome = run(&lane, &load, &conditions).unwrap();
        let arrived = &outcome.arrived;
        assert!(outcome.sent > 0 && outcome.lost() == 0, "{outcome:?}");
        assert_eq!((arrived.reordered, arrived.duplicates, arrived.late), (0, 0, 0));
        assert_eq!(arrived.ages.is_empty(), measured_rate == 0.0);
    }
    drop(lane);
    assert!(!crate::host::netns::exists("viscum-bench-91") && !crate::host::netns::exists("viscum-bench-91-to"));
}

#[test]
fn the_kernels_tc_carries_frames_to_a_sink_behind_the_stacks_hook() {
    if !privileged() {
        return;
    }
    let conditions = Conditions { flows: 1, sink: SinkKind::Stack, core: 0 };
    let lane = Lane::start(Path::Tc, 92, 1500, 10).unwrap();
    let load = Load { rate: 2_000.0, sizes: vec![(64, 1)], measured_rate: 0.0, duration: Duration::from_millis(100) };
    let outcome = run(&lane, &load, &conditions).unwrap();
    assert!(outcome.sent >= 20 && outcome.lost() == 0, "{outcome:?}");
}

#[test]
fn sinks_take_the_seat_at_the_far_end_one_after_the_other() {
    if !privileged() {
        return;
    }
    let mut lane = Lane::start(Path::XdpByHand, 94, 1500, 0).unwrap();
    lane.bed.take_seat().unwrap();
    let conditions = Conditions { flows: 1, sink: SinkKind::Xdp, core: 0 };
    let load = Load { rate: 1_000.0, sizes: vec![(64, 1)], measured_rate: 0.0, duration: Duration::from_millis(50) };
    for _ in 0..2 {
        let outcome = run(&lane, &load, &conditions).unwrap();
        assert!(outcome.sent > 0 && outcome.lost() == 0, "{outcome:?}");
    }
}

#[test]
fn a_lost_frame_is_seen() {
    if !privileged() {
        return;
    }
    // Nothing forwards on this bed.
    let bed = Bed::make(93, 1500).unwrap();
    bed.receive_by_napi(true).unwrap();
    let sink = Sink::attach(&bed, SinkKind::Xdp, 1).unwrap();
    let generator = Generator::new(&bed, 1, 0).unwrap();
    let load = Load { rate: 1_000.0, sizes: vec![(64, 1)], measured_rate: 0.0, duration: Duration::from_millis(50) };
    let sent = generator.send(&load).unwrap();
    assert!(sent.frames > 0);
    assert_eq!(sink.frames().unwrap(), 0);
}
