//! `police`, as an action and as the old word of a filter: parse, print. Rates and sizes are in [`units`].

pub(in crate::tc) mod units;

pub(in crate::tc) use units::size_for;
#[cfg(test)]
pub(in crate::tc) use units::xmit_time as ticks_of;

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::super::args::Args;
use super::super::error::{TcError, exit};
use super::super::listing::ListOptions;
use super::super::number::{get_integer, get_u16, get_u32, unsigned};
use super::{ActionParams, gact};
use crate::rules::Control;
use crate::rules::police::{Limit, Police, Rate};
use units::{cell_log, rate, rate_text, rate_text_iec, size, size_and_cell, size_text, xmit_size, xmit_time};

const USAGE: &[&str] = &[
    "Usage: ... police [ rate BPS burst BYTES[/BYTES] ] ",
    "\t\t[ pkts_rate RATE pkts_burst PACKETS ] [ mtu BYTES[/BYTES] ]",
    "\t\t[ peakrate BPS ] [ avrate BPS ] [ overhead BYTES ]",
    "\t\t[ linklayer TYPE ] [ CONTROL ]",
    "Where: CONTROL := conform-exceed <EXCEEDACT>[/NOTEXCEEDACT]",
    "\t\t  Define how to handle packets which exceed (<EXCEEDACT>)",
    "\t\t  or conform (<NOTEXCEEDACT>) the configured bandwidth limit.",
    "       EXCEEDACT/NOTEXCEEDACT := { pipe | ok | reclassify | drop | continue |",
    "\t\t\t\t   goto chain <CHAIN_INDEX> }",
];

/// The longest cell number of a rate table for packets of up to 2047 bytes: what the kernel takes as MTU without one.
const CELLS: u32 = 255;

/// `police` as written.
#[derive(Clone, Debug)]
pub struct PoliceSpec {
    /// What it does.
    pub police: Police,
    /// Why the kernel would not make it.
    pub refused: Option<Refused>,
}

/// What `tcf_police_init()` refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `avrate` without an estimator.
    Average,
    /// A rate table with cells of one byte.
    Cells,
    /// `goto chain` for what conforms.
    Fallback,
}

/// What has been read of it. 0 is "not given" to tc.
#[derive(Default)]
struct Reading {
    words: u32,
    index: u32,
    burst: u32,
    rate_cell: Option<u32>,
    mtu: u32,
    peak_cell: Option<u32>,
    mpu: u32,
    rate: u64,
    average: u64,
    peak: u64,
    exceed: Option<Control>,
    conform: Option<Control>,
    overhead: u16,
    atm: bool,
    packets: u64,
    packets_burst: u64,
}

/// `act_parse_police()`, tc/m_police.c: the current word is `police`.
///
/// # Errors
/// What tc says.
pub fn parse(args: &mut Args<'_>, compat: bool) -> Result<(ActionParams, u32), TcError> {
    let start = args.position();
    let mut reading = Reading::default();
    args.next_word()?;
    while args.word().is_some() {
        if !read(args, &mut reading)? {
            break;
        }
        reading.words += 1;
    }
    check(&reading).map_err(|(message, hint)| silent_or(message, start, hint))?;
    let index = reading.index;
    Ok((ActionParams::Police(spec(&reading, compat)), index))
}

/// tc ends here without a word of its own: only what its caller says is left.
fn silent_or(message: &str, token: usize, hint: &str) -> TcError {
    let mut error = TcError::parse(message, token, hint);
    error.messages.retain(|m| !m.is_empty());
    error
}

