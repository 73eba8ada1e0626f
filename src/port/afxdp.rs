//! AF_XDP: frames of one queue of one device, in memory that the ports of a worker share. It loads no program and chooses no frames.
//!
//! A frame goes from one device to another as a descriptor: its bytes stay where the kernel put them on reception.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::finish::Wire;
use super::{Batch, Frame, FramePool, PortError, PortStats};
use crate::limits::{BURST_LEN, DEVICE_NAME_LEN_MAX, RING_LEN_DEFAULT, RING_LEN_MAX, RING_LEN_MIN};
use crate::sys::xsk::{Options, Parted, Socket, Statistics};
use crate::types::{DropReason, Offload};
use crate::wire::checksum;

/// Chunks that the fill rings leave for copies (mirror, frames from other workers).
const SPARE_CHUNKS: usize = 2 * BURST_LEN;
/// Frames that the kernel transmits in one call: `TX_BATCH_SIZE`, net/xdp/xsk.c.
const FRAMES_PER_KICK: usize = 32;
/// Kicks of one flush: two bursts; a longer backlog goes on with the next flush.
const KICKS_MAX: usize = 2 * BURST_LEN / FRAMES_PER_KICK;
/// Kicks without progress after which a flush gives up: the device's queue is full, or it is down.
const IDLE_KICKS_MAX: usize = 2;
/// How long [`AfXdp::drain`] waits for frames under way.
const DRAIN_MAX: Duration = Duration::from_millis(500);
/// How long [`AfXdp::open`] waits for a busy queue, and how often it looks.
const BUSY_MAX: Duration = Duration::from_millis(300);
/// See [`BUSY_MAX`].
const BUSY_STEP: Duration = Duration::from_millis(20);

/// What to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpConfig {
    /// The device, in the calling thread's network namespace.
    pub device: String,
    /// Its rx queue.
    pub queue: u32,
    /// Ring lengths in frames: powers of two from [`RING_LEN_MIN`] to [`RING_LEN_MAX`].
    pub rx_ring_len: u32,
    /// See `rx_ring_len`.
    pub tx_ring_len: u32,
    /// See `rx_ring_len`. All ports of a pool have the same, and the same `completion_ring_len`.
    pub fill_ring_len: u32,
    /// See `fill_ring_len`.
    pub completion_ring_len: u32,
    /// Ask for zero copy; never of a veth. The first port of a pool decides for all.
    pub zero_copy: bool,
    /// Complete checksums that a local stack behind a veth left to a device (`wire::checksum::complete_partial`).
    pub complete_partial: bool,
    /// Busy polling, in microseconds for each call.
    pub busy_poll_us: Option<u32>,
}

impl XdpConfig {
    /// Default rings, copy mode, checksums completed, no busy polling.
    #[must_use]
    pub fn new(device: &str, queue: u32) -> Self {
        Self {
            device: device.to_owned(),
            queue,
            rx_ring_len: RING_LEN_DEFAULT,
            tx_ring_len: RING_LEN_DEFAULT,
            fill_ring_len: RING_LEN_DEFAULT,
            completion_ring_len: RING_LEN_DEFAULT,
            zero_copy: false,
            complete_partial: true,
            busy_poll_us: None,
        }
    }
}

/// An AF_XDP socket on one queue of one device.
#[derive(Debug)]
pub struct AfXdp {
    /// None after the end.
    socket: Option<Socket>,
    complete_partial: bool,
    busy_poll: bool,
    stats: PortStats,
    /// What the kernel counted when it was last asked, and is in `stats`.
    kernel: Statistics,
    /// Why the kernel does not transmit, as of the last kick.
    stuck: Option<DropReason>,
}

impl AfXdp {
    /// Opens a socket on the pool's memory and fills its fill ring. Frames come when it is in an XSKMAP that a program redirects to.
    ///
    /// # Errors
    /// Ring lengths or names that make no sense, a pool that is no UMEM, and what the kernel says, with what to try.
    pub fn open(pool: &mut FramePool, config: &XdpConfig) -> Result<Self, PortError> {
        let device = device_name(&config.device)?;
        check_rings(config)?;
        if !pool.region.is_umem() {
            return Err(PortError::NotUmem { device: config.device.clone() });
        }
        if !pool.with_rings(config.fill_ring_len, config.completion_ring_len)? {
            return Err(PortError::Ring {
                device: config.device.clone(),
                ring: "fill",
                len: config.fill_ring_len,
                reason: "the ports of a worker share its fill and completion ring lengths; use one length for all devices",
            });
        }
        let options = Options {
            queue: config.queue,
            rx_len: config.rx_ring_len,
            tx_len: config.tx_ring_len,
            zero_copy: config.zero_copy,
        };
        let socket =
            open_patiently(pool, &device, options).map_err(|source| open_error(config, "AF_XDP socket", source))?;
        let mut port = Self {
            socket: Some(socket),
            complete_partial: config.complete_partial,
            busy_poll: config.busy_poll_us.is_some(),
            stats: PortStats::default(),
            kernel: Statistics::default(),
            stuck: None,
        };
        if let Some(socket) = &mut port.socket {
            if let Some(us) = config.busy_poll_us {
                if let Err(source) = socket.busy_poll(us) {
                    port.drain(pool);
                    return Err(open_error(config, "busy polling", source));
                }
            }
            socket.refill(&mut pool.region, SPARE_CHUNKS);
        }
        Ok(port)
    }

