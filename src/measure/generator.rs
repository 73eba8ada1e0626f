//! The generator: numbered, stamped frames at a steady rate. Most are made in the kernel; single ones, whose age is measured, by a
//! packet socket.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::MeasureError;
use super::bed::{Bed, GENERATOR};
use super::code;
use super::frames::{Ends, FLAGS_AT, MEASURED_FLAGS, NUMBER_AT, STAMP_AT, frame};
use super::programs::load;
use crate::host::netns::in_namespace;
use crate::sys::bpf::{Kind, Program, WordsMap};
use crate::sys::socket::{bind_packet, packet_socket, send, set_option};
use crate::worker::monotonic_ns;

/// Frames that the kernel is asked for at once at most: what is due in a moment at the greatest rate.
const CALL_MAX: u32 = 4096;
/// Threads that ask for as many as can be: the kernel waits some 25 ms at the end of each call, until nobody reads the memory of its frames.
const MAKERS: usize = 40;
/// Frames of this time are asked for at once.
const CALL_TIME: Duration = Duration::from_millis(1);
/// Frames that the kernel hands over at a time: `NAPI_POLL_WEIGHT`.
const BATCH: u32 = 64;
/// A sleep is this much longer than asked for at most; the rest is spun.
const SLEEP_SLACK: Duration = Duration::from_micros(120);

/// What to send.
#[derive(Clone, Debug)]
pub struct Load {
    /// Frames per second from the kernel; infinite: as many as it makes.
    pub rate: f64,
    /// Lengths on the wire and how many of each in a round (one, or an IMIX).
    pub sizes: Vec<(usize, u32)>,
    /// Frames per second from the packet socket whose age is measured; 0: none.
    pub measured_rate: f64,
    /// For how long.
    pub duration: Duration,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Frames in all.
    pub frames: u64,
    /// Frames per second over the time that it took.
    pub rate: f64,
    /// Measured frames.
    pub measured: u64,
}

/// A generator for one bed. Its frames begin with number 0 of flow 0.
#[derive(Debug)]
pub struct Generator {
    program: Program,
    /// Keeps the count of frames alive.
    _count: WordsMap,
    ends: Ends,
    netns: String,
    ifindex: u32,
    core: usize,
}

impl Generator {
    /// Loads its program. `flows` is a power of two; the thread that sends is pinned to `core`.
    ///
    /// # Errors
    /// [`MeasureError::Program`].
    pub fn new(bed: &Bed, flows: u32, core: usize) -> Result<Self, MeasureError> {
        let count = WordsMap::new(c"viscum_sent", 1, 1)?;
        let text = code::generator(bed.generator_ifindex, flows, bed.ends.from, bed.ends.to);
        let program = load(Kind::Xdp, "send", &text, &[(code::FLOWS, count.map())])?;
        Ok(Self { program, _count: count, ends: bed.ends, netns: bed.from(), ifindex: bed.generator_ifindex, core })
    }

    /// Sends, and returns when all is sent.
    ///
    /// # Errors
    /// [`MeasureError::Program`] if the kernel cannot make frames, [`MeasureError::Socket`] for the packet socket.
    pub fn send(&self, load: &Load) -> Result<Sent, MeasureError> {
        in_namespace(Some(&self.netns), || {
            core_affinity::set_for_current(core_affinity::CoreId { id: self.core });
            self.run(load)
        })?
    }

    fn run(&self, load: &Load) -> Result<Sent, MeasureError> {
        let frames: Vec<(Vec<u8>, u32)> = load.sizes.iter().map(|(len, n)| (frame(&self.ends, *len), *n)).collect();
        let mut measured = match load.measured_rate > 0.0 {
            true => Some(Measured::open(&self.ends, self.ifindex, load.measured_rate)?),
            false => None,
        };
        let start = Instant::now();
        let schedule = Mutex::new(Schedule { load, start, made: 0, turn: 0 });
        std::thread::scope(|scope| {
            // They inherit core and namespace.
            // One alone keeps a rate more steadily, as far as it goes.
            let count = if load.rate.is_finite() { 1 } else { MAKERS };
            let makers: Vec<_> = (0..count).map(|_| scope.spawn(|| self.make(&frames, &schedule))).collect();
            let stamped = measured.as_mut().map_or(Ok(()), |measured| measured.send_all(start, load.duration));
            let ended = makers.into_iter().map(|maker| maker.join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
            let ended: Result<(), MeasureError> = ended.collect();
            stamped.and(ended)
        })?;
        let seconds = start.elapsed().as_secs_f64();
        let made = schedule.into_inner().unwrap_or_else(PoisonError::into_inner).made;
        let measured = measured.map_or(0, |m| m.sent);
        let all = made + measured;
        Ok(Sent { frames: all, rate: all as f64 / seconds, measured })
    }

    /// One of several threads that take turns: while one call waits for its memory to be free, others make frames.
    fn make(&self, frames: &[(Vec<u8>, u32)], schedule: &Mutex<Schedule<'_>>) -> Result<(), MeasureError> {
        loop {
            // Whose turn it is sleeps with the lock, so that only one is awake.
            let part = schedule.lock().unwrap_or_else(PoisonError::into_inner).next(frames);
            let Some((size, count)) = part else { return Ok(()) };
            self.program.run_live(&frames[size].0, count, count.min(BATCH))?;
        }
    }
}

/// What is to be made next.
struct Schedule<'a> {
    load: &'a Load,
    start: Instant,
    made: u64,
    turn: usize,
}

