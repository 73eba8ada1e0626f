//! `skbmod`: parse, print.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::super::args::Args;
use super::super::error::TcError;
use super::super::number::{get_u16, mac};
use super::{ActionParams, control_or, gact, trailing_index};
use crate::rules::{Control, Skbmod};
use crate::types::MacAddr;

const USAGE: &[&str] = &[
    "Usage:... skbmod { set <SETTABLE> | swap <SWAPPABLE> | ecn } [CONTROL] [index INDEX]",
    "where SETTABLE is: [dmac DMAC] [smac SMAC] [etype ETYPE]",
    "where SWAPPABLE is: \"mac\" to swap mac addresses",
    "\tDMAC := 6 byte Destination MAC address",
    "\tSMAC := optional 6 byte Source MAC address",
    "\tETYPE := optional 16 bit ethertype",
    "\tCONTROL := reclassify | pipe | drop | continue | ok |",
    "\t           goto chain <CHAIN_INDEX>",
    "\tINDEX := skbmod index value to use",
];

/// `parse_skbmod()`: the current word is `skbmod`. `set` and `swap` are noise words there.
///
/// # Errors
/// What tc says.
pub fn parse(args: &mut Args<'_>) -> Result<(ActionParams, u32), TcError> {
    let mut edit = Skbmod { dmac: None, smac: None, etype: None, swap_mac: false, ecn: false, control: Control::Pipe };
    let start = args.position();
    let mut options = 0;
    while args.word().is_some() {
        if args.matches("skbmod") || args.matches("swap") || args.matches("set") {
            args.next_word()?;
            continue;
        }
        if args.matches("mac") {
            edit.swap_mac = true;
        } else if args.matches("etype") {
            edit.etype = etype(args)?;
        } else if args.matches("dmac") {
            edit.dmac = Some(address(args, "dst")?);
        } else if args.matches("smac") {
            edit.smac = Some(address(args, "src")?);
        } else if args.matches("ecn") {
            edit.ecn = true;
        } else {
            break;
        }
        options += 1;
        args.skip();
    }
    edit.control = control_or(args, Control::Pipe);
    let index = trailing_index(args, 0, "skbmod: Illegal \"index\"")?;
    if options == 0 && index.is_none() {
        let hint = "say what to change: set dmac MAC, set smac MAC, set etype N, swap mac or ecn";
        let mut error = TcError::usage("skbmod requires at least one option", start, hint);
        error.messages.extend(USAGE.iter().map(|s| (*s).to_owned()));
        return Err(error);
    }
    Ok((ActionParams::Skbmod(effective(edit)), index.unwrap_or_default()))
}

/// 0 is "not given" to tc. It prints what it read.
fn etype(args: &mut Args<'_>) -> Result<Option<u16>, TcError> {
    let text = args.next_word()?;
    let etype = get_u16(text, 0).ok_or_else(|| {
        TcError::invalid_argument("ethertype is invalid", text, args.position(), "write it as 0x800, or in decimal")
    })?;
    args.stderr.push(format!("skbmod etype 0x{etype:x}"));
    Ok((etype != 0).then_some(etype))
}

/// A MAC address after `dmac` or `smac`. tc prints what it read.
fn address(args: &mut Args<'_>, which: &str) -> Result<MacAddr, TcError> {
    let text = args.next_word()?;
    let Some([a, b, c, d, e, f]) = mac(text) else {
        let name = if which == "dst" { "dst mac" } else { "smac" };
        let message = format!("Invalid {name} address {text}");
        return Err(TcError::parse(message, args.position(), "write six hex bytes, like 70:00:00:00:00:00"));
    };
    args.stderr.push(format!("{which} MAC address <{text}>"));
    Ok(MacAddr::new(a, b, c, d, e, f))
}

/// What the kernel keeps of several changes: `swap mac` and `ecn` replace all before them (`tcf_skbmod_init()`).
fn effective(edit: Skbmod) -> Skbmod {
    let none = Skbmod { dmac: None, smac: None, etype: None, swap_mac: false, ecn: false, control: edit.control };
    if edit.ecn {
        Skbmod { ecn: true, ..none }
    } else if edit.swap_mac {
        Skbmod { swap_mac: true, ..none }
    } else {
        edit
    }
}

/// Whether it changes anything; the kernel refuses to make one that does not.
#[must_use]
pub fn is_empty(edit: &Skbmod) -> bool {
    edit.dmac.is_none() && edit.smac.is_none() && edit.etype.is_none() && !edit.swap_mac && !edit.ecn
}

/// What stands between `action order N: ` and the index.
#[must_use]
pub fn text(edit: &Skbmod) -> String {
    let mut out = format!("skbmod {} ", gact::control_text(edit.control));
    if let Some(etype) = edit.etype {
        let _ = write!(out, "set etype 0x{etype:X} \n\t ");
    }
    if let Some(dmac) = edit.dmac {
        let _ = write!(out, "set dmac {dmac} ");
    }
    if let Some(smac) = edit.smac {
        let _ = write!(out, "set smac {smac} ");
    }
    if edit.swap_mac {
        out.push_str("swap mac ");
    }
    if edit.ecn {
        out.push_str("ecn ");
    }
    out.push_str("\n\t ");
    out
}

/// Its JSON, before the index: as newer versions of tc print it, since 6.1 prints none that is valid.
pub fn json(edit: &Skbmod, out: &mut Map<String, Value>) {
    out.insert("control_action".to_owned(), gact::control_json(edit.control));
    if let Some(etype) = edit.etype {
        out.insert("etype".to_owned(), format!("{etype:#x}").into());
    }
    if let Some(dmac) = edit.dmac {
        out.insert("dmac".to_owned(), dmac.to_string().into());
    }
    if let Some(smac) = edit.smac {
        out.insert("smac".to_owned(), smac.to_string().into());
    }
    if edit.swap_mac {
        out.insert("swapmac".to_owned(), Value::Null);
    }
    if edit.ecn {
        out.insert("ecn".to_owned(), Value::Null);
    }
}
