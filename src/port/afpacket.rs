//! Frames of a device through AF_PACKET rings (TPACKET_V2). It only taps: the host's stack gets every received frame as well.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::afpacket_config::PacketConfig;
use super::afpacket_rx::{self, Content, copy, make_whole};
use super::device::{explain, fits_device, refusal};
use super::gro::Merger;
use super::{Batch, Frame, FramePool, PortError, PortStats, vnet};
use crate::limits::VLAN_TAG_LEN;
use crate::sys::packet::{RingConfig, RingSocket, TX_FRAME_LEN_MAX};
use crate::sys::{packet_abi as abi, socket};
use crate::types::{DropReason, Offload, VlanTag};

/// System calls of one flush: each goes on where the last one stopped for lack of send buffer or at a frame that was refused.
const KICKS_MAX: u32 = 8;
/// Long frames of one receive: few, so that their chunks are used again while they are in the cache.
pub(super) const LONG_PER_RECEIVE: usize = 4;
/// How long [`AfPacket::drain`] waits for frames under way.
const DRAIN_TIME_MAX: Duration = Duration::from_millis(500);
/// Empty receives between two looks at the socket's pending error.
const EMPTY_PER_ERROR_CHECK: u32 = 1024;

/// A port on a packet socket.
#[derive(Debug)]
pub struct AfPacket {
    ring: RingSocket,
    mtu: usize,
    stats: PortStats,
    rx_next: usize,
    rx_empty: u32,
    tx_next: usize,
    /// Slots before `tx_next` that the kernel is not known to have taken.
    tx_queued: usize,
    merge: bool,
    merger: Merger,
    /// Not drained yet.
    open: bool,
}

impl AfPacket {
    /// Opens it in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`PortError::Open`] with the step and what to try.
    pub fn open(config: &PacketConfig) -> Result<Self, PortError> {
        if config.rx_ring_len == 0 && config.tx_ring_len == 0 {
            return Err(PortError::Ring {
                device: config.device.clone(),
                ring: "receive and transmit",
                len: 0,
                reason: "a port without any ring moves nothing; ask for at least one of them",
            });
        }
        let mtu = config.mtu as usize;
        let ring = RingSocket::open(&RingConfig {
            ifindex: config.ifindex,
            rx_ring_len: config.rx_ring_len,
            tx_ring_len: config.tx_ring_len,
            fanout: config.fanout,
            qdisc_bypass: config.qdisc_bypass,
        })
        .map_err(|error| explain(&config.device, error))?;
        let stats = PortStats::default();
        Ok(Self {
            ring,
            mtu,
            stats,
            rx_next: 0,
            rx_empty: 0,
            tx_next: 0,
            tx_queued: 0,
            merge: config.merge,
            merger: Merger::new(config.merge),
            open: true,
        })
    }

    /// As `Port::receive`. Without a free chunk it leaves frames in the ring, where nothing is lost until that is full.
    pub fn receive(&mut self, pool: &mut FramePool, until: i64, into: &mut Batch) {
        if into.keeps_stamps() { self.take::<true>(pool, until, into) } else { self.take::<false>(pool, until, into) }
    }

    fn take<const STAMPED: bool>(&mut self, pool: &mut FramePool, until: i64, into: &mut Batch) {
        let slot_count = self.ring.rx_slot_count();
        if slot_count == 0 || !self.open {
            return;
        }
        let mut long = 0;
        // Frames that are dropped do not fill the batch: the ring's length is the bound.
        for round in 0..slot_count {
            if into.is_full() || long == LONG_PER_RECEIVE {
                return;
            }
            let Some(slot) = self.ring.rx_slot(self.rx_next) else {
                if round == 0 {
                    self.note_empty();
                }
                return;
            };
            let stamp = slot.header.stamp_ns();
            if stamp > until {
                return;
            }
            let taken = match afpacket_rx::content(&slot) {
                Content::Own => Ok(None),
                Content::Here { start, end } => copy(&slot, start, end, pool).map(Some),
                Content::Queued { len } => {
                    let (tag, outgoing) = (afpacket_rx::tag(&slot.header), slot.outgoing);
                    long += 1;
                    self.take_queued(len, tag, outgoing, pool)
                }
                Content::Lost(reason) => Err(reason),
            };
            match taken {
                Ok(Some(frame)) => {
                    self.stats.hand_out(frame, pool, into);
                    if STAMPED {
                        into.stamp_last(stamp);
                    }
                }
                Ok(None) => {}
                Err(DropReason::NoBuffer) => return,
                Err(reason) => self.stats.drop_one(reason),
            }
            self.release_rx();
        }
    }

