//! The files of a replay: captures, `frames.jsonl`, listings. It runs no frame.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::topology::Case;
use crate::port::pcap::{PcapError, PcapWriter};
use crate::rules::Counters;
use crate::rules::eval::Event;
use crate::tc::store::IngressKind;
use crate::tc::{Clock, ListOptions, Parent, Selection, Store};
use crate::types::{DeviceId, DeviceKey, DeviceKind, Topology};

/// Why a result cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// A file of the results.
    #[error("cannot write {path}: {source}; choose a directory that can be written with --out")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A capture.
    #[error(transparent)]
    Pcap(#[from] PcapError),
}

/// The result files, open for writing.
pub struct Output {
    dir: PathBuf,
    frames: BufWriter<File>,
    captures: HashMap<String, PcapWriter>,
}

impl Output {
    /// Makes the directory; captures of an earlier replay in it are removed, so that none is taken for a new one.
    ///
    /// # Errors
    /// [`OutputError::File`].
    pub fn create(dir: &Path) -> Result<Self, OutputError> {
        let failed = |path: &Path, source| OutputError::File { path: path.to_owned(), source };
        fs::create_dir_all(dir).map_err(|e| failed(dir, e))?;
        for entry in fs::read_dir(dir).map_err(|e| failed(dir, e))?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "pcap") {
                fs::remove_file(&path).map_err(|e| failed(&path, e))?;
            }
        }
        let path = dir.join("frames.jsonl");
        let frames = BufWriter::new(File::create(&path).map_err(|e| failed(&path, e))?);
        Ok(Self { dir: dir.to_owned(), frames, captures: HashMap::new() })
    }

    /// Writes what one input frame (`number` from 1) caused.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn frame(
        &mut self,
        number: u64,
        frame: &[u8],
        events: &[Event],
        topology: &Topology,
        case: &Case,
        hits: Option<Value>,
    ) -> Result<(), OutputError> {
        let mut transmitted = Vec::new();
        let mut delivered = Vec::new();
        let name = |device: DeviceId| topology.device(device).key.name.as_str();
        for event in events {
            match event {
                Event::Transmit { device, frame } => {
                    transmitted.push(json!({ "dev": name(*device), "len": frame.len() }));
                    self.capture(name(*device), number, frame)?;
                }
                Event::Stack { device, data, meta } => {
                    if topology.device(*device).kind == DeviceKind::Loopback || !case.records_stack(name(*device)) {
                        continue;
                    }
                    delivered.push(json!({
                        "dev": name(*device),
                        "len": data.len(),
                        "proto": format!("0x{:04x}", meta.protocol),
                        "pkttype": meta.ptype.as_str(),
                        "mark": format!("{:#x}", meta.mark),
                    }));
                    self.capture(&format!("{}.stack", name(*device)), number, data)?;
                }
                Event::Dropped { .. } => {}
            }
        }
        // The order of the golden files: by device.
        sort_by_device(&mut transmitted, case);
        sort_by_device(&mut delivered, case);
        // A frame without a whole Ethernet header is refused where it comes in (tun_get_user(): EINVAL).
        let inject = if frame.len() < crate::limits::ETHERNET_LEN { "EINVAL" } else { "ok" };
        let mut line = Map::new();
        line.insert("n".to_owned(), json!(number));
        line.insert("len".to_owned(), json!(frame.len()));
        line.insert("inject".to_owned(), json!(inject));
        line.insert("tx".to_owned(), Value::Array(transmitted));
        line.insert("stack".to_owned(), Value::Array(delivered));
        if let Some(hits) = hits {
            line.insert("hits".to_owned(), hits);
        }
        let path = self.dir.join("frames.jsonl");
        serde_json::to_writer(&mut self.frames, &line)
            .map_err(std::io::Error::from)
            .and_then(|()| self.frames.write_all(b"\n"))
            .map_err(|source| OutputError::File { path, source })
    }

    fn capture(&mut self, name: &str, number: u64, frame: &[u8]) -> Result<(), OutputError> {
        if !self.captures.contains_key(name) {
            let writer = PcapWriter::create(&self.dir.join(format!("{name}.pcap")))?;
            self.captures.insert(name.to_owned(), writer);
        }
        let writer = self.captures.get_mut(name).expect("it was just put in");
        writer.write(number as u32, 0, frame)?;
        Ok(())
    }

    /// Writes the listings and closes every file.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn finish(
        mut self,
        store: &Store,
        shown: &[&DeviceKey],
        counters: &Counters,
        tc_log: &str,
    ) -> Result<(), OutputError> {
        let clock = Clock { now_ms: counters.now_ms };
        let mut text = String::new();
        let mut parsed = Map::new();
        for (heading, label, selection) in blocks(store, shown) {
            let list = |json| {
                let options = ListOptions { stats: true, json, ..ListOptions::default() };
                store.list_filters(&selection, &options, counters, &clock)
            };
            text.push_str(&format!("# {heading}\n{}", list(false)));
            parsed.insert(label, serde_json::from_str(&list(true)).unwrap_or(Value::Null));
        }
        let json = serde_json::to_string_pretty(&parsed).expect("a map of JSON values is JSON") + "\n";
        for (name, content) in [("filters.txt", text.as_str()), ("filters.json", &json), ("tc.log", tc_log)] {
            let path = self.dir.join(name);
            fs::write(&path, content).map_err(|source| OutputError::File { path, source })?;
        }
        let path = self.dir.join("frames.jsonl");
        self.frames.flush().map_err(|source| OutputError::File { path, source })?;
        for (_, capture) in self.captures {
            capture.finish()?;
        }
        Ok(())
    }
}

fn sort_by_device(entries: &mut [Value], case: &Case) {
    let place = |entry: &Value| case.device.iter().position(|d| entry["dev"] == d.name.as_str()).unwrap_or(usize::MAX);
    entries.sort_by_key(place);
}

/// Each listing of the shown devices: its command, its label in JSON, what to select.
fn blocks(store: &Store, shown: &[&DeviceKey]) -> Vec<(String, String, Selection)> {
    let mut blocks = Vec::new();
    for key in shown {
        let parents: &[(&str, Parent)] = match store.state(key).and_then(|state| state.ingress) {
            Some(IngressKind::Clsact) => &[("ingress", Parent::INGRESS), ("egress", Parent::EGRESS)],
            Some(IngressKind::Ingress) => &[("parent ffff:", Parent::INGRESS_QDISC)],
            None => &[],
        };
        for (word, parent) in parents {
            let tc = key.netns.as_ref().map_or_else(|| "tc".to_owned(), |netns| format!("tc -n {netns}"));
            let selection = Selection {
                netns: key.netns.clone(),
                device: Some(key.name.clone()),
                parent: Some(*parent),
                ..Selection::default()
            };
            let name = &key.name;
            blocks.push((format!("{tc} -s filter show dev {name} {word}"), format!("{name} {word}"), selection));
        }
    }
    blocks
}

/// Whether the device has a clsact qdisc, with two hooks to list.
#[must_use]
pub fn is_clsact(store: &Store, key: &DeviceKey) -> bool {
    store.state(key).is_some_and(|state| state.ingress == Some(IngressKind::Clsact))
}
