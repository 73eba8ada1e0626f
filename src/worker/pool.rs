//! Starting, pinning, reloading and joining the workers. It knows no device; ports come ready-made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::cells::WorkerCells;
use super::crossing::Crossing;
use super::generation::Generation;
use super::run::{Ended, FDS_MAX, Idle, Shared, run};
use super::staging::Staging;
use super::step::Engine;
use crate::limits::CROSSING_LEN;
use crate::port::{Batch, FramePool, Port};

/// How long a worker may take to notice new rules or the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// What one worker is made of.
pub struct Seat {
    /// The core that it is pinned to.
    pub core: usize,
    /// Its frame memory.
    pub pool: FramePool,
    /// Its ports.
    pub ports: Vec<Port>,
    /// The rules that it starts with.
    pub rules: Generation,
}

/// Why workers could not be started or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The system refused a thread or a file descriptor.
    #[error("cannot start worker {worker}: {source}; the limits of this process (ulimit -u, -n) may be too low")]
    Start {
        /// Which one.
        worker: usize,
        /// The system's answer.
        source: std::io::Error,
    },
    /// More ports than one thread can wait for.
    #[error("worker {worker} would serve {ports} ports; {max} is the most: name fewer devices in one rules file", max = FDS_MAX - 1)]
    Ports {
        /// Which one.
        worker: usize,
        /// How many.
        ports: usize,
    },
    /// A worker hangs.
    #[error(
        "worker {worker} did not take new rules within {PATIENCE:?}; the old rules may still be in force on its queue"
    )]
    Stuck {
        /// Which one.
        worker: usize,
    },
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    /// The core that it was to be pinned to.
    pub core: usize,
    /// Whether pinning worked.
    pub pinned: bool,
    /// Kernel id of its thread.
    pub thread_id: i32,
    /// See [`Shared`].
    pub shared: Arc<Shared>,
    thread: JoinHandle<Ended>,
}

impl Worker {
    /// Whether its thread runs; one that was not told to stop ends only by a panic.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }
}

/// All workers.
#[derive(Debug)]
pub struct Pool {
    /// In the order of their queues.
    pub workers: Vec<Worker>,
}

impl Pool {
    /// Starts one pinned thread per seat.
    ///
    /// # Errors
    /// See [`WorkerError`]; what was started is stopped again.
    pub fn start(seats: Vec<Seat>, idle: Idle, frame_len_max: usize) -> Result<Self, WorkerError> {
        // A single worker sends to nobody.
        let room = if seats.len() > 1 { (CROSSING_LEN, frame_len_max) } else { (1, 0) };
        let mut crossings = Vec::new();
        for worker in 0..seats.len() {
            let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
            let wake = EventFd::from_flags(flags).map_err(|e| WorkerError::Start { worker, source: e.into() })?;
            crossings.push(Crossing::new(room.0, room.1, Arc::new(wake)));
        }
        let mut pool = Self { workers: Vec::new() };
        for (index, seat) in seats.into_iter().enumerate() {
            match spawn(index, seat, &crossings, idle) {
                Ok(worker) => pool.workers.push(worker),
                Err(error) => {
                    drop(pool.stop());
                    return Err(error);
                }
            }
        }
        Ok(pool)
    }

    /// Gives every worker new rules (one generation per worker, in order) and waits until all run them.
    ///
    /// # Errors
    /// [`WorkerError::Stuck`].
    pub fn publish(&self, generations: Vec<Generation>) -> Result<(), WorkerError> {
        assert_eq!(generations.len(), self.workers.len(), "one generation per worker");
        let id = generations.first().map_or(0, |g| g.id);
        for (worker, generation) in self.workers.iter().zip(generations) {
            worker.shared.rules.store(Arc::new(generation));
            worker.shared.wake();
        }
        self.wait(|cells| cells.generation.load(Ordering::Acquire) >= id)
    }

    /// Tells every worker that the kernel's programs are now in accord with these rules: what an AF_PACKET tap sees from now
    /// on is left to the kernel, or not, by them.
    pub fn switch(&self, id: u64) {
        for worker in &self.workers {
            worker.shared.switched.store(id, Ordering::Release);
            worker.shared.wake();
        }
    }

    /// Tells every worker that frames steered under older rules are all handled, and waits until those are forgotten.
    ///
    /// # Errors
    /// [`WorkerError::Stuck`].
    pub fn settle(&self, id: u64) -> Result<(), WorkerError> {
        for worker in &self.workers {
            worker.shared.settled.store(id, Ordering::Release);
            worker.shared.wake();
        }
        self.wait(|cells| cells.settled.load(Ordering::Acquire) >= id)
    }

    fn wait(&self, done: impl Fn(&WorkerCells) -> bool) -> Result<(), WorkerError> {
        let deadline = Instant::now() + PATIENCE;
        for (index, worker) in self.workers.iter().enumerate() {
            while !done(&worker.shared.cells) {
                if Instant::now() > deadline || worker.thread.is_finished() {
                    return Err(WorkerError::Stuck { worker: index });
                }
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        Ok(())
    }

    /// Ends all workers; each handles what is in its rings first. One result per worker; `None` for one that panicked.
    #[must_use]
    pub fn stop(self) -> Vec<(Arc<Shared>, Option<Ended>)> {
        for worker in &self.workers {
            worker.shared.stop.store(true, Ordering::Release);
            worker.shared.wake();
        }
        self.workers.into_iter().map(|w| (w.shared, w.thread.join().ok())).collect()
    }
}

fn spawn(index: usize, seat: Seat, crossings: &[Crossing], idle: Idle) -> Result<Worker, WorkerError> {
    let failed = |source: std::io::Error| WorkerError::Start { worker: index, source };
    if seat.ports.len() >= FDS_MAX {
        return Err(WorkerError::Ports { worker: index, ports: seat.ports.len() });
    }
    let cells = Arc::new(WorkerCells::new(seat.ports.len()));
    let shared = Arc::new(Shared {
        rules: ArcSwap::from_pointee(seat.rules),
        settled: AtomicU64::new(0),
        switched: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        wake: crossings[index].wake(),
        cells: Arc::clone(&cells),
        ports: std::sync::Mutex::new(Vec::with_capacity(seat.ports.len())),
    });
    let frame_len_max = seat.pool.frame_len_max();
    let engine = Engine {
        pool: seat.pool,
        ports: seat.ports,
        batch: Batch::new(),
        cells,
        crossings: crossings.to_vec(),
        index,
        staging: Staging::new(frame_len_max, 0x9e37_79b9 ^ (index as u32 + 1)),
        now_ms: 1,
        now_ns: 1,
    };
    let core = seat.core;
    let of_thread = Arc::clone(&shared);
    let (report, reported) = crossbeam::channel::bounded(1);
    let thread = std::thread::Builder::new()
        .name(format!("viscum-w{index}"))
        .spawn(move || {
            let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: core });
            // The owner waits for this; it cannot be gone.
            let _received = report.send((pinned, nix::unistd::gettid().as_raw()));
            run(engine, &of_thread, idle)
        })
        .map_err(failed)?;
    let (pinned, thread_id) = reported.recv().unwrap_or((false, 0));
    Ok(Worker { core, pinned, thread_id, shared, thread })
}
