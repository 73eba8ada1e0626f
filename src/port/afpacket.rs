//! Frames of a device through AF_PACKET rings (TPACKET_V2). It only taps: the host's stack gets every received frame as well.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::afpacket_rx::{self, Progress, Taken};
use super::{Batch, Frame, FramePool, PortError, PortStats};
use crate::limits::{ETHERNET_LEN, VLAN_TAG_LEN};
use crate::sys::packet::{RingConfig, RingSocket, SetupError};
use crate::sys::{packet_abi as abi, socket};
use crate::types::{DropReason, ethertype};

/// System calls of one flush: each goes on where the last one stopped for lack of send buffer or at a frame that was refused.
const KICKS_MAX: u32 = 8;
/// How long [`AfPacket::drain`] waits for frames under way.
const DRAIN_TIME_MAX: Duration = Duration::from_millis(500);
/// Empty receives between two looks at the socket's pending error.
const EMPTY_PER_ERROR_CHECK: u32 = 1024;

/// How to open an [`AfPacket`].
#[derive(Clone, Debug)]
pub struct PacketConfig {
    /// Name of the device, for messages.
    pub device: String,
    /// Its index in the calling thread's network namespace.
    pub ifindex: u32,
    /// Its MTU, in bytes without MAC header and outer tag.
    pub mtu: u32,
    /// Frames of the receive ring; 0: transmit only. At most 64 MiB are used (960 super-frames).
    pub rx_ring_len: u32,
    /// Frames of the transmit ring; 0: receive only.
    pub tx_ring_len: u32,
    /// Fanout group, shared by flow hash with the other sockets of the group.
    pub fanout: Option<u16>,
    /// Past the queueing discipline: faster, but the driver drops what it has no room for.
    pub qdisc_bypass: bool,
}

/// A port on a packet socket.
#[derive(Debug)]
pub struct AfPacket {
    ring: RingSocket,
    mtu: usize,
    stats: PortStats,
    rx_next: usize,
    /// How far the super-frame at `rx_next`, which is still ours, was taken.
    rx_progress: Progress,
    rx_empty: u32,
    tx_next: usize,
    /// Slots before `tx_next` that the kernel is not known to have taken.
    tx_queued: usize,
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
            tx_frame_len_max: mtu + ETHERNET_LEN + VLAN_TAG_LEN,
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
            rx_progress: Progress::default(),
            rx_empty: 0,
            tx_next: 0,
            tx_queued: 0,
            open: true,
        })
    }

    /// As `Port::receive`. Without a free chunk it leaves frames in the ring, where nothing is lost until that is full.
    pub fn receive(&mut self, pool: &mut FramePool, into: &mut Batch) {
        let slot_count = self.ring.rx_slot_count();
        if slot_count == 0 || !self.open {
            return;
        }
        // Frames that are dropped do not fill the batch: the ring's length is the bound.
        for round in 0..slot_count {
            if into.is_full() {
                return;
            }
            let Some(slot) = self.ring.rx_slot(self.rx_next) else {
                if round == 0 {
                    self.note_empty();
                }
                return;
            };
            match afpacket_rx::take(slot, &mut self.rx_progress, pool, into, &mut self.stats) {
                Taken::Whole => self.release_rx(),
                Taken::Partly => return,
            }
        }
    }

    fn release_rx(&mut self) {
        self.ring.rx_release(self.rx_next);
        self.rx_progress = Progress::default();
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

    /// As `Port::transmit`: the frame is copied to the ring and freed.
    ///
    /// # Errors
    /// `TooLong`: beyond the MTU (an outer VLAN tag does not count); `Malformed`: no whole MAC header; `TxFull`.
    pub fn transmit(&mut self, pool: &mut FramePool, frame: Frame) -> Result<(), DropReason> {
        let result = self.put(pool.data(&frame));
        pool.free(frame);
        if let Err(reason) = result {
            self.stats.drop_one(reason);
        }
        result
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), DropReason> {
        if !self.open {
            return Err(DropReason::Shutdown);
        }
        fits_device(bytes, self.mtu)?;
        let slot_count = self.ring.tx_slot_count();
        if slot_count == 0 {
            return Err(DropReason::TxFull);
        }
        if !self.ring.tx_submit(self.tx_next, bytes) {
            self.flush();
            if !self.ring.tx_submit(self.tx_next, bytes) {
                return Err(DropReason::TxFull);
            }
        }
        self.tx_next = (self.tx_next + 1) % slot_count;
        self.tx_queued += 1;
        Ok(())
    }

    /// As `Port::flush`: one system call for all queued frames; more only if the kernel stopped on its way.
    pub fn flush(&mut self) {
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
        self.open = false;
        let end = Instant::now() + DRAIN_TIME_MAX;
        loop {
            self.flush();
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

/// Whether a device with this MTU takes the frame: with a `virtio_net_hdr` the kernel does not check (`tpacket_snd`).
pub(super) fn fits_device(frame: &[u8], mtu: usize) -> Result<(), DropReason> {
    if frame.len() < ETHERNET_LEN {
        return Err(DropReason::Malformed);
    }
    let tpid = u16::from_be_bytes([frame[12], frame[13]]);
    let tag_len = if tpid == ethertype::VLAN || tpid == ethertype::QINQ { VLAN_TAG_LEN } else { 0 };
    if frame.len() > mtu + ETHERNET_LEN + tag_len { Err(DropReason::TooLong) } else { Ok(()) }
}

fn explain(device: &str, error: SetupError) -> PortError {
    let next = match error.source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "CAP_NET_RAW is needed: run as root or give the program this capability",
        Some(libc::ENODEV | libc::ENXIO) => {
            "the device is gone from this network namespace; `ip link` lists those that are there"
        }
        Some(libc::ENETDOWN) => "the device is down: `ip link set dev NAME up`",
        Some(libc::EAFNOSUPPORT) => "this kernel has no AF_PACKET (CONFIG_PACKET); use AF_XDP or a tap",
        Some(libc::ENOMEM | libc::ENOBUFS) => "the kernel has no memory for the rings; ask for shorter ones",
        Some(libc::EEXIST | libc::EALREADY | libc::EINVAL) if error.step == "PACKET_FANOUT" => {
            "another program uses this fanout group in another way; choose another number"
        }
        Some(_) | None => "the kernel may be too old for this option (5.0 or later is needed)",
    };
    PortError::Open { device: device.to_owned(), queue: None, what: error.step, source: error.source, next }
}

#[cfg(test)]
#[path = "afpacket_tests.rs"]
mod tests;
