//! A worker's ports and the frame memory behind them, which come and go while it runs. It moves no frame by itself.

use std::sync::Arc;

use super::cells::PortCells;
use super::staging::Staging;
use crate::port::{Batch, FramePool, Port};

/// Frame memory that some ports share, and buffers for copies of its frames.
#[derive(Debug)]
pub(super) struct Bank {
    pub pool: FramePool,
    pub staging: Staging,
}

impl Bank {
    /// All memory is taken now.
    pub fn new(pool: FramePool, seed: u32) -> Self {
        let staging = Staging::new(pool.frame_len_max(), 0x9e37_79b9 ^ seed.wrapping_add(1));
        Self { pool, staging }
    }
}

/// A port, the memory that it receives into, and what it counts.
#[derive(Debug)]
pub(super) struct Slot {
    pub port: Port,
    pub bank: usize,
    pub cells: Arc<PortCells>,
}

/// Ports and banks by number. A number is used again only when nobody refers to what had it before: the owner sees to that.
#[derive(Debug, Default)]
pub(super) struct Ports {
    slots: Vec<Option<Slot>>,
    banks: Vec<Option<Box<Bank>>>,
}

impl Ports {
    /// One more than the highest number of a port.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// A port, if there is one of this number.
    pub fn slot(&self, at: usize) -> Option<&Slot> {
        self.slots.get(at).and_then(Option::as_ref)
    }

    pub fn put_slot(&mut self, at: usize, slot: Slot) {
        self.slots.resize_with(self.slots.len().max(at + 1), || None);
        self.slots[at] = Some(slot);
    }

    pub fn take_slot(&mut self, at: usize) -> Option<Slot> {
        self.slots.get_mut(at).and_then(Option::take)
    }

    pub fn put_bank(&mut self, at: usize, bank: Box<Bank>) {
        self.banks.resize_with(self.banks.len().max(at + 1), || None);
        self.banks[at] = Some(bank);
    }

    pub fn take_bank(&mut self, at: usize) -> Option<Box<Bank>> {
        self.banks.get_mut(at).and_then(Option::take)
    }

    /// # Panics
    /// There is none: a bank stays as long as a port uses it, and a frame of it is somewhere.
    pub fn bank(&mut self, at: usize) -> &mut Bank {
        self.banks[at].as_mut().expect("a bank stays as long as its ports and frames")
    }

    /// A port and its own memory.
    pub fn with_pool(&mut self, at: usize) -> Option<(&mut Slot, &mut FramePool)> {
        let slot = self.slots.get_mut(at)?.as_mut()?;
        let bank = self.banks[slot.bank].as_mut().expect("a bank stays as long as its ports");
        Some((slot, &mut bank.pool))
    }

    /// A port, and the memory of number `bank`.
    pub fn with_bank(&mut self, at: usize, bank: usize) -> Option<(&mut Slot, &mut FramePool)> {
        let slot = self.slots.get_mut(at)?.as_mut()?;
        let bank = self.banks[bank].as_mut().expect("a bank stays as long as its frames");
        Some((slot, &mut bank.pool))
    }

    /// Two different banks' memory.
    pub fn two_pools(&mut self, one: usize, other: usize) -> Option<(&mut FramePool, &mut FramePool)> {
        let [one, other] = self.banks.get_disjoint_mut([one, other]).ok()?;
        Some((&mut one.as_mut()?.pool, &mut other.as_mut()?.pool))
    }

    /// Takes a burst from a port, as [`Port::receive`]; the bank that the frames are in, `None` if there is no such port.
    pub fn receive(&mut self, at: usize, until: i64, into: &mut Batch) -> Option<usize> {
        let (slot, pool) = self.with_pool(at)?;
        slot.port.receive(pool, until, into);
        Some(slot.bank)
    }

    /// Makes the kernel send what all ports were handed.
    pub fn flush(&mut self) {
        for at in 0..self.slots.len() {
            if let Some((slot, pool)) = self.with_pool(at) {
                slot.port.flush(pool);
            }
        }
    }

    /// As [`Ports::flush`]; `flushed` is told each port when it was.
    pub fn flush_each(&mut self, mut flushed: impl FnMut(usize)) {
        for at in 0..self.slots.len() {
            if let Some((slot, pool)) = self.with_pool(at) {
                slot.port.flush(pool);
                flushed(at);
            }
        }
    }

    /// Tells what every port did by itself to whoever asks.
    pub fn publish(&mut self) {
        for slot in self.slots.iter_mut().flatten() {
            slot.cells.set_port(slot.port.stats());
        }
    }

    /// Frames that belong to nobody, in all banks.
    pub fn outstanding(&self) -> usize {
        self.banks.iter().flatten().map(|bank| bank.pool.outstanding()).sum()
    }
}
