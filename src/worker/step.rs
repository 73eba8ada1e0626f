//! One burst: receive, classify, rewrite, send. It runs per frame, so it allocates, locks, formats and logs nothing.

use std::sync::Arc;

use super::cells::{PortCells, WorkerCells, bump};
use super::crossing::Crossing;
use super::generation::{Egress, Generation, Lane, OnPass};
use super::mail::Leaving;
use super::ports::Ports;
use super::seam::Decided;
use super::taps::{Fate, Tapping};
use crate::plan::{Disposition, Overlimits};
use crate::port::{Batch, Frame, Lost, Wire};
use crate::rules::CounterSink;
use crate::types::DropReason;

/// The rules that a worker runs.
pub(super) struct Rules {
    pub current: Arc<Generation>,
    /// The rules before, until no frame can be under way that they were to handle.
    pub previous: Option<Arc<Generation>>,
    /// Rounds until `previous` is forgotten although rings are full all the time.
    pub patience: u32,
}

/// All that a worker's burst touches besides the rules. One thread owns it.
pub(super) struct Engine {
    pub ports: Ports,
    pub batch: Batch,
    pub cells: Arc<WorkerCells>,
    /// Letter boxes of all workers; the own one is at `index`.
    pub crossings: Vec<Crossing>,
    /// Own boxes of before, in which frames may still be.
    pub old_boxes: Vec<Crossing>,
    /// Ports that are about to go.
    pub leaving: Vec<Leaving>,
    pub index: usize,
    /// Who wants to see frames.
    pub taps: Tapping,
    /// In the last round a port had a full burst: more may wait there.
    pub has_backlog: bool,
    pub now_ms: u64,
    pub now_ns: i64,
}

/// Where a frame came in, and the memory that it is in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    pub port: usize,
    pub bank: usize,
}

impl Engine {
    /// One round over all ports. True: there was something to do.
    pub fn step(&mut self, rules: &Rules) -> bool {
        // Asked once: a worker that nobody looks at runs code without a trace of it.
        if self.taps.is_empty() { self.round::<false>(rules) } else { self.round::<true>(rules) }
    }

    fn round<const TAPPED: bool>(&mut self, rules: &Rules) -> bool {
        let mut worked = self.take_crossed::<TAPPED>();
        self.has_backlog = false;
        for port in 0..self.ports.len() {
            let Some(lane) = rules.current.lane(port) else { continue };
            if TAPPED {
                self.taps.timer.burst(&mut self.batch);
            }
            let Some((bank, decided)) = self.receive(rules, port, lane) else { continue };
            worked |= !self.batch.is_empty();
            self.has_backlog |= self.batch.is_full() || decided != Decided::Now;
            loop {
                if TAPPED {
                    self.taps.timer.begin(port, self.batch.next_stamp());
                }
                let Some(frame) = self.batch.pop() else { break };
                self.forward::<TAPPED>(rules, lane, Came { port, bank }, decided, frame);
            }
        }
        self.flush::<TAPPED>();
        bump(&self.cells.rounds, 1);
        if worked {
            bump(&self.cells.busy_rounds, 1);
        }
        worked
    }

    /// Makes the kernel send what the ports were handed.
    pub(super) fn flush<const TAPPED: bool>(&mut self) {
        if !TAPPED || !self.taps.timer.has_handed() {
            return self.ports.flush();
        }
        let timer = &mut self.taps.timer;
        self.ports.flush_each(|port| timer.flushed(port));
        timer.settle();
    }

    /// Takes a burst from a port; the bank that it is in, and who decided about it in the kernel.
    fn receive(&mut self, rules: &Rules, port: usize, lane: Lane) -> Option<(usize, Decided)> {
        let (Some(_), OnPass::KernelHasIt, Some(seam)) = (&rules.previous, lane.on_pass, rules.current.seam(port))
        else {
            return Some((self.ports.receive(port, i64::MAX, &mut self.batch)?, Decided::Now));
        };
        let mut bank = None;
        for (until, decided) in seam.stretches() {
            bank = Some((self.ports.receive(port, until, &mut self.batch)?, decided));
            if !self.batch.is_empty() {
                break;
            }
        }
        bank
    }

