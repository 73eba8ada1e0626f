//! The match `meta(…)` (tc/em_meta.c): parse. It changes no state.

use super::ematch::{Refusal, meta_operand, wrong};
use super::lexer::Text;
use crate::rules::{EmatchMeta, MetaField, MetaObject};

pub(super) const USAGE: &[&str] = &[
    "Usage: meta(OBJECT { eq | lt | gt } OBJECT)",
    "where: OBJECT  := { META_ID | VALUE }",
    "       META_ID := id [ shift SHIFT ] [ mask MASK ]",
    "",
    "Example: meta(nf_mark gt 24)",
    "         meta(indev shift 1 eq \"ppp\")",
    "         meta(tcindex mask 0xf0 eq 0xf0)",
    "",
    "For a list of meta identifiers, use meta(list).",
];

/// What tc calls a field.
#[derive(Clone, Copy)]
enum Id {
    Known(MetaField),
    /// A number or a text.
    Device,
    /// viscum has no such thing: what to use.
    Lacking(&'static str),
}

/// How `meta(list)` shows a line.
enum Entry {
    Section(&'static str),
    Id(&'static str, &'static str, &'static str, Id),
}

const LOAD: Id = Id::Lacking("the load is the kernel's; add and delete rules by it instead (viscum tc, while it runs)");
const SOCKET: Id = Id::Lacking("a received frame has no socket yet; match its addresses and ports");
const ROUTE: Id = Id::Lacking("a received frame has no route yet; match its addresses, or the device with indev");
const DRIVER: Id = Id::Lacking("it says how a driver laid the frame out; pkt_len is its length");
const INDEX: Id = Id::Lacking("use skbedit mark and meta(nf_mark …)");

const ENTRIES: &[Entry] = &[
    Entry::Section("Generic"),
    Entry::Id("random", "INT", "Random value (32 bit)", Id::Known(MetaField::Random)),
    Entry::Id("loadavg_1", "INT", "Load average in last minute", LOAD),
    Entry::Id("loadavg_5", "INT", "Load average in last 5 minutes", LOAD),
    Entry::Id("loadavg_15", "INT", "Load average in last 15 minutes", LOAD),
    Entry::Section("Interfaces"),
    Entry::Id("dev", "INT,VAR", "Device the packet is on", Id::Device),
    Entry::Section("Packet attributes"),
    Entry::Id("priority", "INT", "Priority of packet", Id::Known(MetaField::Priority)),
    Entry::Id("protocol", "INT", "Link layer protocol", Id::Known(MetaField::Protocol)),
    Entry::Id("pkt_type", "INT", "Packet type (uni|multi|broad|...)cast", Id::Known(MetaField::PacketType)),
    Entry::Id("pkt_len", "INT", "Length of packet", Id::Known(MetaField::PacketLen)),
    Entry::Id("data_len", "INT", "Length of data in packet", DRIVER),
    Entry::Id("mac_len", "INT", "Length of link layer header", Id::Known(MetaField::MacLen)),
    Entry::Section("Netfilter"),
    Entry::Id("nf_mark", "INT", "Netfilter mark", Id::Known(MetaField::Mark)),
    Entry::Id("fwmark", "INT", "Alias for nf_mark", Id::Known(MetaField::Mark)),
    Entry::Section("Traffic Control"),
    Entry::Id("tc_index", "INT", "TC Index", INDEX),
    Entry::Section("Routing"),
    Entry::Id("rt_classid", "INT", "Routing ClassID (cls_route)", ROUTE),
    Entry::Id("rt_iif", "INT", "Incoming interface index", ROUTE),
    Entry::Id("vlan", "INT", "Vlan tag", Id::Known(MetaField::Vlan)),
    Entry::Section("Sockets"),
    Entry::Id("sk_family", "INT", "Address family", SOCKET),
    Entry::Id("sk_state", "INT", "State", SOCKET),
    Entry::Id("sk_reuse", "INT", "Reuse Flag", SOCKET),
    Entry::Id("sk_bind_if", "INT,VAR", "Bound interface", SOCKET),
    Entry::Id("sk_refcnt", "INT", "Reference counter", SOCKET),
    Entry::Id("sk_shutdown", "INT", "Shutdown mask", SOCKET),
    Entry::Id("sk_proto", "INT", "Protocol", SOCKET),
    Entry::Id("sk_type", "INT", "Type", SOCKET),
    Entry::Id("sk_rcvbuf", "INT", "Receive buffer size", SOCKET),
    Entry::Id("sk_rmem", "INT", "RMEM", SOCKET),
    Entry::Id("sk_wmem", "INT", "WMEM", SOCKET),
    Entry::Id("sk_omem", "INT", "OMEM", SOCKET),
    Entry::Id("sk_wmem_queue", "INT", "WMEM queue", SOCKET),
    Entry::Id("sk_snd_queue", "INT", "Send queue length", SOCKET),
    Entry::Id("sk_rcv_queue", "INT", "Receive queue length", SOCKET),
    Entry::Id("sk_err_queue", "INT", "Error queue length", SOCKET),
    Entry::Id("sk_fwd_alloc", "INT", "Forward allocations", SOCKET),
    Entry::Id("sk_sndbuf", "INT", "Send buffer size", SOCKET),
];

const HINT: &str = "write it like meta(nf_mark mask 0xff eq 5); meta(list) shows what there is";
/// Why the kernel refuses a comparison.
const TYPES: &str = "a number cannot be compared with a text; for a device write its name first: meta(\"eth0\" eq dev)";

/// One side as far as it is read.
struct Object {
    what: What,
    shift: u8,
    mask: u32,
}

enum What {
    Number(u32),
    Text(Vec<u8>),
    Field(MetaField),
    /// `dev`, and whether it is a text.
    Device(bool),
}

impl What {
    const fn is_text(&self) -> bool {
        match self {
            Self::Text(_) => true,
            Self::Device(text) => *text,
            Self::Number(_) | Self::Field(_) => false,
        }
    }
}

/// `meta_parse_eopt()`; with it, why the kernel will refuse it.
pub(super) fn parse(args: &[Text]) -> Result<(EmatchMeta, Option<&'static str>), Refusal> {
    if args[0].is("list") {
        return Err(Refusal::Say(list()));
    }
    let (mut left, at) = object(args, 0, None)?;
    let Some(word) = args.get(at) else { return wrong("meta: missing operand", 0, HINT) };
    let Some(operand) = meta_operand(word) else { return wrong("meta: invalid operand", at, HINT) };
    if args.len() == at + 1 {
        return wrong("meta: missing rvalue", 0, HINT);
    }
    let (right, at) = object(args, at + 1, Some(&mut left))?;
    if at < args.len() {
        return wrong("meta: unexpected trailer", at, HINT);
    }
    let differ = left.what.is_text() != right.what.is_text();
    let empty = [&left.what, &right.what].into_iter().any(|w| matches!(w, What::Text(text) if text.is_empty()));
    let refused = match (differ, empty) {
        (true, _) => Some(TYPES),
        (false, true) => Some("a text must have a character"),
        (false, false) => None,
    };
    if refused.is_none() && [&left.what, &right.what].into_iter().any(|w| matches!(w, What::Device(false))) {
        let what = "a device's number in meta: it is the kernel's".to_owned();
        return Err(Refusal::Unsupported(what, "compare its name, which must stand first: meta(\"eth0\" eq dev)"));
    }
    Ok((EmatchMeta { left: left.end(), operand, right: right.end() }, refused))
}

/// `parse_object()`: one side from `at` on, and where it ends. `left` is the other side, which may become a text by it.
fn object(args: &[Text], at: usize, left: Option<&mut Object>) -> Result<(Object, usize), Refusal> {
    let word = &args[at];
    let plain = |what| Ok((Object { what, shift: 0, mask: 0 }, at + 1));
    if word.quoted {
        return plain(What::Text(word.bytes.clone()));
    }
    if let Some(number) = word.number() {
        return plain(What::Number(number as u32));
    }
    let mut what = match id(word) {
        None => return wrong("meta: unknown meta id\n", at, HINT),
        Some(Id::Known(field)) => What::Field(field),
        Some(Id::Device) => What::Device(false),
        Some(Id::Lacking(hint)) => return Err(Refusal::Unsupported(format!("meta({})", word.shown()), hint)),
    };
    if left.is_some_and(|left| left.what.is_text()) {
        match what {
            What::Device(_) => what = What::Device(true),
            What::Field(_) | What::Number(_) | What::Text(_) => {
                return wrong("lvalue and rvalue are not compatible.", at, HINT);
            }
        }
    }
    let mut object = Object { what, shift: 0, mask: 0 };
    let mut at = at + 1;
    while let Some(word) = args.get(at).filter(|w| w.is("shift") || w.is("mask")) {
        let name = if word.is("shift") { "shift" } else { "mask" };
        let Some(text) = args.get(at + 1) else { return wrong("meta: missing argument", at, HINT) };
        let Some(number) = text.number() else {
            return wrong(&format!("meta: invalid {name}, must be numeric"), at + 1, HINT);
        };
        if name == "shift" {
            object.shift = number as u8;
        } else {
            object.mask = number as u32;
        }
        at += 2;
    }
    Ok((object, at))
}

impl Object {
    fn end(self) -> MetaObject {
        match self.what {
            What::Number(number) => MetaObject::Number(number),
            What::Text(text) => MetaObject::Text(text),
            What::Field(field) => MetaObject::Field { field, shift: self.shift, mask: self.mask },
            What::Device(_) => MetaObject::Device { shift: self.shift },
        }
    }
}

fn id(word: &Text) -> Option<Id> {
    ENTRIES.iter().find_map(|entry| match entry {
        Entry::Id(name, _, _, id) if word.is(name) => Some(*id),
        Entry::Id(..) | Entry::Section(_) => None,
    })
}

/// `list_meta_ids()`.
fn list() -> Vec<String> {
    const LINE: &str = "--------------------------------------------------------";
    let mut lines = vec![LINE.to_owned(), "  ID               Type       Description".to_owned(), LINE.to_owned()];
    for entry in ENTRIES {
        match entry {
            Entry::Section(name) => lines.extend([String::new(), format!("{name}:")]),
            Entry::Id(name, kind, what, _) => lines.push(format!("  {name:<16} {kind:<10} {what}")),
        }
    }
    // The rule above the first section ends without a new line.
    lines.remove(3);
    lines.push(LINE.to_owned());
    lines
}
