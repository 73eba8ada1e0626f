//! `viscum explain`: what the rules do with a frame, filter by filter, key by key, action by action, in words. It opens no device.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::replay::topology::Case;
use super::replay::{Engine, Form, ReplayError, engine};
use crate::port::pcap::PcapReader;
use crate::rules::eval::trace::{End, Step};
use crate::rules::eval::{Event, Network};
use crate::rules::{Action, ActionInstance, Control, FwFilter, U32Base};
use crate::tc::action;
use crate::tc::filter::{basic, u32::handle_text};
use crate::tc::number::classid_text;
use crate::types::{DeviceId, PacketMeta, Topology, VlanTag};

/// What to explain.
#[derive(Clone, Debug)]
pub struct Options {
    /// The rules file.
    pub rules: PathBuf,
    /// The device that receives the frames; `None`: the topology's `ingress`.
    pub device: Option<String>,
    /// The topology file, if any.
    pub topology: Option<PathBuf>,
    /// The frames.
    pub frames: Frames,
}

/// Where the frames come from.
#[derive(Clone, Debug)]
pub enum Frames {
    /// A capture: how many of it at most, and from which on (1 is the first).
    Capture {
        /// The file.
        path: PathBuf,
        /// The first that is explained.
        from: u64,
        /// How many.
        count: u64,
    },
    /// One frame.
    One(Vec<u8>),
}

/// Explains frame by frame; `each` gets the text of each. Frames before `from` count for `random determ` and policers, which go by the
/// capture's time.
///
/// # Errors
/// [`ReplayError`].
pub fn explain(options: &Options, each: &mut dyn FnMut(&str)) -> Result<u64, ReplayError> {
    let case = options.topology.as_deref().map(Case::read).transpose()?.unwrap_or_default();
    let given = options.topology.as_ref().map(|path| case.topology(path)).transpose()?;
    let text = std::fs::read_to_string(&options.rules)
        .map_err(|source| ReplayError::Rules { path: options.rules.clone(), source })?;
    let loaded = engine::load(&text, &options.rules.display().to_string(), &case.variables(), given.as_ref());
    if loaded.refused > 0 {
        each(&format!("{} lines of the rules were refused; viscum check tells which\n\n", loaded.refused));
    }
    if given.is_none() {
        each(
            "note: the devices' MAC addresses are not known, so packet types (host, otherhost) may be wrong; --topology tells them\n\n",
        );
    }
    let devices = given.unwrap_or_else(Topology::default);
    let mut engine = Engine::new(&loaded.store, &devices, Form::Eval)?;
    let device = super::replay::receiver(options.device.as_ref(), &case, &engine)?;
    match &options.frames {
        Frames::One(frame) => {
            each(&one(&mut engine, device, 1, frame));
            Ok(1)
        }
        Frames::Capture { path, from, count } => {
            let mut reader = PcapReader::open(path)?;
            let mut number = 0;
            let mut explained = 0;
            let mut first = None;
            while let Some((time, frame)) = reader.next()? {
                let since = time.saturating_sub(*first.get_or_insert(time));
                engine.counters.now_ns = since.as_nanos() as i64 + 1;
                number += 1;
                if number < *from {
                    let _not_asked_for = engine.receive(device, frame, since);
                    continue;
                }
                if explained == *count {
                    break;
                }
                explained += 1;
                each(&one(&mut engine, device, number, frame));
            }
            Ok(explained)
        }
    }
}

/// The text of one frame.
fn one(engine: &mut Engine, device: DeviceId, number: u64, frame: &[u8]) -> String {
    let mut out = String::new();
    let names = |id: DeviceId| engine.topology.device(id).key.to_string();
    let _ = writeln!(out, "frame {number}: {} bytes received by {}", frame.len(), names(device));
    let mut depth = 0;
    let mut random = 1_u32;
    let mut below = |bound: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) % bound.max(1)
    };
    engine.counters.now_ms = 1;
    let network = Network { ruleset: &engine.ruleset, topology: &engine.topology };
    let mut tell = |step: &Step<'_>| write_step(&mut out, step, &mut depth, &names);
    let events = network.receive_told(device, frame, &mut engine.counters, &mut below, Some(&mut tell));
    for event in &events {
        let line = match event {
            Event::Transmit { device, frame } => format!("{} transmits {} bytes", names(*device), frame.len()),
            Event::Stack { device, meta, .. } => {
                format!("the stack behind {} gets it as {}, mark {:#x}", names(*device), meta.ptype.as_str(), meta.mark)
            }
            Event::Dropped { device, reason } => format!("it ends at {}: {}", names(*device), reason.as_str()),
        };
        let _ = writeln!(out, "=> {line}");
    }
    out.push('\n');
    out
}

