//! The workers' seats: frame memory and ports for each, and which worker sends what by which port. It runs no frame.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::attach::{AttachError, Hold, Served};
use super::choice::Way;
use crate::app::config::Config;
use crate::host;
use crate::limits::{BURST_LEN, CHUNK_LEN_XDP};
use crate::plan::Plan;
use crate::port::{AfPacket, AfXdp, Batch, FramePool, PacketConfig, PoolConfig, Port, Tap, TapConfig, XdpConfig};
use crate::rules::Ruleset;
use crate::types::Direction;
use crate::worker::{AllTokens, Cells, Egress, Generation, Lane, OnPass};

/// Chunks beside the rings: bursts, segments of super-frames, copies.
const CHUNKS_SPARE: u32 = 1024;
/// Bursts that are thrown away at the start at most: several times what the ring holds.
const FORGET_BURSTS_MAX: usize = 64;
/// Length of a small chunk that AF_XDP does not share, in bytes: as AF_PACKET's slots.
const CHUNK_LEN: usize = 2048;
/// Chunks for super-frames and jumbo frames: what two receives and the copies of a few frames take.
const CHUNKS_LARGE: u32 = 64;

/// Which ports each worker has: `ports[worker]` lists devices by their position among the served ones.
#[derive(Clone, Debug)]
pub struct Layout {
    /// See above; the order is that of the worker's ports.
    pub ports: Vec<Vec<usize>>,
}

impl Layout {
    /// One worker per queue of the device that has the most. A device with fewer queues has no port in the later workers,
    /// unless it can be sent to without a queue of one's own.
    #[must_use]
    pub fn of(served: &[Served]) -> Self {
        let workers = served.iter().map(|s| s.queues).max().unwrap_or(1).max(1);
        let has = |device: &Served, worker: usize| {
            worker < device.queues || (device.way == Way::AfPacket && device.wanted.transmit)
        };
        let ports =
            (0..workers).map(|worker| (0..served.len()).filter(|d| has(&served[*d], worker)).collect()).collect();
        Self { ports }
    }

    /// How many workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.ports.len()
    }

    /// How `worker` sends by a device: by its own port, or by that of a worker that has one.
    fn egress(&self, worker: usize, device: usize, queues: usize) -> Egress {
        if let Some(port) = self.ports[worker].iter().position(|d| *d == device) {
            return Egress::Port(port);
        }
        let owner = worker % queues.max(1);
        match self.ports[owner].iter().position(|d| *d == device) {
            Some(port) => Egress::Crossing { worker: owner, port },
            None => Egress::None,
        }
    }
}

/// A worker's frame memory and ports.
///
/// # Errors
/// [`AttachError::Port`], [`AttachError::Program`].
pub fn open(
    worker: usize,
    layout: &Layout,
    served: &[Served],
    config: &Config,
) -> Result<(FramePool, Vec<Port>), AttachError> {
    let devices: Vec<&Served> = layout.ports[worker].iter().map(|d| &served[*d]).collect();
    let mut pool = frame_memory(&devices, config)?;
    let mut ports = Vec::new();
    for device in devices {
        ports.push(open_port(worker, device, &mut pool, layout, config)?);
    }
    Ok((pool, ports))
}

fn frame_memory(devices: &[&Served], config: &Config) -> Result<FramePool, AttachError> {
    let umem = devices.iter().any(|d| matches!(d.way, Way::AfXdp { .. }));
    let chunk_len = if umem { CHUNK_LEN_XDP } else { CHUNK_LEN };
    let rings = &config.rings;
    let per_port = |d: &&Served| match d.way {
        Way::AfXdp { .. } => rings.fill + rings.rx + rings.tx,
        Way::AfPacket | Way::Tap(_) => 4 * BURST_LEN as u32,
    };
    let chunk_count = devices.iter().map(per_port).sum::<u32>() + CHUNKS_SPARE;
    let pool = PoolConfig { chunk_count, chunk_len, umem };
    let pool = FramePool::new(pool)?;
    let any_long = devices.iter().any(|d| !matches!(d.way, Way::AfXdp { .. }));
    Ok(if any_long { pool.with_large(CHUNKS_LARGE) } else { pool })
}

