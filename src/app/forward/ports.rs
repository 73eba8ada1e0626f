//! The ports of served devices: which there must be, opening them with their frame memory, and what a generation of rules says of each.
//! It runs no frame.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::attach::AttachError;
use super::choice::Way;
use super::served::{Hold, Role, Served, ServedPort};
use crate::app::config::Config;
use crate::host;
use crate::limits::{BURST_LEN, CHUNK_LEN_XDP};
use crate::plan::Plan;
use crate::port::{
    AfPacket, AfXdp, Batch, FramePool, PacketConfig, PoolConfig, Port, Raw, RawConfig, Tap, TapConfig, XdpConfig,
};
use crate::rules::Ruleset;
use crate::types::Direction;
use crate::worker::{AllTokens, Cells, Egress, Generation, Lane, OnPass};

/// Chunks beside the rings: bursts, segments of super-frames, copies.
const CHUNKS_SPARE: u32 = 1024;
/// Bursts that are thrown away at the start at most: several times what the ring holds.
const FORGET_BURSTS_MAX: usize = 64;
/// Length of a small chunk that AF_XDP does not share, in bytes: as AF_PACKET's slots.
const CHUNK_LEN: usize = 2048;
/// Chunks for super-frames and jumbo frames: what some receives and the copies of a few frames take.
const CHUNKS_LARGE: u32 = 64;

/// How many workers these devices need: one for each queue of the device that has the most.
#[must_use]
pub fn workers(served: &[Served]) -> usize {
    if !served.is_empty() && served.iter().all(|s| s.way.is_in_kernel()) {
        return 0;
    }
    served.iter().map(|s| s.queues).max().unwrap_or(1).max(1)
}

/// A port that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Position of its device among the served ones.
    pub device: usize,
    /// The worker that is to have it.
    pub worker: usize,
    /// What it is for.
    pub role: Role,
}

/// The ports that the devices need and do not have. A device with fewer queues than there are workers has none in the later ones, unless
/// it can be sent to without a queue of one's own.
#[must_use]
pub fn missing(served: &[Served], workers: usize) -> Vec<Missing> {
    let mut missing = Vec::new();
    for worker in 0..workers {
        for (device, of) in served.iter().enumerate() {
            let has_queue = worker < of.queues;
            let roles: &[(Role, bool)] = match of.way {
                Way::Xdp | Way::TcBpf | Way::Tc => &[],
                Way::AfXdp { .. } | Way::Tap(_) => &[(Role::Both, has_queue)],
                Way::AfPacket | Way::Raw => {
                    &[(Role::Receive, has_queue && of.wanted.receive), (Role::Transmit, of.wanted.transmit)]
                }
            };
            for (role, needed) in roles {
                let there = of.ports.iter().any(|p| p.role == *role && p.at.worker == worker);
                if *needed && !there {
                    missing.push(Missing { device, worker, role: *role });
                }
            }
        }
    }
    missing
}

/// Frame memory and the ports on it, before a worker has them.
pub struct Opened {
    /// The memory.
    pub memory: FramePool,
    /// The ports, with what they are.
    pub ports: Vec<(Missing, Port, Option<OwnedFd>)>,
}

/// Opens a worker's missing ports, which share one memory.
///
/// # Errors
/// [`AttachError::Port`], [`AttachError::Host`].
pub fn open(missing: &[Missing], served: &[Served], config: &Config) -> Result<Vec<Opened>, AttachError> {
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let mut memory = frame_memory(missing, served, config)?;
    let mut ports = Vec::new();
    for missing in missing {
        let port = open_port(*missing, &served[missing.device], &mut memory, config)?;
        let socket = match &port {
            Port::AfXdp(port) => port.socket_fd().map(|fd| fd.try_clone_to_owned()).transpose(),
            Port::AfPacket(_) | Port::Raw(_) | Port::Tap(_) | Port::Mem(_) => Ok(None),
        };
        let key = &served[missing.device].wanted.key;
        let socket = socket.map_err(host::HostError::io(format!("{key}: one more descriptor of its socket")))?;
        ports.push((*missing, port, socket));
    }
    Ok(vec![Opened { memory, ports }])
}

