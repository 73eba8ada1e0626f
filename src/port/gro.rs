//! Frames of one TCP flow in a row, on their way out of a port, made into one super-frame. It waits for nothing: whoever uses it sends
//! what is held at the end of each round.

use crate::limits::FRAME_LEN_MAX;
use crate::types::Offload;
use crate::wire::merge::Merge;

/// What a port holds back for the frames to come: a copy, so that it is no matter whose memory they are in.
#[derive(Debug)]
pub(super) struct Merger {
    buffer: Box<[u8]>,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    merge: Merge,
    /// Of its first frame.
    offload: Offload,
}

/// What is to be sent now.
#[derive(Debug)]
pub(super) struct Ready {
    pub buffer: Box<[u8]>,
    pub len: usize,
    pub offload: Offload,
    /// How many frames it was made of.
    pub count: u32,
}

impl Merger {
    /// One that holds nothing, with memory for a frame of any length if it is ever to hold one.
    pub fn new(enabled: bool) -> Self {
        Self { buffer: vec![0; if enabled { FRAME_LEN_MAX } else { 0 }].into_boxed_slice(), held: None }
    }

    /// Takes a copy of a frame that goes on where what is held ends. False: it does not.
    pub fn append(&mut self, frame: &[u8], offload: &Offload) -> bool {
        let Some(held) = &mut self.held else { return false };
        let takes = held.merge.takes(&self.buffer[..held.merge.len()], &held.offload, frame, offload)
            && held.merge.room_for(frame) <= self.buffer.len();
        if takes {
            held.merge.append(&mut self.buffer, frame);
        }
        takes
    }

    /// Takes a copy of a frame that others may follow. False: none can, or something is held already.
    pub fn begin(&mut self, frame: &[u8], offload: &Offload) -> bool {
        if self.held.is_some() || frame.len() > self.buffer.len() {
            return false;
        }
        let Some(merge) = Merge::begin(frame, offload) else { return false };
        self.buffer[..frame.len()].copy_from_slice(frame);
        self.held = Some(Held { merge, offload: *offload });
        true
    }

    /// What is held, to be sent now. Its buffer comes back by [`Merger::done`].
    pub fn take(&mut self) -> Option<Ready> {
        let Held { merge, offload } = self.held.take()?;
        let mut buffer = std::mem::take(&mut self.buffer);
        let offload = merge.finish(&mut buffer).unwrap_or(offload);
        Some(Ready { buffer, len: merge.len(), offload, count: merge.count() })
    }

