//! Whether a mode can run a set of rules, before any device is touched. It attaches and opens nothing.

use super::kernel::missing_kinds;
use crate::app::config::Mode;
use crate::ebpf::forward::{ForwardOptions, Stage, forward};
use crate::ebpf::{Refusal, Target, steer};
use crate::rules::Ruleset;
use crate::types::{DeviceId, Direction};

/// That a mode can run these rules, as far as that depends on the rules alone.
///
/// # Errors
/// The first rule that it cannot do, or what the kernel has not.
pub fn can_run(ruleset: &Ruleset, mode: Mode) -> Result<(), String> {
    let text = |refusal: Refusal| refusal.to_string();
    let stages: &[Stage] = match mode {
        Mode::Auto | Mode::AfPacket | Mode::Raw => return steered(ruleset, Target::DropBehind).map_err(text),
        Mode::AfXdp => return steered(ruleset, Target::Xdp).map_err(text),
        Mode::Tc => {
            let missing = missing_kinds(ruleset, None)?;
            return if missing.is_empty() {
                Ok(())
            } else {
                Err(format!("this kernel's tc has no {}", missing.join(", ")))
            };
        }
        Mode::Xdp => &[Stage::Xdp],
        Mode::TcBpf => &[Stage::Tc(Direction::Ingress), Stage::Tc(Direction::Egress)],
    };
    for stage in stages {
        for device in with_rules(ruleset, stage.direction()) {
            forward(ruleset, device, *stage, ForwardOptions { partial_checksums: true }).map_err(text)?;
        }
    }
    Ok(())
}

fn steered(ruleset: &Ruleset, target: Target) -> Result<(), Refusal> {
    with_rules(ruleset, Direction::Ingress).try_for_each(|device| steer(ruleset, device, target).map(drop))
}

/// The devices with filters at a hook.
fn with_rules(ruleset: &Ruleset, direction: Direction) -> impl Iterator<Item = DeviceId> + '_ {
    let hooks = ruleset.hooks.iter().filter(move |h| h.direction == direction);
    hooks.filter(|h| h.chains.values().any(|c| !c.filters.is_empty())).map(|h| h.device)
}
