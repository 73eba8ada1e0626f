//! A running forwarder: devices, workers, rules, counters, and what can be asked of it. It prints nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::attach::{AttachError, Change, Hold, Served, attach_all, attach_behind};
use super::choice::{stand_ins, wanted};
use super::seats::{Layout, forget_seen, generations, open};
use super::watch::watch;
use super::watching::{Watching, end_all};
use crate::app::config::{Config, Deliver, Poll};
use crate::app::rules::{HostDevices, RulesError, Runnable, load};
use crate::host;
use crate::rules::Counters;
use crate::tc::{Note, Store};
use crate::types::{DeviceKey, Direction};
use crate::worker::{AllTokens, Idle, Pool, Seat, WorkerError, monotonic_ms};

/// Why the forwarder could not start, or not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The rules.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// Devices, programs, sockets.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The workers.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// New rules need a device that is not served.
    #[error(
        "{key}: the forwarder does not serve this device, and cannot begin to while it runs; start it anew with these rules"
    )]
    NotServed {
        /// The device.
        key: DeviceKey,
    },
    /// Nothing to bypass.
    #[error("{key} has no ingress filters; those that have: {others}")]
    NoFilters {
        /// The device.
        key: DeviceKey,
        /// Which have.
        others: String,
    },
    /// It is already so.
    #[error("{key} is {state} already")]
    Already {
        /// The device.
        key: DeviceKey,
        /// `bypassed` or `not bypassed`.
        state: &'static str,
    },
}

impl From<super::choice::ChoiceError> for ForwardError {
    fn from(error: super::choice::ChoiceError) -> Self {
        Self::Attach(error.into())
    }
}

impl From<host::HostError> for ForwardError {
    fn from(error: host::HostError) -> Self {
        Self::Attach(error.into())
    }
}

/// How long after a change of programs frames steered by the old ones may still wait in a ring.
const SETTLING: std::time::Duration = std::time::Duration::from_millis(5);

/// See the file's head.
#[derive(Debug)]
pub struct Running {
    /// The devices, with their programs.
    pub served: Vec<Served>,
    /// Which worker has which ports.
    pub layout: Layout,
    /// The threads.
    pub pool: Pool,
    /// The rules.
    pub rules: Runnable,
    /// What front end and checks had to say about the rules: file and note.
    pub notes: Vec<(String, Note)>,
    /// What replaced generations of rules counted.
    retired: Counters,
    devices: HostDevices,
    pub(super) generation: u64,
    pub(super) up: Arc<[AtomicBool]>,
    /// Traces and captures.
    pub(super) watching: Vec<Watching>,
    stop_watching: Arc<AtomicBool>,
    /// When it started, on the counters' clock, in ms.
    pub started_ms: u64,
    /// It keeps the state of tc and touches no device.
    pub state_only: bool,
    /// Which devices the state is about, to notice when one of them is gone and another has its name.
    seen: HashMap<DeviceKey, host::link::Identity>,
}

impl Running {
    /// Checks everything, attaches, starts the workers.
    ///
    /// # Errors
    /// [`ForwardError`]; nothing is left attached then.
    pub fn start(files: &[(String, String)], config: &Config) -> Result<Self, ForwardError> {
        let started_ms = monotonic_ms();
        let devices = HostDevices::new(config.deliver == Deliver::Tap);
        let (store, notes) = match files {
            [] => (Store::new(), Vec::new()),
            files => load(files, &devices, started_ms)?,
        };
        let rules = Runnable::new(store, BTreeSet::new(), !config.state_only)?;
        let taps = stand_ins(config, &rules.ruleset, &|key| host::link::exists(key).unwrap_or(false))?;
        let (ruleset, plan) = rules.compile()?;
        let wanted = if config.state_only { Vec::new() } else { wanted(&ruleset) };
        let mut served = attach_all(wanted, &ruleset, config, &taps)?;
        let layout = Layout::of(&served);
        let stop_watching = Arc::new(AtomicBool::new(false));
        let up = watch(&ruleset.devices, &stop_watching);
        let mut seats = Vec::new();
        let cores = cores(config, layout.workers());
        for (worker, rules) in
            generations(1, &ruleset, &plan, &layout, &served, &up, &AllTokens::default()).into_iter().enumerate()
        {
            let (pool, ports) = open(worker, &layout, &served, config)?;
            seats.push(Seat { core: cores[worker], pool, ports, rules });
        }
        attach_behind(&mut served, &ruleset)?;
        seats.iter_mut().for_each(|seat| forget_seen(&mut seat.pool, &mut seat.ports));
        let idle = match config.workers.poll {
            Poll::Adaptive => Idle::Adaptive,
            Poll::Busy => Idle::Busy,
        };
        let frame_len_max = served.iter().map(|s| s.mtu as usize).max().unwrap_or(1500) + 22;
        let pool = Pool::start(seats, idle, frame_len_max)?;
        let retired = Counters::new(ruleset.counter_words);
        let (generation, state_only) = (1, config.state_only);
        Ok(Self {
            served,
            layout,
            pool,
            rules,
            notes,
            retired,
            devices,
            generation,
            up,
            watching: Vec::new(),
            stop_watching,
            started_ms,
            state_only,
            seen: HashMap::new(),
        })
    }

