//! `--mode auto` when a rule is nothing for workers: the first mode without workers that can do all rules. It attaches nothing by itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::attach::AttachError;
use super::kernel::TcError;
use super::rank::can_run;
use super::running::{ForwardError, Running};
use crate::app::config::{Config, Deliver, Mode};
use crate::app::rules::Runnable;
use crate::types::DeviceKey;

/// What `auto` takes, the best first: workers (AF_XDP, else AF_PACKET, device by device), which can be traced and captured from and whose
/// rules the host's own tc never sees; then programs, which end with the process; then the kernel's tc, which outlives a SIGKILL.
pub const ORDER: [Mode; 4] = [Mode::Auto, Mode::TcBpf, Mode::Xdp, Mode::Tc];

/// Whether the mode is `auto`'s to choose for all devices together.
pub(super) fn chooses(config: &Config) -> bool {
    config.mode == Mode::Auto
        && config.deliver == Deliver::Veth
        && config.devices.values().all(|d| d.mode.is_none_or(|mode| mode == Mode::Auto))
}

/// How a mode of [`ORDER`] is called where it was passed over.
#[must_use]
pub const fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Auto => "af-xdp or af-packet",
        _ => mode.name(),
    }
}

impl Running {
    /// As `put_in_force`; rules that the present mode cannot do are tried in the others, if the mode is `auto`'s to choose. With `anew`
    /// workers are taken again if they can do the rules.
    pub(super) fn put_in_force_somehow(
        &mut self,
        rules: &Arc<Runnable>,
        from_zero: bool,
        anew: bool,
    ) -> Result<(), ForwardError> {
        let away = self.auto && self.config.mode != Mode::Auto;
        let error = match anew && away && can_run(&rules.ruleset, Mode::Auto).is_ok() {
            true => None,
            false => match self.put_in_force(rules, from_zero, &BTreeSet::new()) {
                Err(error) if self.auto && is_of_rules(&error) => Some(error),
                done => return done,
            },
        };
        self.choose_mode(rules, from_zero, error)
    }

    /// Lets all devices go and serves them in another mode; if none can, as before. `error` is why the present one cannot.
    fn choose_mode(
        &mut self,
        rules: &Arc<Runnable>,
        from_zero: bool,
        error: Option<ForwardError>,
    ) -> Result<(), ForwardError> {
        let (mode, took, old) = (self.config.mode, self.config.auto_took.take(), Arc::clone(&self.rules));
        let mut passed_over: Vec<(Mode, String)> = Vec::new();
        for next in ORDER {
            if let Some(error) = error.as_ref().filter(|_| next == mode) {
                passed_over.push((next, error.to_string()));
                continue;
            }
            if let Err(why) = can_run(&rules.ruleset, next) {
                passed_over.push((next, why));
                continue;
            }
            let all: BTreeSet<DeviceKey> = self.served.iter().map(|s| s.wanted.key.clone()).collect();
            if !all.is_empty() {
                self.put_in_force(&old, false, &all)?;
            }
            self.config.mode = next;
            self.config.auto_took = (next != Mode::Auto).then(|| reason(&passed_over));
            match self.put_in_force(rules, from_zero, &BTreeSet::new()) {
                Ok(()) => return Ok(()),
                Err(error) => passed_over.push((next, error.to_string())),
            }
        }
        (self.config.mode, self.config.auto_took) = (mode, took);
        self.put_in_force(&old, false, &BTreeSet::new())?;
        Err(ForwardError::NoMode { modes: reason(&passed_over) })
    }
}

/// `not af-xdp or af-packet: …; not tc-bpf: …`.
fn reason(passed_over: &[(Mode, String)]) -> String {
    let one = |(mode, why): &(Mode, String)| format!("not {}: {why}", name(*mode));
    passed_over.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Whether it is about what the rules say, so that another mode may do.
fn is_of_rules(error: &ForwardError) -> bool {
    match error {
        ForwardError::Attach(AttachError::Refused(_)) => true,
        ForwardError::Attach(AttachError::Tc(error)) => {
            matches!(**error, TcError::Lacks { .. } | TcError::Refused { .. })
        }
        ForwardError::Attach(_)
        | ForwardError::Rules(_)
        | ForwardError::Worker(_)
        | ForwardError::NoFilters { .. }
        | ForwardError::NoMode { .. }
        | ForwardError::Already { .. } => false,
    }
}
