//! `viscum latency`: how long frames stay in the forwarder, as a histogram that is told again and again. It takes no frame from anybody,
//! and sees none.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::{Piece, Request, Seen, Shared, client_has_ended, with_running, write_line};
use crate::limits::TIMES_LEN_MAX;
use crate::worker::{Sight, Timing};

/// How often it looks for new times: the queue takes far more in that time than comes.
const LOOK_MS: u16 = 10;
/// Longer times count as this one, in ns.
const LONGEST_NS: u64 = 60_000_000_000;
/// Columns of the longest bar.
const BAR_LEN: u64 = 40;

/// Answers a client until it goes, has what it wanted, or the forwarder ends; the last piece.
pub(super) fn watch(
    running: &Shared,
    request: &Request,
    (interval, json): (Duration, bool),
    client: &UnixStream,
    out: &mut impl Write,
) -> io::Result<Piece> {
    let opened = with_running(running, |forwarder| {
        let keys = forwarder.watchable(&request.device, request.netns.as_deref())?;
        let seen: Vec<Seen> =
            keys.iter().map(|key| Seen { key: key.clone(), mode: forwarder.how_served(key).0, note: None }).collect();
        if let Some(Seen { key, .. }) = seen.iter().find(|seen| start_of(seen.mode).is_none()) {
            return Err(format!(
                "{key}: the kernel forwards by itself here, and no worker handles a frame whose time could be taken; \
                 `viscum bench --parts latency` measures such a path from outside"
            ));
        }
        Ok((forwarder.begin_timing(keys)?, seen))
    });
    let (timing, seen) = match opened {
        Ok(opened) => opened,
        Err(text) => return Ok(Piece::End { ok: false, text }),
    };
    let done = Session { timing: &timing, seen: &seen, json, count: request.count }.run(interval, client, out);
    // Whatever happened to the client, the workers need not look at the clock for it any more.
    let _the_forwarder_is_ending = with_running(running, |running| {
        running.end_watch(&Sight::Times(Arc::clone(&timing)));
        Ok(())
    });
    done
}

/// Where the time of frames begins that a device of this mode receives; none: no worker sees them.
fn start_of(mode: &str) -> Option<&'static str> {
    match mode {
        "af-packet" => Some("from the kernel's stamp in the receive ring"),
        "raw" => Some("from the kernel's stamp where it entered the stack"),
        "af-xdp" => Some("from when a worker takes its burst; the time in the receive ring before that is not seen"),
        "tap" => Some("from when a worker takes its burst; the time in the tap's queue before that is not seen"),
        _ => None,
    }
}

struct Session<'a> {
    timing: &'a Timing,
    seen: &'a [Seen],
    json: bool,
    count: Option<u64>,
}

impl Session<'_> {
    fn run(&self, interval: Duration, client: &UnixStream, out: &mut impl Write) -> io::Result<Piece> {
        for Seen { key, mode, .. } in self.seen {
            let start = start_of(mode).unwrap_or_default();
            let text = format!("watching {key} ({mode}): {start}, to when what it leaves by was flushed\n");
            write_line(&mut *out, &Piece::Note(text))?;
        }
        out.flush()?;
        let mut times = Times::new();
        let mut told = Instant::now();
        loop {
            // Asked before the queue is emptied: what came before the end is told.
            let ended = self.timing.has_ended() || client_has_ended(client, LOOK_MS);
            let wanted = self.count.map_or(u64::MAX, |count| count - times.all.count());
            let room = usize::try_from(wanted).map_or(TIMES_LEN_MAX, |wanted| wanted.min(TIMES_LEN_MAX));
            std::iter::from_fn(|| self.timing.next()).take(room).for_each(|ns| times.add(ns));
            let enough = self.count.is_some_and(|count| times.all.count() >= count);
            if ended || enough || told.elapsed() >= interval {
                let text = self.block(&times, told.elapsed());
                told = Instant::now();
                times.last = Spread::new();
                write_line(&mut *out, &Piece::Text(text))?;
                out.flush()?;
            }
            if ended || enough {
                let missed = self.timing.missed();
                let mut text = format!("{} frames sampled", times.all.count());
                text += &match missed {
                    0 => ", none missed\n".to_owned(),
                    n => format!("; {n} more came faster than their times could be noted (they were forwarded)\n"),
                };
                return Ok(Piece::End { ok: true, text });
            }
        }
    }

    fn block(&self, times: &Times, last: Duration) -> String {
        let devices: Vec<String> = self.seen.iter().map(|seen| seen.key.to_string()).collect();
        let missed = self.timing.missed();
        if self.json {
            let object = json!({
                "device": devices.join(", "),
                "seconds": times.began.elapsed().as_secs_f64(),
                "last_seconds": last.as_secs_f64(),
                "not_sampled": missed,
                "last": times.last.json(),
                "all": times.all.json(),
                "histogram": times.all.powers().map(|(from, to, n)| json!([from, to, n])).collect::<Vec<_>>(),
            });
            return format!("{object}\n");
        }
        let mut text = format!(
            "{}: {} frames in {:.1} s, {} of them in the last {:.1} s, not sampled {missed}\n",
            devices.join(", "),
            times.all.count(),
            times.began.elapsed().as_secs_f64(),
            times.last.count(),
            last.as_secs_f64(),
        );
        text += &format!("{:>8}{:>12}{:>12}{:>12}{:>12}{:>12}\n", "", "p50", "p90", "p99", "p99.9", "max");
        for (name, spread) in [("last", &times.last), ("all", &times.all)] {
            text += &format!("{name:>8}{}\n", spread.percentiles().map(|ns| format!("{:>12}", ns_text(ns))).concat());
        }
        let most = times.all.powers().map(|(.., n)| n).max().unwrap_or(0);
        for (from, to, n) in times.all.powers() {
            let bar = "#".repeat((n * BAR_LEN).div_ceil(most.max(1)) as usize);
            text += &format!("{:>12} .. {:>8} {n:>10} {bar}\n", ns_text(Some(from)), ns_text(Some(to)));
        }
        text.push('\n');
        text
    }
}

