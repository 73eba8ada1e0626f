//! Rules and frames: the plan and the interpreter agree; the compiler to eBPF answers. No device is opened and nothing is loaded.

use std::collections::BTreeMap;
use std::time::Duration;

use viscum::app::replay::{Engine, Form};
use viscum::ebpf::{Target, steer, takes};
use viscum::tc::{AnyDevice, Store, parse_script};
use viscum::types::{DeviceId, Offload, PacketMeta, PacketType, Topology};
use viscum::wire::{Headers, headers::Transport};

use super::choices::Choices;
use super::grammar;

const RULES_MAX: usize = 6;
const FRAMES_MAX: usize = 8;
/// Mirrors make copies that are classified again, up to four deep: more of them only take longer.
const MIRRORS_MAX: usize = 1;

/// The state that some of the bytes choose.
fn store(choices: &mut Choices<'_>) -> Store {
    let mut text = "tc qdisc add dev eth0 clsact\ntc qdisc add dev v0 clsact\n".to_owned();
    let mut mirrors = 0;
    for _ in 0..=choices.below(RULES_MAX) {
        let words = grammar::rule(choices);
        mirrors += words.iter().filter(|w| *w == "mirror").count();
        // With `reclassify` and `jump` a mirror makes 17 or 32 copies at each of four levels, here as in the kernel.
        let repeats = words.iter().any(|w| matches!(w.as_str(), "reclassify" | "jump"));
        let copies = mirrors > 0;
        if mirrors <= MIRRORS_MAX && !(copies && repeats) && !(copies && text.contains("reclassify")) {
            text.push_str(&format!("tc {}\n", words.join(" ")));
        }
    }
    if std::env::var_os("VISCUM_FUZZ_SAY").is_some() {
        println!("{text}");
    }
    let mut store = Store::new();
    for line in &parse_script(&text, "fuzz.tc", &BTreeMap::new()).lines {
        let _refused = store.apply_line(line, &AnyDevice);
    }
    store
}

/// Any bytes, often behind headers of the domain.
fn frame(c: &mut Choices<'_>) -> Vec<u8> {
    const MAC: [u8; 12] = [0x5c, 0xb9, 1, 0xc3, 0xd9, 0x38, 0xe4, 0xd3, 0xf1, 0xb1, 0xb4, 0x83];
    let mut frame = Vec::new();
    let shape = c.byte();
    if shape & 1 == 0 {
        frame.extend(MAC);
        for _ in 0..shape >> 1 & 3 {
            frame.extend(c.pick(&[[0x81, 0], [0x88, 0xa8], [0x91, 0]]));
            frame.extend([c.byte(), c.byte()]);
        }
        match shape >> 3 & 3 {
            0 | 1 => {
                frame.extend([8, 0, c.pick(&[0x45, 0x46, 0x4f, 0x40, 0x65]), 0, 0, c.pick(&[40, 28, 60, 0])]);
                frame.extend([
                    0,
                    1,
                    c.pick(&[0, 0x40, 0x20, 0x1f]),
                    c.pick(&[0, 1]),
                    64,
                    c.pick(&[6, 17, 1, 2, 132, 136]),
                    0,
                    0,
                ]);
                frame.extend([198, 18, 0, 1, 203, 0, 113, 7]);
            }
            2 => {
                frame.extend([
                    0x86,
                    0xdd,
                    0x60,
                    0,
                    0,
                    0,
                    0,
                    c.pick(&[20, 0, 40]),
                    c.pick(&[6, 17, 58, 0, 43, 44, 51, 60]),
                    64,
                ]);
                frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1].repeat(2));
            }
            _ => frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]),
        }
    }
    let len = c.below(96);
    frame.extend(c.take(len));
    frame
}

pub fn frames(data: &[u8]) {
    let mut choices = Choices(data);
    let store = store(&mut choices);
    let topology = Topology::default();
    let Ok(mut fast) = Engine::new(&store, &topology, Form::Plan) else { return };
    let mut slow = Engine::new(&store, &topology, Form::Eval).expect("what the plan takes, the interpreter takes");
    let Some(device) = fast.device("eth0") else { return };
    for number in 1..=FRAMES_MAX as u64 {
        if choices.is_empty() {
            break;
        }
        let frame = frame(&mut choices);
        headers(&frame);
        let since = Duration::from_millis(number * 7);
        let (plan, eval) = (fast.receive(device, &frame, since), slow.receive(device, &frame, since));
        assert_eq!(plan, eval, "events of plan (left) and eval (right) for {frame:02x?}");
        // The clocks of both are set by `since`, so all words must be equal.
        assert_eq!(fast.counters, slow.counters, "counters of plan (left) and eval (right) for {frame:02x?}");
    }
}

/// The views of headers, wherever the network header is said to be.
fn headers(frame: &[u8]) {
    for protocol in [0x0800, 0x86dd, 0x8100, 0x0806] {
        for network in [14u16, 18, 22].into_iter().filter(|n| usize::from(*n) <= frame.len()) {
            let meta = PacketMeta {
                tag: None,
                protocol,
                network,
                ptype: PacketType::Host,
                mark: 0,
                priority: 0,
                queue_mapping: 0,
                offload: Offload::NONE,
            };
            let _any = Headers::parse(frame, &meta);
        }
    }
    let _any = Transport::find(frame);
}

pub fn ebpf(data: &[u8]) {
    let store = store(&mut Choices(data));
    let ruleset = store.ruleset();
    for device in 0..ruleset.devices.len() as u32 {
        let device = DeviceId(device);
        let taken = takes(&ruleset, device);
        for target in [Target::Xdp, Target::DropBehind] {
            match steer(&ruleset, device, target) {
                Ok(object) => assert!(!object.text.insns.is_empty() && object.counter_blocks() > 0),
                Err(refusal) => assert!(!refusal.to_string().is_empty() || taken),
            }
        }
    }
}
