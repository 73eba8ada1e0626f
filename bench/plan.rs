//! How long a frame takes: the interpreter that defines the rules against the plan that workers run, in one run.
//!
//! `cargo bench --bench plan`; the ratio of the two lines of a group is the figure, the absolute ones are the machine's.

#![expect(missing_docs, reason = "criterion_group! makes a public function without any")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::Range;
use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use viscum::plan::{Disposition, Outlet, Packet, Plan};
use viscum::port::pcap::PcapReader;
use viscum::rules::Counters;
use viscum::rules::eval::Network;
use viscum::tc::{AnyDevice, load};
use viscum::types::{DeviceId, Direction, MacAddr, PacketMeta, Topology};
use viscum::wire::vlan;

/// The talk's rules as they worked, and the frames of the golden case that belongs to them.
fn scenario(case: &str) -> (viscum::rules::Ruleset, Topology, Vec<Vec<u8>>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case);
    let text = std::fs::read_to_string(dir.join("rules.tc")).expect("the golden cases come with the sources");
    let (store, _) = load(&text, case, &BTreeMap::new(), &AnyDevice).expect("the golden rules are right");
    let ruleset = store.ruleset();
    let mut topology = Topology::default();
    ruleset.devices.iter().for_each(|key| {
        topology.find_or_assume(key);
    });
    let mut reader = PcapReader::open(&dir.join("in.pcap")).expect("the golden capture is readable");
    let mut frames = Vec::new();
    while let Some((_, frame)) = reader.next().expect("the golden capture is whole") {
        frames.push(frame.to_vec());
    }
    (ruleset, topology, frames)
}

/// As a worker's, for rules that copy nothing.
struct NoCopies;

impl Outlet for NoCopies {
    type Copy = Vec<u8>;

    fn is_up(&self, _: DeviceId) -> bool {
        true
    }

    fn copy(&mut self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn settle(&mut self, _: Vec<u8>, _: Range<usize>, _: &PacketMeta, _: &Disposition) -> bool {
        true
    }

    fn random_below(&mut self, _: u32) -> u32 {
        0
    }
}

fn frames(c: &mut Criterion) {
    for case in ["seed_step4_as_shown", "u32_past_end"] {
        let (ruleset, topology, frames) = scenario(case);
        let plan = Plan::compile(&ruleset).expect("the golden rules compile");
        let mut group = c.benchmark_group(case);
        group.throughput(Throughput::Elements(frames.len() as u64));
        let counters = || Counters::new(ruleset.counter_words);
        group.bench_function("eval", |b| {
            let network = Network { ruleset: &ruleset, topology: &topology };
            b.iter_batched_ref(
                counters,
                |counters| {
                    frames.iter().for_each(|f| drop(black_box(network.receive(DeviceId(0), f, counters, &mut |_| 0))))
                },
                BatchSize::SmallInput,
            );
        });
        group.bench_function("plan", |b| {
            let hook = plan.hook(DeviceId(0), Direction::Ingress).expect("the rules stand on the first device");
            let mut buffer = vec![0; 65_536];
            b.iter_batched_ref(
                counters,
                |counters| {
                    for frame in &frames {
                        let data = &mut buffer[..frame.len()];
                        data.copy_from_slice(frame);
                        let Ok(received) = vlan::receive(data, MacAddr::zero()) else { continue };
                        let mut packet = Packet::new(&mut buffer, received.start..frame.len(), received.meta);
                        black_box(plan.run(hook, &mut packet, counters, &mut NoCopies));
                    }
                },
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, frames);
criterion_main!(benches);
