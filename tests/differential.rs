//! Random u32 rule sets, with hash tables, on a veth of this machine's own kernel and in `eval`: the same frames must come out, and
//! tc's listing must be ours.
//!
//! `VISCUM_RULE_SETS` says how many (100 unless given), `VISCUM_SEED` which ones.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use pnet::datalink::{self, Channel, Config, DataLinkReceiver, DataLinkSender};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use viscum::host::netns::in_namespace;
use viscum::rules::eval::{Event, Network};
use viscum::rules::{Counters, Ruleset};
use viscum::tc::command::Parent;
use viscum::tc::{AnyDevice, Clock, ListOptions, Selection, Store, parse_script};
use viscum::types::{Device, DeviceKey, Topology};

use crate::support::testbed::{Namespaces, sh, turn};

const NETNS: &str = "viscum-test-d";
const FRAMES: usize = 40;
/// With `reclassify` each becomes 17 copies, and a receiver's socket holds some 250 frames.
const FRAMES_AT_ONCE: usize = 4;
/// Ethernet type of the frame that ends a round; no rule but the first sees it.
const MARKER: u16 = 0x88b5;

struct Rig {
    send: Box<dyn DataLinkSender>,
    /// What each device sends comes out here.
    outs: Vec<(DeviceKey, Box<dyn DataLinkReceiver>)>,
}

impl Rig {
    /// Rules are on `in0`; frames come by its peer. What `o0`, `o1` and `o2` send is seen at their peers.
    fn new() -> Self {
        let mut pairs = vec![("in0".to_owned(), "in1".to_owned())];
        pairs.extend((0..3).map(|n| (format!("o{n}"), format!("p{n}"))));
        for (device, peer) in &pairs {
            sh(NETNS, &format!("ip link add {device} type veth peer name {peer}"));
            sh(NETNS, &format!("ip link set {device} up"));
            sh(NETNS, &format!("ip link set {peer} up"));
        }
        let config = Config { read_timeout: Some(Duration::from_secs(5)), ..Config::default() };
        let open = |name: &str| {
            let device = datalink::interfaces().into_iter().find(|i| i.name == name).unwrap();
            match datalink::channel(&device, config).unwrap() {
                Channel::Ethernet(tx, rx) => (tx, rx),
                _ => panic!("{name} is no Ethernet device"),
            }
        };
        let (send, _) = open("in1");
        let outs = (0..3).map(|n| (key(&format!("o{n}")), open(&format!("p{n}")).1)).collect();
        Self { send, outs }
    }

    /// What came out of each device between the frames' start and the marker behind them.
    fn pass(&mut self, frames: &[Vec<u8>], number: u32) -> BTreeMap<DeviceKey, Vec<Vec<u8>>> {
        let mut marker = vec![0xff; 12];
        marker.extend(MARKER.to_be_bytes());
        marker.extend(number.to_be_bytes());
        marker.resize(60, 0);
        for frame in frames.iter().chain([&marker]) {
            self.send.send_to(frame, None).unwrap().unwrap();
        }
        let mut came = BTreeMap::new();
        for (device, receive) in &mut self.outs {
            let list: &mut Vec<Vec<u8>> = came.entry(device.clone()).or_default();
            loop {
                let frame = receive.next().unwrap_or_else(|e| {
                    let rules = sh(NETNS, "tc -s filter show dev in0 parent ffff:");
                    panic!("{device}: the marker did not come after {} frames: {e}\n{rules}", list.len())
                });
                if frame == marker {
                    break;
                }
                list.push(frame.to_vec());
            }
        }
        came
    }
}

fn key(name: &str) -> DeviceKey {
    DeviceKey::new(None, name)
}

