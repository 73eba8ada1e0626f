//! A running forwarder: devices, workers, rules, counters, and what can be asked of it. It prints nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::attach::AttachError;
use super::ports::{Rules, generations};
use super::served::{Hold, Served};
use super::status::{PortStatus, WorkerStatus};
use super::tend::Absent;
use super::watch::Watch;
use super::watching::{Watching, end_all};
use crate::app::config::{Config, Deliver, Poll};
use crate::app::rules::{HostDevices, RulesError, Runnable, load};
use crate::host;
use crate::plan::Plan;
use crate::rules::Counters;
use crate::tc::{Note, Store};
use crate::types::{DeviceKey, Direction};
use crate::worker::{Idle, Pool, WorkerError, monotonic_ms};

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
    /// Nothing to bypass.
    #[error("{key} has no ingress filters; those that have: {others}")]
    NoFilters {
        /// The device.
        key: DeviceKey,
        /// Which have.
        others: String,
    },
    /// `auto` found none.
    #[error("{modes}")]
    NoMode {
        /// All of them, and why not.
        modes: String,
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
pub(super) const SETTLING: std::time::Duration = std::time::Duration::from_millis(5);

/// See the file's head.
#[derive(Debug)]
pub struct Running {
    /// The devices, with their programs and ports.
    pub served: Vec<Served>,
    /// The threads.
    pub pool: Pool,
    /// The rules.
    pub rules: Arc<Runnable>,
    /// What front end and checks had to say about the rules: file and note.
    pub notes: Vec<(String, Note)>,
    pub(super) config: Config,
    /// The mode is ours to choose: see `auto`.
    pub(super) auto: bool,
    /// What replaced generations of rules counted.
    pub(super) retired: Counters,
    /// What ports did that are gone: by worker and device.
    pub(super) past: BTreeMap<(usize, String), PortStatus>,
    /// Taps that stand in for devices, as far as known.
    pub(super) taps: BTreeMap<String, DeviceKey>,
    devices: HostDevices,
    pub(super) generation: u64,
    pub(super) up: Arc<[AtomicBool]>,
    pub(super) watch: Watch,
    /// The devices that are watched, in the order of `up`.
    watched: Vec<DeviceKey>,
    /// Devices that rules want and that are not served.
    pub(super) absent: BTreeMap<DeviceKey, Absent>,
    /// When devices were last looked after.
    pub(super) tended: Instant,
    /// Traces and captures.
    pub(super) watching: Vec<Watching>,
    /// Which number the next who wants times gets, if it is free.
    pub(super) next_timing: usize,
    /// When it started, on the counters' clock, in ms.
    pub started_ms: u64,
    /// It keeps the state of tc and touches no device.
    pub state_only: bool,
    /// Which devices the state is about, to notice when one of them is gone and another has its name.
    pub(super) seen: HashMap<DeviceKey, host::link::Identity>,
    /// Devices of which a rules file says something.
    pub(super) of_files: BTreeSet<DeviceKey>,
}

impl Running {
    /// Starts a forwarder with these rules; without any it serves no device until it is given some.
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
        let state_only = config.state_only;
        let rules = Runnable::new(store, BTreeSet::new(), !state_only)?;
        let nothing = Runnable::new(Store::new(), BTreeSet::new(), !state_only)?;
        let idle = match config.workers.poll {
            Poll::Adaptive => Idle::Adaptive,
            Poll::Busy => Idle::Busy,
        };
        let mut running = Self {
            served: Vec::new(),
            pool: Pool::new(idle),
            rules: Arc::new(nothing),
            notes,
            config: config.clone(),
            auto: super::auto::chooses(config),
            retired: Counters::new(0),
            past: BTreeMap::new(),
            taps: config.taps.clone(),
            devices,
            generation: 0,
            up: Arc::new([]),
            watch: Watch::start().map_err(host::HostError::io("watching the devices"))?,
            watched: Vec::new(),
            absent: BTreeMap::new(),
            tended: Instant::now(),
            watching: Vec::new(),
            next_timing: 0,
            started_ms,
            state_only,
            seen: HashMap::new(),
            of_files: named(&rules.store),
        };
        match running.put_in_force_somehow(&Arc::new(rules), true, false) {
            Ok(()) => Ok(running),
            Err(error) => {
                drop(running.stop());
                Err(error)
            }
        }
    }

    /// What the user should know of this way of forwarding, beyond the rules themselves.
    #[must_use]
    pub fn own_notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for device in &self.served {
            let key = &device.wanted.key;
            if device.wanted.egress_rules && !device.way.is_in_kernel() {
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
            all.merge(&worker.shared.rules.load().counts(), &self.rules.ruleset);
        }
        self.add_programs(&mut all);
        all
    }

    /// What the programs counted of frames that they left to the kernel.
    fn add_programs(&self, counters: &mut Counters) {
        for device in &self.served {
            for tally in device.tallies() {
                counters.merge(&tally, &self.rules.ruleset);
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
        let rules = self.rules.with_bypassed(bypassed);
        self.put_in_force(&Arc::new(rules), false, &BTreeSet::new())
    }

    /// Replaces all rules; their counters start at zero, and no device is bypassed any more.
    ///
    /// # Errors
    /// [`ForwardError`]; the old rules stay in force then.
    pub fn reload(&mut self, files: &[(String, String)]) -> Result<Vec<(String, Note)>, ForwardError> {
        let (store, notes) = load(files, &self.devices, monotonic_ms())?;
        let rules = Runnable::new(store, BTreeSet::new(), !self.state_only)?;
        let of_files = named(&rules.store);
        self.expect_back();
        self.put_in_force_somehow(&Arc::new(rules), true, true)?;
        self.of_files = of_files;
        Ok(notes)
    }

    /// Puts a changed copy of the state in force; counters of what is still there go on.
    ///
    /// # Errors
    /// [`ForwardError`]; the old state stays in force then.
    pub fn change(&mut self, store: Arc<Store>) -> Result<(), ForwardError> {
        self.expect_back();
        let rules = Runnable::new(store, self.rules.bypassed.clone(), !self.state_only)?;
        self.put_in_force_somehow(&Arc::new(rules), false, false)
    }

    /// Forgets the state of devices that are gone, as the kernel does; true if there was any. What a rules file says of a device is for
    /// every device of this name: it stays.
    pub fn forget_gone(&mut self, store: &mut Arc<Store>) -> bool {
        let keys: Vec<DeviceKey> = store.states().map(|(_, key, _)| key.clone()).collect();
        let mut forgotten = false;
        // What is known of a device without state is not of the one that may have its name next.
        self.seen.retain(|key, _| keys.contains(key));
        for key in keys.into_iter().filter(|key| self.state_only || !self.of_files.contains(key)) {
            let now = host::link::identity(&key);
            let same = self.seen.get(&key).is_none_or(|seen| now.as_ref() == Some(seen));
            if !same {
                Arc::make_mut(store).forget_device(&key);
                forgotten = true;
            }
            match now {
                Some(now) => drop(self.seen.insert(key, now)),
                None => drop(self.seen.remove(&key)),
            }
        }
        forgotten
    }

    /// The state in force.
    #[must_use]
    pub fn store(&self) -> Arc<Store> {
        Arc::clone(&self.rules.store)
    }

    /// Takes the state out, to be changed and [put back](Running::put_store). For a state without forwarding.
    pub fn take_store(&mut self) -> Arc<Store> {
        std::mem::take(&mut Arc::make_mut(&mut self.rules).store)
    }

    /// See [`Running::take_store`].
    pub fn put_store(&mut self, store: Arc<Store>) {
        Arc::make_mut(&mut self.rules).store = store;
    }

    /// The devices that commands can name, as they are now.
    #[must_use]
    pub fn devices(&self) -> HostDevices {
        self.devices.afresh()
    }

    /// Detaches the programs, so that the kernel has all frames again, lets the workers finish what they have, and ends them.
    ///
    /// It is a bypass of everything: what was steered is still forwarded, what taps see from then on is the kernel's alone.
    #[must_use]
    pub fn stop(mut self) -> Stopped {
        let in_force: Vec<_> = self.pool.workers.iter().map(|w| w.shared.rules.load_full()).collect();
        let id = self.generation + 1;
        let all = self.rules.ruleset.devices.iter().cloned().collect();
        let mut changes = Vec::new();
        if let Ok((ruleset, plan)) = self.rules.with_bypassed(all).compile() {
            let tokens = in_force.first().map(|generation| generation.tokens.clone()).unwrap_or_default();
            self.served.iter_mut().for_each(Served::expect_change);
            let rules = Rules { id, ruleset: &ruleset, plan: &plan, up: &self.up, tokens_before: &tokens };
            // Behind a tap: taking a program off takes milliseconds, one that drops nothing is in its place at once.
            let behind = |s: &Served| matches!(s.hold, Hold::Behind(_)).then(|| s.prepare(&ruleset).ok()).flatten();
            changes = self.served.iter().map(behind).collect();
            // A worker that does not answer is ended all the same, below.
            let _stuck = self.pool.publish(generations(&rules, self.pool.workers.len(), &self.served));
        }
        let mut changes = changes.into_iter();
        for served in &mut self.served {
            served.seam.begin();
            if changes.next().flatten().is_none_or(|change| served.commit(change).is_err()) {
                served.detach().iter().for_each(|tally| self.retired.merge(tally, &self.rules.ruleset));
            }
            served.seam.end();
        }
        self.served.iter_mut().for_each(|served| drop(served.detach()));
        std::thread::sleep(SETTLING);
        let Self { served, pool, rules, past, mut retired, watching, .. } = self;
        let (ended, outstanding) = pool.stop();
        end_all(&watching);
        in_force.iter().for_each(|generation| retired.merge(&generation.counts(), &rules.ruleset));
        let workers = ended.iter().enumerate();
        let workers = workers.map(|(index, (shared, _))| super::status::worker(index, shared, &served, &past));
        let outstanding =
            ended.iter().map(|(_, ended)| ended.map(|e| e.outstanding)).sum::<Option<usize>>().map(|n| n + outstanding);
        Stopped { rules, counters: retired, workers: workers.collect(), outstanding, watching }
    }

    /// The cores of this many workers: as configured, else the last ones that the process may use; they repeat if there are too few.
    pub(super) fn cores(&self, workers: usize) -> Vec<usize> {
        let configured = &self.config.workers.cores;
        let allowed: Vec<usize> = if configured.is_empty() {
            core_affinity::get_core_ids().unwrap_or_default().iter().rev().map(|c| c.id).collect()
        } else {
            configured.clone()
        };
        (0..workers).map(|w| allowed.get(w % allowed.len().max(1)).copied().unwrap_or(0)).collect()
    }

    /// Which devices of these rules are up, kept true from now on.
    pub(super) fn watch(&mut self, devices: &[DeviceKey]) {
        // Behind the rules' own devices: the taps that stand in for some.
        let keys: Vec<DeviceKey> = devices.iter().chain(self.taps.values()).cloned().collect();
        if keys != self.watched {
            let stand_ins = self.taps.keys().map(|name| DeviceKey::local(name)).collect();
            self.up = self.watch.set(&keys, stand_ins);
            self.watched = keys;
        }
    }

    /// A plan without rules, for workers without ports.
    pub(super) fn idle_plan() -> Result<Arc<Plan>, ForwardError> {
        let plan = Plan::compile(&crate::rules::Ruleset::default()).map_err(RulesError::from)?;
        Ok(Arc::new(plan))
    }
}

/// What is left of a forwarder that ended.
pub struct Stopped {
    /// The rules.
    pub rules: Arc<Runnable>,
    /// The counters, as of the end.
    pub counters: Counters,
    /// What each worker did in all.
    pub workers: Vec<WorkerStatus>,
    /// Frames that nobody owns any more and that were not given back, over all workers; `None` if a worker panicked.
    pub outstanding: Option<usize>,
    /// Traces and captures that were running.
    pub(super) watching: Vec<Watching>,
}

/// The devices that have any state.
fn named(store: &Store) -> BTreeSet<DeviceKey> {
    store.states().map(|(_, key, _)| key.clone()).collect()
}
