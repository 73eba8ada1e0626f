//! The kinds of qdisc whose options are known: their words, units and defaults. A table with its units; it parses no command.

use serde_json::Value;

use super::super::action::police::units::{rate, rate_text, size, size_text};
use super::super::number::get_u32;

/// How a number is written and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Plain,
    Packets,
    Bytes,
    /// Bytes that are shown with `b` and nothing else.
    PlainBytes,
    /// Bytes a second.
    Rate,
    /// Microseconds.
    Time,
    /// The same, kept by the kernel in ticks of 4 ms (`CONFIG_HZ=250`), rounded up.
    Ticks,
    /// The same, kept by the kernel in units of 1024 ns.
    CodelTime,
    /// Nanoseconds.
    Nanoseconds,
    Seconds,
    Hex,
}

/// One option of a kind: its word, and what holds without it.
pub(super) struct Field(pub &'static str, pub Unit, pub Option<u64>);

/// A word that turns an option on, another that turns it off, whether it is on, and the word and the JSON name that are shown then.
pub(super) struct Flag(pub &'static str, pub &'static str, pub bool);

/// A kind whose options are known, in the order in which they are shown.
pub(super) struct Kind {
    pub name: &'static str,
    pub fields: &'static [Field],
    /// Shown behind so many fields.
    pub flags: &'static [(usize, Flag)],
    /// The text ends without a blank.
    pub bare: bool,
}

use Unit::{Bytes, CodelTime, Hex, Nanoseconds, Packets, Plain, PlainBytes, Rate, Seconds, Ticks, Time};

const KINDS: &[Kind] = &[
    Kind { name: "pfifo", fields: &[Field("limit", Packets, Some(1000))], flags: &[], bare: true },
    Kind { name: "pfifo_head_drop", fields: &[Field("limit", Packets, Some(1000))], flags: &[], bare: true },
    Kind { name: "bfifo", fields: &[Field("limit", Bytes, Some(1_514_000))], flags: &[], bare: true },
    Kind {
        name: "fq",
        fields: &[
            Field("limit", Packets, Some(10_000)),
            Field("flow_limit", Packets, Some(100)),
            Field("buckets", Plain, Some(1024)),
            Field("orphan_mask", Plain, Some(1023)),
            Field("quantum", PlainBytes, Some(3028)),
            Field("initial_quantum", PlainBytes, Some(15_140)),
            Field("maxrate", Rate, None),
            Field("low_rate_threshold", Rate, Some(68_750)),
            Field("refill_delay", Ticks, Some(40_000)),
            Field("timer_slack", Nanoseconds, Some(10_000)),
            Field("horizon", Time, Some(10_000_000)),
        ],
        flags: &[(4, Flag("nopacing", "pacing", false)), (11, Flag("horizon_drop", "horizon_cap", true))],
        bare: false,
    },
    Kind {
        name: "fq_codel",
        fields: &[
            Field("limit", Packets, Some(10_240)),
            Field("flows", Plain, Some(1024)),
            Field("quantum", Plain, Some(1514)),
            Field("target", CodelTime, Some(5000)),
            Field("ce_threshold", CodelTime, None),
            Field("interval", CodelTime, Some(100_000)),
            Field("memory_limit", Bytes, Some(32 << 20)),
            Field("drop_batch", Plain, Some(64)),
        ],
        flags: &[(7, Flag("ecn", "noecn", true))],
        bare: false,
    },
    Kind {
        name: "codel",
        fields: &[
            Field("limit", Packets, Some(1000)),
            Field("target", CodelTime, Some(5000)),
            Field("ce_threshold", CodelTime, None),
            Field("interval", CodelTime, Some(100_000)),
        ],
        flags: &[(4, Flag("ecn", "noecn", false))],
        bare: false,
    },
    Kind {
        name: "pie",
        fields: &[
            Field("limit", Packets, Some(1000)),
            Field("target", Time, Some(15_000)),
            Field("tupdate", Time, Some(16_000)),
            Field("alpha", Plain, Some(2)),
            Field("beta", Plain, Some(20)),
        ],
        flags: &[(5, Flag("ecn", "noecn", false)), (5, Flag("bytemode", "nobytemode", false))],
        bare: false,
    },
    Kind {
        name: "sfq",
        fields: &[
            Field("limit", Packets, Some(127)),
            Field("quantum", PlainBytes, Some(1514)),
            Field("depth", Plain, Some(127)),
            Field("divisor", Plain, Some(1024)),
            Field("perturb", Seconds, None),
        ],
        flags: &[(2, Flag("headdrop", "noheaddrop", false))],
        bare: false,
    },
    Kind { name: "skbprio", fields: &[Field("limit", Plain, Some(64))], flags: &[], bare: false },
    Kind {
        name: "htb",
        fields: &[
            Field("r2q", Plain, Some(10)),
            Field("default", Hex, Some(0)),
            Field("direct_packets_stat", Plain, Some(0)),
            Field("direct_qlen", Plain, Some(1000)),
        ],
        flags: &[],
        bare: true,
    },
    Kind {
        name: "hhf",
        fields: &[
            Field("limit", Packets, Some(1000)),
            Field("quantum", PlainBytes, Some(1514)),
            Field("hh_limit", Plain, Some(2048)),
            Field("reset_timeout", Time, Some(40_000)),
            Field("admit_bytes", Bytes, Some(131_072)),
            Field("evict_timeout", Time, Some(1_000_000)),
            Field("non_hh_weight", Plain, Some(2)),
        ],
        flags: &[],
        bare: false,
    },
    Kind {
        name: "tbf",
        fields: &[
            Field("rate", Rate, None),
            Field("burst", Bytes, None),
            Field("lat", Time, None),
            Field("limit", Bytes, None),
        ],
        flags: &[],
        bare: false,
    },
    Kind { name: "drr", fields: &[], flags: &[], bare: false },
    Kind { name: "qfq", fields: &[], flags: &[], bare: false },
    Kind { name: "plug", fields: &[], flags: &[], bare: false },
    Kind { name: "noqueue", fields: &[], flags: &[], bare: false },
    Kind { name: "mq", fields: &[], flags: &[], bare: false },
];

pub(super) fn kind_of(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|k| k.name == name)
}

