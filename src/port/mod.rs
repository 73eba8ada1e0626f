//! Frames in and out of one device: the kinds of ports behind one enum. A port does not classify and does not choose where frames go.
//!
//! A port hands out frames as they would be on the wire, VLAN tags inline; what a sender left to the device (a checksum, to cut a
//! super-frame) is noted beside the frame and goes on with it, or is done by the port that transmits and whose device cannot.

mod afpacket;
mod afpacket_config;
mod afpacket_rx;
mod afxdp;
mod batch;
mod device;
mod error;
mod finish;
mod frame;
mod gro;
mod mem;
pub mod pcap;
pub mod pcapng;
mod pcapng_read;
mod raw;
mod tap;
mod vnet;

pub use afpacket::AfPacket;
pub use afpacket_config::PacketConfig;
pub use afxdp::{AfXdp, XdpConfig};
pub use batch::Batch;
pub use error::PortError;
pub use finish::{Lost, Wire};
pub use frame::{Frame, FramePool, PoolConfig};
pub use mem::Mem;
pub use pcap::{PcapError, PcapReader, PcapWriter};
pub use pcapng::{PcapngPacket, PcapngWriter};
pub use raw::{Raw, RawConfig, STAMP_MARGIN};
pub use tap::{Tap, TapConfig};

use std::os::fd::BorrowedFd;

pub use crate::sys::xsk::Closed;
use crate::types::DropReason;

/// One device's frames, by whatever way.
#[derive(Debug)]
pub enum Port {
    /// An AF_XDP socket.
    AfXdp(AfXdp),
    /// A packet socket: the host's stack gets the frames too.
    AfPacket(AfPacket),
    /// A plain packet socket: the host's stack gets the frames too.
    Raw(Raw),
    /// A tap device.
    Tap(Tap),
    /// No device: for tests.
    Mem(Mem),
}

impl Port {
    /// Takes up to a burst of received frames. Never blocks; what goes wrong is counted. A packet socket keeps those that were stamped
    /// later than `until` (ns since 1970), and what is behind them; sockets of other kinds know no stamps.
    pub fn receive(&mut self, pool: &mut FramePool, until: i64, into: &mut Batch) {
        match self {
            Self::AfXdp(port) => port.receive(pool, into),
            Self::AfPacket(port) => port.receive(pool, until, into),
            Self::Tap(port) => port.receive(pool, into),
            Self::Raw(port) => port.receive(pool, until, into),
            Self::Mem(port) => port.receive(pool, until, into),
        }
    }

    /// Hands a frame over for transmission, at the latest at the next [`Port::flush`].
    ///
    /// # Errors
    /// Why it was not taken. It is freed, and counted in [`PortStats::drops`], already.
    pub fn transmit(&mut self, pool: &mut FramePool, frame: Frame) -> Result<(), DropReason> {
        match self {
            Self::AfXdp(port) => port.transmit(pool, frame),
            Self::AfPacket(port) => port.transmit(pool, frame),
            Self::Tap(port) => port.transmit(pool, frame),
            Self::Raw(port) => port.transmit(pool, frame),
            Self::Mem(port) => port.transmit(pool, frame),
        }
    }

    /// Makes the kernel send what it was handed, and takes back what it has sent. Bounded.
    pub fn flush(&mut self, pool: &mut FramePool) {
        match self {
            Self::AfXdp(port) => port.flush(pool),
            Self::AfPacket(port) => port.flush(),
            Self::Tap(port) => port.flush(),
            // It sends at once.
            Self::Raw(_) => {}
            Self::Mem(_) => {}
        }
    }

