//! Which load a path carries without loss, or with little: a search over trials in the manner of MLRsearch (RFC 9971). It knows
//! no device and no clock; whoever owns it runs the trials, so that those of several paths can take turns.
//!
//! ```text
//! load ──▶ trial ──▶ offered, received ──▶ bounds of each goal ──▶ next load … until every goal's bounds are close and proven
//! ```

use super::stats::median;

/// A bound on lost frames, and what it is called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    /// `NDR`, `PDR`.
    pub name: &'static str,
    /// Lost frames per offered frame that still count as carried: 0.0 … 1.0.
    pub loss_ratio_max: f64,
}

/// No drop rate: not one frame lost (RFC 2544, section 26.1).
pub const NDR: Goal = Goal { name: "NDR", loss_ratio_max: 0.0 };
/// Partial drop rate: at most 0.5 % lost.
pub const PDR: Goal = Goal { name: "PDR", loss_ratio_max: 0.005 };

/// How a search is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Least load that is tried, frames per second.
    pub load_min: f64,
    /// Greatest load that is tried, frames per second.
    pub load_max: f64,
    /// The search of a goal ends when its bounds are this near: (upper − lower) / upper.
    pub width_max: f64,
    /// Trials that must agree about a lower bound before it is believed: a majority of twice as many less one.
    pub agreeing: u32,
    /// Trials in all; a search that needs more ends as it is and says so.
    pub trials_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { load_min: 1_000.0, load_max: 20_000_000.0, width_max: 0.05, agreeing: 2, trials_max: 24 }
    }
}

/// What one trial measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// Frames per second that were really offered.
    pub offered: f64,
    /// Frames per second that arrived.
    pub received: f64,
    /// Lost frames per offered frame.
    pub loss_ratio: f64,
}

/// The answer for one goal.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Bounds {
    /// The greatest load that was carried, frames per second; 0 if none was.
    pub lower: f64,
    /// The least load that was not, frames per second; absent if the greatest that could be offered was carried.
    pub upper: Option<f64>,
    /// Frames per second that arrived at the lower bound (conditional throughput): the median of its trials.
    pub rate: f64,
    /// Whether the bounds are as near and as well proven as was asked for.
    pub settled: bool,
}

#[derive(Clone, Debug)]
struct Load {
    asked: f64,
    trials: Vec<Trial>,
}

/// A search that is under way.
#[derive(Clone, Debug)]
pub struct Search {
    settings: Settings,
    goals: Vec<Goal>,
    /// Sorted by load.
    loads: Vec<Load>,
    trials: u32,
}

/// What the trials of a load say about a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Carried,
    Lost,
}

impl Search {
    /// A search that has no trial yet.
    #[must_use]
    pub fn new(settings: Settings, goals: &[Goal]) -> Self {
        Self { settings, goals: goals.to_vec(), loads: Vec::new(), trials: 0 }
    }

    /// The load of the next trial in frames per second; `None`: the search is over.
    #[must_use]
    pub fn next(&self) -> Option<f64> {
        if self.trials >= self.settings.trials_max {
            return None;
        }
        let Some(first) = self.loads.last() else { return Some(self.settings.load_max) };
        if self.loads.len() == 1 && first.trials.len() == 1 && first.trials[0].loss_ratio > 0.0 {
            // What arrives under overload is the best first guess.
            return Some(self.clamp(first.trials[0].received));
        }
        self.goals.iter().find_map(|goal| self.next_for(goal))
    }

    fn next_for(&self, goal: &Goal) -> Option<f64> {
        let (lower, upper) = self.bracket(goal);
        match (lower, upper) {
            (None, None) => Some(self.settings.load_max),
            (None, Some(upper)) if upper.asked <= self.settings.load_min => None,
            (None, Some(upper)) => Some(self.clamp(upper.asked / 2.0)),
            (Some(lower), Some(upper)) if upper.asked - lower.asked > upper.asked * self.settings.width_max => {
                Some((lower.asked * upper.asked).sqrt())
            }
            (Some(lower), _) => (!self.is_proven(lower, goal)).then_some(lower.asked),
        }
    }

    fn clamp(&self, load: f64) -> f64 {
        load.clamp(self.settings.load_min, self.settings.load_max)
    }

    /// The least load that was lost, and the greatest below it that was carried.
    fn bracket(&self, goal: &Goal) -> (Option<&Load>, Option<&Load>) {
        let upper = self.loads.iter().position(|l| verdict(l, goal) == Verdict::Lost);
        let below = &self.loads[..upper.unwrap_or(self.loads.len())];
        (below.last(), upper.map(|at| &self.loads[at]))
    }

    fn is_proven(&self, load: &Load, goal: &Goal) -> bool {
        carried(load, goal) >= self.settings.agreeing as usize
    }

