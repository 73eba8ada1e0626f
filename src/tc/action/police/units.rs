//! Rates, sizes and times as tc reads, computes and prints them (lib/utils_math.c, lib/json_print_math.c, tc/tc_core.c). No grammar.

use crate::tc::number::get_integer;

/// Ticks of 64 ns in a microsecond, as /proc/net/psched tells tc.
const TICKS_PER_US: f64 = 15.625;
const US_PER_S: f64 = 1_000_000.0;

/// Suffixes of rates, in bits.
const RATES: [(&str, f64); 18] = [
    ("bit", 1.0),
    ("kibit", 1024.0),
    ("kbit", 1e3),
    ("mibit", 1_048_576.0),
    ("mbit", 1e6),
    ("gibit", 1_073_741_824.0),
    ("gbit", 1e9),
    ("tibit", 1_099_511_627_776.0),
    ("tbit", 1e12),
    ("bps", 8.0),
    ("kibps", 8192.0),
    ("kbps", 8e3),
    ("mibps", 8_388_608.0),
    ("mbps", 8e6),
    ("gibps", 8_589_934_592.0),
    ("gbps", 8e9),
    ("tibps", 8_796_093_022_208.0),
    ("tbps", 8e12),
];

/// Suffixes of sizes, in bytes.
const SIZES: [(&str, f64); 10] = [
    ("kb", 1024.0),
    ("k", 1024.0),
    ("gb", 1_073_741_824.0),
    ("g", 1_073_741_824.0),
    ("gbit", 134_217_728.0),
    ("mb", 1_048_576.0),
    ("m", 1_048_576.0),
    ("mbit", 131_072.0),
    ("kbit", 128.0),
    ("b", 1.0),
];

/// `strtod()` of a number, or of whole digits behind `0x`: it and what is behind it.
fn decimal(text: &str) -> Option<(f64, &str)> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let end = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
        return u64::from_str_radix(&hex[..end], 16).ok().map(|value| (value as f64, &hex[end..]));
    }
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    let mut end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let exponent = text[end..].strip_prefix(['e', 'E']).map(|rest| rest.strip_prefix(['+', '-']).unwrap_or(rest));
    let digits = exponent.map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    if let (Some(rest), 1..) = (exponent, digits) {
        end = text.len() - rest.len() + digits;
    }
    text[..end].parse().ok().map(|value| (value, &text[end..]))
}

fn scaled(text: &str, suffixes: &[(&str, f64)]) -> Option<f64> {
    let (value, suffix) = decimal(text)?;
    if suffix.is_empty() {
        return Some(value);
    }
    suffixes.iter().find(|(name, _)| name.eq_ignore_ascii_case(suffix)).map(|(_, scale)| value * scale)
}

/// `get_rate64()`: bytes per second.
pub fn rate(text: &str) -> Option<u64> {
    scaled(text, &RATES).map(|bits| (bits / 8.0) as u64)
}

/// `get_size()`: bytes.
pub fn size(text: &str) -> Option<u32> {
    scaled(text, &SIZES).filter(|size| *size < 4_294_967_296.0).map(|size| size as u32)
}

/// `get_size_and_cell()`: `BYTES`, or `BYTES/CELL` with the cell's logarithm.
pub fn size_and_cell(text: &str) -> Option<(u32, Option<u32>)> {
    match text.split_once('/') {
        None => size(text).map(|size| (size, None)),
        Some((bytes, cell)) => {
            let cell = u32::from_ne_bytes(get_integer(cell)?.to_ne_bytes());
            cell.is_power_of_two().then(|| cell.trailing_zeros()).and_then(|log| Some((size(bytes)?, Some(log))))
        }
    }
}

/// The cells that a rate table for packets of this length has: `tc_calc_rtable()`.
pub const fn cell_log(mtu: u32) -> u32 {
    let mtu = if mtu == 0 { 2047 } else { mtu };
    let mut log = 0;
    while mtu >> log > 255 {
        log += 1;
    }
    log
}

/// `tc_calc_xmittime()`: ticks. What is more than 32 bits is lost there, and here.
pub fn xmit_time(per_s: u64, size: u32) -> u32 {
    let us = (US_PER_S * (f64::from(size) / per_s as f64)) as u64 as u32;
    (f64::from(us) * TICKS_PER_US) as u64 as u32
}

/// A size that [`xmit_time`] makes these ticks of; `None`: there is none, so tc did not make them.
pub fn size_for(per_s: u64, ticks: u32) -> Option<u32> {
    let first = (f64::from(ticks) / TICKS_PER_US) as u32;
    let sizes = (first..=first.saturating_add(1)).flat_map(|us| {
        let near = (per_s as f64 * f64::from(us) / US_PER_S) as u64 as u32;
        near.saturating_sub(1)..=near.saturating_add(2)
    });
    sizes.into_iter().find(|size| *size > 0 && xmit_time(per_s, *size) == ticks)
}

/// `tc_calc_xmitsize()`.
pub fn xmit_size(per_s: u64, ticks: u32) -> u32 {
    let us = (f64::from(ticks) / TICKS_PER_US) as u32;
    (per_s as f64 * f64::from(us) / US_PER_S) as u64 as u32
}

/// `print_rate()`: bits per second.
pub fn rate_text(bytes_per_s: u64) -> String {
    in_units(bytes_per_s << 3, 1000, "")
}

/// The same with `-iec`.
pub fn rate_text_iec(bytes_per_s: u64) -> String {
    in_units(bytes_per_s << 3, 1024, "i")
}

fn in_units(mut rate: u64, kilo: u64, suffix: &str) -> String {
    let units = ["", "K", "M", "G", "T"];
    let mut unit = 0;
    while unit < units.len() - 1 && rate >= kilo && (rate.is_multiple_of(kilo) || rate >= 1000 * kilo) {
        rate /= kilo;
        unit += 1;
    }
    let suffix = if unit == 0 { "" } else { suffix };
    format!("{rate}{}{suffix}bit", units[unit])
}

/// `sprint_size()`.
pub fn size_text(size: u32) -> String {
    let (kilo, mega) = (1024.0, 1_048_576.0);
    let exact = f64::from(size);
    let near = |unit: f64| (exact / unit).round_ties_even();
    if exact >= mega && (mega * near(mega) - exact).abs() < 1024.0 {
        format!("{}Mb", near(mega))
    } else if exact >= kilo && (kilo * near(kilo) - exact).abs() < 16.0 {
        format!("{}Kb", near(kilo))
    } else {
        format!("{size}b")
    }
}
