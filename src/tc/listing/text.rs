//! The text form of filters (`print_filter()` of tc/tc_filter.c and the kinds' printers). It changes nothing.

use std::fmt::Write as _;

use super::pretty::words;
use super::{Labels, Out, Place, Source};
use crate::rules::{EmatchTerm, NodeWord, U32Base, U32Descent, U32Key};
use crate::tc::command::Parent;
use crate::tc::filter::{basic, flower, u32::handle_text};
use crate::tc::number::classid_text;
use crate::tc::proto::link_name;
use crate::tc::store::{Body, Chain, Entry, Proto, ProtoKind};
use crate::types::DeviceId;

impl Source<'_> {
    /// All lines of one prio.
    pub(super) fn text(&self, labels: &Labels, place: Place<'_>, chain: &Chain, proto: &Proto, out: &mut Out<'_>) {
        let head = self.head(labels, chain, proto);
        out.text.push_str(&self.options.lines(&format!("{head}\n")));
        match proto.kind {
            ProtoKind::U32 if self.ends_at(proto) => {}
            ProtoKind::U32 => {
                for table in place.0.u32_tables(place.1, proto.prio) {
                    self.table(&head, table.id, table.divisor, &mut out.text);
                    let more = table.entries().all(|e| {
                        self.u32(&head, proto.protocol, e, &mut out.text);
                        out.goes_on()
                    });
                    if !more {
                        return;
                    }
                }
            }
            ProtoKind::Flower | ProtoKind::Matchall | ProtoKind::Fw | ProtoKind::Basic => {
                let entries = if self.hides(proto) { Vec::new() } else { proto.listed() };
                let _all = entries.into_iter().all(|e| {
                    self.one_node(&head, proto, e, &mut out.text);
                    out.goes_on()
                });
            }
        }
    }

    /// One filter or u32 table.
    pub(super) fn one_text(
        &self,
        labels: &Labels,
        place: Place<'_>,
        chain: &Chain,
        proto: &Proto,
        handle: u32,
    ) -> Option<String> {
        let head = self.head(labels, chain, proto);
        let mut out = String::new();
        match proto.kind {
            ProtoKind::U32 if handle & 0x000f_ffff == 0 => {
                let divisor = place.0.u32_divisor(place.1, handle >> 20)?;
                self.table(&head, handle >> 20, divisor, &mut out);
            }
            ProtoKind::U32 => self.u32(&head, proto.protocol, place.0.u32_entry(place.1, handle)?, &mut out),
            ProtoKind::Flower | ProtoKind::Matchall | ProtoKind::Fw | ProtoKind::Basic => {
                self.one_node(&head, proto, proto.entries.get(proto.position(handle).ok()?)?, &mut out);
            }
        }
        Some(out)
    }

    fn table(&self, head: &str, id: u32, divisor: usize, out: &mut String) {
        let raw = self.raw(id << 20);
        out.push_str(&self.options.lines(&format!("{head}fh {id:x}:{raw} ht divisor {divisor} \n")));
    }

    /// `-r`: a handle in hex as well.
    fn raw(&self, handle: u32) -> String {
        if self.options.raw { format!("[{handle:08x}]") } else { String::new() }
    }

    fn u32(&self, head: &str, protocol: u16, entry: &Entry, all: &mut String) {
        let Body::U32 { keys, mark, indev, terminal, link, offset } = &entry.body else { return };
        let mut text = String::new();
        let out = &mut text;
        let _ = write!(
            out,
            "{head}fh {}{} order {} key ht {:x} bkt {:x} ",
            handle_text(entry.handle),
            self.raw(entry.handle),
            entry.handle & 0xfff,
            entry.handle >> 20,
            entry.handle >> 12 & 0xff,
        );
        match entry.classid {
            Some(id) if *terminal => {
                let _ = write!(out, "*flowid {} ", classid_text(id));
            }
            Some(id) => {
                let _ = write!(out, "flowid {} ", classid_text(id));
            }
            None if *terminal => out.push_str("terminal flowid "),
            None => {}
        }
        if let Some(table) = link {
            let _ = write!(out, "link {}{} ", handle_text(table << 20), self.raw(table << 20));
        }
        out.push_str(if entry.skip_hw { "skip_hw " } else { "" });
        out.push_str("not_in_hw ");
        let word = |offset| self.counters.word(entry.counters + offset);
        if self.options.stats {
            let _ = write!(out, "(rule hit {} success {})", word(NodeWord::HIT), word(NodeWord::SUCCESS));
        }
        if let Some(mark) = mark {
            let success = word(NodeWord::mark(keys.len()));
            let _ = write!(out, "\n  mark {:#06x} {:#06x} (success {success})", mark.value, mark.mask);
        }
        for (index, key) in keys.iter().enumerate() {
            match words(protocol, key).filter(|_| self.options.pretty) {
                Some(words) => out.push_str(&words.text),
                None => out.push_str(&format!("\n  match {}", key_text(key))),
            }
            if self.options.stats {
                let _ = write!(out, " (success {} ) ", word(NodeWord::KEYS + index as u32));
            }
        }
        out.push_str(&descent_text(offset));
        if let Some(indev) = indev {
            let _ = writeln!(out, "\n  input dev {}", self.store.device_key(*indev).name);
        }
        all.push_str(&self.options.lines(&text));
        self.actions(entry, all);
        all.push_str(&self.options.lines("\n"));
    }

    /// All kinds but u32.
    fn one_node(&self, head: &str, proto: &Proto, entry: &Entry, out: &mut String) {
        let mut text = String::new();
        match &entry.body {
            Body::Fw { indev } => self.fw(head, proto, entry, *indev, &mut text),
            Body::Basic { ematches } => self.basic(head, entry, ematches, &mut text),
            Body::Flower { .. } | Body::Matchall | Body::U32 { .. } => self.other(head, entry, out),
        }
        out.push_str(&self.options.lines(&text));
    }

    /// `fw_print_opt()`, tc/f_fw.c. The kernel tells nothing of a filter that has neither classid nor action.
    fn fw(&self, head: &str, proto: &Proto, entry: &Entry, indev: Option<DeviceId>, out: &mut String) {
        out.push_str(head);
        if entry.classid.is_none() && entry.actions.is_empty() {
            out.push('\n');
            return;
        }
        let _ = write!(out, "handle {:#x}", entry.handle);
        match proto.mask {
            Some(u32::MAX) | None => out.push(' '),
            Some(mask) => {
                let _ = write!(out, "/{mask:#x} ");
            }
        }
        if let Some(id) = entry.classid {
            let _ = write!(out, "classid {} ", classid_text(id));
        }
        let mut actions = String::new();
        self.actions(entry, &mut actions);
        // The old policer stands before the device, on the same line.
        let old = entry.old_police;
        if let Some(police) = actions.strip_prefix('\n').filter(|_| old) {
            out.push_str(police);
        }
        if let Some(indev) = indev {
            let _ = write!(out, "input dev {} ", self.store.device_key(indev).name);
        }
        if !old && !actions.is_empty() {
            let _ = write!(out, "\n{actions}");
        }
        out.push('\n');
    }

    /// `basic_print_opt()`, tc/f_basic.c.
    fn basic(&self, head: &str, entry: &Entry, ematches: &[EmatchTerm], out: &mut String) {
        let _ = write!(out, "{head}handle {:#x} ", entry.handle);
        if let Some(id) = entry.classid {
            let _ = write!(out, "flowid {} ", classid_text(id));
        }
        out.push_str(&basic::text(ematches));
        self.actions(entry, out);
        out.push('\n');
    }

    /// flower and matchall.
    fn other(&self, head: &str, entry: &Entry, all: &mut String) {
        let mut text = String::new();
        let out = &mut text;
        let _ = write!(out, "{head}handle {:#x} ", entry.handle);
        let (classid_word, keys, counts_hits) = match &entry.body {
            Body::Flower { .. } if self.options.brief => ("classid", String::new(), false),
            Body::Flower { written, .. } => ("classid", flower::text(written, self.store.flower_indev(written)), false),
            Body::Matchall | Body::U32 { .. } | Body::Fw { .. } | Body::Basic { .. } => ("flowid", String::new(), true),
        };
        if let Some(id) = entry.classid.filter(|_| !self.options.brief) {
            let (word, value) = flower::classid_words(id);
            let _ = match (word, classid_word) {
                ("hw_tc", "classid") => write!(out, "hw_tc {value} "),
                _ => write!(out, "{classid_word} {} ", classid_text(id)),
            };
        }
        out.push_str(&keys);
        out.push_str(if entry.skip_hw { "\n  skip_hw" } else { "" });
        out.push_str("\n  not_in_hw");
        if self.options.stats && counts_hits {
            let _ = write!(out, " (rule hit {})", self.counters.word(entry.counters + NodeWord::HIT));
        }
        // tc ends the lines of flower by its own word for it, those of matchall plainly.
        match entry.body {
            Body::Flower { .. } => all.push_str(&self.options.lines(&text)),
            Body::Matchall | Body::U32 { .. } | Body::Fw { .. } | Body::Basic { .. } => all.push_str(&text),
        }
        self.actions(entry, all);
        all.push_str(&self.options.lines("\n"));
    }

    fn actions(&self, entry: &Entry, out: &mut String) {
        for (index, slot) in entry.actions.iter().enumerate() {
            let order = (!entry.old_police).then_some(index + 1);
            self.action_text(order, self.store.action(*slot), true, out);
        }
    }
}

