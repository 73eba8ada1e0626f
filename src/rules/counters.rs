//! Counters as a flat array of words, so that a worker counts without knowing what a filter is. It adds; it never prints.
//!
//! ```text
//! node (filter)   base+0 rule hit   base+1 success   base+2.. success of each key, then of the mark
//! action          base+0 bytes  +1 packets  +2 dropped  +3 overlimits  +4 first used  +5 last used  +6 state (police: +6..+8)
//! ```

use super::police::{Buckets, Tokens};
use super::{Action, Classifier, Ruleset};

/// Words of a filter's node, from its base.
pub struct NodeWord;

impl NodeWord {
    /// How often it was tried (u32's `rule hit`).
    pub const HIT: u32 = 0;
    /// How often it matched.
    pub const SUCCESS: u32 = 1;
    /// How often each key passed: `KEYS + n`.
    pub const KEYS: u32 = 2;

    /// How many words a node with this many keys takes; one more with `match mark`, see [`super::U32Node::words`].
    #[must_use]
    pub const fn len(key_count: usize) -> u32 {
        Self::KEYS + key_count as u32
    }

    /// How often the mark of a node with this many keys fitted.
    #[must_use]
    pub const fn mark(key_count: usize) -> u32 {
        Self::KEYS + key_count as u32
    }
}

/// Words of an action, from its base.
pub struct ActionWord;

impl ActionWord {
    /// Bytes, as the hook counts them.
    pub const BYTES: u32 = 0;
    /// Packets.
    pub const PACKETS: u32 = 1;
    /// `dropped`.
    pub const DROPS: u32 = 2;
    /// `overlimits`.
    pub const OVERLIMITS: u32 = 3;
    /// When it was first used: milliseconds on the owner's clock, at least 1; 0 is never.
    pub const FIRST_USED: u32 = 4;
    /// When it was last used; as [`ActionWord::FIRST_USED`].
    pub const LAST_USED: u32 = 5;
    /// What the action itself remembers: gact `random determ` counts here.
    pub const STATE: u32 = 6;
    /// How many words an action takes.
    pub const LEN: u32 = 7;
    /// How many words `police` takes: its tokens are three. Workers keep them elsewhere, see `worker::buckets`.
    pub const POLICE_LEN: u32 = 9;

    /// How many words this action takes.
    #[must_use]
    pub const fn len(action: &Action) -> u32 {
        match action {
            Action::Police(_) => Self::POLICE_LEN,
            Action::Gact(_)
            | Action::Mirred(_)
            | Action::Skbedit(_)
            | Action::Skbmod(_)
            | Action::Csum(_)
            | Action::Pedit(_)
            | Action::Vlan(_)
            | Action::Nat(_)
            | Action::Simple(_) => Self::LEN,
        }
    }
}

/// Where evaluation counts to. Implemented by plain memory and by a worker's atomics.
pub trait CounterSink {
    /// Adds to a word.
    fn add(&mut self, word: u32, n: u64);
    /// Reads a word back (only for [`ActionWord::STATE`] and the times).
    fn get(&self, word: u32) -> u64;
    /// Sets a word (only the times).
    fn set(&mut self, word: u32, value: u64);
    /// Milliseconds on the clock of the times, at least 1. Read once per burst, not per call.
    fn now_ms(&self) -> u64;
    /// Takes what a packet of `bytes` costs from the buckets of a policer: that with words at `base`, which is number `policer` of
    /// [`Ruleset::policers`]. False: there is not enough.
    fn take_tokens(&mut self, base: u32, policer: u32, buckets: &Buckets, bytes: u32) -> bool;

    /// Counts one execution of the action whose words start at `base`.
    fn count_action(&mut self, base: u32, bytes: u64) {
        self.count_packets(base, bytes, 1);
    }

    /// As [`CounterSink::count_action`] for a super-frame that stands for so many packets.
    fn count_packets(&mut self, base: u32, bytes: u64, packets: u64) {
        self.add(base + ActionWord::BYTES, bytes);
        self.add(base + ActionWord::PACKETS, packets);
        let now_ms = self.now_ms();
        if self.get(base + ActionWord::FIRST_USED) == 0 {
            self.set(base + ActionWord::FIRST_USED, now_ms);
        }
        self.set(base + ActionWord::LAST_USED, now_ms);
    }
}

