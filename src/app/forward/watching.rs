//! Who watches the frames of a running forwarder: which workers copy what for whom, and the rules to explain it by. It prints nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::choice::Way;
use super::running::Running;
use crate::limits::{FRAME_HEADROOM, TAPS_MAX};
use crate::rules::Ruleset;
use crate::types::{Device, DeviceKey, DeviceKind, Topology};
use crate::worker::{Sight, Tap, Timing};

/// A watch and the devices that it is on, in the order of its interfaces.
#[derive(Debug)]
pub struct Watching {
    sight: Sight,
    devices: Vec<DeviceKey>,
}

/// The rules in force, and the devices as far as their meaning depends on them.
#[derive(Debug)]
pub struct InForce {
    /// What the workers call them.
    pub generation: u64,
    /// The rules.
    pub ruleset: Arc<Ruleset>,
    /// The devices, with the ruleset's ids. What they transmit leaves: nothing comes back from a veth's peer.
    pub topology: Topology,
}

impl Running {
    /// The served devices with this name; `any` for all.
    ///
    /// # Errors
    /// None has it, in words.
    pub fn watchable(&self, device: &str, netns: Option<&str>) -> Result<Vec<DeviceKey>, String> {
        let all = || self.served.iter().map(|s| s.wanted.key.clone());
        let wanted = DeviceKey::new(netns, device);
        let any = device == "any" && netns.is_none() && !self.served.is_empty();
        let found: Vec<DeviceKey> = all().filter(|key| any || *key == wanted).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let served = all().map(|key| key.to_string()).collect::<Vec<_>>().join(", ");
        let served = if served.is_empty() { "none".to_owned() } else { served };
        Err(format!(
            "{wanted}: this forwarder does not serve the device; it serves: {served} (of another namespace: -n NETNS)"
        ))
    }

    /// The longest frame that a watch on these devices may see, in bytes.
    #[must_use]
    pub fn frame_len_max(&self) -> usize {
        self.served.iter().map(|s| s.mtu as usize).max().unwrap_or(1500) + FRAME_HEADROOM
    }

    /// Lets the workers tell what is wanted of these devices.
    ///
    /// # Errors
    /// As many as can be are there already.
    pub fn begin_watch(&mut self, sight: Sight, devices: Vec<DeviceKey>) -> Result<(), String> {
        if self.watching.len() >= TAPS_MAX {
            return Err(format!(
                "{TAPS_MAX} traces, captures and latencies run already, which is the most; end one of them"
            ));
        }
        self.watching.push(Watching { sight, devices });
        self.tap_workers();
        Ok(())
    }

    /// As [`Running::begin_watch`], for the times that frames which these devices receive stay here.
    ///
    /// # Errors
    /// As there.
    pub fn begin_timing(&mut self, devices: Vec<DeviceKey>) -> Result<Arc<Timing>, String> {
        let used = |slot: usize| {
            let of = |w: &Watching| matches!(&w.sight, Sight::Times(timing) if timing.slot() == slot);
            self.watching.iter().any(of)
        };
        // One that has just become free may still be on frames that go from worker to worker: it is used again last.
        let slots = (0..TAPS_MAX).map(|n| (self.next_timing + n) % TAPS_MAX);
        let slot = slots.into_iter().find(|slot| !used(*slot)).unwrap_or(0);
        let timing = Arc::new(Timing::new(slot));
        self.begin_watch(Sight::Times(Arc::clone(&timing)), devices)?;
        self.next_timing = slot + 1;
        Ok(timing)
    }

    /// Ends what [`Running::begin_watch`] began.
    pub fn end_watch(&mut self, sight: &Sight) {
        self.watching.retain(|w| !w.sight.is(sight));
        self.tap_workers();
    }

    /// Those who watch a device that has another name now go on.
    pub(super) fn follow_name(&mut self, old: &DeviceKey, new: &DeviceKey) {
        for key in self.watching.iter_mut().flat_map(|w| &mut w.devices).filter(|key| *key == old) {
            key.clone_from(new);
        }
    }

    /// To be called when ports came or went: those who watch their devices go on.
    pub(super) fn follow_ports(&self) {
        if !self.watching.is_empty() {
            self.tap_workers();
        }
    }

    /// Tells every worker which of its ports are watched by whom.
    fn tap_workers(&self) {
        for (index, worker) in self.pool.workers.iter().enumerate() {
            let tap = |w: &Watching| Tap { sight: w.sight.clone(), interfaces: self.interfaces(&w.devices, index) };
            worker.shared.taps.set(self.watching.iter().map(tap).collect());
            worker.shared.wake();
        }
    }

    /// By the number of a worker's port: the position of its device among these.
    fn interfaces(&self, devices: &[DeviceKey], worker: usize) -> Box<[Option<usize>]> {
        let mut interfaces = Vec::new();
        for served in &self.served {
            let interface = devices.iter().position(|key| *key == served.wanted.key);
            for port in served.ports.iter().filter(|port| port.at.worker == worker) {
                interfaces.resize(interfaces.len().max(port.at.slot + 1), None);
                interfaces[port.at.slot] = interface;
            }
        }
        interfaces.into_boxed_slice()
    }

    /// How a device is served, and what of it cannot be seen here.
    #[must_use]
    pub fn how_served(&self, key: &DeviceKey) -> (&'static str, Option<&'static str>) {
        match self.served.iter().find(|s| s.wanted.key == *key).map(|s| &s.way) {
            Some(Way::AfXdp { .. }) => {
                ("af-xdp", Some("what no rule takes stays in the kernel and is not seen here; tcpdump sees that"))
            }
            Some(Way::AfPacket) => ("af-packet", None),
            Some(Way::Raw) => ("raw", None),
            Some(Way::Tap(_)) => ("tap", None),
            Some(Way::Xdp | Way::TcBpf | Way::Tc) => (
                "in the kernel",
                Some("the kernel forwards by itself; no worker sees a frame, so nothing is seen here"),
            ),
            None => ("not served", None),
        }
    }

    /// The rules in force.
    #[must_use]
    pub fn in_force(&self) -> InForce {
        let ruleset = self.rules.in_force();
        let device = |(index, key): (usize, &DeviceKey)| {
            let mut device = Device::assumed(key.clone());
            device.up = self.up.get(index).is_none_or(|up| up.load(Ordering::Relaxed));
            if let Some(served) = self.served.iter().find(|s| s.wanted.key == *key) {
                device = Device { mac: served.mac, mtu: served.mtu, kind: DeviceKind::Wire, ..device };
            }
            device
        };
        let topology = Topology { devices: ruleset.devices.iter().enumerate().map(device).collect() };
        InForce { generation: self.generation, ruleset, topology }
    }
}

/// Tells all that nothing more will come.
pub(super) fn end_all(watching: &[Watching]) {
    watching.iter().for_each(|w| w.sight.end());
}

impl super::Stopped {
    /// Waits, but not long, until those who watched have their last frames.
    pub fn let_watchers_end(&self) {
        const STEP: std::time::Duration = std::time::Duration::from_millis(5);
        for _ in 0..200 {
            if self.watching.iter().all(|w| w.sight.is_last()) {
                return;
            }
            std::thread::sleep(STEP);
        }
    }
}
