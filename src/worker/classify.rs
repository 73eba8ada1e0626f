//! What the rules make of a frame that a worker received. It sends nothing.

use super::cells::Uncounted;
use super::generation::{Generation, Lane};
use super::ports::Bank;
use super::step::{Came, Engine};
use crate::plan::{Disposition, Packet};
use crate::port::Frame;
use crate::rules::CounterSink;
use crate::types::{DeviceId, PacketMeta};
use crate::wire::vlan;

impl Engine {
    /// Whether the rules take a frame away from the kernel; nothing happens to it. False also if it cannot be told now.
    pub(super) fn takes(&mut self, generation: &Generation, came: Came, frame: &Frame) -> bool {
        let pool = &mut self.ports.bank(came.bank).pool;
        let Ok(mut trial) = pool.alloc_duplicate(frame) else { return false };
        let mut uncounted = Uncounted(generation.cells.writer(self.now_ms));
        let verdict = self.classify_into(generation, came, &mut trial, &mut uncounted);
        let Bank { pool, staging } = self.ports.bank(came.bank);
        pool.free(trial);
        staging.discard();
        !matches!(verdict, Disposition::Stack { .. })
    }

    /// What the rules make of a frame; it is rewritten, its tag is back, and a verdict to send it on means that it is whole.
    pub(super) fn classify(&mut self, generation: &Generation, came: Came, frame: &mut Frame) -> Disposition {
        let mut counters = generation.cells.writer(self.now_ms).with_tokens(&generation.tokens, self.now_ns);
        self.classify_into(generation, came, frame, &mut counters)
    }

    fn classify_into<C: CounterSink>(
        &mut self,
        generation: &Generation,
        came: Came,
        frame: &mut Frame,
        counters: &mut C,
    ) -> Disposition {
        // A port that these rules do not know has no hook in them.
        let Some(Lane { hook: Some(hook), mac, .. }) = generation.lane(came.port) else {
            return Disposition::Stack { device: DeviceId(0) };
        };
        let Bank { pool, staging } = self.ports.bank(came.bank);
        let offload = frame.offload;
        let (room, at) = pool.whole_mut(frame);
        let received = match vlan::receive(&mut room[at.clone()], mac) {
            Ok(received) => received,
            Err(reason) => return Disposition::Dropped { device: DeviceId(0), reason },
        };
        let meta = PacketMeta { offload, ..received.meta };
        let mut packet = Packet::new(room, at.start + received.start..at.end, meta);
        staging.begin(&generation.up);
        let verdict = generation.plan.run(hook, &mut packet, counters, staging);
        let (at, tag, offload) = (packet.frame(), packet.meta.tag, packet.meta.offload);
        let whole = match tag {
            Some(tag) => vlan::put_back_in(room, at, tag),
            None => Ok(at),
        };
        match (whole, verdict) {
            (Ok(at), verdict) => {
                pool.set_place(frame, at);
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
}
