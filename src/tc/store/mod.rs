//! The state that the kernel would keep: qdiscs, chains, filters, handles, shared actions. It runs no frame and prints no listing.

mod actions;
mod bind;
mod block;
mod chains;
mod delete;
mod filters;
mod flower;
mod kinds;
mod marks;
mod qdiscs;
mod queues;
mod shared;
mod snapshot;
mod standalone;
mod u32;
mod u32_change;

pub use actions::{ActionSlot, ActionState};
pub use block::{Block, Body, Chain, Entry, Proto, ProtoKind};
use filters::Place;
pub use qdiscs::{BlockId, DeviceState, IngressKind, Qdisc};
pub use u32::{ListedTable, U32Common, U32Table};

use std::collections::{BTreeMap, HashMap};

use super::command::{Command, Operation, Word};
use super::error::TcError;
use super::listing;
use super::script::Line;
use crate::rules::{CounterSource, Counters};
use crate::types::{DeviceId, DeviceKey};

/// Which devices there are.
pub trait Devices {
    /// Whether this device exists now.
    fn exists(&self, key: &DeviceKey) -> bool;

    /// Whether this network namespace exists now; `true` where that cannot be known.
    fn has_namespace(&self, _netns: &str) -> bool {
        true
    }
}

/// Every device exists: for checks without a host.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnyDevice;

impl Devices for AnyDevice {
    fn exists(&self, _: &DeviceKey) -> bool {
        true
    }
}

/// What a command that worked says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// What tc prints to stdout.
    pub stdout: String,
    /// What tc prints to stderr, line by line.
    pub stderr: Vec<String>,
    /// What viscum has to say about it.
    pub notes: Vec<String>,
}

/// All tc state of all devices and namespaces that commands have named.
#[derive(Clone, Debug)]
pub struct Store {
    devices: Vec<DeviceKey>,
    device_ids: HashMap<DeviceKey, DeviceId>,
    /// Of devices, and of shared blocks: see [`Store::shared`].
    states: BTreeMap<DeviceId, DeviceState>,
    shared: HashMap<(Option<String>, u32), DeviceId>,
    next_shared: u32,
    auto_handle: u32,
    actions: actions::ActionTable,
    counter_words: u32,
    sequence: u64,
    filter_count: usize,
    now_ms: u64,
    line: usize,
    /// What the kernel says about a command that it takes.
    warnings: Vec<String>,
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// No qdisc, no filter.
    #[must_use]
    pub fn new() -> Self {
        Self {
            devices: Vec::new(),
            device_ids: HashMap::new(),
            states: BTreeMap::new(),
            shared: HashMap::new(),
            next_shared: 0,
            auto_handle: 0x8000_0000,
            actions: actions::ActionTable::default(),
            counter_words: 0,
            sequence: 0,
            filter_count: 0,
            now_ms: 1,
            line: 0,
            warnings: Vec::new(),
        }
    }

    /// Sets the clock that `installed` counts from: milliseconds, the same clock as the counters' times.
    pub fn set_now_ms(&mut self, now_ms: u64) {
        self.now_ms = now_ms.max(1);
    }

    /// Applies a line of a script and remembers its number for what it makes.
    ///
    /// # Errors
    /// What tc would say; the state is then as before.
    pub fn apply_line(&mut self, line: &Line, devices: &dyn Devices) -> Result<Applied, TcError> {
        let command = line.command.as_ref().map_err(Clone::clone)?;
        self.line = line.number;
        let result = self.apply(command, devices);
        self.line = 0;
        result
    }

    /// Applies a command. Listings that it asks for have all counters zero; see [`Store::apply_with`].
    ///
    /// # Errors
    /// What tc would say, with its exit code; the state is then as before.
    pub fn apply(&mut self, command: &Command, devices: &dyn Devices) -> Result<Applied, TcError> {
        self.apply_with(command, devices, &Counters::default())
    }

