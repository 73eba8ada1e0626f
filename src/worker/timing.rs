//! How long frames stay in the forwarder: noted by workers only while somebody wants to know, as times and nothing else. A worker never
//! waits for a reader: what finds no room is counted as missed.
//!
//! ```text
//! stamp of the receive ring, or the burst is taken ── rules ── handed to a port ── that port is flushed
//!                        Since                                    handed                  settle
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;

use super::clock::{monotonic_ns, real_ns};
use super::taps::{Sight, Tap};
use crate::limits::{PORTS_MAX, TAPS_MAX, TIMES_LEN_MAX, TIMES_PER_ROUND_MAX};
use crate::port::Batch;

/// The times of frames that some devices receive and others transmit. Workers put them in, one reader takes them out.
#[derive(Debug)]
pub struct Timing {
    slot: usize,
    samples: ArrayQueue<u64>,
    missed: AtomicU64,
    ended: AtomicBool,
}

impl Timing {
    /// By its number among those that run: each has its own. All memory is taken now.
    ///
    /// # Panics
    /// The number is not below [`TAPS_MAX`].
    #[must_use]
    pub fn new(slot: usize) -> Self {
        assert!(slot < TAPS_MAX, "no more can run than are looked at");
        let (missed, ended) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { slot, samples: ArrayQueue::new(TIMES_LEN_MAX), missed, ended }
    }

    /// See [`Timing::new`].
    #[must_use]
    pub const fn slot(&self) -> usize {
        self.slot
    }

    /// How long a frame stayed, in ns, at least 1; the oldest that waits.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.samples.pop()
    }

    /// Frames whose times found no room.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Nothing more will come: the forwarder ends.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Whether nothing more will come.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn give(&self, ns: u64) {
        if self.samples.push(ns).is_err() {
            self.miss();
        }
    }

    fn miss(&self) {
        self.missed.fetch_add(1, Ordering::Relaxed);
    }
}

/// When a frame was received, in ns on [`monotonic_ns`]'s clock, and who wants to know how long it stays: a bit for each slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Since {
    ns: i64,
    by: u8,
}

impl Since {
    /// Nobody wants to know.
    pub const NOBODY: Self = Self { ns: 0, by: 0 };
}

/// The worker's own end.
#[derive(Debug)]
pub(super) struct Timer {
    /// By slot.
    timings: [Option<Arc<Timing>>; TAPS_MAX],
    /// By port: a bit for each slot that wants the times of what it receives.
    wanted: [u8; PORTS_MAX],
    /// When the present burst was taken, and what the clock of stamps was ahead of ours then.
    took_ns: i64,
    ahead_ns: i64,
    /// The frame that is being handled.
    came: Since,
    /// The same, when it is about to be handed over.
    leaving: Since,
    /// Frames that were handed to a port in this round.
    handed: Vec<(usize, Since)>,
    /// By port: when it was flushed in this round.
    flushed_ns: [i64; PORTS_MAX],
}

impl Timer {
    pub fn new() -> Self {
        Self {
            timings: [const { None }; TAPS_MAX],
            wanted: [0; PORTS_MAX],
            took_ns: 0,
            ahead_ns: 0,
            came: Since::NOBODY,
            leaving: Since::NOBODY,
            handed: Vec::new(),
            flushed_ns: [0; PORTS_MAX],
        }
    }

