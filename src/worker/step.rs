//! One burst: receive, classify, rewrite, send. It runs per frame, so it allocates, locks, formats and logs nothing.

use std::sync::Arc;

use super::cells::{WorkerCells, bump};
use super::crossing::Crossing;
use super::generation::{Egress, Generation, Lane, OnPass};
use super::staging::Staging;
use crate::plan::{Disposition, Overlimits, Packet};
use crate::port::{Batch, Frame, FramePool, Port, Wire};
use crate::rules::CounterSink;
use crate::types::{DeviceId, DropReason, PacketMeta};
use crate::wire::vlan;

/// The rules that a worker runs.
pub(super) struct Rules {
    pub current: Arc<Generation>,
    /// The rules before, until no frame can be under way that they were to handle.
    pub previous: Option<Arc<Generation>>,
    /// The kernel's programs are in accord with `current`; until then a tap's frames are the old rules'.
    pub switched: bool,
}

/// All that a worker's burst touches besides the rules. One thread owns it.
pub(super) struct Engine {
    pub pool: FramePool,
    pub ports: Vec<Port>,
    pub batch: Batch,
    pub cells: Arc<WorkerCells>,
    /// Letter boxes of all workers; the own one is at `index`.
    pub crossings: Vec<Crossing>,
    pub index: usize,
    pub staging: Staging,
    pub now_ms: u64,
    pub now_ns: i64,
}

impl Engine {
    /// One round over all ports. True: there was something to do.
    pub fn step(&mut self, rules: &Rules) -> bool {
        let mut worked = self.take_crossed();
        for port in 0..self.ports.len() {
            self.ports[port].receive(&mut self.pool, &mut self.batch);
            worked |= !self.batch.is_empty();
            while let Some(frame) = self.batch.pop() {
                self.forward(rules, port, frame);
            }
        }
        for port in &mut self.ports {
            port.flush(&mut self.pool);
        }
        bump(&self.cells.rounds, 1);
        if worked {
            bump(&self.cells.busy_rounds, 1);
        }
        worked
    }

    /// A received frame, to its end in this worker.
    fn forward(&mut self, rules: &Rules, port: usize, mut frame: Frame) {
        let cells = &self.cells.ports[port];
        bump(&cells.rx_frames, 1);
        bump(&cells.rx_bytes, frame.len() as u64);
        let mut generation = &*rules.current;
        if let (false, Some(previous), OnPass::KernelHasIt) =
            (rules.switched, &rules.previous, generation.lanes[port].on_pass)
        {
            generation = previous;
        }
        let mut verdict = self.classify(generation, port, &mut frame);
        if let (Disposition::Stack { .. }, Some(previous)) = (&verdict, &rules.previous) {
            // Steered under the rules before: they decide, so that a change of rules loses nothing.
            if generation.lanes[port].on_pass == OnPass::Stranded {
                generation = previous;
                verdict = self.classify(generation, port, &mut frame);
            }
        }
        self.send_copies(generation, port);
        match verdict {
            Disposition::Transmit { device, overlimits } => {
                let sent = self.transmit(generation.egress(device), port, frame);
                if sent.is_err() {
                    count_overlimits(generation, &overlimits, self.now_ms);
                }
            }
            Disposition::Stack { .. } => self.pass(generation.lanes[port], port, frame),
            Disposition::Dropped { reason, .. } => self.drop_frame(port, reason, frame),
        }
    }

    /// What the rules make of a frame; it is rewritten, its tag is back, and a verdict to send it on means that it is whole.
    fn classify(&mut self, generation: &Generation, port: usize, frame: &mut Frame) -> Disposition {
        let Lane { hook: Some(hook), mac, .. } = generation.lanes[port] else {
            return Disposition::Stack { device: DeviceId(0) };
        };
        let offload = frame.offload;
        let (room, at) = self.pool.whole_mut(frame);
        let received = match vlan::receive(&mut room[at.clone()], mac) {
            Ok(received) => received,
            Err(reason) => return Disposition::Dropped { device: DeviceId(0), reason },
        };
        let meta = PacketMeta { offload, ..received.meta };
        let mut packet = Packet::new(room, at.start + received.start..at.end, meta);
        let mut counters = generation.cells.writer(self.now_ms).with_tokens(&generation.tokens, self.now_ns);
        self.staging.begin(&generation.up);
        let verdict = generation.plan.run(hook, &mut packet, &mut counters, &mut self.staging);
        let (at, tag, offload) = (packet.frame(), packet.meta.tag, packet.meta.offload);
        let whole = match tag {
            Some(tag) => vlan::put_back_in(room, at, tag),
            None => Ok(at),
        };
        match (whole, verdict) {
            (Ok(at), verdict) => {
                self.pool.set_place(frame, at);
                frame.offload = offload;
                verdict
            }
            (Err(_), dropped @ Disposition::Dropped { .. }) => dropped,
            (Err(reason), Disposition::Stack { device }) => Disposition::Dropped { device, reason },
            (Err(reason), Disposition::Transmit { device, overlimits }) => {
                for word in overlimits.words() {
                    counters.add(*word, 1);
                }
                Disposition::Dropped { device, reason }
            }
        }
    }

