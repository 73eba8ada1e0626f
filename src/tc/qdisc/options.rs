//! Options of qdiscs that viscum only remembers: read, merged by `change`, and shown as tc shows them. They have no effect.
//!
//! Those of common kinds are known with their defaults; of the others the words are kept as they were given. Defaults that depend on
//! a device's MTU are those for 1500 bytes, those that depend on its queue for 1000 packets.

use serde_json::{Map, Value, json};

use super::super::action::police::units::{rate, rate_text, size, size_text};
use super::super::args::Args;
use super::super::command::Word;
use super::super::error::TcError;
use super::super::number::{get_u32, matches};

/// How a number is written and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Plain,
    Packets,
    Bytes,
    /// Bytes that are shown with `b` and nothing else.
    PlainBytes,
    /// Bytes a second.
    Rate,
    /// Microseconds.
    Time,
    /// The same, kept by the kernel in units of 1024 ns.
    CodelTime,
    /// Nanoseconds.
    Nanoseconds,
    Seconds,
    Hex,
}

/// One option of a kind: its word, and what holds without it.
struct Field(&'static str, Unit, Option<u64>);

/// A word that turns an option on, another that turns it off, whether it is on, and the word and the JSON name that are shown then.
struct Flag(&'static str, &'static str, bool);

/// A kind whose options are known, in the order in which they are shown.
struct Kind {
    name: &'static str,
    fields: &'static [Field],
    /// Shown behind so many fields.
    flags: &'static [(usize, Flag)],
    /// The text ends without a blank.
    bare: bool,
}

use Unit::{Bytes, CodelTime, Hex, Nanoseconds, Packets, Plain, PlainBytes, Rate, Seconds, Time};

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
            Field("refill_delay", Time, Some(40_000)),
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

const PRIO_MAP: [u8; 16] = [1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];
/// `TCQ_PRIO_BANDS`.
const PRIO_BANDS_MAX: u32 = 16;

/// What a qdisc was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Values of a known kind by its word.
    numbers: Vec<(&'static str, u64)>,
    /// Flags that were given.
    flags: Vec<(&'static str, bool)>,
    bands: Option<u32>,
    map: Option<Vec<u8>>,
    /// All words, of a kind that is not known.
    words: Vec<String>,
}

impl Options {
    /// Parses what is behind the kind, to the end of the line.
    ///
    /// # Errors
    /// What tc says; exit code 1.
    pub fn parse(args: &mut Args<'_>, kind: &Word) -> Result<Self, TcError> {
        let mut options = Self::default();
        match (kind.text.as_str(), kind_of(&kind.text)) {
            ("prio" | "pfifo_fast", _) => options.prio(args)?,
            (_, Some(known)) => options.known(args, known)?,
            (name, None) if super::is_known(name) => {
                while let Some(word) = args.word() {
                    options.words.push(word.to_owned());
                    args.skip();
                }
            }
            (name, None) => {
                if let Some(word) = args.word() {
                    let message = format!("Unknown qdisc \"{name}\", hence option \"{word}\" is unparsable");
                    return Err(TcError::parse(message, kind.token, "use a kind that Linux has, like fq or prio"));
                }
            }
        }
        Ok(options)
    }

    /// `prio_parse_opt()`, tc/q_prio.c.
    fn prio(&mut self, args: &mut Args<'_>) -> Result<(), TcError> {
        let mut map: Vec<u8> = Vec::new();
        let mut in_map = false;
        while let Some(word) = args.word() {
            let token = args.position();
            if word == "bands" {
                let text = args.next_word()?;
                let hint = "a number of bands from 2 to 16";
                let bands = get_u32(text, 10).ok_or_else(|| TcError::parse("Illegal \"bands\"", token, hint))?;
                self.bands = Some(bands);
            } else if word == "priomap" {
                in_map = true;
            } else if in_map {
                let hint = "priomap takes up to 16 numbers of bands";
                if map.len() >= PRIO_MAP.len() {
                    return Err(TcError::parse("\"priomap\" index > TC_PRIO_MAX=15", token, hint));
                }
                let band =
                    get_u32(word, 10).ok_or_else(|| TcError::parse("Illegal \"priomap\" element", token, hint))?;
                if band > self.bands() {
                    return Err(TcError::parse("\"priomap\" element is out of bands", token, hint));
                }
                map.push(u8::try_from(band).unwrap_or(u8::MAX));
            } else {
                let usage = "Usage: ... prio bands NUMBER priomap P1 P2...[multiqueue]";
                return Err(what_is(word, token, "prio takes bands and priomap").then(usage));
            }
            args.skip();
        }
        if in_map {
            let rest = PRIO_MAP.iter().skip(map.len());
            self.map = Some(map.iter().chain(rest).copied().collect());
        }
        Ok(())
    }

    fn known(&mut self, args: &mut Args<'_>, kind: &'static Kind) -> Result<(), TcError> {
        while let Some(word) = args.word() {
            let token = args.position();
            let is_latency = kind.name == "tbf" && matches(word, "latency");
            let field = kind.fields.iter().find(|f| f.0 == word || is_latency && f.0 == "lat");
            if let Some(Field(name, unit, _)) = field.filter(|f| f.0 != "direct_packets_stat") {
                let text = args.next_word()?;
                let hint = format!("{} wants {}", word, unit.wanted());
                let value =
                    unit.read(text).ok_or_else(|| TcError::parse(format!("Illegal \"{word}\""), token, hint))?;
                self.set(name, value);
            } else if let Some((_, flag)) = kind.flags.iter().find(|(_, f)| f.0 == word || f.1 == word) {
                self.flags.retain(|(name, _)| *name != flag.0);
                self.flags.push((flag.0, flag.0 == word));
            } else {
                let names: Vec<&str> = kind.fields.iter().map(|f| f.0).collect();
                let hint = format!(
                    "{} takes {}",
                    kind.name,
                    if names.is_empty() { "no options".to_owned() } else { names.join(", ") }
                );
                return Err(unknown_word(kind.name, word, token, &hint));
            }
            args.skip();
        }
        let has = |name: &str| self.numbers.iter().any(|(n, _)| *n == name);
        if kind.name == "tbf" && !(has("limit") || has("lat")) && has("rate") && has("burst") {
            let text = "tbf: either \"limit\" or \"latency\" is required.";
            return Err(TcError::parse(text, args.position(), "say latency 50ms"));
        }
        Ok(())
    }

    fn set(&mut self, name: &'static str, value: u64) {
        self.numbers.retain(|(n, _)| *n != name);
        self.numbers.push((name, value));
    }

    /// How many bands a `prio` has.
    #[must_use]
    pub fn bands(&self) -> u32 {
        self.bands.unwrap_or(3)
    }

    /// Why a `prio` is refused by the kernel (`prio_tune()`, sch_prio.c).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn check(&self, kind: &str) -> Result<(), TcError> {
        let in_range = |band: &u8| u32::from(*band) < self.bands();
        let good = (2..=PRIO_BANDS_MAX).contains(&self.bands())
            && self.map.as_deref().unwrap_or(&PRIO_MAP).iter().all(in_range);
        if kind == "prio" && !good {
            let hint = "2 to 16 bands, and each element of priomap below their number";
            return Err(TcError::errno("Invalid argument", hint));
        }
        Ok(())
    }

    /// `change`: what is given now replaces what was given before.
    pub fn merge(&mut self, new: &Self) {
        new.numbers.iter().for_each(|(name, value)| self.set(name, *value));
        for (name, on) in &new.flags {
            self.flags.retain(|(n, _)| n != name);
            self.flags.push((name, *on));
        }
        self.bands = new.bands.or(self.bands);
        self.map = new.map.clone().or_else(|| self.map.take());
        if !new.words.is_empty() {
            self.words.clone_from(&new.words);
        }
    }

    /// As tc prints them behind the qdisc; `details` for `-d`.
    #[must_use]
    pub fn text(&self, kind: &str, details: bool) -> String {
        if matches!(kind, "prio" | "pfifo_fast") {
            let map: Vec<String> = self.map.as_deref().unwrap_or(&PRIO_MAP).iter().map(u8::to_string).collect();
            return format!("bands {} priomap {}", self.bands(), map.join(" "));
        }
        let Some(known) = kind_of(kind) else {
            return if self.words.is_empty() { String::new() } else { self.words.join(" ") + " " };
        };
        let mut parts = Vec::new();
        for at in 0..=known.fields.len() {
            let flags = known.flags.iter().filter(|(place, f)| *place == at && self.is_on(f));
            parts.extend(flags.map(|(_, f)| f.0.to_owned()));
            let Some(field) = known.fields.get(at) else { continue };
            if known.name == "htb" && field.0 == "direct_qlen" && details {
                parts.push("ver 3.17".to_owned());
            }
            let cell = if known.name == "tbf" && field.0 == "burst" && details { "/1 mpu 0b" } else { "" };
            parts.extend(self.value(field).map(|value| format!("{} {}{cell}", field.0, field.1.text(value))));
        }
        if known.name == "tbf" && details {
            parts.push("linklayer ethernet".to_owned());
        }
        let text = parts.join(" ");
        if known.bare || text.is_empty() { text } else { text + " " }
    }

    /// As tc prints them in JSON.
    #[must_use]
    pub fn json(&self, kind: &str) -> Value {
        if matches!(kind, "prio" | "pfifo_fast") {
            let map = self.map.as_deref().unwrap_or(&PRIO_MAP);
            return json!({"bands": self.bands(), "priomap": map, "multiqueue": false});
        }
        let mut map = Map::new();
        let Some(known) = kind_of(kind) else {
            if !self.words.is_empty() {
                map.insert("as_given".to_owned(), self.words.join(" ").into());
            }
            return Value::Object(map);
        };
        for at in 0..=known.fields.len() {
            for (_, flag) in known.flags.iter().filter(|(place, f)| *place == at && self.is_on(f)) {
                let (name, value) = match flag.0 {
                    "nopacing" => ("pacing", false.into()),
                    "horizon_drop" => ("horizon_drop", Value::Null),
                    name => (name, true.into()),
                };
                map.insert(name.to_owned(), value);
            }
            let Some(field) = known.fields.get(at) else { continue };
            map.extend(self.value(field).map(|value| (field.0.to_owned(), field.1.json(value))));
        }
        Value::Object(map)
    }

    fn is_on(&self, flag: &Flag) -> bool {
        self.flags.iter().find(|(name, _)| *name == flag.0).map_or(flag.2, |(_, on)| *on)
    }

    fn value(&self, field: &Field) -> Option<u64> {
        self.numbers.iter().find(|(name, _)| *name == field.0).map(|(_, value)| *value).or(field.2)
    }
}

fn kind_of(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|k| k.name == name)
}

