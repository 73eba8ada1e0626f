//! What a worker is told between two rounds: ports and memory that come and go, boxes for frames of other workers. It decides nothing.

use std::time::Instant;

use crossbeam::channel::Sender;

use super::crossing::Crossing;
use super::ports::{Bank, Slot};
use super::step::Engine;
use crate::port::{Closed, Parted, Port};

/// One message. `done` is told when it was acted on.
#[derive(Debug)]
pub(super) enum Letter {
    /// New memory, and ports by their numbers. They receive from the next rules on that have a lane for them.
    Add { bank: usize, memory: Box<Bank>, ports: Vec<(usize, Slot)>, done: Sender<()> },
    /// A port goes, when the kernel has sent what it was handed, at the latest at `deadline`. No rules have a lane for it any more, and
    /// no worker sends by it.
    Remove { slot: usize, deadline: Instant, done: Sender<(Port, Parted)> },
    /// A socket that used a bank's memory is closed.
    Closed { bank: usize, socket: Closed },
    /// Memory goes that no port uses any more.
    Release { bank: usize, done: Sender<Box<Bank>> },
    /// New boxes for frames to other workers; the own old one is still emptied.
    Crossings { all: Vec<Crossing>, done: Sender<()> },
    /// Nobody puts frames into old boxes any more.
    ForgetBoxes { done: Sender<()> },
}

/// A port that goes.
#[derive(Debug)]
pub(super) struct Leaving {
    slot: usize,
    deadline: Instant,
    done: Sender<(Port, Parted)>,
}

impl Engine {
    /// Acts on a message. Whoever waits for an answer may have given up: then what it was to get is dropped here.
    pub fn act_on(&mut self, letter: Letter) {
        match letter {
            Letter::Add { bank, memory, ports, done } => {
                self.ports.put_bank(bank, memory);
                ports.into_iter().for_each(|(at, slot)| self.ports.put_slot(at, slot));
                let _heard = done.send(());
            }
            Letter::Remove { slot, deadline, done } => {
                self.empty_boxes();
                self.leaving.push(Leaving { slot, deadline, done });
            }
            Letter::Closed { bank, socket } => self.ports.bank(bank).pool.closed(socket),
            Letter::Release { bank, done } => {
                let _heard = self.ports.take_bank(bank).map(|memory| done.send(memory));
            }
            Letter::Crossings { all, done } => {
                let old = std::mem::replace(&mut self.crossings, all);
                self.old_boxes.extend(old.into_iter().nth(self.index));
                let _heard = done.send(());
            }
            Letter::ForgetBoxes { done } => {
                self.empty_boxes();
                self.old_boxes.clear();
                let _heard = done.send(());
            }
        }
    }

    /// Gives up the ports that are to go and have nothing under way any more.
    pub fn let_leave(&mut self) {
        let mut at = 0;
        while at < self.leaving.len() {
            let Leaving { slot, deadline, .. } = self.leaving[at];
            let sending = self.ports.slot(slot).is_some_and(|slot| slot.port.is_sending());
            if sending && Instant::now() < deadline {
                at += 1;
                continue;
            }
            let leaving = self.leaving.swap_remove(at);
            let Some((gone, pool)) = self.ports.with_pool(slot) else { continue };
            let parted = gone.port.part(pool);
            if let Some(gone) = self.ports.take_slot(slot) {
                let _heard = leaving.done.send((gone.port, parted));
            }
        }
    }
}