fn frame_memory(missing: &[Missing], served: &[Served], config: &Config) -> Result<FramePool, AttachError> {
    let is_xdp = |m: &Missing| matches!(served[m.device].way, Way::AfXdp { .. });
    let umem = missing.iter().any(is_xdp);
    let receives_long = missing.iter().any(|m| !is_xdp(m) && m.role != Role::Transmit);
    let rings = &config.rings;
    let per_port = |m: &Missing| match (&served[m.device].way, m.role) {
        (Way::AfXdp { .. }, _) => rings.fill + rings.rx + rings.tx,
        (Way::AfPacket | Way::Raw | Way::Tap(_), Role::Transmit) | (Way::Xdp | Way::TcBpf | Way::Tc, _) => 0,
        (Way::AfPacket | Way::Raw | Way::Tap(_), Role::Both | Role::Receive) => 4 * BURST_LEN as u32,
    };
    // What only transmits copies what it is handed.
    let spare = if umem || receives_long { CHUNKS_SPARE } else { BURST_LEN as u32 };
    let chunk_count = missing.iter().map(per_port).sum::<u32>() + spare;
    let chunk_len = if umem { CHUNK_LEN_XDP } else { CHUNK_LEN };
    let pool = FramePool::new(PoolConfig { chunk_count, chunk_len, umem })?;
    Ok(if receives_long { pool.with_large(CHUNKS_LARGE) } else { pool })
}

fn open_port(missing: Missing, device: &Served, pool: &mut FramePool, config: &Config) -> Result<Port, AttachError> {
    let rings = &config.rings;
    let name = device.wanted.key.name.clone();
    let netns = device.wanted.key.netns.as_deref();
    match &device.way {
        Way::AfXdp { .. } => {
            let xdp = XdpConfig {
                device: name,
                queue: missing.worker as u32,
                rx_ring_len: rings.rx,
                tx_ring_len: rings.tx,
                fill_ring_len: rings.fill,
                completion_ring_len: rings.completion,
                zero_copy: false,
                complete_partial: device.veth,
                busy_poll_us: None,
            };
            Ok(Port::AfXdp(AfXdp::open(pool, &xdp)?))
        }
        Way::AfPacket => {
            let receives = missing.role != Role::Transmit;
            let packet = PacketConfig {
                device: name,
                ifindex: device.ifindex,
                mtu: device.mtu,
                rx_ring_len: if receives { rings.rx } else { 0 },
                tx_ring_len: if receives { 0 } else { rings.tx },
                fanout: (receives && device.queues > 1).then_some((std::process::id() ^ device.ifindex << 8) as u16),
                qdisc_bypass: false,
                merge: true,
            };
            Ok(Port::AfPacket(host::netns::in_namespace(netns, || AfPacket::open(&packet))??))
        }
        Way::Raw => {
            let receives = missing.role != Role::Transmit;
            let raw = RawConfig { device: name, ifindex: device.ifindex, mtu: device.mtu, receives };
            Ok(Port::Raw(host::netns::in_namespace(netns, || Raw::open(&raw))??))
        }
        Way::Tap(tap) => {
            let open = TapConfig { name: tap.name.clone(), mtu: device.mtu, merge: true };
            Ok(Port::Tap(host::netns::in_namespace(tap.netns.as_deref(), || Tap::open(&open))??))
        }
        Way::Xdp | Way::TcBpf | Way::Tc => {
            unreachable!("what the kernel forwards by itself has no ports, see `missing`")
        }
    }
}

