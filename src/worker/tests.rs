//! The burst on ports in memory: frames in, frames out, every one accounted for. No privilege needed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::cells::{PortCells, WorkerCells};
use super::clock::real_ns;
use super::crossing::Crossing;
use super::generation::{Egress, Generation, Lane, OnPass};
use super::mail::Letter;
use super::ports::{Bank, Ports, Slot};
use super::seam::Seam;
use super::step::{Engine, Rules};
use super::timing::Since;
use crate::limits::FRAME_LEN_MAX;
use crate::plan::Plan;
use crate::port::pcap::PcapReader;
use crate::port::{Batch, FramePool, Mem, PoolConfig, Port};
use crate::rules::{ActionWord, CounterSource, Ruleset};
use crate::tc::{AnyDevice, load};
use crate::types::{DeviceKey, Direction, DropReason, Gso, GsoKind, MacAddr, Offload};
use crate::wire::checksum;
use crate::wire::segment::segments;
use crate::worker::{AllTokens, Cells, Idle, Pool};

mod timed;

/// A worker with a port in memory for each device.
struct Bench {
    engine: Engine,
    rules: Rules,
    devices: Vec<String>,
}

fn ruleset(text: &str) -> Ruleset {
    match load(
        text,
        "rules.tc",
        &BTreeMap::from([("specified_veth".to_owned(), "IMAGE_HOST_VETH".to_owned())]),
        &AnyDevice,
    ) {
        Ok((store, _)) => store.ruleset(),
        Err(error) => panic!("{error}"),
    }
}

fn generation(id: u64, text: &str, devices: &[&str], on_pass: OnPass) -> Arc<Generation> {
    let ruleset = ruleset(text);
    let plan = Plan::compile(&ruleset).unwrap();
    let lane = |name: &&str| {
        let hook = ruleset.device(&DeviceKey::local(name)).and_then(|id| plan.hook(id, Direction::Ingress));
        Lane { hook, mac: MacAddr::new(0x5c, 0xb9, 1, 0xc3, 0xd9, 0x38), on_pass }
    };
    let egress = |key: &DeviceKey| devices.iter().position(|d| *d == key.name).map_or(Egress::None, Egress::Port);
    Arc::new(Generation {
        id,
        lanes: devices.iter().map(|name| Some(lane(name))).collect(),
        seams: devices.iter().map(|_| Some(Arc::new(Seam::ahead()))).collect(),
        egress: ruleset.devices.iter().map(egress).collect(),
        up: ruleset.devices.iter().map(|_| AtomicBool::new(true)).collect(),
        cells: Cells::new(ruleset.counter_words),
        tokens: AllTokens::new(plan.policers(), &AllTokens::default()),
        plan: Arc::new(plan),
    })
}

impl Bench {
    fn new(text: &str, devices: &[&str], on_pass: OnPass) -> Self {
        let chunk_len = FRAME_LEN_MAX.next_multiple_of(64);
        let pool = FramePool::new(PoolConfig { chunk_count: 256, chunk_len, umem: false }).unwrap();
        let mut ports = Ports::default();
        ports.put_bank(0, Box::new(Bank::new(pool, 1)));
        for at in 0..devices.len() {
            ports.put_slot(at, Slot { port: Port::Mem(Mem::new()), bank: 0, cells: Arc::default() });
        }
        let engine = Engine {
            ports,
            batch: Batch::new(),
            cells: Arc::new(WorkerCells::default()),
            crossings: vec![Crossing::new(8, 2048, Arc::new(nix::sys::eventfd::EventFd::new().unwrap()))],
            old_boxes: Vec::new(),
            leaving: Vec::new(),
            index: 0,
            taps: super::taps::Tapping::new(),
            has_backlog: false,
            now_ms: 5,
            now_ns: 5_000_000,
        };
        let rules = Rules { current: generation(1, text, devices, on_pass), previous: None, patience: 0 };
        Self { engine, rules, devices: devices.iter().map(ToString::to_string).collect() }
    }

