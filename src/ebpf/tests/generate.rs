//! Random rulesets and frames that have something to do with each other. It checks nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use crate::ebpf::ematch;
use crate::rules::filter::{MatchallRule, U32Base, U32Key, U32Mark, U32Node};
use crate::rules::flower::{FlowerKey, FlowerRule, PortMatch};
use crate::rules::{
    Action, ActionId, ActionInstance, ActionWord, BasicRule, Chain, Classifier, Control, Filter, FwFilter, FwRule,
    Gact, Hook, Mirred, MirredMode, NodeWord, Ruleset, Skbedit, Skbmod, ematch_random,
};
use crate::types::{Device, DeviceId, DeviceKey, Direction, MacAddr, PacketType, Protocol, Topology, ethertype};

const MACS: [[u8; 6]; 3] = [[0x5c, 0xb9, 1, 0xc3, 0xd9, 0x38], [0xe4, 0xd3, 0xf1, 0xb1, 0xb4, 0x83], [0xff; 6]];
const ADDRESSES: [[u8; 4]; 4] = [[198, 18, 0, 1], [198, 18, 0, 2], [203, 0, 113, 7], [0, 0, 0, 0]];
const PORTS: [u16; 5] = [12345, 57, 80, 443, 0];

pub fn topology() -> Topology {
    let mut topology = Topology::default();
    for name in ["eth0", "v0", "v1"] {
        topology.find_or_assume(&DeviceKey::local(name));
    }
    topology.devices[2].up = false;
    topology
}

fn ipv6(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, n, 0, 1)
}

fn l4(rng: &mut SmallRng, proto: u8) -> Vec<u8> {
    let mut out = Vec::new();
    if proto == 51 {
        out.extend([6, 4, 0, 0]);
    }
    out.extend(PORTS.choose(rng).unwrap().to_be_bytes());
    out.extend(PORTS.choose(rng).unwrap().to_be_bytes());
    out.extend([1, 2, 3, 4, 5, 6, 7, 8]);
    let offset = *[0x50, 0x50, 0x50, 0x60, 0x40].choose(rng).unwrap();
    out.extend([offset, *[0x02, 0x10, 0x12, 0x18, 0x06].choose(rng).unwrap(), 0, 0, 0, 0, 0, 0]);
    out.extend((0..rng.gen_range(0..12)).map(|_| rng.r#gen::<u8>()));
    out
}

fn proto(rng: &mut SmallRng) -> u8 {
    *[6, 6, 6, 17, 1, 51, 132, 137].choose(rng).unwrap()
}

fn ipv4_packet(rng: &mut SmallRng) -> Vec<u8> {
    let ihl = *[5, 5, 5, 6, 15, 4, 0].choose(rng).unwrap();
    let proto = proto(rng);
    let fragment: u16 = *[0, 0, 0, 0x4000, 0x2000, 0x0010].choose(rng).unwrap();
    let mut out = vec![0x40 | ihl, 0, 0, 60, 0, 1];
    out.extend(fragment.to_be_bytes());
    out.extend([64, proto, 0, 0]);
    out.extend(ADDRESSES.choose(rng).unwrap());
    out.extend(ADDRESSES.choose(rng).unwrap());
    out.extend(std::iter::repeat_n(1, usize::from(ihl.saturating_sub(5)) * 4));
    out.extend(l4(rng, proto));
    out
}

fn ipv6_packet(rng: &mut SmallRng) -> Vec<u8> {
    let proto = proto(rng);
    let extensions: Vec<u8> = (0..*[0, 0, 1, 2, 15, 16, 17].choose(rng).unwrap())
        .map(|_| *[0, 43, 60, 60, 0, 44].choose(rng).unwrap())
        .collect();
    let mut chain = extensions.clone();
    chain.push(proto);
    let mut out = vec![0x60, 0, 0, 0, 0, 40, chain[0], 64];
    out.extend(ipv6(rng.gen_range(0..2)).octets());
    out.extend(ipv6(rng.gen_range(0..2)).octets());
    for next in &chain[1..] {
        let len = rng.gen_range(0..2u8);
        out.extend([*next, len, 0, 0, 0, 0, 0, 0]);
        out.extend(std::iter::repeat_n(0, usize::from(len) * 8));
    }
    out.extend(l4(rng, proto));
    out
}

/// A frame of at least 14 bytes; with an outer tag only if `tags`.
pub fn frame(rng: &mut SmallRng, tags: bool) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(MACS.choose(rng).unwrap());
    out.extend(MACS.choose(rng).unwrap());
    if tags && rng.gen_bool(0.3) {
        for tpid in *[&[0x8100u16][..], &[0x88a8], &[0x88a8, 0x8100], &[0x9100]].choose(rng).unwrap() {
            out.extend(tpid.to_be_bytes());
            out.extend([0x20, 5]);
        }
    }
    let (eth_type, payload) = match rng.gen_range(0..10) {
        0..=5 => (ethertype::IPV4, ipv4_packet(rng)),
        6..=7 => (ethertype::IPV6, ipv6_packet(rng)),
        8 => (ethertype::ARP, vec![0, 1, 8, 0, 6, 4, 0, 1, 198, 18, 0, 1]),
        _ => (40, vec![if rng.gen_bool(0.5) { 0xff } else { 0x42 }; 40]),
    };
    out.extend(eth_type.to_be_bytes());
    out.extend(payload);
    if rng.gen_bool(0.2) {
        out.truncate(rng.gen_range(14..=out.len()));
    }
    if rng.gen_bool(0.1) {
        let at = rng.gen_range(if tags { 0 } else { 14 }.min(out.len() - 1)..out.len());
        out[at] = rng.r#gen();
    }
    if !tags && matches!(out[12..14], [0x81, 0] | [0x88, 0xa8]) {
        out[12] = 8;
    }
    out
}

/// Makes rules with counter words and action ids as a store would give them.
pub struct Maker<'a> {
    pub rng: &'a mut SmallRng,
    pub ruleset: Ruleset,
    /// Actions that can be refused, too.
    pub wild: bool,
    /// All kinds of action: see [`super::rich`].
    pub rich: bool,
    /// u32 tables that nodes may link to.
    pub links: Vec<u32>,
}

