//! Other rules, and other devices with them, for a running forwarder: all of it or nothing. It decides nothing about a frame.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::attach::{AttachError, attach, drop_behind, falls_back, steer_device};
use super::choice::{Wanted, Way, stand_ins, wanted};
use super::inkernel::{attach_programs, wake_device};
use super::ports::{Rules, forget_seen, generations, missing, open, workers};
use super::running::{ForwardError, Running, SETTLING};
use super::served::{Change, Hold, Role, Served, ServedPort};
use crate::app::config::{Deliver, Mode};
use crate::app::rules::Runnable;
use crate::host;
use crate::rules::{Counters, Ruleset};
use crate::types::DeviceKey;
use crate::worker::{AllTokens, PortRef};

/// Ethernet header and two tags, beside the MTU.
const HEADERS_LEN: usize = 22;

/// What devices were like, to take a change back.
struct Before(Vec<(Wanted, usize, bool)>);

impl Running {
    /// New rules for workers and programs, in an order that loses no frame:
    ///
    /// 1. what may fail: programs are loaded, new devices are chosen, locked and opened; the workers get their ports, which receive nothing;
    /// 2. workers take the rules (they still know the old ones for what was steered by them), then the programs, and new devices are let in;
    /// 3. the old rules go, then what no rule needs any more.
    ///
    /// Devices of `without`, and those that are absent, are not served, whatever the rules say.
    ///
    /// # Errors
    /// [`ForwardError`]; the old rules stay in force then, and no device is served that was not.
    pub(super) fn put_in_force(
        &mut self,
        rules: &Arc<Runnable>,
        from_zero: bool,
        without: &BTreeSet<DeviceKey>,
    ) -> Result<(), ForwardError> {
        let (ruleset, plan) = rules.compile()?;
        let mut wanted = if self.state_only { Vec::new() } else { self.wanted(&rules.ruleset) };
        wanted.retain(|w| !without.contains(&w.key) && !self.absent.contains_key(&w.key));
        self.find_stand_ins(&wanted, &rules.ruleset)?;
        let changes: Vec<Change> = self.served.iter().map(|s| s.prepare(&ruleset)).collect::<Result<_, _>>()?;
        let before = self.before();
        let known = before.0.len();
        if let Err(error) = self.serve(&wanted, &ruleset) {
            self.take_back(before);
            return self.instead(error, rules, from_zero, without);
        }
        let frame_len_max = self.served.iter().map(|s| s.mtu as usize).max().unwrap_or(1500) + HEADERS_LEN;
        let grown = self.pool.grow(&self.cores(workers(&self.served)), frame_len_max, &Self::idle_plan()?);
        if let Err(error) = grown.map_err(ForwardError::from).and_then(|()| self.open_missing(&ruleset)) {
            self.take_back(before);
            return Err(error);
        }
        self.follow_ports();
        self.watch(&ruleset.devices);
        let id = self.generation + 1;
        let old: Vec<_> = self.pool.workers.iter().map(|w| w.shared.rules.load_full()).collect();
        let tokens = match old.first() {
            Some(generation) if !from_zero => generation.tokens.clone(),
            Some(_) | None => AllTokens::default(),
        };
        for (served, (_, _, without_program)) in self.served.iter_mut().zip(&before.0) {
            // One that has got its program just now is past it.
            if !without_program || matches!(served.hold, Hold::Nothing) {
                served.expect_change();
            }
        }
        let new = Rules { id, ruleset: &ruleset, plan: &plan, up: &self.up, tokens_before: &tokens };
        self.pool.publish(generations(&new, self.pool.workers.len(), &self.served))?;
        self.generation = id;
        let updated = self.update_programs((changes, known), from_zero, rules);
        // Frames that the old programs steered are in the rings by now, and every ring is looked at within this time.
        std::thread::sleep(SETTLING);
        self.pool.settle(id)?;
        if from_zero {
            self.retired = Counters::new(rules.ruleset.counter_words);
        } else {
            for generation in old {
                self.retired.merge(&generation.counts(), &rules.ruleset);
            }
        }
        self.rules = Arc::clone(rules);
        let all = self.wanted(&rules.ruleset);
        self.absent.retain(|key, _| all.iter().any(|w| w.key == *key));
        updated.and(self.let_go())
    }

