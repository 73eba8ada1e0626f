//! A port without a device: tests put frames in and see what comes out. It makes no system call.

use std::collections::VecDeque;

use super::finish::Wire;
use super::{Batch, Frame, FramePool, PortStats};
use crate::limits::RING_LEN_DEFAULT;
use crate::types::{DropReason, Offload};

/// Frames to be received, and frames that were transmitted, as bytes.
#[derive(Debug)]
pub struct Mem {
    /// With the stamps of their receipt.
    incoming: VecDeque<(i64, Vec<u8>, Offload)>,
    outgoing: VecDeque<Vec<u8>>,
    /// Buffers of frames that were received, for those that are transmitted.
    spare: Vec<Vec<u8>>,
    stats: PortStats,
    open: bool,
}

impl Mem {
    /// An empty one. It holds up to [`RING_LEN_DEFAULT`] transmitted frames, then it is full.
    #[must_use]
    pub fn new() -> Self {
        let len = RING_LEN_DEFAULT as usize;
        Self {
            incoming: VecDeque::new(),
            outgoing: VecDeque::with_capacity(len),
            spare: Vec::with_capacity(len),
            stats: PortStats::default(),
            open: true,
        }
    }

    /// Adds a frame to be received.
    pub fn push(&mut self, bytes: &[u8]) {
        self.push_offloaded(bytes, Offload::NONE);
    }

    /// Adds a frame of which the sender left something to the device.
    pub fn push_offloaded(&mut self, bytes: &[u8], offload: Offload) {
        self.incoming.push_back((0, bytes.to_vec(), offload));
    }

    /// Adds a frame that was received at that time, in ns since 1970.
    pub fn push_stamped(&mut self, stamp_ns: i64, bytes: &[u8]) {
        self.incoming.push_back((stamp_ns, bytes.to_vec(), Offload::NONE));
    }

    /// Takes the oldest transmitted frame.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        self.outgoing.pop_front()
    }

    pub(super) fn receive(&mut self, pool: &mut FramePool, until: i64, into: &mut Batch) {
        while !into.is_full() && self.incoming.front().is_some_and(|(stamp, ..)| *stamp <= until) {
            let Some((stamp, bytes, offload)) = self.incoming.pop_front() else { return };
            match pool.alloc_copy(&bytes) {
                Ok(mut frame) => {
                    frame.offload = offload;
                    self.stats.rx_frames += 1;
                    self.stats.rx_bytes += bytes.len() as u64;
                    into.push(frame).expect("the batch is not full: looked above");
                    if self.spare.len() < self.spare.capacity() {
                        self.spare.push(bytes);
                    }
                    if into.keeps_stamps() {
                        into.stamp_last(stamp);
                    }
                }
                Err(reason) => self.stats.drop_one(reason),
            }
        }
    }

    pub(super) fn transmit(&mut self, pool: &mut FramePool, frame: Frame) -> Result<(), DropReason> {
        let refused = if !self.open {
            Some(DropReason::Shutdown)
        } else if self.outgoing.len() >= RING_LEN_DEFAULT as usize {
            Some(DropReason::TxFull)
        } else {
            None
        };
        if let Some(reason) = refused {
            pool.free(frame);
            self.stats.drop_one(reason);
            return Err(reason);
        }
        let mut wire = Wire::of(frame);
        while let Some(piece) = wire.next(pool) {
            match piece {
                Ok(frame) => {
                    self.stats.tx_frames += 1;
                    self.stats.tx_bytes += frame.len() as u64;
                    let mut bytes = self.spare.pop().unwrap_or_default();
                    bytes.clear();
                    bytes.extend_from_slice(pool.data(&frame));
                    self.outgoing.push_back(bytes);
                    pool.free(frame);
                }
                Err(lost) => self.stats.drops[lost.reason.index()] += lost.frames as u64,
            }
        }
        Ok(())
    }

    pub(super) const fn stats_mut(&mut self) -> &mut PortStats {
        &mut self.stats
    }

    pub(super) fn stats(&self) -> PortStats {
        self.stats.clone()
    }

    pub(super) fn drain(&mut self) {
        self.open = false;
        for _ in self.incoming.drain(..) {
            self.stats.drop_one(DropReason::Shutdown);
        }
    }
}

impl Default for Mem {
    fn default() -> Self {
        Self::new()
    }
}
