//! Opening what was chosen: locks, programs, sockets. After an error nothing of it is left: all hangs on file descriptors.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::choice::{Choice, ChoiceError, Wanted, Way, choose};
use super::inkernel::{check_mixed, wake_device};
use super::kernel::TcError;
use super::served::{Hold, Served};
use super::tend::Stall;
use crate::app::config::{Config, Xdp};
use crate::ebpf::load::{DropBehind, Steering, XdpMode};
use crate::ebpf::{self, Refusal, Target, steer};
use crate::host::{self, HostError, link::Link, lock::DeviceLock};
use crate::port::PortError;
use crate::rules::Ruleset;
use crate::sys::{bpf, socket::kernel_has_af_xdp};
use crate::types::DeviceKey;
use crate::worker::Seam;

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
    /// The kernel's own tc.
    #[error("{0}")]
    Tc(Box<TcError>),
    /// A veth whose other end cannot be reached.
    #[error(
        "{key}: frames that XDP sends to a veth arrive only if its other end has a program or GRO, and that end is in a network \
         namespace without a name; `ip netns attach NAME PID` names it, or use --mode tc-bpf"
    )]
    NoPeer {
        /// The device.
        key: DeviceKey,
    },
}

impl From<TcError> for AttachError {
    fn from(error: TcError) -> Self {
        Self::Tc(Box::new(error))
    }
}

/// Chooses how a device is served, locks it, and attaches its steering program, which takes nothing until [`Served::admit`]. Sockets come
/// next, then [`drop_behind`]; programs that forward come when all devices are attached.
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
    check_mixed(&link.key, &choice, served)?;
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
    if !device.receive || matches!(choice.way, Way::Tap(_) | Way::Xdp | Way::TcBpf | Way::Tc) {
        return Ok(());
    }
    let target = match choice.way {
        Way::AfXdp { may_fall_back: false } => Target::Xdp,
        Way::AfXdp { may_fall_back: true }
        | Way::AfPacket
        | Way::Raw
        | Way::Tap(_)
        | Way::Xdp
        | Way::TcBpf
        | Way::Tc => Target::DropBehind,
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
        up: link.carrier,
        netns: link.key.netns.as_deref().map_or_else(host::netns::own, host::netns::of_name),
        stall: Stall::default(),
        veth: link.kind == "veth",
        queues: 1,
        ports: Vec::new(),
        seam: Arc::new(Seam::long_ago()),
        way: choice.way,
        reason: choice.reason,
        hold: Hold::Nothing,
        locked: link.key.clone(),
        napi: None,
        _lock: lock,
        wanted,
    };
    wake_device(&mut served, ruleset)?;
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
    if served.way.taps() && served.wanted.receive {
        // Refused now or never: it is attached once the taps are open, see `drop_behind`.
        steer(ruleset, served.wanted.id, Target::DropBehind)?;
    }
    served.queues = match &served.way {
        // Only now: some drivers change their queues when a program is attached.
        Way::AfXdp { .. } => own.queues.unwrap_or(usize::MAX).min(host::link::active_queues(&link)),
        Way::AfPacket => own.queues.unwrap_or(1),
        Way::Raw | Way::Tap(_) => 1,
        Way::Xdp | Way::TcBpf | Way::Tc => 0,
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
        AttachError::Choice(_)
        | AttachError::Tc(_)
        | AttachError::Host(_)
        | AttachError::Down { .. }
        | AttachError::Port(_)
        | AttachError::NoPeer { .. } => false,
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
    served.await_stamped();
    served.seam.begin();
    served.seam.end();
    Ok(())
}

pub(super) fn in_its_namespace(
    key: &DeviceKey,
    f: impl FnOnce() -> Result<(), bpf::Error> + Send,
) -> Result<(), AttachError> {
    host::netns::in_namespace(key.netns.as_deref(), f)?
        .map_err(|source| AttachError::Program { key: key.clone(), source })
}
