//! Frames in, frames out, as they are on the wire: whole checksums, tags inline, no super-frames. A port never looks at a rule.

mod afpacket;
mod afxdp;
mod batch;
mod error;
mod frame;
mod mem;
pub mod pcap;
#[cfg(test)]
mod root_tests;
mod stats;
mod tap;
#[cfg(test)]
mod tests;

pub use afpacket::{AfPacket, PacketConfig};
pub use afxdp::{AfXdp, XdpConfig};
pub use batch::Batch;
pub use error::PortError;
pub use frame::{Frame, FramePool, PoolConfig};
pub use mem::Mem;
pub use stats::PortStats;
pub use tap::{Tap, TapConfig};

use std::os::fd::BorrowedFd;

use crate::types::DropReason;

/// A port of any kind; the kind is looked at once per call, and [`Port::receive`] and [`Port::flush`] work on a burst.
#[derive(Debug)]
pub enum Port {
    /// A queue of a device by AF_XDP.
    AfXdp(AfXdp),
    /// A device by AF_PACKET; the kernel has its frames as well.
    AfPacket(AfPacket),
    /// A tap.
    Tap(Tap),
    /// Lists of frames, for tests.
    Mem(Mem),
}

macro_rules! each {
    ($port:expr, $inner:ident => $call:expr) => {
        match $port {
            Port::AfXdp($inner) => $call,
            Port::AfPacket($inner) => $call,
            Port::Tap($inner) => $call,
            Port::Mem($inner) => $call,
        }
    };
}

impl Port {
    /// Takes frames until `into` is full or none is there. Never blocks; what goes wrong is counted.
    pub fn receive(&mut self, pool: &mut FramePool, into: &mut Batch) {
        each!(self, port => port.receive(pool, into));
    }

    /// Queues a frame for transmission by the next [`Port::flush`].
    ///
    /// # Errors
    /// Why it was dropped: counted in [`PortStats::drops`], and the frame is freed.
    pub fn transmit(&mut self, pool: &mut FramePool, frame: Frame) -> Result<(), DropReason> {
        each!(self, port => port.transmit(pool, frame))
    }

    /// Hands all queued frames to the kernel, and takes back what it is done with.
    pub fn flush(&mut self, pool: &mut FramePool) {
        each!(self, port => port.flush(pool));
    }

    /// What becomes readable when a frame arrives.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        each!(self, port => port.fd())
    }

    /// Counts since the port was opened, the kernel's own drops included. One system call for some kinds.
    pub fn stats(&mut self) -> PortStats {
        each!(self, port => port.stats())
    }

    /// The end: waits (at most 500 ms) for frames that are being transmitted and takes all chunks back from the kernel.
    pub fn drain(&mut self, pool: &mut FramePool) {
        each!(self, port => port.drain(pool));
    }
}
