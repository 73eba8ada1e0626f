//! Actions by kind and index, per namespace, with how many filters use them (net/sched/act_api.c). It knows no filter.

use std::collections::HashMap;

use crate::rules::Action;
use crate::tc::action::Extras;

/// Where an action is kept. It stays the same while the action lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActionSlot(pub u32);

/// An action with who uses it.
#[derive(Clone, Debug)]
pub struct ActionState {
    /// Its namespace.
    pub netns: Option<String>,
    /// `index N`.
    pub index: u32,
    /// What it does.
    pub action: Action,
    /// Base of its counter words.
    pub counters: u32,
    /// How many filters use it: `bind`.
    pub binds: u32,
    /// It was made by itself (`tc actions add`): it stays without filters, and `ref` counts it once more.
    pub standalone: bool,
    /// Cookie, hw_stats and flags; boxed because few have any.
    pub extras: Option<Box<Extras>>,
    /// When it was made, on the counters' clock.
    pub installed_ms: u64,
}

impl ActionState {
    /// `ref`.
    #[must_use]
    pub fn refs(&self) -> u32 {
        self.binds + u32::from(self.standalone)
    }
}

/// Kind and namespace: each pair has its own indices.
type Family = (Option<String>, &'static str);

/// All actions.
#[derive(Clone, Debug, Default)]
pub struct ActionTable {
    slots: Vec<Option<ActionState>>,
    free: Vec<ActionSlot>,
    by_index: HashMap<Family, HashMap<u32, ActionSlot>>,
    /// No index below is free.
    lowest_free: HashMap<Family, u32>,
}

impl ActionTable {
    /// An action that is there.
    ///
    /// # Panics
    /// If the slot is empty: filters give up their slots before actions go.
    pub fn get(&self, slot: ActionSlot) -> &ActionState {
        self.slots[slot.0 as usize].as_ref().expect("a slot that a filter holds is not empty")
    }

    pub(super) fn get_mut(&mut self, slot: ActionSlot) -> &mut ActionState {
        self.slots[slot.0 as usize].as_mut().expect("a slot that a filter holds is not empty")
    }

    /// All actions with their slots, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (ActionSlot, &ActionState)> {
        self.slots.iter().enumerate().filter_map(|(i, s)| s.as_ref().map(|s| (ActionSlot(i as u32), s)))
    }

    /// The action with this index.
    pub fn find(&self, netns: Option<&str>, kind: &'static str, index: u32) -> Option<ActionSlot> {
        self.by_index.get(&(netns.map(str::to_owned), kind)).and_then(|m| m.get(&index)).copied()
    }

    /// One more filter uses it.
    pub fn bind(&mut self, slot: ActionSlot) {
        self.get_mut(slot).binds += 1;
    }

    /// The lowest free index of a family (`idr_alloc_u32()` from 1).
    pub fn free_index(&mut self, netns: Option<&str>, kind: &'static str) -> u32 {
        let family = (netns.map(str::to_owned), kind);
        let taken = self.by_index.entry(family.clone()).or_default();
        let lowest = self.lowest_free.entry(family).or_insert(1);
        while taken.contains_key(lowest) {
            *lowest += 1;
        }
        *lowest
    }

    /// Puts a new action in, used once.
    pub fn insert(&mut self, state: ActionState) -> ActionSlot {
        let family = (state.netns.clone(), state.action.kind());
        let index = state.index;
        let slot = self.free.pop().unwrap_or(ActionSlot(self.slots.len() as u32));
        match self.slots.get_mut(slot.0 as usize) {
            Some(place) => *place = Some(state),
            None => self.slots.push(Some(state)),
        }
        self.by_index.entry(family).or_default().insert(index, slot);
        slot
    }

    /// One filter less uses it; without any it goes, unless it was made by itself.
    pub fn release(&mut self, slot: ActionSlot) {
        let state = self.get_mut(slot);
        state.binds = state.binds.saturating_sub(1);
        if state.refs() == 0 {
            self.remove(slot);
        }
    }

    /// Takes an action out.
    pub fn remove(&mut self, slot: ActionSlot) {
        let Some(state) = self.slots[slot.0 as usize].take() else { return };
        let family = (state.netns, state.action.kind());
        self.free.push(slot);
        if let Some(taken) = self.by_index.get_mut(&family) {
            taken.remove(&state.index);
        }
        let lowest = self.lowest_free.entry(family).or_insert(1);
        *lowest = state.index.min(*lowest);
    }

    /// All actions of a kind in a namespace, by index.
    pub fn of_kind(&self, netns: Option<&str>, kind: &'static str) -> Vec<(u32, ActionSlot)> {
        let all = self.by_index.get(&(netns.map(str::to_owned), kind));
        let mut list: Vec<(u32, ActionSlot)> = all.into_iter().flatten().map(|(index, slot)| (*index, *slot)).collect();
        list.sort_unstable();
        list
    }
}
