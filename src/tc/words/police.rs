//! A policer as words: sizes are told in bytes, which tc makes the kernel's ticks of.

use super::Unsayable;
use crate::rules::Control;
use crate::rules::police::{Limit, Police, Rate};
use crate::tc::action::gact::control_text;
use crate::tc::action::police::size_for;

pub(super) fn words(police: &Police) -> Result<String, Unsayable> {
    let mut out = "police".to_owned();
    match police.limit {
        Limit::None => {}
        Limit::Bytes { rate, burst_ticks, peak } => {
            // Behind the slash the bytes of a cell: without it a small MTU would make cells of one byte, which the kernel refuses.
            let cell = if police.mtu < 512 { "/8" } else { "" };
            out.push_str(&format!(
                " rate {}bps burst {}{cell}",
                rate.bytes_per_s,
                size(rate.bytes_per_s, burst_ticks)?
            ));
            if let Some(peak) = peak {
                out.push_str(&format!(" peakrate {}bps", peak.bytes_per_s));
            }
            out.push_str(&rate_words(rate));
        }
        Limit::Packets { per_s, burst_ticks } => {
            out.push_str(&format!(" pkts_rate {per_s} pkts_burst {}", size(per_s, burst_ticks)?));
        }
    }
    if police.mtu != u32::MAX {
        let cell = if police.mtu < 512 && matches!(police.limit, Limit::Bytes { .. }) { "/8" } else { "" };
        out.push_str(&format!(" mtu {}{cell}", police.mtu));
    }
    let (exceed, conform) = (control(police.exceed), control(police.conform));
    out.push_str(&format!(" conform-exceed {exceed} / {conform}"));
    Ok(out)
}

fn rate_words(rate: Rate) -> String {
    let mut out = String::new();
    if rate.overhead != 0 {
        out.push_str(&format!(" overhead {}", rate.overhead));
    }
    if rate.mpu != 0 {
        out.push_str(&format!(" mpu {}", rate.mpu));
    }
    out.push_str(if rate.atm { " linklayer atm" } else { "" });
    out
}

fn size(per_s: u64, ticks: u32) -> Result<u32, Unsayable> {
    size_for(per_s, ticks).ok_or_else(|| Unsayable(format!("a burst of {ticks} ticks at {per_s} in a second")))
}

/// Here tc takes numbers for what it has no word for.
fn control(control: Control) -> String {
    match control {
        Control::Stolen => "4".to_owned(),
        Control::Queued => "5".to_owned(),
        Control::Pass
        | Control::Pipe
        | Control::Continue
        | Control::Reclassify
        | Control::Shot
        | Control::Trap
        | Control::Jump(_)
        | Control::GotoChain(_) => control_text(control),
    }
}
