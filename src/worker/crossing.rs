//! The way of a frame from one worker to another: a bounded queue of preallocated buffers. Copies bytes, decides nothing.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use crate::types::DropReason;

/// A frame on its way to another worker's port.
#[derive(Debug)]
pub struct Crossed {
    /// The port, as the receiving worker counts.
    pub port: usize,
    bytes: Box<[u8]>,
    len: usize,
}

impl Crossed {
    /// The frame, as on the wire.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// One worker's letter box: every other worker may put frames in, only the owner takes them out.
#[derive(Clone, Debug)]
pub struct Crossing {
    waiting: Arc<ArrayQueue<Crossed>>,
    free: Arc<ArrayQueue<Box<[u8]>>>,
}

impl Crossing {
    /// With room for `frames` frames of at most `frame_len` bytes each; all memory is taken now.
    #[must_use]
    pub fn new(frames: usize, frame_len: usize) -> Self {
        let free = ArrayQueue::new(frames);
        for _ in 0..frames {
            let fits = free.push(vec![0; frame_len].into_boxed_slice());
            assert!(fits.is_ok(), "the queue has room for as many buffers as it was made for");
        }
        Self { waiting: Arc::new(ArrayQueue::new(frames)), free: Arc::new(free) }
    }

    /// Puts a copy of a frame in.
    ///
    /// # Errors
    /// [`DropReason::CrossingFull`] or [`DropReason::TooLong`]; nothing was put in.
    pub fn send(&self, port: usize, frame: &[u8]) -> Result<(), DropReason> {
        let Some(mut bytes) = self.free.pop() else { return Err(DropReason::CrossingFull) };
        if frame.len() > bytes.len() {
            self.recycle(bytes);
            return Err(DropReason::TooLong);
        }
        bytes[..frame.len()].copy_from_slice(frame);
        match self.waiting.push(Crossed { port, bytes, len: frame.len() }) {
            Ok(()) => Ok(()),
            Err(crossed) => {
                self.recycle(crossed.bytes);
                Err(DropReason::CrossingFull)
            }
        }
    }

    /// Takes the oldest frame out; give it back with [`Crossing::done`].
    #[must_use]
    pub fn receive(&self) -> Option<Crossed> {
        self.waiting.pop()
    }

    /// Gives a frame's buffer back.
    pub fn done(&self, crossed: Crossed) {
        self.recycle(crossed.bytes);
    }

    /// Whether no frame waits.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn recycle(&self, bytes: Box<[u8]>) {
        let fits = self.free.push(bytes);
        debug_assert!(fits.is_ok(), "a buffer came back that was not taken");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_cross_in_order_and_a_full_box_says_so() {
        let crossing = Crossing::new(2, 64);
        crossing.send(1, &[1; 60]).unwrap();
        crossing.send(3, &[2; 64]).unwrap();
        assert_eq!(crossing.send(0, &[3; 60]), Err(DropReason::CrossingFull));
        let first = crossing.receive().unwrap();
        assert_eq!((first.port, first.frame()), (1, &[1; 60][..]));
        crossing.done(first);
        assert_eq!(crossing.send(0, &[3; 65]), Err(DropReason::TooLong));
        crossing.send(0, &[3; 8]).unwrap();
        let second = crossing.receive().unwrap();
        assert_eq!((second.port, second.frame().len()), (3, 64));
        crossing.done(second);
        let third = crossing.receive().unwrap();
        assert_eq!(third.frame(), &[3; 8]);
        crossing.done(third);
        assert!(crossing.receive().is_none() && crossing.is_empty());
    }

    #[test]
    fn many_senders_lose_nothing_that_they_were_told_was_sent() {
        let crossing = Crossing::new(16, 8);
        let sent: usize = std::thread::scope(|scope| {
            let senders: Vec<_> = (0..3)
                .map(|n| {
                    let crossing = crossing.clone();
                    scope.spawn(move || (0..1000).filter(|_| crossing.send(n, &[n as u8; 8]).is_ok()).count())
                })
                .collect();
            let mut received = 0;
            while senders.iter().any(|s| !s.is_finished()) || !crossing.is_empty() {
                if let Some(crossed) = crossing.receive() {
                    assert!(crossed.frame().iter().all(|b| usize::from(*b) == crossed.port));
                    crossing.done(crossed);
                    received += 1;
                }
            }
            let sent: usize = senders.into_iter().map(|s| s.join().unwrap()).sum();
            assert_eq!(sent, received);
            sent
        });
        assert!(sent >= 16, "{sent}");
    }
}
