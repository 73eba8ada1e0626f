//! A burst of frames in order of arrival: a ring of fixed length. It allocates nothing and frees nothing.

use super::Frame;
use crate::limits::BURST_LEN;

/// Up to [`BURST_LEN`] frames, first in, first out.
#[derive(Debug)]
pub struct Batch {
    slots: [Option<Frame>; BURST_LEN],
    head: usize,
    len: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// Without a frame.
    #[must_use]
    pub fn new() -> Self {
        Self { slots: [const { None }; BURST_LEN], head: 0, len: 0 }
    }

    /// Adds a frame at the end.
    ///
    /// # Errors
    /// The frame, if the batch is full.
    pub fn push(&mut self, frame: Frame) -> Result<(), Frame> {
        if self.is_full() {
            return Err(frame);
        }
        self.slots[(self.head + self.len) % BURST_LEN] = Some(frame);
        self.len += 1;
        Ok(())
    }

    /// Takes the oldest frame.
    pub fn pop(&mut self) -> Option<Frame> {
        let frame = self.slots[self.head].take()?;
        self.head = (self.head + 1) % BURST_LEN;
        self.len -= 1;
        Some(frame)
    }

    /// Frames in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether no more fits.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len == BURST_LEN
    }

    /// How many more fit.
    #[must_use]
    pub fn room(&self) -> usize {
        BURST_LEN - self.len
    }
}