/// One word with what belongs to it; false when it is none of `police`.
fn read(args: &mut Args<'_>, reading: &mut Reading) -> Result<bool, TcError> {
    let Some(word) = args.word() else { return Ok(false) };
    let is_control = ["reclassify", "drop", "shot", "continue", "pass", "ok", "pipe", "goto"];
    match word {
        _ if args.matches("index") => reading.index = number(args, "index", |t| get_u32(t, 10))?,
        _ if args.matches("burst") || matches!(word, "buffer" | "maxburst") => {
            let (burst, cell) = once(args, reading.burst != 0, "buffer/burst", "buffer", size_and_cell)?;
            (reading.burst, reading.rate_cell) = (burst, cell.or(reading.rate_cell));
        }
        "mtu" | "minburst" => {
            let (mtu, cell) = once(args, reading.mtu != 0, "mtu/minburst", "mtu", size_and_cell)?;
            (reading.mtu, reading.peak_cell) = (mtu, cell.or(reading.peak_cell));
        }
        "mpu" => reading.mpu = once(args, reading.mpu != 0, "mpu", "mpu", size)?,
        "rate" => reading.rate = once(args, reading.rate != 0, "rate", "rate", rate)?,
        "avrate" => reading.average = once(args, reading.average != 0, "avrate", "avrate", average)?,
        _ if args.matches("peakrate") => reading.peak = once(args, reading.peak != 0, "peakrate", "peakrate", rate)?,
        _ if is_control.iter().any(|control| args.matches(control)) => {
            reading.exceed = Some(gact::parse_control(args)?);
            return Ok(true);
        }
        "conform-exceed" => {
            args.next_word()?;
            conform_exceed(args, reading)?;
            return Ok(true);
        }
        _ if args.matches("overhead") => reading.overhead = number(args, "overhead", |t| get_u16(t, 10))?,
        _ if args.matches("linklayer") => reading.atm = number(args, "linklayer", link_layer)?,
        _ if args.matches("pkts_rate") => {
            let decimal = |t: &str| unsigned(t, 10);
            reading.packets = once(args, reading.packets != 0, "pkts_rate", "pkts_rate", decimal)?;
        }
        _ if args.matches("pkts_burst") => {
            let decimal = |t: &str| unsigned(t, 10);
            reading.packets_burst = once(args, reading.packets_burst != 0, "pkts_burst", "pkts_burst", decimal)?;
        }
        "help" => {
            let mut error = TcError::usage(USAGE[0], args.position(), "write police rate 1mbit burst 10k drop");
            error.messages.extend(USAGE[1..].iter().map(|s| (*s).to_owned()));
            return Err(error);
        }
        _ => return Ok(false),
    }
    args.skip();
    Ok(true)
}

/// `get_rate()`: as [`rate`], in 32 bits.
fn average(text: &str) -> Option<u64> {
    rate(text).filter(|rate| u32::try_from(*rate).is_ok())
}

/// `get_linklayer()`: whether packets take whole ATM cells.
fn link_layer(text: &str) -> Option<bool> {
    use super::super::number::matches;
    let known = [("ethernet", false), ("atm", true), ("adsl", true)];
    known.into_iter().find(|(name, _)| matches(text, name)).map(|(_, atm)| atm)
}

fn number<T>(args: &mut Args<'_>, name: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, TcError> {
    let text = args.next_word()?;
    let hint = match name {
        "linklayer" => "use ethernet, atm or adsl",
        "rate" | "peakrate" | "avrate" => "write a rate as 1mbit, 8kbit, 100bit, 10KBps",
        "buffer" | "mtu" | "mpu" => "write a size in bytes, or as 10k, 2mb",
        _ => "a number is expected here",
    };
    read(text).ok_or_else(|| TcError::invalid_argument(name, text, args.position(), hint))
}