    fn mem(&mut self, device: &str) -> &mut Mem {
        let at = self.devices.iter().position(|d| d == device).unwrap();
        let (slot, _) = self.engine.ports.with_pool(at).unwrap();
        let Port::Mem(mem) = &mut slot.port else { panic!("all ports of a bench are in memory") };
        mem
    }

    /// Lets a frame in and returns what the other devices transmitted, in order.
    fn one(&mut self, device: &str, frame: &[u8]) -> Vec<(String, Vec<u8>)> {
        self.mem(device).push(frame);
        assert!(self.engine.step(&self.rules));
        assert!(!self.engine.step(&self.rules), "one step is enough for one frame");
        let mut out = Vec::new();
        for name in self.devices.clone() {
            while let Some(frame) = self.mem(&name).pop() {
                out.push((name.clone(), frame));
            }
        }
        self.balance();
        out
    }

    fn cells(&self, port: usize) -> &PortCells {
        &self.engine.ports.slot(port).unwrap().cells
    }

    fn dropped(&self, port: usize, reason: DropReason) -> u64 {
        self.cells(port).drops[reason.index()].load(Ordering::Relaxed)
    }

    /// Every frame that came has gone somewhere, and no buffer is held.
    fn balance(&self) {
        let load = |cell: &std::sync::atomic::AtomicU64| cell.load(Ordering::Relaxed);
        for port in (0..self.engine.ports.len()).map(|at| self.cells(at)) {
            let came = load(&port.rx_frames) + load(&port.mirrored) + load(&port.crossed_in);
            let dropped: u64 = port.drops.iter().map(load).sum();
            let went = load(&port.handed) + load(&port.refused) + load(&port.passed) + load(&port.crossed) + dropped;
            assert_eq!(came, went, "{port:?}");
        }
        assert_eq!(self.engine.ports.outstanding(), 0);
    }
}

fn udp(port: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [0x5c, 0xb9, 1, 0xc3, 0xd9, 0x38])
        .ipv4([198, 18, 0, 2], [198, 51, 100, 10], 64)
        .udp(40000, port)
        .write(&mut frame, b"plate")
        .unwrap();
    frame
}

const TAKE_7: &str = "tc qdisc add dev a ingress\ntc filter add dev a parent ffff: prio 1 protocol ip u32 \
    match ip dport 7 0xffff action skbmod set dmac 70:00:00:00:00:00 action mirred egress redirect dev b\n";
const TAKE_8: &str = "tc qdisc add dev a ingress\ntc filter add dev a parent ffff: prio 1 protocol ip u32 \
    match ip dport 8 0xffff action mirred egress redirect dev b\n";

const TAKE_7_AND_8: &str = "tc qdisc add dev a ingress\ntc filter add dev a parent ffff: prio 1 protocol ip u32 \
    match ip dport 7 0xffff action mirred egress redirect dev b\ntc filter add dev a parent ffff: prio 2 protocol ip u32 \
    match ip dport 8 0xffff action mirred egress redirect dev b\n";