    /// A received frame, to its end in this worker.
    fn forward<const TAPPED: bool>(
        &mut self,
        rules: &Rules,
        lane: Lane,
        came: Came,
        decided: Decided,
        mut frame: Frame,
    ) {
        if TAPPED {
            self.taps.receive(came.port, self.ports.bank(came.bank).pool.data(&frame), frame.offload);
        }
        let cells = self.counts(came.port);
        bump(&cells.rx_frames, 1);
        bump(&cells.rx_bytes, frame.len() as u64);
        let mut generation = &*rules.current;
        if let (Some(previous), Decided::Before | Decided::Between) = (&rules.previous, decided) {
            if decided == Decided::Before {
                generation = previous;
            } else if !self.takes(previous, came, &frame) {
                let fate = self.pass(lane, came, frame);
                if TAPPED {
                    self.taps.end(fate, generation.id);
                }
                return;
            }
        }
        let mut verdict = self.classify(generation, came, &mut frame);
        if let (Disposition::Stack { .. }, Some(previous)) = (&verdict, &rules.previous) {
            // Steered under the rules before: they decide, so that a change of rules loses nothing.
            if lane.on_pass == OnPass::Stranded {
                generation = previous;
                verdict = self.classify(generation, came, &mut frame);
            }
        }
        self.send_copies::<TAPPED>(generation, came);
        let fate = match verdict {
            Disposition::Transmit { device, overlimits } => {
                if TAPPED {
                    self.taps.timer.leave();
                }
                match self.transmit::<TAPPED>(generation.egress(device), came, frame) {
                    Ok(()) => Fate::Sent(Some(device)),
                    Err(reason) => {
                        count_overlimits(generation, &overlimits, self.now_ms);
                        Fate::Dropped(reason)
                    }
                }
            }
            Disposition::Stack { .. } => self.pass(lane, came, frame),
            Disposition::Dropped { reason, .. } => self.drop_frame(came, reason, frame),
        };
        if TAPPED {
            self.taps.end(fate, generation.id);
        }
    }

    /// The copies that mirror made while the frame was classified.
    fn send_copies<const TAPPED: bool>(&mut self, generation: &Generation, came: Came) {
        while let Some(ready) = self.ports.bank(came.bank).staging.next() {
            bump(&self.counts(came.port).mirrored, 1);
            let sent = match self.ports.bank(came.bank).pool.alloc_copy(ready.frame()) {
                Ok(mut frame) => {
                    frame.offload = ready.offload;
                    self.transmit::<TAPPED>(generation.egress(ready.device), came, frame)
                }
                Err(reason) => {
                    self.counts(came.port).drop_one(reason);
                    Err(reason)
                }
            };
            if sent.is_err() {
                count_overlimits(generation, &ready.overlimits, self.now_ms);
            }
            self.ports.bank(came.bank).staging.done(ready);
        }
        if self.ports.bank(came.bank).staging.any_lost {
            let staging = &mut self.ports.bank(came.bank).staging;
            staging.any_lost = false;
            let lost = std::mem::take(&mut staging.lost);
            let cells = self.counts(came.port);
            for (cell, lost) in cells.drops.iter().zip(lost) {
                bump(&cells.mirrored, lost);
                bump(cell, lost);
            }
        }
    }

    fn transmit<const TAPPED: bool>(&mut self, egress: Egress, came: Came, frame: Frame) -> Result<(), DropReason> {
        match egress {
            Egress::Port(port) => self.hand_over::<TAPPED>(port, came, frame),
            Egress::Crossing { worker, port } => {
                let sent = self.send_across::<TAPPED>(worker, port, came, frame);
                match sent {
                    Ok(()) => bump(&self.counts(came.port).crossed, 1),
                    Err(reason) => self.counts(came.port).drop_one(reason),
                }
                sent
            }
            Egress::None => {
                let _told_to_the_caller = self.drop_frame(came, DropReason::TargetDown, frame);
                Err(DropReason::TargetDown)
            }
        }
    }

