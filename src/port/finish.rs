//! Frames as they go on the wire, for ports that cannot leave work to a device: checksums completed, super-frames cut. It sends nothing.

use super::{Frame, FramePool};
use crate::types::{DropReason, Offload};
use crate::wire::segment::segments;
use crate::wire::{be16, checksum};

/// The wire frames that one frame stands for, in order. Each turn of [`Wire::next`] gives one; there are no more than the frame has
/// bytes.
#[derive(Debug)]
pub struct Wire {
    frame: Option<Frame>,
    position: usize,
}

/// Wire frames that cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Why.
    pub reason: DropReason,
    /// How many.
    pub frames: usize,
}

impl Wire {
    /// Of this frame.
    #[must_use]
    pub const fn of(frame: Frame) -> Self {
        Self { frame: Some(frame), position: 0 }
    }

    /// The next one, which is the caller's; the super-frame is freed with its last. After an error there is nothing left.
    pub fn next(&mut self, pool: &mut FramePool) -> Option<Result<Frame, Lost>> {
        let frame = self.frame.take()?;
        if frame.offload.gso.is_none() {
            return Some(Ok(complete(pool, frame)));
        }
        let (piece, is_last) = cut(pool, &frame, self.position);
        self.position += 1;
        if is_last || piece.is_err() {
            pool.free(frame);
        } else {
            self.frame = Some(frame);
        }
        Some(piece)
    }
}

fn complete(pool: &mut FramePool, mut frame: Frame) -> Frame {
    if let Some(partial) = std::mem::take(&mut frame.offload).checksum {
        let bytes = pool.data_mut(&mut frame);
        // A field that actions took off the frame's head with its header is not there to be completed.
        if let Some(start) = bytes.len().checked_sub(partial.covers as usize) {
            let _completed = checksum::complete_at(bytes, start as u16, partial.field);
        }
    }
    frame
}

/// The segment at `position`, and whether it is the last.
fn cut(pool: &mut FramePool, frame: &Frame, position: usize) -> (Result<Frame, Lost>, bool) {
    let Offload { gso: Some(gso), .. } = frame.offload else {
        return (Err(Lost { reason: DropReason::Malformed, frames: 1 }), true);
    };
    let (len_max, remaining) = match segments(pool.data(frame), gso) {
        Ok(segmenter) => (segmenter.segment_len_max(), segmenter.remaining().saturating_sub(position)),
        Err(_) => return (Err(Lost { reason: DropReason::Malformed, frames: 1 }), true),
    };
    let mut piece = match pool.alloc_for(len_max) {
        Ok(piece) => piece,
        Err(reason) => return (Err(Lost { reason, frames: remaining }), true),
    };
    let (from, to) = pool.pair_mut(frame, &mut piece);
    let written = segments(from, gso).ok().and_then(|mut segmenter| {
        segmenter.seek(position);
        let len = segmenter.next_into(to)?;
        // As the kernel, which goes on from the sum that it finds (`tcp_gso_segment`, `__udp_gso_segment`): one that no action mended
        // stays wrong.
        let stale = frame.offload.checksum.and_then(|partial| checksum::stale_partial(from, partial));
        if let Some((field, found, right)) = stale {
            let sum = checksum::update(be16(to, field), right, found);
            to[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        }
        Some(len)
    });
    match written {
        Some(len) => {
            pool.set_len(&mut piece, len);
            (Ok(piece), remaining <= 1)
        }
        None => {
            pool.free(piece);
            (Err(Lost { reason: DropReason::Malformed, frames: remaining }), true)
        }
    }
}
