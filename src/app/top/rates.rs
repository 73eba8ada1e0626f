//! What happened between two looks, for each second of it. It asks nobody and draws nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::rules::RuleCount;
use super::{Device, Look, Port, Status, Worker};

/// A counter: how fast it grew between two looks, and where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// For each second.
    pub per_second: f64,
    /// In all.
    pub total: u64,
}

/// A device. What is received and transmitted is known where workers do it, what its program did where it has one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceRates {
    /// Its name.
    pub device: String,
    /// The mode in use.
    pub mode: String,
    /// Whether it is up.
    pub up: bool,
    /// Whether its ingress filters are taken away.
    pub bypassed: bool,
    /// What workers received and transmitted; none: no worker serves it.
    pub ports: Option<QueueRates>,
    /// Frames that its program took.
    pub taken: Option<Rate>,
    /// Frames that its program left to the kernel.
    pub left: Option<Rate>,
}

/// A port, or several together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueRates {
    /// The worker, which has the number of its queue.
    pub worker: usize,
    /// The device.
    pub device: String,
    /// Frames received.
    pub rx_frames: Rate,
    /// Their bytes.
    pub rx_bytes: Rate,
    /// Frames transmitted.
    pub tx_frames: Rate,
    /// Their bytes.
    pub tx_bytes: Rate,
    /// Frames dropped, for whatever reason.
    pub dropped: Rate,
}

/// A worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerRates {
    /// Its number.
    pub worker: usize,
    /// Its core, if it is pinned there.
    pub core: Option<usize>,
    /// Rounds over its ports.
    pub rounds: Rate,
    /// Of these, those that found a frame.
    pub busy_rounds: Rate,
    /// How often it slept.
    pub sleeps: Rate,
}

impl WorkerRates {
    /// Of the rounds between the looks, how many found a frame: 0 to 1.
    #[must_use]
    pub fn busy(&self) -> f64 {
        if self.rounds.per_second > 0.0 { self.busy_rounds.per_second / self.rounds.per_second } else { 0.0 }
    }
}

/// Frames dropped for one reason.
#[derive(Clone, Debug, PartialEq)]
pub struct DropRate {
    /// Where.
    pub device: String,
    /// Why.
    pub reason: String,
    /// How many.
    pub frames: Rate,
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleRate {
    /// `eth0 ingress pref 1 u32 800::800`.
    pub name: String,
    /// Its actions.
    pub does: String,
    /// Frames that matched.
    pub frames: Rate,
    /// Their bytes.
    pub bytes: Rate,
}

/// All that can be seen.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The forwarder's process.
    pub pid: u32,
    /// How long it has run.
    pub uptime: Duration,
    /// Between what the rates are.
    pub between: Duration,
    /// How old the rules' counters are; listings of many rules are asked for less often.
    pub rules_age: Duration,
    /// Traces, captures and latencies that look at its frames.
    pub watching: usize,
    /// In the forwarder's order.
    pub devices: Vec<DeviceRates>,
    /// By worker, then in the forwarder's order.
    pub queues: Vec<QueueRates>,
    /// In order.
    pub workers: Vec<WorkerRates>,
    /// Fastest first, then most first.
    pub rules: Vec<RuleRate>,
    /// Fastest first, then most first.
    pub drops: Vec<DropRate>,
    /// Devices that are not served, and why.
    pub absent: Vec<(String, String)>,
}

