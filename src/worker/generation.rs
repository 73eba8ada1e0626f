//! Rules as a worker runs them: one immutable generation, replaced as a whole. Nothing is compiled or opened here.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::buckets::AllTokens;
use super::cells::Cells;
use super::seam::Seam;
use crate::plan::{Counts, HookIndex, Plan};
use crate::types::{DeviceId, MacAddr};

/// What becomes of a frame that no rule takes, by the kind of port that it came in on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPass {
    /// The kernel has the frame as well and handles it (AF_PACKET).
    KernelHasIt,
    /// The frame was steered to us and cannot be handed back (AF_XDP): it counts as stranded.
    Stranded,
    /// There is no stack behind the port (tap in place of a veth pair).
    NoStack,
}

/// What the rules call a port of the worker.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    /// The device's ingress hook, if rules are attached there.
    pub hook: Option<HookIndex>,
    /// The device's address, which makes a frame one for this host.
    pub mac: MacAddr,
    /// See [`OnPass`].
    pub on_pass: OnPass,
}

/// Where a worker sends what leaves by a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// By its own port.
    Port(usize),
    /// By another worker's port.
    Crossing {
        /// The worker.
        worker: usize,
        /// Its port.
        port: usize,
    },
    /// By nobody: the device is named only where a frame cannot go.
    None,
}

/// One generation of rules in one worker.
#[derive(Debug)]
pub struct Generation {
    /// Ascending; the first is 1.
    pub id: u64,
    /// The rules.
    pub plan: Arc<Plan>,
    /// By the number of the worker's port; a port without one receives nothing under these rules.
    pub lanes: Box<[Option<Lane>]>,
    /// By the number of the worker's port: when the program of its device was replaced, for a port that the kernel has every frame of as well.
    pub seams: Box<[Option<Arc<Seam>>]>,
    /// By [`DeviceId`].
    pub egress: Box<[Egress]>,
    /// By [`DeviceId`]: whether the device is up; a thread of the control plane keeps it true.
    pub up: Arc<[AtomicBool]>,
    /// What this worker counts under these rules.
    pub cells: Cells,
    /// What is in the buckets of policers: shared by all workers, and by the rules before and after.
    pub tokens: AllTokens,
}

impl Generation {
    /// Rules without any filter, for a worker without any port.
    #[must_use]
    pub fn idle(plan: &Arc<Plan>) -> Self {
        Self {
            id: 0,
            plan: Arc::clone(plan),
            lanes: Box::default(),
            seams: Box::default(),
            egress: Box::default(),
            up: Arc::new([]),
            cells: Cells::new(0),
            tokens: AllTokens::default(),
        }
    }

    /// What was counted under these rules, as the kernel would show it.
    #[must_use]
    pub fn counts(&self) -> Counts<'_> {
        self.plan.counts(&self.cells)
    }

    /// What the rules call a port of the worker, if it receives under them.
    #[must_use]
    pub fn lane(&self, port: usize) -> Option<Lane> {
        self.lanes.get(port).copied().flatten()
    }

    /// When the program behind a port was replaced by that of these rules.
    pub(super) fn seam(&self, port: usize) -> Option<&Seam> {
        self.seams.get(port)?.as_deref()
    }

    /// Where a frame for this device goes.
    #[must_use]
    pub fn egress(&self, device: DeviceId) -> Egress {
        self.egress.get(device.index()).copied().unwrap_or(Egress::None)
    }
}
