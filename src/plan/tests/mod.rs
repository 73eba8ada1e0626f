//! The plan against its dumb twin: random rulesets and frames through `rules::eval` and through the plan must give the same.

mod cases;
mod flower;
mod frames;
mod rulesets;

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{Driver, Plan};
use crate::rules::eval::{Event, Network};
use crate::rules::{Classifier, CounterSource, Counters, NodeWord, Ruleset};
use crate::types::{DeviceId, DropReason, Topology};

/// Rulesets × frames: at least 100,000 pairs.
const RULESETS: u64 = 30_000;
const FRAMES_PER_RULESET: usize = 26;

/// What the generators reached, so that the comparison cannot become empty without notice.
#[derive(Default)]
struct Reached {
    pairs: u64,
    counted: u64,
    rewritten: u64,
    events: BTreeMap<&'static str, u64>,
    /// How often a rule of fw, and of basic, matched; how often one of basic did not.
    fw: u64,
    basic: [u64; 2],
}

impl Reached {
    fn note(&mut self, frame: &[u8], events: &[Event], counted: bool) {
        self.pairs += 1;
        self.counted += u64::from(counted);
        for event in events {
            let name = match event {
                Event::Transmit { frame: out, .. } => {
                    self.rewritten += u64::from(out != frame);
                    "transmit"
                }
                Event::Stack { .. } => "stack",
                Event::Dropped { reason, .. } => reason.as_str(),
            };
            *self.events.entry(name).or_default() += 1;
        }
    }

    /// What fw and basic came to in a ruleset.
    fn note_rules(&mut self, ruleset: &Ruleset, counters: &Counters) {
        let word = |base: u32, offset: u32| counters.words[(base + offset) as usize];
        for (_, _, filter) in ruleset.filters() {
            match &filter.classifier {
                Classifier::Fw(fw) => {
                    self.fw += fw.rules().iter().map(|r| word(r.counters, NodeWord::SUCCESS)).sum::<u64>();
                }
                Classifier::Basic(rules) => {
                    for rule in rules {
                        let (hit, success) =
                            (word(rule.counters, NodeWord::HIT), word(rule.counters, NodeWord::SUCCESS));
                        self.basic = [self.basic[0] + success, self.basic[1] + hit - success];
                    }
                }
                Classifier::U32(_) | Classifier::Flower(_) | Classifier::Matchall(_) => {}
            }
        }
    }

    fn assert_enough(&self) {
        let summary = format!(
            "{} pairs, {} moved an action's counter, {} frames rewritten, fw {}, basic {:?}, events {:?}",
            self.pairs, self.counted, self.rewritten, self.fw, self.basic, self.events
        );
        println!("{summary}");
        assert!(self.pairs >= 100_000, "{summary}");
        assert!(self.counted * 3 > self.pairs, "too few frames match a rule: {summary}");
        assert!(self.rewritten * 100 > self.pairs, "too few frames are rewritten: {summary}");
        assert!(self.fw > 1000 && self.basic.iter().all(|n| *n > 10_000), "fw or basic is hardly reached: {summary}");
        let drops = [
            DropReason::Rule,
            DropReason::Consumed,
            DropReason::ReclassifyLoop,
            DropReason::MirredLoop,
            DropReason::TargetDown,
            DropReason::Malformed,
            DropReason::TooLong,
        ];
        for name in ["transmit", "stack"].into_iter().chain(drops.map(DropReason::as_str)) {
            assert!(self.events.get(name).is_some_and(|n| *n > 100), "{name} is hardly reached: {summary}");
        }
    }
}

/// One network, both ways, and what each counted.
struct Twins<'a> {
    seed: u64,
    ruleset: &'a Ruleset,
    topology: &'a Topology,
    plan: Plan,
    slow: Counters,
    fast: Counters,
}

impl<'a> Twins<'a> {
    fn new(seed: u64, ruleset: &'a Ruleset, topology: &'a Topology) -> Self {
        let plan = Plan::compile(ruleset).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let counters = Counters::new(ruleset.counter_words);
        Self { seed, ruleset, topology, plan, slow: counters.clone(), fast: counters }
    }

    /// The events of one frame, the same for both; whether an action counted it.
    fn receive(&mut self, device: DeviceId, frame: &[u8], now_ms: u64) -> (Vec<Event>, bool) {
        let seed = self.seed;
        let before = self.slow.clone();
        (self.slow.now_ms, self.fast.now_ms) = (now_ms, now_ms);
        (self.slow.now_ns, self.fast.now_ns) = (now_ms as i64 * 20_000_000, now_ms as i64 * 20_000_000);
        let mut chance = SmallRng::seed_from_u64(now_ms);
        let slow = Network { ruleset: self.ruleset, topology: self.topology }.receive(
            device,
            frame,
            &mut self.slow,
            &mut |bound| chance.gen_range(0..bound),
        );
        let mut chance = SmallRng::seed_from_u64(now_ms);
        let fast =
            Driver { plan: &self.plan, topology: self.topology }
                .receive(device, frame, &mut self.fast, &mut |bound| chance.gen_range(0..bound));
        let context = || format!("seed {seed}, frame {now_ms} into {device:?}: {frame:02x?}\n{:#?}", self.ruleset);
        assert_eq!(slow, fast, "events of eval (left) and plan (right): {}", context());
        assert_eq!(self.slow, self.fast, "counters of eval (left) and plan (right): {}", context());
        let counted = self.ruleset.actions.iter().any(|a| {
            let word = (a.counters + crate::rules::ActionWord::PACKETS) as usize;
            before.words[word] != self.slow.words[word]
        });
        (slow, counted)
    }
}