impl Unit {
    pub const fn wanted(self) -> &'static str {
        match self {
            Plain | Packets | Seconds => "a number",
            Bytes | PlainBytes => "a size, like 10k",
            Rate => "a rate, like 10mbit",
            Time | Ticks | CodelTime | Nanoseconds => "a time, like 10ms",
            Hex => "a number in hex",
        }
    }

    pub fn read(self, text: &str) -> Option<u64> {
        match self {
            Plain | Packets | Seconds => get_u32(text, 0).map(u64::from),
            Bytes | PlainBytes => size(text).map(u64::from),
            Rate => rate(text),
            Time | CodelTime => time_us(text),
            Ticks => time_us(text).map(|us| us.div_ceil(4000) * 4000),
            Nanoseconds => time_us(text).map(|us| us.saturating_mul(1000)),
            Hex => get_u32(text, 16).map(u64::from),
        }
    }

    pub fn text(self, value: u64) -> String {
        match self {
            Plain => value.to_string(),
            Packets => format!("{value}p"),
            Bytes => size_text(u32::try_from(value).unwrap_or(u32::MAX)),
            PlainBytes => format!("{value}b"),
            Rate => rate_text(value),
            Time | Ticks => time_text(value),
            CodelTime => time_text(codel_us(value)),
            Nanoseconds => time_text(value / 1000),
            Seconds => format!("{value}sec"),
            Hex if value == 0 => "0".to_owned(),
            Hex => format!("{value:#x}"),
        }
    }

    pub fn json(self, value: u64) -> Value {
        match self {
            Plain | Packets | Bytes | PlainBytes | Rate | Time | Ticks | Nanoseconds | Seconds => value.into(),
            CodelTime => codel_us(value).into(),
            Hex => self.text(value).into(),
        }
    }
}

/// `codel_time_to_us()` of what `us * NSEC_PER_USEC >> CODEL_SHIFT` keeps.
const fn codel_us(us: u64) -> u64 {
    ((us.saturating_mul(1000) >> 10) << 10) / 1000
}

/// `get_time()`, lib/utils.c: microseconds unless a unit says otherwise.
fn time_us(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let factor = match text[end..].to_ascii_lowercase().as_str() {
        "s" | "sec" | "secs" => 1e6,
        "ms" | "msec" | "msecs" => 1e3,
        "" | "us" | "usec" | "usecs" => 1.0,
        _ => return None,
    };
    let us = number * factor;
    (us <= f64::from(u32::MAX)).then_some(us as u64)
}

/// `print_time()`, lib/utils.c: three digits.
fn time_text(us: u64) -> String {
    let exact = us as f64;
    if exact >= 1e6 {
        format!("{}s", three_digits(exact / 1e6))
    } else if exact >= 1e3 {
        format!("{}ms", three_digits(exact / 1e3))
    } else {
        format!("{us}us")
    }
}

/// `%.3g` of a number from 1 up; above 999 without an exponent.
fn three_digits(value: f64) -> String {
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_shown_as_tc_does() {
        for (text, us, shown) in
            [("10ms", 10_000, "10ms"), ("1.5s", 1_500_000, "1.5s"), ("7", 7, "7us"), ("4.999ms", 4999, "5ms")]
        {
            assert_eq!(time_us(text), Some(us));
            assert_eq!(time_text(us), shown);
        }
        assert_eq!(time_us("5parsecs"), None);
    }
}
