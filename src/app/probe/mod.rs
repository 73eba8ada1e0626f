//! `viscum probe`: what kernel and device can do, and which mode they and the rules allow. Nothing is left of what was tried.

mod modes;

pub use modes::{AutoChoice, Modes, PassedOver};

use serde::Serialize;

use super::rules::{RulesError, Runnable, load};
use crate::host::HostError;
use crate::host::probe::{self, Device, Section};
use crate::tc::AnyDevice;
use crate::types::DeviceKey;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// A device to look at, too.
    pub device: Option<DeviceKey>,
    /// Rules files (name and text) to find a mode for.
    pub rules: Vec<(String, String)>,
    /// Attach nothing to the device.
    pub passive: bool,
}

/// What was found out.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Kernel, tc, machine, caller, and the device.
    pub sections: Vec<Section>,
    /// The modes.
    pub modes: Modes,
}

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The rules.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// The device.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// Looks, and tries.
///
/// # Errors
/// [`ProbeError`]. What cannot be tried is no error: the report names it.
pub fn probe(request: &Request) -> Result<Report, ProbeError> {
    let rules = match request.rules.as_slice() {
        [] => None,
        files => Some(Runnable::new(load(files, &AnyDevice, 1)?.0, std::collections::BTreeSet::new(), false)?.ruleset),
    };
    let device: Option<Device> = request.device.as_ref().map(|key| probe::device(key, request.passive)).transpose()?;
    let [kernel, tc] = probe::kernel();
    let modes =
        modes::modes(&modes::Facts { kernel: &kernel, tc: &tc, device: device.as_ref(), rules: rules.as_deref() });
    let mut sections = vec![kernel, tc, probe::machine(), probe::caller()];
    sections.extend(device.map(|d| d.section));
    Ok(Report { sections, modes })
}
