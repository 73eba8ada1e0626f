//! `skbedit`: parse, print.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::super::args::Args;
use super::super::error::TcError;
use super::super::number::{classid, classid_text, get_u16, get_u32, matches};
use super::{ActionParams, control_or, gact, trailing_index};
use crate::rules::{Control, Skbedit};
use crate::types::PacketType;

const USAGE: &[&str] = &[
    "Usage: ... skbedit <[QM] [PM] [MM] [PT] [IF]>",
    "QM = queue_mapping QUEUE_MAPPING",
    "PM = priority PRIORITY",
    "MM = mark MARK[/MASK]",
    "PT = ptype PACKETYPE",
    "IF = inheritdsfield",
    "PACKETYPE = is one of:",
    "  host, otherhost, broadcast, multicast",
    "QUEUE_MAPPING = device transmit queue to use",
    "PRIORITY = classID to assign to priority field",
    "MARK = firewall mark to set",
    "MASK = mask applied to firewall mark (0xffffffff by default)",
    "note: inheritdsfield maps DS field to skb->priority",
];

/// `parse_skbedit()`: the current word is `skbedit`.
///
/// # Errors
/// What tc says.
pub fn parse(args: &mut Args<'_>) -> Result<(ActionParams, u32), TcError> {
    let mut edit = Skbedit {
        ptype: None,
        mark: None,
        full_mask: false,
        priority: None,
        queue_mapping: None,
        inheritdsfield: false,
        control: Control::Pipe,
    };
    args.next_word()?;
    let start = args.position();
    while args.word().is_some() {
        if args.matches("queue_mapping") {
            edit.queue_mapping = Some(queue_mapping(args)?);
        } else if args.matches("priority") {
            let text = args.next_word()?;
            let hint = "write it as MAJOR:MINOR in hex, or as a hex number";
            let priority = classid(text).ok_or_else(|| TcError::parse("Illegal priority", args.position(), hint))?;
            edit.priority = Some(priority);
        } else if args.matches("mark") {
            edit.mark = Some(mark(args, &mut edit.full_mask)?);
        } else if args.matches("ptype") {
            edit.ptype = Some(ptype(args)?);
        } else if args.matches("inheritdsfield") {
            edit.inheritdsfield = true;
        } else {
            break;
        }
        args.skip();
    }
    let changes = args.position() > start;
    edit.control = control_or(args, Control::Pipe);
    let index = trailing_index(args, 10, "skbedit: Illegal \"index\"")?;
    if !changes && index.is_none() {
        let mut error =
            TcError::parse(USAGE[0], start.saturating_sub(1), "say what to change: ptype, mark, priority …");
        error.messages.extend(USAGE[1..].iter().map(|s| (*s).to_owned()));
        return Err(error);
    }
    Ok((ActionParams::Skbedit(edit), index.unwrap_or_default()))
}

fn queue_mapping(args: &mut Args<'_>) -> Result<u16, TcError> {
    let text = args.next_word()?;
    if text.contains('-') {
        return Err(TcError::unsupported("a range of queues (queue_mapping A-B)", args.position()));
    }
    get_u16(text, 10).ok_or_else(|| TcError::parse("Illegal queue_mapping", args.position(), "a queue is a number"))
}

/// `V` or `V/M`.
fn mark(args: &mut Args<'_>, full_mask: &mut bool) -> Result<(u32, u32), TcError> {
    let text = args.next_word()?;
    let (value, mask) = text.split_once('/').map_or((text, None), |(v, m)| (v, Some(m)));
    let illegal =
        |what: &str| TcError::parse(format!("Illegal {what}"), args.position(), "write it as MARK or MARK/MASK");
    let value = get_u32(value, 0).ok_or_else(|| illegal("mark"))?;
    let mask = mask.map_or(Some(u32::MAX), |m| get_u32(m, 0)).ok_or_else(|| illegal("mask"))?;
    *full_mask = text.contains('/') && mask == u32::MAX;
    Ok((value, mask))
}

fn ptype(args: &mut Args<'_>) -> Result<PacketType, TcError> {
    let word = args.next_word()?;
    let known = [PacketType::Host, PacketType::Broadcast, PacketType::Multicast, PacketType::OtherHost];
    known.into_iter().find(|p| matches(word, p.as_str())).ok_or_else(|| {
        TcError::parse(
            format!("Illegal ptype ({word})"),
            args.position(),
            "use host, otherhost, broadcast or multicast",
        )
    })
}

/// Whether it changes anything; the kernel refuses to make one that does not.
#[must_use]
pub fn is_empty(edit: &Skbedit) -> bool {
    let none = edit.ptype.is_none() && edit.mark.is_none() && edit.priority.is_none();
    none && edit.queue_mapping.is_none() && !edit.inheritdsfield
}

/// What stands between `action order N: ` and the index.
#[must_use]
pub fn text(edit: &Skbedit) -> String {
    let mut out = "skbedit ".to_owned();
    if let Some(queue) = edit.queue_mapping {
        let _ = write!(out, "queue_mapping {queue}");
    }
    if let Some(priority) = edit.priority {
        let _ = write!(out, " priority {}", classid_text(priority));
    }
    if let Some((mark, mask)) = edit.mark {
        let _ = write!(out, " mark {mark}");
        if mask != u32::MAX || edit.full_mask {
            let _ = write!(out, "/{mask:#x}");
        }
    }
    if let Some(ptype) = edit.ptype {
        let _ = write!(out, " ptype {}", ptype.as_str());
    }
    if edit.inheritdsfield {
        out.push_str(" inheritdsfield");
    }
    let _ = write!(out, " {}\n\t ", gact::control_text(edit.control));
    out
}

/// Its JSON, before the index.
pub fn json(edit: &Skbedit, out: &mut Map<String, Value>) {
    if let Some(queue) = edit.queue_mapping {
        out.insert("queue_mapping".to_owned(), queue.into());
    }
    if let Some(priority) = edit.priority {
        out.insert("priority".to_owned(), classid_text(priority).into());
    }
    if let Some((mark, mask)) = edit.mark {
        out.insert("mark".to_owned(), mark.into());
        if mask != u32::MAX || edit.full_mask {
            out.insert("mask".to_owned(), format!("{mask:x}").into());
        }
    }
    if let Some(ptype) = edit.ptype {
        out.insert("ptype".to_owned(), ptype.as_str().into());
    }
    if edit.inheritdsfield {
        out.insert("inheritdsfield".to_owned(), Value::Null);
    }
    out.insert("control_action".to_owned(), gact::control_json(edit.control));
}