    /// The frame that the slot had no room for, from the socket's queue straight into a chunk. Slots and queue are filled together and
    /// in one order (`tpacket_rcv`), so it is the oldest there.
    fn take_queued(
        &mut self,
        len: usize,
        tag: Option<VlanTag>,
        outgoing: bool,
        pool: &mut FramePool,
    ) -> Result<Option<Frame>, DropReason> {
        let tag_len = if tag.is_some() { VLAN_TAG_LEN } else { 0 };
        let mut header = vnet::Bytes::default();
        let mut frame = match pool.alloc_for(tag_len + len) {
            Ok(frame) if !outgoing => frame,
            Err(DropReason::NoBuffer) if !outgoing => return Err(DropReason::NoBuffer),
            other => {
                other.into_iter().for_each(|frame| pool.free(frame));
                let _dropped = self.receive_queued(&mut header, &mut []);
                return if outgoing { Ok(None) } else { Err(DropReason::TooLong) };
            }
        };
        let room = &mut pool.buffer_mut(&mut frame)[tag_len..tag_len + len];
        match self.receive_queued(&mut header, room) {
            Ok(got) if got == header.len() + len => make_whole(frame, &header, tag, len, pool).map(Some),
            // Slots and queue do not agree: what is in the queue now belongs to slots that will find nothing there.
            Ok(_) | Err(_) => {
                pool.free(frame);
                for _ in 0..self.ring.rx_slot_count() {
                    if self.ring.receive_queued(&mut header, &mut []).is_err() {
                        break;
                    }
                }
                Err(DropReason::RxFull)
            }
        }
    }

    /// A device that went down leaves an error in the socket, which is reported once before the frames.
    fn receive_queued(&self, header: &mut [u8], room: &mut [u8]) -> io::Result<usize> {
        self.ring.receive_queued(header, room).or_else(|_| self.ring.receive_queued(header, room))
    }

    fn release_rx(&mut self) {
        self.ring.rx_release(self.rx_next);
        self.rx_next = (self.rx_next + 1) % self.ring.rx_slot_count();
    }

    /// A device that went down leaves an error in the socket, and `poll` would not sleep again until somebody reads it. The ring
    /// itself goes on when the device comes up (`packet_notifier`, net/packet/af_packet.c).
    fn note_empty(&mut self) {
        self.rx_empty += 1;
        if self.rx_empty >= EMPTY_PER_ERROR_CHECK {
            self.rx_empty = 0;
            let _down: io::Result<()> = socket::take_error(&self.ring);
        }
    }

    /// As `Port::transmit`: the frame is copied to the ring, or sent at once if it is too long for that, and freed.
    ///
    /// # Errors
    /// `TooLong`: an ordinary frame beyond the MTU (an outer VLAN tag does not count); `Malformed`: no whole MAC header; `TxFull`;
    /// for long frames also `TargetDown`, `TxError`.
    pub fn transmit(&mut self, pool: &mut FramePool, frame: Frame) -> Result<(), DropReason> {
        let (bytes, offload) = (pool.data(&frame), frame.offload);
        let mut held = self.merge && self.open && self.merger.append(bytes, &offload);
        if self.merge && self.open && !held {
            self.send_held();
            held = self.merger.begin(bytes, &offload);
        }
        let sent = if held { Ok(()) } else { self.send(bytes, &offload, 1) };
        pool.free(frame);
        sent
    }

    fn send_held(&mut self) {
        if let Some(ready) = self.merger.take() {
            let _counted = self.send(&ready.buffer[..ready.len], &ready.offload, ready.count);
            self.merger.done(ready);
        }
    }

    fn send(&mut self, bytes: &[u8], offload: &Offload, count: u32) -> Result<(), DropReason> {
        let result = self.put(bytes, offload);
        match result {
            // Of those that were made into one, one is counted by whoever sends it.
            Ok(()) => self.stats.tx_frames += u64::from(count - 1),
            Err(reason) => self.stats.drops[reason.index()] += u64::from(count),
        }
        result
    }

    fn put(&mut self, bytes: &[u8], offload: &Offload) -> Result<(), DropReason> {
        if !self.open {
            return Err(DropReason::Shutdown);
        }
        // Nobody compares a super-frame with an MTU (`packet_snd`, `__is_skb_forwardable`).
        fits_device(bytes, if offload.gso.is_some() { usize::MAX / 2 } else { self.mtu })?;
        let slot_count = self.ring.tx_slot_count();
        if slot_count == 0 {
            return Err(DropReason::TxFull);
        }
        let header = vnet::write(offload, bytes);
        if bytes.len() > TX_FRAME_LEN_MAX {
            return self.send_long(&header, bytes);
        }
        if !self.ring.tx_submit(self.tx_next, &header, bytes) {
            self.kick();
            if !self.ring.tx_submit(self.tx_next, &header, bytes) {
                return Err(DropReason::TxFull);
            }
        }
        self.tx_next = (self.tx_next + 1) % slot_count;
        self.tx_queued += 1;
        Ok(())
    }

