//! The kernel's own filters, taken over by the forwarder: read, saved in a file, taken away a chain at a time, and made again at the end.
//! It forwards nothing. The forwarder must have the frames when filters are taken away, and still have them when they come back: it is
//! asked before the kernel's filters are, so that at no time both have a frame, or neither.

mod error;
mod part;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub use error::TakeOverError;
use part::Part;

use super::config::{Config, Mode, TakeOver};
use super::forward::{Served, Way};
use super::import::Import;
use crate::host::tc::{Change, NetlinkError, PARENT_EGRESS};
use crate::host::{link, netns};
use crate::types::DeviceKey;

/// Filters that were read and that the kernel still has.
pub struct Found {
    parts: Vec<Part>,
    file: PathBuf,
}

/// Filters that the kernel has no more.
pub struct Taken(Found);

impl Found {
    /// Reads the filters that are to be taken over; what viscum cannot do in the kernel's place is refused by name.
    ///
    /// # Errors
    /// [`TakeOverError`].
    pub fn read(wanted: &TakeOver, config: &Config) -> Result<Self, TakeOverError> {
        let file = config.socket.with_extension("taken-over.tc");
        if file.exists() {
            return Err(TakeOverError::Saved { file: quoted(&file) });
        }
        let mut found = Self { parts: parts(&wanted.devices)?, file };
        let devices: BTreeSet<&DeviceKey> = found.devices();
        let reasons = found.reasons(config);
        if !reasons.is_empty() {
            return Err(TakeOverError::Refused { reasons });
        }
        let missing = wanted.devices.iter().map(normal).find(|key| !devices.contains(key));
        if missing.is_some() || devices.is_empty() {
            return Err(nothing(missing.as_ref()));
        }
        found.make_actions_once();
        Ok(found)
    }

    /// As rules files: name and text.
    #[must_use]
    pub fn files(&self) -> Vec<(String, String)> {
        let name = |part: &Part| match &part.netns {
            None => "the kernel's filters".to_owned(),
            Some(netns) => format!("the kernel's filters of namespace {netns}"),
        };
        self.parts.iter().map(|part| (name(part), part.import.script())).collect()
    }

