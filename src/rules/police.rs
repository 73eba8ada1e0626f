//! `police`: token buckets as net/sched/act_police.c keeps them. Times are nanoseconds on the counters' clock; it reads no clock.

use super::Control;

/// How many units pass in a second, as the kernel computes with it: `psched_ratecfg_precompute__()`, net/sched/sch_generic.c.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scale {
    mult: u32,
    shift: u8,
}

impl Scale {
    fn new(per_second: u64) -> Self {
        let mut factor: u64 = 1_000_000_000;
        let mut shift = 0;
        loop {
            let mult = (factor / per_second.max(1)) as u32;
            if mult & 1 << 31 != 0 || factor & 1 << 63 != 0 {
                return Self { mult, shift };
            }
            factor <<= 1;
            shift += 1;
        }
    }

    /// Nanoseconds that so many units take.
    const fn ns(self, units: u64) -> i64 {
        ((units.wrapping_mul(self.mult as u64)) >> self.shift) as i64
    }
}

/// A rate of bytes: `struct tc_ratespec`, include/uapi/linux/pkt_sched.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bytes per second, at least 1.
    pub bytes_per_s: u64,
    /// Bytes that each packet counts more than it has.
    pub overhead: u16,
    /// The least that a packet counts, in bytes.
    pub mpu: u16,
    /// A packet takes whole ATM cells: 53 bytes for 48 each.
    pub atm: bool,
}

/// What a policer lets by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Whatever is not longer than the MTU.
    None,
    /// Bytes: `rate` and `burst`.
    Bytes {
        /// The rate.
        rate: Rate,
        /// What the bucket holds, in ticks of 64 ns at this rate.
        burst_ticks: u32,
        /// `peakrate`: a second bucket, which holds one MTU.
        peak: Option<Rate>,
    },
    /// Packets: `pkts_rate` and `pkts_burst`.
    Packets {
        /// Packets per second, at least 1.
        per_s: u64,
        /// What the bucket holds, in ticks of 64 ns at this rate.
        burst_ticks: u32,
    },
}

/// `police`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Police {
    /// The longest packet that conforms, in bytes with its MAC header; `u32::MAX`: any.
    pub mtu: u32,
    /// See [`Limit`].
    pub limit: Limit,
    /// How to go on with what exceeds.
    pub exceed: Control,
    /// How to go on with what conforms.
    pub conform: Control,
    /// Made by the old word `police` of a filter, not by `action police`.
    pub compat: bool,
}

/// A policer ready to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policer {
    /// See [`Police::mtu`].
    pub mtu: u32,
    /// See [`Police::exceed`].
    pub exceed: Control,
    /// See [`Police::conform`].
    pub conform: Control,
    /// The buckets; `None`: only the MTU counts.
    pub buckets: Option<Buckets>,
}

/// The size of the buckets and what a packet costs, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets {
    burst: i64,
    cost: Cost,
    peak: Option<(i64, Cost)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cost {
    Bytes { scale: Scale, overhead: u16, mpu: u16, atm: bool },
    Packet { ns: i64 },
}

impl Cost {
    fn of(rate: Rate) -> Self {
        let Rate { bytes_per_s, overhead, mpu, atm } = rate;
        Self::Bytes { scale: Scale::new(bytes_per_s), overhead, mpu, atm }
    }

    /// `psched_l2t_ns()`, `psched_pkt2t_ns()`, include/net/sch_generic.h.
    fn ns(self, bytes: u32) -> i64 {
        match self {
            Self::Packet { ns } => ns,
            Self::Bytes { scale, overhead, mpu, atm } => {
                let len = bytes.wrapping_add(overhead.into()).max(mpu.into());
                scale.ns(if atm { u64::from(len.div_ceil(48).wrapping_mul(53)) } else { len.into() })
            }
        }
    }
}

impl Police {
    /// With all that does not depend on a packet worked out (`tcf_police_init()`).
    #[must_use]
    pub fn policer(&self) -> Policer {
        let ticks = |ticks: u32| i64::from(ticks) << 6;
        let buckets = match self.limit {
            Limit::None => None,
            Limit::Bytes { rate, burst_ticks, peak } => {
                let peak = peak.map(Cost::of).map(|cost| (cost.ns(self.mtu), cost));
                Some(Buckets { burst: ticks(burst_ticks), cost: Cost::of(rate), peak })
            }
            Limit::Packets { per_s, burst_ticks } => {
                let cost = Cost::Packet { ns: Scale::new(per_s).ns(1) };
                Some(Buckets { burst: ticks(burst_ticks), cost, peak: None })
            }
        };
        Policer { mtu: self.mtu, exceed: self.exceed, conform: self.conform, buckets }
    }
}

/// What is in the buckets of a policer: it starts full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// When they were last taken from; 0: never.
    pub at: i64,
    /// Then left in the first bucket, in nanoseconds.
    pub left: i64,
    /// Then left in the second.
    pub peak: i64,
}

impl Buckets {
    /// Takes what a packet costs, at `now` (at least 1): what is left then, or nothing if there is not enough (`tcf_police_act()`).
    #[must_use]
    pub fn take(&self, tokens: Tokens, now: i64, bytes: u32) -> Option<Tokens> {
        let since = (now - tokens.at).min(self.burst);
        let fresh = tokens.at == 0;
        let held = if fresh { self.burst } else { (tokens.left + since).min(self.burst) };
        let left = held - self.cost.ns(bytes);
        let peak = match self.peak {
            Some((full, cost)) => {
                let held = if fresh { full } else { (tokens.peak + since).min(full) };
                held - cost.ns(bytes)
            }
            None => 0,
        };
        (left | peak >= 0).then_some(Tokens { at: now, left, peak })
    }
}
