//! The transmit ring: frames copied into slots, handed over by one call for many.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use super::{HEADER_LEN, Layout, bind, socket, status};
use crate::sys::call::{kick, set_option};
use crate::sys::mmap::Map;

/// Calls of sendto per flush: each ends at the first frame that the device refuses.
const KICKS_MAX: usize = 64;

/// What became of a frame that was to be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// It is in the ring.
    Yes,
    /// No slot is free.
    Full,
    /// It does not fit into a slot.
    TooLong,
}

/// What a [`TxRing::flush`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames that the kernel took.
    pub taken: u64,
    /// Of these, frames that the device's queue refused.
    pub full: u64,
    /// Of these, frames that were refused for another reason.
    pub failed: u64,
    /// Frames that were taken out of the ring because the device is down or gone.
    pub down: u64,
    /// System calls made.
    pub calls: u64,
}

/// See the file's head.
#[derive(Debug)]
pub struct TxRing {
    // Before the socket: unmapped first.
    map: Map,
    fd: OwnedFd,
    layout: Layout,
    /// Where the next frame goes.
    head: usize,
    /// Frames queued that the kernel was not asked for or did not take yet; they are right before `head`.
    queued: usize,
}

impl TxRing {
    /// A ring of at least `slots` slots for frames of up to `frame_len_max` bytes.
    ///
    /// # Errors
    /// `EPERM` (CAP_NET_RAW), `ENODEV`, `ENETDOWN`, `ENOMEM`.
    pub fn open(ifindex: u32, slots: usize, frame_len_max: usize, qdisc_bypass: bool) -> io::Result<Self> {
        let fd = socket()?;
        let slot_len = (HEADER_LEN + frame_len_max).next_power_of_two().max(2048);
        let layout = Layout::new(slots, slot_len, slot_len.max(1 << 16));
        // One bad frame must not stall the ring.
        set_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_LOSS, &1)?;
        if qdisc_bypass {
            set_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1)?;
        }
        layout.set(fd.as_fd(), libc::PACKET_TX_RING)?;
        let map = Map::shared(fd.as_fd(), layout.len())?;
        bind(fd.as_fd(), ifindex, 0)?;
        Ok(Self { map, fd, layout, head: 0, queued: 0 })
    }

    /// Copies a frame into the next slot.
    pub fn queue(&mut self, frame: &[u8]) -> Queued {
        if frame.len() > self.layout.slot_len - HEADER_LEN {
            return Queued::TooLong;
        }
        if self.queued == self.layout.slot_count || self.status_at(self.head) != libc::TP_STATUS_AVAILABLE {
            return Queued::Full;
        }
        let slot = self.slot(self.head);
        // SAFETY: the slot is available, so the kernel does not touch it; header and frame fit into it (compared above). The data
        // begins where the header ends: `po->tp_hdrlen - sizeof(struct sockaddr_ll)` (`tpacket_parse_header`).
        unsafe {
            let header = slot.cast::<libc::tpacket2_hdr>();
            (&raw mut (*header).tp_len).write(frame.len() as u32);
            (&raw mut (*header).tp_snaplen).write(frame.len() as u32);
            std::ptr::copy_nonoverlapping(frame.as_ptr(), slot.add(HEADER_LEN), frame.len());
            // Release pairs with the kernel's read in `packet_current_frame`.
            status(slot).store(libc::TP_STATUS_SEND_REQUEST, Ordering::Release);
        }
        self.head = (self.head + 1) % self.layout.slot_count;
        self.queued += 1;
        Queued::Yes
    }

    /// Hands what is queued to the kernel.
    pub fn flush(&mut self) -> Sent {
        let mut sent = Sent::default();
        for _ in 0..KICKS_MAX {
            if self.queued == 0 {
                break;
            }
            sent.calls += 1;
            let result = kick(self.fd.as_fd());
            let before = self.queued;
            self.count_taken();
            sent.taken += (before - self.queued) as u64;
            match result.map_err(|e| e.raw_os_error()) {
                Ok(()) => {
                    if self.queued == before {
                        break;
                    }
                }
                Err(Some(libc::ENOBUFS | libc::EAGAIN)) if self.queued < before => sent.full += 1,
                Err(Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR)) => break,
                Err(Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV)) => {
                    sent.down += self.withdraw();
                    break;
                }
                Err(_) if self.queued < before => sent.failed += 1,
                Err(_) => {
                    sent.failed += self.withdraw();
                    sent.taken += sent.failed;
                    break;
                }
            }
        }
        sent
    }

    /// Frames that the kernel has not taken yet.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Takes back what the kernel did not take; returns how many frames.
    pub fn withdraw(&mut self) -> u64 {
        let count = self.queued;
        for _ in 0..count {
            self.head = (self.head + self.layout.slot_count - 1) % self.layout.slot_count;
            // SAFETY: mapped as long as the ring; only `flush` lets the kernel look, so it does not race with this store.
            unsafe { status(self.slot(self.head)) }.store(libc::TP_STATUS_AVAILABLE, Ordering::Release);
        }
        self.queued = 0;
        count as u64
    }

    /// The kernel takes slots in order: whatever is no request any more was taken.
    fn count_taken(&mut self) {
        while self.queued > 0 {
            let oldest = (self.head + self.layout.slot_count - self.queued) % self.layout.slot_count;
            if self.status_at(oldest) == libc::TP_STATUS_SEND_REQUEST {
                break;
            }
            self.queued -= 1;
        }
    }

    fn status_at(&self, index: usize) -> u32 {
        // SAFETY: mapped as long as the ring. Acquire pairs with the kernel's barrier in `__packet_set_status`.
        unsafe { status(self.slot(index)) }.load(Ordering::Acquire)
    }

    fn slot(&self, index: usize) -> *mut u8 {
        self.map.at(self.layout.offset(index), self.layout.slot_len)
    }
}

impl AsFd for TxRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
