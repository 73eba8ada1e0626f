//! `vlan`: parse, print.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::super::args::Args;
use super::super::error::TcError;
use super::super::number::{get_u8, get_u16, lladdr};
use super::super::proto;
use super::{ActionParams, control_or, gact, trailing_index};
use crate::rules::{Control, Vlan};
use crate::types::{MacAddr, VLAN_ID_MASK, VlanOp, ethertype, is_tag};

const USAGE: &[&str] = &[
    "Usage: vlan pop [CONTROL]",
    "       vlan push [ protocol VLANPROTO ] id VLANID [ priority VLANPRIO ] [CONTROL]",
    "       vlan modify [ protocol VLANPROTO ] id VLANID [ priority VLANPRIO ] [CONTROL]",
    "       vlan pop_eth [CONTROL]",
    "       vlan push_eth dst_mac LLADDR src_mac LLADDR [CONTROL]",
    "       VLANPROTO is one of 802.1Q or 802.1AD",
    "            with default: 802.1Q",
    "       CONTROL := reclassify | pipe | drop | continue | pass |",
    "                  goto chain <CHAIN_INDEX>",
];

/// The words that say what is done, in the order in which tc tries prefixes of them.
const OPS: [&str; 5] = ["pop", "push", "modify", "pop_eth", "push_eth"];

/// `vlan` as written.
#[derive(Clone, Debug)]
pub struct VlanSpec {
    /// What it does; `None`: it can only bind an action that exists.
    pub op: Option<VlanOp>,
    /// The id as written: the kernel refuses 4095 and above.
    pub id: Option<u16>,
    /// How to go on.
    pub control: Control,
}

/// What has been read of it.
#[derive(Default)]
struct Reading {
    op: Option<&'static str>,
    id: Option<u16>,
    tpid: Option<u16>,
    priority: Option<u8>,
    dst: Option<MacAddr>,
    src: Option<MacAddr>,
}

/// `parse_vlan()`, tc/m_vlan.c: the current word is `vlan`.
///
/// # Errors
/// What tc says.
pub fn parse(args: &mut Args<'_>) -> Result<(ActionParams, u32), TcError> {
    let start = args.position();
    let mut reading = Reading::default();
    args.next_word()?;
    while args.word().is_some() {
        if !read(args, &mut reading)? {
            break;
        }
        args.skip();
    }
    let control = control_or(args, Control::Pipe);
    let index = trailing_index(args, 10, "vlan: Illegal \"index\"")?.unwrap_or_default();
    let op = reading.op.map(|op| finish(op, &reading, start)).transpose()?;
    if reading.tpid.is_some_and(|tpid| !is_tag(tpid)) {
        return Err(explained("protocol not supported", start, "use protocol 802.1Q or 802.1ad"));
    }
    Ok((ActionParams::Vlan(VlanSpec { op, id: reading.id, control }), index))
}

/// One word with its value; false when it is none of `vlan`.
fn read(args: &mut Args<'_>, reading: &mut Reading) -> Result<bool, TcError> {
    if let Some(op) = OPS.into_iter().find(|op| args.matches(op)) {
        if reading.op.is_some() {
            let word = args.word().unwrap_or_default();
            let message = format!("unexpected \"{word}\" - action already specified");
            return Err(explained(&message, args.position(), "give one of pop, push, modify, pop_eth, push_eth"));
        }
        reading.op = Some(op);
    } else if args.matches("id") {
        let text = value(args, reading, "push/modify")?;
        reading.id = Some(get_u16(text, 0).ok_or_else(|| wrong("id is invalid", args, "a VLAN id is 0 to 4094"))?);
    } else if args.matches("protocol") {
        let text = value(args, reading, "push/modify")?;
        let number = proto::link_number(text);
        reading.tpid = Some(number.ok_or_else(|| wrong("protocol is invalid", args, "use 802.1Q or 802.1ad"))?);
    } else if args.matches("priority") {
        let text = value(args, reading, "push/modify")?;
        let priority = get_u8(text, 0).filter(|p| *p <= 7);
        reading.priority = Some(priority.ok_or_else(|| wrong("prio is invalid", args, "a priority is 0 to 7"))?);
    } else if args.matches("dst_mac") {
        reading.dst = Some(address(args, reading, "dst_mac is invalid")?);
    } else if args.matches("src_mac") {
        reading.src = Some(address(args, reading, "src_mac is invalid")?);
    } else if args.matches("help") {
        return Err(usage(args.position()));
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// The word after an option that only some of the actions have.
fn value<'a>(args: &mut Args<'a>, reading: &Reading, of: &str) -> Result<&'a str, TcError> {
    let fits = match of {
        "push_eth" => reading.op == Some("push_eth"),
        _ => matches!(reading.op, Some("push" | "modify")),
    };
    if !fits {
        let hint = format!("say vlan {} before it", if of == "push_eth" { "push_eth" } else { "push or vlan modify" });
        return Err(wrong(&format!("only valid for {of}"), args, &hint));
    }
    args.next_word()
}