    /// The socket, for the XSKMAP; none after the end.
    #[must_use]
    pub fn socket_fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn receive(&mut self, pool: &mut FramePool, into: &mut Batch) {
        let Some(socket) = &mut self.socket else { return };
        let (stats, complete) = (&mut self.stats, self.complete_partial);
        let had = socket.receive(&mut pool.region, into.room(), |region, mut chunk| {
            let mut offload = Offload::NONE;
            if complete {
                offload.checksum = checksum::find_partial(region.bytes(&chunk));
                if offload.checksum.is_none() {
                    checksum::complete_partial(region.bytes_mut(&mut chunk));
                }
            }
            stats.rx_frames += 1;
            stats.rx_bytes += chunk.len() as u64;
            into.push(Frame { chunk, offload }).expect("no more is received than the batch has room for");
        });
        socket.refill(&mut pool.region, SPARE_CHUNKS);
        if socket.receive_needs_wakeup() || (had == 0 && self.busy_poll) {
            socket.wake_receive();
            self.stats.rx_wakeups += 1;
        }
    }

    /// A super-frame counts as taken if its first segment was.
    pub(super) fn transmit(&mut self, pool: &mut FramePool, frame: Frame) -> Result<(), DropReason> {
        if frame.offload.is_none() && !pool.is_large(&frame) {
            return self.queue(pool, frame);
        }
        let mut wire = Wire::of(frame);
        let mut first = None;
        while let Some(piece) = wire.next(pool) {
            let queued = match piece {
                Ok(piece) => match pool.move_to_small(piece) {
                    Ok(piece) => self.queue(pool, piece),
                    Err(reason) => {
                        self.stats.drop_one(reason);
                        Err(reason)
                    }
                },
                Err(lost) => {
                    self.stats.drops[lost.reason.index()] += lost.frames as u64;
                    Err(lost.reason)
                }
            };
            first.get_or_insert(queued);
        }
        first.unwrap_or(Ok(()))
    }

    fn queue(&mut self, pool: &mut FramePool, frame: Frame) -> Result<(), DropReason> {
        let len = frame.len() as u64;
        let Some(socket) = &mut self.socket else { return self.refuse(pool, frame, DropReason::Shutdown) };
        let Err(chunk) = socket.queue(&mut pool.region, frame.chunk) else {
            self.stats.tx_frames += 1;
            self.stats.tx_bytes += len;
            return Ok(());
        };
        let reason = self.stuck.unwrap_or(DropReason::TxFull);
        self.refuse(pool, Frame { chunk, offload: Offload::NONE }, reason)
    }

    fn refuse(&mut self, pool: &mut FramePool, frame: Frame, reason: DropReason) -> Result<(), DropReason> {
        pool.free(frame);
        self.stats.drop_one(reason);
        Err(reason)
    }

    pub(super) fn flush(&mut self, pool: &mut FramePool) {
        let Some(socket) = &mut self.socket else { return };
        if socket.in_flight() == 0 {
            return;
        }
        socket.submit();
        socket.complete(&mut pool.region);
        let mut unsent = socket.unsent();
        let mut idle_kicks = 0;
        for _ in 0..KICKS_MAX {
            if unsent == 0 || idle_kicks == IDLE_KICKS_MAX || !socket.transmit_needs_wakeup() {
                break;
            }
            let kicked = socket.kick();
            self.stats.tx_wakeups += 1;
            self.stuck = kicked.err().and_then(|error| stuck_reason(&error));
            // Room in the completion ring is what the kernel may have been waiting for.
            socket.complete(&mut pool.region);
            let left = socket.unsent();
            idle_kicks = if left == unsent { idle_kicks + 1 } else { 0 };
            unsent = left;
        }
    }

    pub(super) const fn stats_mut(&mut self) -> &mut PortStats {
        &mut self.stats
    }

    pub(super) fn stats(&mut self) -> PortStats {
        self.take_kernel_statistics();
        self.stats.unsent = self.socket.as_ref().map_or(0, |socket| socket.in_flight() as u64);
        self.stats.clone()
    }