impl Maker<'_> {
    pub fn words(&mut self, count: u32) -> u32 {
        self.ruleset.counter_words += count;
        self.ruleset.counter_words - count
    }

    pub fn action(&mut self, action: Action) -> ActionId {
        if !self.ruleset.actions.is_empty() && self.rng.gen_bool(0.1) {
            return ActionId(self.rng.gen_range(0..self.ruleset.actions.len()) as u32);
        }
        let counters = self.words(ActionWord::LEN);
        let index = self.ruleset.actions.len() as u32 + 1;
        self.ruleset.actions.push(ActionInstance { index, action, counters });
        ActionId(index - 1)
    }

    pub fn control(&mut self) -> Control {
        use Control::{Continue, GotoChain, Jump, Pass, Pipe, Queued, Reclassify, Shot, Stolen, Trap};
        let n = self.rng.gen_range(0..4);
        let all = [
            Pass,
            Pass,
            Pipe,
            Pipe,
            Continue,
            Continue,
            Continue,
            Shot,
            Stolen,
            Queued,
            Trap,
            Reclassify,
            Jump(n),
            GotoChain(n),
            GotoChain(n),
        ];
        *all.choose(self.rng).unwrap()
    }

    fn random_action(&mut self) -> Action {
        if self.rich && self.rng.gen_bool(0.6) {
            return self.rich_action();
        }
        let control = self.control();
        let redirect = Mirred {
            direction: Direction::Egress,
            mode: MirredMode::Redirect,
            device: DeviceId(self.rng.gen_range(1..3)),
            control: Control::Stolen,
        };
        let skbmod = Skbmod {
            dmac: Some(MacAddr::new(2, 0, 0, 0, 0, 9)),
            smac: None,
            etype: None,
            swap_mac: false,
            ecn: false,
            control: Control::Pipe,
        };
        let mut skbedit = Skbedit {
            ptype: Some(PacketType::Host),
            mark: None,
            full_mask: false,
            priority: None,
            queue_mapping: None,
            inheritdsfield: false,
            control,
        };
        match self.rng.gen_range(0..if self.wild { 8 } else { 6 }) {
            0..=2 => Action::Gact(Gact { control, random: None }),
            3..=4 => Action::Mirred(redirect),
            5 => Action::Skbedit(skbedit),
            6 if self.rng.gen_bool(0.5) => {
                skbedit.mark = Some((7, 0xff));
                Action::Skbedit(skbedit)
            }
            6 => Action::Mirred(Mirred { mode: MirredMode::Mirror, control, ..redirect }),
            _ => Action::Skbmod(skbmod),
        }
    }

    pub fn actions(&mut self) -> Vec<ActionId> {
        let mut actions: Vec<ActionId> = (0..*[0, 1, 1, 1, 2, 3].choose(self.rng).unwrap())
            .map(|_| {
                let action = self.random_action();
                self.action(action)
            })
            .collect();
        if self.rich && self.rng.gen_bool(0.7) {
            let device = DeviceId(if self.rng.gen_bool(0.8) { 1 } else { 2 });
            let (direction, mode) = (Direction::Egress, MirredMode::Redirect);
            actions.push(self.action(Action::Mirred(Mirred { direction, mode, device, control: Control::Stolen })));
        }
        actions
    }

    pub fn u32_key(&mut self) -> U32Key {
        let sample = frame(self.rng, false);
        let offset = *[0, 4, 8, 12, 16, 20, 24, 32, 36, -14, -8, -4, -2, -15, -16, -16, -18, -80, 33, -3, 60]
            .choose(self.rng)
            .unwrap();
        let mask = *[0xffff_ffff, 0xff, 0xffff, 0xff_0000, 0xffff_0000, 0, 0x0f00_0000].choose(self.rng).unwrap();
        let at = (offset + 14).max(0) as usize;
        let word = sample.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        let next = !self.links.is_empty() && self.rng.gen_bool(0.2);
        let base = if next { U32Base::NextHeader } else { U32Base::Network };
        U32Key { value: word & mask, mask, offset, base }
    }

    pub fn u32_node(&mut self, handle: u32, keys: Vec<U32Key>, actions: Vec<ActionId>) -> U32Node {
        let counters = self.words(NodeWord::len(keys.len()) + 1);
        let terminal = !actions.is_empty() || self.rng.gen_bool(0.5);
        let mark = self.rng.gen_bool(0.05).then(|| U32Mark { value: self.rng.gen_range(0..2), mask: 1 });
        let indev = self.rng.gen_bool(0.05).then(|| DeviceId(self.rng.gen_range(0..2)));
        let link = if self.links.is_empty() { None } else { self.link() };
        U32Node { handle, keys, mark, indev, terminal, classid: None, actions, counters, link }
    }

    fn u32_filter(&mut self) -> Classifier {
        let nodes = (0..self.rng.gen_range(1..5u32))
            .map(|n| {
                let keys = (0..*[0, 1, 1, 1, 2, 3].choose(self.rng).unwrap()).map(|_| self.u32_key()).collect();
                let actions = self.actions();
                self.u32_node(0x8000_0800 + n, keys, actions)
            })
            .collect();
        Classifier::U32(nodes)
    }

    fn flower_key(&mut self, protocol: Protocol) -> FlowerKey {
        let mut key = FlowerKey::default();
        let rng = &mut *self.rng;
        // What tc makes of `protocol all` and of tags compares no type.
        if ![ethertype::ALL, ethertype::VLAN, ethertype::QINQ].contains(&protocol.0) {
            key.eth_type = Some(protocol.0);
        }
        let mac = |rng: &mut SmallRng| (*MACS.choose(rng).unwrap(), [0xff; 6]);
        key.dst_mac = rng.gen_bool(0.1).then(|| mac(rng));
        key.src_mac = rng.gen_bool(0.1).then_some(([0xe4, 0xd3, 0xf1, 0, 0, 0x80], [0xff, 0xff, 0xff, 0, 0, 0x80]));
        if [ethertype::IPV4, ethertype::IPV6].contains(&protocol.0) {
            ip_key(rng, protocol.0 == ethertype::IPV6, &mut key);
        }
        key
    }

    fn flower_filter(&mut self, protocol: Protocol) -> Classifier {
        let rules = (1..self.rng.gen_range(2..4))
            .map(|handle| {
                let (key, actions) = (self.flower_key(protocol), self.actions());
                FlowerRule { handle, key, classid: None, actions, counters: self.words(NodeWord::len(0)) }
            })
            .collect();
        Classifier::Flower(rules)
    }

    /// Now and then with matches that a program refuses.
    fn basic_filter(&mut self) -> Classifier {
        let rules = (1..self.rng.gen_range(2..4)).map(|handle| {
            let sample = frame(self.rng, false);
            let mut ematches = ematch_random::terms(self.rng, &sample);
            if self.rng.gen_bool(0.9) {
                while ematch::need(&ematches, "eth0", &mut BTreeSet::new()).is_err() {
                    ematches = ematch_random::terms(self.rng, &sample);
                }
            }
            let actions = self.actions();
            BasicRule { handle, ematches, classid: None, actions, counters: self.words(NodeWord::len(0)) }
        });
        Classifier::Basic(rules.collect())
    }

    fn fw_filter(&mut self) -> Classifier {
        let (actions, counters) = (self.actions(), self.words(NodeWord::len(0)));
        let rule = FwRule { handle: 1, indev: None, classid: None, actions, counters };
        Classifier::Fw(FwFilter::Marks { mask: *[u32::MAX, 0].choose(self.rng).unwrap(), rules: vec![rule] })
    }

    fn chain(&mut self) -> Chain {
        let mut chain = Chain::default();
        for prio in 1..=self.rng.gen_range(1..4) {
            let protocols = [ethertype::ALL, 0x0800, 0x0800, 0x0800, 0x86dd, 0x8100, 0x88a8, 0x0806, 4, 1];
            let protocol = Protocol(*protocols.choose(self.rng).unwrap());
            let classifier = match self.rng.gen_range(0..12) {
                // fw, which matches nothing here, only now and then.
                10 if self.rng.gen_bool(0.4) => self.fw_filter(),
                10 | 11 => self.basic_filter(),
                0..=5 => self.u32_filter(),
                6 | 7 => self.flower_filter(protocol),
                _ => {
                    let actions = self.actions();
                    let counters = self.words(NodeWord::len(0));
                    let skip_sw = self.rng.gen_bool(0.1);
                    Classifier::Matchall(Some(MatchallRule { handle: 1, skip_sw, classid: None, actions, counters }))
                }
            };
            chain.filters.push(Filter { prio, protocol, classifier });
        }
        chain
    }

    /// A ruleset with rules at the ingress of device 0 only.
    pub fn ruleset(rng: &mut SmallRng, wild: bool) -> Ruleset {
        let devices = topology().devices.into_iter().map(|d: Device| d.key).collect();
        Self::ruleset_of(rng, devices, wild, false, false)
    }

    /// As [`Maker::ruleset`], with hash tables, and perhaps all kinds of action.
    pub fn linked_ruleset(rng: &mut SmallRng, rich: bool) -> Ruleset {
        let devices = topology().devices.into_iter().map(|d: Device| d.key).collect();
        Self::ruleset_of(rng, devices, rich, rich, true)
    }

    fn ruleset_of(rng: &mut SmallRng, devices: Vec<DeviceKey>, wild: bool, rich: bool, links: bool) -> Ruleset {
        let ruleset = Ruleset { devices, ..Ruleset::default() };
        let mut maker = Maker { rng, ruleset, wild, rich, links: Vec::new() };
        if links {
            maker.tables();
        }
        let mut chains = BTreeMap::new();
        for index in 0..4 {
            if index == 0 || maker.rng.gen_bool(0.5) {
                chains.insert(index, maker.chain());
            }
        }
        maker.ruleset.hooks = vec![Hook { device: DeviceId(0), direction: Direction::Ingress, chains }];
        maker.ruleset
    }
}