    /// The copies that mirror made while the frame was classified.
    fn send_copies(&mut self, generation: &Generation, port: usize) {
        while let Some(ready) = self.staging.next() {
            bump(&self.cells.ports[port].mirrored, 1);
            let sent = match self.pool.alloc_copy(ready.frame()) {
                Ok(mut frame) => {
                    frame.offload = ready.offload;
                    self.transmit(generation.egress(ready.device), port, frame)
                }
                Err(reason) => {
                    self.cells.ports[port].drop_one(reason);
                    Err(reason)
                }
            };
            if sent.is_err() {
                count_overlimits(generation, &ready.overlimits, self.now_ms);
            }
            self.staging.done(ready);
        }
        if self.staging.any_lost {
            self.staging.any_lost = false;
            for (cell, lost) in self.cells.ports[port].drops.iter().zip(&mut self.staging.lost) {
                bump(&self.cells.ports[port].mirrored, *lost);
                bump(cell, std::mem::take(lost));
            }
        }
    }

    fn transmit(&mut self, egress: Egress, from: usize, frame: Frame) -> Result<(), DropReason> {
        match egress {
            Egress::Port(port) => self.hand_over(port, from, frame),
            Egress::Crossing { worker, port } => {
                let sent = self.cross(worker, port, frame);
                match sent {
                    Ok(()) => bump(&self.cells.ports[from].crossed, 1),
                    Err(reason) => self.cells.ports[from].drop_one(reason),
                }
                sent
            }
            Egress::None => {
                self.drop_frame(from, DropReason::TargetDown, frame);
                Err(DropReason::TargetDown)
            }
        }
    }

    /// To another worker, as on the wire. For a super-frame: how it went with the first of its segments that did not go.
    fn cross(&mut self, worker: usize, port: usize, frame: Frame) -> Result<(), DropReason> {
        let mut sent = Ok(());
        let mut wire = Wire::of(frame);
        while let Some(piece) = wire.next(&mut self.pool) {
            sent = sent.and(match piece {
                Ok(piece) => {
                    let sent = self.crossings[worker].send(port, self.pool.data(&piece));
                    self.pool.free(piece);
                    sent
                }
                Err(lost) => Err(lost.reason),
            });
        }
        sent
    }

    fn hand_over(&mut self, port: usize, from: usize, frame: Frame) -> Result<(), DropReason> {
        let sent = self.ports[port].transmit(&mut self.pool, frame);
        let cells = &self.cells.ports[from];
        bump(if sent.is_ok() { &cells.handed } else { &cells.refused }, 1);
        sent
    }

    fn pass(&mut self, lane: Lane, port: usize, frame: Frame) {
        match lane.on_pass {
            OnPass::KernelHasIt => {
                bump(&self.cells.ports[port].passed, 1);
                self.pool.free(frame);
            }
            OnPass::Stranded => self.drop_frame(port, DropReason::Stranded, frame),
            OnPass::NoStack => self.drop_frame(port, DropReason::NoStack, frame),
        }
    }

    fn drop_frame(&mut self, port: usize, reason: DropReason, frame: Frame) {
        self.cells.ports[port].drop_one(reason);
        self.pool.free(frame);
    }

    /// Frames that other workers left for this one's ports.
    fn take_crossed(&mut self) -> bool {
        let mut worked = false;
        for _ in 0..crate::limits::BURST_LEN {
            let Some(crossed) = self.crossings[self.index].receive() else { break };
            worked = true;
            let port = crossed.port;
            bump(&self.cells.ports[port].crossed_in, 1);
            match self.pool.alloc_copy(crossed.frame()) {
                Ok(frame) => {
                    let _counted = self.hand_over(port, port, frame);
                }
                Err(reason) => self.cells.ports[port].drop_one(reason),
            }
            self.crossings[self.index].done(crossed);
        }
        worked
    }
}

/// The redirects that led to a failed transmission hear of it.
fn count_overlimits(generation: &Generation, overlimits: &Overlimits, now_ms: u64) {
    let mut counters = generation.cells.writer(now_ms);
    for word in overlimits.words() {
        counters.add(*word, 1);
    }
}