#[test]
fn the_golden_frames_leave_the_worker_as_they_leave_the_kernel() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (case, input, output) in [
        ("seed_step4_as_shown", "eth0", "IMAGE_HOST_VETH"),
        ("seed_step4_literal", "eth0", "IMAGE_HOST_VETH"),
        ("seed_step6_as_shown", "IMAGE_HOST_VETH", "eth0"),
        ("skbmod", "eth0", "v0"),
    ] {
        let case = golden.join(case);
        let text = std::fs::read_to_string(case.join("rules.tc")).unwrap();
        // Lines that tc refuses are part of some cases; a worker only ever gets rules that were accepted.
        let log = std::fs::read_to_string(case.join("out/tc.log")).unwrap();
        let accepted: Vec<&str> =
            log.lines().filter(|l| l.contains("] rc=0 ")).map(|l| l.split_once("rc=0 ").unwrap().1).collect();
        assert!(!accepted.is_empty() && !text.is_empty());
        let mut bench = Bench::new(&(accepted.join("\n") + "\n"), &[input, output], OnPass::KernelHasIt);
        let mut reader = PcapReader::open(&case.join("in.pcap")).unwrap();
        let mut sent = Vec::new();
        while let Some((_, frame)) = reader.next().unwrap() {
            let frame = frame.to_vec();
            sent.extend(bench.one(input, &frame).into_iter().filter(|(device, _)| device == output).map(|(_, f)| f));
        }
        let mut kernel = PcapReader::open(&case.join(format!("out/{output}.pcap"))).unwrap();
        let mut expected = Vec::new();
        while let Some((_, frame)) = kernel.next().unwrap() {
            expected.push(frame.to_vec());
        }
        assert!(sent == expected, "{}: {} frames, the kernel sent {}", case.display(), sent.len(), expected.len());
    }
}

#[test]
fn what_no_rule_takes_is_the_kernels_or_has_no_stack_or_is_stranded() {
    for (on_pass, reason) in [
        (OnPass::KernelHasIt, None),
        (OnPass::NoStack, Some(DropReason::NoStack)),
        (OnPass::Stranded, Some(DropReason::Stranded)),
    ] {
        let mut bench = Bench::new(TAKE_7, &["a", "b"], on_pass);
        assert!(bench.one("a", &udp(9)).is_empty());
        let passed = bench.cells(0).passed.load(Ordering::Relaxed);
        match reason {
            None => assert_eq!(passed, 1),
            Some(reason) => assert_eq!((passed, bench.dropped(0, reason)), (0, 1)),
        }
    }
}

#[test]
fn a_frame_steered_by_the_old_rules_is_forwarded_by_them_until_they_are_forgotten() {
    let mut bench = Bench::new(TAKE_7, &["a", "b"], OnPass::Stranded);
    let old = std::mem::replace(&mut bench.rules.current, generation(2, TAKE_8, &["a", "b"], OnPass::Stranded));
    bench.rules.previous = Some(Arc::clone(&old));
    assert_eq!(bench.one("a", &udp(7)).len(), 1, "steered by the old rules");
    assert_eq!(bench.one("a", &udp(8)).len(), 1, "steered by the new rules");
    bench.rules.previous = None;
    assert!(bench.one("a", &udp(7)).is_empty());
    assert_eq!(bench.dropped(0, DropReason::Stranded), 1);
    let base = ruleset(TAKE_7).actions[0].counters;
    assert_eq!(old.cells.word(base + ActionWord::PACKETS), 1);
}

#[test]
fn behind_a_tap_a_frame_goes_by_the_rules_of_the_program_that_saw_it() {
    let mut bench = Bench::new(TAKE_7, &["a", "b"], OnPass::KernelHasIt);
    let new = generation(2, TAKE_7_AND_8, &["a", "b"], OnPass::KernelHasIt);
    let seam = Arc::clone(new.seams[0].as_ref().unwrap());
    bench.rules.previous = Some(std::mem::replace(&mut bench.rules.current, new));
    let sent = |bench: &mut Bench| {
        while bench.engine.step(&bench.rules) {}
        bench.balance();
        std::iter::from_fn(|| bench.mem("b").pop()).map(|frame| frame[37]).collect::<Vec<u8>>()
    };
    assert_eq!((bench.one("a", &udp(7)).len(), bench.one("a", &udp(8)).len()), (1, 0), "the old program is there");
    let early = real_ns();
    seam.begin();
    let between = real_ns();
    bench.mem("a").push_stamped(between, &udp(7));
    bench.mem("a").push_stamped(between, &udp(8));
    assert!(sent(&mut bench).is_empty(), "which program saw it will be known when the change has ended");
    seam.end();
    let late = real_ns() + 1;
    bench.mem("a").push_stamped(late, &udp(7));
    bench.mem("a").push_stamped(late, &udp(8));
    assert_eq!(sent(&mut bench), [7, 7, 8], "what only one of them takes may be the kernel's");
    let packets =
        |generation: &Generation| generation.cells.word(ruleset(TAKE_7).actions[0].counters + ActionWord::PACKETS);
    assert_eq!(packets(bench.rules.previous.as_ref().unwrap()), 1, "a trial counts nothing");
    bench.mem("a").push_stamped(early - 1_000_000, &udp(7));
    bench.mem("a").push_stamped(early - 1_000_000, &udp(8));
    assert_eq!(sent(&mut bench), [7], "it came before the change, and was in the ring meanwhile");
    bench.rules.previous = None;
    assert_eq!((bench.one("a", &udp(7)).len(), bench.one("a", &udp(8)).len()), (1, 1));
}

