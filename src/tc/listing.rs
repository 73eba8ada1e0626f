//! `tc filter show`, byte for byte as tc 6.1 prints it, and JSON that is always valid. It reads counters and changes nothing.

mod action;
mod chain;
mod json;
mod pretty;
mod qdisc;
mod text;

use std::borrow::Cow;

use serde_json::{Value, json};

use super::command::Parent;
use super::store::{ActionSlot, BlockId, Chain, DeviceState, IngressKind, Proto, ProtoKind, Store};
use crate::rules::CounterSource;
use crate::types::Direction;

/// What to list. All `None`: everything on all devices of the program's own namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// `-n NETNS`.
    pub netns: Option<String>,
    /// `block N`: a shared block.
    pub block: Option<u32>,
    /// `dev D`. With a device and no parent it is the root qdisc that is listed, as in tc.
    pub device: Option<String>,
    /// `parent X`, `ingress`, `egress`.
    pub parent: Option<Parent>,
    /// `prio N`.
    pub prio: Option<u16>,
    /// `protocol P`.
    pub protocol: Option<u16>,
    /// `chain N`.
    pub chain: Option<u32>,
}

/// How to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// `-s`: with counters and times.
    pub stats: bool,
    /// `-j`.
    pub json: bool,
    /// `-p`: u32 keys in words, JSON over several lines.
    pub pretty: bool,
    /// `-br`: no keys, and of actions only kind and index.
    pub brief: bool,
    /// `-d`: the link layer of policers, versions.
    pub details: bool,
    /// `-r`: handles in hex as well.
    pub raw: bool,
    /// `-iec`: rates in Kibit and the like.
    pub iec: bool,
    /// `-N`: protocols as numbers.
    pub numeric: bool,
    /// `-o`: `\` where a line would end.
    pub oneline: bool,
}

impl ListOptions {
    /// A piece of text with the line ends that tc prints by its `_SL_`.
    fn lines<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.oneline { Cow::Owned(text.replace('\n', "\\")) } else { Cow::Borrowed(text) }
    }
}

/// The clock that `installed` and `used` are counted on, the same as the counters' times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Now, in milliseconds.
    pub now_ms: u64,
}

impl Selection {
    /// The command that lists it, as it stands above each part of `filters.txt`: `tc -s filter show dev eth0 parent ffff:`.
    #[must_use]
    pub fn command_line(&self, options: &ListOptions) -> String {
        let mut line = "tc".to_owned();
        if let Some(netns) = &self.netns {
            line.push_str(&format!(" -n {netns}"));
        }
        line.push_str(if options.stats { " -s" } else { "" });
        line.push_str(if options.json { " -j" } else { "" });
        line.push_str(" filter show");
        if let Some(device) = &self.device {
            line.push_str(&format!(" dev {device}"));
        }
        line.push_str(&match self.parent {
            None => String::new(),
            Some(Parent::INGRESS) => " ingress".to_owned(),
            Some(Parent::EGRESS) => " egress".to_owned(),
            Some(Parent(id)) => format!(" parent {}", super::number::classid_text(id)),
        });
        line
    }
}

/// Takes a piece of a listing and clears it; false: no more is wanted.
pub type Sink<'a> = &'a mut dyn FnMut(&mut String) -> bool;

/// About how long a piece of a listing is.
const PIECE_LEN: usize = 64 << 10;

/// Where a listing is written.
struct Out<'a> {
    text: String,
    sink: Sink<'a>,
    wanted: bool,
    /// How many JSON objects were written.
    objects: usize,
    pretty: bool,
}

impl Out<'_> {
    /// Hands on what is there if it is enough; false: no more is wanted. To be asked after each filter.
    fn goes_on(&mut self) -> bool {
        if self.text.len() >= PIECE_LEN {
            self.flush();
        }
        self.wanted
    }

    fn flush(&mut self) {
        if !self.text.is_empty() && self.wanted {
            self.wanted = (self.sink)(&mut self.text);
        }
        self.text.clear();
    }

    /// One more object of the array that a JSON listing is.
    fn object(&mut self, value: &Value) {
        let text = if self.pretty { format!("{value:#}").replace('\n', "\n  ") } else { value.to_string() };
        let before = match (self.objects, self.pretty) {
            (0, false) => "[",
            (0, true) => "[\n  ",
            (_, false) => ",",
            (_, true) => ",\n  ",
        };
        self.text.push_str(before);
        self.text.push_str(&text);
        self.objects += 1;
    }

    fn end_objects(&mut self) {
        self.text.push_str(match (self.objects, self.pretty) {
            (0, _) => "[]\n",
            (_, false) => "]\n",
            (_, true) => "\n]\n",
        });
    }
}