fn what_is(word: &str, token: usize, hint: &str) -> TcError {
    TcError::parse(format!("What is \"{word}\"?"), token, hint)
}

fn unknown_word(kind: &str, word: &str, token: usize, hint: &str) -> TcError {
    match kind {
        "pfifo" | "bfifo" | "pfifo_head_drop" => {
            let usage = "Usage: ... <[p|b]fifo | pfifo_head_drop> [ limit NUMBER ]";
            TcError::parse(format!("{kind}: unknown parameter \"{word}\""), token, hint).then(usage)
        }
        _ => what_is(word, token, hint),
    }
}

impl Unit {
    const fn wanted(self) -> &'static str {
        match self {
            Plain | Packets | Seconds => "a number",
            Bytes | PlainBytes => "a size, like 10k",
            Rate => "a rate, like 10mbit",
            Time | CodelTime | Nanoseconds => "a time, like 10ms",
            Hex => "a number in hex",
        }
    }

    fn read(self, text: &str) -> Option<u64> {
        match self {
            Plain | Packets | Seconds => get_u32(text, 0).map(u64::from),
            Bytes | PlainBytes => size(text).map(u64::from),
            Rate => rate(text),
            Time | CodelTime => time_us(text),
            Nanoseconds => time_us(text).map(|us| us.saturating_mul(1000)),
            Hex => get_u32(text, 16).map(u64::from),
        }
    }

    fn text(self, value: u64) -> String {
        match self {
            Plain => value.to_string(),
            Packets => format!("{value}p"),
            Bytes => size_text(u32::try_from(value).unwrap_or(u32::MAX)),
            PlainBytes => format!("{value}b"),
            Rate => rate_text(value),
            Time => time_text(value),
            CodelTime => time_text(codel_us(value)),
            Nanoseconds => time_text(value / 1000),
            Seconds => format!("{value}sec"),
            Hex if value == 0 => "0".to_owned(),
            Hex => format!("{value:#x}"),
        }
    }

    fn json(self, value: u64) -> Value {
        match self {
            Plain | Packets | Bytes | PlainBytes | Rate | Time | Nanoseconds | Seconds => value.into(),
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
