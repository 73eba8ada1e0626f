//! Starting, pinning, reloading and joining the workers. It knows no device; ports come ready-made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam::channel::{Sender, bounded, unbounded};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::cells::{PortCells, WorkerCells};
use super::crossing::Crossing;
use super::generation::Generation;
use super::mail::Letter;
use super::ports::{Bank, Ports, Slot};
use super::run::{Ended, Idle, Shared, run};
use super::step::Engine;
use super::taps::{Tapping, Taps};
use crate::limits::{CROSSING_LEN, PORTS_MAX};
use crate::plan::Plan;
use crate::port::{Batch, FramePool, Port};

/// How long a worker may take to notice new rules or the end.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a port that goes may wait for what it has under way.
const LEAVE_MAX: Duration = Duration::from_millis(500);

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
    #[error(
        "worker {worker} would serve {ports} ports; {PORTS_MAX} is the most: use fewer devices in the rules of one forwarder"
    )]
    Ports {
        /// Which one.
        worker: usize,
        /// How many.
        ports: usize,
    },
    /// A worker hangs.
    #[error(
        "worker {worker} did not answer within {PATIENCE:?}; the old rules may still be in force on its queue: end the forwarder and start it anew"
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
    /// By number of port: which bank it uses.
    slots: Vec<Option<usize>>,
    /// By number of bank: how many ports use it; none: there is no such bank.
    banks: Vec<Option<usize>>,
}

impl Worker {
    /// Whether its thread runs; one that was not told to stop ends only by a panic.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }
}

/// A port that was given to a worker.
#[derive(Clone, Debug)]
pub struct PortRef {
    /// The worker.
    pub worker: usize,
    /// The port's number there.
    pub slot: usize,
    /// What it counts, also when it is gone.
    pub cells: Arc<PortCells>,
}

/// All workers.
#[derive(Debug)]
pub struct Pool {
    /// In the order of their queues.
    pub workers: Vec<Worker>,
    idle: Idle,
    crossings: Vec<Crossing>,
    frame_len_max: usize,
    /// Frames that nobody owned any more in memory that went.
    outstanding: usize,
}

impl Pool {
    /// Without any worker: see [`Pool::grow`].
    #[must_use]
    pub fn new(idle: Idle) -> Self {
        Self { workers: Vec::new(), idle, crossings: Vec::new(), frame_len_max: 0, outstanding: 0 }
    }

    /// One pinned thread for each of `cores`; those that there are go on, and frames of `frame_len_max` bytes can go from one to another.
    /// A new one has no port, and these rules.
    ///
    /// # Errors
    /// See [`WorkerError`]; what was started by this call is stopped again.
    pub fn grow(&mut self, cores: &[usize], frame_len_max: usize, plan: &Arc<Plan>) -> Result<(), WorkerError> {
        let before = self.workers.len();
        let count = cores.len().max(before);
        let frame_len_max = frame_len_max.max(self.frame_len_max);
        // A single worker sends to nobody.
        if count == before && (frame_len_max == self.frame_len_max || count == 1) {
            return Ok(());
        }
        let room = if count > 1 { (CROSSING_LEN, frame_len_max) } else { (1, 0) };
        let mut crossings = Vec::new();
        for worker in 0..count {
            let wake = match self.workers.get(worker) {
                Some(worker) => Arc::clone(&worker.shared.wake),
                None => {
                    let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
                    let wake = EventFd::from_flags(flags);
                    Arc::new(wake.map_err(|e| WorkerError::Start { worker, source: e.into() })?)
                }
            };
            crossings.push(Crossing::new(room.0, room.1, wake));
        }
        for (index, core) in cores.iter().enumerate().skip(before) {
            let generation = Generation::idle(plan);
            match spawn(index, *core, generation, &crossings, self.idle) {
                Ok(worker) => self.workers.push(worker),
                Err(error) => {
                    // They have no port and no frame.
                    self.workers.drain(before..).for_each(|worker| drop(end(worker)));
                    return Err(error);
                }
            }
        }
        if count > 1 {
            self.frame_len_max = frame_len_max;
        }
        for index in 0..before {
            self.call(index, |done| Letter::Crossings { all: crossings.clone(), done })?;
        }
        for index in 0..before {
            self.call(index, |done| Letter::ForgetBoxes { done })?;
        }
        self.crossings = crossings;
        Ok(())
    }