pub(super) fn view(before: &Look, now: &Look, rules_before: &(Instant, Vec<RuleCount>)) -> View {
    let between = now.at.saturating_duration_since(before.at);
    // Another forwarder listens there now: nothing is known of what it did before.
    let none = Status::default();
    let same = before.status.pid == now.status.pid;
    let old = if same { &before.status } else { &none };
    let seconds = if same { between.as_secs_f64() } else { now.status.uptime_ms as f64 / 1e3 };
    let rate = |before: u64, now: u64| rate(before, now, seconds);
    let queues = queues(old, &now.status, &rate);
    let device = |device: &Device| {
        let before = old.devices.iter().find(|d| d.device == device.device);
        let program =
            |of: fn(&Device) -> Option<u64>| of(device).map(|now| rate(before.and_then(of).unwrap_or(0), now));
        let own = queues.iter().filter(|q| q.device == device.device).cloned();
        DeviceRates {
            device: device.device.clone(),
            mode: device.mode.clone(),
            up: device.up,
            bypassed: now.status.bypassed.contains(&device.device),
            ports: own.reduce(|sum, queue| sum.and(&queue)),
            taken: program(|d| d.program_taken),
            left: program(|d| d.program_passed),
        }
    };
    let worker = |worker: &Worker| {
        let before = old.workers.iter().find(|w| w.worker == worker.worker);
        let counted = |of: fn(&Worker) -> u64| rate(before.map_or(0, of), of(worker));
        WorkerRates {
            worker: worker.worker,
            core: worker.pinned.then_some(worker.core),
            rounds: counted(|w| w.rounds),
            busy_rounds: counted(|w| w.busy_rounds),
            sleeps: counted(|w| w.sleeps),
        }
    };
    View {
        pid: now.status.pid,
        uptime: Duration::from_millis(now.status.uptime_ms),
        between,
        rules_age: now.rules.0.elapsed(),
        watching: now.status.watching,
        devices: now.status.devices.iter().map(device).collect(),
        workers: now.status.workers.iter().map(worker).collect(),
        rules: rules(if same { rules_before } else { &now.rules }, &now.rules),
        drops: drops(old, &now.status, &rate),
        absent: now.status.absent.iter().map(|a| (a.device.clone(), a.reason.clone())).collect(),
        queues,
    }
}

fn rate(before: u64, now: u64, seconds: f64) -> Rate {
    // What was made anew counts from 0.
    let grown = if now >= before { now - before } else { now };
    Rate { per_second: if seconds > 0.0 { grown as f64 / seconds } else { 0.0 }, total: now }
}

impl Rate {
    fn and(self, other: Self) -> Self {
        Self { per_second: self.per_second + other.per_second, total: self.total + other.total }
    }
}

impl QueueRates {
    fn and(&self, other: &Self) -> Self {
        Self {
            worker: self.worker,
            device: self.device.clone(),
            rx_frames: self.rx_frames.and(other.rx_frames),
            rx_bytes: self.rx_bytes.and(other.rx_bytes),
            tx_frames: self.tx_frames.and(other.tx_frames),
            tx_bytes: self.tx_bytes.and(other.tx_bytes),
            dropped: self.dropped.and(other.dropped),
        }
    }
}

fn queues(old: &Status, now: &Status, rate: &impl Fn(u64, u64) -> Rate) -> Vec<QueueRates> {
    let queue = |worker: usize, port: &Port| {
        let of_worker = old.workers.iter().find(|w| w.worker == worker);
        let before = of_worker.and_then(|w| w.ports.iter().find(|p| p.device == port.device));
        let counted = |of: fn(&Port) -> u64| rate(before.map_or(0, of), of(port));
        QueueRates {
            worker,
            device: port.device.clone(),
            rx_frames: counted(|p| p.rx_frames),
            rx_bytes: counted(|p| p.rx_bytes),
            tx_frames: counted(|p| p.tx_frames),
            tx_bytes: counted(|p| p.tx_bytes),
            dropped: counted(|p| p.drops.values().sum()),
        }
    };
    now.workers
        .iter()
        .flat_map(|w| w.ports.iter().map(move |port| (w.worker, port)))
        .map(|(w, p)| queue(w, p))
        .collect()
}

fn drops(old: &Status, now: &Status, rate: &impl Fn(u64, u64) -> Rate) -> Vec<DropRate> {
    fn by_reason(status: &Status) -> BTreeMap<(&str, &str), u64> {
        let mut all = BTreeMap::new();
        for port in status.workers.iter().flat_map(|w| &w.ports) {
            for (reason, count) in &port.drops {
                *all.entry((port.device.as_str(), reason.as_str())).or_insert(0) += count;
            }
        }
        all
    }
    let before = by_reason(old);
    let drop = |((device, reason), count): ((&str, &str), u64)| DropRate {
        device: device.to_owned(),
        reason: reason.to_owned(),
        frames: rate(before.get(&(device, reason)).copied().unwrap_or(0), count),
    };
    let mut drops: Vec<DropRate> = by_reason(now).into_iter().map(drop).collect();
    drops.sort_by(|one, other| busier(one.frames, other.frames));
    drops
}