impl Source<'_> {
    /// `filter [dev D ][parent P ]protocol P pref N KIND chain N `.
    fn head(&self, labels: &Labels, chain: &Chain, proto: &Proto) -> String {
        let mut head = "filter ".to_owned();
        if let Some(index) = labels.block {
            let _ = write!(head, "block {index} ");
        }
        if let Some(device) = &labels.device {
            let _ = write!(head, "dev {device} ");
        }
        match labels.parent {
            None => {}
            Some(Parent::INGRESS) => head.push_str("ingress "),
            Some(Parent::EGRESS) => head.push_str("egress "),
            Some(Parent(id)) => {
                let _ = write!(head, "parent {} ", classid_text(id));
            }
        }
        if labels.protocol {
            let name = if self.options.numeric { format!("[{}]", proto.protocol) } else { link_name(proto.protocol) };
            let _ = write!(head, "protocol {name} ");
        }
        if labels.prio {
            let _ = write!(head, "pref {} ", proto.prio);
        }
        let _ = write!(head, "{} ", proto.kind.as_str());
        if labels.chain {
            let _ = write!(head, "chain {} ", chain.index);
        }
        head
    }
}

/// `offset …` and `hash …`, each on a line of its own.
fn descent_text(descent: &U32Descent) -> String {
    let mut out = String::new();
    if descent.plus.is_some() || descent.variable.is_some() {
        out.push_str("\n    offset ");
        if let Some(variable) = descent.variable {
            let _ = write!(out, "{:04x}>>{} at {} ", variable.mask, variable.shift, variable.at);
        }
        if let Some(plus) = descent.plus.filter(|p| *p != 0) {
            let _ = write!(out, "plus {plus} ");
        }
    }
    out.push_str(if descent.eat { " eat " } else { "" });
    if descent.hash_mask != 0 {
        let _ = write!(out, "\n    hash mask {:08x} at {} ", descent.hash_mask, descent.hash_at);
    }
    out
}

/// `VALUE/MASK at OFFSET`.
pub(super) fn key_text(key: &U32Key) -> String {
    let base = match key.base {
        U32Base::Network => "",
        U32Base::NextHeader => "nexthdr+",
    };
    format!("{:08x}/{:08x} at {base}{}", key.value, key.mask, key.offset)
}
