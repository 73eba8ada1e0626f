//! A queue of a device by AF_XDP: frames move between the sockets of one pool without a copy. It steers nothing.

use std::os::fd::BorrowedFd;

use super::{Batch, Frame, FramePool, PortError, PortStats};
use crate::limits::BURST_LEN;
use crate::sys::xdp::{Lengths, Mode, Socket};
use crate::types::DropReason;
use crate::wire::checksum;

/// Frames that the kernel may take from one busy-poll call.
const BUSY_POLL_BUDGET: u32 = BURST_LEN as u32;

/// What a socket is opened with.
#[derive(Clone, Debug)]
pub struct XdpConfig {
    /// In the calling thread's namespace.
    pub device: String,
    /// Its queue, both directions.
    pub queue: u32,
    /// Length of the receive ring, in frames.
    pub rx: u32,
    /// Length of the transmit ring.
    pub tx: u32,
    /// Chunks to keep in the fill ring: at most the ring that the pool was made with. 0: transmit only.
    pub fill: u32,
    /// Ask for zero copy, or fail. Never for a veth. Decided by the first socket of a pool.
    pub zero_copy: bool,
    /// Complete checksums that a veth peer's stack left partial.
    pub complete_partial: bool,
    /// Busy polling for this long.
    pub busy_poll_us: Option<u32>,
}

/// See the file's head.
#[derive(Debug)]
pub struct AfXdp {
    socket: Socket,
    zero_copy: bool,
    complete_partial: bool,
    batch: Vec<Frame>,
    wake_receive: bool,
    stats: PortStats,
}

impl AfXdp {
    /// Opens and binds the socket, and fills its ring: only then may a program steer to it.
    ///
    /// # Errors
    /// See [`PortError`].
    pub fn open(pool: &mut FramePool, config: &XdpConfig) -> Result<Self, PortError> {
        super::error::ring("receive", config.rx)?;
        super::error::ring("transmit", config.tx)?;
        if config.fill != 0 {
            super::error::ring("fill", config.fill)?;
        }
        let mode = if config.zero_copy { Mode::ZeroCopy } else { Mode::Copy };
        let lengths = Lengths { rx: config.rx, tx: config.tx, fill: config.fill };
        let failed = |e| PortError::system(&config.device, "AF_XDP socket", e);
        crate::sys::device::interface(&config.device).map_err(failed)?;
        let socket = Socket::open(&mut pool.memory, &config.device, config.queue, mode, lengths).map_err(failed)?;
        let mut port = Self {
            zero_copy: false,
            socket,
            complete_partial: config.complete_partial,
            batch: Vec::with_capacity(BURST_LEN),
            wake_receive: false,
            stats: PortStats::default(),
        };
        let mut set_up = || {
            port.zero_copy = port.socket.zero_copy()?;
            config.busy_poll_us.map_or(Ok(()), |us| port.socket.busy_poll(us, BUSY_POLL_BUDGET))
        };
        if let Err(e) = set_up() {
            port.drain(pool);
            return Err(failed(e));
        }
        Ok(port)
    }

    /// For the XSKMAP and poll; `None` after [`AfXdp::drain`].
    #[must_use]
    pub fn socket_fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.fd()
    }

    /// Whether the device really shares the pool's memory.
    #[must_use]
    pub fn is_zero_copy(&self) -> bool {
        self.zero_copy
    }

    pub(super) fn receive(&mut self, pool: &mut FramePool, into: &mut Batch) {
        let Self { socket, stats, complete_partial, .. } = self;
        let bad = socket.receive(&mut pool.memory, into.room(), |memory, mut frame| {
            if *complete_partial {
                checksum::complete_partial(memory.data_mut(&mut frame));
            }
            stats.rx_frames += 1;
            stats.rx_bytes += frame.len() as u64;
            if let Err(frame) = into.push(frame) {
                memory.free(frame);
                stats.drop_many(DropReason::NoBuffer, 1);
            }
        });
        stats.drop_many(DropReason::Malformed, bad);
        self.wake_receive = self.socket.refill(&mut pool.memory);
        if self.wake_receive {
            self.stats.rx_wakeups += 1;
            self.socket.wake_receive();
        }
    }

    pub(super) fn transmit(&mut self, pool: &mut FramePool, frame: Frame) -> Result<(), DropReason> {
        if self.batch.len() == BURST_LEN {
            self.commit(pool);
        }
        if self.batch.len() == BURST_LEN || self.socket.fd().is_none() {
            self.stats.drop_many(DropReason::TxFull, 1);
            pool.free(frame);
            return Err(DropReason::TxFull);
        }
        self.batch.push(frame);
        Ok(())
    }

    pub(super) fn flush(&mut self, pool: &mut FramePool) {
        self.commit(pool);
        if self.socket.in_tx() > 0 {
            self.kick(pool);
            // What found no room before the kick has it now, if the device takes anything.
            if !self.batch.is_empty() && self.commit(pool) {
                self.kick(pool);
            }
        }
    }

    fn kick(&mut self, pool: &mut FramePool) {
        self.stats.tx_wakeups += self.socket.kick(&mut pool.memory).calls;
    }

    /// Moves the batch to the ring. False: there is no room.
    fn commit(&mut self, pool: &mut FramePool) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        let frames = self.batch.len() as u64;
        let bytes: u64 = self.batch.iter().map(|f| f.len() as u64).sum();
        let mut put = self.socket.transmit(&mut pool.memory, &mut self.batch);
        if !put {
            self.kick(pool);
            put = self.socket.transmit(&mut pool.memory, &mut self.batch);
        }
        if put {
            self.stats.tx_frames += frames;
            self.stats.tx_bytes += bytes;
        }
        put
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.fd()
    }

    pub(super) fn stats(&mut self) -> PortStats {
        let kernel = self.socket.statistics();
        let mut stats = self.stats.clone();
        // `rx_dropped` counts frames without a free chunk or too long for one; the third says why, per descriptor, and is not added.
        stats.drop_many(DropReason::RxFull, kernel.rx_dropped() + kernel.rx_ring_full());
        stats.drop_many(DropReason::TxError, kernel.tx_invalid_descs());
        stats
    }

    pub(super) fn drain(&mut self, pool: &mut FramePool) {
        self.flush(pool);
        for frame in self.batch.drain(..) {
            pool.free(frame);
            self.stats.drop_many(DropReason::TxFull, 1);
        }
        let (unseen, unsent) = self.socket.close(&mut pool.memory);
        self.stats.drop_many(DropReason::Shutdown, unseen + unsent);
    }
}