/// Keys of IP and what is behind it.
fn ip_key(rng: &mut SmallRng, is_v6: bool, key: &mut FlowerKey) {
    let v4 = |rng: &mut SmallRng| {
        let mask = Ipv4Addr::from(*[u32::MAX, 0xffff_ff00, 0xffff_0000].choose(rng).unwrap());
        let value = u32::from(Ipv4Addr::from(*ADDRESSES.choose(rng).unwrap())) & u32::from(mask);
        (Ipv4Addr::from(value), mask)
    };
    let v6 = |rng: &mut SmallRng| {
        let mask = Ipv6Addr::from(*[u128::MAX, u128::MAX << 64, 1].choose(rng).unwrap());
        let value = u128::from(ipv6(rng.gen_range(0..2))) & u128::from(mask);
        (Ipv6Addr::from(value), mask)
    };
    let port = |rng: &mut SmallRng| match rng.gen_range(0..3) {
        0 => PortMatch::Masked(*PORTS.choose(rng).unwrap(), u16::MAX),
        1 => PortMatch::Masked(0x39, 0xff),
        _ => PortMatch::Range(57, 500),
    };
    if rng.gen_bool(0.3) {
        if is_v6 { key.ipv6_mut().dst = Some(v6(rng)) } else { key.dst_ipv4 = Some(v4(rng)) }
    }
    if rng.gen_bool(0.2) {
        if is_v6 { key.ipv6_mut().src = Some(v6(rng)) } else { key.src_ipv4 = Some(v4(rng)) }
    }
    key.no_address = key.ipv6.is_none() && key.src_ipv4.is_none() && key.dst_ipv4.is_none() && rng.gen_bool(0.03);
    key.ip_proto = rng.gen_bool(0.3).then(|| proto(rng));
    key.dst_port = rng.gen_bool(0.3).then(|| port(rng));
    key.src_port = rng.gen_bool(0.2).then(|| port(rng));
    key.tcp_flags = rng.gen_bool(0.2).then(|| *[(2, 2), (0x12, 0xfff), (0, 2)].choose(rng).unwrap());
}