#[test]
fn mirrored_copies_leave_in_order_as_rewritten_so_far_and_the_frame_follows() {
    let text = "tc qdisc add dev a ingress\ntc filter add dev a parent ffff: prio 1 protocol all matchall \
        action mirred egress mirror dev b action skbmod set dmac 02:00:00:00:00:77 \
        action mirred egress mirror dev b action mirred egress redirect dev c\n";
    let mut bench = Bench::new(text, &["a", "b", "c"], OnPass::KernelHasIt);
    let out = bench.one("a", &udp(1));
    let names: Vec<&str> = out.iter().map(|(d, _)| d.as_str()).collect();
    assert_eq!(names, ["b", "b", "c"]);
    assert_eq!(out[0].1, udp(1));
    assert_eq!(out[1].1[..6], [2, 0, 0, 0, 0, 0x77]);
    assert_eq!(out[1].1, out[2].1);
}

#[test]
fn a_tag_without_room_for_it_drops_the_frame_and_is_counted() {
    let rules = "tc qdisc add dev a ingress\ntc filter add dev a parent ffff: prio 1 protocol ip matchall \
        action vlan push id 5 action mirred egress mirror dev b action mirred egress redirect dev b\n";
    let mut bench = Bench::new(rules, &["a", "b"], OnPass::NoStack);
    let room = bench.engine.ports.bank(0).pool.chunk_len();
    let mut frame = udp(7);
    for (len, copies) in [(frame.len(), 2), (room - 4, 2), (room, 0)] {
        frame.resize(len, 0);
        let out = bench.one("a", &frame);
        assert_eq!(out.len(), copies, "{len} bytes");
        let mut tagged = frame.clone();
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        assert!(out.iter().all(|(device, bytes)| device == "b" && *bytes == tagged), "{len} bytes");
    }
    assert_eq!(bench.dropped(0, DropReason::TooLong), 2, "the frame and its copy");
}

/// A TCP super-frame as a local stack leaves it to a device, with what it leaves, and the frames that it stands for.
fn super_frame() -> (Vec<u8>, Offload, Vec<Vec<u8>>) {
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [0x5c, 0xb9, 1, 0xc3, 0xd9, 0x38])
        .ipv4([198, 18, 0, 2], [198, 51, 100, 10], 64)
        .tcp(40000, 7, 1000, 500)
        .write(&mut frame, &[0x5a; 2500])
        .unwrap();
    let checksum = checksum::make_partial(&mut frame);
    let gso = Gso { kind: GsoKind::TcpV4, size: 1000, ecn: false };
    let mut segmenter = segments(&frame, gso).unwrap();
    let mut buffer = [0; 1100];
    let wire = std::iter::from_fn(|| segmenter.next_into(&mut buffer).map(|len| buffer[..len].to_vec())).collect();
    (frame, Offload { checksum, gso: Some(gso) }, wire)
}

