//! One trial: a load through one path for a time, and what became of it, with what it cost the whole machine.

use std::time::{Duration, Instant};

use super::MeasureError;
use super::generator::{Generator, Load};
use super::lane::Lane;
use super::search;
use super::sink::{Arrived, Sink, SinkKind};

/// Frames still on their way are waited for as long as some come, and at most this long.
const DRAIN_MAX: Duration = Duration::from_millis(400);
/// How long nothing must have come.
const QUIET: Duration = Duration::from_millis(20);

/// How all trials of a measurement are made.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// Flows, a power of two.
    pub flows: u32,
    /// Where frames end.
    pub sink: SinkKind,
    /// The core that the generator has.
    pub core: usize,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Frames that were sent.
    pub sent: u64,
    /// Frames per second that were sent.
    pub offered: f64,
    /// What arrived.
    pub arrived: Arrived,
    /// How long sending took.
    pub seconds: f64,
    /// CPU time of the whole machine, in seconds: generator, softirqs, kernel threads, workers, and whatever else ran.
    pub cpu_seconds: f64,
    /// Context switches of the whole machine.
    pub switches: u64,
}

impl Outcome {
    /// Frames that did not arrive.
    #[must_use]
    pub fn lost(&self) -> u64 {
        (self.sent + self.arrived.duplicates).saturating_sub(self.arrived.frames)
    }

    /// For a search.
    #[must_use]
    pub fn trial(&self) -> search::Trial {
        let loss_ratio = self.lost() as f64 / self.sent.max(1) as f64;
        search::Trial { offered: self.offered, received: self.offered * (1.0 - loss_ratio), loss_ratio }
    }

    /// CPU time of the whole machine for each frame that arrived, in ns.
    #[must_use]
    pub fn cpu_ns_per_frame(&self) -> f64 {
        self.cpu_seconds * 1e9 / self.arrived.frames.max(1) as f64
    }
}

/// Runs one trial.
///
/// # Errors
/// [`MeasureError`].
pub fn run(lane: &Lane, load: &Load, conditions: &Conditions) -> Result<Outcome, MeasureError> {
    let sink = Sink::attach(&lane.bed, conditions.sink, conditions.flows)?;
    let generator = Generator::new(&lane.bed, conditions.flows, conditions.core)?;
    lane.go(true);
    let before = Machine::now();
    let start = Instant::now();
    let sent = generator.send(load);
    let seconds = start.elapsed().as_secs_f64();
    drain(&sink)?;
    let after = Machine::now();
    lane.go(false);
    let sent = sent?;
    Ok(Outcome {
        sent: sent.frames,
        offered: sent.rate,
        arrived: sink.arrived()?,
        seconds,
        cpu_seconds: (after.busy - before.busy).max(0.0),
        switches: after.switches.saturating_sub(before.switches),
    })
}

fn drain(sink: &Sink) -> Result<(), MeasureError> {
    let start = Instant::now();
    let mut last = sink.frames()?;
    while start.elapsed() < DRAIN_MAX {
        std::thread::sleep(QUIET);
        let now = sink.frames()?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(())
}

/// Counters of the whole machine (proc_stat(5)).
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    /// Seconds that its CPUs were not idle, since boot, all together. Time stolen by a hypervisor is not in it.
    pub busy: f64,
    /// Seconds that a hypervisor took.
    pub stolen: f64,
    /// Context switches.
    pub switches: u64,
}

impl Machine {
    /// As of now; zero without /proc.
    #[must_use]
    pub fn now() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        const TICKS_PER_SECOND: f64 = 100.0;
        let mut machine = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                // user nice system idle iowait irq softirq steal
                Some("cpu") => {
                    let ticks: Vec<f64> = words.filter_map(|w| w.parse().ok()).collect();
                    let at = |n: usize| ticks.get(n).copied().unwrap_or(0.0) / TICKS_PER_SECOND;
                    machine.busy = at(0) + at(1) + at(2) + at(5) + at(6);
                    machine.stolen = at(7);
                }
                Some("ctxt") => machine.switches = words.next().and_then(|w| w.parse().ok()).unwrap_or(0),
                _ => {}
            }
        }
        machine
    }
}

#[cfg(test)]
mod tests {
    use super::Machine;

    #[test]
    fn busy_time_is_all_but_idle_waiting_and_stolen() {
        let text = "cpu  100 10 40 9999 77 1 2 5 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\nctxt 4242\n";
        let machine = Machine::parse(text);
        assert!((machine.busy - 1.53).abs() < 1e-9 && (machine.stolen - 0.05).abs() < 1e-9, "{machine:?}");
        assert_eq!(machine.switches, 4242);
    }
}
