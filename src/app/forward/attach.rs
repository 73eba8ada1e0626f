//! Opening what was chosen: locks, programs, sockets. After an error nothing of it is left: all hangs on file descriptors.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use super::choice::{Choice, ChoiceError, Wanted, Way, choose};
use crate::app::config::{Config, Xdp};
use crate::ebpf::load::{DropBehind, Prepared, Steering, Tally, XdpMode};
use crate::ebpf::{self, Object, Refusal, Target, steer};
use crate::host::{self, HostError, link::Link, lock::DeviceLock};
use crate::port::PortError;
use crate::rules::Ruleset;
use crate::sys::{bpf, socket::kernel_has_af_xdp};
use crate::types::{DeviceKey, MacAddr};
use crate::worker::PortRef;

/// Why forwarding could not start. Whatever was attached before is gone again.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// No way of serving a device.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// The machine.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The device is down.
    #[error("{0} is down; `ip {1}link set {2} up`", key, key.netns.as_ref().map_or(String::new(), |n| format!("-n {n} ")), key.name)]
    Down {
        /// The device.
        key: DeviceKey,
    },
    /// A rule that this way of forwarding cannot do.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// A program cannot be attached.
    #[error("{key}: {source}")]
    Program {
        /// The device.
        key: DeviceKey,
        /// Why.
        source: bpf::Error,
    },
    /// A socket cannot be opened.
    #[error("{0}")]
    Port(#[from] PortError),
}