    /// It was sent.
    pub fn done(&mut self, ready: Ready) {
        self.buffer = ready.buffer;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::port::{FramePool, PoolConfig, Wire};
    use crate::types::{Gso, GsoKind};
    use crate::wire::{checksum, segment};

    /// The frames that a device would make of `payload_len` bytes, `size` in each.
    fn flow(v6: bool, tag: bool, options: bool, size: u16, payload_len: usize) -> Vec<Vec<u8>> {
        let ethernet = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]);
        let ip = match v6 {
            true => ethernet.ipv6([7; 16], [9; 16], 64),
            false => ethernet.ipv4([198, 18, 0, 1], [198, 18, 0, 2], 64),
        };
        let mut tcp = ip.tcp(40_000, 5001, u32::MAX - 3000, 512).ack(7).psh();
        if options {
            tcp = tcp.options_raw(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]).unwrap();
        }
        let payload: Vec<u8> = (0..payload_len).map(|i| ((i * 31) >> 3) as u8).collect();
        let mut whole = Vec::new();
        tcp.write(&mut whole, &payload).unwrap();
        if tag {
            whole.splice(12..12, [0x81, 0, 0, 5]);
        }
        let kind = if v6 { GsoKind::TcpV6 } else { GsoKind::TcpV4 };
        let mut segmenter = segment::segments(&whole, Gso { kind, size, ecn: false }).unwrap();
        let mut buffer = vec![0; segmenter.segment_len_max()];
        std::iter::from_fn(|| segmenter.next_into(&mut buffer).map(|len| buffer[..len].to_vec())).collect()
    }

    fn pool() -> FramePool {
        FramePool::new(PoolConfig { chunk_count: 256, chunk_len: 2048, umem: false }).unwrap().with_large(8)
    }

    /// Sends frames through a merger and cuts what comes out: the wire frames, and how many frames came out.
    fn through(frames: &[(Vec<u8>, Offload)]) -> (Vec<Vec<u8>>, usize) {
        let (mut pool, mut merger) = (pool(), Merger::new(true));
        let (mut wire, mut sent, mut counted) = (Vec::new(), 0, 0);
        let mut send = |bytes: &[u8], offload: Offload, count: u32| {
            (sent, counted) = (sent + 1, counted + count);
            let mut frame = pool.alloc_copy(bytes).unwrap();
            frame.offload = offload;
            let mut pieces = Wire::of(frame);
            while let Some(piece) = pieces.next(&mut pool) {
                let piece = piece.unwrap();
                wire.push(pool.data(&piece).to_vec());
                pool.free(piece);
            }
        };
        let flush = |merger: &mut Merger, send: &mut dyn FnMut(&[u8], Offload, u32)| {
            if let Some(ready) = merger.take() {
                send(&ready.buffer[..ready.len], ready.offload, ready.count);
                merger.done(ready);
            }
        };
        for (bytes, offload) in frames {
            if merger.append(bytes, offload) {
                continue;
            }
            flush(&mut merger, &mut send);
            if !merger.begin(bytes, offload) {
                send(bytes, *offload, 1);
            }
        }
        flush(&mut merger, &mut send);
        assert_eq!((pool.outstanding(), counted as usize), (0, frames.len()));
        (wire, sent)
    }

    #[test]
    fn a_flow_becomes_few_frames_and_is_the_same_when_cut_again() {
        for bits in 0..8u8 {
            let frames = flow(bits & 1 != 0, bits & 2 != 0, bits & 4 != 0, 1000, 60_500);
            let plain: Vec<_> = frames.iter().map(|f| (f.clone(), Offload::NONE)).collect();
            let (wire, sent) = through(&plain);
            assert!(wire == frames && sent == 1, "{sent} frames");
            // As a local stack leaves them: the checksum is still to be computed.
            let partial: Vec<_> = frames
                .iter()
                .map(|frame| {
                    let mut frame = frame.clone();
                    let checksum = checksum::make_partial(&mut frame);
                    (frame, Offload { checksum, gso: None })
                })
                .collect();
            let (wire, sent) = through(&partial);
            assert!(wire == frames && sent == 1);
        }
    }

    #[test]
    fn a_wrong_checksum_is_not_mended() {
        let mut frames: Vec<_> =
            flow(false, false, false, 500, 2000).into_iter().map(|frame| (frame, Offload::NONE)).collect();
        for broken in [0, 2] {
            let last = frames[broken].0.len() - 1;
            frames[broken].0[last] ^= 1;
            let (wire, sent) = through(&frames);
            assert!(wire.iter().eq(frames.iter().map(|(frame, _)| frame)));
            assert!(sent > 1, "the broken frame is sent by itself");
            frames[broken].0[last] ^= 1;
        }
    }

    proptest! {
        /// Whatever the frames are like, merging and cutting gives the same ones in the same order.
        #[test]
        fn what_is_merged_and_cut_again_is_what_came(
            bits in 0u8..8,
            size in 1u16..1400,
            len in 1usize..12_000,
            partial: u32,
            changes in prop::collection::vec((any::<prop::sample::Index>(), 0usize..90, any::<u8>()), 0..4),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        ) {
            let size = size.max((len / 200) as u16 + 1);
            let mut frames: Vec<_> = flow(bits & 1 != 0, bits & 2 != 0, bits & 4 != 0, size, len)
                .into_iter()
                .enumerate()
                .map(|(n, mut frame)| {
                    let left = partial >> (n % 32) & 1 != 0;
                    let checksum = if left { checksum::make_partial(&mut frame) } else { None };
                    (frame, Offload { checksum, gso: None })
                })
                .collect();
            for (which, at, byte) in changes {
                let count = frames.len();
                let frame = &mut frames[which.index(count)].0;
                let at = at.min(frame.len() - 1);
                frame[at] = byte;
            }
            for which in order {
                let frame = frames.remove(which.index(frames.len()));
                frames.push(frame);
            }
            let expected: Vec<Vec<u8>> = frames.iter().map(|(frame, offload)| {
                let mut frame = frame.clone();
                if let Some(partial) = offload.checksum {
                    let start = (frame.len() - partial.covers as usize) as u16;
                    checksum::complete_at(&mut frame, start, partial.field);
                }
                frame
            }).collect();
            let (wire, _) = through(&frames);
            prop_assert_eq!(wire.len(), expected.len());
            for (got, want) in wire.iter().zip(&expected) {
                // A sum of zero may be written in two ways when a partial one is completed.
                let zero = |at: usize| want[at..at + 2] == [0xff; 2] && got[at..at + 2] == [0; 2];
                prop_assert!(got.len() == want.len());
                let same_but =
                    |at: usize| zero(at) && got[..at] == want[..at] && got[at + 2..] == want[at + 2..];
                let same = got == want || (0..want.len() - 1).any(same_but);
                prop_assert!(same);
            }
        }
    }
}