    /// Which taps stand in for which devices, if that was not told.
    fn find_stand_ins(&mut self, wanted: &[Wanted], ruleset: &Ruleset) -> Result<(), ForwardError> {
        if self.config.deliver == Deliver::Tap && self.taps.is_empty() && !wanted.is_empty() {
            self.taps = stand_ins(&self.config, ruleset, &|key| host::link::exists(key).unwrap_or(false))?;
        }
        Ok(())
    }

    fn wanted(&self, ruleset: &Ruleset) -> Vec<Wanted> {
        wanted(ruleset, &|key| matches!(self.config.mode_of(key), Mode::TcBpf | Mode::Tc))
    }

    fn before(&self) -> Before {
        let one = |s: &Served| (s.wanted.clone(), s.ports.len(), matches!(s.hold, Hold::Nothing));
        Before(self.served.iter().map(one).collect())
    }

    /// Takes back what [`Running::serve`] and [`Running::open_missing`] did.
    fn take_back(&mut self, before: Before) {
        let mut ports = Vec::new();
        let mut new = self.served.split_off(before.0.len());
        for served in &mut new {
            // The program first: what it took would find no socket.
            served.hold = Hold::Nothing;
            ports.extend(served.ports.drain(..).map(|port| (served.wanted.key.to_string(), port)));
        }
        for (served, (wanted, port_count, without_program)) in self.served.iter_mut().zip(before.0) {
            served.wanted = wanted;
            ports.extend(served.ports.drain(port_count..).map(|port| (served.wanted.key.to_string(), port)));
            if without_program {
                served.hold = Hold::Nothing;
            }
        }
        // What is to be told is why the change failed; a worker that is stuck shows in the next one.
        let _stuck = self.remove_ports(ports);
    }

    /// What the served devices are wanted for now, and those that are new: chosen, locked, with their XDP programs. No frame is taken yet.
    fn serve(&mut self, wanted: &[Wanted], ruleset: &Ruleset) -> Result<(), AttachError> {
        for served in &mut self.served {
            let key = &served.wanted.key;
            let now = wanted.iter().find(|w| w.key == *key).cloned();
            // Not wanted any more: it stays until nobody can send by it.
            let none = Wanted { receive: false, transmit: false, egress_rules: false, ..served.wanted.clone() };
            served.wanted = now.unwrap_or(none);
            let without_program = matches!(served.hold, Hold::Nothing) && matches!(served.way, Way::AfXdp { .. });
            if served.wanted.receive && without_program {
                steer_device(served, ruleset, self.config.device(&served.wanted.key).xdp)?;
            }
            wake_device(served, ruleset)?;
        }
        for new in wanted {
            if !self.served.iter().any(|s| s.wanted.key == new.key) {
                let attached = attach(new.clone(), &self.served, ruleset, &self.config, &self.taps)?;
                self.served.push(attached);
            }
        }
        self.served.iter_mut().try_for_each(|served| attach_programs(served, ruleset, &self.config))
    }

    /// A device that only transmitted by AF_XDP, and cannot receive that way, is served anew, in another way.
    fn instead(
        &mut self,
        error: AttachError,
        rules: &Arc<Runnable>,
        from_zero: bool,
        without: &BTreeSet<DeviceKey>,
    ) -> Result<(), ForwardError> {
        let gains = |s: &&Served| {
            let may_fall_back = s.way == Way::AfXdp { may_fall_back: true } && matches!(s.hold, Hold::Nothing);
            may_fall_back && self.wanted(&rules.ruleset).iter().any(|w| w.key == s.wanted.key && w.receive)
        };
        let again: BTreeSet<DeviceKey> = self.served.iter().filter(gains).map(|s| s.wanted.key.clone()).collect();
        if again.is_empty() || !falls_back(&error) {
            return Err(error.into());
        }
        let old = Arc::clone(&self.rules);
        self.put_in_force(&old, false, &without.union(&again).cloned().collect())?;
        let changed = self.put_in_force(rules, from_zero, without);
        if changed.is_err() {
            self.put_in_force(&old, false, without)?;
        }
        changed
    }