fn rules(before: &(Instant, Vec<RuleCount>), now: &(Instant, Vec<RuleCount>)) -> Vec<RuleRate> {
    let seconds = now.0.saturating_duration_since(before.0).as_secs_f64();
    let known: BTreeMap<&str, &RuleCount> = before.1.iter().map(|rule| (rule.name.as_str(), rule)).collect();
    let rule = |rule: &RuleCount| {
        let before = known.get(rule.name.as_str());
        RuleRate {
            name: rule.name.clone(),
            does: rule.does.clone(),
            frames: rate(before.map_or(0, |b| b.frames), rule.frames, seconds),
            bytes: rate(before.map_or(0, |b| b.bytes), rule.bytes, seconds),
        }
    };
    let mut rules: Vec<RuleRate> = now.1.iter().map(rule).collect();
    // Stable: rules that are equally busy stay in the order of the listing.
    rules.sort_by(|one, other| busier(one.frames, other.frames));
    rules
}

fn busier(one: Rate, other: Rate) -> std::cmp::Ordering {
    other.per_second.total_cmp(&one.per_second).then(other.total.cmp(&one.total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: Instant, pid: u32, counts: [u64; 4]) -> Look {
        let [frames, full, taken, matched] = counts;
        let port = |device: &str, share: u64| Port {
            device: device.to_owned(),
            rx_frames: frames / share,
            rx_bytes: 100 * frames / share,
            drops: BTreeMap::from([("rx_full".to_owned(), full), ("rule".to_owned(), 1)]),
            ..Port::default()
        };
        let worker = |worker: usize, share: u64| Worker {
            worker,
            pinned: worker == 0,
            rounds: 10 * frames,
            busy_rounds: frames,
            ports: vec![port("a", share)],
            ..Worker::default()
        };
        let device = Device { device: "a".to_owned(), program_taken: Some(taken), ..Device::default() };
        let status = Status {
            pid,
            uptime_ms: 4000,
            devices: vec![device],
            workers: vec![worker(0, 1), worker(1, 2)],
            ..Status::default()
        };
        let rule = |name: &str, frames| RuleCount { name: name.to_owned(), does: String::new(), frames, bytes: 0 };
        Look { at, status, rules: (at, vec![rule("idle", 9), rule("busy", matched)]) }
    }

    #[test]
    fn rates_are_what_has_grown_and_queues_add_up() {
        let start = Instant::now();
        let before = look(start, 1, [1000, 5, 7, 0]);
        let now = look(start + Duration::from_secs(2), 1, [3000, 5, 17, 4]);
        let view = view(&before, &now, &before.rules);
        assert_eq!(view.queues.len(), 2);
        assert_eq!(view.queues[0].rx_frames, Rate { per_second: 1000.0, total: 3000 });
        let device = &view.devices[0];
        assert_eq!(device.ports.as_ref().unwrap().rx_frames, Rate { per_second: 1500.0, total: 4500 });
        assert_eq!(device.ports.as_ref().unwrap().rx_bytes.per_second, 150_000.0);
        assert_eq!((device.taken, device.left), (Some(Rate { per_second: 5.0, total: 17 }), None));
        assert_eq!((view.workers[0].core, view.workers[1].core), (Some(0), None));
        assert!((view.workers[0].busy() - 0.1).abs() < 1e-9);
        assert_eq!(
            view.rules.iter().map(|r| (r.name.as_str(), r.frames.total)).collect::<Vec<_>>(),
            [("busy", 4), ("idle", 9)]
        );
        let drops: Vec<_> = view.drops.iter().map(|d| (d.reason.as_str(), d.frames)).collect();
        assert_eq!(
            drops,
            [("rx_full", Rate { per_second: 0.0, total: 10 }), ("rule", Rate { per_second: 0.0, total: 2 })]
        );
    }

    #[test]
    fn another_forwarder_starts_from_nothing_and_a_new_counter_never_falls() {
        let start = Instant::now();
        let before = look(start, 1, [1000, 0, 0, 50]);
        let mut now = look(start + Duration::from_secs(1), 2, [400, 0, 0, 2]);
        assert_eq!(view(&before, &now, &before.rules).queues[0].rx_frames, Rate { per_second: 100.0, total: 400 });
        now.status.pid = 1;
        let same = view(&before, &now, &before.rules);
        assert_eq!(same.queues[0].rx_frames.per_second, 400.0);
        let busy = same.rules.iter().find(|r| r.name == "busy").unwrap();
        assert_eq!(busy.frames, Rate { per_second: 2.0, total: 2 });
    }
}
