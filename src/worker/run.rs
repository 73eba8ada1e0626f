//! A worker's life: rounds until it is told to stop, sleep when idle, new rules between rounds. No frame is looked at here.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, Sender};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;

use super::cells::{WorkerCells, bump};
use super::clock::monotonic_ns;
use super::generation::Generation;
use super::mail::Letter;
use super::step::{Engine, Rules};
use super::taps::Taps;
use crate::limits::PORTS_MAX;

/// How long an adaptive worker spins without a frame before it sleeps.
const SPIN: Duration = Duration::from_micros(200);
/// The longest sleep: port statistics are published at least this often.
const SLEEP_MAX_MS: u16 = 200;
/// How often a port that is about to go is looked at.
const LEAVING_MS: u16 = 1;
/// Rounds between two looks at the clock while busy.
const ROUNDS_PER_CLOCK: u32 = 32;

/// How long a worker that was told to stop goes on with frames that keep coming (an AF_PACKET tap never runs dry).
const LAST_ROUNDS: Duration = Duration::from_millis(50);
/// Rounds after a change of rules in which a full ring is looked at for what the old programs steered: more than its bursts.
const LAST_BURSTS: u32 = 1024;

/// What a worker and its owner share.
#[derive(Debug)]
pub struct Shared {
    /// The rules to run; replace them, then wait for [`WorkerCells::generation`].
    pub rules: ArcSwap<Generation>,
    /// The generation before which no frame can be under way any more; the worker then forgets the rules before.
    pub settled: AtomicU64,
    /// Told to stop.
    pub stop: AtomicBool,
    /// Ends a sleep.
    pub wake: Arc<EventFd>,
    /// What the worker counts.
    pub cells: Arc<WorkerCells>,
    /// Who wants to see its frames.
    pub taps: Taps,
    /// Something is in the letter box. Stored after it was put in, cleared before it is taken out.
    pub(super) mail: AtomicBool,
    /// See [`super::mail`].
    pub(super) letters: Sender<Letter>,
}

impl Shared {
    /// Ends the worker's sleep, if it sleeps.
    pub fn wake(&self) {
        // The counter of an eventfd cannot overflow by ones in any lifetime; a full one is readable anyway.
        let _readable = self.wake.write(1);
    }

    /// Puts a letter into the worker's box.
    pub(super) fn tell(&self, letter: Letter) {
        // A worker that has ended acts on nothing more; whoever waits for an answer finds out.
        let _ended = self.letters.send(letter);
        self.mail.store(true, Ordering::Release);
        self.wake();
    }
}

/// Whether a worker sleeps when it has nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Spins for [`SPIN`], then sleeps in poll(2).
    Adaptive,
    /// Never sleeps.
    Busy,
}

/// Runs until [`Shared::stop`]; then what is in the rings is handled first, and every frame is taken back.
pub(super) fn run(mut engine: Engine, shared: &Shared, letters: &Receiver<Letter>, idle: Idle) -> Ended {
    let mut rules = Rules { current: shared.rules.load_full(), previous: None, patience: 0 };
    shared.cells.generation.store(rules.current.id, Ordering::Release);
    let mut last_work = Instant::now();
    let mut last_publish = last_work;
    let mut rounds = 0_u32;
    let mut told_to_stop = None;
    loop {
        engine.now_ns = monotonic_ns();
        engine.now_ms = engine.now_ns as u64 / 1_000_000;
        if engine.taps.look(&shared.taps) {
            engine.batch.keep_stamps(engine.taps.timer.is_on());
        }
        let worked = engine.step(&rules);
        take_new_rules(&mut rules, shared, engine.has_backlog);
        if shared.mail.load(Ordering::Acquire) && shared.mail.swap(false, Ordering::AcqRel) {
            letters.try_iter().for_each(|letter| engine.act_on(letter));
        }
        if !engine.leaving.is_empty() {
            engine.let_leave();
        }
        rounds = rounds.wrapping_add(1);
        if worked && !rounds.is_multiple_of(ROUNDS_PER_CLOCK) {
            continue;
        }
        if shared.stop.load(Ordering::Acquire) {
            let told = *told_to_stop.get_or_insert_with(Instant::now);
            if !worked || told.elapsed() > LAST_ROUNDS {
                break;
            }
        }
        if worked {
            last_work = Instant::now();
        } else if idle == Idle::Adaptive && last_work.elapsed() > SPIN {
            engine.ports.publish();
            let own = &engine.crossings[engine.index];
            if own.may_sleep() && engine.old_boxes.is_empty() {
                bump(&shared.cells.sleeps, 1);
                sleep(&engine, &rules, shared);
            }
            own.awake();
            last_publish = Instant::now();
            last_work = last_publish;
            continue;
        }
        if last_publish.elapsed() > Duration::from_millis(u64::from(SLEEP_MAX_MS)) {
            engine.ports.publish();
            last_publish = Instant::now();
        }
        std::hint::spin_loop();
    }
    end(engine)
}

