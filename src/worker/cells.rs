//! Counters that one worker writes and anybody reads: atomics without locks. No meaning of a word is known here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::utils::CachePadded;

use super::buckets::{AllTokens, SharedTokens};
use crate::plan::Buckets;
use crate::port::PortStats;
use crate::rules::{CounterSink, CounterSource};
use crate::types::DropReason;

/// The counter words of one generation of rules in one worker.
///
/// Single writer: the worker adds with a load and a store, no locked instruction. Readers see each word whole
/// (relaxed; words of one frame may be seen in part, as with the kernel's per-CPU counters).
#[derive(Debug)]
pub struct Cells {
    words: Box<[AtomicU64]>,
}

impl Cells {
    /// All zero.
    #[must_use]
    pub fn new(word_count: u32) -> Self {
        Self { words: (0..word_count).map(|_| AtomicU64::new(0)).collect() }
    }

    /// The worker's end: counts, with times at `now_ms` (at least 1).
    #[must_use]
    pub fn writer(&self, now_ms: u64) -> Writer<'_> {
        Writer { words: &self.words, now_ms: now_ms.max(1), now_ns: 1, tokens: &[] }
    }
}

impl CounterSource for Cells {
    fn word(&self, word: u32) -> u64 {
        self.words.get(word as usize).map_or(0, |w| w.load(Ordering::Relaxed))
    }
}

/// See [`Cells::writer`].
#[derive(Debug)]
pub struct Writer<'a> {
    words: &'a [AtomicU64],
    now_ms: u64,
    now_ns: i64,
    tokens: &'a [Arc<SharedTokens>],
}

impl<'a> Writer<'a> {
    /// With the tokens of policers, at `now_ns` (at least 1) on the same clock. Without, whatever a policer limits exceeds.
    #[must_use]
    pub fn with_tokens(self, tokens: &'a AllTokens, now_ns: i64) -> Self {
        Self { tokens: tokens.list(), now_ns: now_ns.max(1), ..self }
    }
}

impl CounterSink for Writer<'_> {
    fn add(&mut self, word: u32, n: u64) {
        bump(&self.words[word as usize], n);
    }

    fn get(&self, word: u32) -> u64 {
        self.words[word as usize].load(Ordering::Relaxed)
    }

    fn set(&mut self, word: u32, value: u64) {
        self.words[word as usize].store(value, Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn take_tokens(&mut self, _base: u32, policer: u32, buckets: &Buckets, bytes: u32) -> bool {
        self.tokens.get(policer as usize).is_some_and(|tokens| tokens.take(buckets, self.now_ns, bytes))
    }
}

/// Counts nothing: for a trial. Policers let all by.
pub(super) struct Uncounted<'a>(pub Writer<'a>);

impl CounterSink for Uncounted<'_> {
    fn add(&mut self, _word: u32, _n: u64) {}

    fn get(&self, word: u32) -> u64 {
        self.0.get(word)
    }

    fn set(&mut self, _word: u32, _value: u64) {}

    fn now_ms(&self) -> u64 {
        self.0.now_ms()
    }

    fn take_tokens(&mut self, _base: u32, _policer: u32, _buckets: &Buckets, _bytes: u32) -> bool {
        true
    }
}

/// Adds to a counter of which the caller is the only writer.
pub(super) fn bump(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

/// What one port of a worker did, published by the worker.
#[derive(Debug, Default)]
pub struct PortCells {
    /// Frames received.
    pub rx_frames: AtomicU64,
    /// Their bytes.
    pub rx_bytes: AtomicU64,
    /// Frames that no rule took and that the kernel has anyway (AF_PACKET).
    pub passed: AtomicU64,
    /// Frames that went to another worker.
    pub crossed: AtomicU64,
    /// Frames received here (or by another worker) that an outgoing port of this worker took.
    pub handed: AtomicU64,
    /// Frames that an outgoing port of this worker refused; it counts them as dropped, with the reason.
    pub refused: AtomicU64,
    /// Frames that came from another worker.
    pub crossed_in: AtomicU64,
    /// Copies that mirror made.
    pub mirrored: AtomicU64,
    /// By reason, where the frame came in or was to go out.
    pub drops: [AtomicU64; DropReason::ALL.len()],
    /// The port's own statistics, as last published.
    port: Mutex<PortStats>,
}

impl PortCells {
    /// Counts a drop.
    pub fn drop_one(&self, reason: DropReason) {
        bump(&self.drops[reason.index()], 1);
    }

    /// Publishes the port's own statistics.
    pub fn set_port(&self, stats: PortStats) {
        *self.port.lock().unwrap_or_else(PoisonError::into_inner) = stats;
    }

    /// The port's own statistics, as last published.
    #[must_use]
    pub fn port(&self) -> PortStats {
        self.port.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a worker did, published by itself. Padded: its neighbours are written by other cores.
#[derive(Debug, Default)]
pub struct WorkerCells {
    /// Rounds over all ports.
    pub rounds: CachePadded<AtomicU64>,
    /// Rounds that found a frame.
    pub busy_rounds: AtomicU64,
    /// How often it slept in poll(2).
    pub sleeps: AtomicU64,
    /// The generation of rules that it runs.
    pub generation: AtomicU64,
    /// The newest generation before which it keeps none.
    pub settled: AtomicU64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_an_unknown_word_is_zero() {
        let cells = Cells::new(8);
        let mut writer = cells.writer(0);
        writer.count_action(0, 60);
        writer.count_action(0, 40);
        assert_eq!([cells.word(0), cells.word(1), cells.word(4), cells.word(5)], [100, 2, 1, 1]);
        assert_eq!(cells.word(99), 0);
    }
}
