//! One frame through the interpreter, each step told in words and as JSON, and why it ended as it did. It decides nothing.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::unsure::unsure;
use super::words::{changes, describe, ematch_words, fw_words, hex, verdict};
use crate::rules::eval::trace::{End, LinkFailure, Step};
use crate::rules::eval::{Event, Network};
use crate::rules::{Control, Counters, FrameWord, Ruleset, U32Base, U32Key, U32Node};
use crate::tc::filter::u32::handle_text;
use crate::types::{DeviceId, Direction, PacketMeta, Topology};

/// Rules and devices.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The rules; their device ids are those of `topology`.
    pub ruleset: &'a Ruleset,
    /// The devices.
    pub topology: &'a Topology,
    /// The frame is one that a running forwarder had, whose tokens and counts are not known here.
    pub live: bool,
}

/// What the rules do with one frame.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The device that received it.
    pub device: String,
    /// The frame, as received.
    pub frame: Vec<u8>,
    /// What became of it.
    pub events: Vec<Event>,
    /// Why: hook by hook, the filter and the action that decided.
    pub why: Vec<String>,
    /// The steps on the way, in text.
    steps: String,
    json: Vec<Value>,
    results: Vec<String>,
}

impl Scene<'_> {
    /// Runs a frame through the interpreter. `counters` must have room for the ruleset's words.
    pub fn explain(
        &self,
        device: DeviceId,
        frame: &[u8],
        counters: &mut Counters,
        random_below: &mut dyn FnMut(u32) -> u32,
    ) -> Explanation {
        let names = |id: DeviceId| self.topology.device(id).key.to_string();
        let mut narrator = Narrator {
            names: &names,
            live: self.live,
            text: String::new(),
            json: Vec::new(),
            scopes: Vec::new(),
            why: Vec::new(),
        };
        let network = Network { ruleset: self.ruleset, topology: self.topology };
        let mut tell = |step: &Step<'_>| narrator.step(step);
        let events = network.receive_told(device, frame, counters, random_below, Some(&mut tell));
        let Narrator { text, json, mut why, .. } = narrator;
        if why.is_empty() {
            why.push(format!("{} ingress has no rules", names(device)));
        }
        let result = |event: &Event| match event {
            Event::Transmit { device, frame } => format!("{} transmits {} bytes", names(*device), frame.len()),
            Event::Stack { device, meta, .. } => {
                format!("the stack behind {} gets it as {}, mark {:#x}", names(*device), meta.ptype.as_str(), meta.mark)
            }
            Event::Dropped { device, reason } => format!("it ends at {}: {}", names(*device), reason.as_str()),
        };
        let results = events.iter().map(result).collect();
        Explanation { device: names(device), frame: frame.to_vec(), events, why, steps: text, json, results }
    }
}

impl Explanation {
    /// In words; an empty line at the end.
    #[must_use]
    pub fn text(&self, number: u64) -> String {
        let mut out = format!("frame {number}: {} bytes received by {}\n{}", self.frame.len(), self.device, self.steps);
        for result in &self.results {
            let _ = writeln!(out, "=> {result}");
        }
        let _ = writeln!(out, "why: {}\n", self.why.join("; "));
        out
    }

    /// As an object on one line. `more` is put behind its own members.
    #[must_use]
    pub fn json_line(&self, number: u64, more: Option<(&str, Value)>) -> String {
        let mut object = json!({
            "frame": number,
            "device": self.device,
            "len": self.frame.len(),
            "bytes": hex(&self.frame),
            "steps": self.json,
            "result": self.results,
            "why": self.why,
        });
        if let Some((name, value)) = more {
            object[name] = value;
        }
        format!("{object}\n")
    }
}

/// What was seen of a hook so far.
struct Scope {
    place: String,
    tried: usize,
    other_protocol: usize,
    /// `pref 1 u32`.
    filter: String,
    /// The filter that matched last, with its handle.
    matched: Option<String>,
    action: Option<String>,
    /// Its place in the list of reasons: hooks in the order in which they were entered.
    reason: usize,
}

struct Narrator<'a> {
    names: &'a dyn Fn(DeviceId) -> String,
    live: bool,
    text: String,
    json: Vec<Value>,
    /// The hooks that the frame is in: mirred enters another within one.
    scopes: Vec<Scope>,
    why: Vec<String>,
}

