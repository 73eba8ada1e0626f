//! A device that is served: how, by which ports, with which program, and how the program follows changed rules. It opens nothing.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::attach::{AttachError, in_its_namespace};
use super::choice::{Wanted, Way};
use super::inkernel::{InKernel, Loaded};
use super::kernel::{KernelTc, Planned};
use super::tend::Stall;
use crate::ebpf::load::forward::Napi;
use crate::ebpf::load::{DropBehind, Prepared, Steering, Tally};
use crate::ebpf::{self, Object, Target, steer};
use crate::host;
use crate::host::lock::DeviceLock;
use crate::port::STAMP_MARGIN;
use crate::rules::Ruleset;
use crate::sys::bpf;
use crate::types::{DeviceKey, MacAddr};
use crate::worker::{PortRef, Seam};

/// The program on a device.
#[derive(Debug)]
pub enum Hold {
    /// XDP: steers to AF_XDP sockets.
    Steering(Box<Steering>),
    /// Drops behind an AF_PACKET tap.
    Behind(Box<DropBehind>),
    /// The rules run in the kernel.
    InKernel(Box<InKernel>),
    /// The rules are in the kernel's tc.
    Tc(Box<KernelTc>),
    /// None: nothing is taken from the kernel, or there is no kernel behind it.
    Nothing,
}

/// A device that is served.
#[derive(Debug)]
pub struct Served {
    /// What the rules want of it.
    pub wanted: Wanted,
    /// How it is served, after all fall-backs.
    pub way: Way,
    /// Why, for people.
    pub reason: String,
    /// Its program.
    pub hold: Hold,
    /// Its number in its namespace; 0 for a tap.
    pub ifindex: u32,
    /// Its address.
    pub mac: MacAddr,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Up, and with a carrier, when last seen.
    pub up: bool,
    /// The namespace that it is in, whatever its name.
    pub(super) netns: Option<host::netns::Identity>,
    /// When something last left by it.
    pub(super) stall: Stall,
    /// A veth: frames from its peer's stack may carry partial checksums.
    pub veth: bool,
    /// Queues that are served.
    pub queues: usize,
    /// Its ports, of all workers.
    pub ports: Vec<ServedPort>,
    /// When its program was replaced the last time; for ports of AF_PACKET.
    pub(super) seam: Arc<Seam>,
    /// The link that is locked for it: its own, or that of the tap that stands in for it.
    pub(super) locked: DeviceKey,
    /// What lets its veth peer take redirected frames.
    pub(super) napi: Option<Napi>,
    /// Held as long as it is served.
    pub(super) _lock: Option<DeviceLock>,
}

/// What a port of a device is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// AF_XDP, tap: both ways.
    Both,
    /// AF_PACKET: the tap.
    Receive,
    /// AF_PACKET: the transmit ring.
    Transmit,
}

/// A port of a device.
#[derive(Debug)]
pub struct ServedPort {
    /// What it is for.
    pub role: Role,
    /// Where it is.
    pub at: PortRef,
    /// An AF_XDP socket's descriptor, for the program's map.
    pub socket: Option<OwnedFd>,
}

impl Served {
    /// `af-xdp (native)`, `af-packet (drops behind by tcx)`, …
    #[must_use]
    pub fn mode_in_use(&self) -> String {
        match (&self.way, &self.hold) {
            (Way::AfXdp { .. }, Hold::Steering(steering)) => {
                let how = match steering.mode() {
                    bpf::Mode::Native => "native",
                    bpf::Mode::Generic => "generic",
                    bpf::Mode::Offloaded => "offloaded",
                };
                format!("af-xdp ({how} XDP, copy)")
            }
            (Way::AfXdp { .. }, _) => "af-xdp (transmit only, copy)".to_owned(),
            (Way::AfPacket, Hold::Behind(behind)) => format!("af-packet (drops behind it by {})", behind.mode()),
            (Way::AfPacket, _) if self.wanted.receive => "af-packet (the kernel keeps every frame)".to_owned(),
            (Way::AfPacket, _) => "af-packet (transmit only)".to_owned(),
            (Way::Raw, Hold::Behind(behind)) => format!("raw (drops behind it by {})", behind.mode()),
            (Way::Raw, _) if self.wanted.receive => "raw (the kernel keeps every frame)".to_owned(),
            (Way::Raw, _) => "raw (transmit only)".to_owned(),
            (Way::Tap(tap), _) => format!("tap {tap}"),
            (Way::Tc, Hold::Tc(kernel)) => format!("the kernel's own tc ({} filters)", kernel.filter_count()),
            (Way::Tc, _) => "the kernel's own tc (transmit only)".to_owned(),
            (Way::Xdp | Way::TcBpf, Hold::InKernel(programs)) => programs.mode(),
            (Way::Xdp | Way::TcBpf, _) => "in the kernel (transmit only)".to_owned(),
        }
    }

