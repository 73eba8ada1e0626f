//! What a measurement found, as data: the file `report.json`, and what tables, plots and comparisons are made from. It measures nothing.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::search::Bounds;
use super::stats::Summary;
use super::times::Percentiles;

/// Version of the form of `report.json`.
pub const VERSION: u32 = 1;

/// The whole.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// See [`VERSION`].
    pub version: u32,
    /// viscum's version.
    pub program: String,
    /// When it began, RFC 3339, UTC.
    pub started: String,
    /// How long it took, in s.
    pub seconds: f64,
    /// Where it ran.
    pub machine: Machine,
    /// What was asked for, in words.
    pub settings: BTreeMap<String, String>,
    /// The paths in the order of the tables; the first is what the others are compared with.
    pub paths: Vec<String>,
    /// Paths that could not run, with the reason.
    pub left_out: BTreeMap<String, String>,
    /// Rates.
    pub throughput: Vec<Throughput>,
    /// Ages of frames, one way.
    pub latency: Vec<Latency>,
    /// Request and response over TCP.
    pub round_trip: Vec<RoundTrip>,
    /// iperf3.
    pub tcp: Vec<Tcp>,
    /// Rates by number of rules or flows.
    pub scale: Vec<Scale>,
    /// Peak memory of each path's process in bytes.
    pub memory: BTreeMap<String, u64>,
    /// What was seen of the machine's noise.
    pub noise: Noise,
}

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// `uname -srm`.
    pub kernel: String,
    /// The CPU's model.
    pub cpu: String,
    /// CPUs that the process may use.
    pub cores: usize,
    /// Memory in bytes.
    pub memory: u64,
    /// CPUs that the scheduler leaves alone (`isolcpus`).
    pub isolated: String,
    /// The governor of the first CPU, if there is one.
    pub governor: String,
    /// What the kernel says the machine is: `kvm`, …; empty: bare metal, or not known.
    pub hypervisor: String,
}

/// One path, one frame size.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Throughput {
    /// The path.
    pub path: String,
    /// `64`, …, `1518`: bytes with the frame check sequence; `IMIX`.
    pub size: String,
    /// No loss.
    pub ndr: Bounds,
    /// At most 0.5 % lost.
    pub pdr: Bounds,
    /// Frames per second that arrive when more is offered than the path carries.
    pub overload: Summary,
    /// The same as a ratio to the first path's, trial by trial.
    pub to_first: Summary,
    /// CPU time of the whole machine for each frame, in ns, the generator's included, under overload.
    pub cpu_ns: Summary,
    /// Context switches of the whole machine per 1000 frames, under overload.
    pub switches: f64,
    /// Frames behind a later one of their flow, in all trials.
    pub reordered: u64,
    /// Frames that came twice, in all trials.
    pub duplicates: u64,
}

/// One path at one load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// The path.
    pub path: String,
    /// `idle`, or per cent of the path's PDR.
    pub load: String,
    /// Frames per second beside the measured ones.
    pub background: f64,
    /// Ages from when a frame was due to be sent until it arrived, in ns: all delay of the sender is in it.
    pub one_way: Percentiles,
}

/// One path's request and response.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoundTrip {
    /// The path.
    pub path: String,
    /// In ns.
    pub times: Percentiles,
}

/// One path's iperf3.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tcp {
    /// The path.
    pub path: String,
    /// `forward` or `reverse`.
    pub direction: String,
    /// Bits per second that the receiver got.
    pub bits_per_second: Summary,
    /// The same as a ratio to the first path's, run by run.
    pub to_first: Summary,
    /// Segments sent again, in all runs.
    pub retransmits: u64,
}

/// One path at one size of its tables.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scale {
    /// The path.
    pub path: String,
    /// `rules` or `flows`.
    pub of: String,
    /// How many.
    pub count: u64,
    /// Frames per second under overload.
    pub rate: Summary,
    /// CPU time of the whole machine for each frame, in ns.
    pub cpu_ns: f64,
}

/// What speaks against trusting the numbers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Noise {
    /// CPU time that a hypervisor took, as a share of all.
    pub stolen: f64,
    /// CPU time that was taken while nothing was measured, as a share of all: other programs.
    pub others: f64,
    /// The widest interval of a rate, against its median.
    pub spread: f64,
}

/// An interval wider than this, or so much time taken by others, and no winner is named.
const SPREAD_MAX: f64 = 0.25;
const TAKEN_MAX: f64 = 0.10;

impl Noise {
    /// Why the numbers are not to be trusted; `None`: they may be.
    #[must_use]
    pub fn verdict(&self) -> Option<String> {
        let mut reasons = Vec::new();
        if self.stolen > TAKEN_MAX {
            reasons.push(format!("a hypervisor took {:.0} % of the time", self.stolen * 100.0));
        }
        if self.others > TAKEN_MAX {
            reasons.push(format!("other programs took {:.0} % of the CPUs", self.others * 100.0));
        }
        if self.spread > SPREAD_MAX {
            reasons.push(format!("rates of the same trial differ by {:.0} %", self.spread * 100.0));
        }
        (!reasons.is_empty()).then(|| format!("too noisy to name a winner: {}", reasons.join("; ")))
    }
}

/// Why a report cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Its text.
    #[error("{path} is no report of `viscum bench`: {source}; give a report.json")]
    Form {
        /// The file.
        path: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A newer form.
    #[error(
        "{path} is of version {version}, this program reads {VERSION}; use the viscum that made it, or measure anew"
    )]
    Version {
        /// The file.
        path: String,
        /// Its version.
        version: u32,
    },
}

impl Report {
    /// Reads `report.json`.
    ///
    /// # Errors
    /// [`ReportError`].
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| ReportError::File {
            what: "read",
            path: name.clone(),
            source,
        })?;
        let report: Self =
            serde_json::from_str(&text).map_err(|source| ReportError::Form { path: name.clone(), source })?;
        if report.version != VERSION {
            return Err(ReportError::Version { path: name, version: report.version });
        }
        Ok(report)
    }

    /// Writes `report.json` and `report.html` into a directory, which is made if it is missing.
    ///
    /// # Errors
    /// [`ReportError::File`].
    pub fn write(&self, directory: &Path) -> Result<(), ReportError> {
        let failed = |path: &Path| {
            let path = path.display().to_string();
            move |source| ReportError::File { what: "write", path, source }
        };
        std::fs::create_dir_all(directory).map_err(failed(directory))?;
        let json = serde_json::to_string_pretty(self).unwrap_or_default();
        for (name, text) in [("report.json", json), ("report.html", super::html::page(self))] {
            let path = directory.join(name);
            std::fs::write(&path, text + "\n").map_err(failed(&path))?;
        }
        Ok(())
    }
}