/// An IPv4, IPv6 or other frame, often with options, seldom cut.
fn frame(rng: &mut SmallRng) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..12).map(|_| rng.r#gen()).collect();
    frame[0] &= 0xfe;
    let kind = rng.gen_range(0..10);
    let protocol = *[6u8, 17, 17, 1].choose(rng).unwrap();
    let ports = |rng: &mut SmallRng| [rng.gen_range(8..16u16), rng.gen_range(8..16u16)];
    if kind < 7 {
        let words = *[5usize, 5, 5, 6, 7, 15].choose(rng).unwrap();
        frame.extend([0x08, 0x00, 0x40 | words as u8, 0, 0, 60, 0, 1]);
        frame.extend([*[0, 0, 0x20, 0x40].choose(rng).unwrap(), 0, 64, protocol, 0, 0]);
        frame.extend([10, 1, rng.gen_range(0..4), rng.gen_range(0..8), 10, 2, 0, rng.gen_range(0..8)]);
        frame.extend((20..words * 4).map(|_| rng.gen_range(0..4u8)));
    } else if kind < 9 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 40, protocol, 64]);
        frame.extend((0..32).map(|_| rng.gen_range(0..3u8)));
    } else {
        frame.extend(rng.gen_range(0x600..0xffff_u16).to_be_bytes());
    }
    ports(rng).iter().for_each(|p| frame.extend(p.to_be_bytes()));
    frame.extend((0..rng.gen_range(4..40)).map(|_| rng.gen_range(0..4u8)));
    if rng.gen_bool(0.1) {
        frame.truncate(rng.gen_range(15..frame.len()));
    }
    // Neither a tag nor the marker: how those travel beside a frame is not what is tested here.
    if matches!(u16::from_be_bytes([frame[12], frame[13]]), 0x8100 | 0x88a8 | MARKER) {
        frame[12] = 0x12;
    }
    frame
}

/// What the kernels that have u32 and mirred only can do when a node matches.
fn outcome(rng: &mut SmallRng) -> String {
    let device = rng.gen_range(0..3);
    match rng.gen_range(0..10) {
        0..=3 => format!("action mirred egress redirect dev o{device}"),
        4..=5 => format!("action mirred egress mirror dev o{device} continue"),
        6 => format!(
            "action mirred egress mirror dev o{device} pipe action mirred egress redirect dev o{}",
            (device + 1) % 3
        ),
        7 => format!("action mirred egress mirror dev o{device} reclassify"),
        8 => "flowid 1:1".to_owned(),
        _ => String::new(),
    }
}

fn key_words(rng: &mut SmallRng, frames: &[Vec<u8>]) -> String {
    let frame = frames.choose(rng).unwrap();
    let base = if rng.gen_bool(0.3) { "nexthdr+" } else { "" };
    let offset = *[0, 4, 8, 8, 12, 12, 16, 16, 20, 24, 40, -4, -8, -12, 100].choose(rng).unwrap();
    let mask = *[u32::MAX, 0xff, 0xffff, 0xffff_0000, 0x00ff_0000, 0xff00, 7, 0].choose(rng).unwrap();
    let at = usize::try_from(offset + 14).unwrap();
    let word = frame.get(at..at + 4).map_or(0, |w| u32::from_be_bytes(w.try_into().unwrap()));
    match rng.gen_range(0..8) {
        0 => format!("match ip protocol {} 0xff", [6, 17].choose(rng).unwrap()),
        1 => format!("match udp dst {} 0xffff", rng.gen_range(8..16)),
        2 => format!("match tcp src {} 0xfffe", rng.gen_range(8..16)),
        3 => format!("match ip src 10.1.{}.0/24", rng.gen_range(0..4)),
        4 => format!("match u8 {} 0xff at {}", rng.gen_range(0..4), offset.max(0) + rng.gen_range(0..4)),
        _ => format!("match u32 {word:#x} {mask:#x} at {base}{offset}"),
    }
}

