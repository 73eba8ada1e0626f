//! Devices whose rules run in the kernel as programs: loading, attaching, and which outgoing device is up. It moves no frame.

use super::attach::{AttachError, in_its_namespace};
use super::choice::{Choice, ChoiceError, Way};
use super::kernel::KernelTc;
use super::served::{Hold, Served};
use crate::app::config::{Config, Xdp};
use crate::ebpf::forward::{ForwardOptions, Stage, forward};
use crate::ebpf::load::forward::{Forwarder, Forwarding, Napi};
use crate::ebpf::load::{Tally, XdpMode};
use crate::host;
use crate::host::link::Link;
use crate::rules::Ruleset;
use crate::types::{DeviceId, DeviceKey, Direction};

/// The programs on one device.
#[derive(Debug)]
pub struct InKernel {
    programs: Vec<Forwarder>,
    targets: Vec<Target>,
    xdp: Xdp,
}

/// An outgoing device of the rules.
#[derive(Debug)]
struct Target {
    id: DeviceId,
    key: DeviceKey,
    ifindex: u32,
    /// Whether programs send to it.
    up: bool,
}

/// Programs that are loaded and not yet in force.
#[derive(Debug)]
pub struct Loaded {
    programs: Vec<Forwarding>,
    targets: Vec<Target>,
}

impl Served {
    /// Loads the programs of its hooks for these rules.
    ///
    /// # Errors
    /// [`AttachError`]: a rule that such a program cannot do, a device that is not there, or what the kernel says.
    pub fn load_programs(&self, ruleset: &Ruleset) -> Result<Loaded, AttachError> {
        let Some(id) = ruleset.device(&self.wanted.key) else {
            return Ok(Loaded { programs: Vec::new(), targets: Vec::new() });
        };
        let there =
            |direction| ruleset.hook(id, direction).is_some_and(|h| h.chains.values().any(|c| !c.filters.is_empty()));
        let running = |stage| matches!(&self.hold, Hold::InKernel(k) if k.runs(stage));
        let stages: &[Stage] = match self.way {
            Way::Xdp => &[Stage::Xdp],
            Way::TcBpf => &[Stage::Tc(Direction::Ingress), Stage::Tc(Direction::Egress)],
            Way::AfXdp { .. } | Way::AfPacket | Way::Raw | Way::Tap(_) | Way::Tc => &[],
        };
        let mut loaded = Loaded { programs: Vec::new(), targets: Vec::new() };
        for stage in stages {
            // One that ran stays, and counts what it passes: a bypass is no detach.
            if !there(stage.direction()) && !running(*stage) {
                continue;
            }
            let options = ForwardOptions { partial_checksums: self.veth };
            let object = forward(ruleset, id, *stage, options)?;
            let mut program = None;
            in_its_namespace(&self.wanted.key, || Forwarding::load(object).map(|p| program = Some(p)))?;
            loaded.programs.extend(program);
        }
        for program in &loaded.programs {
            for device in &program.object().devices {
                if !loaded.targets.iter().any(|t| t.id == *device) {
                    let key = ruleset.devices[device.index()].clone();
                    let link = host::link::find(&key)?;
                    loaded.targets.push(Target {
                        id: *device,
                        key,
                        ifindex: link.ifindex,
                        up: link.up && link.carrier,
                    });
                }
            }
        }
        for target in &loaded.targets {
            set_target(&loaded.programs, target)?;
        }
        Ok(loaded)
    }
}

fn set_target<'a>(programs: impl IntoIterator<Item = &'a Forwarding>, target: &Target) -> Result<(), AttachError> {
    let ifindex = if target.up { target.ifindex } else { 0 };
    let programs: Vec<&Forwarding> = programs.into_iter().collect();
    in_its_namespace(&target.key, || programs.iter().try_for_each(|p| p.set_device(target.id, ifindex)))
}

impl InKernel {
    /// Nothing attached yet.
    #[must_use]
    pub fn new(xdp: Xdp) -> Self {
        Self { programs: Vec::new(), targets: Vec::new(), xdp }
    }

    fn runs(&self, stage: Stage) -> bool {
        self.programs.iter().any(|p| p.active().object().stage == stage)
    }

    /// How its programs are attached.
    #[must_use]
    pub fn mode(&self) -> String {
        match self.programs.as_slice() {
            [] => "in the kernel (transmit only)".to_owned(),
            programs => {
                let mut modes: Vec<&str> = programs.iter().map(Forwarder::mode).collect();
                modes.dedup();
                format!("in the kernel ({})", modes.join(", "))
            }
        }
    }

    /// Puts loaded programs in force: in the place of those at the same hook, or where there were none.
    ///
    /// # Errors
    /// [`AttachError::Program`]; what was in force stays.
    pub fn commit(&mut self, key: &DeviceKey, ifindex: u32, loaded: Loaded) -> Result<(), AttachError> {
        let mode = match self.xdp {
            Xdp::Native => XdpMode::Native,
            Xdp::Generic => XdpMode::Generic,
        };
        for program in loaded.programs {
            let stage = program.object().stage;
            let old = self.programs.iter_mut().find(|p| p.active().object().stage == stage);
            let mut new = None;
            in_its_namespace(key, || match (old, stage) {
                (Some(old), _) => old.replace(program),
                (None, Stage::Xdp) => Forwarder::attach_xdp(program, ifindex, mode).map(|p| new = Some(p)),
                (None, Stage::Tc(_)) => Forwarder::attach_tc(program, ifindex).map(|p| new = Some(p)),
            })?;
            self.programs.extend(new);
        }
        self.targets = loaded.targets;
        Ok(())
    }