    /// What is to be said about reading them.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().flat_map(|part| part.import.notes.iter().map(String::as_str))
    }

    /// Takes them away from the kernel, chain by chain; frames see all filters of a chain or none. The forwarder, which serves these
    /// devices, must take the frames already.
    ///
    /// # Errors
    /// [`TakeOverError`]; the kernel has its filters then.
    pub fn take(self, served: &[Served]) -> Result<Taken, TakeOverError> {
        let reasons: Vec<String> = self.devices().iter().filter_map(|key| in_the_way(key, served)).collect();
        if !reasons.is_empty() {
            return Err(TakeOverError::Refused { reasons });
        }
        for part in &self.parts {
            let now = Part::read(part.netns.as_deref(), part.device.as_deref())?;
            // The text knows nothing of devices that came or went, which number the others anew. Actions that two devices share
            // are in one part only.
            if filters_of(&now.import) != filters_of(&part.import) {
                return Err(TakeOverError::Changed { whose: part.names() });
            }
        }
        self.take_all()
    }

    /// As [`Found::take`], with nothing asked before.
    ///
    /// # Errors
    /// [`TakeOverError::Save`], [`TakeOverError::Delete`].
    pub fn take_all(self) -> Result<Taken, TakeOverError> {
        self.save()?;
        let taken = Taken(self);
        let Err(source) = taken.0.parts.iter().try_for_each(Part::delete) else { return Ok(taken) };
        let back = match taken.put_back(true) {
            Ok(_) => "the kernel has all of its filters again".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(TakeOverError::Delete { source, back })
    }

    fn devices(&self) -> BTreeSet<&DeviceKey> {
        let of = |part: &'_ Part| part.hooks().iter().map(|(device, _, _)| *device).collect::<BTreeSet<_>>();
        self.parts.iter().flat_map(|part| of(part).into_iter().map(|d| part.snapshot.links.key(d))).collect()
    }

    /// An action that filters of two parts hold is made once.
    fn make_actions_once(&mut self) {
        let mut made = BTreeSet::new();
        for part in &mut self.parts {
            let netns = part.netns.clone();
            part.import.steps.retain(|step| match &step.change {
                Change::Action(action) => made.insert((netns.clone(), action.kind.clone(), action.index)),
                Change::Qdisc(_) | Change::Chain(_) | Change::Filter(_) | Change::DropPrio(_) => true,
            });
        }
    }

    /// What viscum cannot do in the kernel's place.
    fn reasons(&self, config: &Config) -> Vec<String> {
        let mut reasons = Vec::new();
        for part in &self.parts {
            let place = part.netns.as_ref().map_or_else(String::new, |netns| format!("namespace {netns}: "));
            reasons.extend(part.import.left_out.iter().map(|line| format!("{place}{line}")));
            let key = |device| part.snapshot.links.key(device);
            for qdisc in part.snapshot.qdiscs.iter().filter(|q| q.blocks != [0, 0]) {
                reasons.push(format!("{}: its filters are in a block that devices share", key(qdisc.device)));
            }
            let egress = part.hooks().into_iter().filter(|(_, parent, _)| *parent == PARENT_EGRESS);
            for device in egress.map(|(device, _, _)| device).collect::<BTreeSet<_>>() {
                let key = key(device);
                // Workers see only what they transmit themselves.
                if config.device(key).mode.unwrap_or(config.mode) != Mode::TcBpf {
                    reasons.push(format!(
                        "{key} egress: what the host itself sends crosses the filters there, and viscum's only with --mode tc-bpf"
                    ));
                }
            }
        }
        reasons.sort();
        reasons.dedup();
        reasons
    }

    /// Saves them, readable by root only; what is there already is left alone.
    fn save(&self) -> Result<(), TakeOverError> {
        let failed = |source| TakeOverError::Save { file: quoted(&self.file), source };
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&self.file).map_err(failed)?;
        let written = file.write_all(self.script().as_bytes()).and_then(|()| file.sync_all());
        written.inspect_err(|_| self.forget()).map_err(failed)
    }

    fn forget(&self) {
        let _gone = std::fs::remove_file(&self.file);
    }

    /// A script for a shell, and a rules file: what stays in the kernel is no error in it.
    fn script(&self) -> String {
        let mut out = format!(
            "# The filters that viscum (process {}) took from the kernel. `sh` with this file gives them back to it.\n",
            std::process::id()
        );
        for part in &self.parts {
            let tc = part.netns.as_deref().map_or_else(|| "tc".to_owned(), |netns| format!("tc -n {netns}"));
            for step in &part.import.steps {
                let words = match &step.change {
                    Change::Qdisc(_) => step.words.replacen("qdisc add", "qdisc replace", 1),
                    Change::Action(_) => step.words.replacen("actions add", "actions replace", 1),
                    Change::Filter(_) | Change::DropPrio(_) => step.words.clone(),
                    Change::Chain(_) => {
                        // tc has no words for: if it is not there.
                        let _ = writeln!(out, "# stays in the kernel: {tc} {}", step.words);
                        continue;
                    }
                };
                let _ = writeln!(out, "{tc} {words}");
            }
        }
        out
    }

    fn summary(&self) -> String {
        let filters: usize = self.parts.iter().map(|part| part.import.filters).sum();
        let names: Vec<String> = self.devices().iter().map(ToString::to_string).collect();
        format!("{filters} filters of {}", names.join(", "))
    }
}

impl Taken {
    /// What was done.
    #[must_use]
    pub fn told(&self) -> String {
        format!("taken over from the kernel: {}; they are saved in {}", self.0.summary(), quoted(&self.0.file))
    }

    /// What is left to do if they are not given back.
    #[must_use]
    pub fn kept(&self) -> String {
        let file = quoted(&self.0.file);
        format!("the kernel has no more {}; `sh {file}` gives them back to it", self.0.summary())
    }

    /// Puts the filters that were taken back into the kernel. The forwarder must still take the frames. What was done is told.
    ///
    /// # Errors
    /// [`TakeOverError::NotBack`]; what could be made is there, and the file has all.
    pub fn give_back(&self) -> Result<String, TakeOverError> {
        self.put_back(false)
    }

    /// `partly`: some may be there still.
    fn put_back(&self, partly: bool) -> Result<String, TakeOverError> {
        let (mut failures, mut gone) = (Vec::new(), BTreeSet::new());
        for part in &self.0.parts {
            let made = netns::in_namespace(part.netns.as_deref(), || part.make(partly, &mut failures, &mut gone));
            if let Err(error) = made {
                failures.push(error.to_string());
            }
        }
        if !failures.is_empty() {
            return Err(TakeOverError::NotBack { failures, file: quoted(&self.0.file) });
        }
        self.0.forget();
        let mut told = format!("given back to the kernel: {}", self.0.summary());
        for key in gone {
            let _ = write!(told, "; {key} is gone, and its filters with it");
        }
        Ok(told)
    }
}

/// One part for each device that is named, or one for the own namespace.
fn parts(devices: &[DeviceKey]) -> Result<Vec<Part>, NetlinkError> {
    if devices.is_empty() {
        return Ok(vec![Part::read(None, None)?]);
    }
    let keys: BTreeSet<DeviceKey> = devices.iter().map(normal).collect();
    keys.iter().map(|key| Part::read(key.netns.as_deref(), Some(&key.name))).collect()
}

