//! `viscum explain`: what the rules do with a frame, filter by filter, key by key, action by action, in words. It opens no device.

pub mod narrator;
mod unsure;
mod words;

use std::path::PathBuf;

use super::replay::topology::Case;
use super::replay::{Engine, Form, ReplayError, engine};
use crate::port::pcap::PcapReader;
use crate::types::{DeviceId, Topology};
pub use narrator::{Explanation, Scene};

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
    /// As JSON, an object per frame on a line.
    pub json: bool,
}

/// What is told.
#[derive(Clone, Debug)]
pub enum Told {
    /// What the reader should know before.
    Note(String),
    /// A frame, explained.
    Frame(String),
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
pub fn explain(options: &Options, each: &mut dyn FnMut(Told)) -> Result<u64, ReplayError> {
    let case = options.topology.as_deref().map(Case::read).transpose()?.unwrap_or_default();
    let given = options.topology.as_ref().map(|path| case.topology(path)).transpose()?;
    let text = std::fs::read_to_string(&options.rules)
        .map_err(|source| ReplayError::Rules { path: options.rules.clone(), source })?;
    let loaded = engine::load(&text, &options.rules.display().to_string(), &case.variables(), given.as_ref());
    if loaded.refused > 0 {
        each(Told::Note(format!("{} lines of the rules were refused; viscum check tells which\n\n", loaded.refused)));
    }
    if given.is_none() {
        let text = "note: the devices' MAC addresses are not known, so packet types (host, otherhost) may be wrong; --topology tells them";
        each(Told::Note(format!("{text}\n\n")));
    }
    let devices = given.unwrap_or_else(Topology::default);
    let mut engine = Engine::new(&loaded.store, &devices, Form::Eval)?;
    let device = super::replay::receiver(options.device.as_ref(), &case, &engine)?;
    match &options.frames {
        Frames::One(frame) => {
            each(one(&mut engine, device, 1, frame, options.json));
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
                each(one(&mut engine, device, number, frame, options.json));
            }
            Ok(explained)
        }
    }
}

/// One frame, in text or JSON.
fn one(engine: &mut Engine, device: DeviceId, number: u64, frame: &[u8], json: bool) -> Told {
    let mut random = 1_u32;
    let mut below = |bound: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) % bound.max(1)
    };
    engine.counters.now_ms = 1;
    let scene = Scene { ruleset: &engine.ruleset, topology: &engine.topology, live: false };
    let explanation = scene.explain(device, frame, &mut engine.counters, &mut below);
    Told::Frame(if json { explanation.json_line(number, None) } else { explanation.text(number) })
}
