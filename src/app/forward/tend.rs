//! Looking after served devices: what happens to one of them is noticed, told, and recovered from, and the others go on. It changes no
//! device that is not served.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::choice::Way;
use super::running::{ForwardError, Running};
use super::served::{Hold, Served};
use super::watch::{Found, Watch};
use crate::app::rules::Runnable;
use crate::host;
use crate::types::{DeviceId, DeviceKey};

/// The longest time between two looks at what no event tells of: programs, queues, transmission.
const LOOK: Duration = Duration::from_millis(500);
/// How often a device that cannot be served is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How long nothing may leave by a device that is up and has something to send.
const STALL_MAX: Duration = Duration::from_secs(2);

/// Why a device that rules want is not served.
#[derive(Clone, Debug)]
pub struct Absent {
    /// For people.
    pub reason: String,
    /// The device is not there.
    pub(super) gone: bool,
    /// When it was last tried to serve it.
    tried: Instant,
}

/// What may happen to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trouble {
    /// It is not there any more; why.
    Gone(&'static str),
    /// It has another name.
    Renamed(String),
    /// It must be opened anew; why.
    Reopen(String),
}

/// When something last left by a device.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stall {
    sent: u64,
    since: Option<Instant>,
}

impl Stall {
    /// With what was sent so far, and whether something waits to be sent. True: nothing has left for too long.
    fn look(&mut self, sent: u64, waits: bool, now: Instant) -> bool {
        if !waits || sent != self.sent {
            *self = Self { sent, since: None };
            return false;
        }
        now.duration_since(*self.since.get_or_insert(now)) > STALL_MAX
    }
}

impl Running {
    /// Looks what became of the devices, and does something about it. What happened, line by line; mostly nothing.
    pub fn tend(&mut self) -> Vec<String> {
        self.tell_programs();
        let changed = self.watch.has_changed();
        if self.state_only || (!changed && self.tended.elapsed() < LOOK) {
            return Vec::new();
        }
        self.tended = Instant::now();
        let mut said = Vec::new();
        let mut troubles = BTreeMap::new();
        for served in &mut self.served {
            if let Some(trouble) = look(served, &self.watch, &self.config, &mut said) {
                troubles.insert(served.wanted.key.clone(), trouble);
            }
        }
        for (key, trouble) in &troubles {
            if let Trouble::Renamed(name) = trouble {
                self.renamed(key, name, &mut said);
            }
        }
        self.gone(&troubles, &mut said);
        for (key, trouble) in troubles {
            if let Trouble::Reopen(why) = trouble {
                self.reopen(&key, why, &mut said);
            }
        }
        self.try_again(changed, &mut said);
        said
    }

    /// Tells programs that forward by themselves which devices are up.
    fn tell_programs(&mut self) {
        let up = &self.up;
        let is_up = |id: DeviceId| up.get(id.index()).is_none_or(|up| up.load(Ordering::Relaxed));
        for device in &mut self.served {
            if let Hold::InKernel(programs) = &mut device.hold {
                programs.tend(&is_up);
            }
        }
    }

    /// A device has another name: it keeps its filters, as in the kernel, and its sockets and programs.
    fn renamed(&mut self, old: &DeviceKey, name: &str, said: &mut Vec<String>) {
        let new = DeviceKey::new(old.netns.as_deref(), name);
        said.push(format!("{old} is named {new} now"));
        let mut store = Arc::clone(&self.rules.store);
        Arc::make_mut(&mut store).rename_device(old, &new);
        let other = |key: &DeviceKey| if key == old { new.clone() } else { key.clone() };
        let bypassed: BTreeSet<DeviceKey> = self.rules.bypassed.iter().map(other).collect();
        self.of_files = self.of_files.iter().map(other).collect();
        if let Some(identity) = self.seen.remove(old) {
            self.seen.insert(new.clone(), identity);
        }
        for served in self.served.iter_mut().filter(|served| served.wanted.key == *old) {
            served.wanted.key = new.clone();
            served.locked = new.clone();
        }
        self.follow_name(old, &new);
        let rules = Runnable::new(store, bypassed, true).map_err(ForwardError::from);
        if let Err(error) = rules.and_then(|rules| self.put_in_force(&Arc::new(rules), false, &BTreeSet::new())) {
            said.push(format!("{new}: {error}"));
        }
    }

    /// Devices are gone: the kernel forgets what was on them. What a rules file says is for every device of the name: it stays, and the
    /// device is served again when there is one.
    fn gone(&mut self, troubles: &BTreeMap<DeviceKey, Trouble>, said: &mut Vec<String>) {
        let mut store = Arc::clone(&self.rules.store);
        let mut any = false;
        for (key, trouble) in troubles {
            let Trouble::Gone(why) = trouble else { continue };
            any = true;
            said.push(format!("{key}: {why}; it is not served any more, the others are"));
            if !self.of_files.contains(key) {
                Arc::make_mut(&mut store).forget_device(key);
            }
            self.leave_out(key, (*why).to_owned(), true);
        }
        if !any {
            return;
        }
        let bypassed = self.rules.bypassed.clone();
        let rules = Runnable::new(store, bypassed, true).map_err(ForwardError::from);
        if let Err(error) = rules.and_then(|rules| self.put_in_force(&Arc::new(rules), false, &BTreeSet::new())) {
            said.push(format!("the rules without what is gone: {error}"));
        }
    }

