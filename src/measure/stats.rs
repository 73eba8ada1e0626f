//! Numbers with how far they can be trusted: medians, intervals, ratios of what was measured side by side. Plain arithmetic.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// How often the values are drawn anew for an interval (bootstrap).
const DRAWS: usize = 1_000;
/// Half of what lies outside of the interval: 2.5 % on either side.
const TAIL: f64 = 0.025;

/// A median with its 95 % interval (percentile bootstrap over the values).
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    /// The median; 0 of nothing.
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// How many values.
    pub count: usize,
}

impl Summary {
    /// Of these values. One value has no interval: low and high are the value.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let values: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        if values.is_empty() {
            return Self::default();
        }
        // The same values give the same interval.
        let mut rng = SmallRng::seed_from_u64(values.len() as u64);
        let mut drawn = vec![0.0; values.len()];
        let mut medians: Vec<f64> = (0..DRAWS)
            .map(|_| {
                drawn.iter_mut().for_each(|d| *d = values[rng.gen_range(0..values.len())]);
                median(&mut drawn)
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        let at = |share: f64| medians[((DRAWS - 1) as f64 * share) as usize];
        Self { median: median(&mut values.clone()), low: at(TAIL), high: at(1.0 - TAIL), count: values.len() }
    }

    /// Of the ratios of values that were measured in turns: the n-th of one to the n-th of the other. A machine that drifts does so
    /// for both.
    #[must_use]
    pub fn of_ratios(values: &[f64], to: &[f64]) -> Self {
        let ratios: Vec<f64> = values.iter().zip(to).filter(|(_, to)| **to > 0.0).map(|(v, to)| v / to).collect();
        Self::of(&ratios)
    }

    /// Width of the interval against the median; 0 of nothing.
    #[must_use]
    pub fn spread(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { (self.high - self.low) / self.median }
    }
}

/// The median; the mean of the two in the middle of an even number. Sorts.
#[must_use]
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(&mut []), 0.0);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn an_interval_holds_the_median_and_is_narrow_where_values_agree() {
        let near = Summary::of(&[10.0, 10.1, 9.9, 10.05, 9.95]);
        let far = Summary::of(&[10.0, 14.0, 6.0, 12.0, 8.0]);
        for summary in [near, far] {
            assert!(summary.low <= summary.median && summary.median <= summary.high, "{summary:?}");
        }
        assert!(near.spread() < 0.03 && far.spread() > 0.2, "{near:?} {far:?}");
        assert_eq!(Summary::of(&[7.0]), Summary { median: 7.0, low: 7.0, high: 7.0, count: 1 });
        assert_eq!(Summary::of(&[]), Summary::default());
    }

    #[test]
    fn a_drift_that_hurts_both_alike_leaves_the_ratio() {
        let one = [100.0, 50.0, 25.0];
        let other = [200.0, 100.0, 50.0];
        let ratio = Summary::of_ratios(&one, &other);
        assert_eq!((ratio.median, ratio.low, ratio.high), (0.5, 0.5, 0.5));
    }
}