    /// As [`Store::apply`], with counters for listings.
    ///
    /// # Errors
    /// As [`Store::apply`].
    pub fn apply_with(
        &mut self,
        command: &Command,
        devices: &dyn Devices,
        counters: &dyn CounterSource,
    ) -> Result<Applied, TcError> {
        let netns = command.netns.as_deref();
        let known = |word: &Word| check_device(netns, word, devices);
        let mut applied = Applied { stderr: command.stderr.clone(), ..Applied::default() };
        match &command.operation {
            Operation::Print(text) => applied.stdout.clone_from(text),
            Operation::Qdisc(qdisc) => {
                qdisc.device.as_ref().map_or(Ok(()), known)?;
                applied.notes.extend(self.qdisc(netns, qdisc)?);
            }
            Operation::QdiscShow(show) => {
                show.device.as_ref().map_or(Ok(()), known)?;
                applied.stdout = self.list_qdiscs(netns, show);
            }
            Operation::Filter(filter) => {
                filter.device.as_ref().map_or(Ok(()), known)?;
                check_indev(netns, filter.kind.as_ref(), devices)?;
                let result = self.filter(netns, filter, devices);
                let warnings = std::mem::take(&mut self.warnings);
                applied.notes.extend(result.map_err(|e| e.after(&command.stderr))?);
                applied.stderr.extend(warnings);
            }
            Operation::Chain(chain) => {
                chain.target.device.as_ref().map_or(Ok(()), known)?;
                check_indev(netns, chain.target.kind.as_ref(), devices)?;
                applied.stdout = self.chain(netns, chain)?;
            }
            Operation::FilterShow(show) => {
                let stdout = &mut applied.stdout;
                self.show_filters(show, netns, devices, counters, self.now_ms, &mut |piece| {
                    stdout.push_str(piece);
                    piece.clear();
                    true
                })?;
            }
            Operation::FilterGet(filter, options) => {
                filter.device.as_ref().map_or(Ok(()), known)?;
                applied.stdout = self.filter_get(netns, filter, options, counters)?;
            }
            Operation::Actions(commands, options) => {
                let done = self.actions_object(netns, commands, options, devices, counters);
                let done = done.map_err(|e| e.after(&command.stderr))?;
                applied.stdout = done.stdout;
                applied.stderr.extend(done.stderr);
            }
            Operation::ChainShow(show) => {
                show.device.as_ref().map_or(Ok(()), known)?;
                self.check_block(netns, show)?;
                let selection = listing::Selection { netns: netns.map(str::to_owned), ..show.selection.clone() };
                applied.stdout =
                    if show.is_of_nothing() { show.nothing() } else { self.list_chains(&selection, &show.options) };
            }
        }
        Ok(applied)
    }

    /// `filter show` at this time, in pieces: see [`Store::stream_filters`].
    ///
    /// # Errors
    /// The device does not exist.
    pub fn show_filters(
        &self,
        show: &super::command::ShowCommand,
        netns: Option<&str>,
        devices: &dyn Devices,
        counters: &dyn CounterSource,
        now_ms: u64,
        sink: listing::Sink<'_>,
    ) -> Result<(), TcError> {
        show.device.as_ref().map_or(Ok(()), |device| check_device(netns, device, devices))?;
        self.check_block(netns, show)?;
        if show.is_of_nothing() {
            let _wanted = sink(&mut show.nothing());
            return Ok(());
        }
        let clock = listing::Clock { now_ms };
        let selection = listing::Selection { netns: netns.map(str::to_owned), ..show.selection.clone() };
        if self.stream_filters(&selection, &show.options, counters, &clock, sink) {
            return Ok(());
        }
        // What the kernel says where a kind of filter has no brief form.
        let hint = "only flower filters can be listed briefly: leave -br out";
        Err(TcError::parse("Error: Buffer too small for object.", show.token, hint).then("Dump terminated"))
    }

    /// `tc_qdisc_block_exists()`: tc asks for the qdiscs and looks for one with this block.
    fn check_block(&self, netns: Option<&str>, show: &super::command::ShowCommand) -> Result<(), TcError> {
        let Some(index) = show.selection.block else { return Ok(()) };
        let hint = "tc qdisc show lists the blocks";
        let missing = || TcError::parse(format!("Cannot find block \"{index}\""), show.token, hint);
        self.shared(netns, index).map(drop).ok_or_else(missing)
    }

    /// Forgets what was attached to a device: it is gone, and so is what the kernel kept for it. Another may come by its name.
    pub fn forget_device(&mut self, key: &DeviceKey) {
        let state = self.device_ids.get(key).and_then(|id| self.states.remove(id));
        let Some(DeviceState { ingress_block, egress_block, root_block, hook_u32, root_u32, shared, .. }) = state
        else {
            return;
        };
        shared.into_iter().flatten().for_each(|id| self.unshare(id));
        [ingress_block, egress_block, root_block].into_iter().for_each(|block| self.drop_block(block));
        [hook_u32, root_u32].into_iter().for_each(|common| self.drop_u32(common));
    }