fn address(args: &mut Args<'_>, reading: &Reading, illegal: &str) -> Result<MacAddr, TcError> {
    let text = value(args, reading, "push_eth")?;
    let hint = "write six hex bytes, like 02:00:00:00:00:01";
    let invalid = || wrong(illegal, args, hint).after(&[format!("\"{text}\" is invalid lladdr.")]);
    lladdr(text).map(MacAddr::from).ok_or_else(invalid)
}

/// `invarg()` at the current word.
fn wrong(why: &str, args: &Args<'_>, hint: &str) -> TcError {
    TcError::invalid_argument(why, args.word().unwrap_or_default(), args.position(), hint)
}

/// A message with the usage behind it.
fn explained(message: &str, token: usize, hint: &str) -> TcError {
    let mut error = TcError::parse(message, token, hint);
    error.messages.extend(USAGE.iter().map(|s| (*s).to_owned()));
    error
}

/// `vlan help` ends tc.
fn usage(token: usize) -> TcError {
    let mut error = TcError::usage(USAGE[0], token, "say vlan pop, push, modify, pop_eth or push_eth");
    error.messages.extend(USAGE[1..].iter().map(|s| (*s).to_owned()));
    error
}

fn finish(op: &str, reading: &Reading, start: usize) -> Result<VlanOp, TcError> {
    let missing = |what: &str| {
        explained(&format!("{what} needs to be set for {op}"), start, &format!("write vlan {op} {what} …"))
    };
    let tpid = reading.tpid.unwrap_or(ethertype::VLAN);
    Ok(match op {
        "pop" => VlanOp::Pop,
        "pop_eth" => VlanOp::PopEth,
        "push_eth" => {
            let dst = reading.dst.ok_or_else(|| missing("dst_mac"))?;
            VlanOp::PushEth { dst, src: reading.src.ok_or_else(|| missing("src_mac"))? }
        }
        _ => {
            let id = reading.id.ok_or_else(|| missing("id"))?;
            let priority = reading.priority;
            if op == "modify" {
                VlanOp::Modify { tpid, id, priority }
            } else {
                VlanOp::Push { tpid, tci: id | u16::from(priority.unwrap_or(0)) << 13 }
            }
        }
    })
}

/// What stands between `action order N: ` and the index; `numeric`: the protocol as a number.
#[must_use]
pub fn text(vlan: &Vlan, numeric: bool) -> String {
    let mut out = format!("vlan  {}", vlan.op.as_str());
    let mut tag = |id: u16, tpid: u16, priority: Option<u8>| {
        let name = if numeric { format!("[{tpid}]") } else { proto::link_name(tpid) };
        let _ = write!(out, " id {id} protocol {name}");
        if let Some(priority) = priority {
            let _ = write!(out, " priority {priority}");
        }
    };
    match vlan.op {
        VlanOp::Push { tpid, tci } => tag(tci & VLAN_ID_MASK, tpid, Some((tci >> 13) as u8)),
        VlanOp::Modify { tpid, id, priority } => tag(id, tpid, priority),
        VlanOp::PushEth { dst, src } => {
            let _ = write!(out, " dst_mac {dst} src_mac {src}");
        }
        VlanOp::Pop | VlanOp::PopEth => {}
    }
    out.push_str(&format!(" {}\n\t ", gact::control_text(vlan.control)));
    out
}

/// Its JSON, before the index.
pub fn json(vlan: &Vlan, out: &mut Map<String, Value>) {
    out.insert("vlan_action".to_owned(), vlan.op.as_str().into());
    let mut tag = |id: u16, tpid: u16, priority: Option<u8>| {
        out.insert("id".to_owned(), id.into());
        out.insert("protocol".to_owned(), proto::link_name(tpid).into());
        if let Some(priority) = priority {
            out.insert("priority".to_owned(), priority.into());
        }
    };
    match vlan.op {
        VlanOp::Push { tpid, tci } => tag(tci & VLAN_ID_MASK, tpid, Some((tci >> 13) as u8)),
        VlanOp::Modify { tpid, id, priority } => tag(id, tpid, priority),
        VlanOp::PushEth { dst, src } => {
            out.insert("dst_mac".to_owned(), dst.to_string().into());
            out.insert("src_mac".to_owned(), src.to_string().into());
        }
        VlanOp::Pop | VlanOp::PopEth => {}
    }
    out.insert("control_action".to_owned(), gact::control_json(vlan.control));
}