/// A value that may be given once; 0 counts as not given.
fn once<T>(
    args: &mut Args<'_>,
    given: bool,
    what: &str,
    name: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<T, TcError> {
    if given {
        let text = args.next_word()?;
        let message = format!("Error: duplicate \"{what}\": \"{text}\" is the second value.");
        return Err(TcError::usage(message, args.position(), "give it once"));
    }
    number(args, name, read)
}

/// `parse_action_control_slash()`: `EXCEED`, `EXCEED/CONFORM` or `EXCEED / CONFORM`.
fn conform_exceed(args: &mut Args<'_>, reading: &mut Reading) -> Result<(), TcError> {
    let word = args.word().unwrap_or_default();
    let hint = "write conform-exceed EXCEED/CONFORM, like drop/pipe";
    if let Some((exceed, conform)) = word.split_once('/') {
        let both = control_or_number(exceed).zip(control_or_number(conform));
        let (exceed, conform) = both.ok_or_else(|| silent_or("", args.position(), hint))?;
        (reading.exceed, reading.conform) = (Some(exceed), Some(conform));
        args.skip();
        return Ok(());
    }
    reading.exceed = Some(numbered(args)?);
    if args.is("/") {
        args.next_word()?;
        reading.conform = Some(numbered(args)?);
    }
    Ok(())
}

/// A control, or its number.
fn numbered(args: &mut Args<'_>) -> Result<Control, TcError> {
    let number = args.word().filter(|w| gact::control_word(w).is_none()).and_then(control_or_number);
    let Some(control) = number else { return gact::parse_control(args) };
    args.skip();
    Ok(control)
}

/// `action_a2n()` with numbers allowed: `TC_ACT_*` of include/uapi/linux/pkt_cls.h.
fn control_or_number(word: &str) -> Option<Control> {
    if let Some(control) = gact::control_word(word) {
        return Some(control);
    }
    Some(match get_integer(word)? {
        -1 => Control::Continue,
        0 => Control::Pass,
        1 => Control::Reclassify,
        2 => Control::Shot,
        3 => Control::Pipe,
        4 => Control::Stolen,
        5 => Control::Queued,
        8 => Control::Trap,
        _ => return None,
    })
}

/// What tc checks when all words are read: its message (or none) and a hint.
fn check(reading: &Reading) -> Result<(), (&'static str, &'static str)> {
    let Reading { rate, average, peak, burst, mtu, packets, packets_burst, .. } = *reading;
    let has_limit = rate != 0 || average != 0 || reading.index != 0 || mtu != 0 || packets != 0;
    let none = "'rate' or 'avrate' or 'mtu' or 'pkts_rate' MUST be specified.";
    let both = "'rate' and 'pkts_rate' are not allowed in same action.";
    match () {
        () if reading.words == 0 => Err(("", "say police rate RATE burst BYTES")),
        () if rate != 0 && average != 0 => Err(("", "give rate or avrate, not both")),
        () if !has_limit => Err((none, "say police rate RATE burst BYTES, or mtu BYTES, or pkts_rate N pkts_burst N")),
        () if rate != 0 && burst == 0 => Err(("'burst' requires 'rate'.", "add burst BYTES")),
        () if packets != 0 && packets_burst == 0 => Err(("'pkts_burst' requires 'pkts_rate'.", "add pkts_burst N")),
        () if packets != 0 && rate != 0 => Err((both, "use two police actions")),
        () if peak != 0 && rate == 0 => Err(("'peakrate' requires 'rate'.", "add rate RATE")),
        () if peak != 0 && mtu == 0 => {
            Err(("'mtu' is required, if 'peakrate' is requested.", "add mtu BYTES: it is what a peak may hold"))
        }
        () => Ok(()),
    }
}

/// What tc asks the kernel for, and what `tcf_police_init()` makes of it.
fn spec(reading: &Reading, compat: bool) -> PoliceSpec {
    let spec =
        |bytes_per_s| Rate { bytes_per_s, overhead: reading.overhead, mpu: reading.mpu as u16, atm: reading.atm };
    let cells = |cell: Option<u32>| cell.unwrap_or_else(|| cell_log(reading.mtu));
    let conform = reading.conform.unwrap_or(Control::Pass);
    let mut refused = None;
    let limit = if reading.rate != 0 {
        let tables = [Some(cells(reading.rate_cell)), (reading.peak != 0).then(|| cells(reading.peak_cell))];
        if tables.into_iter().flatten().any(|cell| cell == 0 || cell >= 32) {
            refused = Some(Refused::Cells);
        }
        Limit::Bytes {
            rate: spec(reading.rate),
            burst_ticks: xmit_time(reading.rate, reading.burst),
            peak: (reading.peak != 0).then(|| spec(reading.peak)),
        }
    } else if reading.packets != 0 {
        Limit::Packets { per_s: reading.packets, burst_ticks: xmit_time(reading.packets, reading.packets_burst as u32) }
    } else {
        Limit::None
    };
    if reading.average != 0 {
        refused = refused.or(Some(Refused::Average));
    } else if matches!(conform, Control::GotoChain(_)) {
        refused = refused.or(Some(Refused::Fallback));
    }
    let mtu = match (reading.mtu, reading.rate) {
        (0, 0) => u32::MAX,
        (0, _) => CELLS.wrapping_shl(cells(reading.rate_cell)),
        (mtu, _) => mtu,
    };
    let exceed = reading.exceed.unwrap_or(Control::Reclassify);
    PoliceSpec { police: Police { mtu, limit, exceed, conform, compat }, refused }
}

impl Refused {
    /// The kernel's answer.
    #[must_use]
    pub fn error(self) -> TcError {
        match self {
            Self::Average => {
                TcError::errno("Invalid argument", "avrate needs an estimator, which viscum has not: use rate")
            }
            Self::Cells => {
                TcError::errno("Cannot allocate memory", "with a rate, an mtu of 256 bytes or more is needed, or none")
            }
            Self::Fallback => {
                TcError::kernel("goto chain not allowed on fallback", "what conforms can pass, pipe, continue or drop")
            }
        }
    }
}

/// What stands between `action order N:` and the times.
#[must_use]
pub fn text(police: &Police, index: u32, (refs, binds): (u32, u32), options: &ListOptions) -> String {
    let mut out = format!(" police 0x{index:x} ");
    let rate_text = |rate| if options.iec { rate_text_iec(rate) } else { rate_text(rate) };
    let (rate, ticks, overhead) = match police.limit {
        Limit::Bytes { rate, burst_ticks, .. } => (rate.bytes_per_s, burst_ticks, rate.overhead),
        Limit::None | Limit::Packets { .. } => (0, 0, 0),
    };
    let burst = if rate == 0 { 0 } else { xmit_size(rate, ticks) };
    let _ = write!(out, "rate {} burst {} mtu {} ", rate_text(rate), size_text(burst), size_text(police.mtu));
    if options.raw {
        let _ = write!(out, "[{ticks:08x}] ");
    }
    if let Limit::Bytes { peak: Some(peak), .. } = police.limit {
        let _ = write!(out, "peakrate {} ", rate_text(peak.bytes_per_s));
    }
    if let Limit::Packets { per_s, burst_ticks } = police.limit {
        let _ = write!(out, "pkts_rate {per_s} pkts_burst {} ", xmit_size(per_s, burst_ticks));
    }
    let _ = write!(out, "action {}", gact::control_text(police.exceed));
    if police.conform != Control::Pass {
        let _ = write!(out, "/{}", gact::control_text(police.conform));
    }
    let _ = write!(out, " overhead {} ", size_text(overhead.into()));
    if let Some(layer) = shown_layer(police, options) {
        let _ = write!(out, "linklayer {layer} ");
    }
    let _ = write!(out, "\n\tref {refs} bind {binds} ");
    out
}

/// The link layer, where tc tells it: Ethernet only with `-d`.
fn shown_layer(police: &Police, options: &ListOptions) -> Option<&'static str> {
    match police.limit {
        Limit::Bytes { rate, .. } if rate.atm => Some("atm"),
        Limit::Bytes { .. } => options.details.then_some("ethernet"),
        Limit::None | Limit::Packets { .. } => options.details.then_some("unspec"),
    }
}

