//! Random actions of all kinds, and random hash tables. It checks nothing.

use rand::Rng;
use rand::seq::SliceRandom;

use super::generate::{Maker, frame};
use crate::rules::{
    Action, Control, Csum, Gact, Nat, Pedit, Simple, Skbedit, Skbmod, U32Descent, U32Link, U32Table, U32VariableOffset,
    Vlan,
};
use crate::types::{Checksums, DeviceId, MacAddr, NatRule, PacketType, PeditHeader, PeditKey, VlanOp};

impl Maker<'_> {
    pub fn rich_action(&mut self) -> Action {
        // Most lists must go on, and end in a redirect or drop somewhere.
        let control = if self.rng.gen_bool(0.7) { Control::Pipe } else { self.control() };
        match self.rng.gen_range(0..8) {
            0..=1 => Action::Pedit(Pedit { keys: self.pedit_keys(), extended: true, control }),
            2 => Action::Csum(Csum { update: Checksums(self.rng.gen_range(0..64)), control }),
            3 => Action::Vlan(Vlan { op: self.vlan_op(), control }),
            4 => Action::Nat(Nat { rule: self.nat_rule(), control }),
            5 => Action::Simple(Simple { data: "x".to_owned(), control }),
            6 => Action::Skbedit(Skbedit {
                ptype: self.rng.gen_bool(0.5).then_some(PacketType::Host),
                mark: None,
                full_mask: false,
                priority: None,
                queue_mapping: None,
                inheritdsfield: self.rng.gen_bool(0.5),
                control,
            }),
            _ if self.rng.gen_bool(0.2) => Action::Gact(Gact { control, random: None }),
            _ => {
                let etype = self.rng.gen_bool(0.2).then_some(0x1234);
                Action::Skbmod(Skbmod {
                    dmac: self.rng.gen_bool(0.5).then_some(MacAddr::new(2, 0, 0, 0, 0, 9)),
                    smac: self.rng.gen_bool(0.5).then_some(MacAddr::new(2, 0, 0, 0, 0, 8)),
                    etype,
                    swap_mac: self.rng.gen_bool(0.2),
                    ecn: self.rng.gen_bool(0.3),
                    control,
                })
            }
        }
    }

    fn pedit_keys(&mut self) -> Vec<PeditKey> {
        (0..self.rng.gen_range(1..4))
            .map(|_| {
                let header = *[
                    PeditHeader::Network,
                    PeditHeader::Network,
                    PeditHeader::Ipv4,
                    PeditHeader::Eth,
                    PeditHeader::Tcp,
                    PeditHeader::Udp,
                    PeditHeader::Ipv6,
                ]
                .choose(self.rng)
                .unwrap();
                let dynamic = self.rng.gen_bool(0.2);
                PeditKey {
                    header,
                    add: self.rng.gen_bool(0.3),
                    value: self.rng.r#gen(),
                    mask: *[0, 0xffff, 0xffff_ff00, 0xff00_00ff].choose(self.rng).unwrap(),
                    offset: *[0, 4, 8, 12, 16, 20, 24, 40, 60, 200, 400, 1200, -4, -8, -16, 6]
                        .choose(self.rng)
                        .unwrap(),
                    at: if dynamic { self.rng.gen_range(0..24) } else { 0 },
                    offmask: if dynamic { 0x0c } else { 0 },
                    shift: if dynamic { self.rng.gen_range(0..2) } else { 0 },
                }
            })
            .collect()
    }

    fn vlan_op(&mut self) -> VlanOp {
        let tpid = if self.rng.gen_bool(0.7) { 0x8100 } else { 0x88a8 };
        match self.rng.gen_range(0..8) {
            0..=2 => VlanOp::Pop,
            3..=4 => VlanOp::Push { tpid, tci: self.rng.gen_range(0..0x2fff) },
            5..=6 => VlanOp::Modify {
                tpid,
                id: self.rng.gen_range(0..0xfff),
                priority: self.rng.gen_bool(0.5).then(|| self.rng.gen_range(0..8)),
            },
            _ => VlanOp::PopEth,
        }
    }

    fn nat_rule(&mut self) -> NatRule {
        let mask = *[u32::MAX, 0xffff_0000, 0].choose(self.rng).unwrap();
        NatRule { egress: self.rng.gen_bool(0.5), old: 0xc612_0001, new: 0xcb00_7163, mask }
    }

    /// Tables that nodes can link to, some to each other.
    pub fn tables(&mut self) {
        for id in 1..=2 {
            let buckets = 1 << self.rng.gen_range(0..3);
            self.ruleset.u32_tables.push(U32Table {
                id,
                device: DeviceId(0),
                prio: 1,
                buckets: vec![Vec::new(); buckets],
            });
        }
        // The first table is filled last: it may link to the second and itself.
        for table in [1, 0] {
            self.links = if table == 0 { vec![0, 1] } else { Vec::new() };
            for bucket in 0..self.ruleset.u32_tables[table].buckets.len() {
                let nodes = (0..self.rng.gen_range(0..3u32))
                    .map(|n| {
                        let keys = (0..self.rng.gen_range(0..3)).map(|_| self.u32_key()).collect();
                        let actions = self.actions();
                        let mut node = self.u32_node(0x0010_0800 + n, keys, actions);
                        // A table of several nodes that link to themselves would multiply for ever.
                        if node.link.is_some_and(|l| l.table == 0 && n > 0) {
                            node.link = None;
                        }
                        node
                    })
                    .collect();
                self.ruleset.u32_tables[table].buckets[bucket] = nodes;
            }
        }
    }

    pub fn link(&mut self) -> Option<U32Link> {
        if !self.rng.gen_bool(0.15) {
            return None;
        }
        let mut descent = U32Descent { eat: self.rng.gen_bool(0.5), ..U32Descent::default() };
        if self.rng.gen_bool(0.5) {
            descent.variable = Some(U32VariableOffset { at: 0, mask: 0x0f00, shift: 6 });
        } else if self.rng.gen_bool(0.5) {
            descent.plus = Some(*[0, 4, 20, 37].choose(self.rng).unwrap());
        }
        if self.rng.gen_bool(0.8) {
            descent.hash_mask = *[0x0300, 0xff, 0x0003_0000].choose(self.rng).unwrap();
            descent.hash_at = *[8, 12, 16, 20].choose(self.rng).unwrap();
        }
        Some(U32Link { table: *self.links.choose(self.rng).unwrap(), descent })
    }
}