    /// What the user should know of this way of forwarding, beyond the rules themselves.
    #[must_use]
    pub fn own_notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for device in &self.served {
            let key = &device.wanted.key;
            if device.wanted.egress_rules {
                notes.push(format!(
                    "{key} egress: these rules see what viscum transmits; what the host itself transmits does not cross them"
                ));
            }
        }
        notes
    }

    /// Whether all workers are alive.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.pool.workers.iter().all(crate::worker::Worker::is_alive)
    }

    /// All counters, as of now.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut all = self.retired.clone();
        all.now_ms = monotonic_ms();
        for worker in &self.pool.workers {
            all.merge(&worker.shared.rules.load().cells, &self.rules.ruleset);
        }
        self.add_programs(&mut all);
        all
    }

    /// What the programs counted of frames that they left to the kernel.
    fn add_programs(&self, counters: &mut Counters) {
        for device in &self.served {
            if let Hold::Steering(steering) = &device.hold {
                if let Ok(tally) = steering.counters() {
                    counters.merge(&tally, &self.rules.ruleset);
                }
            }
        }
    }

    /// Takes the ingress filters of a device away, or puts them back.
    ///
    /// # Errors
    /// [`ForwardError`]; nothing changed then.
    pub fn bypass(&mut self, key: &DeviceKey, on: bool) -> Result<(), ForwardError> {
        let with_filters: Vec<&DeviceKey> = self
            .rules
            .ruleset
            .hooks
            .iter()
            .filter(|h| h.direction == Direction::Ingress && h.chains.values().any(|c| !c.filters.is_empty()))
            .map(|h| &self.rules.ruleset.devices[h.device.index()])
            .collect();
        if !with_filters.contains(&key) {
            let others = with_filters.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(ForwardError::NoFilters { key: key.clone(), others });
        }
        let state = if on { "bypassed" } else { "not bypassed" };
        if self.rules.bypassed.contains(key) == on {
            return Err(ForwardError::Already { key: key.clone(), state });
        }
        let mut bypassed = self.rules.bypassed.clone();
        if on {
            bypassed.insert(key.clone());
        } else {
            bypassed.remove(key);
        }
        let rules = Runnable { store: self.rules.store.clone(), ruleset: self.rules.ruleset.clone(), bypassed };
        self.put_in_force(rules, false)
    }

    /// Replaces all rules; their counters start at zero, and no device is bypassed any more.
    ///
    /// # Errors
    /// [`ForwardError`]; the old rules stay in force then.
    pub fn reload(&mut self, files: &[(String, String)]) -> Result<Vec<(String, Note)>, ForwardError> {
        let (store, notes) = load(files, &self.devices, monotonic_ms())?;
        let rules = Runnable::new(store, BTreeSet::new(), !self.state_only)?;
        self.check_served(&rules)?;
        self.put_in_force(rules, true)?;
        Ok(notes)
    }

    fn check_served(&self, rules: &Runnable) -> Result<(), ForwardError> {
        if self.state_only {
            return Ok(());
        }
        for new in wanted(&rules.ruleset) {
            let served = self.served.iter().find(|s| s.wanted.key == new.key);
            if !served.is_some_and(|s| (s.wanted.receive || !new.receive) && (s.wanted.transmit || !new.transmit)) {
                return Err(ForwardError::NotServed { key: new.key });
            }
        }
        Ok(())
    }

    /// Puts a changed copy of the state in force; counters of what is still there go on.
    ///
    /// # Errors
    /// [`ForwardError`]; the old state stays in force then.
    pub fn change(&mut self, store: Store) -> Result<(), ForwardError> {
        let rules = Runnable::new(store, self.rules.bypassed.clone(), !self.state_only)?;
        self.check_served(&rules)?;
        self.put_in_force(rules, false)
    }

    /// Forgets the state of devices that are gone, as the kernel does. For a state without forwarding: served devices are watched.
    pub fn forget_gone(&mut self, store: &mut Store) {
        let keys: Vec<DeviceKey> = store.states().map(|(_, key, _)| key.clone()).collect();
        for key in keys {
            let now = host::link::identity(&key);
            let same = self.seen.get(&key).is_none_or(|seen| now.as_ref() == Some(seen));
            if !same {
                store.forget_device(&key);
            }
            match now {
                Some(now) => drop(self.seen.insert(key, now)),
                None => drop(self.seen.remove(&key)),
            }
        }
    }

    /// The devices that commands can name, as they are now.
    #[must_use]
    pub fn devices(&self) -> HostDevices {
        self.devices.afresh()
    }

    /// New rules for workers and programs, in an order that loses no frame:
    /// workers first (they still know the old rules for what was steered by them), then the programs, then the old rules go.
    fn put_in_force(&mut self, rules: Runnable, from_zero: bool) -> Result<(), ForwardError> {
        let (ruleset, plan) = rules.compile()?;
        let changes: Vec<Change> = self.served.iter().map(|s| s.prepare(&ruleset)).collect::<Result<_, _>>()?;
        if from_zero || ruleset.devices.len() != self.up.len() {
            let keys = &ruleset.devices;
            self.stop_watching.store(true, std::sync::atomic::Ordering::Relaxed);
            self.stop_watching = Arc::new(AtomicBool::new(false));
            self.up = watch(keys, &self.stop_watching);
        }
        let id = self.generation + 1;
        let old: Vec<_> = self.pool.workers.iter().map(|w| w.shared.rules.load_full()).collect();
        let tokens = match old.first() {
            Some(generation) if !from_zero => generation.tokens.clone(),
            Some(_) | None => AllTokens::default(),
        };
        let new = generations(id, &ruleset, &plan, &self.layout, &self.served, &self.up, &tokens);
        self.pool.publish(new)?;
        self.generation = id;
        let updated = self.update_programs(changes, id, from_zero);
        // Frames that the old programs steered are in the rings by now, and every ring is looked at within this time.
        std::thread::sleep(SETTLING);
        self.pool.settle(id)?;
        if from_zero {
            self.retired = Counters::new(rules.ruleset.counter_words);
        } else {
            for generation in old {
                self.retired.merge(&generation.cells, &rules.ruleset);
            }
        }
        self.rules = rules;
        updated
    }

    fn update_programs(&mut self, changes: Vec<Change>, id: u64, from_zero: bool) -> Result<(), ForwardError> {
        let mut result = Ok(());
        for (device, change) in self.served.iter_mut().zip(changes) {
            result = result.and(device.commit(change));
        }
        self.pool.switch(id);
        for device in &mut self.served {
            if let (Hold::Steering(steering), true) = (&mut device.hold, from_zero) {
                steering.forget();
            }
            result = result.and(device.finish());
        }
        result.map_err(ForwardError::from)
    }

    /// Detaches the programs, so that the kernel has all frames again, lets the workers finish what they have, and ends them.
    ///
    /// It is a bypass of everything: what was steered is still forwarded, what taps see from then on is the kernel's alone.
    #[must_use]
    pub fn stop(mut self) -> Stopped {
        self.stop_watching.store(true, std::sync::atomic::Ordering::Relaxed);
        let in_force: Vec<_> = self.pool.workers.iter().map(|w| w.shared.rules.load_full()).collect();
        let id = self.generation + 1;
        let nothing = Runnable {
            store: self.rules.store.clone(),
            ruleset: self.rules.ruleset.clone(),
            bypassed: self.rules.ruleset.devices.iter().cloned().collect(),
        };
        if let Ok((ruleset, plan)) = nothing.compile() {
            let tokens = in_force.first().map(|generation| generation.tokens.clone()).unwrap_or_default();
            let new = generations(id, &ruleset, &plan, &self.layout, &self.served, &self.up, &tokens);
            // A worker that does not answer is ended all the same, below.
            let _stuck = self.pool.publish(new);
        }
        let mut counters = self.retired.clone();
        self.add_programs(&mut counters);
        self.served.iter_mut().for_each(|s| s.hold = Hold::Nothing);
        self.pool.switch(id);
        std::thread::sleep(SETTLING);
        let Self { served, pool, layout, rules, watching, .. } = self;
        let ended = pool.stop();
        end_all(&watching);
        in_force.iter().for_each(|generation| counters.merge(&generation.cells, &rules.ruleset));
        Stopped { served, layout, rules, counters, ended, watching }
    }
}

/// What is left of a forwarder that ended.
pub struct Stopped {
    /// The devices.
    pub served: Vec<Served>,
    /// Which worker had which ports.
    pub layout: Layout,
    /// The rules.
    pub rules: Runnable,
    /// The counters, as of the end.
    pub counters: Counters,
    /// Each worker: what it shared, and how it ended (`None`: it panicked).
    pub ended: Vec<(Arc<crate::worker::Shared>, Option<crate::worker::Ended>)>,
    /// Traces and captures that were running.
    pub(super) watching: Vec<Watching>,
}

/// The cores of the workers: as configured, else the last ones that the process may use; they repeat if there are too few.
fn cores(config: &Config, workers: usize) -> Vec<usize> {
    let configured = &config.workers.cores;
    let allowed: Vec<usize> = if configured.is_empty() {
        core_affinity::get_core_ids().unwrap_or_default().iter().rev().map(|c| c.id).collect()
    } else {
        configured.clone()
    };
    (0..workers).map(|w| allowed.get(w % allowed.len().max(1)).copied().unwrap_or(0)).collect()
}