    /// Takes the result of a trial at this load.
    pub fn feed(&mut self, asked: f64, trial: Trial) {
        self.trials += 1;
        match self.loads.iter_mut().find(|l| l.asked == asked) {
            Some(load) => load.trials.push(trial),
            None => {
                let at = self.loads.partition_point(|l| l.asked < asked);
                self.loads.insert(at, Load { asked, trials: vec![trial] });
            }
        }
    }

    /// Frames per second that arrived when as much as possible was offered.
    #[must_use]
    pub fn overload(&self) -> Option<f64> {
        self.loads.last().map(|l| median(&mut l.trials.iter().map(|t| t.received).collect::<Vec<f64>>()))
    }

    /// How many trials there were.
    #[must_use]
    pub fn trial_count(&self) -> u32 {
        self.trials
    }

    /// The answer for a goal, as far as it is known.
    #[must_use]
    pub fn bounds(&self, goal: &Goal) -> Bounds {
        let (lower, upper) = self.bracket(goal);
        let near = match (lower, upper) {
            (Some(lower), Some(upper)) => upper.asked - lower.asked <= upper.asked * self.settings.width_max,
            (Some(_), None) => true,
            (None, _) => false,
        };
        // What was offered, not what was asked for: a generator may not reach the load.
        let offered = |load: &Load| median(&mut load.trials.iter().map(|t| t.offered).collect::<Vec<f64>>());
        Bounds {
            lower: lower.map_or(0.0, offered),
            upper: upper.map(offered),
            rate: lower.map_or(0.0, |l| median(&mut l.trials.iter().map(|t| t.received).collect::<Vec<f64>>())),
            settled: near && lower.is_some_and(|l| self.is_proven(l, goal)),
        }
    }
}

fn carried(load: &Load, goal: &Goal) -> usize {
    load.trials.iter().filter(|t| t.loss_ratio <= goal.loss_ratio_max).count()
}

/// The majority; as many of either kind: lost.
fn verdict(load: &Load, goal: &Goal) -> Verdict {
    if carried(load, goal) * 2 > load.trials.len() { Verdict::Carried } else { Verdict::Lost }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    /// A path that carries `capacity` frames a second, and loses the rest.
    fn trial(asked: f64, generator_max: f64, capacity: f64) -> Trial {
        let offered = asked.min(generator_max);
        let received = offered.min(capacity);
        Trial { offered, received, loss_ratio: 1.0 - received / offered }
    }

    fn run(search: &mut Search, mut path: impl FnMut(f64) -> Trial) {
        while let Some(load) = search.next() {
            search.feed(load, path(load));
        }
    }

    #[test]
    fn the_capacity_of_a_steady_path_lies_between_its_bounds() {
        let settings = Settings::default();
        for capacity in [3_000.0, 80_000.0, 731_000.0, 4_100_000.0] {
            let mut search = Search::new(settings, &[PDR, NDR]);
            run(&mut search, |load| trial(load, 9e6, capacity));
            let (ndr, pdr) = (search.bounds(&NDR), search.bounds(&PDR));
            assert!(ndr.settled && pdr.settled, "{capacity}: {ndr:?} {pdr:?}");
            assert!(ndr.lower <= capacity && capacity <= ndr.upper.expect("it loses at most"), "{ndr:?}");
            assert!(pdr.lower <= capacity / 0.995 && pdr.lower >= ndr.lower, "{pdr:?}");
            assert!(ndr.lower >= capacity * (1.0 - 2.0 * settings.width_max), "{ndr:?}");
            assert!((search.overload().expect("it was overloaded") - capacity).abs() < 1.0);
        }
    }

    #[test]
    fn a_path_that_is_faster_than_the_generator_has_no_upper_bound() {
        let mut search = Search::new(Settings::default(), &[PDR, NDR]);
        run(&mut search, |load| trial(load, 2e6, 9e9));
        let ndr = search.bounds(&NDR);
        assert_eq!((ndr.lower, ndr.upper, ndr.settled), (2e6, None, true));
        assert!(search.trial_count() <= 4);
    }

    #[test]
    fn a_path_that_carries_nothing_ends_without_an_answer() {
        let mut search = Search::new(Settings::default(), &[PDR, NDR]);
        run(&mut search, |load| Trial { offered: load, received: 0.0, loss_ratio: 1.0 });
        assert_eq!(search.bounds(&NDR).lower, 0.0);
        assert!(!search.bounds(&NDR).settled);
    }

    #[test]
    fn a_noisy_path_ends_within_the_trials_and_says_what_it_is_worth() {
        let mut rng = SmallRng::seed_from_u64(7);
        for _ in 0..50 {
            let mut search = Search::new(Settings::default(), &[PDR, NDR]);
            run(&mut search, |load| {
                let capacity = 1e6 * rng.gen_range(0.7..1.1);
                trial(load, 9e6, capacity)
            });
            assert!(search.trial_count() <= Settings::default().trials_max);
            let ndr = search.bounds(&NDR);
            assert!(ndr.lower < 1.15e6, "{ndr:?}");
            assert!(!ndr.settled || ndr.lower > 4e5, "{ndr:?}");
        }
    }
}