/// A frame whose lengths are right more often, with more behind them.
pub fn rich_frame(rng: &mut rand::rngs::SmallRng, tags: bool) -> Vec<u8> {
    let mut out = frame(rng, tags);
    if rng.gen_bool(0.3) {
        let more = rng.gen_range(0..1400);
        out.extend((0..more).map(|_| rng.r#gen::<u8>()));
    }
    let mut network = 14;
    while out.len() > network + 4 && matches!(out[network - 2..network], [0x81, 0] | [0x88, 0xa8]) {
        network += 4;
    }
    if out.len() < network + 28 || rng.gen_bool(0.2) {
        return out;
    }
    let len = out.len() - network;
    match out[network - 2..network] {
        [8, 0] => {
            out[network + 2..network + 4].copy_from_slice(&(len as u16).to_be_bytes());
            let header = usize::from(out[network] & 15) * 4;
            if out[network + 9] == 17 && len >= header + 8 && header >= 20 {
                out[network + header + 4..network + header + 6].copy_from_slice(&((len - header) as u16).to_be_bytes());
            }
        }
        [0x86, 0xdd] if len >= 48 => {
            out[network + 4..network + 6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
            if out[network + 6] == 17 {
                out[network + 44..network + 46].copy_from_slice(&((len - 40) as u16).to_be_bytes());
            }
        }
        _ => {}
    }
    out
}
