//! Frames from worker to worker: those that leave by another worker's port, and those that others left here. It classifies nothing.

use super::cells::bump;
use super::crossing::{Crossed, Crossing};
use super::step::{Came, Engine};
use super::timing::Since;
use crate::port::{Frame, Wire};
use crate::types::DropReason;

impl Engine {
    /// To another worker, as on the wire. For a super-frame: how it went with the first of its segments that did not go.
    pub(super) fn send_across<const TAPPED: bool>(
        &mut self,
        worker: usize,
        port: usize,
        came: Came,
        frame: Frame,
    ) -> Result<(), DropReason> {
        let pool = &mut self.ports.bank(came.bank).pool;
        // A super-frame's time is that of its first segment.
        let mut since = if TAPPED { self.taps.timer.take() } else { Since::NOBODY };
        let mut sent = Ok(());
        let mut wire = Wire::of(frame);
        while let Some(piece) = wire.next(pool) {
            sent = sent.and(match piece {
                Ok(piece) => {
                    let sent = self.crossings[worker].send(port, pool.data(&piece), std::mem::take(&mut since));
                    pool.free(piece);
                    sent
                }
                Err(lost) => Err(lost.reason),
            });
        }
        sent
    }

    /// Frames that other workers left for this one's ports.
    pub(super) fn take_crossed<const TAPPED: bool>(&mut self) -> bool {
        let mut worked = false;
        for own in 0..=self.old_boxes.len() {
            for _ in 0..crate::limits::BURST_LEN {
                // Old boxes first: what is in them came earlier.
                let Some(crossed) = self.own_box(own).receive() else { break };
                worked = true;
                self.cross::<TAPPED>(&crossed);
                self.own_box(own).done(crossed);
            }
        }
        worked
    }

    fn own_box(&self, number: usize) -> &Crossing {
        self.old_boxes.get(number).unwrap_or(&self.crossings[self.index])
    }

    fn cross<const TAPPED: bool>(&mut self, crossed: &Crossed) {
        let port = crossed.port;
        // Ports go only when nobody sends by them any more and the boxes are empty.
        let Some((slot, pool)) = self.ports.with_pool(port) else { return };
        bump(&slot.cells.crossed_in, 1);
        match pool.alloc_copy(crossed.frame()) {
            Ok(frame) => {
                let came = Came { port, bank: slot.bank };
                if TAPPED {
                    self.taps.timer.resume(crossed.since);
                }
                let _counted = self.hand_over::<TAPPED>(port, came, frame);
            }
            Err(reason) => slot.cells.drop_one(reason),
        }
    }

    /// Handles all frames that wait in the own boxes.
    pub fn empty_boxes(&mut self) {
        for _ in 0..=crate::limits::CROSSING_LEN / crate::limits::BURST_LEN {
            let any = if self.taps.is_empty() { self.empty::<false>() } else { self.empty::<true>() };
            if !any {
                return;
            }
        }
    }

    fn empty<const TAPPED: bool>(&mut self) -> bool {
        let any = self.take_crossed::<TAPPED>();
        self.flush::<TAPPED>();
        any
    }
}
