//! A whole measurement: which trials are made in which order, path by path in turns, and what the report says of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::generator::Load;
use super::lane::{Lane, Path};
use super::report::{Latency, Noise, Report, RoundTrip, Scale, Tcp, Throughput, VERSION};
use super::search::{NDR, PDR, Search, Settings};
use super::stats::Summary;
use super::times::Percentiles;
use super::trial::{self, Conditions, Machine, Outcome};
use super::{MeasureError, frames};
use super::{bed, machine, tcp};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The paths; the first is what the others are compared with.
    pub paths: Vec<Path>,
    /// Frame sizes: bytes with the frame check sequence; 0: IMIX.
    pub sizes: Vec<usize>,
    /// How long a trial is.
    pub trial: Duration,
    /// Trials under overload, and runs of iperf3, for each path.
    pub rounds: usize,
    /// How all trials are made.
    pub conditions: Conditions,
    /// Whether to measure latency, TCP, and cost over rules and flows.
    pub parts: Parts,
    /// Numbers of rules.
    pub rules: Vec<usize>,
    /// Numbers of flows.
    pub flows: Vec<u32>,
}

/// Parts of a measurement besides throughput, which is always made: others go by its results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Ages of frames, and request and response.
    pub latency: bool,
    /// iperf3.
    pub tcp: bool,
    /// Rates over numbers of rules and flows.
    pub scale: bool,
}

/// Takes what is told while it runs: a line for people.
pub type Tell<'a> = &'a mut dyn FnMut(&str);

/// MTU of all devices of a bed: what the longest frame of the list needs, 1500 at least.
fn mtu(plan: &Plan) -> u32 {
    let longest = plan.sizes.iter().copied().max().unwrap_or(0);
    (longest.saturating_sub(18) as u32).max(1500)
}

/// Measures; what cannot run is in the report with its reason.
///
/// # Errors
/// [`MeasureError`] if no path at all could run.
pub fn measure(plan: &Plan, tell: Tell<'_>) -> Result<Report, MeasureError> {
    let start = Instant::now();
    bed::remove_all();
    let quiet = Machine::now();
    let mut report = Report {
        version: VERSION,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        started: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        machine: machine::describe(),
        ..Report::default()
    };
    report.settings = settings(plan);
    report.noise = background_noise();
    let lanes = start_lanes(plan, &mut report, tell);
    if lanes.is_empty() {
        let reasons: Vec<String> = report.left_out.iter().map(|(path, why)| format!("{path}: {why}")).collect();
        return Err(MeasureError::LeftOut(format!("no path can run here: {}", reasons.join("; "))));
    }
    report.paths = lanes.iter().map(|l| l.path.name()).collect();
    for size in &plan.sizes {
        throughput(plan, *size, &lanes, &mut report, tell)?;
    }
    if plan.parts.latency {
        latency(plan, &lanes, &mut report, tell)?;
        round_trips(&lanes, &mut report, tell);
    }
    if plan.parts.tcp {
        speeds(plan, &lanes, &mut report, tell);
    }
    for lane in &lanes {
        lane.memory().map(|bytes| report.memory.insert(lane.path.name(), bytes));
    }
    if plan.parts.scale {
        scale_flows(plan, &lanes, &mut report, tell)?;
    }
    drop(lanes);
    if plan.parts.scale {
        scale_rules(plan, &mut report, tell);
    }
    let end = Machine::now();
    let cores = report.machine.cores.max(1) as f64;
    report.seconds = start.elapsed().as_secs_f64();
    report.noise.stolen = (end.stolen - quiet.stolen) / (report.seconds * cores);
    let spreads = report.throughput.iter().map(|t| t.overload.spread());
    report.noise.spread = spreads.fold(0.0, f64::max);
    Ok(report)
}

