//! Times in buckets, as a program in the kernel can count them, and as a histogram. The error is below 1/32.
//!
//! ```text
//! ns 0 … 31: a bucket each; then 32 buckets for each power of two, up to 2^32 ns (4.3 s)
//! ```

use hdrhistogram::Histogram;

/// Bits of a time below which every ns has its bucket.
pub const LINEAR_BITS: u32 = 5;
/// How many buckets there are.
pub const BUCKETS: u32 = (32 - LINEAR_BITS + 1) << LINEAR_BITS;

/// The bucket of a time in ns.
#[must_use]
pub const fn bucket(ns: u32) -> u32 {
    if ns < 1 << LINEAR_BITS {
        return ns;
    }
    let high = 31 - ns.leading_zeros();
    ((high - LINEAR_BITS + 1) << LINEAR_BITS) + ((ns >> (high - LINEAR_BITS)) & ((1 << LINEAR_BITS) - 1))
}

/// The middle of a bucket, in ns.
#[must_use]
pub const fn middle(bucket: u32) -> u64 {
    if bucket < 1 << LINEAR_BITS {
        return bucket as u64;
    }
    let power = (bucket >> LINEAR_BITS) - 1;
    let low = ((1u64 << LINEAR_BITS) + (bucket as u64 & ((1 << LINEAR_BITS) - 1))) << power;
    low + (1u64 << power) / 2
}

/// What people read of many times.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Percentiles {
    /// How many times there were.
    pub count: u64,
    /// In ns, as are all the others.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// The greatest.
    pub max: u64,
    /// For a curve: (quantile, ns), from the least to the greatest.
    pub curve: Vec<(f64, u64)>,
}

/// An empty histogram for times up to 100 s.
///
/// # Panics
/// Never: the bounds are right.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 100_000_000_000, 3).expect("the bounds of the histogram are right")
}

/// Quantiles of a curve: finer towards the end, where late frames are.
const CURVE: [f64; 14] = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999, 1.0];

impl Percentiles {
    /// Of a histogram in ns.
    #[must_use]
    pub fn of(times: &Histogram<u64>) -> Self {
        if times.is_empty() {
            return Self::default();
        }
        let at = |quantile| times.value_at_quantile(quantile);
        Self {
            count: times.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: times.max(),
            curve: CURVE.iter().map(|q| (*q, at(*q))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_near_the_middle_of_its_bucket() {
        let mut last = 0;
        for shift in 0..32 {
            for offset in [0u32, 1, 2, 7] {
                let ns = (1u32 << shift) + (u64::from(offset) * (1 << shift) / 8) as u32;
                let bucket = bucket(ns);
                assert!(bucket < BUCKETS && bucket >= last, "{ns}: {bucket} after {last}");
                last = bucket;
                let error = middle(bucket).abs_diff(u64::from(ns)) as f64 / f64::from(ns);
                assert!(error <= 1.0 / 32.0, "{ns}: {}", middle(bucket));
            }
        }
        assert_eq!(bucket(u32::MAX), BUCKETS - 1);
    }
}
