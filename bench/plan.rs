//! How long a frame takes: the interpreter that defines the rules against the plan that workers run, in one run.
//!
//! `cargo bench --bench plan`; the ratio of the two lines of a group is the figure, the absolute ones are the machine's.

#![expect(missing_docs, reason = "criterion_group! makes a public function without any")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::hint::black_box;
use std::ops::Range;
use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
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

/// A list of rules as people have them: prefixes of many lengths, single ports and ranges, one drop after the other.
fn rule_list(kind: &str, count: usize) -> String {
    let mut rng = SmallRng::seed_from_u64(count as u64);
    let mut known = BTreeSet::new();
    let mut text = String::from("tc qdisc add dev d0 ingress\n");
    for n in 0..count {
        // 4095 nodes fit into a table.
        let prio = n / 4000 + 1;
        let lens = [16, 20, 22, 24, 24, 24, 28, 30, 32, 32, 32];
        let mut prefix = |any: f64| {
            let len: u32 = if rng.gen_bool(any) { 0 } else { lens[rng.gen_range(0..lens.len())] };
            let bits = (10 << 24 | rng.gen_range(0..1u32 << 24)) & u32::MAX.checked_shl(32 - len).unwrap_or(0);
            (len, format!("{}/{len}", std::net::Ipv4Addr::from(bits)))
        };
        let src = prefix(0.6);
        let dst = prefix(if src.0 > 0 { 0.1 } else { 0.0 });
        let protocol = if rng.gen_bool(0.7) { 6 } else { 17 };
        let port: u16 = rng.gen_range(1..60_000);
        let what = rng.gen_range(0..10);
        let action = "action gact drop";
        if kind == "u32" {
            let src = if src.0 > 0 { format!("match ip src {} ", src.1) } else { String::new() };
            let port = match what {
                0..=5 => format!("match ip dport {port} 0xffff "),
                6..=7 => format!("match ip dport {:#x} 0xff00 ", port & 0xff00),
                _ => String::new(),
            };
            let start = format!("tc filter add dev d0 parent ffff: protocol ip prio {prio} u32");
            let _ =
                writeln!(text, "{start} match ip protocol {protocol} 0xff {src}match ip dst {} {port}{action}", dst.1);
        } else {
            let src = if src.0 > 0 { format!("src_ip {} ", src.1) } else { String::new() };
            let dst = if dst.0 > 0 { format!("dst_ip {} ", dst.1) } else { String::new() };
            let port = match what {
                0..=5 => format!("dst_port {port} "),
                6..=7 => format!("dst_port {port}-{} ", port.saturating_add(100)),
                _ => String::new(),
            };
            let handle = format!("handle {:#x} ", n + 1);
            let start = format!("tc filter add dev d0 parent ffff: protocol ip prio 1 {handle}flower ip_proto");
            let name = if protocol == 6 { "tcp" } else { "udp" };
            let keys = format!("{name} {src}{dst}{port}");
            // flower takes no second rule with the same keys.
            if known.insert(keys.clone()) {
                let _ = writeln!(text, "{start} {keys}{action}");
            }
        }
    }
    text
}

/// Frames to addresses within the rules'.
fn many_frames() -> Vec<Vec<u8>> {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut one = || {
        let address = |rng: &mut SmallRng| [10, rng.r#gen(), rng.r#gen(), rng.r#gen()];
        let (src, dst, port) = (address(&mut rng), address(&mut rng), rng.gen_range(1..60_000));
        let builder = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]).ipv4(src, dst, 64);
        let mut frame = Vec::new();
        builder.tcp(40_000, port, 1, 1000).write(&mut frame, &[0; 6]).expect("a vector takes all");
        frame
    };
    (0..1000).map(|_| one()).collect()
}

/// Cost of one classification against the number of rules: 1000 frames each time, of which few match early.
fn classify(c: &mut Criterion) {
    let frames = many_frames();
    for kind in ["u32", "flower"] {
        let mut group = c.benchmark_group(format!("classify {kind}"));
        group.throughput(Throughput::Elements(frames.len() as u64)).sample_size(20);
        for count in [4, 100, 1000, 10_000, 100_000] {
            let (store, _) =
                load(&rule_list(kind, count), "list", &BTreeMap::new(), &AnyDevice).expect("the list is right");
            let ruleset = store.ruleset();
            let plan = Plan::indexed(&ruleset).expect("the list compiles");
            let hook = plan.hook(DeviceId(0), Direction::Ingress).expect("the rules stand on the first device");
            let mut counters = Counters::new(ruleset.counter_words);
            let mut buffers: Vec<(Vec<u8>, PacketMeta)> = frames
                .clone()
                .into_iter()
                .filter_map(|mut frame| {
                    let received = vlan::receive(&mut frame, MacAddr::zero()).ok()?;
                    Some((frame, received.meta))
                })
                .collect();
            group.bench_function(count.to_string(), |b| {
                b.iter(|| {
                    for (frame, meta) in &mut buffers {
                        let len = frame.len();
                        let mut packet = Packet::new(frame, 0..len, *meta);
                        black_box(plan.run(hook, &mut packet, &mut counters, &mut NoCopies));
                    }
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, frames, classify);
criterion_main!(benches);
