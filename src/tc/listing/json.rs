//! The JSON form of filters: where tc 6.1 prints text that is no JSON, the form of newer versions. It changes nothing.
//!
//! tc repeats the names `match` and `success` in one object; readers would keep only the last. Here repeated ones are a list.

use serde_json::{Map, Value, json};

use super::pretty::words;
use super::{Labels, Out, Place, Source};
use crate::rules::{EmatchTerm, NodeWord, U32Base, U32Descent, U32Key, U32Mark};
use crate::tc::command::Parent;
use crate::tc::filter::{basic, flower, u32::handle_text};
use crate::tc::number::classid_text;
use crate::tc::proto::link_name;
use crate::tc::store::{Body, Chain, Entry, Proto, ProtoKind};
use crate::types::DeviceId;

impl Source<'_> {
    /// All objects of one prio.
    pub(super) fn json(&self, labels: &Labels, place: Place<'_>, chain: &Chain, proto: &Proto, out: &mut Out<'_>) {
        let head = self.json_head(labels, chain, proto);
        let mut push = |options: Option<Value>| {
            let mut map = head.clone();
            map.extend(options.map(|o| ("options".to_owned(), o)));
            out.object(&Value::Object(map));
            out.goes_on()
        };
        push(None);
        match proto.kind {
            ProtoKind::U32 if self.ends_at(proto) => {}
            ProtoKind::U32 => {
                for table in place.0.u32_tables(place.1, proto.prio) {
                    push(Some(json!({"fh": format!("{:x}:", table.id), "ht_divisor": table.divisor})));
                    if !table.entries().all(|e| push(Some(self.u32_json(proto.protocol, e)))) {
                        return;
                    }
                }
            }
            ProtoKind::Flower | ProtoKind::Matchall | ProtoKind::Fw | ProtoKind::Basic => {
                let entries = if self.hides(proto) { Vec::new() } else { proto.listed() };
                let _all = entries.into_iter().all(|e| push(self.node_json(proto, e)));
            }
        }
    }

    /// One filter or u32 table.
    pub(super) fn one_json(
        &self,
        labels: &Labels,
        place: Place<'_>,
        chain: &Chain,
        proto: &Proto,
        handle: u32,
    ) -> Option<Value> {
        let options = match proto.kind {
            ProtoKind::U32 if handle & 0x000f_ffff == 0 => {
                let divisor = place.0.u32_divisor(place.1, handle >> 20)?;
                Some(json!({"fh": format!("{:x}:", handle >> 20), "ht_divisor": divisor}))
            }
            ProtoKind::U32 => Some(self.u32_json(proto.protocol, place.0.u32_entry(place.1, handle)?)),
            ProtoKind::Flower | ProtoKind::Matchall | ProtoKind::Fw | ProtoKind::Basic => {
                self.node_json(proto, proto.entries.get(proto.position(handle).ok()?)?)
            }
        };
        let mut map = self.json_head(labels, chain, proto);
        map.extend(options.map(|o| ("options".to_owned(), o)));
        Some(Value::Object(map))
    }

    fn u32_json(&self, protocol: u16, entry: &Entry) -> Value {
        let mut map = Map::new();
        let mut set = |name: &str, value: Value| drop(map.insert(name.to_owned(), value));
        set("fh", handle_text(entry.handle).into());
        set("order", (entry.handle & 0xfff).into());
        set("key_ht", format!("{:x}", entry.handle >> 20).into());
        set("bkt", format!("{:x}", entry.handle >> 12 & 0xff).into());
        if let Some(id) = entry.classid {
            set("flowid", classid_text(id).into());
        }
        if let Body::U32 { link: Some(table), .. } = &entry.body {
            set("link", handle_text(table << 20).into());
        }
        if entry.skip_hw {
            set("skip_hw", true.into());
        }
        set("not_in_hw", true.into());
        if let Body::U32 { keys, mark, indev, offset, .. } = &entry.body {
            self.u32_keys(entry, (protocol, keys), mark.as_ref(), &mut set);
            descent_json(offset, &mut set);
            if let Some(indev) = indev {
                set("input_dev", self.store.device_key(*indev).name.as_str().into());
            }
        }
        self.actions_json(entry, &mut map);
        Value::Object(map)
    }

    fn u32_keys(
        &self,
        entry: &Entry,
        (protocol, keys): (u16, &[U32Key]),
        mark: Option<&U32Mark>,
        set: &mut dyn FnMut(&str, Value),
    ) {
        if self.options.stats {
            let word = |offset| Value::from(self.counters.word(entry.counters + offset));
            set("rule_hit", word(NodeWord::HIT));
            let each = (0..keys.len()).map(|i| word(NodeWord::KEYS + i as u32));
            set("success", one_or_list(std::iter::once(word(NodeWord::SUCCESS)).chain(each).collect()));
        }
        if let Some(mark) = mark {
            set("fwmark_value", format!("{:#x}", mark.value).into());
            set("fwmark_mask", format!("{:#x}", mark.mask).into());
            set("fwmark_success", self.counters.word(entry.counters + NodeWord::mark(keys.len())).into());
        }
        let key = |key: &U32Key| {
            let words = words(protocol, key).filter(|_| self.options.pretty);
            words.map_or_else(|| key_json(key), |words| words.json)
        };
        if !keys.is_empty() {
            set("match", one_or_list(keys.iter().map(key).collect()));
        }
    }

    /// All kinds but u32. `None`: the kernel tells nothing of it.
    fn node_json(&self, proto: &Proto, entry: &Entry) -> Option<Value> {
        match &entry.body {
            Body::Fw { indev } => self.fw_json(proto, entry, *indev),
            Body::Basic { ematches } => Some(self.basic_json(entry, ematches)),
            Body::Flower { .. } | Body::Matchall | Body::U32 { .. } => Some(self.other_json(entry)),
        }
    }

    /// tc 6.1 prints this kind as text only: the names are those of the text, numbers in hex as in `basic`.
    fn fw_json(&self, proto: &Proto, entry: &Entry, indev: Option<DeviceId>) -> Option<Value> {
        if entry.classid.is_none() && entry.actions.is_empty() {
            return None;
        }
        let mut map = Map::new();
        map.insert("handle".to_owned(), format!("{:x}", entry.handle).into());
        let mask = proto.mask.filter(|m| *m != u32::MAX);
        map.extend(mask.map(|m| ("mask".to_owned(), format!("{m:x}").into())));
        map.extend(entry.classid.map(|id| ("classid".to_owned(), classid_text(id).into())));
        map.extend(indev.map(|d| ("input_dev".to_owned(), self.store.device_key(d).name.as_str().into())));
        self.actions_json(entry, &mut map);
        Some(Value::Object(map))
    }

    /// tc 6.1 prints the expression as text in the middle of the JSON; here it is one text.
    fn basic_json(&self, entry: &Entry, ematches: &[EmatchTerm]) -> Value {
        let mut map = Map::new();
        map.insert("handle".to_owned(), format!("{:x}", entry.handle).into());
        map.extend(entry.classid.map(|id| ("flowid".to_owned(), classid_text(id).into())));
        if !ematches.is_empty() {
            let words: Vec<String> = basic::text(ematches).split_whitespace().map(str::to_owned).collect();
            map.insert("ematch".to_owned(), words.join(" ").into());
        }
        self.actions_json(entry, &mut map);
        Value::Object(map)
    }

    /// flower and matchall.
    fn other_json(&self, entry: &Entry) -> Value {
        let mut map = Map::new();
        map.insert("handle".to_owned(), entry.handle.into());
        let (classid_word, keys, counts_hits) = match &entry.body {
            Body::Flower { .. } if self.options.brief => ("classid", Some(json!({})), false),
            Body::Flower { written, .. } => ("classid", Some(flower::json(written)), false),
            Body::Matchall | Body::U32 { .. } | Body::Fw { .. } | Body::Basic { .. } => ("flowid", None, true),
        };
        let brief = self.options.brief;
        map.extend(entry.classid.filter(|_| !brief).map(|id| match flower::classid_words(id) {
            ("hw_tc", value) if classid_word == "classid" => ("hw_tc".to_owned(), value),
            _ => (classid_word.to_owned(), classid_text(id).into()),
        }));
        if let Body::Flower { written, .. } = &entry.body {
            let indev = self.store.flower_indev(written).filter(|_| !brief);
            map.extend(indev.map(|name| ("indev".to_owned(), name.into())));
        }
        map.extend(keys.map(|k| ("keys".to_owned(), k)));
        map.extend(entry.skip_hw.then(|| ("skip_hw".to_owned(), true.into())));
        map.insert("not_in_hw".to_owned(), true.into());
        if self.options.stats && counts_hits {
            map.insert("rule_hit".to_owned(), self.counters.word(entry.counters + NodeWord::HIT).into());
        }
        self.actions_json(entry, &mut map);
        Value::Object(map)
    }

    fn actions_json(&self, entry: &Entry, map: &mut Map<String, Value>) {
        if entry.actions.is_empty() {
            return;
        }
        if let ([slot], true) = (entry.actions.as_slice(), entry.old_police) {
            let Value::Object(mut action) = self.action_json(1, self.store.action(*slot), true) else { return };
            action.remove("order");
            map.extend(action);
            return;
        }
        let each = entry.actions.iter().enumerate();
        let list = each.map(|(i, slot)| self.action_json(i + 1, self.store.action(*slot), true)).collect();
        map.insert("actions".to_owned(), Value::Array(list));
    }
}