/// Times from the beginning, and since they were told last.
struct Times {
    began: Instant,
    all: Spread,
    last: Spread,
}

impl Times {
    fn new() -> Self {
        Self { began: Instant::now(), all: Spread::new(), last: Spread::new() }
    }

    fn add(&mut self, ns: u64) {
        self.all.add(ns);
        self.last.add(ns);
    }
}

struct Spread {
    times: Histogram<u64>,
    /// By the power of two at or below, in ns.
    powers: [u64; 64],
}

impl Spread {
    fn new() -> Self {
        let times = Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds of the histogram are right");
        Self { times, powers: [0; 64] }
    }

    fn add(&mut self, ns: u64) {
        let ns = ns.clamp(1, LONGEST_NS);
        self.times.saturating_record(ns);
        self.powers[ns.ilog2() as usize] += 1;
    }

    fn count(&self) -> u64 {
        self.times.len()
    }

    /// The median, 90 %, 99 %, 99.9 %, the greatest; in ns.
    fn percentiles(&self) -> [Option<u64>; 5] {
        let some = |ns: u64| (!self.times.is_empty()).then_some(ns);
        let at = |quantile| some(self.times.value_at_quantile(quantile));
        [at(0.5), at(0.9), at(0.99), at(0.999), some(self.times.max())]
    }

    fn json(&self) -> Value {
        let [p50, p90, p99, p999, max] = self.percentiles();
        json!({ "count": self.count(), "p50_ns": p50, "p90_ns": p90, "p99_ns": p99, "p999_ns": p999, "max_ns": max })
    }

    /// How many times lie from one power of two to below the next: from the first to the last that has any.
    fn powers(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        let first = self.powers.iter().position(|n| *n > 0).unwrap_or(0);
        let end = self.powers.iter().rposition(|n| *n > 0).map_or(0, |last| last + 1);
        (first..end).map(|power| (1 << power, 2 << power, self.powers[power]))
    }
}

/// Three digits and a unit.
fn ns_text(ns: Option<u64>) -> String {
    let Some(ns) = ns else { return "-".to_owned() };
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        1_000_000_000.. => (ns as f64 / 1e9, "s"),
    };
    match value {
        v if v < 10.0 => format!("{v:.2} {unit}"),
        v if v < 100.0 => format!("{v:.1} {unit}"),
        v => format!("{v:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_order_and_powers_hold_every_time_once() {
        let mut spread = Spread::new();
        assert_eq!(spread.percentiles(), [None; 5]);
        assert_eq!(spread.powers().count(), 0);
        for ns in 1..=100_000 {
            spread.add(ns);
        }
        spread.add(u64::MAX);
        let all = spread.percentiles().map(Option::unwrap);
        assert!(all.is_sorted() && all[0].abs_diff(50_000) < 100 && all[4] >= LONGEST_NS, "{all:?}");
        assert_eq!(spread.powers().map(|(.., n)| n).sum::<u64>(), 100_001);
        assert_eq!(spread.powers().next(), Some((1, 2, 1)));
        assert!(spread.powers().all(|(from, to, _)| to == 2 * from));
    }

    #[test]
    fn times_have_three_digits_and_a_unit() {
        let text: Vec<String> =
            [0, 999, 1000, 12_345, 123_456, 1_234_567, 60_000_000_000].map(|ns| ns_text(Some(ns))).to_vec();
        assert_eq!(text, ["0 ns", "999 ns", "1.00 us", "12.3 us", "123 us", "1.23 ms", "60.0 s"]);
        assert_eq!(ns_text(None), "-");
    }
}