/// A place that is listed, with the parts of its labels that are printed.
struct Labels {
    /// Of a shared block; it has no device and no parent then.
    block: Option<u32>,
    device: Option<String>,
    parent: Option<Parent>,
    protocol: bool,
    prio: bool,
    chain: bool,
}

/// Filters of one hook or root qdisc.
pub(super) type Place<'a> = (&'a DeviceState, BlockId);

/// Everything that a listing reads.
struct Source<'a> {
    store: &'a Store,
    options: &'a ListOptions,
    counters: &'a dyn CounterSource,
    clock: &'a Clock,
}

impl Source<'_> {
    /// Whether `-br` tells of no filter of this prio: of all kinds only flower has a brief form (`terse_dump`, cls_flower.c).
    fn hides(&self, proto: &Proto) -> bool {
        self.options.brief && proto.kind != ProtoKind::Flower
    }

    /// Whether `-br` ends there. matchall counts on over what it could not tell (`mall_walk()`), the others do not.
    fn ends_at(&self, proto: &Proto) -> bool {
        self.hides(proto) && proto.kind != ProtoKind::Matchall
    }
}

impl Store {
    /// The filters of a selection, as text or JSON. `counters` are those of [`Store::ruleset`].
    #[must_use]
    pub fn list_filters(
        &self,
        selection: &Selection,
        options: &ListOptions,
        counters: &dyn CounterSource,
        clock: &Clock,
    ) -> String {
        let mut text = String::new();
        let _whole = self.stream_filters(selection, options, counters, clock, &mut |piece| {
            text.push_str(piece);
            piece.clear();
            true
        });
        text
    }

