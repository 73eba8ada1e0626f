//! Actions as words. It looks no device up: the caller says what they are called.

use super::{Unsayable, pedit, police, quoted};
use crate::rules::{Action, Control, Csum, Gact, Mirred, MirredMode, Nat, RandomKind, Skbedit, Skbmod, Vlan};
use crate::tc::action::Extras;
use crate::tc::action::gact::control_text;
use crate::tc::number::classid_text;
use crate::tc::proto;
use crate::types::{Checksums, DeviceId, VLAN_ID_MASK, VlanOp};

/// An action with its index; what stands after the word `action` (for the old word `police`: in its place).
///
/// # Errors
/// tc has no words for it.
pub fn action(action: &Action, index: u32, name: &dyn Fn(DeviceId) -> String) -> Result<String, Unsayable> {
    let what = match action {
        Action::Gact(a) => gact(a)?,
        Action::Mirred(a) => mirred(a, &quoted(&name(a.device))?)?,
        Action::Skbedit(a) => format!("{} {}", skbedit(a), control(a.control)?),
        Action::Skbmod(a) => format!("{} {}", skbmod(a), control(a.control)?),
        Action::Csum(a) => format!("csum {} {}", checksums(a), control(a.control)?),
        Action::Pedit(a) => format!("{} {}", pedit::words(a)?, control(a.control)?),
        Action::Vlan(a) => format!("{} {}", vlan(a), control(a.control)?),
        Action::Nat(a) => format!("{} {}", nat(a)?, control(a.control)?),
        Action::Simple(a) => format!("simple sdata {} {}", quoted(&a.data)?, control(a.control)?),
        Action::Police(a) => police::words(a)?,
    };
    Ok(format!("{what} index {index}"))
}

/// What stands behind an action's own words, with a space before it.
#[must_use]
pub fn extras(extras: &Extras) -> String {
    let mut out = String::new();
    if let Some(cookie) = &extras.cookie {
        let digits: String = cookie.iter().map(|byte| format!("{byte:02x}")).collect();
        out.push_str(&format!(" cookie {digits}"));
    }
    if let Some(hw_stats) = extras.hw_stats {
        out.push_str(&format!(" hw_stats {hw_stats}"));
    }
    for (on, word) in [(extras.no_percpu, "no_percpu"), (extras.skip_sw, "skip_sw"), (extras.skip_hw, "skip_hw")] {
        out.push_str(&if on { format!(" {word}") } else { String::new() });
    }
    out
}

fn control(control: Control) -> Result<String, Unsayable> {
    match control {
        Control::Stolen | Control::Queued => Err(Unsayable(format!("the control {}", control_text(control)))),
        Control::Pass
        | Control::Pipe
        | Control::Continue
        | Control::Reclassify
        | Control::Shot
        | Control::Trap
        | Control::Jump(_)
        | Control::GotoChain(_) => Ok(control_text(control)),
    }
}

fn gact(gact: &Gact) -> Result<String, Unsayable> {
    let decision = control(gact.control)?;
    let Some(random) = &gact.random else { return Ok(format!("gact {decision}")) };
    let kind = match random.kind {
        RandomKind::Netrand => "netrand",
        RandomKind::Determ => "determ",
    };
    Ok(format!("gact {decision} random {kind} {} {}", control(random.control)?, random.val))
}

fn mirred(mirred: &Mirred, device: &str) -> Result<String, Unsayable> {
    let direction = mirred.direction.as_str();
    match (mirred.mode, mirred.control) {
        (MirredMode::Redirect, Control::Stolen) => Ok(format!("mirred {direction} redirect dev {device}")),
        (MirredMode::Redirect, other) => {
            Err(Unsayable(format!("mirred redirect with the control {}", control_text(other))))
        }
        (MirredMode::Mirror, other) => Ok(format!("mirred {direction} mirror dev {device} {}", control(other)?)),
    }
}

fn skbedit(edit: &Skbedit) -> String {
    let mut out = "skbedit".to_owned();
    if let Some(queue) = edit.queue_mapping {
        out.push_str(&format!(" queue_mapping {queue}"));
    }
    match edit.mark {
        Some((mark, u32::MAX)) if !edit.full_mask => out.push_str(&format!(" mark {mark:#x}")),
        Some((mark, mask)) => out.push_str(&format!(" mark {mark:#x}/{mask:#x}")),
        None => {}
    }
    if let Some(priority) = edit.priority {
        out.push_str(&format!(" priority {}", classid_text(priority)));
    }
    if let Some(ptype) = edit.ptype {
        out.push_str(&format!(" ptype {}", ptype.as_str()));
    }
    out.push_str(if edit.inheritdsfield { " inheritdsfield" } else { "" });
    out
}

fn skbmod(edit: &Skbmod) -> String {
    let mut out = "skbmod".to_owned();
    if let Some(etype) = edit.etype {
        out.push_str(&format!(" set etype {etype:#x}"));
    }
    if let Some(mac) = edit.dmac {
        out.push_str(&format!(" set dmac {mac}"));
    }
    if let Some(mac) = edit.smac {
        out.push_str(&format!(" set smac {mac}"));
    }
    out.push_str(if edit.swap_mac { " swap mac" } else { "" });
    out.push_str(if edit.ecn { " ecn" } else { "" });
    out
}

fn checksums(csum: &Csum) -> String {
    let names: Vec<&str> =
        Checksums::NAMES.iter().filter(|(one, _)| csum.update.has(*one)).map(|(_, name)| *name).collect();
    names.join(" and ")
}

fn vlan(vlan: &Vlan) -> String {
    let tag = |word: &str, tpid: u16, id: u16, priority: Option<u8>| {
        let priority = priority.map_or_else(String::new, |p| format!(" priority {p}"));
        format!("vlan {word} protocol {} id {id}{priority}", proto::link_name(tpid))
    };
    match vlan.op {
        VlanOp::Pop => "vlan pop".to_owned(),
        VlanOp::Push { tpid, tci } => tag("push", tpid, tci & VLAN_ID_MASK, Some((tci >> 13) as u8)),
        VlanOp::Modify { tpid, id, priority } => tag("modify", tpid, id, priority),
        VlanOp::PopEth => "vlan pop_eth".to_owned(),
        VlanOp::PushEth { dst, src } => format!("vlan push_eth dst_mac {dst} src_mac {src}"),
    }
}

fn nat(nat: &Nat) -> Result<String, Unsayable> {
    let rule = nat.rule;
    let bits = rule.mask.leading_ones();
    if bits + rule.mask.trailing_zeros() != 32 && bits != 32 || bits == 0 {
        return Err(Unsayable(format!("nat with the mask {:#x}", rule.mask)));
    }
    let direction = if rule.egress { "egress" } else { "ingress" };
    let [old, new] = [rule.old, rule.new].map(std::net::Ipv4Addr::from);
    Ok(format!("nat {direction} {old}/{bits} {new}"))
}
