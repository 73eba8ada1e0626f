//! Why a port or its memory could not be had, and what to try next. Frames that are lost are no errors: they are counted.

use std::io;

/// Why a port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// A pool of no chunks, or of chunks that cannot hold a frame.
    #[error("frame memory of {chunk_count} chunks of {chunk_len} bytes: {reason}")]
    Pool {
        /// Chunks asked for.
        chunk_count: u32,
        /// Bytes of each.
        chunk_len: usize,
        /// What is wrong with it, and what to ask for.
        reason: &'static str,
    },
    /// The kernel gave no memory, or did not take it as a UMEM.
    #[error("frame memory of {chunk_count} chunks of {chunk_len} bytes: {source}; {next}")]
    Memory {
        /// Chunks asked for.
        chunk_count: u32,
        /// Bytes of each.
        chunk_len: usize,
        /// What the kernel said.
        source: io::Error,
        /// What to try.
        next: &'static str,
    },
    /// The length of a ring is not one that the kernel takes.
    #[error("{device}: {ring} ring of {len} frames: {reason}")]
    Ring {
        /// The device.
        device: String,
        /// Which ring.
        ring: &'static str,
        /// The length asked for, in frames.
        len: u32,
        /// What is wrong, and what to ask for.
        reason: &'static str,
    },
    /// The name is empty, too long, or has a zero byte.
    #[error("device name {0:?}: it must have 1 to 15 bytes and no zero byte; `ip link` lists the devices")]
    DeviceName(String),
    /// An AF_XDP socket needs a pool that was made with `umem: true`.
    #[error("{device}: the frame memory is not shared with the kernel; make the pool with `umem: true`")]
    NotUmem {
        /// The device.
        device: String,
    },
    /// A system call failed while the port was opened.
    #[error("{device}{}: {what}: {source}; {next}", queue.map(|queue| format!(" queue {queue}")).unwrap_or_default())]
    Open {
        /// The device.
        device: String,
        /// The queue, for ports that have one.
        queue: Option<u32>,
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
        /// What to try.
        next: &'static str,
    },
}
