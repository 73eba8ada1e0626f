//! The rules of a running forwarder: the store, what is bypassed, and the snapshot that runs. It opens no device.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::host;
use crate::limits::RULES_FILE_LEN_MAX;
use crate::plan::Plan;
use crate::rules::{Action, Ruleset};
use crate::tc::{Devices, Diagnostics, Note, Store, load_into};
use crate::types::{DeviceKey, Direction};

/// Why rules cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// A rules file cannot be read.
    #[error("cannot read the rules {path}: {source}; check the path")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Bad lines, all of which are named, in all files.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Bad(Vec<Diagnostics>),
    /// The plan cannot hold them.
    #[error(transparent)]
    Plan(#[from] crate::plan::Refusal),
    /// A rule sends frames into a device's ingress.
    #[error(
        "{place}: mirred ingress {mode} dev {to} lets a frame in as if {to} had received it, which only the kernel can; \
         use `mirred egress {mode}` to the device that {to} is wired to"
    )]
    MirredIngress {
        /// Where the rule is.
        place: String,
        /// `redirect` or `mirror`.
        mode: &'static str,
        /// The target.
        to: String,
    },
    /// A device that is not there, or cannot be asked.
    #[error(transparent)]
    Host(#[from] host::HostError),
}

/// The devices of this machine, as rules can name them; each is asked for once.
#[derive(Debug)]
pub struct HostDevices {
    /// A device of this namespace may be missing: a tap will stand in for it.
    stand_ins: bool,
    known: Mutex<BTreeMap<DeviceKey, bool>>,
}

impl HostDevices {
    /// With `stand_ins`, devices of the own namespace count as there: which tap takes a missing one's place is decided later.
    #[must_use]
    pub fn new(stand_ins: bool) -> Self {
        Self { stand_ins, known: Mutex::default() }
    }

    /// The same, with nothing known yet: devices come and go.
    #[must_use]
    pub fn afresh(&self) -> Self {
        Self::new(self.stand_ins)
    }
}

