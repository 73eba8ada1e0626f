//! Counter slots of a forwarding program: each rule has a run of them that lies in one block. It reads no map.
//!
//! ```text
//! run of a rule:   its node's words (hit, success, keys…)   then for each action: bytes packets first last [dropped] [overlimits]
//! ```

use crate::ebpf::count::{BLOCK_WORDS, CounterSlot, SlotKind, Total};
use crate::rules::{Action, ActionId, ActionWord, Control, Ruleset};

/// Gives runs of slots to rules.
#[derive(Debug, Default)]
pub(in crate::ebpf) struct Slots {
    /// What slot [`Total::COUNT`]` + n` counts; `None`: a gap before the next block, or a count that no word has.
    pub used: Vec<Option<CounterSlot>>,
}

impl Slots {
    /// The first slot of a run for these words.
    pub fn run(&mut self, words: &[Option<CounterSlot>]) -> u32 {
        assert!(words.len() <= BLOCK_WORDS, "a rule's counters fit into a block");
        let mut first = Total::COUNT + self.used.len();
        let room = BLOCK_WORDS - first % BLOCK_WORDS;
        if words.len() > room {
            self.used.resize(self.used.len() + room, None);
            first += room;
        }
        self.used.extend_from_slice(words);
        first as u32
    }
}

/// A word that is added up.
pub(super) fn sum(word: u32) -> Option<CounterSlot> {
    Some(CounterSlot { word, kind: SlotKind::Sum })
}

/// The further words that an action of this kind counts.
fn extra(action: &Action) -> Option<u32> {
    match action {
        Action::Gact(gact) => (gact.control == Control::Shot).then_some(ActionWord::DROPS),
        Action::Mirred(_) | Action::Skbmod(_) => Some(ActionWord::OVERLIMITS),
        Action::Skbedit(edit) => edit.inheritdsfield.then_some(ActionWord::DROPS),
        Action::Csum(_) | Action::Vlan(_) | Action::Nat(_) => Some(ActionWord::DROPS),
        Action::Pedit(_) | Action::Simple(_) | Action::Police(_) => None,
    }
}

/// Places in the run of one action, in slots from its start.
pub(super) mod place {
    pub const BYTES: i16 = 0;
    pub const PACKETS: i16 = 1;
    pub const FIRST: i16 = 2;
    pub const LAST: i16 = 3;
    /// The only failure that this kind counts.
    pub const FAILED: i16 = 4;
}

/// The words of executed actions, in their order.
pub(super) fn of_actions(ruleset: &Ruleset, executed: &[ActionId]) -> Vec<Option<CounterSlot>> {
    let mut words = Vec::new();
    for id in executed {
        let instance = ruleset.action(*id);
        let base = instance.counters;
        words.extend([sum(base + ActionWord::BYTES), sum(base + ActionWord::PACKETS)]);
        words.push(Some(CounterSlot { word: base + ActionWord::FIRST_USED, kind: SlotKind::First }));
        words.push(Some(CounterSlot { word: base + ActionWord::LAST_USED, kind: SlotKind::Last }));
        words.extend(extra(&instance.action).map(|offset| sum(base + offset)));
    }
    words
}

/// How many slots an action takes.
pub(super) fn action_len(action: &Action) -> i16 {
    4 + i16::from(extra(action).is_some())
}
