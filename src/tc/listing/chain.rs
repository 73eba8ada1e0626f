//! `chain show` and `chain get` (`tc_dump_chain()`, cls_api.c; `print_filter()`, tc/tc_filter.c). It changes nothing.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::{ListOptions, Place, Selection};
use crate::tc::command::Parent;
use crate::tc::filter::flower;
use crate::tc::number::classid_text;
use crate::tc::store::{Chain, Store};

/// A chain with what its line begins with.
struct Line<'a> {
    block: Option<u32>,
    device: Option<&'a str>,
    parent: Option<Parent>,
    number: bool,
    chain: &'a Chain,
    store: &'a Store,
}

impl Line<'_> {
    fn text(&self, options: &ListOptions) -> String {
        let mut out = "chain ".to_owned();
        if let Some(index) = self.block {
            let _ = write!(out, "block {index} ");
        }
        if let Some(device) = self.device {
            let _ = write!(out, "dev {device} ");
        }
        match self.parent {
            None => {}
            Some(Parent::INGRESS) => out.push_str("ingress "),
            Some(Parent::EGRESS) => out.push_str("egress "),
            Some(Parent(id)) => {
                let _ = write!(out, "parent {} ", classid_text(id));
            }
        }
        out.push_str(if self.chain.template.is_some() { "flower " } else { "" });
        if self.number {
            let _ = write!(out, "chain {} ", self.chain.index);
        }
        out.push_str(&self.keys());
        out.push('\n');
        options.lines(&out).into_owned()
    }

    fn keys(&self) -> String {
        let template = self.chain.template.as_ref();
        template.map(|key| flower::text(key, self.store.flower_indev(key))).unwrap_or_default()
    }

    fn json(&self) -> Value {
        let mut map = Map::new();
        map.extend(self.block.map(|index| ("block".to_owned(), index.into())));
        map.extend(self.device.map(|device| ("dev".to_owned(), device.into())));
        match self.parent {
            None => {}
            Some(Parent::INGRESS) => drop(map.insert("ingress".to_owned(), true.into())),
            Some(Parent::EGRESS) => drop(map.insert("egress".to_owned(), true.into())),
            Some(Parent(id)) => drop(map.insert("parent".to_owned(), classid_text(id).into())),
        }
        if let Some(key) = &self.chain.template {
            map.insert("kind".to_owned(), "flower".into());
            map.extend(self.number.then(|| ("chain".to_owned(), self.chain.index.into())));
            map.insert("options".to_owned(), serde_json::json!({"keys": flower::json(key)}));
        } else if self.number {
            map.insert("chain".to_owned(), self.chain.index.into());
        }
        Value::Object(map)
    }
}

fn print(lines: &[Line<'_>], options: &ListOptions) -> String {
    if !options.json {
        return lines.iter().map(|line| line.text(options)).collect();
    }
    let all = Value::Array(lines.iter().map(Line::json).collect());
    if options.pretty { format!("{all:#}\n") } else { format!("{all}\n") }
}

impl Store {
    /// `chain show`: in the order in which they were made. The label is the qdisc, whatever hook the chain is of.
    pub(in crate::tc) fn list_chains(&self, selection: &Selection, options: &ListOptions) -> String {
        let mut lines = Vec::new();
        for (device, state, id) in self.selected(selection) {
            let handle = match state.ingress {
                Some(_) if state.handle(id).0 & 0xffff_0000 == Parent::INGRESS_QDISC.0 => Parent::INGRESS_QDISC,
                Some(_) | None => state.handle(id),
            };
            let line = |chain| Line {
                block: state.shared_index.filter(|index| selection.block != Some(*index)),
                device: device.filter(|_| selection.device.is_none() && state.shared_index.is_none()),
                parent: Some(handle).filter(|h| state.shared_index.is_none() && selection.parent != Some(*h)),
                number: selection.chain.is_none(),
                chain,
                store: self,
            };
            let shown = dumped(&state.block(id).chains, selection.chain);
            lines.extend(shown.into_iter().map(line));
        }
        print(&lines, options)
    }

    /// `chain get`.
    pub(in crate::tc) fn list_chain(
        &self,
        place: Place<'_>,
        chain: &Chain,
        of_block: bool,
        options: &ListOptions,
    ) -> String {
        let (state, id) = place;
        let parent = if state.ingress.is_some() { Parent::INGRESS_QDISC } else { state.handle(id) };
        let parent = (!of_block).then_some(parent);
        print(&[Line { block: state.shared_index, device: None, parent, number: true, chain, store: self }], options)
    }
}

/// The chains as the kernel's dump gives them: the second pass, which finds its end, skips as many chains as the first has told, and
/// counts among them those that only a `goto chain` holds, which the first did not count. So as many of the last come again.
fn dumped(chains: &[Chain], number: Option<u32>) -> Vec<&Chain> {
    let mut shown: Vec<&Chain> = Vec::new();
    loop {
        let start = shown.len();
        let mut index = 0;
        for chain in chains.iter().filter(|c| number.is_none_or(|n| n == c.index)) {
            if index < start {
                index += 1;
                continue;
            }
            if chain.protos.is_empty() && !chain.explicit {
                continue;
            }
            shown.push(chain);
            index += 1;
        }
        if shown.len() == start {
            return shown;
        }
    }
}