/// Throws away what taps saw before the programs behind them were attached: the kernel had it as well. To be called before workers have
/// the ports. Where there is no program, all that was seen so far is the kernel's.
pub fn forget_seen(opened: &mut Opened, served: &[Served]) {
    let mut batch = Batch::new();
    for (missing, port, _) in opened
        .ports
        .iter_mut()
        .filter(|(m, p, _)| m.role == Role::Receive && matches!(p, Port::AfPacket(_) | Port::Raw(_)))
    {
        let device = &served[missing.device];
        let until = if matches!(device.hold, Hold::Behind(_)) { device.seam.ended() } else { i64::MAX };
        for _ in 0..FORGET_BURSTS_MAX {
            port.receive(&mut opened.memory, until, &mut batch);
            if batch.is_empty() {
                break;
            }
            while let Some(frame) = batch.pop() {
                opened.memory.free(frame);
            }
        }
    }
}

/// What generations of rules are made from, besides the devices.
pub struct Rules<'a> {
    /// Ascending.
    pub id: u64,
    /// The rules in force.
    pub ruleset: &'a Ruleset,
    /// Their compiled form.
    pub plan: &'a Arc<Plan>,
    /// By device of the ruleset: whether it is up.
    pub up: &'a Arc<[AtomicBool]>,
    /// What policers before these rules have.
    pub tokens_before: &'a AllTokens,
}

/// The generations of one set of rules, one per worker. Policers that were there before keep their tokens.
#[must_use]
pub fn generations(rules: &Rules<'_>, workers: usize, served: &[Served]) -> Vec<Generation> {
    let tokens = AllTokens::new(rules.plan.policers(), rules.tokens_before);
    let by_key: BTreeMap<_, _> = served.iter().map(|device| (&device.wanted.key, device)).collect();
    let generation = |worker: usize| {
        let egress = |key| by_key.get(key).map_or(Egress::None, |device| egress(worker, device));
        Generation {
            id: rules.id,
            plan: Arc::clone(rules.plan),
            lanes: by_port(worker, served, |device| lane(device, rules)),
            seams: by_port(worker, served, |device| Arc::clone(&device.seam)),
            egress: rules.ruleset.devices.iter().map(egress).collect(),
            up: Arc::clone(rules.up),
            cells: Cells::new(rules.ruleset.counter_words),
            tokens: tokens.clone(),
        }
    };
    (0..workers).map(generation).collect()
}

/// What a worker's receiving ports have of their devices, by port.
fn by_port<T>(worker: usize, served: &[Served], of_device: impl Fn(&Served) -> T) -> Box<[Option<T>]> {
    let mut all = Vec::new();
    for device in served {
        for port in device.ports.iter().filter(|p| p.at.worker == worker && p.role != Role::Transmit) {
            all.resize_with(all.len().max(port.at.slot + 1), || None);
            all[port.at.slot] = Some(of_device(device));
        }
    }
    all.into()
}

fn lane(device: &Served, rules: &Rules<'_>) -> Lane {
    let id = rules.ruleset.device(&device.wanted.key).filter(|_| device.wanted.receive);
    let hook = id.and_then(|id| rules.plan.hook(id, Direction::Ingress));
    let on_pass = match device.way {
        Way::AfXdp { .. } => OnPass::Stranded,
        Way::AfPacket | Way::Raw => OnPass::KernelHasIt,
        Way::Tap(_) => OnPass::NoStack,
        Way::Xdp | Way::TcBpf | Way::Tc => OnPass::KernelHasIt,
    };
    Lane { hook, mac: device.mac, on_pass }
}

/// How a worker sends by a device: by its own port, or by that of a worker that has one.
fn egress(worker: usize, device: &Served) -> Egress {
    if !device.wanted.transmit {
        return Egress::None;
    }
    let of = |worker: usize| {
        let sends = |p: &&ServedPort| p.at.worker == worker && p.role != Role::Receive;
        device.ports.iter().find(sends).map(|p| p.at.slot)
    };
    let owner = worker % device.queues.max(1);
    match (of(worker), of(owner)) {
        (Some(port), _) => Egress::Port(port),
        (None, Some(port)) => Egress::Crossing { worker: owner, port },
        (None, None) => Egress::None,
    }
}
