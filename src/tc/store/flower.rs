//! What flower does with a new or changed node: `fl_change()`, net/sched/cls_flower.c; which keys and masks a prio has in use.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::Store;
use super::block::{Body, Entry};
use super::filters::Place;
use crate::rules::flower::PortMatch;
use crate::rules::{FlowerField, FlowerKey, NodeWord};
use crate::tc::error::TcError;
use crate::tc::filter::flower::{FlowerSpec, fits_template};
use crate::types::DeviceKey;

/// The keys and masks of one prio.
#[derive(Clone, Debug, Default)]
pub struct FlowerIndex {
    /// By the hash of its masked key, the handle of the filter that was given it last.
    holders: HashMap<u64, u32>,
    /// Two filters may have the same key: `replace` does not look at others.
    twins: bool,
    /// By mask: when it was made, and how many filters have it.
    masks: HashMap<Vec<(FlowerField, u128)>, (u64, usize)>,
}

impl FlowerIndex {
    /// The position of a filter with this (masked) key.
    fn holder(&self, entries: &[Entry], key: &FlowerKey) -> Option<usize> {
        let handle = self.holders.get(&hash(key))?;
        let first = entries.binary_search_by_key(handle, |e| e.handle).ok();
        let same = |at: &usize| masked_key(&entries[*at]).as_ref() == Some(key);
        first.filter(same).or_else(|| (0..entries.len()).find(same))
    }

    fn add(&mut self, key: &FlowerKey, handle: u32, sequence: u64) {
        self.holders.insert(hash(key), handle);
        self.masks.entry(key.mask()).or_insert((sequence, 0)).1 += 1;
    }

    /// Forgets a filter that is no longer among `entries`.
    pub fn remove(&mut self, gone: &Entry, entries: &[Entry]) {
        let Some(key) = masked_key(gone) else { return };
        let mask = key.mask();
        if let Some((_, count)) = self.masks.get_mut(&mask) {
            *count -= 1;
            if *count == 0 {
                self.masks.remove(&mask);
            }
        }
        let hash = hash(&key);
        if self.holders.get(&hash) != Some(&gone.handle) {
            return;
        }
        self.holders.remove(&hash);
        let twin = entries.iter().filter(|_| self.twins).find(|e| masked_key(e).as_ref() == Some(&key));
        self.holders.extend(twin.map(|e| (hash, e.handle)));
    }

    /// Whether two filters may have the same key.
    pub fn has_twins(&self) -> bool {
        self.twins
    }
}

fn hash(key: &FlowerKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// The masked key of a flower node.
fn masked_key(entry: &Entry) -> Option<FlowerKey> {
    match &entry.body {
        Body::Flower { written, .. } => Some(written.masked()),
        Body::U32 { .. } | Body::Matchall | Body::Fw { .. } | Body::Basic { .. } => None,
    }
}

/// The ranges of a key: filters that have the same are looked for together (`fl_lookup_range()`).
pub fn ranges(key: &FlowerKey) -> Option<[Option<PortMatch>; 2]> {
    let ranges = [key.src_port, key.dst_port].map(|p| p.filter(|p| matches!(p, PortMatch::Range(..))));
    ranges.iter().any(Option::is_some).then_some(ranges)
}

impl Store {
    /// The key with its `indev`, or what the kernel refuses about it.
    pub(super) fn flower_key(&mut self, netns: Option<&str>, spec: &FlowerSpec) -> Result<FlowerKey, TcError> {
        if let Some(refused) = &spec.refused {
            return Err((**refused).clone());
        }
        let mut key = spec.key.clone();
        if let Some(word) = &spec.indev {
            key.more_mut().indev = Some(self.device_id(&DeviceKey::new(netns, &word.text)));
        }
        Ok(key)
    }

    /// The name of the device in a key.
    pub(in crate::tc) fn flower_indev(&self, key: &FlowerKey) -> Option<&str> {
        let indev = key.more.as_ref().and_then(|more| more.indev)?;
        Some(self.device_key(indev).name.as_str())
    }

    /// `fl_change()`.
    pub(super) fn change_flower(
        &mut self,
        netns: Option<&str>,
        place: Place,
        at: usize,
        spec: &FlowerSpec,
    ) -> Result<(), TcError> {
        let written = self.flower_key(netns, spec)?;
        let (key, sequence) = (written.masked(), self.next_sequence());
        let chain = self.chain_mut(place);
        if chain.template.as_ref().is_some_and(|t| !fits_template(&key, t)) {
            let hint = "this chain's template allows fewer keys; see tc chain show";
            return Err(TcError::kernel("cls_flower: Mask does not fit the template", hint));
        }
        let proto = &chain.protos[at];
        let existing = (spec.handle != 0).then(|| proto.position(spec.handle).ok()).flatten();
        let old = existing.and_then(|e| masked_key(&proto.entries[e]));
        let same_mask = old.is_none_or(|old| old.mask() == key.mask());
        let holder = proto.flower.holder(&proto.entries, &key);
        if !same_mask {
            let hint = "a filter keeps its mask: give the same keys with other values, or delete it and add another";
            return Err(TcError::errno("Invalid argument", hint));
        }
        if holder.is_some() && existing.is_none() {
            return Err(TcError::errno("File exists", "this prio has a filter with the same keys already"));
        }
        let handle = match spec.handle {
            0 => proto.free_handle(1..=i32::MAX as u32),
            asked => Some(asked),
        };
        let handle = handle.ok_or_else(|| TcError::errno("No space left on device", "all handles are taken"))?;
        let mask_sequence = proto.flower.masks.get(&key.mask()).map_or(sequence, |(made, _)| *made);
        let place_in_mask = existing.map(|e| place_of(&proto.entries[e])).unwrap_or(sequence);
        let twin = holder.is_some() && holder != existing;
        let body = Body::Flower { written: Box::new(written), mask_sequence, place_in_mask };
        match existing {
            None => self.insert(netns, place, at, handle, &spec.common, body, NodeWord::len(0))?,
            Some(position) => {
                let new = self.entry(netns, place, handle, &spec.common, body, NodeWord::len(0))?;
                let proto = &mut self.chain_mut(place).protos[at];
                let old = std::mem::replace(&mut proto.entries[position], new);
                // The filter's own mask and key are added before the old ones go.
                proto.flower.add(&key, handle, sequence);
                proto.flower.twins |= twin;
                let same_key = masked_key(&old).as_ref() == Some(&key);
                proto.flower.remove(&old, &proto.entries);
                if same_key {
                    proto.flower.holders.insert(hash(&key), handle);
                }
                self.drop_entry(old);
                return Ok(());
            }
        }
        self.chain_mut(place).protos[at].flower.add(&key, handle, sequence);
        Ok(())
    }
}

fn place_of(entry: &Entry) -> u64 {
    match &entry.body {
        Body::Flower { place_in_mask, .. } => *place_in_mask,
        Body::U32 { .. } | Body::Matchall | Body::Fw { .. } | Body::Basic { .. } => entry.sequence,
    }
}