/// What a plan counted, as the kernel would show it; keys and marks of u32 nodes, of which an index counts fewer, are set to those of `slow`.
fn read(ruleset: &Ruleset, plan: &Plan, fast: &Counters, slow: &Counters) -> Counters {
    let mut words = fast.words.clone();
    let counts = plan.counts(fast);
    for (_, _, filter) in ruleset.filters() {
        let Classifier::U32(nodes) = &filter.classifier else { continue };
        for node in nodes {
            let hit = node.counters + NodeWord::HIT;
            words[hit as usize] = counts.word(hit);
            for word in node.counters + NodeWord::KEYS..node.counters + node.words() {
                let word = word as usize;
                assert!(words[word] <= slow.words[word], "key word {word} of {node:?}");
                words[word] = slow.words[word];
            }
        }
    }
    Counters { words, ..fast.clone() }
}

/// With an index over every filter, however short: what matches, and what is counted but for single keys, stays the same.
#[test]
fn an_indexed_plan_and_eval_agree() {
    let (mut blocks, mut events) = (0, BTreeMap::<_, u64>::new());
    for seed in 500_000..500_000 + RULESETS / 3 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let samples: Vec<Vec<u8>> = (0..4).map(|_| frames::whole(&mut rng)).collect();
        let topology = rulesets::topology(&mut rng);
        let ruleset = rulesets::ruleset(&mut rng, &topology, &samples);
        let plan = Plan::of(&ruleset, 1).unwrap();
        blocks += plan.blocks.len() + plan.flower_blocks.len();
        let (mut slow, mut fast) = (Counters::new(ruleset.counter_words), Counters::new(ruleset.counter_words));
        for number in 1..=FRAMES_PER_RULESET as u64 {
            let frame = frames::frame(&mut rng, &samples);
            let device = DeviceId(if rng.gen_bool(0.8) { 0 } else { rng.gen_range(0..topology.devices.len() as u32) });
            for counters in [&mut slow, &mut fast] {
                (counters.now_ms, counters.now_ns) = (number, number as i64 * 20_000_000);
            }
            let chances = [SmallRng::seed_from_u64(number), SmallRng::seed_from_u64(number)];
            let [mut one, mut other] = chances;
            let want =
                Network { ruleset: &ruleset, topology: &topology }
                    .receive(device, &frame, &mut slow, &mut |bound| one.gen_range(0..bound));
            let have = Driver { plan: &plan, topology: &topology }
                .receive(device, &frame, &mut fast, &mut |bound| other.gen_range(0..bound));
            let context = || format!("seed {seed}, frame {number} into {device:?}: {frame:02x?}\n{ruleset:#?}");
            assert_eq!(want, have, "events of eval (left) and plan (right): {}", context());
            assert_eq!(slow, read(&ruleset, &plan, &fast, &slow), "counters of eval and plan: {}", context());
            *events.entry(matches!(have[..], [Event::Stack { .. }])).or_default() += 1;
        }
    }
    println!("{blocks} indexes, {events:?} (true: left to the stack)");
    assert!(blocks as u64 > RULESETS / 3 && events[&false] > 50_000 && events[&true] > 50_000);
}

#[test]
fn plan_and_eval_agree_on_everything() {
    let first: u64 = std::env::var("VISCUM_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    let mut reached = Reached::default();
    for seed in first..first + RULESETS {
        let mut rng = SmallRng::seed_from_u64(seed);
        let samples: Vec<Vec<u8>> = (0..4).map(|_| frames::whole(&mut rng)).collect();
        let topology = rulesets::topology(&mut rng);
        let ruleset = rulesets::ruleset(&mut rng, &topology, &samples);
        let mut twins = Twins::new(seed, &ruleset, &topology);
        for number in 0..FRAMES_PER_RULESET {
            let frame = frames::frame(&mut rng, &samples);
            let device = DeviceId(if rng.gen_bool(0.8) { 0 } else { rng.gen_range(0..topology.devices.len() as u32) });
            let (events, counted) = twins.receive(device, &frame, number as u64 + 1);
            reached.note(&frame, &events, counted);
        }
        reached.note_rules(&ruleset, &twins.fast);
    }
    reached.assert_enough();
}
