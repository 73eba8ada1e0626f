//! A port without a device: tests put frames in and see what comes out. It makes no system call.

use std::collections::VecDeque;

use super::{Batch, Frame, FramePool, PortStats};
use crate::limits::RING_LEN_DEFAULT;
use crate::types::DropReason;

/// Frames to be received, and frames that were transmitted, as bytes.
#[derive(Debug)]
pub struct Mem {
    incoming: VecDeque<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
    stats: PortStats,
    open: bool,
}

impl Mem {
    /// An empty one. It holds up to [`RING_LEN_DEFAULT`] transmitted frames, then it is full.
    #[must_use]
    pub fn new() -> Self {
        Self { incoming: VecDeque::new(), outgoing: VecDeque::new(), stats: PortStats::default(), open: true }
    }

    /// Adds a frame to be received.
    pub fn push(&mut self, bytes: &[u8]) {
        self.incoming.push_back(bytes.to_vec());
    }

    /// Takes the oldest transmitted frame.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        self.outgoing.pop_front()
    }

    pub(super) fn receive(&mut self, pool: &mut FramePool, into: &mut Batch) {
        while !into.is_full() {
            let Some(bytes) = self.incoming.pop_front() else { return };
            match pool.alloc_copy(&bytes) {
                Ok(frame) => {
                    self.stats.rx_frames += 1;
                    self.stats.rx_bytes += bytes.len() as u64;
                    into.push(frame).expect("the batch is not full: looked above");
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
        if refused.is_none() {
            self.stats.tx_frames += 1;
            self.stats.tx_bytes += frame.len() as u64;
            self.outgoing.push_back(pool.data(&frame).to_vec());
        }
        pool.free(frame);
        match refused {
            None => Ok(()),
            Some(reason) => {
                self.stats.drop_one(reason);
                Err(reason)
            }
        }
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