    /// What to wait on for frames to receive; none for a port without a device or after [`Port::drain`].
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::AfXdp(port) => port.fd(),
            Self::AfPacket(port) => port.fd(),
            Self::Tap(port) => port.fd(),
            Self::Raw(port) => port.fd(),
            Self::Mem(_) => None,
        }
    }

    /// What it did so far.
    pub fn stats(&mut self) -> PortStats {
        match self {
            Self::AfXdp(port) => port.stats(),
            Self::AfPacket(port) => port.stats(),
            Self::Tap(port) => port.stats(),
            Self::Raw(port) => port.stats(),
            Self::Mem(port) => port.stats(),
        }
    }

    /// Whether frames that it was handed may still be under way in its pool's memory. They come back by [`Port::flush`].
    #[must_use]
    pub fn is_sending(&self) -> bool {
        match self {
            Self::AfXdp(port) => port.is_sending(),
            // They copy what they are handed.
            Self::AfPacket(_) | Self::Raw(_) | Self::Tap(_) | Self::Mem(_) => false,
        }
    }

    /// Counts frames that were meant for it and could not be made.
    pub fn count_lost(&mut self, lost: Lost) {
        let stats = match self {
            Self::AfXdp(port) => port.stats_mut(),
            Self::AfPacket(port) => port.stats_mut(),
            Self::Tap(port) => port.stats_mut(),
            Self::Raw(port) => port.stats_mut(),
            Self::Mem(port) => port.stats_mut(),
        };
        stats.drops[lost.reason.index()] += lost.frames as u64;
    }

    /// The end of its use with `pool`, without waiting; what it holds in the pool's memory is counted as lost. To be followed by
    /// [`Port::end`], on any thread.
    pub fn part(&mut self, pool: &mut FramePool) -> Parted {
        Parted(match self {
            Self::AfXdp(port) => port.part(pool),
            Self::AfPacket(_) | Self::Raw(_) | Self::Tap(_) | Self::Mem(_) => None,
        })
    }

    /// The end of a port that was parted from its pool: waits up to 500 ms for frames under way, then closes it. What it did in all,
    /// and what to tell [`FramePool::closed`].
    #[must_use]
    pub fn end(mut self, parted: Parted) -> (PortStats, Option<Closed>) {
        match &mut self {
            Self::AfXdp(_) => {}
            Self::AfPacket(port) => port.drain(),
            Self::Tap(port) => port.drain(),
            Self::Raw(port) => port.drain(),
            Self::Mem(port) => port.drain(),
        }
        let closed = parted.0.as_ref().map(|parted| parted.socket);
        (self.stats(), closed)
    }

    /// Whether it hands its pool's memory to the kernel, so that it can transmit frames of its own pool only. Others copy.
    #[must_use]
    pub const fn needs_own_frames(&self) -> bool {
        match self {
            Self::AfXdp(_) | Self::Mem(_) => true,
            Self::AfPacket(_) | Self::Raw(_) | Self::Tap(_) => false,
        }
    }

    /// The end: waits up to 500 ms for frames under way, then takes every chunk back. Afterwards nothing is received or sent, and
    /// [`FramePool::outstanding`] counts only what others hold.
    pub fn drain(&mut self, pool: &mut FramePool) {
        match self {
            Self::AfXdp(port) => port.drain(pool),
            Self::AfPacket(port) => port.drain(),
            Self::Tap(port) => port.drain(),
            Self::Raw(port) => port.drain(),
            Self::Mem(port) => port.drain(),
        }
    }
}

/// What is left of a port after [`Port::part`].
#[derive(Debug)]
pub struct Parted(Option<crate::sys::xsk::Parted>);

/// What a port did since it was opened. All counters but one only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PortStats {
    /// Frames handed out.
    pub rx_frames: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames that the kernel was given.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Frames lost in this port, by [`DropReason::index`].
    pub drops: [u64; DropReason::ALL.len()],
    /// Of `tx_frames`, those that the kernel had not sent when this was asked: the one number that falls as well.
    pub unsent: u64,
    /// System calls to make the kernel go on with receiving.
    pub rx_wakeups: u64,
    /// System calls to make the kernel transmit.
    pub tx_wakeups: u64,
}

impl PortStats {
    /// Counts one lost frame.
    pub fn drop_one(&mut self, reason: DropReason) {
        self.drops[reason.index()] += 1;
    }

    /// Hands a received frame out and counts it. Callers look for room first; if one day they do not, it is counted and not lost.
    fn hand_out(&mut self, frame: Frame, pool: &mut FramePool, into: &mut Batch) {
        let len = frame.len() as u64;
        match into.push(frame) {
            Ok(()) => {
                self.rx_frames += 1;
                self.rx_bytes += len;
            }
            Err(frame) => {
                self.drop_one(DropReason::NoBuffer);
                pool.free(frame);
            }
        }
    }

    /// Frames lost for a reason.
    #[must_use]
    pub const fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason.index()]
    }
}

#[cfg(test)]
mod tests;