#[test]
fn a_super_frame_leaves_as_its_segments_would_and_counts_as_they_do() {
    let (frame, offload, wire) = super_frame();
    for actions in [
        "skbmod set dmac 70:00:00:00:00:00",
        "vlan push id 5 pipe action vlan push id 6",
        "nat egress 198.18.0.0/24 203.0.113.0",
        "pedit ex munge ip ttl set 9 pipe action csum ip4h and tcp pipe action skbmod swap mac",
        "mirred egress mirror dev b action skbmod swap mac",
    ] {
        let rules = format!(
            "tc qdisc add dev a ingress\ntc filter add dev a parent ffff: prio 1 protocol ip matchall \
             action {actions} pipe action mirred egress redirect dev b\n"
        );
        let (mut whole, mut parts) =
            (Bench::new(&rules, &["a", "b"], OnPass::NoStack), Bench::new(&rules, &["a", "b"], OnPass::NoStack));
        whole.mem("a").push_offloaded(&frame, offload);
        assert!(whole.engine.step(&whole.rules));
        let mut got = Vec::new();
        while let Some(frame) = whole.mem("b").pop() {
            got.push(frame);
        }
        whole.balance();
        let mut expected: Vec<Vec<u8>> = wire.iter().flat_map(|f| parts.one("a", f)).map(|(_, f)| f).collect();
        if actions.contains("mirror") {
            // All of the copy goes first.
            expected = [0, 2, 4, 1, 3, 5].map(|n| expected[n].clone()).to_vec();
        }
        assert_eq!(got, expected, "{actions}");
        let base = ruleset(&rules).actions[0].counters;
        let word = |bench: &Bench, word| bench.rules.current.cells.word(base + word);
        assert_eq!(word(&whole, ActionWord::PACKETS), 3, "{actions}");
        assert_eq!(word(&whole, ActionWord::BYTES), frame.len() as u64 - 14, "{actions}");
    }
}

#[test]
fn a_policer_compares_its_mtu_with_a_segment_and_a_partial_checksum_goes_on() {
    let (frame, offload, wire) = super_frame();
    let rules = "tc qdisc add dev a ingress\ntc filter add dev a parent ffff: prio 1 protocol ip matchall \
        action police rate 1gbit burst 100k mtu 1054 conform-exceed drop/pipe action mirred egress redirect dev b\n";
    let mut bench = Bench::new(rules, &["a", "b"], OnPass::NoStack);
    for (offload, frames) in [(offload, 3), (Offload { gso: None, ..offload }, 0)] {
        bench.mem("a").push_offloaded(&frame, offload);
        assert!(bench.engine.step(&bench.rules));
        let mut got = Vec::new();
        while let Some(frame) = bench.mem("b").pop() {
            got.push(frame);
        }
        assert_eq!(got.len(), frames);
        assert!(got.is_empty() || got == wire);
    }
    let mut short = wire[2].clone();
    let checksum = checksum::make_partial(&mut short);
    bench.mem("a").push_offloaded(&short, Offload { checksum, gso: None });
    assert!(bench.engine.step(&bench.rules));
    assert_eq!(bench.mem("b").pop().as_ref(), Some(&wire[2]), "completed where it leaves");
    bench.balance();
}