fn open_port(
    worker: usize,
    device: &Served,
    pool: &mut FramePool,
    layout: &Layout,
    config: &Config,
) -> Result<Port, AttachError> {
    let rings = &config.rings;
    let name = device.wanted.key.name.clone();
    match &device.way {
        Way::AfXdp { .. } => {
            let xdp = XdpConfig {
                device: name,
                queue: worker as u32,
                rx_ring_len: rings.rx,
                tx_ring_len: rings.tx,
                fill_ring_len: rings.fill,
                completion_ring_len: rings.completion,
                zero_copy: false,
                complete_partial: device.veth,
                busy_poll_us: None,
            };
            let port = AfXdp::open(pool, &xdp)?;
            if let (Hold::Steering(steering), Some(fd)) = (&device.hold, port.socket_fd()) {
                steering
                    .serve(worker as u32, fd)
                    .map_err(|source| AttachError::Program { key: device.wanted.key.clone(), source })?;
            }
            Ok(Port::AfXdp(port))
        }
        Way::AfPacket => {
            let receives = device.wanted.receive && worker < device.queues;
            let shared = device.queues > 1 && layout.workers() > 1;
            let packet = PacketConfig {
                device: name,
                ifindex: device.ifindex,
                mtu: device.mtu,
                rx_ring_len: if receives { rings.rx } else { 0 },
                tx_ring_len: if device.wanted.transmit { rings.tx } else { 0 },
                fanout: shared.then_some((std::process::id() ^ device.ifindex << 8) as u16),
                qdisc_bypass: false,
                merge: true,
            };
            let netns = device.wanted.key.netns.as_deref();
            Ok(Port::AfPacket(host::netns::in_namespace(netns, || AfPacket::open(&packet))??))
        }
        Way::Tap(tap) => {
            let open = TapConfig { name: tap.name.clone(), mtu: device.mtu, merge: true };
            Ok(Port::Tap(host::netns::in_namespace(tap.netns.as_deref(), || Tap::open(&open))??))
        }
    }
}

/// Throws away what taps saw so far: the kernel had it as well. To be called when the programs behind the taps are attached,
/// and before the workers start: from then on every frame is either ours or the kernel's.
pub fn forget_seen(pool: &mut FramePool, ports: &mut [Port]) {
    let mut batch = Batch::new();
    for port in ports.iter_mut().filter(|p| matches!(p, Port::AfPacket(_))) {
        for _ in 0..FORGET_BURSTS_MAX {
            port.receive(pool, &mut batch);
            if batch.is_empty() {
                break;
            }
            while let Some(frame) = batch.pop() {
                pool.free(frame);
            }
        }
    }
}

/// The generations of one set of rules, one per worker. Policers that were there before keep their tokens.
#[must_use]
pub fn generations(
    id: u64,
    ruleset: &Ruleset,
    plan: &Arc<Plan>,
    layout: &Layout,
    served: &[Served],
    up: &Arc<[AtomicBool]>,
    tokens_before: &AllTokens,
) -> Vec<Generation> {
    let tokens = AllTokens::new(plan.policers(), tokens_before);
    (0..layout.workers())
        .map(|worker| Generation {
            id,
            plan: Arc::clone(plan),
            lanes: layout.ports[worker].iter().map(|d| lane(&served[*d], ruleset, plan)).collect(),
            egress: ruleset
                .devices
                .iter()
                .map(|key| {
                    let device = served.iter().position(|s| s.wanted.key == *key && s.wanted.transmit);
                    device.map_or(Egress::None, |d| layout.egress(worker, d, served[d].queues))
                })
                .collect(),
            up: Arc::clone(up),
            cells: Cells::new(ruleset.counter_words),
            tokens: tokens.clone(),
        })
        .collect()
}

fn lane(device: &Served, ruleset: &Ruleset, plan: &Plan) -> Lane {
    let hook = ruleset.device(&device.wanted.key).and_then(|id| plan.hook(id, Direction::Ingress));
    let on_pass = match device.way {
        Way::AfXdp { .. } => OnPass::Stranded,
        Way::AfPacket => OnPass::KernelHasIt,
        Way::Tap(_) => OnPass::NoStack,
    };
    Lane { hook, mac: device.mac, on_pass }
}