impl Devices for HostDevices {
    fn exists(&self, key: &DeviceKey) -> bool {
        if key.netns.is_none() && self.stand_ins {
            return true;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known.entry(key.clone()).or_insert_with(|| host::link::exists(key).unwrap_or(false))
    }

    fn has_namespace(&self, netns: &str) -> bool {
        host::netns::exists(netns)
    }
}

/// Reads rules files, in order; `-` is the standard input.
///
/// # Errors
/// [`RulesError::Read`].
pub fn read(paths: &[PathBuf]) -> Result<Vec<(String, String)>, RulesError> {
    let one = |path: &PathBuf| {
        let failed = |source| RulesError::Read { path: path.clone(), source };
        if path.as_os_str() == "-" {
            let mut text = String::new();
            // One byte more than is taken: what is too long is told as such.
            std::io::stdin().lock().take(RULES_FILE_LEN_MAX + 1).read_to_string(&mut text).map_err(failed)?;
            return Ok(("standard input".to_owned(), text));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        Ok((path.display().to_string(), text))
    };
    paths.iter().map(one).collect()
}

/// Applies rules files, in order, to an empty store: all of them or nothing. `now_ms` is when they count as installed.
///
/// # Errors
/// [`RulesError::Bad`].
pub fn load(
    files: &[(String, String)],
    devices: &dyn Devices,
    now_ms: u64,
) -> Result<(Store, Vec<(String, Note)>), RulesError> {
    let mut store = Store::new();
    store.set_now_ms(now_ms);
    let mut notes = Vec::new();
    let mut bad = Vec::new();
    for (name, text) in files {
        match load_into(&mut store, text, name, &BTreeMap::new(), devices) {
            Ok(new) => notes.extend(new.into_iter().map(|note| (name.clone(), note))),
            Err(diagnostics) => bad.push(*diagnostics),
        }
    }
    if bad.is_empty() { Ok((store, notes)) } else { Err(RulesError::Bad(bad)) }
}

/// Rules that can run.
#[derive(Clone, Debug)]
pub struct Runnable {
    /// The state behind them.
    pub store: Arc<Store>,
    /// All rules, bypassed ones as well.
    pub ruleset: Arc<Ruleset>,
    /// Devices whose ingress filters are taken away for now.
    pub bypassed: BTreeSet<DeviceKey>,
}

impl Runnable {
    /// Checks that the forwarder can do what the rules say (if it `forwards` at all), as far as no device is needed for it.
    ///
    /// # Errors
    /// [`RulesError::MirredIngress`].
    pub fn new(
        store: impl Into<Arc<Store>>,
        bypassed: BTreeSet<DeviceKey>,
        forwards: bool,
    ) -> Result<Self, RulesError> {
        let store = store.into();
        let ruleset = store.ruleset();
        if forwards {
            refuse_mirred_ingress(&ruleset)?;
        }
        Ok(Self { store, ruleset: Arc::new(ruleset), bypassed })
    }

    /// The same with other devices bypassed.
    #[must_use]
    pub fn with_bypassed(&self, bypassed: BTreeSet<DeviceKey>) -> Self {
        Self { store: Arc::clone(&self.store), ruleset: Arc::clone(&self.ruleset), bypassed }
    }

    /// The rules without those that are bypassed: what runs.
    #[must_use]
    pub fn in_force(&self) -> Arc<Ruleset> {
        if self.bypassed.is_empty() {
            return Arc::clone(&self.ruleset);
        }
        let mut ruleset = Ruleset::clone(&self.ruleset);
        let bypassed = |device: crate::types::DeviceId| self.bypassed.contains(&self.ruleset.devices[device.index()]);
        ruleset.hooks.retain(|hook| hook.direction == Direction::Egress || !bypassed(hook.device));
        Arc::new(ruleset)
    }

    /// The compiled form of [`Runnable::in_force`].
    ///
    /// # Errors
    /// [`RulesError::Plan`].
    pub fn compile(&self) -> Result<(Arc<Ruleset>, Arc<Plan>), RulesError> {
        let ruleset = self.in_force();
        let plan = Plan::indexed(&ruleset)?;
        Ok((ruleset, Arc::new(plan)))
    }
}

fn refuse_mirred_ingress(ruleset: &Ruleset) -> Result<(), RulesError> {
    for (hook, chain, filter) in ruleset.filters() {
        for id in ruleset.filter_actions(filter) {
            let Action::Mirred(mirred) = &ruleset.action(id).action else { continue };
            if mirred.direction == Direction::Ingress {
                let device = &ruleset.devices[hook.device.index()];
                return Err(RulesError::MirredIngress {
                    place: format!("{device} {} chain {chain} prio {}", hook.direction.as_str(), filter.prio),
                    mode: match mirred.mode {
                        crate::rules::MirredMode::Redirect => "redirect",
                        crate::rules::MirredMode::Mirror => "mirror",
                    },
                    to: ruleset.devices[mirred.device.index()].to_string(),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tc::AnyDevice;

    fn files(texts: &[&str]) -> Vec<(String, String)> {
        texts.iter().enumerate().map(|(n, text)| (format!("{n}.tc"), (*text).to_owned())).collect()
    }

    const TAKE: &str = "tc qdisc add dev a ingress\ntc filter add dev a parent ffff: prio 1 protocol all matchall \
        action mirred egress redirect dev b\n";

    #[test]
    fn bad_lines_of_all_files_are_told_at_once() {
        let error = load(&files(&["tc nonsense\n", "", "tc filter add dev a parent ffff: junk\n"]), &AnyDevice, 1);
        let text = error.unwrap_err().to_string();
        for name in ["0.tc", "1.tc", "2.tc"] {
            assert!(text.contains(name), "{name} is missing in:\n{text}");
        }
    }

    #[test]
    fn a_bypassed_device_has_no_ingress_rules_in_force_and_keeps_its_words() {
        let (store, _) = load(&files(&[TAKE]), &AnyDevice, 1).unwrap();
        let rules = Runnable::new(store, BTreeSet::from([DeviceKey::local("a")]), true).unwrap();
        let (in_force, _) = rules.compile().unwrap();
        assert_eq!((in_force.filters().count(), rules.ruleset.filters().count()), (0, 1));
        assert_eq!(in_force.counter_words, rules.ruleset.counter_words);
    }

    #[test]
    fn mirred_ingress_is_refused_by_name_with_what_to_do() {
        let text = TAKE.replace("egress redirect", "ingress redirect");
        let (store, _) = load(&files(&[&text]), &AnyDevice, 1).unwrap();
        let error = Runnable::new(store, BTreeSet::new(), true).unwrap_err().to_string();
        assert!(error.contains("a ingress chain 0 prio 1") && error.contains("mirred egress redirect"), "{error}");
    }
}
