//! Copies that mirror makes while a frame is classified: in buffers that were taken at start, sent right afterwards.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::limits::FRAME_HEADROOM;
use crate::plan::{Disposition, Outlet, Overlimits};
use crate::types::{DeviceId, DropReason, Offload, PacketMeta};
use crate::wire::vlan::put_back_in;

/// Copies that one frame may cause.
const COPIES_MAX: usize = 32;

/// A buffer with a copy, behind [`FRAME_HEADROOM`]. What is behind the copy is of earlier ones.
#[derive(Debug)]
pub(super) struct Copy(Box<[u8]>);

impl AsMut<[u8]> for Copy {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// A copy that a device is to transmit.
#[derive(Debug)]
pub(super) struct Ready {
    pub device: DeviceId,
    pub overlimits: Overlimits,
    /// What is left to the device.
    pub offload: Offload,
    copy: Copy,
    at: Range<usize>,
}

impl Ready {
    /// As it goes on the wire.
    pub fn frame(&self) -> &[u8] {
        &self.copy.0[self.at.clone()]
    }
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Staging {
    free: Vec<Box<[u8]>>,
    ready: VecDeque<Ready>,
    /// Copies that ended on the way, by reason; read and cleared by the worker.
    pub lost: [u64; DropReason::ALL.len()],
    /// Whether anything is in `lost`.
    pub any_lost: bool,
    up: Arc<[AtomicBool]>,
    random: u32,
}

impl Staging {
    /// For frames of at most `frame_len_max` bytes; all memory is taken now.
    pub fn new(frame_len_max: usize, seed: u32) -> Self {
        Self {
            free: (0..COPIES_MAX).map(|_| vec![0; FRAME_HEADROOM + frame_len_max].into_boxed_slice()).collect(),
            ready: VecDeque::with_capacity(COPIES_MAX),
            lost: [0; DropReason::ALL.len()],
            any_lost: false,
            up: Arc::from([]),
            random: seed | 1,
        }
    }

    /// Before a frame is classified. `up` says which devices are up.
    pub fn begin(&mut self, up: &Arc<[AtomicBool]>) {
        if !Arc::ptr_eq(&self.up, up) {
            self.up = Arc::clone(up);
        }
    }

    /// The next copy to send; give it back with [`Staging::done`].
    pub fn next(&mut self) -> Option<Ready> {
        self.ready.pop_front()
    }

    /// Forgets the copies that were made and not sent.
    pub fn discard(&mut self) {
        while let Some(ready) = self.next() {
            self.done(ready);
        }
        self.lost = Default::default();
        self.any_lost = false;
    }

    pub fn done(&mut self, ready: Ready) {
        self.free.push(ready.copy.0);
    }

    fn lose(&mut self, reason: DropReason) {
        self.lost[reason.index()] += 1;
        self.any_lost = true;
    }
}

impl Outlet for Staging {
    type Copy = Copy;

    fn is_up(&self, device: DeviceId) -> bool {
        self.up.get(device.index()).is_none_or(|up| up.load(Ordering::Relaxed))
    }

    fn copy(&mut self, data: &[u8]) -> Option<Copy> {
        let Some(mut bytes) = self.free.pop() else {
            self.lose(DropReason::NoBuffer);
            return None;
        };
        if data.len() + FRAME_HEADROOM > bytes.len() {
            self.free.push(bytes);
            self.lose(DropReason::TooLong);
            return None;
        }
        bytes[FRAME_HEADROOM..FRAME_HEADROOM + data.len()].copy_from_slice(data);
        Some(Copy(bytes))
    }

    fn settle(&mut self, mut copy: Copy, frame: Range<usize>, meta: &PacketMeta, disposition: &Disposition) -> bool {
        let reason = match *disposition {
            Disposition::Transmit { device, overlimits } => {
                let whole = match meta.tag {
                    Some(tag) => put_back_in(&mut copy.0, frame, tag),
                    None => Ok(frame),
                };
                match whole {
                    Ok(at) => {
                        self.ready.push_back(Ready { device, overlimits, offload: meta.offload, copy, at });
                        return true;
                    }
                    Err(reason) => {
                        self.lose(reason);
                        self.free.push(copy.0);
                        return false;
                    }
                }
            }
            // Rules that let a copy into a stack are refused before anything is attached.
            Disposition::Stack { .. } => DropReason::NoStack,
            Disposition::Dropped { reason, .. } => reason,
        };
        self.lose(reason);
        self.free.push(copy.0);
        true
    }

    fn random_below(&mut self, bound: u32) -> u32 {
        // Marsaglia's xorshift32: chance enough for `random netrand`.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random % bound.max(1)
    }
}