/// Lines are indented by how deep mirred is in itself.
fn write_step(out: &mut String, step: &Step<'_>, depth: &mut usize, names: &dyn Fn(DeviceId) -> String) {
    let inner = "  ".repeat(*depth * 3);
    match *step {
        Step::Enter { device, direction, data, meta } => {
            *depth += 1;
            let tag = meta.tag.map_or(String::new(), |t| format!(", VLAN {} ({:#06x})", t.tci & 0xfff, t.tpid));
            let _ = writeln!(
                out,
                "{inner}  {} {}: {} bytes, protocol {:#06x}{tag}, {}",
                names(device),
                direction.as_str(),
                data.len(),
                meta.classify_protocol(),
                meta.ptype.as_str()
            );
        }
        Step::Leave { end, .. } => {
            *depth = depth.saturating_sub(1);
            let words = match end {
                End::Control(Control::Continue) => "no filter decided, so it passes".to_owned(),
                End::Control(Control::Pipe) => "pass (the last action says pipe)".to_owned(),
                end => verdict(end),
            };
            let _ = writeln!(out, "{}    verdict: {words}", "  ".repeat(*depth * 3));
        }
        Step::Chain { index, exists } => {
            if index != 0 || !exists {
                let empty = if exists { "" } else { ", which has no filter" };
                let _ = writeln!(out, "{}chain {index}{empty}", &inner[2..]);
            }
        }
        Step::OtherProtocol { prio, wanted, protocol } => {
            let _ = writeln!(
                out,
                "{}pref {prio}: for protocol {wanted:#06x} only, the packet's is {protocol:#06x}",
                &inner[2..]
            );
        }
        Step::Filter { prio, kind } => {
            let _ = writeln!(out, "{}pref {prio} {kind}", &inner[2..]);
        }
        Step::Mark { node, mark } => {
            let Some(want) = node.mark else { return };
            let holds = mark & want.mask == want.value;
            let _ = writeln!(
                out,
                "{inner}{} mark {:#x}/{:#x}: the packet's is {mark:#x}: {}",
                handle_text(node.handle),
                want.value,
                want.mask,
                yes(holds)
            );
        }
        Step::Key { node, key, word } => {
            let base = if key.base == U32Base::NextHeader { "nexthdr+" } else { "" };
            let have = word.map_or("not all in the frame, so the whole filter ends".to_owned(), |word| {
                let holds = (word ^ key.value) & key.mask == 0;
                format!("the frame has {word:08x}, masked {:08x}: {}", word & key.mask, yes(holds))
            });
            let _ = writeln!(
                out,
                "{inner}{} match {:08x}/{:08x} at {base}{}: {have}",
                handle_text(node.handle),
                key.value,
                key.mask,
                key.offset
            );
        }
        Step::Link { node, table, bucket, offset, next_header } => {
            let _ = writeln!(
                out,
                "{inner}{} link {table:x}:{bucket:x}: keys there count from {offset}, nexthdr+ from {}",
                handle_text(node.handle),
                offset + next_header
            );
        }
        Step::Flower { handle, name, want, have, holds } => {
            let _ = writeln!(out, "{inner}{handle:#x} {name} {want}: the frame has {have}: {}", yes(holds));
        }
        Step::Fw { fw, mark } => {
            let words = match fw {
                FwFilter::Classes { qdisc } => {
                    let is_class = FwFilter::is_class(mark, *qdisc);
                    format!("the mark {mark:#x} names a class of {}: {}", classid_text(*qdisc), yes(is_class))
                }
                FwFilter::Marks { mask, rules } => {
                    let found = rules.iter().any(|r| r.handle == mark & mask);
                    format!("a handle {:#x} for the mark {mark:#x}/{mask:#x}: {}", mark & mask, yes(found))
                }
            };
            let _ = writeln!(out, "{inner}{words}");
        }
        Step::Ematch { handle, ematch, inverted, holds } => {
            let not = if inverted { "NOT " } else { "" };
            let words = basic::one_line(ematch);
            let _ = writeln!(out, "{inner}{handle:#x} {not}{words}: {}", yes(holds != inverted));
        }
        Step::Match { but, .. } => {
            let but = but.map_or(String::new(), |why| format!(", but {why}"));
            let _ = writeln!(out, "{inner}matches{but}");
        }
        Step::Action { order, instance, before, after, end } => {
            let _ = writeln!(out, "{inner}  action {order} {}: {}", describe(instance, names), verdict(end));
            for change in changes(before, after) {
                let _ = writeln!(out, "{inner}      {change}");
            }
        }
    }
}