fn link_words(rng: &mut SmallRng, tables: u32) -> String {
    let mut words = format!("link {:x}: ", rng.gen_range(1..=tables));
    if rng.gen_bool(0.5) {
        words += [
            "offset at 0 mask 0f00 shift 6 plus 0 ",
            "offset at 0 mask 0f00 shift 6 plus 0 eat ",
            "offset plus 40 ",
            "offset plus 8 eat ",
            "offset at 2 mask ffff shift 0 eat ",
            "offset eat ",
        ]
        .choose(rng)
        .unwrap();
    }
    if rng.gen_bool(0.6) {
        let mask = ["0x000000ff", "0x0000ff00", "7", "0x00ff0000"].choose(rng).unwrap();
        words += &format!("hashkey mask {mask} at {} ", [0, 8, 12, 16, 20, 200].choose(rng).unwrap());
    }
    words
}

/// A script as people write them, only wilder. Some of it is refused, by both.
fn script(rng: &mut SmallRng, frames: &[Vec<u8>]) -> Vec<String> {
    let head = "filter add dev in0 parent ffff:";
    let mut lines = vec![
        "qdisc add dev in0 ingress".to_owned(),
        format!(
            "{head} prio 1 protocol {MARKER:#x} u32 match u32 0 0 action mirred egress mirror dev o0 action mirred egress mirror \
             dev o1 action mirred egress redirect dev o2"
        ),
    ];
    let tables = rng.gen_range(0..5u32);
    let divisors: Vec<u32> = (0..tables).map(|_| *[1, 1, 2, 4, 8, 256].choose(rng).unwrap()).collect();
    for (table, divisor) in (1..).zip(&divisors) {
        lines.push(format!("{head} prio {} protocol all handle {table:x}: u32 divisor {divisor}", rng.gen_range(2..5)));
    }
    // The protocol of a prio is that of its first filter.
    for _ in 0..rng.gen_range(3..25) {
        let mut line = format!("{head} prio {} protocol all ", rng.gen_range(2..5));
        if rng.gen_bool(0.1) {
            line += &format!("handle ::{:x} ", rng.gen_range(1..6));
        }
        line += "u32 ";
        if tables > 0 && rng.gen_bool(0.6) {
            let table = rng.gen_range(0..tables as usize);
            let bucket = rng.gen_range(0..divisors[table].min(9));
            line += &if rng.gen_bool(0.2) {
                format!("ht {:x}: sample ip src 10.1.2.{bucket} divisor {} ", table + 1, divisors[table])
            } else {
                format!("ht {:x}:{bucket:x}: ", table + 1)
            };
        }
        for _ in 0..rng.gen_range(1..4) {
            line += &key_words(rng, frames);
            line.push(' ');
        }
        if tables > 0 && rng.gen_bool(0.5) {
            line += &link_words(rng, tables);
        }
        lines.push(line + &outcome(rng));
    }
    for _ in 0..rng.gen_range(0..3) {
        let node = rng.gen_range(0x800..0x804);
        let table = [0x801, 0x802, 1, 2].choose(rng).unwrap();
        let prio = rng.gen_range(2..5);
        lines.push(format!("filter del dev in0 parent ffff: prio {prio} protocol all handle {table:x}::{node:x} u32"));
    }
    lines
}