    /// Between bursts: who wants to know from now on.
    pub fn set<'a>(&mut self, taps: impl Iterator<Item = &'a Tap>) {
        let handed = std::mem::take(&mut self.handed);
        *self = Self { handed, ..Self::new() };
        for tap in taps {
            let Sight::Times(timing) = &tap.sight else { continue };
            for (wanted, interface) in self.wanted.iter_mut().zip(&tap.interfaces) {
                *wanted |= u8::from(interface.is_some()) << timing.slot;
            }
            self.timings[timing.slot] = Some(Arc::clone(timing));
            self.handed.reserve_exact(TIMES_PER_ROUND_MAX);
        }
    }

    /// Whether anybody wants to know.
    pub fn is_on(&self) -> bool {
        self.timings.iter().any(Option::is_some)
    }

    /// A burst is about to be taken.
    pub fn burst(&mut self, batch: &mut Batch) {
        if batch.keeps_stamps() {
            batch.forget_stamps();
            self.took_ns = monotonic_ns();
            self.ahead_ns = real_ns() - self.took_ns;
        }
    }

    /// A frame of the burst comes, which the kernel has stamped, in ns since 1970; 0: it has not.
    pub fn begin(&mut self, port: usize, stamp_ns: i64) {
        let by = self.wanted.get(port).copied().unwrap_or(0);
        if by != 0 {
            // A stamp that is ahead was made before somebody set the clock back.
            let ns = if stamp_ns == 0 { self.took_ns } else { (stamp_ns - self.ahead_ns).min(self.took_ns) };
            self.came = Since { ns, by };
        } else {
            self.came = Since::NOBODY;
        }
        self.leaving = Since::NOBODY;
    }

    /// The frame goes on, not a copy of it.
    pub fn leave(&mut self) {
        self.leaving = self.came;
    }

    /// A frame came from another worker.
    pub fn resume(&mut self, since: Since) {
        self.leaving = since;
    }

    /// The frame goes to another worker.
    pub fn take(&mut self) -> Since {
        std::mem::take(&mut self.leaving)
    }

    /// A port took the frame.
    pub fn handed(&mut self, port: usize) {
        let since = self.take();
        if since.by == 0 {
            return;
        }
        if self.handed.len() < TIMES_PER_ROUND_MAX && self.is_on() {
            self.handed.push((port, since));
        } else {
            self.each(since.by, Timing::miss);
        }
    }

    /// Whether a flush is to be timed.
    pub fn has_handed(&self) -> bool {
        !self.handed.is_empty()
    }

    /// A port was flushed.
    pub fn flushed(&mut self, port: usize) {
        if let Some(flushed) = self.flushed_ns.get_mut(port) {
            *flushed = monotonic_ns();
        }
    }

    /// All ports were flushed.
    pub fn settle(&mut self) {
        let mut handed = std::mem::take(&mut self.handed);
        for (port, since) in handed.drain(..) {
            let ended = self.flushed_ns.get(port).copied().unwrap_or(0);
            let stayed = u64::try_from(ended - since.ns).unwrap_or(0).max(1);
            self.each(since.by, |timing| timing.give(stayed));
        }
        self.handed = handed;
    }

    fn each(&self, by: u8, tell: impl Fn(&Timing)) {
        let wanted = self.timings.iter().enumerate().filter(|(slot, _)| (by >> slot) & 1 != 0);
        wanted.filter_map(|(_, timing)| timing.as_deref()).for_each(tell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tap(timing: &Arc<Timing>, interfaces: &[Option<usize>]) -> Tap {
        Tap { sight: Sight::Times(Arc::clone(timing)), interfaces: interfaces.into() }
    }

    fn all(timing: &Timing) -> Vec<u64> {
        std::iter::from_fn(|| timing.next()).collect()
    }

    #[test]
    fn a_time_is_from_the_stamp_or_the_burst_to_the_flush_of_the_port_that_the_frame_left_by() {
        let (one, other) = (Arc::new(Timing::new(0)), Arc::new(Timing::new(7)));
        let mut timer = Timer::new();
        assert!(!timer.is_on());
        timer.set([tap(&one, &[Some(0), None]), tap(&other, &[None, Some(0)])].iter());
        let mut batch = Batch::new();
        batch.keep_stamps(timer.is_on());
        timer.burst(&mut batch);
        timer.begin(0, 0);
        timer.leave();
        timer.handed(1);
        // What no port took, what is a copy, and what nobody asked for, has no time.
        timer.begin(0, 0);
        timer.leave();
        timer.begin(0, 0);
        timer.handed(1);
        timer.begin(2, 0);
        timer.leave();
        timer.handed(1);
        // A second old by its stamp; and one from the future.
        for stamp in [real_ns() - 1_000_000_000, real_ns() + 3_600_000_000_000] {
            timer.begin(1, stamp);
            timer.leave();
            timer.handed(0);
        }
        timer.flushed(0);
        timer.flushed(1);
        timer.settle();
        assert!(!timer.has_handed());
        let (one_saw, other_saw) = (all(&one), all(&other));
        assert!(matches!(one_saw[..], [ns] if ns < 1_000_000_000), "{one_saw:?}");
        assert!(matches!(other_saw[..], [old, new] if old >= 1_000_000_000 && new < 1_000_000_000), "{other_saw:?}");
        assert_eq!((one.missed(), other.missed()), (0, 0));
    }

    #[test]
    fn a_frame_that_crosses_is_timed_where_it_leaves() {
        let timing = Arc::new(Timing::new(3));
        let (mut from, mut to) = (Timer::new(), Timer::new());
        from.set([tap(&timing, &[Some(0)])].iter());
        to.set([tap(&timing, &[])].iter());
        let mut batch = Batch::new();
        batch.keep_stamps(true);
        from.burst(&mut batch);
        from.begin(0, 0);
        from.leave();
        let since = from.take();
        assert_eq!(from.take(), Since::NOBODY, "only the first segment of a super-frame has it");
        to.resume(since);
        to.handed(5);
        to.flushed(5);
        to.settle();
        assert_eq!(all(&timing).len(), 1);
        // Nobody wants to know any more when it comes.
        to.set([].iter());
        to.resume(since);
        to.handed(5);
        assert!(!to.has_handed() && timing.missed() == 0);
    }

    #[test]
    fn what_finds_no_room_is_missed_and_told() {
        let timing = Arc::new(Timing::new(0));
        let mut timer = Timer::new();
        timer.set([tap(&timing, &[Some(0)])].iter());
        let mut rounds = |rounds: usize, frames: usize| {
            for _ in 0..rounds {
                for _ in 0..frames {
                    timer.begin(0, 0);
                    timer.leave();
                    timer.handed(0);
                }
                timer.flushed(0);
                timer.settle();
            }
        };
        rounds(1, TIMES_PER_ROUND_MAX + 3);
        assert_eq!(timing.missed(), 3);
        rounds(TIMES_LEN_MAX / TIMES_PER_ROUND_MAX, TIMES_PER_ROUND_MAX);
        assert_eq!(timing.missed(), 3 + TIMES_PER_ROUND_MAX as u64);
        assert_eq!(all(&timing).len(), TIMES_LEN_MAX);
    }
}
