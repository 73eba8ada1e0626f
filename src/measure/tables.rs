//! A report as lines and tables for a terminal. Text only.

use std::fmt::Write;

use super::report::{Latency, Report, RoundTrip, Scale, Tcp, Throughput};
use super::search::Bounds;
use super::stats::Summary;
use super::times::Percentiles;

/// Frames per second, for people: `4.31 M/s`.
#[must_use]
pub fn rate(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2} M/s", v / 1e6),
        v if v >= 1e3 => format!("{:.0} k/s", v / 1e3),
        v => format!("{v:.0} /s"),
    }
}

/// A time, for people: `9.8 us`.
#[must_use]
pub fn time(ns: u64) -> String {
    match ns {
        ns if ns >= 10_000_000 => format!("{:.0} ms", ns as f64 / 1e6),
        ns if ns >= 10_000 => format!("{:.0} us", ns as f64 / 1e3),
        ns => format!("{:.1} us", ns as f64 / 1e3),
    }
}

fn bounds(bounds: &Bounds) -> String {
    let sign = match (bounds.settled, bounds.upper) {
        (true, None) => ">=",
        (true, Some(_)) => "",
        (false, _) => "~",
    };
    if bounds.lower == 0.0 { "none".to_owned() } else { format!("{sign}{}", rate(bounds.rate)) }
}

/// `1.23 (1.20-1.25)`.
#[must_use]
pub fn ratio(ratio: &Summary) -> String {
    format!("{:.2} ({:.2}-{:.2})", ratio.median, ratio.low, ratio.high)
}

/// One line of the throughput table.
#[must_use]
pub fn throughput_line(row: &Throughput) -> String {
    let mut line = format!(
        "{:<26} {:>5} B  NDR {:>10}  PDR {:>10}  overload {:>9}  x{:<17}  {:>6.0} ns CPU/frame  {:>5.1} switches/1000",
        row.path,
        row.size,
        bounds(&row.ndr),
        bounds(&row.pdr),
        rate(row.overload.median),
        ratio(&row.to_first),
        row.cpu_ns.median,
        row.switches,
    );
    if row.reordered + row.duplicates > 0 {
        let _infallible = write!(line, "  {} reordered, {} twice", row.reordered, row.duplicates);
    }
    line
}

fn percentiles(times: &Percentiles) -> String {
    let [p50, p90, p99, p999, max] = [times.p50, times.p90, times.p99, times.p999, times.max].map(time);
    format!("p50 {p50:>8}  p90 {p90:>8}  p99 {p99:>8}  p99.9 {p999:>8}  max {max:>8}  ({} samples)", times.count)
}

/// One line of the table of ages.
#[must_use]
pub fn latency_line(row: &Latency) -> String {
    format!("{:<26} one way at {:<5} {}", row.path, row.load, percentiles(&row.one_way))
}

/// One line of the table of round trips.
#[must_use]
pub fn round_trip_line(row: &RoundTrip) -> String {
    format!("{:<26} TCP round trip   {}", row.path, percentiles(&row.times))
}

/// One line of the table of iperf3.
#[must_use]
pub fn tcp_line(row: &Tcp) -> String {
    format!(
        "{:<26} iperf3 {:<8} {:>6.2} Gbit/s  x{:<17}  {} retransmits",
        row.path,
        row.direction,
        row.bits_per_second.median / 1e9,
        ratio(&row.to_first),
        row.retransmits
    )
}

/// One line of the tables of scale.
#[must_use]
pub fn scale_line(row: &Scale) -> String {
    let rate = rate(row.rate.median);
    format!("{:<26} {:>8} {:<6} {rate:>10}  {:>8.0} ns CPU/frame", row.path, row.count, row.of, row.cpu_ns)
}

/// The whole report.
#[must_use]
pub fn report(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |words: &str| {
        text.push_str(words);
        text.push('\n');
    };
    let machine = &report.machine;
    line(&format!(
        "viscum {} bench, {}: {}, {}, {} cores{}{}",
        report.program,
        report.started,
        machine.kernel,
        machine.cpu,
        machine.cores,
        if machine.isolated.is_empty() {
            ", none isolated".to_owned()
        } else {
            format!(", isolated {}", machine.isolated)
        },
        if machine.hypervisor.is_empty() { String::new() } else { format!(", {}", machine.hypervisor) },
    ));
    line(&format!("ratios (x) are to {}, trial by trial, with 95 % intervals", report.paths.first().map_or("", |p| p)));
    let sections: [(&str, Vec<String>); 5] = [
        ("throughput", report.throughput.iter().map(throughput_line).collect()),
        ("latency", report.latency.iter().map(latency_line).collect()),
        ("round trip", report.round_trip.iter().map(round_trip_line).collect()),
        ("TCP", report.tcp.iter().map(tcp_line).collect()),
        ("scale", report.scale.iter().map(scale_line).collect()),
    ];
    for (title, lines) in sections.iter().filter(|(_, lines)| !lines.is_empty()) {
        line(&format!("\n{title}"));
        lines.iter().for_each(|l| line(&format!("  {l}")));
    }
    for (path, why) in &report.left_out {
        line(&format!("left out: {path}: {why}"));
    }
    line(&report.noise.verdict().unwrap_or_else(|| winner(report)));
    text
}

/// The fastest at the first size, if it is so beyond doubt.
#[must_use]
pub fn winner(report: &Report) -> String {
    let Some(size) = report.throughput.first().map(|t| &t.size) else { return String::new() };
    let mut rows: Vec<&Throughput> = report.throughput.iter().filter(|t| t.size == *size).collect();
    rows.sort_by(|a, b| b.overload.median.total_cmp(&a.overload.median));
    match rows[..] {
        [first, second, ..] if first.overload.low > second.overload.high => {
            format!("fastest at {size} bytes: {} ({})", first.path, rate(first.overload.median))
        }
        [first, second, ..] => format!("no clear winner at {size} bytes: {} and {} overlap", first.path, second.path),
        [only] => format!("only one path: {}", only.path),
        [] => String::new(),
    }
}
