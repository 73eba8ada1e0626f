//! Random rulesets over a small network: every classifier, action and control, with keys taken from frames so that they match.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use super::flower;
use super::frames::{ADDRESSES, MACS, pick};
use crate::rules::police::{Limit, Police, Rate};
use crate::rules::{
    Action, ActionId, ActionInstance, ActionWord, BasicRule, Chain, Classifier, Control, Csum, Filter, FlowerRule,
    FwFilter, FwRule, Gact, Hook, MatchallRule, Mirred, MirredMode, Nat, NodeWord, Pedit, Random, RandomKind, Ruleset,
    Simple, Skbedit, Skbmod, U32Base, U32Descent, U32Key, U32Link, U32Mark, U32Node, U32Table, U32VariableOffset, Vlan,
    ematch_random,
};
use crate::types::{
    Checksums, Device, DeviceId, DeviceKey, DeviceKind, Direction, MacAddr, NatRule, PacketType, PeditHeader, PeditKey,
    Protocol, Topology, VlanOp, ethertype,
};

/// Copies that one frame may cause at one level of mirred, roughly; deeper levels are the power of it.
const FANOUT_MAX: usize = 8;

/// A NIC, a veth pair across namespaces, another NIC, one that is down, and `lo`; in every tenth network more is down or small.
pub fn topology(rng: &mut SmallRng) -> Topology {
    let odd = rng.gen_bool(0.1);
    let veth = |peer| DeviceKind::Veth { peer: Some(DeviceId(peer)) };
    let devices = [
        (None, "eth0", DeviceKind::Wire),
        (None, "veth-h", veth(2)),
        (Some("ns"), "veth-c", veth(1)),
        (None, "eth1", DeviceKind::Wire),
        (None, "down0", DeviceKind::Wire),
        (None, "lo", DeviceKind::Loopback),
    ];
    let device = |(index, (netns, name, kind)): (usize, (Option<&str>, &str, DeviceKind))| Device {
        key: DeviceKey::new(netns, name),
        mac: MacAddr::from(MACS[index % 4]),
        mtu: if odd || rng.gen_bool(0.05) { pick(rng, &[40, 60, 1500]) } else { 1500 },
        up: name != "down0" && !(odd && rng.gen_bool(0.3)),
        kind,
    };
    Topology { devices: devices.into_iter().enumerate().map(device).collect() }
}

pub fn ruleset(rng: &mut SmallRng, topology: &Topology, samples: &[Vec<u8>]) -> Ruleset {
    let tables = pick(rng, &[0, 0, 1, 3]);
    let mut make = Maker { rng, samples, devices: topology.devices.len() as u32, tables, words: 0, restarts: false };
    let actions: Vec<ActionInstance> = (0..make.rng.gen_range(3..14)).map(|n| make.instance(n + 1)).collect();
    let mut places: Vec<(u32, Direction)> = vec![(0, Direction::Ingress)];
    for device in 0..make.devices {
        for direction in [Direction::Ingress, Direction::Egress] {
            if make.rng.gen_bool(0.3) && (device, direction) != places[0] {
                places.push((device, direction));
            }
        }
    }
    let hooks: Vec<Hook> =
        places.into_iter().map(|(device, direction)| make.hook(device, direction, &actions)).collect();
    let u32_tables = (0..tables).map(|n| make.u32_table(n + 1, &actions)).collect();
    let (counter_words, restarts) = (make.words, make.restarts);
    let devices = topology.devices.iter().map(|d| d.key.clone()).collect();
    let mut ruleset = Ruleset { devices, hooks, u32_tables, actions, counter_words };
    calm(&mut ruleset, restarts);
    ruleset
}

