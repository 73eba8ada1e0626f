//! What a forwarder is doing, as data: devices, workers, drops. Rendering is the command line's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::running::Running;
use super::served::{Hold, Served};
use crate::ebpf::load::Tally;
use crate::types::DropReason;
use crate::worker::{PortCells, Shared, monotonic_ms};

/// See the file's head.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The forwarder's process.
    pub pid: u32,
    /// How long it has run.
    pub uptime_ms: u64,
    /// The devices that are served.
    pub devices: Vec<DeviceStatus>,
    /// The workers, in order.
    pub workers: Vec<WorkerStatus>,
    /// Devices that the rules want and that are not served.
    pub absent: Vec<AbsentStatus>,
    /// Devices whose ingress filters are taken away.
    pub bypassed: Vec<String>,
    /// Traces, captures and latencies that look at its frames now.
    pub watching: usize,
}

/// A device that is not served.
#[derive(Clone, Debug, Serialize)]
pub struct AbsentStatus {
    /// Its name.
    pub device: String,
    /// Why; it is tried again.
    pub reason: String,
}

/// A device.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceStatus {
    /// Its name.
    pub device: String,
    /// The mode in use.
    pub mode: String,
    /// Why this mode.
    pub reason: String,
    /// Whether it is up, and has a carrier.
    pub up: bool,
    /// Queues that are served.
    pub queues: usize,
    /// The workers that have ports of it.
    pub workers: Vec<usize>,
    /// Frames that its program left to the kernel (XDP) or let through behind the tap; absent without a program.
    pub program_passed: Option<u64>,
    /// Frames that its program took: steered, or dropped behind the tap.
    pub program_taken: Option<u64>,
    /// Taken frames of a queue without a socket: the kernel got them.
    pub program_unserved: Option<u64>,
}

/// A worker.
#[derive(Clone, Debug, Serialize)]
pub struct WorkerStatus {
    /// Its number, which is that of its queue.
    pub worker: usize,
    /// Its core.
    pub core: usize,
    /// Whether it is pinned there.
    pub pinned: bool,
    /// Its thread.
    pub thread_id: i32,
    /// Rounds over its ports.
    pub rounds: u64,
    /// Rounds that found a frame.
    pub busy_rounds: u64,
    /// How often it slept.
    pub sleeps: u64,
    /// Its ports.
    pub ports: Vec<PortStatus>,
}

/// A port of a worker.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PortStatus {
    /// The device.
    pub device: String,
    /// Frames received.
    pub rx_frames: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames that no rule took and that the kernel has anyway.
    pub passed: u64,
    /// Frames received here that an outgoing port took.
    pub handed: u64,
    /// Frames received here that an outgoing port refused.
    pub refused: u64,
    /// Frames that went to another worker.
    pub crossed_out: u64,
    /// Frames that came from another worker.
    pub crossed_in: u64,
    /// Copies that mirror made of frames received here.
    pub mirrored: u64,
    /// Frames transmitted by this port.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Dropped, by reason: on the way in, by rules, and on the way out.
    pub drops: BTreeMap<&'static str, u64>,
    /// Of these, frames that were received and ended in this worker before any outgoing port.
    #[serde(skip)]
    dropped_inside: u64,
}

impl PortStatus {
    /// Frames that came in here and are not accounted for: 0 between bursts.
    #[must_use]
    pub fn missing(&self) -> i64 {
        let came = self.rx_frames + self.mirrored + self.crossed_in;
        let went = self.passed + self.handed + self.refused + self.crossed_out + self.dropped_inside;
        came as i64 - went as i64
    }
}

impl PortStatus {
    /// Adds what a port counted.
    pub fn add(&mut self, cells: &PortCells) {
        let stats = cells.port();
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        for reason in DropReason::ALL {
            let inside = load(&cells.drops[reason.index()]);
            let count = inside + stats.drops[reason.index()];
            if count != 0 {
                *self.drops.entry(reason.as_str()).or_insert(0) += count;
            }
            self.dropped_inside += inside;
        }
        self.rx_frames += load(&cells.rx_frames);
        self.rx_bytes += load(&cells.rx_bytes);
        self.passed += load(&cells.passed);
        self.handed += load(&cells.handed);
        self.refused += load(&cells.refused);
        self.crossed_out += load(&cells.crossed);
        self.crossed_in += load(&cells.crossed_in);
        self.mirrored += load(&cells.mirrored);
        self.tx_frames += stats.tx_frames;
        self.tx_bytes += stats.tx_bytes;
    }
}

impl Running {
    /// What it is doing now.
    #[must_use]
    pub fn status(&self) -> Status {
        let workers = self.pool.workers.iter().enumerate().map(|(index, w)| WorkerStatus {
            core: w.core,
            pinned: w.pinned,
            thread_id: w.thread_id,
            ..worker(index, &w.shared, &self.served, &self.past)
        });
        Status {
            pid: std::process::id(),
            uptime_ms: monotonic_ms().saturating_sub(self.started_ms),
            devices: self.served.iter().map(device).collect(),
            workers: workers.collect(),
            absent: self
                .absent
                .iter()
                .map(|(key, absent)| AbsentStatus { device: key.to_string(), reason: absent.reason.clone() })
                .collect(),
            bypassed: self.rules.bypassed.iter().map(ToString::to_string).collect(),
            watching: self.watching.len(),
        }
    }
}

fn device(served: &Served) -> DeviceStatus {
    let tally = match &served.hold {
        Hold::Steering(steering) => steering.counters().ok(),
        Hold::Behind(behind) => behind.counters().ok(),
        Hold::InKernel(programs) => programs.tallies().into_iter().reduce(Tally::and),
        Hold::Tc(_) | Hold::Nothing => None,
    };
    let workers: BTreeSet<usize> = served.ports.iter().map(|port| port.at.worker).collect();
    DeviceStatus {
        device: served.wanted.key.to_string(),
        mode: served.mode_in_use(),
        reason: served.reason.clone(),
        up: served.up,
        queues: served.queues,
        workers: workers.into_iter().collect(),
        program_passed: tally.as_ref().map(|t| t.passed),
        program_taken: tally.as_ref().map(|t| t.taken),
        program_unserved: tally.as_ref().map(|t| t.unserved),
    }
}

/// What a worker did, by device: with its present ports, in their order, and with those of before.
pub(super) fn worker(
    index: usize,
    shared: &Shared,
    served: &[Served],
    past: &BTreeMap<(usize, String), PortStatus>,
) -> WorkerStatus {
    let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
    let mut ports: Vec<PortStatus> = Vec::new();
    let mut past: BTreeMap<&str, &PortStatus> = past
        .iter()
        .filter(|((worker, _), _)| *worker == index)
        .map(|((_, device), status)| (device.as_str(), status))
        .collect();
    for device in served {
        let mut own = device.ports.iter().filter(|port| port.at.worker == index).peekable();
        if own.peek().is_none() {
            continue;
        }
        let name = device.wanted.key.to_string();
        let before = past.remove(name.as_str()).cloned().unwrap_or_default();
        let mut status = PortStatus { device: name, ..before };
        own.for_each(|port| status.add(&port.at.cells));
        ports.push(status);
    }
    ports.extend(past.into_iter().map(|(device, status)| PortStatus { device: device.to_owned(), ..status.clone() }));
    WorkerStatus {
        worker: index,
        core: 0,
        pinned: false,
        thread_id: 0,
        rounds: load(&shared.cells.rounds),
        busy_rounds: load(&shared.cells.busy_rounds),
        sleeps: load(&shared.cells.sleeps),
        ports,
    }
}