/// What is left when a worker has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Frames that belong to nobody: 0, or the program has a fault.
    pub outstanding: usize,
}

fn take_new_rules(rules: &mut Rules, shared: &Shared, has_backlog: bool) {
    let newest = shared.rules.load();
    if newest.id != rules.current.id {
        let newest = arc_swap::Guard::into_inner(newest);
        rules.previous = Some(std::mem::replace(&mut rules.current, newest));
        rules.patience = LAST_BURSTS;
        shared.cells.generation.store(rules.current.id, Ordering::Release);
    }
    if rules.previous.is_some() && shared.settled.load(Ordering::Acquire) >= rules.current.id {
        // What the old programs steered is in the rings by now. They are empty, or all of it was looked at, when this many bursts are done.
        rules.patience = if has_backlog { rules.patience.saturating_sub(1) } else { 0 };
        if rules.patience == 0 {
            rules.previous = None;
        }
    }
    if rules.previous.is_none() && shared.cells.settled.load(Ordering::Relaxed) != rules.current.id {
        shared.cells.settled.store(rules.current.id, Ordering::Release);
    }
}

/// Waits for a frame, for the owner, or for [`SLEEP_MAX_MS`].
fn sleep(engine: &Engine, rules: &Rules, shared: &Shared) {
    let mut fds: [Option<BorrowedFd<'_>>; FDS_MAX] = [None; FDS_MAX];
    fds[0] = Some(shared.wake.as_fd());
    // A port that is not received from must not end the sleep.
    let received = (0..engine.ports.len()).filter(|port| rules.current.lane(*port).is_some());
    for (fd, port) in fds[1..].iter_mut().zip(received) {
        *fd = engine.ports.slot(port).and_then(|slot| slot.port.fd());
    }
    let longest = if engine.leaving.is_empty() { SLEEP_MAX_MS } else { LEAVING_MS };
    let mut polled = [const { None }; FDS_MAX].map(|_: Option<()>| PollFd::new(shared.wake.as_fd(), PollFlags::POLLIN));
    let mut count = 0;
    for fd in fds.into_iter().flatten() {
        polled[count] = PollFd::new(fd, PollFlags::POLLIN);
        count += 1;
    }
    // Interrupted or failed: the next round finds out what there is.
    let _woken = poll(&mut polled[..count], PollTimeout::from(longest));
    if polled[0].any() == Some(true) {
        let _emptied = shared.wake.read();
    }
}

/// What one worker can wait for: its ports, of which [`super::pool`] allows no more, and its owner.
pub(super) const FDS_MAX: usize = PORTS_MAX + 1;

fn end(mut engine: Engine) -> Ended {
    for at in 0..engine.ports.len() {
        if let Some((slot, pool)) = engine.ports.with_pool(at) {
            slot.port.drain(pool);
        }
    }
    engine.ports.publish();
    Ended { outstanding: engine.ports.outstanding() }
}