/// Turns mirrors into redirects where copies of copies would take minutes.
fn calm(ruleset: &mut Ruleset, restarts: bool) {
    let is_mirror = |a: &ActionInstance| matches!(&a.action, Action::Mirred(m) if m.mode == MirredMode::Mirror);
    let fanout = |ruleset: &Ruleset| -> usize {
        let mut copies = 0;
        let mut list = |ids: &[ActionId]| {
            let mirrors = ids.iter().filter(|id| is_mirror(ruleset.action(**id))).count();
            let jumps = ids.iter().any(|id| has_jump(&ruleset.action(*id).action));
            copies += mirrors * if jumps { 32 } else { 1 };
        };
        // Several links lead to a table, from one to the next up to eight deep.
        for node in ruleset.u32_tables.iter().flat_map(|t| &t.buckets).flatten() {
            (0..32).for_each(|_| list(&node.actions));
        }
        for (_, _, filter) in ruleset.filters() {
            match &filter.classifier {
                Classifier::U32(nodes) => nodes.iter().for_each(|n| list(&n.actions)),
                Classifier::Flower(rules) => rules.iter().for_each(|r| list(&r.actions)),
                Classifier::Matchall(rule) => rule.iter().for_each(|r| list(&r.actions)),
                Classifier::Fw(fw) => fw.rules().iter().for_each(|r| list(&r.actions)),
                Classifier::Basic(rules) => rules.iter().for_each(|r| list(&r.actions)),
            }
        }
        copies * if restarts { 8 } else { 1 }
    };
    while fanout(ruleset) > FANOUT_MAX {
        let mirror = ruleset.actions.iter().position(is_mirror).unwrap();
        if let Action::Mirred(mirred) = &mut ruleset.actions[mirror].action {
            mirred.mode = MirredMode::Redirect;
        }
    }
}

fn has_jump(action: &Action) -> bool {
    let random = match action {
        Action::Gact(gact) => gact.random.as_ref().map(|r| r.control),
        Action::Mirred(_)
        | Action::Skbedit(_)
        | Action::Skbmod(_)
        | Action::Csum(_)
        | Action::Pedit(_)
        | Action::Vlan(_)
        | Action::Nat(_)
        | Action::Simple(_)
        | Action::Police(_) => None,
    };
    [Some(action.control()), random].into_iter().flatten().any(|c| matches!(c, Control::Jump(_)))
}

struct Maker<'a> {
    rng: &'a mut SmallRng,
    samples: &'a [Vec<u8>],
    devices: u32,
    /// How many u32 tables there are to link to.
    tables: u32,
    words: u32,
    restarts: bool,
}

