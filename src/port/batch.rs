//! A bounded queue of frames, first in first out: what one round takes from a port. It does not free frames.

use super::Frame;
use crate::limits::BURST_LEN;

/// Up to [`BURST_LEN`] frames in the order they came.
///
/// Whoever drops it with frames in it loses their chunks until the pool goes: empty it first.
#[derive(Debug)]
pub struct Batch {
    frames: [Option<Frame>; BURST_LEN],
    head: usize,
    len: usize,
    /// By place: when the frame was received, in ns since 1970; 0: nobody stamped it. Kept only while somebody wants that.
    stamps: [i64; BURST_LEN],
    stamped: bool,
}

impl Batch {
    /// An empty one. It never allocates.
    #[must_use]
    pub const fn new() -> Self {
        Self { frames: [const { None }; BURST_LEN], head: 0, len: 0, stamps: [0; BURST_LEN], stamped: false }
    }

    /// Appends a frame.
    ///
    /// # Errors
    /// It is full: the frame comes back.
    pub fn push(&mut self, frame: Frame) -> Result<(), Frame> {
        if self.is_full() {
            return Err(frame);
        }
        self.frames[(self.head + self.len) % BURST_LEN] = Some(frame);
        self.len += 1;
        Ok(())
    }

    /// Takes the oldest frame.
    pub fn pop(&mut self) -> Option<Frame> {
        if self.len == 0 {
            return None;
        }
        let frame = self.frames[self.head].take();
        self.head = (self.head + 1) % BURST_LEN;
        self.len -= 1;
        frame
    }

    /// Whether ports that know when a frame was received are to say so.
    pub const fn keep_stamps(&mut self, wanted: bool) {
        self.stamped = wanted;
    }

    /// See [`Batch::keep_stamps`].
    #[must_use]
    pub const fn keeps_stamps(&self) -> bool {
        self.stamped
    }

    /// Stamps the frame that was pushed last.
    pub(super) const fn stamp_last(&mut self, stamp_ns: i64) {
        self.stamps[(self.head + self.len + BURST_LEN - 1) % BURST_LEN] = stamp_ns;
    }

    /// To be called before a port that may stamp nothing: no stamp of before is taken for one of its frames.
    pub const fn forget_stamps(&mut self) {
        self.stamps = [0; BURST_LEN];
    }

    /// When the frame was received that [`Batch::pop`] gives next, in ns since 1970; 0: nobody knows.
    #[must_use]
    pub const fn next_stamp(&self) -> i64 {
        self.stamps[self.head]
    }

    /// Frames in it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Frames that still fit.
    #[must_use]
    pub const fn room(&self) -> usize {
        BURST_LEN - self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether no more fits.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.len == BURST_LEN
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::{FramePool, PoolConfig};

    #[test]
    fn frames_leave_in_the_order_they_came_across_the_wrap() {
        let config = PoolConfig { chunk_count: 2 * BURST_LEN as u32, chunk_len: 64, umem: false };
        let mut pool = FramePool::new(config).unwrap();
        let mut batch = Batch::new();
        let mut next_out = 0;
        for next_in in 0..3 * BURST_LEN {
            batch.push(pool.alloc_copy(&[next_in as u8]).unwrap()).unwrap();
            if next_in % 3 == 0 {
                let frame = batch.pop().unwrap();
                assert_eq!(pool.data(&frame), [next_out]);
                next_out += 1;
                pool.free(frame);
            }
            if batch.is_full() {
                let refused = batch.push(pool.alloc().unwrap()).unwrap_err();
                pool.free(refused);
                while let Some(frame) = batch.pop() {
                    assert_eq!(pool.data(&frame), [next_out]);
                    next_out += 1;
                    pool.free(frame);
                }
            }
        }
        assert_eq!(pool.outstanding(), batch.len());
    }
}
