//! Shared blocks: filters that belong to a number instead of a device, and run at every hook that was given it (`tcf_block_get_ext()`,
//! net/sched/cls_api.c). Each is kept like a device of its own, with its filters at "ingress".

use super::qdiscs::{BlockId, DeviceState};
use super::{Place, Store};
use crate::tc::error::TcError;
use crate::types::{DeviceId, Direction};

/// Ids from here on are shared blocks; real devices count from 0.
const FIRST: u32 = 1 << 31;

impl Store {
    /// Whether an id is a shared block's.
    pub(super) const fn is_shared(id: DeviceId) -> bool {
        id.0 >= FIRST
    }

    /// The shared block with a number.
    #[must_use]
    pub fn shared(&self, netns: Option<&str>, index: u32) -> Option<(DeviceId, &DeviceState)> {
        let id = self.shared.get(&(netns.map(str::to_owned), index))?;
        Some((*id, &self.states[id]))
    }

    /// The number of a shared block.
    pub(in crate::tc) fn shared_index(&self, id: DeviceId) -> Option<u32> {
        self.states.get(&id).and_then(|state| state.shared_index)
    }

    /// The block of a hook: its own, or a shared one.
    pub(in crate::tc) fn hook_block<'a>(
        &'a self,
        state: &'a DeviceState,
        direction: Direction,
    ) -> (&'a DeviceState, BlockId) {
        let (place, own) = match direction {
            Direction::Ingress => (0, BlockId::Ingress),
            Direction::Egress => (1, BlockId::Egress),
        };
        match state.shared[place] {
            Some(id) => (&self.states[&id], BlockId::Ingress),
            None => (state, own),
        }
    }

    /// All shared blocks.
    pub(super) fn shared_blocks(&self) -> impl Iterator<Item = (DeviceId, &DeviceState)> {
        self.states.range(DeviceId(FIRST)..).map(|(id, state)| (*id, state))
    }

    /// Gives a device's hooks the blocks with these numbers, made if they are not there; 0: its own.
    pub(super) fn share(&mut self, netns: Option<&str>, device: DeviceId, indices: [u32; 2]) {
        for (place, index) in indices.into_iter().enumerate().filter(|(_, index)| *index != 0) {
            let key = (netns.map(str::to_owned), index);
            let id = self.shared.get(&key).copied().unwrap_or_else(|| {
                self.next_shared += 1;
                let id = DeviceId(FIRST + self.next_shared);
                self.states.insert(id, DeviceState { shared_index: Some(index), ..DeviceState::default() });
                self.shared.insert(key, id);
                id
            });
            self.states.entry(device).or_default().shared[place] = Some(id);
        }
    }

    /// One user less; with the last one the block goes.
    pub(super) fn unshare(&mut self, id: DeviceId) {
        if self.states.values().any(|state| state.shared.contains(&Some(id))) {
            return;
        }
        self.shared.retain(|_, block| *block != id);
        if let Some(state) = self.states.remove(&id) {
            self.drop_block(state.ingress_block);
            self.drop_u32(state.hook_u32);
        }
    }

    /// The chain of a shared block that a command means.
    pub(super) fn shared_place(
        &self,
        netns: Option<&str>,
        index: u32,
        chain: u32,
        token: usize,
    ) -> Result<Place, TcError> {
        let hint = "tc qdisc add dev D ingress_block N ingress makes one";
        let found = self.shared(netns, index);
        let (device, _) = found.ok_or_else(|| TcError::kernel("Block of given index was not found", hint).at(token))?;
        Ok(Place { device, block: BlockId::Ingress, chain })
    }

    /// A hook whose block is shared is changed by the block's number only (`__tcf_block_find()`).
    pub(super) fn refuse_shared(state: &DeviceState, block: BlockId) -> Result<(), TcError> {
        let shared = match block {
            BlockId::Ingress => state.shared[0],
            BlockId::Egress => state.shared[1],
            BlockId::Root => None,
        };
        match shared {
            None => Ok(()),
            Some(_) => {
                let text = "This filter block is shared. Please use the block index to manipulate the filters";
                Err(TcError::kernel(text, "write block N instead of dev D; tc qdisc show lists the numbers"))
            }
        }
    }
}
