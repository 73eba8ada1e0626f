//! A port on two lists of frames, for tests. It locks, which no other port may.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Batch, Frame, FramePool, PortStats};
use crate::types::DropReason;

#[derive(Debug, Default)]
struct Lists {
    arriving: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
}

/// See the file's head. A clone is another end of the same lists, for the test to keep.
#[derive(Clone, Debug, Default)]
pub struct Mem {
    lists: Arc<Mutex<Lists>>,
    stats: PortStats,
}

impl Mem {
    /// With empty lists.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A frame arrives.
    pub fn push(&self, frame: &[u8]) {
        self.lists().arriving.push_back(frame.to_vec());
    }

    /// The oldest frame that was transmitted.
    #[must_use]
    pub fn pop(&self) -> Option<Vec<u8>> {
        self.lists().sent.pop_front()
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn receive(&mut self, pool: &mut FramePool, into: &mut Batch) {
        while !into.is_full() {
            let Some(bytes) = self.lists().arriving.pop_front() else { break };
            match pool.alloc_copy(&bytes) {
                Ok(frame) => {
                    self.stats.rx_frames += 1;
                    self.stats.rx_bytes += bytes.len() as u64;
                    let pushed = into.push(frame);
                    assert!(pushed.is_ok(), "a batch that is not full takes a frame");
                }
                Err(reason) => self.stats.drop_many(reason, 1),
            }
        }
    }

    pub(super) fn transmit(&mut self, pool: &mut FramePool, frame: Frame) -> Result<(), DropReason> {
        let bytes = pool.data(&frame).to_vec();
        pool.free(frame);
        self.stats.tx_frames += 1;
        self.stats.tx_bytes += bytes.len() as u64;
        self.lists().sent.push_back(bytes);
        Ok(())
    }

    pub(super) fn flush(&mut self, _pool: &mut FramePool) {}

    #[expect(clippy::unused_self, reason = "as the other ports")]
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    pub(super) fn stats(&mut self) -> PortStats {
        self.stats.clone()
    }

    pub(super) fn drain(&mut self, _pool: &mut FramePool) {}
}