const fn yes(holds: bool) -> &'static str {
    if holds { "yes" } else { "no" }
}

/// An action as its listing says it, on one line.
fn describe(instance: &ActionInstance, names: &dyn Fn(DeviceId) -> String) -> String {
    let text = match &instance.action {
        Action::Gact(a) => action::gact::text(a),
        Action::Mirred(a) => action::mirred::text(a, &names(a.device)),
        Action::Skbedit(a) => action::skbedit::text(a),
        Action::Skbmod(a) => action::skbmod::text(a),
        Action::Csum(a) => action::csum::text(a),
        Action::Pedit(a) => action::pedit::text(a) + &action::pedit::keys_text(a),
        Action::Vlan(a) => action::vlan::text(a),
        Action::Nat(a) => action::nat::text(a),
        Action::Police(a) => return one_line(&action::police::text(a, instance.index, (1, 1))),
        Action::Simple(a) => action::simple::text(a),
    };
    format!("{} index {}", one_line(&text), instance.index)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn verdict(end: End) -> String {
    match end {
        End::Control(Control::Continue) => "continue".to_owned(),
        End::Control(Control::Pass) => "pass".to_owned(),
        End::Control(Control::Pipe) => "pipe".to_owned(),
        End::Control(Control::Reclassify) => "reclassify: once more from the first filter".to_owned(),
        End::Control(Control::Shot) => "drop".to_owned(),
        End::Control(Control::Stolen) => "stolen".to_owned(),
        End::Control(Control::Queued) => "queued".to_owned(),
        End::Control(Control::Trap) => "trap".to_owned(),
        End::Control(Control::Jump(n)) => format!("jump {n}"),
        End::Control(Control::GotoChain(n)) => format!("goto chain {n}"),
        End::Dropped(reason) => format!("dropped ({})", reason.as_str()),
        End::Sent => "sent on".to_owned(),
        End::Lost => "could not be sent on".to_owned(),
    }
}

/// What an action changed.
fn changes(before: (&[u8], &PacketMeta), after: (&[u8], &PacketMeta)) -> Vec<String> {
    let mut list = Vec::new();
    if before.0.len() == after.0.len() {
        changed_bytes(before.0, after.0, &mut list);
    } else {
        list.push(changed_head(before.0, after.0));
    }
    let (old, new) = (before.1, after.1);
    if old.tag != new.tag {
        list.push(format!("outer tag {} -> {}", tag_text(old.tag), tag_text(new.tag)));
    }
    if old.protocol != new.protocol {
        list.push(format!("protocol behind it {:#06x} -> {:#06x}", old.protocol, new.protocol));
    }
    if old.mark != new.mark {
        list.push(format!("mark {:#x} -> {:#x}", old.mark, new.mark));
    }
    if old.priority != new.priority {
        list.push(format!("priority {} -> {}", classid_text(old.priority), classid_text(new.priority)));
    }
    if old.ptype != new.ptype {
        list.push(format!("packet type {} -> {}", old.ptype.as_str(), new.ptype.as_str()));
    }
    if old.queue_mapping != new.queue_mapping {
        list.push(format!("queue {} -> {}", old.queue_mapping, new.queue_mapping));
    }
    list
}

fn changed_bytes(old: &[u8], new: &[u8], list: &mut Vec<String>) {
    let mut at = 0;
    while at < old.len() {
        if old[at] == new[at] {
            at += 1;
            continue;
        }
        let end = (at..old.len()).find(|i| old[*i] == new[*i]).unwrap_or(old.len());
        list.push(format!("bytes {at}..{end}: {} -> {}", hex(&old[at..end]), hex(&new[at..end])));
        at = end;
    }
}

/// A frame that grew or shrank does so at its head: what is the same stands at the end.
fn changed_head(old: &[u8], new: &[u8]) -> String {
    let same = old.iter().rev().zip(new.iter().rev()).take_while(|(o, n)| o == n).count();
    let (was, is) = (&old[..old.len() - same], &new[..new.len() - same]);
    let shown = |bytes: &[u8]| if bytes.is_empty() { "nothing".to_owned() } else { hex(bytes) };
    format!("{} -> {} bytes; its head: {} -> {}", old.len(), new.len(), shown(was), shown(is))
}

fn tag_text(tag: Option<VlanTag>) -> String {
    tag.map_or("none".to_owned(), |t| format!("VLAN {} priority {} ({:#06x})", t.tci & 0xfff, t.tci >> 13, t.tpid))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}