    /// Loads the program for other rules without putting it in force.
    ///
    /// # Errors
    /// [`AttachError`]: the rules cannot be served, or the kernel refuses the program.
    pub fn prepare(&self, ruleset: &Ruleset) -> Result<Change, AttachError> {
        let Some(id) = ruleset.device(&self.wanted.key) else { return Ok(Change::None) };
        let mut prepared = None;
        match &self.hold {
            Hold::Steering(steering) => {
                let object = steer(ruleset, id, Target::Xdp)?;
                self.inside(|| steering.prepare(&object).map(|p| prepared = Some(p)))?;
            }
            Hold::Behind(behind) => {
                let object = steer(ruleset, id, Target::DropBehind)?;
                self.inside(|| behind.prepare(&object).map(|p| prepared = Some(p)))?;
            }
            Hold::InKernel(_) => return self.load_programs(ruleset).map(Change::Programs),
            Hold::Tc(_) => return Ok(Change::Tc(KernelTc::plan(&self.wanted.key, ruleset)?)),
            Hold::Nothing if self.way.taps() && self.receives() => {
                let object = steer(ruleset, id, Target::DropBehind)?;
                return Ok(if ebpf::takes(ruleset, id) { Change::Attach(object) } else { Change::None });
            }
            Hold::Nothing => {}
        }
        Ok(prepared.map_or(Change::None, Change::Replace))
    }

    /// Puts a prepared change in force, atomically.
    ///
    /// # Errors
    /// [`AttachError::Program`]; the old program stays.
    pub fn commit(&mut self, change: Change) -> Result<(), AttachError> {
        let (key, ifindex) = (self.wanted.key.clone(), self.ifindex);
        match (change, &mut self.hold) {
            (Change::None, _) => Ok(()),
            (Change::Replace(new), Hold::Steering(steering)) => in_its_namespace(&key, || steering.commit(new)),
            (Change::Replace(new), Hold::Behind(behind)) => in_its_namespace(&key, || behind.commit(new)),
            (Change::Programs(loaded), Hold::InKernel(programs)) => programs.commit(&key, ifindex, loaded),
            (Change::Tc(planned), Hold::Tc(kernel)) => Ok(kernel.replace(planned)?),
            (Change::Tc(_), Hold::Steering(_) | Hold::Behind(_) | Hold::InKernel(_) | Hold::Nothing) => Ok(()),
            (Change::Programs(_), Hold::Steering(_) | Hold::Behind(_) | Hold::Tc(_) | Hold::Nothing) => Ok(()),
            (Change::Replace(_), Hold::InKernel(_) | Hold::Tc(_) | Hold::Nothing) => Ok(()),
            (Change::Attach(_), Hold::Steering(_) | Hold::Behind(_) | Hold::InKernel(_) | Hold::Tc(_)) => Ok(()),
            (Change::Attach(object), hold @ Hold::Nothing) => {
                let mut behind = None;
                in_its_namespace(&key, || DropBehind::attach(&object, ifindex).map(|b| behind = Some(b)))?;
                *hold = behind.map_or(Hold::Nothing, |b| Hold::Behind(Box::new(b)));
                Ok(())
            }
        }
    }

    /// Whether it has ports that frames come in by, beside those that only a program brings.
    fn receives(&self) -> bool {
        self.wanted.receive && self.ports.iter().any(|port| port.role == Role::Receive)
    }

