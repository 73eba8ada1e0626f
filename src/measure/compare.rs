//! Two reports side by side: before and after. It measures nothing.

use std::fmt::Write;

use super::report::Report;
use super::stats::Summary;

/// One figure that both reports have.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What it is: path, size, load.
    pub what: String,
    /// After ÷ before.
    pub ratio: f64,
    /// Whether the intervals do not overlap.
    pub clear: bool,
    /// Whether more is better.
    pub more_is_better: bool,
}

fn change(what: String, before: &Summary, after: &Summary, more_is_better: bool) -> Option<Change> {
    let clear = after.low > before.high || after.high < before.low;
    (before.median > 0.0).then(|| Change { what, ratio: after.median / before.median, clear, more_is_better })
}

/// A figure without an interval counts as clear beyond 10 %.
fn bare(what: String, before: f64, after: f64, more_is_better: bool) -> Option<Change> {
    let ratio = after / before;
    (before > 0.0).then(|| Change { what, ratio, clear: !(0.9..=1.1).contains(&ratio), more_is_better })
}

/// All figures that both have, in the order of the first. Rates are compared as ratios to each report's own first path too, which is
/// what remains if the machine was faster on one of the days.
#[must_use]
pub fn changes(before: &Report, after: &Report) -> Vec<Change> {
    let mut all = Vec::new();
    for row in &before.throughput {
        let Some(new) = after.throughput.iter().find(|n| n.path == row.path && n.size == row.size) else { continue };
        let name = format!("{} {} B", row.path, row.size);
        all.extend(change(format!("{name} overload rate"), &row.overload, &new.overload, true));
        all.extend(change(format!("{name} to the first path"), &row.to_first, &new.to_first, true));
        all.extend(bare(format!("{name} NDR"), row.ndr.rate, new.ndr.rate, true));
        all.extend(bare(format!("{name} PDR"), row.pdr.rate, new.pdr.rate, true));
        all.extend(change(format!("{name} CPU per frame"), &row.cpu_ns, &new.cpu_ns, false));
    }
    for row in &before.latency {
        let Some(new) = after.latency.iter().find(|n| n.path == row.path && n.load == row.load) else { continue };
        for (name, old, new) in [("p50", row.one_way.p50, new.one_way.p50), ("p99", row.one_way.p99, new.one_way.p99)] {
            all.extend(bare(format!("{} one way at {} {name}", row.path, row.load), old as f64, new as f64, false));
        }
    }
    for row in &before.round_trip {
        let Some(new) = after.round_trip.iter().find(|n| n.path == row.path) else { continue };
        all.extend(bare(format!("{} TCP round trip p50", row.path), row.times.p50 as f64, new.times.p50 as f64, false));
    }
    for row in &before.tcp {
        let Some(new) = after.tcp.iter().find(|n| n.path == row.path && n.direction == row.direction) else { continue };
        let name = format!("{} iperf3 {}", row.path, row.direction);
        all.extend(change(name, &row.bits_per_second, &new.bits_per_second, true));
    }
    all
}

/// The comparison for a terminal.
#[must_use]
pub fn text(before: &Report, after: &Report) -> String {
    let mut text =
        format!("before: {} ({})\nafter:  {} ({})\n", before.started, before.program, after.started, after.program);
    if before.machine != after.machine {
        text.push_str("the machines differ: compare the ratios to the first path, not the rates\n");
    }
    for report in [before, after] {
        if let Some(noise) = report.noise.verdict() {
            let _infallible = writeln!(text, "{}: {noise}", report.started);
        }
    }
    let all = changes(before, after);
    if all.is_empty() {
        text.push_str("the reports have no figure in common\n");
    }
    for change in all {
        let word = match (change.clear, (change.ratio > 1.0) == change.more_is_better) {
            (false, _) => "same within the noise",
            (true, true) => "better",
            (true, false) => "worse",
        };
        let _infallible = writeln!(text, "{:<58} x{:.2}  {word}", change.what, change.ratio);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::report::Throughput;
    use crate::measure::search::Bounds;

    fn report(rate: f64) -> Report {
        let summary = |median: f64| Summary { median, low: median * 0.98, high: median * 1.02, count: 5 };
        let bounds = Bounds { lower: rate, upper: None, rate, settled: true };
        let row = Throughput {
            path: "a".to_owned(),
            size: "64".to_owned(),
            ndr: bounds,
            pdr: bounds,
            overload: summary(rate),
            to_first: summary(1.0),
            cpu_ns: summary(1e9 / rate),
            switches: 0.0,
            reordered: 0,
            duplicates: 0,
        };
        Report { throughput: vec![row], ..Report::default() }
    }

    #[test]
    fn what_is_faster_is_better_and_what_overlaps_is_the_same() {
        let words = |before, after| text(&report(before), &report(after));
        let faster = words(1e6, 2e6);
        assert!(faster.contains("a 64 B overload rate") && faster.contains("x2.00  better"), "{faster}");
        assert!(faster.lines().any(|l| l.contains("CPU per frame") && l.contains("x0.50  better")), "{faster}");
        let slower = words(2e6, 1e6);
        assert!(slower.contains("x0.50  worse"), "{slower}");
        assert!(words(1e6, 1.01e6).contains("same within the noise"));
        assert!(text(&Report::default(), &Report::default()).contains("no figure in common"));
    }
}