    fn leave_out(&mut self, key: &DeviceKey, reason: String, gone: bool) {
        self.absent.insert(key.clone(), Absent { reason, gone, tried: Instant::now() });
    }

    /// Closes a device and opens it anew.
    fn reopen(&mut self, key: &DeviceKey, why: String, said: &mut Vec<String>) {
        said.push(format!("{key}: {why}; it is opened anew"));
        self.leave_out(key, why, false);
        let rules = Arc::clone(&self.rules);
        if let Err(error) = self.put_in_force(&rules, false, &BTreeSet::new()) {
            said.push(format!("{key}: {error}"));
        }
        self.serve_again(key, said);
    }

    /// Tries to serve what is not served.
    fn try_again(&mut self, changed: bool, said: &mut Vec<String>) {
        let due = |absent: &Absent| changed || absent.tried.elapsed() > TRY_AGAIN;
        let keys: Vec<DeviceKey> = self.absent.iter().filter(|(_, a)| due(a)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            let link = match self.taps.get(&key.name).filter(|_| key.netns.is_none()) {
                Some(tap) => self.watch.named(tap),
                None => self.watch.named(&key),
            };
            if matches!(link, Found::There(link) if link.up) {
                self.serve_again(&key, said);
            }
        }
    }

    fn serve_again(&mut self, key: &DeviceKey, said: &mut Vec<String>) {
        let Some(before) = self.absent.remove(key) else { return };
        let rules = Arc::clone(&self.rules);
        match self.put_in_force(&rules, false, &BTreeSet::new()) {
            Ok(()) => {
                if let Some(served) = self.served.iter().find(|served| served.wanted.key == *key) {
                    said.push(format!("{key} is served again: {}", served.mode_in_use()));
                }
            }
            Err(error) => {
                let reason = error.to_string();
                if reason != before.reason {
                    said.push(format!("{key} cannot be served: {reason}; it is tried again"));
                }
                self.leave_out(key, reason, false);
            }
        }
    }

    /// Devices that were gone and are there again are served with the next change.
    pub(super) fn expect_back(&mut self) {
        let watch = &self.watch;
        self.absent.retain(|key, absent| !(absent.gone && matches!(watch.named(key), Found::There(link) if link.up)));
    }
}

/// What is the matter with a device, if anything is.
fn look(
    served: &mut Served,
    watch: &Watch,
    config: &crate::app::config::Config,
    said: &mut Vec<String>,
) -> Option<Trouble> {
    let key = &served.wanted.key;
    let link = match watch.find(served.locked.netns.as_deref(), served.netns, served.ifindex) {
        Found::Unknown => return None,
        Found::NoNamespace => return Some(Trouble::Gone("its network namespace is gone")),
        Found::Gone => return Some(Trouble::Gone("the device is gone")),
        Found::There(link) => link,
    };
    if link.name != served.locked.name {
        return Some(match served.way {
            Way::Tap(_) => Trouble::Gone("the tap that stood in for it has another name"),
            Way::AfXdp { .. } | Way::AfPacket | Way::Raw | Way::Xdp | Way::TcBpf | Way::Tc => {
                Trouble::Renamed(link.name)
            }
        });
    }
    if link.up != served.up {
        served.up = link.up;
        said.push(format!("{key} is {}", if link.up { "up again" } else { "down, or has no carrier" }));
    }
    if !served.program_in_place() {
        return Some(Trouble::Reopen("somebody took its program off".to_owned()));
    }
    if link.mtu != served.mtu {
        match served.way {
            // Its buffers have room for whatever the kernel lets through to it.
            Way::AfXdp { .. } | Way::Xdp | Way::TcBpf | Way::Tc => served.mtu = link.mtu,
            Way::AfPacket | Way::Raw | Way::Tap(_) => {
                return Some(Trouble::Reopen(format!("its MTU is {} now", link.mtu)));
            }
        }
    }
    if let (Way::AfXdp { .. }, None) = (&served.way, &key.netns) {
        let queues = config.device(key).queues.unwrap_or(usize::MAX).min(host::link::queues_of(&key.name));
        if queues != served.queues {
            return Some(Trouble::Reopen(format!("it has {queues} queues now")));
        }
    }
    let (mut sent, mut waiting) = (0, 0);
    for port in &served.ports {
        let stats = port.at.cells.port();
        sent += stats.tx_frames.saturating_sub(stats.unsent);
        waiting += stats.unsent;
    }
    let stalls = served.stall.look(sent, waiting > 0 && link.up, Instant::now());
    stalls.then(|| Trouble::Reopen(format!("{waiting} frames wait, and none has left for {STALL_MAX:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_something_that_waits_while_nothing_leaves() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut stall = Stall::default();
        assert!(!stall.look(5, true, at(0)) && !stall.look(5, true, at(1)) && !stall.look(5, true, at(2000)));
        assert!(stall.look(5, true, at(2002)));
        assert!(!stall.look(6, true, at(9000)), "one has left");
        assert!(!stall.look(6, true, at(9500)) && !stall.look(6, false, at(20_000)), "none waits");
        assert!(!stall.look(6, true, at(20_001)) && stall.look(6, true, at(22_002)));
    }
}