    /// A device has another name: it keeps what is attached to it, and who sends to it. What was known by the new name, of a device that
    /// must be gone, is known by the old one then.
    pub fn rename_device(&mut self, old: &DeviceKey, new: &DeviceKey) {
        let Some(id) = self.device_ids.remove(old) else { return };
        self.devices[id.index()] = new.clone();
        if let Some(stale) = self.device_ids.insert(new.clone(), id) {
            self.devices[stale.index()] = old.clone();
            self.device_ids.insert(old.clone(), stale);
            self.forget_device(old);
        }
    }

    /// The number of a device; a new one if it has none yet.
    pub(super) fn device_id(&mut self, key: &DeviceKey) -> DeviceId {
        if let Some(id) = self.device_ids.get(key) {
            return *id;
        }
        let id = DeviceId(self.devices.len() as u32);
        self.devices.push(key.clone());
        self.device_ids.insert(key.clone(), id);
        id
    }

    /// The devices that rules and qdiscs name; `DeviceId(n)` is the n-th.
    #[must_use]
    pub fn devices(&self) -> &[DeviceKey] {
        &self.devices
    }

    /// The name of a device.
    pub(in crate::tc) fn device_key(&self, id: DeviceId) -> &DeviceKey {
        &self.devices[id.index()]
    }

    /// What is attached to a device.
    #[must_use]
    pub fn state(&self, key: &DeviceKey) -> Option<&DeviceState> {
        self.device_ids.get(key).and_then(|id| self.states.get(id))
    }

    /// All devices with what is attached to them.
    pub fn states(&self) -> impl Iterator<Item = (DeviceId, &DeviceKey, &DeviceState)> {
        let devices = self.states.iter().filter(|(id, _)| !Self::is_shared(**id));
        devices.map(|(id, state)| (*id, self.device_key(*id), state))
    }

    /// An action by its slot.
    pub(in crate::tc) fn action(&self, slot: ActionSlot) -> &ActionState {
        self.actions.get(slot)
    }

    /// How many filters there are.
    #[must_use]
    pub fn filter_count(&self) -> usize {
        self.filter_count
    }

    /// Counter words for a new owner. They are never given out again, so that counters stay right over replacements.
    fn allocate_words(&mut self, count: u32) -> Result<u32, TcError> {
        let base = self.counter_words;
        self.counter_words = base.checked_add(count).ok_or_else(|| {
            TcError::errno("Cannot allocate memory", "too many filters were added and removed; start again")
        })?;
        Ok(base)
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

/// `tcf_change_indev()`.
fn check_indev(netns: Option<&str>, kind: Option<&super::filter::Kind>, devices: &dyn Devices) -> Result<(), TcError> {
    use super::filter::Kind;
    let indev = match kind {
        Some(Kind::U32(spec)) => &spec.indev,
        Some(Kind::Flower(spec)) => &spec.indev,
        Some(Kind::Fw(spec)) => &spec.indev,
        Some(Kind::Matchall(_) | Kind::Basic(_) | Kind::Unknown(_)) | None => &None,
    };
    match indev {
        Some(word) if !devices.exists(&DeviceKey::new(netns, &word.text)) => {
            let hint = format!("indev names a device; there is no {}", word.text);
            Err(TcError::kernel("Network device not found", hint).at(word.token))
        }
        Some(_) | None => Ok(()),
    }
}

/// `nodev()`.
fn check_device(netns: Option<&str>, word: &Word, devices: &dyn Devices) -> Result<(), TcError> {
    let key = DeviceKey::new(netns, &word.text);
    if devices.exists(&key) {
        return Ok(());
    }
    if let Some(netns) = netns.filter(|netns| !devices.has_namespace(netns)) {
        // `netns_switch()` of iproute2.
        let message = format!("Cannot open network namespace \"{netns}\": No such file or directory");
        return Err(TcError::parse(message, word.token, "see \"ip netns\" for the namespaces there are".to_owned()));
    }
    let hint = match netns {
        Some(netns) => format!("see \"ip -n {netns} link\" for the devices there are"),
        None => "see \"ip link\" for the devices there are; one of another namespace needs tc -n NAMESPACE".to_owned(),
    };
    Err(TcError::parse(format!("Cannot find device \"{}\"", word.text), word.token, hint))
}
