//! `police`: `struct tc_police` and its rates, include/uapi/linux/pkt_cls.h; net/sched/act_police.c.

use super::super::attr::{Attrs, Fields, Put};
use super::super::{Lacking, control};
use super::{General, Options};
use crate::rules::police::{Limit, Police, Rate};
use crate::rules::{Action, Control};

const TBF: u16 = 1;
const RATE: u16 = 2;
const PEAKRATE: u16 = 3;
const AVRATE: u16 = 4;
const RESULT: u16 = 5;
const RATE64: u16 = 8;
const PEAKRATE64: u16 = 9;
const PKTRATE64: u16 = 10;
const PKTBURST64: u16 = 11;

/// `TC_LINKLAYER_*`.
const LINKLAYER_ETHERNET: u8 = 1;
const LINKLAYER_ATM: u8 = 2;
/// Entries of a rate table.
const TABLE_LEN: usize = 256;
/// The kernel's unit of burst: ticks of 64 ns (`PSCHED_SHIFT`).
const TICKS_PER_US: f64 = 15.625;

pub(super) fn decode(attrs: &Attrs<'_>, compat: bool) -> Options {
    match attrs.need(TBF).and_then(parameters) {
        Ok((general, parameters)) => (Some(general), police(attrs, general.control, &parameters, compat)),
        Err(error) => (None, Err(error)),
    }
}

struct Parameters {
    burst: u32,
    mtu: u32,
    rate: RateSpec,
    peak: RateSpec,
}

/// `struct tc_ratespec`.
struct RateSpec {
    atm: bool,
    overhead: u16,
    mpu: u16,
    rate: u32,
}

fn parameters(bytes: &[u8]) -> Result<(General, Parameters), Lacking> {
    let mut fields = Fields::new(bytes, "police");
    let (index, control, _limit) = (fields.u32()?, fields.i32()?, fields.u32()?);
    let (burst, mtu) = (fields.u32()?, fields.u32()?);
    let (rate, peak) = (rate_spec(&mut fields)?, rate_spec(&mut fields)?);
    let general = General { index, control, refs: fields.u32()?, binds: fields.u32()? };
    Ok((general, Parameters { burst, mtu, rate, peak }))
}

fn rate_spec(fields: &mut Fields<'_>) -> Result<RateSpec, Lacking> {
    let (_cell_log, layer, overhead) = (fields.u8()?, fields.u8()?, fields.u16()?);
    let (_align, mpu, rate) = (fields.i16()?, fields.u16()?, fields.u32()?);
    Ok(RateSpec { atm: layer & 0xf == LINKLAYER_ATM, overhead, mpu, rate })
}

fn police(attrs: &Attrs<'_>, exceed: i32, parameters: &Parameters, compat: bool) -> Result<Action, Lacking> {
    if attrs.get(AVRATE).is_some() {
        return Err(Lacking("police avrate".to_owned()));
    }
    let rate = |spec: &RateSpec, wide: Option<u64>| Rate {
        bytes_per_s: wide.unwrap_or(spec.rate.into()),
        overhead: spec.overhead,
        mpu: spec.mpu,
        atm: spec.atm,
    };
    let limit = if let Some(per_s) = attrs.u64(PKTRATE64)? {
        let burst = attrs.u64(PKTBURST64)?.unwrap_or(0);
        let burst_ticks = u32::try_from(burst).map_err(|_| Lacking(format!("police pkts_burst of {burst} ticks")))?;
        Limit::Packets { per_s, burst_ticks }
    } else if parameters.rate.rate != 0 {
        let peak = (parameters.peak.rate != 0).then_some(&parameters.peak);
        let peak = peak.map(|spec| Ok(rate(spec, attrs.u64(PEAKRATE64)?))).transpose()?;
        Limit::Bytes { rate: rate(&parameters.rate, attrs.u64(RATE64)?), burst_ticks: parameters.burst, peak }
    } else {
        Limit::None
    };
    let conform = attrs.u32(RESULT)?.map_or(Ok(Control::Pass), |number| control::decode(number.cast_signed()))?;
    let exceed = control::decode(exceed)?;
    Ok(Action::Police(Police { mtu: parameters.mtu, limit, exceed, conform, compat }))
}

/// The cells of a rate table for packets up to an MTU, as tc chooses them (`tc_calc_rtable()`, tc/tc_core.c), at least 2 bytes: the
/// kernel refuses tables with cells of one byte.
const fn cell_log(mtu: u32) -> u8 {
    let mtu = if mtu == 0 || mtu == u32::MAX { 2047 } else { mtu };
    let mut log = 1;
    while mtu >> log > 255 {
        log += 1;
    }
    log
}

pub(super) fn encode(police: &Police, index: u32, put: &mut Put) {
    let mut bytes = [index, control::encode(police.exceed).cast_unsigned(), 0].map(u32::to_ne_bytes).concat();
    let (burst, rates) = match police.limit {
        Limit::Bytes { rate, burst_ticks, peak } => (burst_ticks, [Some(rate), peak]),
        Limit::None | Limit::Packets { .. } => (0, [None, None]),
    };
    let mtu = police.mtu;
    bytes.extend([burst, mtu].map(u32::to_ne_bytes).concat());
    for (rate, table, wide) in [(rates[0], RATE, RATE64), (rates[1], PEAKRATE, PEAKRATE64)] {
        let Some(rate) = rate else {
            bytes.extend([0; 12]);
            continue;
        };
        let layer = if rate.atm { LINKLAYER_ATM } else { LINKLAYER_ETHERNET };
        let short = u32::try_from(rate.bytes_per_s).unwrap_or(u32::MAX);
        bytes.extend([cell_log(mtu), layer]);
        bytes.extend(rate.overhead.to_ne_bytes());
        bytes.extend((-1i16).to_ne_bytes());
        bytes.extend(rate.mpu.to_ne_bytes());
        bytes.extend(short.to_ne_bytes());
        put.bytes(table, &rate_table(rate, cell_log(mtu)));
        if rate.bytes_per_s > u32::MAX.into() {
            put.u64(wide, rate.bytes_per_s);
        }
    }
    bytes.extend([0; 12]);
    put.bytes(TBF, &bytes);
    if let Limit::Packets { per_s, burst_ticks } = police.limit {
        put.u64(PKTRATE64, per_s).u64(PKTBURST64, burst_ticks.into());
    }
    if police.conform != Control::Pass {
        put.u32(RESULT, control::encode(police.conform).cast_unsigned());
    }
}

/// The time in ticks that packets of each cell take. The kernel only wants it to be there.
fn rate_table(rate: Rate, cell_log: u8) -> Vec<u8> {
    let ticks = |at: usize| {
        let size = ((at + 1) << cell_log).max(rate.mpu.into());
        let us = (1e6 * (size as f64 / rate.bytes_per_s.max(1) as f64)) as u32;
        (f64::from(us) * TICKS_PER_US) as u32
    };
    (0..TABLE_LEN).flat_map(|at| ticks(at).to_ne_bytes()).collect()
}
