//! Copies that mirror makes while a frame is classified: kept in memory that was taken at start, sent right afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::limits::{ACTIONS_PER_FILTER_MAX, FRAME_LEN_MAX};
use crate::plan::Outlet;
use crate::types::{DeviceId, Direction, DropReason, PacketMeta};

/// Bytes of copies that one frame may cause: a list of mirrors of a long frame.
const BYTES_MAX: usize = 8 * FRAME_LEN_MAX;
/// Copies that one frame may cause.
const COPIES_MAX: usize = ACTIONS_PER_FILTER_MAX * 4;

/// See the file's head.
#[derive(Debug)]
pub(super) struct Staging {
    bytes: Vec<u8>,
    copies: Vec<(DeviceId, usize)>,
    lost: Vec<DropReason>,
    up: Arc<[AtomicBool]>,
}

impl Staging {
    pub fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(BYTES_MAX),
            copies: Vec::with_capacity(COPIES_MAX),
            lost: Vec::with_capacity(COPIES_MAX),
            up: Arc::from([]),
        }
    }

    /// Forgets the copies of the frame before. `up` says which devices are up.
    pub fn begin(&mut self, up: &Arc<[AtomicBool]>) {
        if !Arc::ptr_eq(&self.up, up) {
            self.up = Arc::clone(up);
        }
        self.bytes.clear();
        self.copies.clear();
        self.lost.clear();
    }

    pub fn len(&self) -> usize {
        self.copies.len()
    }

    /// A copy as it goes on the wire, and the device that transmits it.
    pub fn copy(&self, index: usize) -> (DeviceId, &[u8]) {
        let start = if index == 0 { 0 } else { self.copies[index - 1].1 };
        let (device, end) = self.copies[index];
        (device, &self.bytes[start..end])
    }

    /// Why copies were not kept.
    pub fn take_lost(&mut self) -> std::vec::Drain<'_, DropReason> {
        self.copies.clear();
        self.lost.drain(..)
    }
}

impl Outlet for Staging {
    fn is_up(&self, device: DeviceId) -> bool {
        self.up.get(device.index()).is_none_or(|up| up.load(Ordering::Relaxed))
    }

    fn mirror(
        &mut self,
        device: DeviceId,
        direction: Direction,
        data: &[u8],
        meta: &PacketMeta,
    ) -> Result<(), DropReason> {
        let len = data.len() + if meta.tag.is_some() { crate::limits::VLAN_TAG_LEN } else { 0 };
        let reason = match direction {
            // What would go up a stack from here cannot: such rules are refused before anything is attached.
            Direction::Ingress => Some(DropReason::NoStack),
            Direction::Egress if self.copies.len() == COPIES_MAX || self.bytes.len() + len > BYTES_MAX => {
                Some(DropReason::NoBuffer)
            }
            Direction::Egress => None,
        };
        if let Some(reason) = reason {
            if self.lost.len() < COPIES_MAX {
                self.lost.push(reason);
            }
            return Err(reason);
        }
        match meta.tag {
            None => self.bytes.extend_from_slice(data),
            Some(tag) => {
                self.bytes.extend_from_slice(&data[..12]);
                self.bytes.extend_from_slice(&tag.tpid.to_be_bytes());
                self.bytes.extend_from_slice(&tag.tci.to_be_bytes());
                self.bytes.extend_from_slice(&data[12..]);
            }
        }
        self.copies.push((device, self.bytes.len()));
        Ok(())
    }
}
