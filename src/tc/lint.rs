//! `viscum check`: what is legal and surely not meant. It reads a store and facts about devices; it refuses nothing.

mod flags;
mod flower;
mod marks;
mod paths;
mod ports;
mod shadow;
mod view;

use super::store::{Devices, Store};
use crate::types::{DeviceKey, MacAddr};
use view::View;

/// What is known of the devices.
pub struct Facts<'a> {
    /// Which devices there are.
    pub devices: &'a dyn Devices,
    /// A device's hardware address, if known.
    pub mac: &'a dyn Fn(&DeviceKey) -> Option<MacAddr>,
    /// The other end of a veth, if known: a frame sent on the device arrives there.
    pub peer: &'a dyn Fn(&DeviceKey) -> Option<DeviceKey>,
}

/// Something legal that is surely not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// A short name that does not change: `port-mask`, `impossible-flags` …
    pub code: &'static str,
    /// Line of the rules file; 0: not known.
    pub line: usize,
    /// Device and hook: `eth0 ingress`.
    pub place: String,
    /// What is so.
    pub text: String,
    /// What to do.
    pub hint: String,
}

/// `warning[code]: text`, then line, place and hint.
impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "warning[{}]: {}", self.code, self.text)?;
        if self.line > 0 {
            writeln!(f, "  --> line {} ({})", self.line, self.place)?;
        } else {
            writeln!(f, "  --> {}", self.place)?;
        }
        write!(f, "  = hint: {}", self.hint)
    }
}

/// All warnings about a store, by line.
#[must_use]
pub fn lint(store: &Store, facts: &Facts<'_>) -> Vec<Warning> {
    let views = view::views(store);
    let mut warnings = Vec::new();
    for view in &views {
        ports::masks(view, &mut warnings);
        ports::assumptions(view, &mut warnings);
        flags::impossible(view, &mut warnings);
        flower::never(view, &mut warnings);
        ports::beyond_header(view, &mut warnings);
        marks::protocol_order(view, &mut warnings);
        paths::missing_device(store, view, facts, &mut warnings);
        paths::packet_type(store, view, facts, &mut warnings);
    }
    marks::unset(store, &views, &mut warnings);
    shadow::shadowed(&views, &mut warnings);
    paths::loops(store, &views, facts, &mut warnings);
    paths::same_direction(store, &views, facts, &mut warnings);
    warnings.sort_by_key(|w| w.line);
    warnings.dedup();
    warnings
}

/// A warning about a node.
fn warn(view: &View<'_>, code: &'static str, text: String, hint: impl Into<String>) -> Warning {
    Warning { code, line: view.entry.line, place: view.place(), text, hint: hint.into() }
}