    pub(super) fn drain(&mut self, pool: &mut FramePool) {
        let deadline = Instant::now() + DRAIN_MAX;
        while self.is_sending() && Instant::now() < deadline {
            self.flush(pool);
            if self.is_sending() {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        if let Some(parted) = self.part(pool) {
            let closed = parted.socket;
            drop(parted);
            pool.region.closed(closed);
        }
    }

    /// Whether frames were handed to the kernel that it has not given back.
    pub(super) fn is_sending(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.in_flight() > 0)
    }

    /// The end of it but for closing the socket, which the kernel takes its time for. Frames under way are lost and counted.
    pub(super) fn part(&mut self, pool: &mut FramePool) -> Option<Parted> {
        self.take_kernel_statistics();
        let mut socket = self.socket.take()?;
        // What nobody will look at any more: at most a ring, and the fill ring is not filled again.
        for _ in 0..=RING_LEN_MAX as usize / BURST_LEN {
            let stats = &mut self.stats;
            let had = socket.receive(&mut pool.region, BURST_LEN, |region, chunk| {
                region.give(chunk);
                stats.drop_one(DropReason::Shutdown);
            });
            if had == 0 {
                break;
            }
        }
        // Frames that the kernel did not take, or did not report as sent: lost, as far as anybody can tell.
        self.stats.drops[DropReason::Shutdown.index()] += socket.in_flight() as u64;
        Some(socket.part(&mut pool.region))
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket_fd()
    }

    /// Frames that the kernel lost before they were in the rx ring. `fill_ring_empty` is left out: in copy mode `__xsk_rcv()`
    /// (net/xdp/xsk.c) counts each such frame in `rx_dropped` too, and with zero copy it counts attempts, not frames.
    fn take_kernel_statistics(&mut self) {
        let Some(Ok(now)) = self.socket.as_ref().map(Socket::statistics) else { return };
        let lost = |now: Statistics| now.rx_dropped + now.rx_ring_full;
        self.stats.drops[DropReason::RxFull.index()] += lost(now).saturating_sub(lost(self.kernel));
        self.stats.drops[DropReason::TxError.index()] += now.tx_invalid.saturating_sub(self.kernel.tx_invalid);
        self.kernel = now;
    }
}

/// Opens a socket, and waits a little for a queue that is busy: a closed socket's queue is free only when the kernel's work queue has come
/// to it (`xp_put_pool()`, `xp_release_deferred()`, net/xdp/xsk_buff_pool.c).
fn open_patiently(pool: &mut FramePool, device: &CStr, options: Options) -> io::Result<Socket> {
    let deadline = Instant::now() + BUSY_MAX;
    loop {
        match Socket::open(&mut pool.region, device, options) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(BUSY_STEP);
            }
            result => return result,
        }
    }
}

/// What a failed kick means for frames that find the ring full; none: it is just full.
fn stuck_reason(error: &io::Error) -> Option<DropReason> {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR) => None,
        Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => Some(DropReason::TargetDown),
        Some(_) | None => Some(DropReason::TxError),
    }
}

fn device_name(name: &str) -> Result<CString, PortError> {
    if name.is_empty() || name.len() > DEVICE_NAME_LEN_MAX {
        return Err(PortError::DeviceName(name.to_owned()));
    }
    CString::new(name).map_err(|_| PortError::DeviceName(name.to_owned()))
}

fn check_rings(config: &XdpConfig) -> Result<(), PortError> {
    let rings = [
        ("rx", config.rx_ring_len),
        ("tx", config.tx_ring_len),
        ("fill", config.fill_ring_len),
        ("completion", config.completion_ring_len),
    ];
    for (ring, len) in rings {
        if !len.is_power_of_two() || !(RING_LEN_MIN..=RING_LEN_MAX).contains(&len) {
            let reason = "use a power of two from 64 to 65536";
            return Err(PortError::Ring { device: config.device.clone(), ring, len, reason });
        }
    }
    Ok(())
}

/// `xsk_create()`, `xsk_bind()` (net/xdp/xsk.c), `xp_assign_dev()` (net/xdp/xsk_buff_pool.c).
fn open_error(config: &XdpConfig, what: &'static str, source: io::Error) -> PortError {
    let next = match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "CAP_NET_RAW and CAP_NET_ADMIN are needed: run as root, or use AF_PACKET",
        Some(libc::ENODEV) => "no such device in this network namespace: see `ip link`",
        Some(libc::EBUSY) => {
            "another AF_XDP socket has this queue: see `ss --xdp -p`, end that program or use another queue"
        }
        Some(libc::EAFNOSUPPORT) => "this kernel has no AF_XDP (CONFIG_XDP_SOCKETS): use AF_PACKET",
        Some(libc::EINVAL) => {
            "the device may have no such queue (`ethtool -l`), or its MTU is above a chunk: try queue 0, MTU 1500"
        }
        Some(libc::EOPNOTSUPP) => "the device's driver does not do this: use copy mode, or AF_PACKET",
        Some(libc::ENETDOWN) => "the device is down: `ip link set dev DEVICE up`",
        Some(libc::ENOMEM | libc::ENOBUFS) => "use shorter rings, or grant CAP_IPC_LOCK",
        Some(_) | None => "try AF_PACKET",
    };
    PortError::Open { device: config.device.clone(), queue: Some(config.queue), what, source, next }
}