/// A device of the own namespace needs none.
fn normal(key: &DeviceKey) -> DeviceKey {
    DeviceKey::new(key.netns.as_deref().filter(|netns| !netns::is_own(netns)), &key.name)
}

fn nothing(missing: Option<&DeviceKey>) -> TakeOverError {
    let Some(key) = missing else {
        return TakeOverError::Nothing {
            whose: "any device of this namespace".to_owned(),
            next: "leave --take-over away, or name a device of another namespace with --dev NETNS/NAME".to_owned(),
        };
    };
    // Only to be told: without an answer there are none.
    let all = Part::read(key.netns.as_deref(), None).map(|part| part.names()).unwrap_or_default();
    let next = if all.is_empty() { "no device there has any".to_owned() } else { format!("those that have: {all}") };
    TakeOverError::Nothing { whose: key.to_string(), next }
}

/// Why the forwarder cannot stand in for the kernel's filters of a device as it serves it.
fn in_the_way(key: &DeviceKey, served: &[Served]) -> Option<String> {
    let Some(device) = served.iter().find(|s| s.wanted.key == *key) else {
        return Some(format!("{key} is not served; is it up?"));
    };
    if let Way::Tap(tap) = &device.way {
        return Some(format!(
            "{key}: the tap {tap} stands in for it, and what {key} itself receives would have no filters"
        ));
    }
    if let (Way::AfXdp { .. }, Ok(link)) = (&device.way, link::find(key)) {
        let (queues, all) = (device.queues, link::active_queues(&link));
        if queues < all {
            return Some(format!(
                "{key}: {queues} of its {all} queues are served, and frames of the others would see no filters"
            ));
        }
    }
    device.is_among_filters().then(|| {
        format!(
            "{key}: this kernel has no tcx (it came with 6.6), so that viscum's program would be one of the kernel's filters in this mode; \
             use --mode af-xdp or xdp"
        )
    })
}

fn filters_of(import: &Import) -> Vec<&str> {
    let steps = import.steps.iter().filter(|step| !matches!(step.change, Change::Action(_)));
    steps.map(|step| step.words.as_str()).chain(import.left_out.iter().map(String::as_str)).collect()
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    crate::tc::words::quoted(&text).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::config::Overrides;
    use crate::app::import::plan;
    use crate::host::tc::{Common, Filter, Links, Node, PARENT_INGRESS, Place, Qdisc, Snapshot};
    use crate::types::DeviceId;

    fn found(parents: &[u32]) -> Found {
        let device = DeviceId(0);
        let links = Links { list: vec![(7, DeviceKey::local("d0"))] };
        let place = |parent: &u32| Place {
            device,
            parent: *parent,
            chain: 0,
            prio: 1,
            protocol: 3,
            kind: "matchall".to_owned(),
            handle: 1,
        };
        let filters = parents.iter().map(|p| Filter { place: place(p), node: Node::Matchall(Common::default()) });
        let qdisc =
            Qdisc { device, handle: 0xffff_0000, parent: 0xffff_fff1, kind: "clsact".to_owned(), blocks: [0, 0] };
        let snapshot = Snapshot { links, qdiscs: vec![qdisc], filters: filters.collect(), ..Snapshot::default() };
        let import = plan(&snapshot);
        Found { parts: vec![Part { netns: None, device: None, snapshot, import }], file: PathBuf::from("/x y/z.tc") }
    }

    #[test]
    fn egress_filters_take_a_mode_that_sees_what_the_host_sends() {
        let config = |mode| Config::load(None, Overrides { mode, ..Overrides::default() }).unwrap();
        let both = found(&[PARENT_INGRESS, PARENT_EGRESS]);
        for mode in [Mode::Auto, Mode::AfXdp, Mode::AfPacket, Mode::Xdp] {
            let reasons = both.reasons(&config(mode));
            assert!(reasons.len() == 1 && reasons[0].contains("d0 egress"), "{reasons:?}");
            assert_eq!(found(&[PARENT_INGRESS]).reasons(&config(mode)), Vec::<String>::new());
        }
        assert_eq!(both.reasons(&config(Mode::TcBpf)), Vec::<String>::new());
    }

    #[test]
    fn the_saved_script_does_not_stumble_over_what_stays_in_the_kernel() {
        let found = found(&[PARENT_INGRESS]);
        let script = found.script();
        assert!(
            script.starts_with("# The filters that viscum") && script.contains("\ntc qdisc replace dev d0 clsact\n")
        );
        assert!(script.ends_with("tc filter add dev d0 ingress protocol all pref 1 handle 0x1 matchall\n"), "{script}");
        assert!(Taken(found).kept().contains("`sh '/x y/z.tc'`"));
    }
}