#[test]
fn a_policer_lets_by_what_it_holds_and_more_when_time_has_passed() {
    let rules = "tc qdisc add dev a ingress\ntc filter add dev a parent ffff: prio 1 protocol ip matchall \
        action police pkts_rate 10 pkts_burst 3 conform-exceed drop/pipe action mirred egress redirect dev b\n";
    let mut bench = Bench::new(rules, &["a", "b"], OnPass::NoStack);
    let passed = |bench: &mut Bench| (0..5).filter(|_| !bench.one("a", &udp(7)).is_empty()).count();
    assert_eq!(passed(&mut bench), 3);
    bench.engine.now_ns += 200_000_000;
    assert_eq!(passed(&mut bench), 2, "two tenths of a second are two packets");
    // New rules with the same action: what it holds stays.
    bench.engine.now_ns += 100_000_000;
    let tokens = bench.rules.current.tokens.clone();
    let mut newer = Arc::into_inner(generation(2, rules, &["a", "b"], OnPass::NoStack)).unwrap();
    newer.tokens = AllTokens::new(newer.plan.policers(), &tokens);
    bench.rules.current = Arc::new(newer);
    assert_eq!(passed(&mut bench), 1);
    let action = bench.rules.current.plan.policers()[0];
    let word = |word| bench.rules.current.cells.word(action + word);
    assert_eq!([word(ActionWord::PACKETS), word(ActionWord::DROPS), word(ActionWord::OVERLIMITS)], [5, 4, 4]);
    assert_eq!(bench.dropped(0, DropReason::Rule), 2 + 3 + 4);
}

#[test]
fn a_redirect_to_a_device_that_is_down_is_counted_and_nothing_leaves() {
    let mut bench = Bench::new(TAKE_7, &["a", "b"], OnPass::KernelHasIt);
    let at = ruleset(TAKE_7).device(&DeviceKey::local("b")).unwrap();
    bench.rules.current.up[at.index()].store(false, Ordering::Relaxed);
    assert!(bench.one("a", &udp(7)).is_empty());
    assert_eq!(bench.dropped(0, DropReason::TargetDown), 1);
}

#[test]
fn a_frame_for_a_port_of_another_worker_crosses_over() {
    let mut bench = Bench::new(TAKE_7, &["a", "b"], OnPass::KernelHasIt);
    let current = Arc::get_mut(&mut bench.rules.current).unwrap();
    current.egress.iter_mut().for_each(|e| *e = Egress::Crossing { worker: 0, port: 1 });
    bench.mem("a").push(&udp(7));
    assert!(bench.engine.step(&bench.rules), "it goes to the letter box, which is this worker's own here");
    assert!(bench.engine.step(&bench.rules));
    assert_eq!(bench.mem("b").pop().map(|f| f.len()), Some(udp(7).len()));
    bench.balance();
}

#[test]
fn a_frame_is_copied_into_the_memory_of_a_port_that_can_send_from_no_other() {
    let mut bench = Bench::new(TAKE_7, &["a", "b"], OnPass::NoStack);
    let other = FramePool::new(PoolConfig { chunk_count: 1, chunk_len: 2048, umem: false }).unwrap();
    bench.engine.ports.put_bank(1, Box::new(Bank::new(other, 2)));
    let slot = bench.engine.ports.take_slot(1).unwrap();
    bench.engine.ports.put_slot(1, Slot { bank: 1, ..slot });
    let mut expected = udp(7);
    expected[..6].copy_from_slice(&[0x70, 0, 0, 0, 0, 0]);
    assert_eq!(bench.one("a", &udp(7)), [("b".to_owned(), expected)]);
    // Without room there the frame is refused, and counted by the port.
    let held = bench.engine.ports.bank(1).pool.alloc().unwrap();
    bench.mem("a").push(&udp(7));
    assert!(bench.engine.step(&bench.rules));
    let (slot, _) = bench.engine.ports.with_pool(1).unwrap();
    assert_eq!(slot.port.stats().dropped(DropReason::NoBuffer), 1);
    assert_eq!(bench.cells(0).refused.load(Ordering::Relaxed), 1);
    bench.engine.ports.bank(1).pool.free(held);
    // A super-frame is cut on its way there, since it is copied anyway.
    let more = FramePool::new(PoolConfig { chunk_count: 4, chunk_len: 2048, umem: false }).unwrap();
    bench.engine.ports.put_bank(1, Box::new(Bank::new(more, 2)));
    let (frame, offload, wire) = super_frame();
    bench.mem("a").push_offloaded(&frame, offload);
    assert!(bench.engine.step(&bench.rules));
    for mut expected in wire {
        expected[..6].copy_from_slice(&[0x70, 0, 0, 0, 0, 0]);
        assert_eq!(bench.mem("b").pop(), Some(expected));
    }
    bench.balance();
}

