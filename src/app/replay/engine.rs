//! The rules and the devices of a replay, ready to run frames. It reads no capture and writes no result.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::topology::Case;
use crate::plan::{Driver, Plan, Refusal};
use crate::rules::eval::{Event, Network};
use crate::rules::{Counters, Ruleset};
use crate::tc::{AnyDevice, Devices, Store, parse_script};
use crate::types::{Device, DeviceId, DeviceKey, DeviceKind, Topology};

/// Which form of the rules runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The compiled plan, as the forwarder runs it.
    Plan,
    /// The slow interpreter.
    Eval,
}

/// The state after the rules file was run, line by line, as a shell would.
pub struct Loaded {
    /// What the kernel would hold.
    pub store: Store,
    /// What each line answered: `tc.log`.
    pub log: String,
    /// Lines that tc would refuse.
    pub refused: usize,
}

/// Runs a rules file. With devices given, a name that is not among them is one that does not exist.
#[must_use]
pub fn load(text: &str, file: &str, env: &BTreeMap<String, String>, devices: Option<&Topology>) -> Loaded {
    let known: &dyn Devices = match devices {
        Some(topology) => &KnownDevices(topology),
        None => &AnyDevice,
    };
    let mut store = Store::new();
    let mut log = String::new();
    let mut refused = 0;
    for line in &parse_script(text, file, env).lines {
        let (code, out, err) = match store.apply_line(line, known) {
            Ok(applied) => (0, applied.stdout, applied.stderr),
            Err(error) => {
                refused += 1;
                (error.exit_code, String::new(), error.messages)
            }
        };
        // Writing to a string cannot fail.
        let _infallible = writeln!(log, "[{}] rc={code} {}", line.number, line.text);
        out.lines().for_each(|l| log.push_str(&format!("    out: {l}\n")));
        err.iter().flat_map(|m| m.split('\n')).for_each(|l| log.push_str(&format!("    err: {l}\n")));
    }
    Loaded { store, log, refused }
}

struct KnownDevices<'a>(&'a Topology);

impl Devices for KnownDevices<'_> {
    fn exists(&self, key: &DeviceKey) -> bool {
        key.name == "lo" || self.0.find(key).is_some()
    }
}

/// Rules and devices.
pub struct Engine {
    /// The rules.
    pub ruleset: Ruleset,
    /// The devices, with the ruleset's ids first.
    pub topology: Topology,
    /// What was counted so far.
    pub counters: Counters,
    form: Form,
    plan: Plan,
    random: u32,
}

impl Engine {
    /// For the rules of a store on the devices of a topology; devices that only the rules know are assumed.
    ///
    /// # Errors
    /// The plan's, by name.
    pub fn new(store: &Store, devices: &Topology, form: Form) -> Result<Self, Refusal> {
        let ruleset = store.ruleset();
        let plan = Plan::compile(&ruleset)?;
        let topology = arrange(&ruleset, devices);
        let counters = Counters::new(ruleset.counter_words);
        Ok(Self { ruleset, topology, counters, form, plan, random: 1 })
    }

    /// What happens when the device receives this frame so long after the rules were made.
    pub fn receive(&mut self, device: DeviceId, frame: &[u8], since: Duration) -> Vec<Event> {
        self.counters.now_ms = since.as_millis() as u64 + 1;
        self.counters.now_ns = since.as_nanos() as i64 + 1;
        let random = &mut self.random;
        let mut below = |bound: u32| {
            *random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (*random >> 8) % bound.max(1)
        };
        match self.form {
            Form::Plan => Driver { plan: &self.plan, topology: &self.topology }.receive(
                device,
                frame,
                &mut self.counters,
                &mut below,
            ),
            Form::Eval => Network { ruleset: &self.ruleset, topology: &self.topology }.receive(
                device,
                frame,
                &mut self.counters,
                &mut below,
            ),
        }
    }

    /// The id of a device by name: one that receives frames must be known to the rules or the topology.
    #[must_use]
    pub fn device(&self, name: &str) -> Option<DeviceId> {
        self.topology.devices.iter().position(|d| d.key.name == name).map(|i| DeviceId(i as u32))
    }
}

/// The devices in the order of the ruleset's ids, then those that only the topology has; peers renumbered.
fn arrange(ruleset: &Ruleset, given: &Topology) -> Topology {
    let mut keys: Vec<DeviceKey> = ruleset.devices.clone();
    keys.extend(given.devices.iter().map(|d| d.key.clone()).filter(|key| ruleset.device(key).is_none()));
    let id = |key: &DeviceKey| keys.iter().position(|k| k == key).map(|i| DeviceId(i as u32));
    let devices = keys
        .iter()
        .map(|key| {
            let Some(found) = given.find(key) else { return Device::assumed(key.clone()) };
            let mut device = given.device(found).clone();
            if let DeviceKind::Veth { peer: Some(peer) } = device.kind {
                device.kind = DeviceKind::Veth { peer: id(&given.device(peer).key) };
            }
            device
        })
        .collect();
    Topology { devices }
}

/// The devices whose filters are listed, in the order of the case, else of the rules.
#[must_use]
pub fn shown(engine: &Engine, case: &Case) -> Vec<DeviceId> {
    match &case.show {
        Some(names) => names.iter().filter_map(|name| engine.device(name)).collect(),
        None => {
            let listed = |d: &&Device| engine.ruleset.device(&d.key).is_some_and(|id| has_hook(&engine.ruleset, id));
            let mut keys: Vec<&DeviceKey> = case
                .device
                .iter()
                .filter_map(|d| engine.device(&d.name))
                .map(|id| &engine.topology.device(id).key)
                .collect();
            for device in engine.topology.devices.iter().filter(listed) {
                if !keys.contains(&&device.key) {
                    keys.push(&device.key);
                }
            }
            keys.retain(|key| engine.ruleset.device(key).is_some_and(|id| has_hook(&engine.ruleset, id)));
            keys.into_iter().filter_map(|key| engine.topology.find(key)).collect()
        }
    }
}

fn has_hook(ruleset: &Ruleset, device: DeviceId) -> bool {
    ruleset.hooks.iter().any(|h| h.device == device)
}