/// Where listings read counters from.
pub trait CounterSource {
    /// The value of a word; 0 for one that nobody counted yet.
    fn word(&self, word: u32) -> u64;
}

/// Counters in plain memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The words.
    pub words: Vec<u64>,
    /// What [`CounterSink::now_ms`] answers.
    pub now_ms: u64,
    /// The same time in nanoseconds, at least 1: what policers go by.
    pub now_ns: i64,
}

impl Counters {
    /// All zero, for a ruleset with this many words.
    #[must_use]
    pub fn new(word_count: u32) -> Self {
        Self { words: vec![0; word_count as usize], now_ms: 1, now_ns: 1 }
    }

    /// Adds what another set of counters of the same ruleset (or an older one) counted. Of the times, the first and the last stay.
    pub fn merge(&mut self, from: &dyn CounterSource, ruleset: &Ruleset) {
        self.words.resize(self.words.len().max(ruleset.counter_words as usize), 0);
        let mut nodes: Vec<(u32, u32)> = Vec::new();
        for (_, _, filter) in ruleset.filters() {
            match &filter.classifier {
                Classifier::U32(list) => nodes.extend(list.iter().map(|n| (n.counters, n.words()))),
                Classifier::Flower(list) => nodes.extend(list.iter().map(|r| (r.counters, NodeWord::len(0)))),
                Classifier::Matchall(rule) => nodes.extend(rule.iter().map(|r| (r.counters, NodeWord::len(0)))),
                Classifier::Fw(fw) => nodes.extend(fw.rules().iter().map(|r| (r.counters, NodeWord::len(0)))),
                Classifier::Basic(list) => nodes.extend(list.iter().map(|r| (r.counters, NodeWord::len(0)))),
            }
        }
        let tables = ruleset.u32_tables.iter().flat_map(|t| &t.buckets).flatten();
        nodes.extend(tables.map(|n| (n.counters, n.words())));
        // A filter of a shared block stands at every hook that has the block, and counts in one place.
        nodes.sort_unstable();
        nodes.dedup();
        for word in nodes.into_iter().flat_map(|(base, words)| base..base + words) {
            self.words[word as usize] += from.word(word);
        }
        for action in &ruleset.actions {
            self.merge_action(from, action.counters);
        }
    }

    fn merge_action(&mut self, from: &dyn CounterSource, base: u32) {
        // The further words of a policer are its own of each owner: they are no counts.
        for offset in
            [ActionWord::BYTES, ActionWord::PACKETS, ActionWord::DROPS, ActionWord::OVERLIMITS, ActionWord::STATE]
        {
            self.words[(base + offset) as usize] += from.word(base + offset);
        }
        let first = &mut self.words[(base + ActionWord::FIRST_USED) as usize];
        *first = match (*first, from.word(base + ActionWord::FIRST_USED)) {
            (0, other) => other,
            (own, 0) => own,
            (own, other) => own.min(other),
        };
        let last = &mut self.words[(base + ActionWord::LAST_USED) as usize];
        *last = (*last).max(from.word(base + ActionWord::LAST_USED));
    }
}

impl CounterSource for Counters {
    fn word(&self, word: u32) -> u64 {
        self.words.get(word as usize).copied().unwrap_or(0)
    }
}

impl CounterSink for Counters {
    fn add(&mut self, word: u32, n: u64) {
        // An index counts down, too: see `plan::blocks`.
        let word = &mut self.words[word as usize];
        *word = word.wrapping_add(n);
    }

    fn get(&self, word: u32) -> u64 {
        self.words[word as usize]
    }

    fn set(&mut self, word: u32, value: u64) {
        self.words[word as usize] = value;
    }

    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn take_tokens(&mut self, base: u32, _policer: u32, buckets: &Buckets, bytes: u32) -> bool {
        let at = (base + ActionWord::STATE) as usize;
        let [since, left, peak] = [0, 1, 2].map(|word| self.words[at + word] as i64);
        match buckets.take(Tokens { at: since, left, peak }, self.now_ns, bytes) {
            Some(Tokens { at: since, left, peak }) => {
                self.words[at..at + 3].copy_from_slice(&[since, left, peak].map(|word| word as u64));
                true
            }
            None => false,
        }
    }
}
