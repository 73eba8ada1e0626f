//! Copies that mirror makes while a frame is classified: in buffers that were taken at start, sent right afterwards.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::limits::VLAN_TAG_LEN;
use crate::plan::{Disposition, Outlet, Overlimits};
use crate::types::{DeviceId, DropReason, PacketMeta};

/// Copies that one frame may cause.
const COPIES_MAX: usize = 32;

/// A buffer with a copy. The tag's place is kept free in front of the frame.
#[derive(Debug)]
pub(super) struct Copy {
    bytes: Box<[u8]>,
    len: usize,
}

impl AsMut<[u8]> for Copy {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[VLAN_TAG_LEN..VLAN_TAG_LEN + self.len]
    }
}

/// A copy that a device is to transmit.
#[derive(Debug)]
pub(super) struct Ready {
    pub device: DeviceId,
    pub overlimits: Overlimits,
    copy: Copy,
    start: usize,
}

impl Ready {
    /// As it goes on the wire.
    pub fn frame(&self) -> &[u8] {
        &self.copy.bytes[self.start..VLAN_TAG_LEN + self.copy.len]
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
            free: (0..COPIES_MAX).map(|_| vec![0; VLAN_TAG_LEN + frame_len_max].into_boxed_slice()).collect(),
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

    pub fn done(&mut self, ready: Ready) {
        self.free.push(ready.copy.bytes);
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
        if data.len() + VLAN_TAG_LEN > bytes.len() {
            self.free.push(bytes);
            self.lose(DropReason::TooLong);
            return None;
        }
        bytes[VLAN_TAG_LEN..VLAN_TAG_LEN + data.len()].copy_from_slice(data);
        Some(Copy { bytes, len: data.len() })
    }

    fn settle(&mut self, mut copy: Copy, meta: &PacketMeta, disposition: &Disposition) -> bool {
        let reason = match *disposition {
            Disposition::Transmit { device, overlimits } => {
                let mut start = VLAN_TAG_LEN;
                if let Some(tag) = meta.tag {
                    start = 0;
                    crate::wire::vlan::put_back(&mut copy.bytes[..VLAN_TAG_LEN + copy.len], tag);
                }
                self.ready.push_back(Ready { device, overlimits, copy, start });
                return true;
            }
            // Rules that let a copy into a stack are refused before anything is attached.
            Disposition::Stack { .. } => DropReason::NoStack,
            Disposition::Dropped { reason, .. } => reason,
        };
        self.lose(reason);
        self.free.push(copy.bytes);
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