    /// Lets the frames that its program takes come to its sockets: until then the kernel has them.
    ///
    /// # Errors
    /// [`AttachError::Program`].
    pub fn admit(&self) -> Result<(), AttachError> {
        let Hold::Steering(steering) = &self.hold else { return Ok(()) };
        for port in &self.ports {
            let Some(socket) = &port.socket else { continue };
            let served = steering.serve(port.at.worker as u32, socket.as_fd());
            served.map_err(|source| AttachError::Program { key: self.wanted.key.clone(), source })?;
        }
        Ok(())
    }

    /// Whether its program, if it has one, is still on the device.
    #[must_use]
    pub fn program_in_place(&self) -> bool {
        match &self.hold {
            Hold::Steering(steering) => steering.is_attached(),
            Hold::Behind(behind) => behind.is_attached(),
            Hold::InKernel(programs) => programs.in_place(),
            // It is not known.
            Hold::Tc(_) => true,
            Hold::Nothing => true,
        }
    }

    /// Waits until what was stamped before now has come to its tap, and to the program behind it, where that may be later.
    pub(super) fn await_stamped(&self) {
        if self.way == Way::Raw {
            std::thread::sleep(STAMP_MARGIN);
        }
    }

    /// Says that its program will be replaced: for generations of rules that are made from now on.
    pub fn expect_change(&mut self) {
        self.seam = Arc::new(Seam::ahead());
    }

    /// Whether its program is one of the kernel's own filters, which may come before it: there is no tcx.
    #[must_use]
    pub fn is_among_filters(&self) -> bool {
        match &self.hold {
            Hold::Behind(behind) => behind.mode() == "cls_bpf",
            Hold::InKernel(programs) => programs.mode().contains("cls_bpf"),
            // They are filters of the kernel, and a device that has others is refused.
            Hold::Tc(_) | Hold::Steering(_) | Hold::Nothing => false,
        }
    }

    /// Takes the program off the device: the kernel has all frames again. What it counted of those that it left to the kernel.
    pub fn detach(&mut self) -> Vec<Tally> {
        match std::mem::replace(&mut self.hold, Hold::Nothing) {
            Hold::Steering(steering) => steering.end().into_iter().collect(),
            Hold::InKernel(programs) => programs.end(),
            Hold::Tc(kernel) => kernel.end().into_iter().collect(),
            Hold::Behind(_) | Hold::Nothing => Vec::new(),
        }
    }

    /// What its programs counted of frames that they did not hand to a worker.
    #[must_use]
    pub fn tallies(&self) -> Vec<Tally> {
        match &self.hold {
            Hold::Steering(steering) => steering.counters().into_iter().collect(),
            Hold::InKernel(programs) => programs.tallies(),
            Hold::Tc(kernel) => kernel.counters().into_iter().collect(),
            Hold::Behind(_) | Hold::Nothing => Vec::new(),
        }
    }

    /// Whether its hooks run its rules, or what it sends crosses them.
    #[must_use]
    pub fn has_hooks(&self) -> bool {
        self.wanted.receive || (matches!(self.way, Way::TcBpf | Way::Tc) && self.wanted.egress_rules)
    }

    /// Waits until a replaced program has finished its last frame.
    ///
    /// # Errors
    /// [`AttachError::Program`]; not expected.
    pub fn finish(&mut self) -> Result<(), AttachError> {
        let done = match &mut self.hold {
            Hold::Steering(steering) => steering.finish(),
            Hold::Behind(behind) => behind.finish(),
            Hold::InKernel(programs) => programs.finish(),
            Hold::Tc(_) | Hold::Nothing => Ok(()),
        };
        done.map_err(|source| AttachError::Program { key: self.wanted.key.clone(), source })
    }

    fn inside(&self, f: impl FnOnce() -> Result<(), bpf::Error> + Send) -> Result<(), AttachError> {
        in_its_namespace(&self.wanted.key, f)
    }
}

/// What a change of rules does to a device's program.
#[derive(Debug)]
pub enum Change {
    /// Nothing.
    None,
    /// Another program in its place.
    Replace(Prepared),
    /// A program where there was none.
    Attach(Object),
    /// Other programs that forward.
    Programs(Loaded),
    /// Other filters in the kernel's tc.
    Tc(Planned),
}