/// Feeds a batch to the real tc; how many lines it refused.
fn load_in_kernel(lines: &[String]) -> usize {
    let mut child = Command::new("tc")
        .args(["-force", "-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stderr).matches("Command failed").count()
}

fn load_here(lines: &[String]) -> (Store, usize) {
    let mut store = Store::new();
    let text: String = lines.iter().map(|l| format!("tc {l}\n")).collect();
    let script = parse_script(&text, "random.tc", &BTreeMap::new());
    let refused = script.lines.iter().filter(|line| store.apply_line(line, &AnyDevice).is_err()).count();
    (store, refused)
}

/// A listing without what the kernel gives out later than it takes back: indices of actions.
fn comparable(listing: &str) -> String {
    listing.lines().filter(|l| !l.trim_start().starts_with("index ")).map(|l| format!("{l}\n")).collect()
}

fn evaluate(ruleset: &Ruleset, frames: &[Vec<u8>]) -> BTreeMap<DeviceKey, Vec<Vec<u8>>> {
    let topology = Topology { devices: ruleset.devices.iter().cloned().map(Device::assumed).collect() };
    let mut counters = Counters::new(ruleset.counter_words);
    let mut came: BTreeMap<DeviceKey, Vec<Vec<u8>>> = (0..3).map(|n| (key(&format!("o{n}")), Vec::new())).collect();
    let network = Network { ruleset, topology: &topology };
    let device = topology.find(&key("in0")).unwrap();
    for frame in frames {
        for event in network.receive(device, frame, &mut counters, &mut |_| 0) {
            if let Event::Transmit { device, frame } = event {
                came.get_mut(&ruleset.devices[device.index()]).unwrap().push(frame);
            }
        }
    }
    came
}

fn one(rig: &mut Rig, round: u32, rng: &mut SmallRng) -> (usize, usize) {
    let frames: Vec<Vec<u8>> = (0..FRAMES).map(|_| frame(rng)).collect();
    let lines = script(rng, &frames);
    let refused = load_in_kernel(&lines);
    let (store, refused_here) = load_here(&lines);
    let listing = Command::new("tc").args("filter show dev in0 parent ffff:".split(' ')).output().unwrap().stdout;
    let selection =
        Selection { device: Some("in0".to_owned()), parent: Some(Parent::INGRESS_QDISC), ..Selection::default() };
    let ours = store.list_filters(&selection, &ListOptions::default(), &Counters::default(), &Clock { now_ms: 1 });
    let said = || format!("rule set {round}:\n{}\n", lines.join("\n"));
    assert_eq!(refused, refused_here, "refused lines of {}", said());
    assert_eq!(comparable(&String::from_utf8_lossy(&listing)), comparable(&ours), "listing of {}", said());
    let mut kernel: BTreeMap<DeviceKey, Vec<Vec<u8>>> = BTreeMap::new();
    for (few, chunk) in (0..).zip(frames.chunks(FRAMES_AT_ONCE)) {
        for (device, mut came) in rig.pass(chunk, round << 8 | few) {
            kernel.entry(device).or_default().append(&mut came);
        }
    }
    let here = evaluate(&store.ruleset(), &frames);
    for (device, want) in &kernel {
        let have = &here[device];
        assert_eq!(want.len(), have.len(), "frames out of {device}, kernel and here, of {}", said());
        assert!(want == have, "other frames come out of {device} with {}", said());
    }
    load_in_kernel(&["qdisc del dev in0 ingress".to_owned()]);
    (lines.len() - refused, kernel.values().map(Vec::len).sum())
}

#[test]
fn random_u32_rules_do_what_this_kernel_does() {
    let Some(_turn) = turn() else { return };
    let _made = Namespaces::new(&[NETNS]);
    let number = |name: &str, default| std::env::var(name).ok().map_or(default, |v| v.parse().unwrap());
    let (count, seed) = (number("VISCUM_RULE_SETS", 100) as u32, number("VISCUM_SEED", 20_260));
    in_namespace(Some(NETNS), || {
        // On one CPU what is sent comes in order, whichever device it leaves by.
        let cpu = core_affinity::get_core_ids().unwrap()[0];
        assert!(core_affinity::set_for_current(cpu));
        let mut rig = Rig::new();
        let (mut rules, mut frames) = (0, 0);
        for round in 0..count {
            let (loaded, came) = one(&mut rig, round, &mut SmallRng::seed_from_u64(seed + u64::from(round)));
            rules += loaded;
            frames += came;
        }
        println!("{count} rule sets from seed {seed}, {rules} lines in force, {frames} frames came out of both alike");
        assert!(frames > count as usize * 10, "too few frames came out to tell: {frames}");
    })
    .unwrap();
}