    /// Whether all of them are still on the device.
    #[must_use]
    pub fn in_place(&self) -> bool {
        self.programs.iter().all(Forwarder::is_attached)
    }

    /// Waits until replaced programs have finished their last frame.
    ///
    /// # Errors
    /// What the kernel says; not expected.
    pub fn finish(&mut self) -> Result<(), crate::sys::bpf::Error> {
        self.programs.iter_mut().try_for_each(Forwarder::finish)
    }

    /// See [`Forwarder::forget`].
    pub fn forget(&mut self) {
        self.programs.iter_mut().for_each(Forwarder::forget);
    }

    /// Detaches all. What they counted, to their last frame.
    #[must_use]
    pub fn end(self) -> Vec<Tally> {
        self.programs.into_iter().filter_map(|p| p.end().ok()).collect()
    }

    /// What each program counted.
    #[must_use]
    pub fn tallies(&self) -> Vec<Tally> {
        self.programs.iter().filter_map(|p| p.counters().ok()).collect()
    }

    /// Tells the programs which outgoing devices are up, where that changed.
    pub fn tend(&mut self, is_up: &dyn Fn(DeviceId) -> bool) {
        for target in &mut self.targets {
            let up = is_up(target.id);
            if up != target.up {
                target.up = up;
                // A device that is gone is out of the map already.
                let _gone = set_target(self.programs.iter().map(Forwarder::active), target);
            }
        }
    }
}

/// A veth takes redirected frames only if its peer has NAPI, which a program there gives it (`veth_xdp_xmit()`, drivers/net/veth.c).
///
/// # Errors
/// [`AttachError::Program`]; [`AttachError::NoPeer`] if its namespace has no name.
pub fn wake_peer(link: &Link, ruleset: &Ruleset) -> Result<Option<Napi>, AttachError> {
    let Some(peer) = link.peer.as_ref().filter(|_| link.kind == "veth") else { return Ok(None) };
    let Some(key) = &peer.key else { return Err(AttachError::NoPeer { key: link.key.clone() }) };
    let own = ruleset.device(key).and_then(|id| ruleset.hook(id, Direction::Ingress));
    if own.is_some_and(|h| h.chains.values().any(|c| !c.filters.is_empty())) {
        // It gets a program of its own.
        return Ok(None);
    }
    let mut napi = None;
    in_its_namespace(key, || Napi::attach(peer.ifindex).map(|n| napi = n))?;
    Ok(napi)
}

/// Attaches what a device's peer needs to take what programs send to the device. What is there stays.
///
/// # Errors
/// [`AttachError`].
pub fn wake_device(served: &mut Served, ruleset: &Ruleset) -> Result<(), AttachError> {
    if served.way == Way::Xdp && served.wanted.transmit && served.napi.is_none() {
        served.napi = wake_peer(&host::link::find(&served.wanted.key)?, ruleset)?;
    }
    Ok(())
}

/// Attaches the programs of a device whose rules run in the kernel: they take frames at once, so devices that they send to come first. What
/// is there stays.
///
/// # Errors
/// [`AttachError`].
pub fn attach_programs(served: &mut Served, ruleset: &Ruleset, config: &Config) -> Result<(), AttachError> {
    if !served.way.is_in_kernel() || !served.has_hooks() || !matches!(served.hold, Hold::Nothing) {
        return Ok(());
    }
    if served.way == Way::Tc {
        served.hold = Hold::Tc(Box::new(KernelTc::install(&served.wanted.key, ruleset)?));
    } else {
        let loaded = served.load_programs(ruleset)?;
        let mut programs = InKernel::new(config.device(&served.wanted.key).xdp);
        programs.commit(&served.wanted.key, served.ifindex, loaded)?;
        served.hold = Hold::InKernel(Box::new(programs));
    }
    Ok(())
}

/// All devices are served by workers, or all by the same kind of program.
///
/// # Errors
/// [`ChoiceError::Mixed`].
pub fn check_mixed(key: &DeviceKey, choice: &Choice, served: &[Served]) -> Result<(), AttachError> {
    if let Some(other) = served.iter().find(|s| s.way.is_in_kernel() || choice.way.is_in_kernel()) {
        if other.way != choice.way {
            let how = |way: &Way| if way.is_in_kernel() { "in the kernel" } else { "by workers" };
            let (one, two) = (
                how(&choice.way),
                if one_kind(&other.way, &choice.way) { "by another kind of program" } else { how(&other.way) },
            );
            return Err(
                ChoiceError::Mixed { device: key.to_string(), one, other: other.wanted.key.to_string(), two }.into()
            );
        }
    }
    Ok(())
}

fn one_kind(one: &Way, other: &Way) -> bool {
    one.is_in_kernel() && other.is_in_kernel()
}
