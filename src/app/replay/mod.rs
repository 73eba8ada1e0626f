//! Rules on a capture, offline: what every device would have transmitted, what would have reached the stack, and every counter.
//!
//! Memory does not grow with the capture. Results have the form of the golden cases.

pub mod engine;
pub mod hits;
pub mod output;
pub mod topology;

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::port::pcap::{PcapError, PcapReader};
use crate::rules::eval::Event;
use crate::types::{DropReason, Topology};

pub use engine::{Engine, Form};
use engine::{load, shown};
use hits::Hits;
use output::{Output, OutputError, is_clsact};
pub use topology::Case;
use topology::TopologyError;

/// What to replay.
#[derive(Clone, Debug)]
pub struct Options {
    /// The rules file.
    pub rules: PathBuf,
    /// The capture.
    pub input: PathBuf,
    /// The device that receives it; `None`: the topology's `ingress`.
    pub device: Option<String>,
    /// The topology file, if any.
    pub topology: Option<PathBuf>,
    /// Where results go.
    pub out: PathBuf,
    /// Which form of the rules runs.
    pub form: Form,
    /// What time it is for the rules.
    pub time: Time,
}

/// What policers and the times in listings go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// The time of the replay: frames come as fast as they are read.
    Replay,
    /// The times in the capture.
    Capture,
}

/// What a replay came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Frames read.
    pub frames: u64,
    /// Frames transmitted by a device.
    pub transmitted: u64,
    /// Frames that reached a stack.
    pub delivered: u64,
    /// Frames that ended, by reason.
    pub dropped: [u64; DropReason::ALL.len()],
    /// Lines of the rules that tc would refuse; they are in `tc.log`.
    pub refused_lines: usize,
}

/// Why a replay failed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The rules file cannot be read.
    #[error("cannot read the rules {path}: {source}; check --rules")]
    Rules {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The topology file.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// No device was named.
    #[error("which device receives the capture? Name it with --dev, or with `ingress` in the topology")]
    NoDevice,
    /// It is not among the devices.
    #[error("device {0} is neither in the rules nor in the topology; {1}")]
    UnknownDevice(String, String),
    /// The rules cannot be run.
    #[error(transparent)]
    Refused(#[from] crate::plan::Refusal),
    /// The capture.
    #[error(transparent)]
    Pcap(#[from] PcapError),
    /// The results.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Runs the rules on the capture and writes the results. `progress` hears the number of frames about twice a second.
///
/// # Errors
/// See [`ReplayError`]. Results written so far stay.
pub fn replay(options: &Options, progress: &mut dyn FnMut(u64)) -> Result<Summary, ReplayError> {
    let case = options.topology.as_deref().map(Case::read).transpose()?.unwrap_or_default();
    let given = match &options.topology {
        Some(path) => Some(case.topology(path)?),
        None => None,
    };
    let text = read_rules(&options.rules)?;
    let name = options.rules.display().to_string();
    let loaded = load(&text, &name, &case.variables(), given.as_ref());
    let devices = given.unwrap_or_else(Topology::default);
    let mut engine = Engine::new(&loaded.store, &devices, options.form)?;
    let device = receiver(options.device.as_ref(), &case, &engine)?;
    let shown = shown(&engine, &case);
    let two_hooks = |id| is_clsact(&loaded.store, &engine.topology.device(id).key);
    let mut hits = case.per_frame.unwrap_or(true).then(|| Hits::new(&engine.ruleset, &shown, &two_hooks));

    let mut reader = PcapReader::open(&options.input)?;
    let mut output = Output::create(&options.out)?;
    let mut summary = Summary { refused_lines: loaded.refused, ..Summary::default() };
    let start = Instant::now();
    let mut last_told = start;
    let mut first = None;
    while let Some((time, frame)) = reader.next()? {
        summary.frames += 1;
        let since = match options.time {
            Time::Replay => start.elapsed(),
            Time::Capture => time.saturating_sub(*first.get_or_insert(time)),
        };
        let events = engine.receive(device, frame, since);
        tally(&mut summary, &events);
        let moved = hits.as_mut().map(|h| h.since_last(&engine.counters));
        output.frame(summary.frames, frame, &events, &engine.topology, &case, moved)?;
        if summary.frames.is_multiple_of(1024) && last_told.elapsed().as_millis() > 500 {
            progress(summary.frames);
            last_told = Instant::now();
        }
    }
    let keys: Vec<_> = shown.iter().map(|id| &engine.topology.device(*id).key).collect();
    output.finish(&loaded.store, &keys, &engine.counters, &loaded.log)?;
    Ok(summary)
}

fn read_rules(path: &Path) -> Result<String, ReplayError> {
    std::fs::read_to_string(path).map_err(|source| ReplayError::Rules { path: path.to_owned(), source })
}

/// The device that frames arrive on: as named, else the topology's `ingress`.
pub(super) fn receiver(
    named: Option<&String>,
    case: &Case,
    engine: &Engine,
) -> Result<crate::types::DeviceId, ReplayError> {
    let name = named.or(case.ingress.as_ref()).ok_or(ReplayError::NoDevice)?;
    engine.device(name).ok_or_else(|| {
        let known: Vec<&str> = engine.topology.devices.iter().map(|d| d.key.name.as_str()).collect();
        ReplayError::UnknownDevice(name.clone(), format!("known: {}", known.join(", ")))
    })
}

fn tally(summary: &mut Summary, events: &[Event]) {
    for event in events {
        match event {
            Event::Transmit { .. } => summary.transmitted += 1,
            Event::Stack { .. } => summary.delivered += 1,
            Event::Dropped { reason, .. } => summary.dropped[reason.index()] += 1,
        }
    }
}
