//! A frame of the running forwarder, explained by the rules that handled it, beside what became of it. It takes no frame from anybody.

use std::time::Duration;

use serde_json::json;

use super::{Clock, Piece, Seen};
use crate::app::explain::{Explanation, Scene};
use crate::app::forward::InForce;
use crate::rules::Counters;
use crate::rules::eval::Event;
use crate::types::DeviceId;
use crate::worker::{Fate, Record};

/// What was told so far.
pub(super) struct Trace {
    json: bool,
    number: u64,
    /// Lost frames that were told.
    lost: u64,
}

impl Trace {
    pub fn new(json: bool) -> Self {
        Self { json, number: 0, lost: 0 }
    }

    /// The text of one frame; frames that were lost before it are told in front of it.
    pub fn tell(
        &mut self,
        record: &Record,
        devices: &[Seen],
        rules: Option<&InForce>,
        clock: &Clock,
        lost: u64,
    ) -> Piece {
        self.number += 1;
        let missed = lost - self.lost;
        self.lost = lost;
        let key = &devices[record.interface].key;
        let time = clock.real(record.time_ns);
        let explained = rules.and_then(|rules| {
            let device = rules.ruleset.device(key)?;
            Some((explain(rules, device, record.frame()), rules))
        });
        let Some((explanation, rules)) = explained else {
            let fate = fate_text(record.fate, None);
            return Piece::Text(if self.json {
                let object =
                    json!({ "frame": self.number, "device": key.to_string(), "forwarder": fate, "explained": false });
                format!("{object}\n")
            } else {
                format!(
                    "frame {}: {} bytes received by {key}\n  no rules name this device any more\nforwarder: {fate}\n\n",
                    self.number, record.len
                )
            });
        };
        let current = rules.generation == record.generation;
        let fate = fate_text(record.fate, current.then_some(rules));
        let cut = record.frame().len() < record.len;
        let remark = match (current, agrees(record.fate, &explanation.events)) {
            _ if cut => Some(
                "only the frame's beginning was kept, and explained; the MTU of its device has grown since the trace began",
            ),
            (true, true) => None,
            (true, false) => Some(
                "the forwarder did otherwise than explained: by tokens or chance, by a full ring, or by rules that were replaced while it was on its way",
            ),
            (false, _) => Some("these rules are not those that handled it; they were replaced meanwhile"),
        };
        if self.json {
            let more = json!({ "did": fate, "time": seconds(time), "remark": remark, "lost_before": missed });
            return Piece::Text(explanation.json_line(self.number, Some(("forwarder", more))));
        }
        let mut text = match missed {
            0 => String::new(),
            n => format!("({n} frames came faster than they could be explained, and are not shown)\n\n"),
        };
        text += explanation.text(self.number).trim_end_matches('\n');
        text += &format!("\nforwarder: {fate}, {}\n", seconds(time));
        text += &remark.map_or(String::new(), |remark| format!("note: {remark}\n"));
        text.push('\n');
        Piece::Text(text)
    }
}

/// What the rules do with a frame, nothing counted before it.
pub(super) fn explain(rules: &InForce, device: DeviceId, frame: &[u8]) -> Explanation {
    let mut counters = Counters::new(rules.ruleset.counter_words);
    counters.now_ms = 1;
    let scene = Scene { ruleset: &rules.ruleset, topology: &rules.topology, live: true };
    // Never the branch of chance, which is the rare one.
    scene.explain(device, frame, &mut counters, &mut |bound| bound.saturating_sub(1))
}

/// What became of a frame that was received.
pub(super) fn fate_text(fate: Fate, rules: Option<&InForce>) -> String {
    match fate {
        Fate::Sent(device) => {
            let device = rules.zip(device).and_then(|(rules, id)| rules.topology.devices.get(id.index()));
            device.map_or("sent on".to_owned(), |device| format!("sent on by {}", device.key))
        }
        Fate::LeftToKernel => "left to the kernel".to_owned(),
        Fate::Dropped(reason) => format!("dropped: {}", reason.as_str()),
    }
}

/// Whether that is what the explanation says.
pub(super) fn agrees(fate: Fate, events: &[Event]) -> bool {
    events.iter().any(|event| match (fate, event) {
        (Fate::Sent(sent), Event::Transmit { device, .. }) => sent.is_none_or(|sent| sent == *device),
        (Fate::LeftToKernel, Event::Stack { .. }) => true,
        (Fate::Dropped(was), Event::Dropped { reason, .. }) => was == *reason,
        (Fate::Sent(_) | Fate::LeftToKernel | Fate::Dropped(_), _) => false,
    })
}

fn seconds(time: Duration) -> String {
    format!("{}.{:06}", time.as_secs(), time.subsec_micros())
}
