//! `qdisc show` (`print_qdisc()`, tc/tc_qdisc.c). A root qdisc counts two references, as on a device with one transmit queue. Default
//! qdiscs, which the kernel gives a device by itself, are not known here. It changes nothing.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::ListOptions;
use crate::tc::command::Parent;
use crate::tc::number::classid_text;
use crate::tc::qdisc::{INGRESS_PARENT, QdiscShow};
use crate::tc::store::{DeviceState, IngressKind, Qdisc, Store};

/// One qdisc of a device.
struct Row<'a> {
    device: Option<&'a str>,
    kind: &'a str,
    handle: u32,
    parent: Parent,
    blocks: [Option<u32>; 2],
    qdisc: Option<&'a Qdisc>,
}

impl Row<'_> {
    fn text(&self, options: &ListOptions) -> String {
        let mut out = format!("qdisc {} {:x}:", self.kind, self.handle >> 16);
        if options.raw {
            let _ = write!(out, "[{:08x}]", self.handle);
        }
        out.push(' ');
        if let Some(device) = self.device {
            let _ = write!(out, "dev {device} ");
        }
        if self.parent == Parent::ROOT {
            out.push_str("root refcnt 2 ");
        } else {
            let _ = write!(out, "parent {} ", classid_text(self.parent.0));
        }
        for (block, name) in self.blocks.into_iter().zip(["ingress", "egress"]) {
            if let Some(block) = block {
                let _ = write!(out, "{name}_block {block} ");
            }
        }
        out.push_str(if self.kind == "ingress" { "---------------- " } else { "" });
        out.push_str(&self.qdisc.map(|q| q.options.text(&q.kind, options.details)).unwrap_or_default());
        out.push('\n');
        if options.stats {
            out.push_str(" Sent 0 bytes 0 pkt (dropped 0, overlimits 0 requeues 0) \n backlog 0b 0p requeues 0\n");
        }
        options.lines(&out).into_owned()
    }

    fn json(&self, options: &ListOptions) -> Value {
        let mut map = Map::new();
        map.insert("kind".to_owned(), self.kind.into());
        map.insert("handle".to_owned(), format!("{:x}:", self.handle >> 16).into());
        map.extend(self.device.map(|device| ("dev".to_owned(), device.into())));
        if self.parent == Parent::ROOT {
            map.insert("root".to_owned(), true.into());
            map.insert("refcnt".to_owned(), 2.into());
        } else {
            map.insert("parent".to_owned(), classid_text(self.parent.0).into());
        }
        for (block, name) in self.blocks.into_iter().zip(["ingress_block", "egress_block"]) {
            map.extend(block.map(|block| (name.to_owned(), block.into())));
        }
        map.insert("options".to_owned(), self.qdisc.map_or_else(|| json!({}), |q| q.options.json(&q.kind)));
        if options.stats {
            for name in ["bytes", "packets", "drops", "overlimits", "requeues", "backlog", "qlen"] {
                map.insert(name.to_owned(), 0.into());
            }
        }
        Value::Object(map)
    }
}

impl Store {
    /// `qdisc show`.
    pub(in crate::tc) fn list_qdiscs(&self, netns: Option<&str>, show: &QdiscShow) -> String {
        let mut rows = Vec::new();
        for (_, key, state) in self.states() {
            if key.netns.as_deref() == netns && show.device.as_ref().is_none_or(|d| d.text == key.name) {
                let device = show.device.is_none().then_some(key.name.as_str());
                rows.extend(self.rows(device, state));
            }
        }
        rows.retain(|r| show.parent == Parent(0) || show.parent == r.parent);
        rows.retain(|r| show.handle == 0 || show.handle == r.handle);
        let options = &show.options;
        if !options.json {
            return rows.iter().map(|row| row.text(options)).collect();
        }
        let all = Value::Array(rows.iter().map(|row| row.json(options)).collect());
        if options.pretty { format!("{all:#}\n") } else { format!("{all}\n") }
    }

    fn rows<'a>(&'a self, device: Option<&'a str>, state: &'a DeviceState) -> Vec<Row<'a>> {
        let row = |qdisc: &'a Qdisc| Row {
            device,
            kind: &qdisc.kind,
            handle: qdisc.handle,
            parent: qdisc.parent,
            blocks: [None; 2],
            qdisc: Some(qdisc),
        };
        // As they are in the kernel's hash of the device: by bucket, the last first (`hash_32()` of the handle to 4 bits).
        let mut below: Vec<&Qdisc> = state.children.iter().rev().collect();
        below.sort_by_key(|q| q.handle.wrapping_mul(0x61c8_8647) >> 28);
        let mut rows: Vec<Row<'a>> = state.root.iter().chain(below).map(row).collect();
        let hooks = state.ingress.map(IngressKind::as_str).map(|kind| Row {
            device,
            kind,
            handle: Parent::INGRESS_QDISC.0,
            parent: INGRESS_PARENT,
            blocks: state.shared.map(|id| id.and_then(|id| self.shared_index(id))),
            qdisc: None,
        });
        rows.extend(hooks);
        rows
    }
}