/// tc 6.1 prints `offset` and `eat` as bare text, which is no JSON; here `eat` is a flag.
fn descent_json(descent: &U32Descent, set: &mut dyn FnMut(&str, Value)) {
    if let Some(variable) = descent.variable {
        set("offset_mask", format!("{:x}", variable.mask).into());
        set("offset_shift", variable.shift.into());
        set("offset_off", variable.at.into());
    }
    if let Some(plus) = descent.plus.filter(|p| *p != 0) {
        set("plus", plus.into());
    }
    if descent.eat {
        set("eat", true.into());
    }
    if descent.hash_mask != 0 {
        set("hash_mask", format!("{:x}", descent.hash_mask).into());
        set("hash_off", descent.hash_at.into());
    }
}

fn one_or_list(mut values: Vec<Value>) -> Value {
    if values.len() == 1 { values.remove(0) } else { Value::Array(values) }
}

fn key_json(key: &U32Key) -> Value {
    let base = match key.base {
        U32Base::Network => "",
        U32Base::NextHeader => "nexthdr+",
    };
    json!({"value": format!("{:x}", key.value), "mask": format!("{:x}", key.mask), "offmask": base, "off": key.offset})
}

impl Source<'_> {
    fn json_head(&self, labels: &Labels, chain: &Chain, proto: &Proto) -> Map<String, Value> {
        let mut map = Map::new();
        map.extend(labels.block.map(|index| ("block".to_owned(), index.into())));
        map.extend(labels.device.as_ref().map(|d| ("dev".to_owned(), d.as_str().into())));
        match labels.parent {
            None => {}
            Some(Parent::INGRESS) => drop(map.insert("ingress".to_owned(), true.into())),
            Some(Parent::EGRESS) => drop(map.insert("egress".to_owned(), true.into())),
            Some(Parent(id)) => drop(map.insert("parent".to_owned(), classid_text(id).into())),
        }
        if labels.protocol {
            let name = if self.options.numeric { format!("[{}]", proto.protocol) } else { link_name(proto.protocol) };
            map.insert("protocol".to_owned(), name.into());
        }
        if labels.prio {
            map.insert("pref".to_owned(), proto.prio.into());
        }
        map.insert("kind".to_owned(), proto.kind.as_str().into());
        if labels.chain {
            map.insert("chain".to_owned(), chain.index.into());
        }
        map
    }
}
