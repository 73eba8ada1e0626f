//! A tap in some namespace: its stack is on the other side. One system call per frame.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::{Batch, Frame, FramePool, PortError, PortStats};
use crate::limits::{ETHERNET_LEN, VLAN_TAG_LEN};
use crate::sys;
use crate::types::DropReason;

/// What a tap is opened with.
#[derive(Clone, Debug)]
pub struct TapConfig {
    /// In the calling thread's namespace; created if it is not there.
    pub name: String,
    /// Longer frames are not written.
    pub mtu: u32,
}

/// See the file's head.
#[derive(Debug)]
pub struct Tap {
    tap: Option<sys::tap::Tap>,
    mtu: usize,
    stats: PortStats,
}

impl Tap {
    /// Attaches to the tap.
    ///
    /// # Errors
    /// See [`PortError`].
    pub fn open(config: &TapConfig) -> Result<Self, PortError> {
        Self::open_queue(config, false)
    }

    /// Attaches one of several queues (`IFF_MULTI_QUEUE`), one per worker.
    ///
    /// # Errors
    /// See [`PortError`].
    pub fn open_queue(config: &TapConfig, multi_queue: bool) -> Result<Self, PortError> {
        let tap =
            sys::tap::Tap::open(&config.name, multi_queue).map_err(|e| PortError::system(&config.name, "tap", e))?;
        Ok(Self { tap: Some(tap), mtu: config.mtu as usize, stats: PortStats::default() })
    }

    pub(super) fn receive(&mut self, pool: &mut FramePool, into: &mut Batch) {
        let Some(tap) = &mut self.tap else { return };
        while !into.is_full() {
            // Without a chunk the frame stays in the tap's queue; the kernel counts what overflows there.
            let Some(mut frame) = pool.alloc() else { break };
            let buffer = pool.buffer_mut(&mut frame);
            let capacity = buffer.len();
            match tap.read(buffer) {
                // The kernel cuts what is longer without a sign.
                Ok(len) if len == capacity => {
                    pool.free(frame);
                    self.stats.drop_many(DropReason::TooLong, 1);
                }
                Ok(len) => {
                    pool.set_len(&mut frame, len);
                    self.stats.rx_frames += 1;
                    self.stats.rx_bytes += len as u64;
                    let pushed = into.push(frame);
                    assert!(pushed.is_ok(), "a batch that is not full takes a frame");
                }
                // Nothing there; or the device is gone or down (EBADFD, EIO), from where nothing comes.
                Err(_) => {
                    pool.free(frame);
                    break;
                }
            }
        }
    }

    pub(super) fn transmit(&mut self, pool: &mut FramePool, frame: Frame) -> Result<(), DropReason> {
        let sent = self.write(pool.data(&frame));
        match sent {
            Ok(()) => {
                self.stats.tx_frames += 1;
                self.stats.tx_bytes += frame.len() as u64;
            }
            Err(reason) => self.stats.drop_many(reason, 1),
        }
        pool.free(frame);
        sent
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DropReason> {
        // A QinQ frame may have two tags beyond the MTU (`eth_type_vlan` devices take them as they come).
        if bytes.len() > self.mtu + ETHERNET_LEN + 2 * VLAN_TAG_LEN {
            return Err(DropReason::TooLong);
        }
        let Some(tap) = &mut self.tap else { return Err(DropReason::TargetDown) };
        self.stats.tx_wakeups += 1;
        match tap.write(bytes) {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(DropReason::TxFull),
            Err(e) => match e.raw_os_error() {
                Some(libc::EIO | libc::EBADFD | libc::ENETDOWN) => Err(DropReason::TargetDown),
                Some(libc::ENOBUFS | libc::ENOMEM) => Err(DropReason::TxFull),
                Some(_) | None => Err(DropReason::TxError),
            },
        }
    }

    pub(super) fn flush(&mut self, _pool: &mut FramePool) {}

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.tap.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn stats(&mut self) -> PortStats {
        self.stats.clone()
    }

    pub(super) fn drain(&mut self, _pool: &mut FramePool) {
        self.tap = None;
    }
}