    /// Gives a worker memory and ports on it; they receive when rules say so.
    ///
    /// # Errors
    /// See [`WorkerError`].
    pub fn add(&mut self, worker: usize, memory: FramePool, ports: Vec<Port>) -> Result<Vec<PortRef>, WorkerError> {
        let to = &mut self.workers[worker];
        let in_use = to.slots.iter().flatten().count() + ports.len();
        if in_use > PORTS_MAX {
            return Err(WorkerError::Ports { worker, ports: in_use });
        }
        let bank = free_place(&mut to.banks);
        to.banks[bank] = Some(ports.len());
        let (mut slots, mut refs) = (Vec::new(), Vec::new());
        for port in ports {
            let slot = free_place(&mut to.slots);
            to.slots[slot] = Some(bank);
            let cells = Arc::new(PortCells::default());
            refs.push(PortRef { worker, slot, cells: Arc::clone(&cells) });
            slots.push((slot, Slot { port, bank, cells }));
        }
        let memory = Box::new(Bank::new(memory, worker as u32));
        self.call(worker, |done| Letter::Add { bank, memory, ports: slots, done })?;
        Ok(refs)
    }

    /// Takes ports away that no rules in force receive from or send by. What they had under way is sent, or counted as lost.
    ///
    /// # Errors
    /// [`WorkerError::Stuck`].
    pub fn remove(&mut self, ports: &[PortRef]) -> Result<(), WorkerError> {
        let deadline = Instant::now() + LEAVE_MAX;
        let mut going = Vec::new();
        for port in ports {
            let (done, gone) = bounded(1);
            self.workers[port.worker].shared.tell(Letter::Remove { slot: port.slot, deadline, done });
            going.push((port, gone));
        }
        for (port, gone) in going {
            let stuck = |_| WorkerError::Stuck { worker: port.worker };
            let (left, parted) = gone.recv_timeout(PATIENCE).map_err(stuck)?;
            let (stats, closed) = left.end(parted);
            port.cells.set_port(stats);
            let from = &mut self.workers[port.worker];
            let Some(bank) = from.slots[port.slot].take() else { continue };
            let left = from.banks[bank].map_or(0, |ports| ports - 1);
            from.banks[bank] = (left > 0).then_some(left);
            if left == 0 {
                let memory = self.call(port.worker, |done| Letter::Release { bank, done })?;
                self.outstanding += memory.pool.outstanding();
            } else if let Some(socket) = closed {
                from.shared.tell(Letter::Closed { bank, socket });
            }
        }
        Ok(())
    }

    /// Sends a letter and waits for the answer.
    fn call<T>(&self, worker: usize, letter: impl FnOnce(Sender<T>) -> Letter) -> Result<T, WorkerError> {
        let (done, answer) = bounded(1);
        self.workers[worker].shared.tell(letter(done));
        answer.recv_timeout(PATIENCE).map_err(|_| WorkerError::Stuck { worker })
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

    /// Ends all workers; each handles what is in its rings first. One result per worker; `None` for one that panicked. The number is of
    /// frames that nobody owned any more in memory that went before.
    #[must_use]
    pub fn stop(self) -> (Vec<Last>, usize) {
        for worker in &self.workers {
            worker.shared.stop.store(true, Ordering::Release);
            worker.shared.wake();
        }
        (self.workers.into_iter().map(end).collect(), self.outstanding)
    }
}

/// What a worker shared, and how it ended; `None`: it panicked.
pub type Last = (Arc<Shared>, Option<Ended>);

fn end(worker: Worker) -> Last {
    worker.shared.stop.store(true, Ordering::Release);
    worker.shared.wake();
    (worker.shared, worker.thread.join().ok())
}

/// The lowest number that is free.
fn free_place<T>(places: &mut Vec<Option<T>>) -> usize {
    places.iter().position(Option::is_none).unwrap_or_else(|| {
        places.push(None);
        places.len() - 1
    })
}

fn spawn(
    index: usize,
    core: usize,
    rules: Generation,
    crossings: &[Crossing],
    idle: Idle,
) -> Result<Worker, WorkerError> {
    let failed = |source: std::io::Error| WorkerError::Start { worker: index, source };
    let cells = Arc::new(WorkerCells::default());
    let (letters, received) = unbounded();
    let shared = Arc::new(Shared {
        rules: ArcSwap::from_pointee(rules),
        settled: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        wake: crossings[index].wake(),
        cells: Arc::clone(&cells),
        taps: Taps::default(),
        mail: AtomicBool::new(false),
        letters,
    });
    let engine = Engine {
        has_backlog: false,
        ports: Ports::default(),
        batch: Batch::new(),
        cells,
        crossings: crossings.to_vec(),
        old_boxes: Vec::new(),
        leaving: Vec::new(),
        index,
        taps: Tapping::new(),
        now_ms: 1,
        now_ns: 1,
    };
    let of_thread = Arc::clone(&shared);
    let (report, reported) = bounded(1);
    let thread = std::thread::Builder::new()
        .name(format!("viscum-w{index}"))
        .spawn(move || {
            let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: core });
            // The owner waits for this; it cannot be gone.
            let _received = report.send((pinned, nix::unistd::gettid().as_raw()));
            run(engine, &of_thread, &received, idle)
        })
        .map_err(failed)?;
    let (pinned, thread_id) = reported.recv().unwrap_or((false, 0));
    Ok(Worker { core, pinned, thread_id, shared, thread, slots: Vec::new(), banks: Vec::new() })
}