/// The program on a device.
#[derive(Debug)]
pub enum Hold {
    /// XDP: steers to AF_XDP sockets.
    Steering(Box<Steering>),
    /// Drops behind an AF_PACKET tap.
    Behind(Box<DropBehind>),
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
    /// A veth: frames from its peer's stack may carry partial checksums.
    pub veth: bool,
    /// Queues that are served.
    pub queues: usize,
    /// Its ports, of all workers.
    pub ports: Vec<ServedPort>,
    /// The link that is locked for it: its own, or that of the tap that stands in for it.
    locked: DeviceKey,
    /// Held as long as it is served.
    _lock: Option<DeviceLock>,
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
            (Way::Tap(tap), _) => format!("tap {tap}"),
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
            Hold::Nothing if self.way == Way::AfPacket && self.receives() => {
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
            (Change::Replace(_), Hold::Nothing) => Ok(()),
            (Change::Attach(_), Hold::Steering(_) | Hold::Behind(_)) => Ok(()),
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

    /// Takes the program off the device: the kernel has all frames again. What it counted of those that it left to the kernel.
    pub fn detach(&mut self) -> Option<Tally> {
        match std::mem::replace(&mut self.hold, Hold::Nothing) {
            Hold::Steering(steering) => steering.end().ok(),
            Hold::Behind(_) | Hold::Nothing => None,
        }
    }

    /// Waits until a replaced program has finished its last frame.
    ///
    /// # Errors
    /// [`AttachError::Program`]; not expected.
    pub fn finish(&mut self) -> Result<(), AttachError> {
        let done = match &mut self.hold {
            Hold::Steering(steering) => steering.finish(),
            Hold::Behind(behind) => behind.finish(),
            Hold::Nothing => Ok(()),
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
}

/// Chooses how a device is served, locks it, and attaches its XDP program, which takes nothing until [`Served::admit`]. Sockets come next,
/// then [`drop_behind`].
///
/// # Errors
/// [`AttachError`]; nothing is left attached then.
pub fn attach(
    wanted: Wanted,
    served: &[Served],
    ruleset: &Ruleset,
    config: &Config,
    taps: &BTreeMap<String, DeviceKey>,
) -> Result<Served, AttachError> {
    let tap = wanted.key.netns.is_none().then(|| taps.get(&wanted.key.name)).flatten();
    let link = host::link::find(tap.unwrap_or(&wanted.key))?;
    if !link.up {
        return Err(AttachError::Down { key: link.key });
    }
    let choice = match tap {
        Some(tap) => Choice { way: Way::Tap(tap.clone()), reason: format!("{tap} stands in for it") },
        None => choose(&link, config, kernel_has_af_xdp())?,
    };
    check_rules(&wanted, ruleset, &choice)?;
    // A tap that stands in for a device can be one of the rules' devices itself: one lock is enough.
    let lock = match served.iter().any(|s| s.locked == link.key) {
        true => None,
        false => Some(host::lock::device(&link.key)?),
    };
    attach_link(wanted, link, lock, choice, ruleset, config)
}

/// What no way of serving the device can do is refused before anything is attached anywhere.
fn check_rules(device: &Wanted, ruleset: &Ruleset, choice: &Choice) -> Result<(), AttachError> {
    if !device.receive || matches!(choice.way, Way::Tap(_)) {
        return Ok(());
    }
    let target = match choice.way {
        Way::AfXdp { may_fall_back: false } => Target::Xdp,
        Way::AfXdp { may_fall_back: true } | Way::AfPacket | Way::Tap(_) => Target::DropBehind,
    };
    steer(ruleset, device.id, target)?;
    Ok(())
}

fn attach_link(
    wanted: Wanted,
    link: Link,
    lock: Option<DeviceLock>,
    choice: Choice,
    ruleset: &Ruleset,
    config: &Config,
) -> Result<Served, AttachError> {
    let own = config.device(&wanted.key);
    let mut served = Served {
        ifindex: link.ifindex,
        mac: link.mac,
        mtu: link.mtu,
        veth: link.kind == "veth",
        queues: 1,
        ports: Vec::new(),
        way: choice.way,
        reason: choice.reason,
        hold: Hold::Nothing,
        locked: link.key.clone(),
        _lock: lock,
        wanted,
    };
    if let Way::AfXdp { may_fall_back } = served.way {
        match steer_device(&mut served, ruleset, own.xdp) {
            Ok(()) => {}
            Err(error) if may_fall_back && falls_back(&error) => {
                served.way = Way::AfPacket;
                served.reason = format!("not AF_XDP: {error}");
            }
            Err(error) => return Err(error),
        }
    }
    if served.way == Way::AfPacket && served.wanted.receive {
        // Refused now or never: it is attached once the taps are open, see `drop_behind`.
        steer(ruleset, served.wanted.id, Target::DropBehind)?;
    }
    served.queues = match &served.way {
        // Only now: some drivers change their queues when a program is attached.
        Way::AfXdp { .. } => own.queues.unwrap_or(usize::MAX).min(host::link::active_queues(&link)),
        Way::AfPacket => own.queues.unwrap_or(1),
        Way::Tap(_) => 1,
    };
    Ok(served)
}

/// Attaches the XDP program of a device that is to receive.
///
/// # Errors
/// [`AttachError`]; there is none then.
pub fn steer_device(served: &mut Served, ruleset: &Ruleset, xdp: Xdp) -> Result<(), AttachError> {
    if !served.wanted.receive {
        return Ok(());
    }
    let object = steer(ruleset, served.wanted.id, Target::Xdp)?;
    let mode = match xdp {
        Xdp::Native => XdpMode::Native,
        Xdp::Generic => XdpMode::Generic,
    };
    let (key, ifindex) = (served.wanted.key.clone(), served.ifindex);
    let mut steering = None;
    in_its_namespace(&key, || {
        steering = Some(Steering::attach(&object, ifindex, mode)?);
        Ok(())
    })?;
    served.hold = steering.map_or(Hold::Nothing, |s| Hold::Steering(Box::new(s)));
    Ok(())
}

/// What makes auto mode take AF_PACKET. A program of somebody else is not among it: it may take the frames before us.
pub fn falls_back(error: &AttachError) -> bool {
    match error {
        AttachError::Refused(_) => true,
        AttachError::Program { source, .. } => matches!(
            source,
            bpf::Error::Unsupported { .. }
                | bpf::Error::MtuTooLarge { .. }
                | bpf::Error::NoSpace { .. }
                | bpf::Error::Rejected { .. }
                | bpf::Error::Kernel { .. }
        ),
        AttachError::Choice(_) | AttachError::Host(_) | AttachError::Down { .. } | AttachError::Port(_) => false,
    }
}

/// Attaches the program that drops behind a device's taps. They must be open: what is dropped must have been seen.
///
/// # Errors
/// [`AttachError::Program`], [`AttachError::Refused`].
pub fn drop_behind(served: &mut Served, ruleset: &Ruleset) -> Result<(), AttachError> {
    let object = steer(ruleset, served.wanted.id, Target::DropBehind)?;
    if !ebpf::takes(ruleset, served.wanted.id) {
        return Ok(());
    }
    let (key, ifindex) = (served.wanted.key.clone(), served.ifindex);
    let mut behind = None;
    in_its_namespace(&key, || {
        behind = Some(DropBehind::attach(&object, ifindex)?);
        Ok(())
    })?;
    served.hold = behind.map_or(Hold::Nothing, |b| Hold::Behind(Box::new(b)));
    Ok(())
}

fn in_its_namespace(key: &DeviceKey, f: impl FnOnce() -> Result<(), bpf::Error> + Send) -> Result<(), AttachError> {
    host::netns::in_namespace(key.netns.as_deref(), f)?
        .map_err(|source| AttachError::Program { key: key.clone(), source })
}
