//! What is in the buckets of policers, for all workers together: atomics without locks. It knows no rule and reads no clock.
//!
//! The first bucket is one word, the time at which it would have been empty: a bucket that holds `burst` has at `now` the lesser of
//! `now` less that time, and `burst`. So several workers take from it exactly. The second bucket (`peakrate`) is two more words, which
//! are not changed together with it: workers that take at the same time may let by one packet more each than its rate allows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::plan::{Buckets, Tokens};

/// Nothing was taken yet.
const FRESH: i64 = i64::MIN;
/// How often a worker tries again because others took at the same time; beyond it the packet exceeds.
const TRIES_MAX: u32 = 256;

/// The tokens of one policer.
#[derive(Debug)]
pub struct SharedTokens {
    empty_at: AtomicI64,
    at: AtomicI64,
    peak: AtomicI64,
}

impl Default for SharedTokens {
    fn default() -> Self {
        Self { empty_at: AtomicI64::new(FRESH), at: AtomicI64::new(0), peak: AtomicI64::new(0) }
    }
}

impl SharedTokens {
    /// Takes what a packet costs; false if there is not enough. Words are relaxed: each stands for itself, and the exchange decides.
    pub fn take(&self, buckets: &Buckets, now: i64, bytes: u32) -> bool {
        for _ in 0..TRIES_MAX {
            let empty_at = self.empty_at.load(Ordering::Relaxed);
            let tokens = if empty_at == FRESH {
                Tokens::default()
            } else {
                // Another worker's clock may be a little ahead of ours.
                let at = self.at.load(Ordering::Relaxed).clamp(1, now);
                Tokens { at, left: at - empty_at, peak: self.peak.load(Ordering::Relaxed) }
            };
            let Some(left) = buckets.take(tokens, now, bytes) else { return false };
            let new = now - left.left;
            if self.empty_at.compare_exchange(empty_at, new, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                self.at.fetch_max(now, Ordering::Relaxed);
                self.peak.store(left.peak, Ordering::Relaxed);
                return true;
            }
        }
        false
    }
}

/// The tokens of all policers of a generation of rules, by [`crate::plan::Plan::policers`].
#[derive(Clone, Debug, Default)]
pub struct AllTokens {
    by_words: BTreeMap<u32, Arc<SharedTokens>>,
    list: Arc<[Arc<SharedTokens>]>,
}

impl AllTokens {
    /// For policers whose counter words begin here, in the order of the plan. Those that were there before keep what they have: an
    /// action's words are its own as long as it lives.
    #[must_use]
    pub fn new(words: &[u32], before: &Self) -> Self {
        let tokens = |base: &u32| before.by_words.get(base).cloned().unwrap_or_default();
        let list: Vec<Arc<SharedTokens>> = words.iter().map(tokens).collect();
        Self { by_words: words.iter().copied().zip(list.iter().cloned()).collect(), list: list.into() }
    }

    /// In the order of the plan.
    #[must_use]
    pub fn list(&self) -> &[Arc<SharedTokens>] {
        &self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Control;
    use crate::rules::police::{Limit, Police, Rate};

    fn buckets(bytes_per_s: u64, burst_ticks: u32, peak: Option<u64>) -> Buckets {
        let rate = |bytes_per_s| Rate { bytes_per_s, overhead: 0, mpu: 0, atm: false };
        let limit = Limit::Bytes { rate: rate(bytes_per_s), burst_ticks, peak: peak.map(rate) };
        let police = Police { mtu: 1500, limit, exceed: Control::Shot, conform: Control::Pipe, compat: false };
        police.policer().buckets.unwrap()
    }

    proptest::proptest! {
        /// One worker's shared tokens are those that the kernel's form keeps, packet for packet.
        #[test]
        fn shared_tokens_are_those_of_the_plain_form(
            packets in proptest::collection::vec((0..3_000_000_i64, 0..2000_u32), 1..200),
            rate in 1000..10_000_000_u64,
            burst in 0..1_000_000_u32,
            peak in proptest::option::of(1000..20_000_000_u64),
        ) {
            let buckets = buckets(rate, burst, peak);
            let (shared, mut plain, mut now) = (SharedTokens::default(), Tokens::default(), 1);
            for (gap, bytes) in packets {
                now += gap;
                let left = buckets.take(plain, now, bytes);
                proptest::prop_assert_eq!(shared.take(&buckets, now, bytes), left.is_some());
                plain = left.unwrap_or(plain);
            }
        }
    }

    #[test]
    fn several_workers_together_get_what_one_would_have_got() {
        // 100 packets of 1000 bytes, and nothing comes after at this time.
        let buckets = buckets(1_000_000, 1_562_500, None);
        let shared = SharedTokens::default();
        let passed: usize = std::thread::scope(|scope| {
            let workers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..100).filter(|_| shared.take(&buckets, 5, 1000)).count())).collect();
            workers.into_iter().map(|w| w.join().unwrap()).sum()
        });
        assert_eq!(passed, 100);
    }

    #[test]
    fn policers_that_stay_keep_their_tokens_when_rules_change() {
        let buckets = buckets(1000, 15_625, None);
        let first = AllTokens::new(&[7, 20], &AllTokens::default());
        assert!(first.list()[1].take(&buckets, 5, 1));
        let second = AllTokens::new(&[20, 40], &first);
        assert!(!second.list()[0].take(&buckets, 5, 1), "the one at 20 is empty");
        assert!(second.list()[1].take(&buckets, 5, 1), "the one at 40 is new");
    }
}