    /// Straight from the chunk to the kernel's buffer; what is in the ring goes first.
    fn send_long(&mut self, header: &vnet::Bytes, bytes: &[u8]) -> Result<(), DropReason> {
        if self.tx_queued > 0 {
            self.kick();
            if self.tx_queued > 0 {
                return Err(DropReason::TxFull);
            }
        }
        self.stats.tx_wakeups += 1;
        let sent = match self.ring.send_long(header, bytes) {
            // Perhaps left from before, see `flush`.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {
                self.ring.take_sender_error();
                self.ring.send_long(header, bytes)
            }
            sent => sent,
        };
        match sent {
            Ok(()) => {
                self.stats.tx_frames += 1;
                self.stats.tx_bytes += bytes.len() as u64;
                Ok(())
            }
            Err(error) => Err(refusal(&error)),
        }
    }

    /// As `Port::flush`: also sends what was held to be merged with others.
    pub fn flush(&mut self) {
        self.send_held();
        self.kick();
    }

    /// One system call for all queued frames; more only if the kernel stopped on its way.
    fn kick(&mut self) {
        let mut asked_again = false;
        for _ in 0..KICKS_MAX {
            if self.tx_queued == 0 {
                return;
            }
            self.stats.tx_wakeups += 1;
            let result = socket::kick(&self.ring);
            self.count_taken();
            let Err(error) = result else { continue };
            match error.raw_os_error() {
                // A device that went down and came back leaves its error in the socket, where it fails the next call: only the
                // second answer is about now (`sock_alloc_send_pskb`, net/core/sock.c).
                Some(libc::ENETDOWN) if !asked_again => {
                    asked_again = true;
                    let _stale: io::Result<()> = socket::take_error(&self.ring);
                }
                Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => return self.take_back(DropReason::TargetDown),
                // Congestion: the frame is still in its slot, and is tried again.
                Some(libc::ENOBUFS | libc::EINTR) => {}
                // No send buffer until frames under way arrive: with the next flush.
                Some(libc::EAGAIN | libc::ENOMEM) => return,
                Some(_) | None => return self.take_back(DropReason::TxError),
            }
        }
    }

    /// Counts the queued slots, oldest first, that the kernel has taken.
    fn count_taken(&mut self) {
        let slot_count = self.ring.tx_slot_count();
        while self.tx_queued > 0 {
            let index = (self.tx_next + slot_count - self.tx_queued) % slot_count;
            match self.ring.tx_status(index) {
                abi::TP_STATUS_SEND_REQUEST => return,
                abi::TP_STATUS_WRONG_FORMAT => return self.take_back(DropReason::TxError),
                _taken => {
                    self.stats.tx_frames += 1;
                    self.stats.tx_bytes += self.ring.tx_frame_len(index) as u64;
                    self.tx_queued -= 1;
                }
            }
        }
    }

    /// Takes all queued slots back. The kernel's position is at the oldest of them, so the next frame goes there.
    fn take_back(&mut self, reason: DropReason) {
        let slot_count = self.ring.tx_slot_count();
        while self.tx_queued > 0 {
            self.tx_next = (self.tx_next + slot_count - 1) % slot_count;
            self.ring.tx_take_back(self.tx_next);
            self.tx_queued -= 1;
            self.stats.drop_one(reason);
        }
    }

    /// Readable when frames are there; none after [`AfPacket::drain`].
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.open.then(|| self.ring.as_fd())
    }

    pub(super) const fn stats_mut(&mut self) -> &mut PortStats {
        &mut self.stats
    }

    /// As `Port::stats`; also asks the kernel what its ring had no room for.
    pub fn stats(&mut self) -> PortStats {
        if let Ok(drops) = self.ring.take_rx_drops() {
            self.stats.drops[DropReason::RxFull.index()] += u64::from(drops);
        }
        self.stats.unsent = self.tx_queued as u64;
        self.stats.clone()
    }

    /// As `Port::drain`: waits for frames under way; what is left in either ring is counted as `Shutdown`.
    pub fn drain(&mut self) {
        self.flush();
        self.open = false;
        let end = Instant::now() + DRAIN_TIME_MAX;
        loop {
            self.kick();
            let busy = (0..self.ring.tx_slot_count()).any(|i| self.ring.tx_status(i) != abi::TP_STATUS_KERNEL);
            if !busy || Instant::now() >= end {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.take_back(DropReason::Shutdown);
        for _ in 0..self.ring.rx_slot_count() {
            if self.ring.rx_slot(self.rx_next).is_none() {
                return;
            }
            self.stats.drop_one(DropReason::Shutdown);
            self.release_rx();
        }
    }
}

#[cfg(test)]
#[path = "afpacket_tests.rs"]
pub(super) mod tests;