    /// Opens the ports that are missing, attaches the programs behind taps, and gives the ports to the workers.
    fn open_missing(&mut self, ruleset: &Ruleset) -> Result<(), ForwardError> {
        let missing = missing(&self.served, self.pool.workers.len());
        let mut opened = Vec::new();
        for worker in 0..self.pool.workers.len() {
            let of_worker: Vec<_> = missing.iter().copied().filter(|m| m.worker == worker).collect();
            opened.push(open(&of_worker, &self.served, &self.config)?);
        }
        let new_taps: BTreeSet<usize> = missing.iter().map(|m| m.device).collect();
        for at in new_taps {
            let device = &mut self.served[at];
            if device.way.taps() && device.wanted.receive && matches!(device.hold, Hold::Nothing) {
                drop_behind(device, ruleset)?;
            }
        }
        for (worker, opened) in opened.into_iter().enumerate() {
            for mut group in opened {
                forget_seen(&mut group, &self.served);
                let (mut what, mut ports) = (Vec::new(), Vec::new());
                for (missing, port, socket) in group.ports {
                    what.push((missing, socket));
                    ports.push(port);
                }
                let refs = self.pool.add(worker, group.memory, ports)?;
                for ((missing, socket), at) in what.into_iter().zip(refs) {
                    self.served[missing.device].ports.push(ServedPort { role: missing.role, at, socket });
                }
            }
        }
        Ok(())
    }

    fn update_programs(
        &mut self,
        (changes, known): (Vec<Change>, usize),
        from_zero: bool,
        rules: &Runnable,
    ) -> Result<(), ForwardError> {
        let mut result = Ok(());
        let mut changes = changes.into_iter();
        for (at, device) in self.served.iter_mut().enumerate() {
            let change = changes.next().unwrap_or(Change::None);
            let expected = device.seam.is_ahead();
            if expected {
                device.seam.begin();
            }
            if device.has_hooks() {
                let done = device.commit(change).and_then(|()| device.admit());
                // A device that has just gone, or lost its program, is looked after by itself: see `tend`.
                if done.is_err() && (at >= known || device.program_in_place()) {
                    result = result.and(done);
                }
            } else {
                device.detach().iter().for_each(|tally| self.retired.merge(tally, &rules.ruleset));
            }
            if expected {
                device.await_stamped();
                device.seam.end();
            }
        }
        for device in &mut self.served {
            match &mut device.hold {
                Hold::Steering(steering) if from_zero => steering.forget(),
                Hold::InKernel(programs) if from_zero => programs.forget(),
                Hold::Tc(kernel) if from_zero => kernel.forget(),
                Hold::Steering(_) | Hold::InKernel(_) | Hold::Tc(_) | Hold::Behind(_) | Hold::Nothing => {}
            }
            result = result.and(device.finish());
        }
        result.map_err(ForwardError::from)
    }

    /// Gives up ports and devices that nothing needs any more.
    fn let_go(&mut self) -> Result<(), ForwardError> {
        let mut ports = Vec::new();
        for served in &mut self.served {
            let all = std::mem::take(&mut served.ports);
            let (needed, not): (Vec<_>, Vec<_>) = all.into_iter().partition(|port| needs(&served.wanted, port.role));
            served.ports = needed;
            let device = served.wanted.key.to_string();
            ports.extend(not.into_iter().map(|port| (device.clone(), port)));
        }
        let removed = self.remove_ports(ports);
        // Programs, then locks.
        self.served.retain(|served| served.has_hooks() || served.wanted.transmit);
        removed
    }
    /// Takes ports from their workers and keeps what they counted. Each comes with its device's name.
    fn remove_ports(&mut self, ports: Vec<(String, ServedPort)>) -> Result<(), ForwardError> {
        // Our own descriptors of sockets go first: with one of them open a queue stays bound.
        let ports: Vec<(String, PortRef)> = ports.into_iter().map(|(device, port)| (device, port.at)).collect();
        let refs: Vec<PortRef> = ports.iter().map(|(_, at)| at.clone()).collect();
        let removed = self.pool.remove(&refs);
        self.follow_ports();
        for (device, at) in ports {
            self.past.entry((at.worker, device)).or_default().add(&at.cells);
        }
        removed.map_err(ForwardError::from)
    }
}

/// Whether a port is needed for what is wanted of its device.
fn needs(wanted: &Wanted, role: Role) -> bool {
    match role {
        Role::Both => wanted.receive || wanted.transmit,
        Role::Receive => wanted.receive,
        Role::Transmit => wanted.transmit,
    }
}
