//! Measuring paths side by side: a generator, a forwarder under test, a sink, and what to make of the numbers. It forwards nothing itself.
//!
//! ```text
//! plan ──▶ lanes (bed + forwarder, one per path, all standing) ──▶ trials in turns ──▶ search, percentiles, ratios ──▶ report
//! ```

pub mod bed;
pub mod code;
pub mod compare;
pub mod frames;
pub mod generator;
pub mod html;
pub mod lane;
pub mod machine;
pub mod peers;
pub mod programs;
pub mod report;
pub mod run;
pub mod search;
pub mod sink;
pub mod stats;
pub mod tables;
pub mod tcp;
pub mod times;
pub mod trial;

use crate::host::HostError;
use crate::lab::LabError;
use crate::sys::bpf;

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// A command of the testbed.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A device or namespace.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A program of generator, sink or path.
    #[error(transparent)]
    Program(#[from] bpf::Error),
    /// A path that cannot run here.
    #[error("{0}")]
    LeftOut(String),
    /// The generator's packet socket.
    #[error("{device}: cannot send measured frames: {source}; CAP_NET_RAW is needed (run as root)")]
    Socket {
        /// The device.
        device: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests;