#[test]
fn a_port_that_goes_handles_what_waits_for_it_first_and_later_frames_are_counted() {
    let mut bench = Bench::new(TAKE_7, &["a", "b"], OnPass::NoStack);
    bench.engine.crossings[0].send(1, &udp(9), Since::NOBODY).unwrap();
    let (done, gone) = crossbeam::channel::bounded(1);
    bench.engine.act_on(Letter::Remove { slot: 1, deadline: std::time::Instant::now(), done });
    let counted = Arc::clone(&bench.engine.ports.slot(1).unwrap().cells);
    bench.engine.let_leave();
    let (port, parted) = gone.try_recv().unwrap();
    let Port::Mem(mut mem) = port else { panic!("all ports of a bench are in memory") };
    assert_eq!(mem.pop(), Some(udp(9)), "it waited in the box");
    drop(parted);
    assert_eq!((counted.crossed_in.load(Ordering::Relaxed), counted.handed.load(Ordering::Relaxed)), (1, 1));
    bench.mem("a").push(&udp(7));
    assert!(bench.engine.step(&bench.rules), "rules that still send by it lose the frame");
    assert_eq!(bench.dropped(0, DropReason::TargetDown), 1);
    assert_eq!(bench.engine.ports.outstanding(), 0);
}

#[test]
fn a_port_without_a_lane_keeps_its_frames_until_rules_know_it() {
    let mut bench = Bench::new(TAKE_7, &["a", "b"], OnPass::KernelHasIt);
    let lanes = std::mem::take(&mut Arc::get_mut(&mut bench.rules.current).unwrap().lanes);
    bench.mem("a").push(&udp(7));
    assert!(!bench.engine.step(&bench.rules));
    Arc::get_mut(&mut bench.rules.current).unwrap().lanes = lanes;
    assert!(bench.engine.step(&bench.rules));
    assert!(bench.mem("b").pop().is_some());
}

/// Workers and ports come and go; a number is used again, and nothing is owned by nobody.
#[test]
fn running_workers_are_given_ports_and_give_them_back() {
    let plan = Arc::new(Plan::compile(&Ruleset::default()).unwrap());
    let mut pool = Pool::new(Idle::Adaptive);
    pool.grow(&[0], 1500, &plan).unwrap();
    let memory = || FramePool::new(PoolConfig { chunk_count: 8, chunk_len: 2048, umem: false }).unwrap();
    let first = pool.add(0, memory(), vec![Port::Mem(Mem::new()), Port::Mem(Mem::new())]).unwrap();
    pool.grow(&[0, 0], 9000, &plan).unwrap();
    assert_eq!(pool.workers.len(), 2);
    let second = pool.add(1, memory(), vec![Port::Mem(Mem::new())]).unwrap();
    assert_eq!(first.iter().chain(&second).map(|p| (p.worker, p.slot)).collect::<Vec<_>>(), [(0, 0), (0, 1), (1, 0)]);
    pool.remove(&first[..1]).unwrap();
    let third = pool.add(0, memory(), vec![Port::Mem(Mem::new()), Port::Mem(Mem::new())]).unwrap();
    assert_eq!(third.iter().map(|p| p.slot).collect::<Vec<_>>(), [0, 2]);
    pool.remove(&[first[1].clone(), third[0].clone(), third[1].clone()]).unwrap();
    let (ended, outstanding) = pool.stop();
    assert_eq!(ended.iter().map(|(_, e)| e.map(|e| e.outstanding)).collect::<Vec<_>>(), [Some(0), Some(0)]);
    assert_eq!(outstanding, 0);
}
