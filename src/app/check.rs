//! `viscum check`: what is legal in rules files and surely not meant. It changes nothing and needs no privilege.

use std::path::Path;

use super::replay::topology::{Case, TopologyError};
use super::rules::{HostDevices, RulesError, load};
use crate::host;
use crate::tc::{AnyDevice, Devices, Facts, Note, Store, Warning, lint};
use crate::types::{DeviceKey, DeviceKind, MacAddr, Topology};

/// What a check found.
#[derive(Debug)]
pub struct Checked {
    /// What the front end had to say.
    pub notes: Vec<Note>,
    /// What is surely not meant, by line.
    pub warnings: Vec<Warning>,
    /// Filters in the file.
    pub filters: usize,
}

/// Why a file could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It cannot be read, or has bad lines.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// The topology file.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

/// Checks one rules file on the devices of this machine, or of a topology file.
///
/// # Errors
/// [`CheckError`].
pub fn check(file: &(String, String), topology: Option<&Path>) -> Result<Checked, CheckError> {
    let (store, notes) = load(std::slice::from_ref(file), &AnyDevice, 1)?;
    let notes = notes.into_iter().map(|(_, note)| note).collect();
    let warnings = match topology {
        Some(path) => {
            let given = Case::read(path)?.topology(path)?;
            find(&store, &Given(&given), &given)
        }
        // What cannot be asked is unknown, not an error: a check must work anywhere.
        None => {
            let (known, _) = host::topology(store.devices()).unwrap_or_default();
            find(&store, &HostDevices::new(false), &known)
        }
    };
    Ok(Checked { notes, warnings, filters: store.filter_count() })
}

fn find(store: &Store, devices: &dyn Devices, known: &Topology) -> Vec<Warning> {
    let device = |key: &DeviceKey| known.find(key).map(|id| known.device(id));
    let mac = |key: &DeviceKey| device(key).map(|d| d.mac).filter(|m| *m != MacAddr::zero());
    let peer = |key: &DeviceKey| match device(key)?.kind {
        DeviceKind::Veth { peer: Some(peer) } => Some(known.device(peer).key.clone()),
        DeviceKind::Veth { peer: None } | DeviceKind::Wire | DeviceKind::Loopback => None,
    };
    lint(store, &Facts { devices, mac: &mac, peer: &peer })
}

struct Given<'a>(&'a Topology);

impl Devices for Given<'_> {
    fn exists(&self, key: &DeviceKey) -> bool {
        key.name == "lo" || self.0.find(key).is_some()
    }
}
