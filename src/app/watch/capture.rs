//! Frames of the running forwarder as pcapng: an interface for each device and direction, what became of a frame in its comment. It
//! takes no frame from anybody.

use std::io;

use super::trace::{agrees, explain, fate_text};
use super::{Clock, Seen};
use crate::app::forward::InForce;
use crate::port::pcap::SNAPLEN;
use crate::port::{PcapngPacket, PcapngWriter};
use crate::types::DeviceKey;
use crate::worker::{Fate, Record};

const ABOUT: &str = "An interface per device and direction. A received frame is as it came, before any rule; its comment says what became \
    of it. A transmitted frame is as it went.";

/// The file so far.
pub(super) struct Capture {
    writer: PcapngWriter<Vec<u8>>,
    keys: Vec<DeviceKey>,
    /// Frames written, by interface: received, transmitted.
    written: Vec<[u64; 2]>,
}

impl Capture {
    pub fn new(devices: &[Seen], snaplen: Option<u32>) -> io::Result<Self> {
        let application = concat!("viscum ", env!("CARGO_PKG_VERSION"));
        let mut writer = PcapngWriter::new(Vec::new(), application, ABOUT)?;
        for Seen { key, mode, note } in devices {
            let note = note.map_or(String::new(), |note| format!("; {note}"));
            for (direction, words, note) in [("in", "received", note.as_str()), ("out", "transmitted", "")] {
                let description = format!("{words} by {key} ({mode}){note}");
                writer.interface(&format!("{key} {direction}"), &description, snaplen.unwrap_or(SNAPLEN))?;
            }
        }
        let keys: Vec<DeviceKey> = devices.iter().map(|seen| seen.key.clone()).collect();
        Ok(Self { writer, written: vec![[0; 2]; keys.len()], keys })
    }

    pub fn tell(&mut self, record: &Record, rules: Option<&InForce>, clock: &Clock) -> io::Result<()> {
        let outgoing = usize::from(record.outgoing);
        self.written[record.interface][outgoing] += 1;
        let comment = match (record.outgoing, record.fate) {
            (true, Fate::Sent(_) | Fate::LeftToKernel) => None,
            (true, Fate::Dropped(_)) => Some(format!("not transmitted; {}", fate_text(record.fate, None))),
            (false, fate) => Some(self.comment(record, fate, rules)),
        };
        self.writer.packet(&PcapngPacket {
            interface: (record.interface * 2 + outgoing) as u32,
            time: clock.real(record.time_ns),
            len: record.len,
            bytes: record.frame(),
            outgoing: record.outgoing,
            comment: comment.as_deref(),
        })
    }

    /// What became of a received frame; of a dropped one also by which rule, if that can be found out.
    fn comment(&self, record: &Record, fate: Fate, rules: Option<&InForce>) -> String {
        let rules = rules.filter(|rules| rules.generation == record.generation);
        let text = fate_text(fate, rules);
        let (Fate::Dropped(_), Some(rules), true) = (fate, rules, record.frame().len() == record.len) else {
            return text;
        };
        let Some(device) = rules.ruleset.device(&self.keys[record.interface]) else { return text };
        let explanation = explain(rules, device, record.frame());
        if agrees(fate, &explanation.events) { format!("{text} ({})", explanation.why.join("; ")) } else { text }
    }

    /// What is to be written to the file now.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.get_mut())
    }

    /// The statistics at the file's end.
    pub fn end(&mut self, lost: &[[u64; 2]], clock: &Clock) -> io::Result<()> {
        for (index, (written, lost)) in self.written.iter().zip(lost).enumerate() {
            for direction in 0..2 {
                let interface = (index * 2 + direction) as u32;
                self.writer.statistics(interface, clock.since_1970, written[direction], lost[direction])?;
            }
        }
        Ok(())
    }
}
