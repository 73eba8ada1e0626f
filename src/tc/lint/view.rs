//! A node with all that a lint wants to know of it, the kinds made alike. It judges nothing.

use crate::rules::{Action, Control, FlowerKey, MirredMode, PortMatch, U32Base, U32Key};
use crate::tc::store::{Body, DeviceState, Entry, Proto, Store};
use crate::types::{DeviceId, DeviceKey, Direction, ethertype};

/// A node and where it stands.
pub struct View<'a> {
    /// Its device.
    pub device: DeviceId,
    /// The device's name.
    pub key: &'a DeviceKey,
    /// Its hook.
    pub direction: Direction,
    /// Its chain.
    pub chain: u32,
    /// Its prio.
    pub proto: &'a Proto,
    /// Itself.
    pub entry: &'a Entry,
    /// Its actions.
    pub actions: Vec<&'a Action>,
    /// Masked words that must be equal; flower keys are told as words too where the header's place is fixed.
    pub words: Vec<U32Key>,
    /// What flower compares.
    pub flower: Option<FlowerKey>,
}

/// A port that a node compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Destination rather than source.
    pub destination: bool,
    /// Masked.
    pub value: u16,
    /// Compared bits.
    pub mask: u16,
}

impl View<'_> {
    /// `eth0 ingress`.
    pub fn place(&self) -> String {
        format!("{} {}", self.key, self.direction.as_str())
    }

    /// The bits that a node compares at a place: value and mask, in 32-bit words from the network header.
    pub fn word(&self, offset: i32) -> Option<(u32, u32)> {
        let find = |k: &&U32Key| k.offset == offset && k.base == U32Base::Network;
        self.words.iter().find(find).map(|k| (k.value, k.mask))
    }

    /// Whether it matches only the IP protocol `number`.
    pub fn is_ip_protocol(&self, number: u8) -> bool {
        self.word(8).is_some_and(|(v, m)| m & 0x00ff_0000 == 0x00ff_0000 && v >> 16 & 0xff == u32::from(number))
    }

    /// The ports that it compares: u32 at 20 (tcp/udp headers behind a plain IP header) or behind `nexthdr+`, and flower's.
    pub fn ports(&self) -> Vec<Port> {
        let mut ports = Vec::new();
        let mut both = |value: u32, mask: u32| {
            let halves = [(false, value >> 16, mask >> 16), (true, value & 0xffff, mask & 0xffff)];
            let used = halves.into_iter().filter(|(_, _, mask)| *mask != 0);
            ports.extend(used.map(|(destination, v, m)| Port { destination, value: v as u16, mask: m as u16 }));
        };
        let ip = self.proto.protocol == ethertype::IPV4 && (self.is_ip_protocol(6) || self.is_ip_protocol(17));
        if let Some((value, mask)) = self.word(20).filter(|_| ip && self.flower.is_none()) {
            both(value, mask);
        }
        for key in self.words.iter().filter(|k| k.base == U32Base::NextHeader && k.offset == 0) {
            both(key.value, key.mask);
        }
        let Some(flower) = &self.flower else { return ports };
        for (destination, port) in [(false, flower.src_port), (true, flower.dst_port)] {
            if let Some(PortMatch::Masked(value, mask)) = port {
                ports.push(Port { destination, value, mask });
            }
        }
        ports
    }

    /// The mirred redirect that a match ends in, if the actions before it let it come to that.
    pub fn redirect(&self) -> Option<(Direction, DeviceId)> {
        for action in &self.actions {
            let target = match action {
                Action::Mirred(m) => (m.mode == MirredMode::Redirect).then_some((m.direction, m.device)),
                Action::Gact(_)
                | Action::Skbedit(_)
                | Action::Skbmod(_)
                | Action::Csum(_)
                | Action::Pedit(_)
                | Action::Vlan(_)
                | Action::Nat(_)
                | Action::Simple(_)
                | Action::Police(_) => None,
            };
            if target.is_some() {
                return target;
            }
            if action.control() != Control::Pipe {
                return None;
            }
        }
        None
    }

    /// Whether a match ends classification for good: no later filter sees the frame.
    pub fn is_terminal(&self) -> bool {
        // What a linked table does is not looked into.
        if let Body::U32 { terminal: false, .. } | Body::U32 { link: Some(_), .. } = &self.entry.body {
            return false;
        }
        for action in &self.actions {
            if matches!(action, Action::Police(police) if police.exceed != police.conform) {
                return false;
            }
            match action.control() {
                Control::Pipe => {}
                Control::Pass | Control::Shot | Control::Stolen | Control::Queued | Control::Trap => {
                    let random = matches!(action, Action::Gact(g) if g.random.is_some());
                    return !random;
                }
                Control::Continue | Control::Reclassify | Control::Jump(_) | Control::GotoChain(_) => return false,
            }
        }
        true
    }
}

/// All nodes, in the order in which their hooks try them.
pub fn views(store: &Store) -> Vec<View<'_>> {
    let mut views = Vec::new();
    for (device, key, state) in store.states() {
        for (direction, block) in blocks(store, state) {
            for (chain, proto) in block.protos() {
                views.extend(proto.entries.iter().map(|entry| View {
                    device,
                    key,
                    direction,
                    chain: chain.index,
                    proto,
                    entry,
                    actions: entry.actions.iter().map(|slot| &store.action(*slot).action).collect(),
                    words: words(&entry.body),
                    flower: flower(&entry.body),
                }));
            }
        }
    }
    views
}

fn blocks<'a>(store: &'a Store, state: &'a DeviceState) -> [(Direction, &'a crate::tc::store::Block); 3] {
    let hook = |direction| {
        let (at, block) = store.hook_block(state, direction);
        (direction, at.block(block))
    };
    [hook(Direction::Ingress), hook(Direction::Egress), (Direction::Egress, &state.root_block)]
}

fn flower(body: &Body) -> Option<FlowerKey> {
    match body {
        Body::Flower { written, .. } => Some(written.masked()),
        Body::U32 { .. } | Body::Matchall | Body::Fw { .. } | Body::Basic { .. } => None,
    }
}

/// u32's keys; of flower what u32 could say as well: protocol and addresses of IPv4.
fn words(body: &Body) -> Vec<U32Key> {
    let Body::Flower { written, .. } = body else {
        return match body {
            Body::U32 { keys, .. } => keys.clone(),
            Body::Flower { .. } | Body::Matchall | Body::Fw { .. } | Body::Basic { .. } => Vec::new(),
        };
    };
    let key = written.masked();
    let word = |offset, value, mask| U32Key { value, mask, offset, base: U32Base::Network };
    let mut words = Vec::new();
    if key.eth_type == Some(ethertype::IPV4) {
        words.extend(key.ip_proto.map(|p| word(8, u32::from(p) << 16, 0x00ff_0000)));
        words.extend(key.src_ipv4.map(|(a, m)| word(12, a.into(), m.into())));
        words.extend(key.dst_ipv4.map(|(a, m)| word(16, a.into(), m.into())));
    }
    words
}