fn settings(plan: &Plan) -> BTreeMap<String, String> {
    [
        ("trial", format!("{} ms", plan.trial.as_millis())),
        ("rounds", plan.rounds.to_string()),
        ("flows", plan.conditions.flows.to_string()),
        ("sink", format!("{:?}", plan.conditions.sink).to_lowercase()),
        ("generator's core", plan.conditions.core.to_string()),
        ("rules", super::lane::rules(0).trim_end().to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// What others take of the machine while nothing is measured.
fn background_noise() -> Noise {
    const LOOK: Duration = Duration::from_millis(500);
    let (before, start) = (Machine::now(), Instant::now());
    std::thread::sleep(LOOK);
    let busy = Machine::now().busy - before.busy;
    let cores = core_affinity::get_core_ids().map_or(1, |c| c.len().max(1)) as f64;
    Noise { others: busy / (start.elapsed().as_secs_f64() * cores), ..Noise::default() }
}

fn start_lanes(plan: &Plan, report: &mut Report, tell: Tell<'_>) -> Vec<Lane> {
    let mut lanes = Vec::new();
    for (number, path) in plan.paths.iter().enumerate() {
        match Lane::start(*path, number, mtu(plan), 0) {
            Ok(lane) => {
                tell(&format!("{}: ready", path.name()));
                lanes.push(lane);
            }
            Err(error) => {
                tell(&format!("{}: left out: {error}", path.name()));
                report.left_out.insert(path.name(), error.to_string());
            }
        }
    }
    lanes
}

/// The sizes of a load, and its name.
fn sizes(size: usize) -> (Vec<(usize, u32)>, String) {
    match size {
        0 => (frames::IMIX.to_vec(), "IMIX".to_owned()),
        size => (vec![(size, 1)], size.to_string()),
    }
}

fn throughput(
    plan: &Plan,
    size: usize,
    lanes: &[Lane],
    report: &mut Report,
    tell: Tell<'_>,
) -> Result<(), MeasureError> {
    let (sizes, name) = sizes(size);
    let load = |rate| Load { rate, sizes: sizes.clone(), measured_rate: 0.0, duration: plan.trial };
    let mut overloads: Vec<Vec<Outcome>> = lanes.iter().map(|_| Vec::new()).collect();
    for _ in 0..plan.rounds {
        for (lane, outcomes) in lanes.iter().zip(&mut overloads) {
            outcomes.push(trial::run(lane, &load(f64::INFINITY), &plan.conditions)?);
        }
    }
    let mut searches: Vec<Search> = lanes.iter().map(|_| Search::new(Settings::default(), &[PDR, NDR])).collect();
    let mut odd: Vec<(u64, u64)> = vec![(0, 0); lanes.len()];
    while searches.iter().any(|s| s.next().is_some()) {
        for ((lane, search), odd) in lanes.iter().zip(&mut searches).zip(&mut odd) {
            let Some(rate) = search.next() else { continue };
            let outcome = trial::run(lane, &load(rate), &plan.conditions)?;
            odd.0 += outcome.arrived.reordered + outcome.arrived.late;
            odd.1 += outcome.arrived.duplicates;
            search.feed(rate, outcome.trial());
        }
    }
    let rates: Vec<Vec<f64>> =
        overloads.iter().map(|outcomes| outcomes.iter().map(|o| o.trial().received).collect()).collect();
    for (index, lane) in lanes.iter().enumerate() {
        let outcomes = &overloads[index];
        let cpu: Vec<f64> = outcomes.iter().map(Outcome::cpu_ns_per_frame).collect();
        let frames: u64 = outcomes.iter().map(|o| o.arrived.frames).sum();
        let switches: u64 = outcomes.iter().map(|o| o.switches).sum();
        let row = Throughput {
            path: lane.path.name(),
            size: name.clone(),
            ndr: searches[index].bounds(&NDR),
            pdr: searches[index].bounds(&PDR),
            overload: Summary::of(&rates[index]),
            to_first: Summary::of_ratios(&rates[index], &rates[0]),
            cpu_ns: Summary::of(&cpu),
            switches: switches as f64 * 1000.0 / frames.max(1) as f64,
            reordered: odd[index].0,
            duplicates: odd[index].1,
        };
        tell(&super::tables::throughput_line(&row));
        report.throughput.push(row);
    }
    Ok(())
}

/// The PDR of a path at the first size that was measured.
fn pdr(report: &Report, path: &Path) -> f64 {
    let name = path.name();
    report.throughput.iter().find(|t| t.path == name).map_or(0.0, |t| t.pdr.rate)
}

fn latency(plan: &Plan, lanes: &[Lane], report: &mut Report, tell: Tell<'_>) -> Result<(), MeasureError> {
    const MEASURED_RATE: f64 = 4_000.0;
    for (load_name, share) in [("idle", 0.0), ("10 %", 0.1), ("50 %", 0.5), ("90 %", 0.9)] {
        let mut ages: Vec<_> = lanes.iter().map(|_| super::times::histogram()).collect();
        for _ in 0..plan.rounds {
            for (lane, ages) in lanes.iter().zip(&mut ages) {
                let load = Load {
                    rate: pdr(report, &lane.path) * share,
                    sizes: vec![(64, 1)],
                    measured_rate: MEASURED_RATE,
                    duration: plan.trial,
                };
                let outcome = trial::run(lane, &load, &plan.conditions)?;
                // Histograms of the same bounds always add up.
                let _same_bounds = ages.add(&outcome.arrived.ages);
            }
        }
        for (lane, ages) in lanes.iter().zip(&ages) {
            let row = Latency {
                path: lane.path.name(),
                load: load_name.to_owned(),
                background: pdr(report, &lane.path) * share,
                one_way: Percentiles::of(ages),
            };
            tell(&super::tables::latency_line(&row));
            report.latency.push(row);
        }
    }
    Ok(())
}

fn round_trips(lanes: &[Lane], report: &mut Report, tell: Tell<'_>) {
    const REQUESTS: u32 = 5_000;
    for lane in lanes {
        match tcp::round_trips(lane, REQUESTS) {
            Ok(times) => {
                let row = RoundTrip { path: lane.path.name(), times };
                tell(&super::tables::round_trip_line(&row));
                report.round_trip.push(row);
            }
            Err(error) => tell(&format!("{}: no round trips: {error}", lane.path.name())),
        }
    }
}

fn speeds(plan: &Plan, lanes: &[Lane], report: &mut Report, tell: Tell<'_>) {
    const SECONDS: u32 = 1;
    for (direction, reverse) in [("forward", false), ("reverse", true)] {
        let mut all: Vec<Vec<f64>> = lanes.iter().map(|_| Vec::new()).collect();
        let mut again = vec![0; lanes.len()];
        for _ in 0..plan.rounds {
            for (index, lane) in lanes.iter().enumerate() {
                match tcp::speed(lane, index, SECONDS, reverse) {
                    Ok(speed) => {
                        all[index].push(speed.bits_per_second);
                        again[index] += speed.retransmits;
                    }
                    Err(error) => tell(&format!("{}: no iperf3: {error}", lane.path.name())),
                }
            }
        }
        for (index, lane) in lanes.iter().enumerate().filter(|(i, _)| !all[*i].is_empty()) {
            let row = Tcp {
                path: lane.path.name(),
                direction: direction.to_owned(),
                bits_per_second: Summary::of(&all[index]),
                to_first: Summary::of_ratios(&all[index], &all[0]),
                retransmits: again[index],
            };
            tell(&super::tables::tcp_line(&row));
            report.tcp.push(row);
        }
    }
}

/// Several overload trials of one lane.
fn overload(plan: &Plan, lane: &Lane, conditions: &Conditions) -> Result<(Summary, f64), MeasureError> {
    let load = Load { rate: f64::INFINITY, sizes: vec![(64, 1)], measured_rate: 0.0, duration: plan.trial };
    let outcomes: Vec<Outcome> =
        (0..plan.rounds).map(|_| trial::run(lane, &load, conditions)).collect::<Result<_, _>>()?;
    let rates: Vec<f64> = outcomes.iter().map(|o| o.trial().received).collect();
    let cpu: Vec<f64> = outcomes.iter().map(Outcome::cpu_ns_per_frame).collect();
    Ok((Summary::of(&rates), Summary::of(&cpu).median))
}

fn scale_flows(plan: &Plan, lanes: &[Lane], report: &mut Report, tell: Tell<'_>) -> Result<(), MeasureError> {
    for flows in &plan.flows {
        for lane in lanes {
            let (rate, cpu_ns) = overload(plan, lane, &Conditions { flows: *flows, ..plan.conditions })?;
            let count = u64::from(*flows);
            let row = Scale { path: lane.path.name(), of: "flows".to_owned(), count, rate, cpu_ns };
            tell(&super::tables::scale_line(&row));
            report.scale.push(row);
        }
    }
    Ok(())
}

fn scale_rules(plan: &Plan, report: &mut Report, tell: Tell<'_>) {
    // What another program does does not depend on our rules.
    let by_rules = |path: &&Path| matches!(path, Path::Tc | Path::Viscum(..));
    for rules in &plan.rules {
        for path in plan.paths.iter().filter(by_rules).filter(|p| !report.left_out.contains_key(&p.name())) {
            let measured =
                Lane::start(*path, 0, mtu(plan), *rules).and_then(|lane| overload(plan, &lane, &plan.conditions));
            match measured {
                Ok((rate, cpu_ns)) => {
                    let count = *rules as u64;
                    let row = Scale { path: path.name(), of: "rules".to_owned(), count, rate, cpu_ns };
                    tell(&super::tables::scale_line(&row));
                    report.scale.push(row);
                }
                Err(error) => tell(&format!("{} with {rules} rules: {error}", path.name())),
            }
        }
    }
}