impl Schedule<'_> {
    /// Waits until frames are due: which size, and how many; `None`: the time is over. An IMIX comes in runs of a size.
    fn next(&mut self, frames: &[(Vec<u8>, u32)]) -> Option<(usize, u32)> {
        let due = loop {
            let now = self.start.elapsed();
            if now >= self.load.duration {
                return None;
            }
            let due = (self.load.rate * now.as_secs_f64()).min(self.made as f64 + f64::from(CALL_MAX)) as u64;
            if due > self.made {
                break (due - self.made) as u32;
            }
            let ahead = (self.load.rate * CALL_TIME.as_secs_f64()).max(1.0);
            let at = Duration::from_secs_f64(((self.made as f64 + ahead) / self.load.rate.max(1e-3)).min(1e6));
            std::thread::sleep(at.min(self.load.duration).saturating_sub(now).max(Duration::from_micros(20)));
        };
        let size = self.turn % frames.len();
        self.turn += 1;
        let count = if frames.len() == 1 {
            due
        } else {
            let round: u32 = frames.iter().map(|(_, share)| share).sum();
            due.div_ceil(round) * frames[size].1
        };
        self.made += u64::from(count);
        Some((size, count))
    }
}

/// Single frames by a packet socket, each stamped with the time at which it was due: what delays the sender counts as the path's
/// delay, and none is left out for coming late (coordinated omission).
struct Measured {
    socket: OwnedFd,
    frame: Vec<u8>,
    rate: f64,
    sent: u64,
}

impl Measured {
    fn open(ends: &Ends, ifindex: u32, rate: f64) -> Result<Self, MeasureError> {
        let failed = |source: io::Error| MeasureError::Socket { device: GENERATOR, source };
        let socket = packet_socket().map_err(failed)?;
        bind_packet(&socket, ifindex, 0).map_err(failed)?;
        // Not through a queueing discipline.
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1i32).map_err(failed)?;
        let mut frame = frame(ends, 64);
        frame[FLAGS_AT as usize] = MEASURED_FLAGS;
        Ok(Self { socket, frame, rate, sent: 0 })
    }

    fn due(&self, start: Instant) -> Instant {
        start + Duration::from_secs_f64(self.sent as f64 / self.rate)
    }

    /// All that are due until the time is over.
    fn send_all(&mut self, start: Instant, duration: Duration) -> Result<(), MeasureError> {
        let end = start + duration;
        while Instant::now() < end {
            self.send_due(start)?;
            let left = self.due(start).min(end).saturating_duration_since(Instant::now());
            if left > 2 * SLEEP_SLACK {
                std::thread::sleep(left - SLEEP_SLACK);
            } else {
                std::hint::spin_loop();
            }
        }
        Ok(())
    }

    fn send_due(&mut self, start: Instant) -> Result<(), MeasureError> {
        loop {
            let due = self.due(start);
            let late = Instant::now().saturating_duration_since(due);
            if late.is_zero() && Instant::now() < due {
                return Ok(());
            }
            // Instant and the kernel's clock are CLOCK_MONOTONIC both.
            let stamp = (monotonic_ns() - late.as_nanos() as i64) as u32;
            let (stamp_at, number_at) = (STAMP_AT as usize, NUMBER_AT as usize);
            self.frame[stamp_at..stamp_at + 4].copy_from_slice(&stamp.to_ne_bytes());
            self.frame[number_at..number_at + 4].copy_from_slice(&(self.sent as u32).to_ne_bytes());
            match send(&self.socket, &self.frame) {
                Ok(()) => self.sent += 1,
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS)) => return Ok(()),
                Err(source) => return Err(MeasureError::Socket { device: GENERATOR, source }),
            }
        }
    }
}