    /// To a port of this worker; into its own memory first, if it can send from no other.
    pub(super) fn hand_over<const TAPPED: bool>(
        &mut self,
        port: usize,
        came: Came,
        frame: Frame,
    ) -> Result<(), DropReason> {
        let Some((bank, needs_own)) = self.ports.slot(port).map(|s| (s.bank, s.port.needs_own_frames())) else {
            let _told_to_the_caller = self.drop_frame(came, DropReason::TargetDown, frame);
            return Err(DropReason::TargetDown);
        };
        if TAPPED {
            self.taps.send(port, self.ports.bank(came.bank).pool.data(&frame), frame.offload);
        }
        let sent = if needs_own && bank != came.bank {
            self.hand_copies(port, bank, came, frame)
        } else {
            let (slot, pool) = self.ports.with_bank(port, came.bank).expect("the port was there a moment ago");
            slot.port.transmit(pool, frame)
        };
        let cells = self.counts(came.port);
        bump(if sent.is_ok() { &cells.handed } else { &cells.refused }, 1);
        if TAPPED {
            self.taps.sent(sent);
            if sent.is_ok() {
                self.taps.timer.handed(port);
            }
        }
        sent
    }

    /// Copies to the port's own memory, `bank`, as on the wire: what has to be copied anyway can be cut on the way. A super-frame is taken
    /// if its first segment is.
    fn hand_copies(&mut self, port: usize, bank: usize, came: Came, frame: Frame) -> Result<(), DropReason> {
        let mut wire = Wire::of(frame);
        let mut first = None;
        while let Some(piece) = wire.next(&mut self.ports.bank(came.bank).pool) {
            let copied = match piece {
                Ok(piece) => {
                    let copied = match self.ports.two_pools(came.bank, bank) {
                        Some((from, to)) => to.alloc_copy(from.data(&piece)),
                        None => Err(DropReason::NoBuffer),
                    };
                    self.ports.bank(came.bank).pool.free(piece);
                    copied.map_err(|reason| Lost { reason, frames: 1 })
                }
                Err(lost) => Err(lost),
            };
            let Some((slot, pool)) = self.ports.with_bank(port, bank) else { continue };
            let sent = match copied {
                Ok(copy) => slot.port.transmit(pool, copy),
                Err(lost) => {
                    slot.port.count_lost(lost);
                    Err(lost.reason)
                }
            };
            first.get_or_insert(sent);
        }
        first.unwrap_or(Ok(()))
    }

    fn pass(&mut self, lane: Lane, came: Came, frame: Frame) -> Fate {
        match lane.on_pass {
            OnPass::KernelHasIt => {
                bump(&self.counts(came.port).passed, 1);
                self.ports.bank(came.bank).pool.free(frame);
                Fate::LeftToKernel
            }
            OnPass::Stranded => self.drop_frame(came, DropReason::Stranded, frame),
            OnPass::NoStack => self.drop_frame(came, DropReason::NoStack, frame),
        }
    }

    fn drop_frame(&mut self, came: Came, reason: DropReason, frame: Frame) -> Fate {
        self.counts(came.port).drop_one(reason);
        self.ports.bank(came.bank).pool.free(frame);
        Fate::Dropped(reason)
    }

    /// # Panics
    /// There is no such port: a frame's port stays until its round is over.
    fn counts(&self, port: usize) -> &PortCells {
        &self.ports.slot(port).expect("a frame's port stays until its round is over").cells
    }
}

/// The redirects that led to a failed transmission hear of it.
fn count_overlimits(generation: &Generation, overlimits: &Overlimits, now_ms: u64) {
    let mut counters = generation.cells.writer(now_ms);
    for word in overlimits.words() {
        counters.add(*word, 1);
    }
}
