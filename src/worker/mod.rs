//! The threads that forward: one per queue, pinned, both directions, in bursts. They parse no text and open no device.

mod across;
mod buckets;
pub mod cells;
mod classify;
mod clock;
mod crossing;
mod generation;
mod mail;
mod pool;
mod ports;
mod run;
mod seam;
mod staging;
mod step;
mod taps;
#[cfg(test)]
mod tests;
mod timing;

pub use buckets::AllTokens;
pub use cells::{Cells, PortCells, WorkerCells};
pub use clock::{monotonic_ms, monotonic_ns};
pub use generation::{Egress, Generation, Lane, OnPass};
pub use pool::{Last, Pool, PortRef, Worker, WorkerError};
pub use run::{Ended, Idle, Shared};
pub use seam::Seam;
pub use taps::{Fate, Record, Sight, Tap, Taps, Watch};
pub use timing::Timing;