impl Maker<'_> {
    fn words(&mut self, count: u32) -> u32 {
        self.words += count;
        self.words - count
    }

    fn chance(&mut self, p: f64) -> bool {
        self.rng.gen_bool(p)
    }

    fn maybe<T>(&mut self, p: f64, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.chance(p) { Some(value(self)) } else { None }
    }

    fn mac(&mut self) -> [u8; 6] {
        pick(self.rng, &MACS)
    }

    fn device(&mut self) -> DeviceId {
        DeviceId(self.rng.gen_range(0..self.devices))
    }

    fn control(&mut self) -> Control {
        match self.rng.gen_range(0..40) {
            0..=3 => Control::Pass,
            4..=17 => Control::Pipe,
            18..=28 => Control::Continue,
            29 => {
                self.restarts = true;
                Control::Reclassify
            }
            30 | 31 => Control::Shot,
            32 => Control::Stolen,
            33 => Control::Queued,
            34 => Control::Trap,
            35 | 36 => Control::Jump(self.rng.gen_range(0..5)),
            _ => {
                self.restarts = true;
                Control::GotoChain(self.rng.gen_range(0..4))
            }
        }
    }

    fn instance(&mut self, index: u32) -> ActionInstance {
        let kind = self.rng.gen_range(0..22);
        // What only rewrites is mostly followed by something that sends the frame on.
        let control = if kind > 5 && self.chance(0.5) { Control::Pipe } else { self.control() };
        let action = match kind {
            0..=2 => Action::Gact(Gact { control, random: self.maybe(0.4, Self::random) }),
            3..=5 => self.mirred(control),
            6..=8 => Action::Skbedit(Skbedit {
                ptype: self.maybe(0.4, |m| pick(m.rng, &[PacketType::Host, PacketType::OtherHost])),
                mark: self.maybe(0.4, |m| (m.rng.gen_range(0..8), pick(m.rng, &[u32::MAX, 6, 0]))),
                full_mask: false,
                priority: self.maybe(0.3, |m| m.rng.gen_range(0..4)),
                queue_mapping: self.maybe(0.2, |m| m.rng.gen_range(0..4)),
                inheritdsfield: self.chance(0.15),
                control,
            }),
            10 => Action::Pedit(Pedit {
                keys: (0..self.rng.gen_range(1..4)).map(|_| self.pedit_key()).collect(),
                extended: true,
                control,
            }),
            20 | 21 => Action::Police(self.police(control)),
            17 | 18 => Action::Nat(Nat { rule: self.nat_rule(), control }),
            19 => Action::Simple(Simple { data: "seen".to_owned(), control }),
            14..=16 => Action::Vlan(Vlan { op: self.vlan_op(), control }),
            9 => Action::Csum(Csum { update: Checksums(self.rng.gen_range(0..128)), control }),
            _ => Action::Skbmod(Skbmod {
                dmac: self.maybe(0.5, |m| MacAddr::from(m.mac())),
                smac: self.maybe(0.5, |m| MacAddr::from(m.mac())),
                etype: self.maybe(0.15, |m| pick(m.rng, &[0x0800, 0x8100, 0x86dd, 0x1234, 0x0010])),
                swap_mac: self.chance(0.15),
                ecn: self.chance(0.25),
                control,
            }),
        };
        let words = ActionWord::len(&action);
        ActionInstance { index, action, counters: self.words(words) }
    }

    fn police(&mut self, exceed: Control) -> Police {
        let rate = Rate {
            bytes_per_s: pick(self.rng, &[12, 1000, 100_000, 10_000_000]),
            overhead: pick(self.rng, &[0, 0, 14]),
            mpu: pick(self.rng, &[0, 64]),
            atm: self.chance(0.2),
        };
        let burst_ticks = self.rng.gen_range(0..4_000_000);
        let limit = match self.rng.gen_range(0..4) {
            0 => Limit::None,
            1 => Limit::Packets { per_s: self.rng.gen_range(1..1000), burst_ticks },
            _ => {
                Limit::Bytes { rate, burst_ticks, peak: self.maybe(0.3, |_| Rate { bytes_per_s: 20_000_000, ..rate }) }
            }
        };
        Police { mtu: pick(self.rng, &[60, 100, u32::MAX]), limit, exceed, conform: self.control(), compat: false }
    }

    fn nat_rule(&mut self) -> NatRule {
        NatRule {
            egress: self.chance(0.5),
            old: u32::from_be_bytes(pick(self.rng, &ADDRESSES)),
            new: self.rng.r#gen(),
            mask: pick(self.rng, &[u32::MAX, 0xffff_ff00, 0xff00_0000, 0]),
        }
    }

    fn vlan_op(&mut self) -> VlanOp {
        let tpid = pick(self.rng, &[0x8100, 0x88a8]);
        match self.rng.gen_range(0..12) {
            0..=3 => VlanOp::Pop,
            4..=6 => VlanOp::Push { tpid, tci: self.rng.r#gen() },
            7 | 8 => VlanOp::Modify {
                tpid,
                id: self.rng.gen_range(0..4095),
                priority: self.maybe(0.5, |m| m.rng.gen_range(0..8)),
            },
            9 | 10 => VlanOp::PopEth,
            _ => VlanOp::PushEth { dst: MacAddr::from(self.mac()), src: MacAddr::from(self.mac()) },
        }
    }

    fn pedit_key(&mut self) -> PeditKey {
        use PeditHeader::{Eth, Ipv4, Ipv6, Network, Tcp, Udp};
        PeditKey {
            header: pick(self.rng, &[Network, Eth, Ipv4, Ipv6, Tcp, Udp]),
            add: self.chance(0.3),
            value: self.rng.r#gen(),
            mask: pick(self.rng, &[0, 0xffff, 0xff00_ffff, u32::MAX]),
            offset: self.rng.gen_range(-6..12) * 4,
            at: pick(self.rng, &[0, 9, -3, 60]),
            offmask: pick(self.rng, &[0, 0, 0x0f, 0xff]),
            shift: pick(self.rng, &[0, 2, 6]),
        }
    }

    fn random(&mut self) -> Random {
        let kind = pick(self.rng, &[RandomKind::Netrand, RandomKind::Determ]);
        Random { kind, control: self.control(), val: self.rng.gen_range(1..5) }
    }

    fn mirred(&mut self, control: Control) -> Action {
        let mode = pick(self.rng, &[MirredMode::Redirect, MirredMode::Mirror, MirredMode::Mirror]);
        let control = if mode == MirredMode::Redirect { Control::Stolen } else { control };
        let direction = pick(self.rng, &[Direction::Egress, Direction::Egress, Direction::Ingress]);
        Action::Mirred(Mirred { direction, mode, device: self.device(), control })
    }

    fn hook(&mut self, device: u32, direction: Direction, actions: &[ActionInstance]) -> Hook {
        let mut chains = BTreeMap::new();
        for index in 0..4 {
            if index != 0 && self.chance(0.5) {
                continue;
            }
            // More than eight protocols in a chain are dispatched in another way.
            let filters_max = if self.chance(0.05) { 24 } else { 8 };
            let count = self.rng.gen_range(1..filters_max);
            let filters = (0..count).map(|n| self.filter(n as u16 + 1, actions)).collect();
            chains.insert(index, Chain { filters });
        }
        Hook { device: DeviceId(device), direction, chains }
    }

    fn filter(&mut self, prio: u16, actions: &[ActionInstance]) -> Filter {
        let protocol = match self.rng.gen_range(0..16) {
            0..=5 => Protocol::ALL,
            6..=10 => Protocol(ethertype::IPV4),
            11 | 12 => Protocol(ethertype::IPV6),
            13 => Protocol(pick(self.rng, &[ethertype::VLAN, ethertype::QINQ, 0x9100])),
            14 => Protocol(pick(
                self.rng,
                &[
                    ethertype::ARP,
                    ethertype::RARP,
                    ethertype::P_802_2,
                    ethertype::P_802_3,
                    ethertype::MPLS_UC,
                    ethertype::PPP_SES,
                    ethertype::HSR,
                    ethertype::BATMAN,
                ],
            )),
            _ => Protocol(self.rng.r#gen()),
        };
        let classifier = match self.rng.gen_range(0..11) {
            8 => Classifier::Fw(self.fw(actions)),
            9 | 10 => Classifier::Basic((1..self.rng.gen_range(1..4)).map(|n| self.basic(n, actions)).collect()),
            0..=3 => Classifier::U32((0..self.rng.gen_range(0..6)).map(|n| self.node(n, actions)).collect()),
            4..=6 => {
                let count = self.rng.gen_range(0..6);
                Classifier::Flower((0..count).map(|n| self.rule(n, protocol, actions)).collect())
            }
            _ => Classifier::Matchall(self.maybe(0.9, |m| MatchallRule {
                handle: 1,
                skip_sw: m.chance(0.1),
                classid: None,
                actions: m.list(actions),
                counters: m.words(NodeWord::len(0)),
            })),
        };
        Filter { prio, protocol, classifier }
    }

    fn fw(&mut self, actions: &[ActionInstance]) -> FwFilter {
        if self.chance(0.2) {
            return FwFilter::Classes { qdisc: pick(self.rng, &[0xffff_0000, 0x0001_0000, 0]) };
        }
        // 0, which no front end makes, is the mark of most frames.
        let rules = (0..self.rng.gen_range(0..8)).map(|handle| FwRule {
            handle,
            indev: self.maybe(0.25, Self::device),
            classid: None,
            actions: self.list(actions),
            counters: self.words(NodeWord::len(0)),
        });
        let rules = rules.rev().collect();
        FwFilter::Marks { mask: pick(self.rng, &[u32::MAX, 7, 6]), rules }
    }

    fn basic(&mut self, handle: u32, actions: &[ActionInstance]) -> BasicRule {
        let sample = self.sample();
        let ematches = if self.chance(0.05) { Vec::new() } else { ematch_random::terms(self.rng, &sample) };
        let actions = self.list(actions);
        BasicRule { handle, ematches, classid: None, actions, counters: self.words(NodeWord::len(0)) }
    }

    fn list(&mut self, actions: &[ActionInstance]) -> Vec<ActionId> {
        let len = pick(self.rng, &[0, 1, 1, 2, 2, 2, 3, 3, 4, 5]);
        let mut ids: Vec<ActionId> = (0..len).map(|_| ActionId(self.rng.gen_range(0..actions.len() as u32))).collect();
        if self.chance(0.5) {
            // As people write it: rewrite, then send.
            ids.sort_by_key(|id| {
                !matches!(
                    actions[id.index()].action,
                    Action::Skbedit(_)
                        | Action::Skbmod(_)
                        | Action::Csum(_)
                        | Action::Pedit(_)
                        | Action::Vlan(_)
                        | Action::Nat(_)
                        | Action::Simple(_)
                        | Action::Police(_)
                )
            });
        }
        ids
    }

    /// An untagged sample: what keys are compared with.
    fn sample(&mut self) -> Vec<u8> {
        let mut frame = self.samples.choose(self.rng).unwrap().clone();
        let start = crate::wire::vlan::take_off(&mut frame).ok().flatten().map_or(0, |_| 4);
        frame.split_off(start)
    }

    fn node(&mut self, number: u32, actions: &[ActionInstance]) -> U32Node {
        let sample = self.sample();
        let keys: Vec<U32Key> = (0..pick(self.rng, &[0, 1, 1, 1, 2, 2, 3, 5])).map(|_| self.key(&sample)).collect();
        let mut node = U32Node {
            handle: 0x8000_0800 + number,
            keys,
            mark: self.maybe(0.1, |m| {
                let mask = pick(m.rng, &[7, 1, 0]);
                U32Mark { value: m.rng.gen_range(0..8) & mask, mask }
            }),
            indev: self.maybe(0.25, Self::device),
            terminal: self.chance(0.9),
            classid: None,
            actions: self.list(actions),
            link: if self.tables > 0 { self.maybe(0.4, Self::link) } else { None },
            counters: 0,
        };
        node.counters = self.words(node.words());
        node
    }

    fn link(&mut self) -> U32Link {
        let variable = self.maybe(0.6, |m| U32VariableOffset {
            at: pick(m.rng, &[0, 0, 0, 2, -2, 8, 700]),
            mask: pick(m.rng, &[0x0f00, 0x0f00, 0x00ff, 0xffff]),
            shift: pick(m.rng, &[6, 6, 0, 8, 15]),
        });
        let descent = U32Descent {
            plus: self.maybe(0.3, |m| pick(m.rng, &[0, 4, 20, 1, 65_535])),
            variable,
            eat: self.chance(0.5),
            hash_mask: pick(self.rng, &[0, 0xff, 0x0000_ff00, 0x00ff_0000, 3]),
            hash_at: pick(self.rng, &[0, 8, 12, 16, -8, -16, 900]),
        };
        U32Link { table: self.rng.gen_range(0..self.tables), descent }
    }

    fn u32_table(&mut self, id: u32, actions: &[ActionInstance]) -> U32Table {
        let count = pick(self.rng, &[1, 1, 2, 8]);
        let nodes = |m: &mut Self| (0..m.rng.gen_range(0..4)).map(|n| m.node(n, actions)).collect();
        U32Table { id, device: DeviceId(0), prio: 1, buckets: (0..count).map(|_| nodes(self)).collect() }
    }

    fn key(&mut self, sample: &[u8]) -> U32Key {
        let offset = match self.rng.gen_range(0..20) {
            0..=11 => self.rng.gen_range(0..11) * 4,
            12..=14 => pick(self.rng, &[-14, -10, -6, -2, -4, -8, -12]),
            15 => pick(self.rng, &[-15, -16, -16, -17, -18, -77, -79, i32::MIN, i32::MAX, 65_535, 65_600, -65_536]),
            _ => self.rng.gen_range(-16..80),
        };
        let mask = pick(self.rng, &[u32::MAX, 0xff, 0xff00, 0xffff, 0xffff_0000, 0x00ff_0000, 0x0f00_0000, 0, 1]);
        let at = usize::try_from(i64::from(offset) + 14).ok();
        let word = at.and_then(|at| sample.get(at..at + 4));
        let value = match word {
            Some(word) if self.chance(0.93) => u32::from_be_bytes(word.try_into().unwrap()),
            _ => self.rng.r#gen(),
        };
        let base = pick(self.rng, &[U32Base::Network, U32Base::Network, U32Base::NextHeader]);
        U32Key { value: value & mask, mask, offset, base }
    }

    fn rule(&mut self, number: u32, protocol: Protocol, actions: &[ActionInstance]) -> FlowerRule {
        let sample = self.sample();
        let key = flower::key(self.rng, self.devices, protocol, &sample);
        let actions = self.list(actions);
        FlowerRule { handle: number + 1, key, classid: None, actions, counters: self.words(NodeWord::len(0)) }
    }
}
