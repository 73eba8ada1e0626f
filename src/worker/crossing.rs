//! The way of a frame from one worker to another: a bounded queue of preallocated buffers. Copies bytes, decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::queue::ArrayQueue;
use nix::sys::eventfd::EventFd;

use super::timing::Since;
use crate::types::DropReason;

/// A frame on its way to another worker's port.
#[derive(Debug)]
pub struct Crossed {
    /// The port, as the receiving worker counts.
    pub port: usize,
    /// When it was received, if somebody wants to know how long it stays.
    pub since: Since,
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
    /// The owner is about to sleep, or sleeps. Set before it looks into the box a last time, read after a frame was put in:
    /// with sequentially consistent order on both sides one of them sees the other.
    asleep: Arc<AtomicBool>,
    wake: Arc<EventFd>,
}

impl Crossing {
    /// With room for `frames` frames of at most `frame_len` bytes each; all memory is taken now. `wake` ends the owner's sleep.
    #[must_use]
    pub fn new(frames: usize, frame_len: usize, wake: Arc<EventFd>) -> Self {
        let free = ArrayQueue::new(frames);
        for _ in 0..frames {
            let fits = free.push(vec![0; frame_len].into_boxed_slice());
            assert!(fits.is_ok(), "the queue has room for as many buffers as it was made for");
        }
        let waiting = Arc::new(ArrayQueue::new(frames));
        Self { waiting, free: Arc::new(free), asleep: Arc::default(), wake }
    }

    /// Puts a copy of a frame in.
    ///
    /// # Errors
    /// [`DropReason::CrossingFull`] or [`DropReason::TooLong`]; nothing was put in.
    pub fn send(&self, port: usize, frame: &[u8], since: Since) -> Result<(), DropReason> {
        let Some(mut bytes) = self.free.pop() else { return Err(DropReason::CrossingFull) };
        if frame.len() > bytes.len() {
            self.recycle(bytes);
            return Err(DropReason::TooLong);
        }
        bytes[..frame.len()].copy_from_slice(frame);
        match self.waiting.push(Crossed { port, since, bytes, len: frame.len() }) {
            Ok(()) => {
                if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
                    // An eventfd that cannot take one more is readable: the owner wakes up anyway.
                    let _readable = self.wake.write(1);
                }
                Ok(())
            }
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

    /// What ends the owner's sleep.
    #[must_use]
    pub fn wake(&self) -> Arc<EventFd> {
        Arc::clone(&self.wake)
    }

    /// The owner is going to sleep. False: a frame is there, it must not.
    #[must_use]
    pub fn may_sleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        self.is_empty()
    }

    /// The owner is awake.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// Whether no frame waits.
    #[must_use]
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

    fn bell() -> Arc<EventFd> {
        Arc::new(EventFd::from_flags(nix::sys::eventfd::EfdFlags::EFD_NONBLOCK).unwrap())
    }

    #[test]
    fn a_sleeping_owner_is_woken_and_one_that_is_awake_is_left_alone() {
        let wake = bell();
        let crossing = Crossing::new(4, 8, Arc::clone(&wake));
        crossing.send(0, &[0; 8], Since::NOBODY).unwrap();
        assert!(wake.read().is_err() && !crossing.may_sleep(), "a frame waits");
        crossing.awake();
        crossing.done(crossing.receive().unwrap());
        assert!(crossing.may_sleep());
        crossing.send(0, &[0; 8], Since::NOBODY).unwrap();
        assert_eq!(wake.read(), Ok(1));
    }

    #[test]
    fn frames_cross_in_order_and_a_full_box_says_so() {
        let crossing = Crossing::new(2, 64, bell());
        crossing.send(1, &[1; 60], Since::NOBODY).unwrap();
        crossing.send(3, &[2; 64], Since::NOBODY).unwrap();
        assert_eq!(crossing.send(0, &[3; 60], Since::NOBODY), Err(DropReason::CrossingFull));
        let first = crossing.receive().unwrap();
        assert_eq!((first.port, first.frame()), (1, &[1; 60][..]));
        crossing.done(first);
        assert_eq!(crossing.send(0, &[3; 65], Since::NOBODY), Err(DropReason::TooLong));
        crossing.send(0, &[3; 8], Since::NOBODY).unwrap();
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
        let crossing = Crossing::new(16, 8, bell());
        let sent: usize = std::thread::scope(|scope| {
            let senders: Vec<_> = (0..3)
                .map(|n| {
                    let crossing = crossing.clone();
                    scope.spawn(move || {
                        (0..1000).filter(|_| crossing.send(n, &[n as u8; 8], Since::NOBODY).is_ok()).count()
                    })
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