impl Narrator<'_> {
    /// A line, indented by how deep mirred is in itself, and `more` steps.
    fn line(&mut self, more: usize, text: &str) {
        let depth = self.scopes.len().saturating_sub(1) * 3 + more;
        let _ = writeln!(self.text, "{}{text}", "  ".repeat(depth));
    }

    fn scope(&mut self) -> Option<&mut Scope> {
        self.scopes.last_mut()
    }

    fn step(&mut self, step: &Step<'_>) {
        match *step {
            Step::Enter { device, direction, data, meta } => self.enter(device, direction, data, meta),
            Step::Leave { end, .. } => self.leave(end),
            Step::Chain { index, exists } => self.chain(index, exists),
            Step::OtherProtocol { prio, wanted, protocol } => {
                self.scope().into_iter().for_each(|s| s.other_protocol += 1);
                self.line(2, &format!("pref {prio}: for protocol {wanted:#06x} only, the packet's is {protocol:#06x}"));
                self.json.push(json!({ "step": "other_protocol", "pref": prio, "wants": wanted, "has": protocol }));
            }
            Step::Filter { prio, kind } => {
                let filter = format!("pref {prio} {kind}");
                self.line(2, &filter);
                if let Some(scope) = self.scope() {
                    scope.tried += 1;
                    scope.filter = filter;
                }
                self.json.push(json!({ "step": "filter", "pref": prio, "kind": kind }));
            }
            Step::Mark { node, mark } => self.mark(node, mark),
            Step::Key { node, key, word, at, frame_len } => self.key((node, key), word, at, frame_len),
            Step::Link { node, table, bucket, offset, next_header, beyond } => {
                self.link(node, (table, bucket), (offset, offset + next_header), beyond);
            }
            Step::LinkFails { node, failure } => self.link_fails(node, failure),
            Step::Flower { handle, name, want, have, holds } => {
                self.line(3, &format!("{handle:#x} {name} {want}: the frame has {have}: {}", yes(holds)));
                self.json.push(
                    json!({ "step": "flower", "handle": handle, "key": name, "wants": want, "has": have, "holds": holds }),
                );
            }
            Step::Fw { fw, mark } => {
                let (text, is_class) = fw_words(fw, mark);
                self.line(3, &text);
                if let (Some(scope), true) = (self.scope(), is_class) {
                    (scope.matched, scope.action) = (Some(scope.filter.clone()), None);
                }
                self.json.push(json!({ "step": "fw", "has": mark, "text": text }));
            }
            Step::Ematch { handle, ematch, inverted, holds } => {
                let (want, by_chance) = ematch_words(ematch, inverted);
                let holds = holds != inverted;
                self.line(3, &format!("{handle:#x} {want}: {}", yes(holds)));
                if by_chance {
                    self.line(4, "(this is chance: another time it may fall the other way)");
                }
                self.json.push(
                    json!({ "step": "ematch", "handle": handle, "wants": want, "holds": holds, "unsure": by_chance }),
                );
            }
            Step::Match { handle, but } => {
                let text = but.map_or(String::new(), |why| format!(", but {why}"));
                self.line(3, &format!("matches{text}"));
                if let (Some(scope), None) = (self.scope(), but) {
                    let handle =
                        if scope.filter.ends_with(" u32") { handle_text(handle) } else { format!("{handle:#x}") };
                    scope.matched = Some(format!("{} {handle}", scope.filter));
                    scope.action = None;
                }
                self.json.push(json!({ "step": "match", "handle": handle, "but": but }));
            }
            Step::Action { order, instance, before, after, end } => {
                let text = describe(instance, self.names);
                let kind = text.split_whitespace().next().unwrap_or_default().to_owned();
                self.line(4, &format!("action {order} {text}: {}", verdict(end)));
                let changed = changes(before, after);
                changed.iter().for_each(|change| self.line(6, change));
                let unsure = unsure(instance, self.live);
                unsure.iter().for_each(|why| self.line(6, &format!("({why})")));
                if let Some(scope) = self.scope() {
                    scope.action = Some(format!("action {order} {kind}"));
                }
                self.json.push(json!({
                    "step": "action", "order": order, "kind": kind, "action": text, "before": hex(before.0), "after": hex(after.0),
                    "changes": changed, "verdict": verdict(end), "unsure": unsure,
                }));
            }
        }
    }

    fn enter(&mut self, device: DeviceId, direction: Direction, data: &[u8], meta: &PacketMeta) {
        let place = format!("{} {}", (self.names)(device), direction.as_str());
        self.why.push(String::new());
        self.scopes.push(Scope {
            place: place.clone(),
            tried: 0,
            other_protocol: 0,
            filter: String::new(),
            matched: None,
            action: None,
            reason: self.why.len() - 1,
        });
        let tag = meta.tag.map_or(String::new(), |t| format!(", VLAN {} ({:#06x})", t.tci & 0xfff, t.tpid));
        let protocol = meta.classify_protocol();
        let (len, ptype) = (data.len(), meta.ptype.as_str());
        self.line(1, &format!("{place}: {len} bytes, protocol {protocol:#06x}{tag}, {ptype}"));
        self.json.push(json!({
            "step": "enter", "hook": place, "len": len, "protocol": protocol, "ptype": ptype,
            "vlan": meta.tag.map(|t| json!({ "id": t.tci & 0xfff, "priority": t.tci >> 13, "tpid": t.tpid })),
        }));
    }

    fn leave(&mut self, end: End) {
        let words = match end {
            End::Control(Control::Continue) => "no filter decided, so it passes".to_owned(),
            End::Control(Control::Pipe) => "pass (the last action says pipe)".to_owned(),
            end => verdict(end),
        };
        self.line(2, &format!("verdict: {words}"));
        if let Some(scope) = self.scopes.pop() {
            self.why[scope.reason] = scope.why(end, &words);
            self.json.push(json!({ "step": "verdict", "hook": scope.place, "verdict": words }));
        }
    }

    fn chain(&mut self, index: u32, exists: bool) {
        if index != 0 || !exists {
            let empty = if exists { "" } else { ", which has no filter" };
            self.line(2, &format!("chain {index}{empty}"));
        }
        self.json.push(json!({ "step": "chain", "chain": index, "exists": exists }));
    }

    fn mark(&mut self, node: &U32Node, mark: u32) {
        let Some(want) = node.mark else { return };
        let (holds, handle) = (mark & want.mask == want.value, handle_text(node.handle));
        let want = format!("{:#x}/{:#x}", want.value, want.mask);
        self.line(3, &format!("{handle} mark {want}: the packet's is {mark:#x}: {}", yes(holds)));
        self.json.push(json!({ "step": "mark", "handle": handle, "wants": want, "has": mark, "holds": holds }));
    }

    fn key(&mut self, (node, key): (&U32Node, &U32Key), word: Option<FrameWord>, at: i64, frame_len: usize) {
        let base = if key.base == U32Base::NextHeader { "nexthdr+" } else { "" };
        let holds = word.map(|word| word.holds(key.value, key.mask));
        let have = match word {
            None => format!("{}, so the whole filter ends", cut(at, 4, frame_len)),
            Some(FrameWord { known, .. }) if key.mask & !known != 0 => {
                "bytes before the frame are compared, which are whatever the kernel has there: no".to_owned()
            }
            Some(FrameWord { word, .. }) => {
                format!("the frame has {word:08x}, masked {:08x}: {}", word & key.mask, yes(holds == Some(true)))
            }
        };
        let handle = handle_text(node.handle);
        let want = format!("{:08x}/{:08x}", key.value, key.mask);
        let place = format!("{base}{}", key.offset);
        self.line(3, &format!("{handle} match {want} at {place}: {have}"));
        self.json.push(json!({
            "step": "key", "handle": handle, "wants": want, "at": place, "frame_at": at,
            "has": word.map(|w| format!("{:08x}", w.word)), "holds": holds, "text": have,
        }));
    }

    fn link(&mut self, node: &U32Node, (table, bucket): (u32, usize), (from, next_header): (i64, i64), beyond: bool) {
        let handle = handle_text(node.handle);
        let then = if beyond { "; that is behind the frame's end, so nothing there is tried" } else { "" };
        let text = format!(
            "{handle} link {table:x}:{bucket:x}: keys there count from {from}, nexthdr+ from {next_header}{then}"
        );
        self.line(3, &text);
        self.json.push(json!({
            "step": "link", "handle": handle, "table": format!("{table:x}:"), "bucket": bucket, "from": from,
            "nexthdr": next_header, "beyond": beyond,
        }));
    }

    fn link_fails(&mut self, node: &U32Node, failure: LinkFailure) {
        let handle = handle_text(node.handle);
        let why = match failure {
            LinkFailure::Cut { at, bytes, frame_len } => {
                format!("what it hashes or adds {}", cut(at, bytes, frame_len))
            }
            LinkFailure::Deep => "tables link too deep".to_owned(),
        };
        self.line(3, &format!("{handle} link: {why}, so the whole filter ends"));
        self.json.push(json!({ "step": "link", "handle": handle, "fails": why }));
    }
}

impl Scope {
    /// The filter and the action that decided.
    fn why(&self, end: End, words: &str) -> String {
        let place = &self.place;
        match (&self.matched, end) {
            (None, End::Control(Control::Continue)) => {
                let other = match self.other_protocol {
                    0 => String::new(),
                    n => format!(", {n} for another protocol"),
                };
                format!("{place}: no filter matched ({} tried{other}), so it passes", self.tried)
            }
            (Some(matched), End::Control(Control::Continue)) => {
                format!("{place} {matched} matched, but said continue, and nothing after it decided, so it passes")
            }
            (Some(matched), _) => {
                let action = self.action.as_ref().map_or("which has no action".to_owned(), Clone::clone);
                format!("{place} {matched}, {action}: {words}")
            }
            (None, _) => format!("{place}: {words}"),
        }
    }
}

/// Bytes that are not in the frame.
fn cut(at: i64, bytes: i64, frame_len: usize) -> String {
    if at < 0 {
        format!("cannot be read: byte {at} is before the frame's start")
    } else {
        format!("cannot be read: the frame ends at {frame_len}, bytes {at}..{} are needed", at + bytes)
    }
}

const fn yes(holds: bool) -> &'static str {
    if holds { "yes" } else { "no" }
}