/// Its JSON up to `bind`. tc prints two controls under one name: here they are a list.
pub fn json(
    police: &Police,
    index: u32,
    (refs, binds): (u32, u32),
    options: &ListOptions,
    out: &mut Map<String, Value>,
) {
    out.insert("index".to_owned(), index.into());
    if let Limit::Packets { per_s, burst_ticks } = police.limit {
        out.insert("pkts_rate".to_owned(), per_s.into());
        out.insert("pkts_burst".to_owned(), xmit_size(per_s, burst_ticks).into());
    }
    let exceed = gact::control_json(police.exceed);
    let control = match police.conform {
        Control::Pass => exceed,
        conform @ (Control::Pipe
        | Control::Continue
        | Control::Reclassify
        | Control::Shot
        | Control::Stolen
        | Control::Queued
        | Control::Trap
        | Control::Jump(_)
        | Control::GotoChain(_)) => Value::Array(vec![exceed, gact::control_json(conform)]),
    };
    out.insert("control_action".to_owned(), control);
    let overhead = match police.limit {
        Limit::Bytes { rate, .. } => rate.overhead,
        Limit::None | Limit::Packets { .. } => 0,
    };
    out.insert("overhead".to_owned(), overhead.into());
    if let Some(layer) = shown_layer(police, options) {
        out.insert("linklayer".to_owned(), layer.into());
    }
    out.insert("ref".to_owned(), refs.into());
    out.insert("bind".to_owned(), binds.into());
}

/// The old word `police` of a filter: the current word is `police`.
///
/// # Errors
/// What tc says, with `Illegal "police"` behind it.
pub fn parse_old(args: &mut Args<'_>) -> Result<(ActionParams, u32), TcError> {
    parse(args, true).map_err(|error| match error.exit_code {
        exit::PARSE => error.then("Illegal \"police\""),
        _ => error,
    })
}
