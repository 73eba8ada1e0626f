//! Options of qdiscs that viscum only remembers: read, merged by `change`, and shown as tc shows them. They have no effect.
//!
//! Those of common kinds are known with their defaults; of the others the words are kept as they were given. Defaults that depend on
//! a device's MTU are those for 1500 bytes, those that depend on its queue for 1000 packets.

use serde_json::{Map, Value, json};

use super::super::args::Args;
use super::super::command::Word;
use super::super::error::TcError;
use super::super::number::{get_u32, matches};
use super::kinds::{Field, Flag, Kind, kind_of};

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
            let usage = [
                "Usage: ... tbf limit BYTES burst BYTES[/BYTES] rate KBPS [ mtu BYTES[/BYTES] ]",
                "\t[ peakrate KBPS ] [ latency TIME ] [ overhead BYTES ] [ linklayer TYPE ]",
            ];
            let error = TcError::parse(text, args.position(), "say latency 50ms");
            return Err(usage.into_iter().fold(error, TcError::then));
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
            let mut error = TcError::errno("Invalid argument", hint);
            error.messages.truncate(1);
            return Err(error);
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
            let flags = known.flags.iter().filter(|(place, _)| *place == at).map(|(_, f)| self.shown_flag(f));
            parts.extend(flags.flatten().map(str::to_owned));
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
            let flags = known.flags.iter().filter(|(place, _)| *place == at).filter_map(|(_, f)| self.shown_flag(f));
            for flag in flags {
                let (name, value) = match flag {
                    "nopacing" => ("pacing", false.into()),
                    "horizon_drop" | "horizon_cap" => (flag, Value::Null),
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

    /// The word that is shown for a flag: of one both words are.
    fn shown_flag(&self, flag: &Flag) -> Option<&'static str> {
        match (self.is_on(flag), flag.1) {
            (true, _) => Some(flag.0),
            (false, "horizon_cap") => Some(flag.1),
            (false, _) => None,
        }
    }

    fn value(&self, field: &Field) -> Option<u64> {
        self.numbers.iter().find(|(name, _)| *name == field.0).map(|(_, value)| *value).or(field.2)
    }
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