    /// As [`Store::list_filters`], in pieces of some [`PIECE_LEN`] bytes: `sink` takes and clears each. It ends early when that returns false.
    /// False if the kernel could not have listed all of it (`-br`).
    pub fn stream_filters(
        &self,
        selection: &Selection,
        options: &ListOptions,
        counters: &dyn CounterSource,
        clock: &Clock,
        sink: Sink<'_>,
    ) -> bool {
        let mut out = Out { text: String::new(), sink, wanted: true, objects: 0, pretty: options.pretty };
        let source = Source { store: self, options, counters, clock };
        let mut whole = true;
        'places: for (device, state, block) in self.selected(selection) {
            let label = state.label(block);
            let shared = state.shared_index;
            let labels = Labels {
                block: shared.filter(|index| selection.block != Some(*index)),
                device: device.filter(|_| selection.device.is_none() && shared.is_none()).map(str::to_owned),
                parent: (shared.is_none() && selection.parent != Some(label)).then_some(label),
                protocol: selection.protocol.is_none(),
                prio: selection.prio.is_none(),
                chain: selection.chain.is_none(),
            };
            let place = (state, block);
            for (chain, proto) in state.block(block).protos().filter(|(c, p)| is_selected(selection, c, p)) {
                if options.json {
                    source.json(&labels, place, chain, proto, &mut out);
                } else {
                    source.text(&labels, place, chain, proto, &mut out);
                }
                if source.ends_at(proto) {
                    whole = false;
                    break 'places;
                }
            }
        }
        if options.json {
            out.end_objects();
        }
        out.flush();
        whole
    }

    /// One filter by its handle (`tc filter get`), or a u32 table; `None` if it is not there.
    #[expect(clippy::too_many_arguments, reason = "a filter is named by all of its place")]
    pub(super) fn list_one(
        &self,
        place: Place<'_>,
        chain: &Chain,
        proto: &Proto,
        (handle, parent): (u32, Parent),
        options: &ListOptions,
        counters: &dyn CounterSource,
        clock: &Clock,
    ) -> Option<String> {
        let source = Source { store: self, options, counters, clock };
        let parent = place.0.shared_index.is_none().then_some(parent);
        // tc knows which block it asked for, and does not say it again.
        let labels = Labels { block: None, device: None, parent, protocol: true, prio: true, chain: true };
        if options.json {
            let list = Value::Array(vec![source.one_json(&labels, place, chain, proto, handle)?]);
            return Some(if options.pretty { format!("{list:#}\n") } else { format!("{list}\n") });
        }
        source.one_text(&labels, place, chain, proto, handle)
    }

    /// Actions by themselves (`tc actions ls|get`): numbered from `first`; `total` is what tc prints as `total acts`.
    pub(super) fn list_actions(
        &self,
        slots: &[ActionSlot],
        (total, first): (usize, usize),
        options: &ListOptions,
        counters: &dyn CounterSource,
        clock: &Clock,
    ) -> String {
        let source = Source { store: self, options, counters, clock };
        let numbered = (first..).zip(slots).map(|(order, slot)| (order, self.action(*slot)));
        if options.json {
            let list: Vec<Value> = numbered.map(|(order, state)| source.action_json(order, state, false)).collect();
            let all = json!([{ "total acts": total }, { "actions": list }]);
            return if options.pretty { format!("{all:#}\n") } else { format!("{all}\n") };
        }
        let mut text = options.lines(&format!("total acts {total}\n")).into_owned();
        numbered.for_each(|(order, state)| source.action_text(Some(order), state, false, &mut text));
        text
    }

    /// All places where this store has hooks, in the order of their devices, each as it is best listed: `parent ffff:` for an
    /// ingress qdisc, `ingress` and `egress` for clsact, `parent N:` for a root qdisc with filters.
    #[must_use]
    pub fn selections(&self) -> Vec<Selection> {
        let mut list = Vec::new();
        for (_, key, state) in self.states() {
            let mut parents = match state.ingress {
                Some(IngressKind::Ingress) => vec![Some(Parent::INGRESS_QDISC)],
                Some(IngressKind::Clsact) => vec![Some(Parent::INGRESS), Some(Parent::EGRESS)],
                None => Vec::new(),
            };
            if !state.root_block.is_empty() {
                parents.push(Some(state.handle(BlockId::Root)).filter(|p| *p != Parent(0)));
            }
            list.extend(parents.into_iter().map(|parent| Selection {
                netns: key.netns.clone(),
                device: Some(key.name.clone()),
                parent,
                ..Selection::default()
            }));
        }
        list
    }

    /// The places that a selection means, each with the name of its device if it is one of a device.
    fn selected(&self, selection: &Selection) -> Vec<(Option<&str>, &DeviceState, BlockId)> {
        if let Some(index) = selection.block {
            let found = self.shared(selection.netns.as_deref(), index);
            return found.map(|(_, state)| (None, state, BlockId::Ingress)).into_iter().collect();
        }
        let mut list = Vec::new();
        for (_, key, state) in self.states() {
            let other = selection.device.as_ref().is_some_and(|d| *d != key.name);
            if other || key.netns != selection.netns {
                continue;
            }
            let blocks = match (selection.parent, &selection.device) {
                (Some(parent), _) => state.resolve(parent).into_iter().collect(),
                (None, Some(_)) => vec![BlockId::Root],
                (None, None) => vec![BlockId::Ingress, BlockId::Egress, BlockId::Root],
            };
            list.extend(blocks.into_iter().map(|block| {
                let (state, block) = match block {
                    BlockId::Ingress => self.hook_block(state, Direction::Ingress),
                    BlockId::Egress => self.hook_block(state, Direction::Egress),
                    BlockId::Root => (state, block),
                };
                (Some(key.name.as_str()), state, block)
            }));
        }
        list
    }
}

fn is_selected(selection: &Selection, chain: &Chain, proto: &Proto) -> bool {
    selection.chain.is_none_or(|c| c == chain.index)
        && selection.prio.is_none_or(|p| p == proto.prio)
        && selection.protocol.is_none_or(|p| p == proto.protocol)
}
