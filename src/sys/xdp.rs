//! An AF_XDP socket and its four rings as one safe type on [`Memory`]. It loads no program: steering is somebody else's.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig};
use xsk_rs::socket::XdpStatistics;
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket as XskSocket, TxQueue};

use super::call;
use super::frames::{Frame, Memory};
use crate::limits::BURST_LEN;

/// Calls of sendto per flush; each transmits up to 32 frames in copy mode (`TX_BATCH_SIZE`, net/xdp/xsk.c).
const KICKS_MAX: usize = 64;
/// How long [`Socket::close`] waits for frames that are being transmitted.
const CLOSE_WAIT: Duration = Duration::from_millis(500);

/// Whether the device shares our memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The driver decides.
    Auto,
    /// Frames are copied: the only mode of a veth.
    Copy,
    /// Or the open fails.
    ZeroCopy,
}

/// What a socket is made with. Lengths in descriptors, powers of two.
#[derive(Clone, Copy, Debug)]
pub struct Lengths {
    /// Receive ring.
    pub rx: u32,
    /// Transmit ring.
    pub tx: u32,
    /// Chunks to keep in the fill ring; 0: the socket only transmits.
    pub fill: u32,
}

/// See the file's head.
#[derive(Debug)]
pub struct Socket {
    id: u16,
    open: Option<Rings>,
    fill_target: u32,
    in_fill: u32,
    in_tx: u32,
    last: XdpStatistics,
}

#[derive(Debug)]
struct Rings {
    rx: RxQueue,
    tx: TxQueue,
    fill: FillQueue,
    completion: CompQueue,
}

/// What a [`Socket::kick`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kicked {
    /// System calls made.
    pub calls: u64,
    /// The link is down or the device gone: what is in the ring waits.
    pub down: bool,
}

/// The system's error within one of the library's.
pub(super) fn cause(error: impl std::error::Error) -> io::Error {
    error
        .source()
        .and_then(|s| s.downcast_ref::<io::Error>())
        .and_then(io::Error::raw_os_error)
        .map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
}

impl Socket {
    /// Opens and binds a socket to queue `queue` of `device` (in the calling thread's namespace) and fills its fill ring.
    ///
    /// Sockets after the first inherit its mode (`xp_assign_dev_shared`, net/xdp/xsk_buff_pool.c).
    ///
    /// # Errors
    /// `EPERM`, `ENODEV`, `ENETDOWN`, `EBUSY` (queue taken), `EOPNOTSUPP` (no zero copy), `EINVAL` (no such queue, memory not shared).
    pub fn open(memory: &mut Memory, device: &str, queue: u32, mode: Mode, lengths: Lengths) -> io::Result<Self> {
        let wrong = |e: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidInput, e.to_string());
        let flags = BindFlags::XDP_USE_NEED_WAKEUP
            | match mode {
                Mode::Auto => BindFlags::empty(),
                Mode::Copy => BindFlags::XDP_COPY,
                Mode::ZeroCopy => BindFlags::XDP_ZEROCOPY,
            };
        let config = SocketConfig::builder()
            .rx_queue_size(QueueSize::new(lengths.rx).map_err(|e| wrong(&e))?)
            .tx_queue_size(QueueSize::new(lengths.tx).map_err(|e| wrong(&e))?)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(flags)
            .build();
        let interface: Interface = device.parse().map_err(|e| wrong(&e))?;
        let umem = memory.shared().ok_or_else(|| wrong(&"this memory cannot be shared with AF_XDP"))?;
        // SAFETY: program load is inhibited, as the function asks.
        let (tx, rx, rings) = unsafe { XskSocket::new(config, umem, &interface, queue) }.map_err(cause)?;
        // No rings: this memory has a socket on the queue already.
        let (fill, completion) = rings.ok_or_else(|| io::Error::from_raw_os_error(libc::EBUSY))?;
        let mut socket = Self {
            id: memory.new_socket(),
            open: Some(Rings { rx, tx, fill, completion }),
            fill_target: lengths.fill,
            in_fill: 0,
            in_tx: 0,
            last: XdpStatistics::default(),
        };
        socket.refill(memory);
        Ok(socket)
    }

    /// Whether the device shares our memory (`XDP_OPTIONS`).
    pub fn zero_copy(&self) -> io::Result<bool> {
        let Some(fd) = self.fd() else { return Ok(false) };
        let options = call::get_option(fd, libc::SOL_XDP, libc::XDP_OPTIONS, libc::xdp_options { flags: 0 })?;
        Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
    }

    /// Lets the kernel poll the queue from our system calls for up to `micros` µs, at most `budget` frames at once.
    pub fn busy_poll(&self, micros: u32, budget: u32) -> io::Result<()> {
        let Some(fd) = self.fd() else { return Ok(()) };
        call::set_option(fd, libc::SOL_SOCKET, libc::SO_PREFER_BUSY_POLL, &1)?;
        call::set_option(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL, &(micros as libc::c_int))?;
        call::set_option(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL_BUDGET, &(budget as libc::c_int))
    }

    /// The descriptor, for poll and the XSKMAP; `None` once closed.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        let rings = self.open.as_ref()?;
        // SAFETY: the library keeps the descriptor open as long as a queue of the socket lives, and they live as long as `self`.
        Some(unsafe { BorrowedFd::borrow_raw(rings.rx.fd().as_raw_fd()) })
    }

    /// Takes up to `max` received frames (at most a burst) and passes each to `each`; returns how many descriptors were ours but bad.
    pub fn receive(&mut self, memory: &mut Memory, max: usize, mut each: impl FnMut(&mut Memory, Frame)) -> u64 {
        let Some(rings) = &mut self.open else { return 0 };
        let mut descs = [FrameDesc::default(); BURST_LEN];
        // SAFETY: each descriptor becomes a token only if this socket's kernel side had the chunk.
        let count = unsafe { rings.rx.consume(&mut descs[..max.min(BURST_LEN)]) };
        let mut bad = 0;
        for desc in &descs[..count] {
            match memory.take(*desc, self.id) {
                Some(frame) => {
                    self.in_fill -= 1;
                    each(memory, frame);
                }
                None => bad += 1,
            }
        }
        bad
    }

    /// Tops the fill ring up. Returns whether the kernel wants to be woken by [`Socket::wake_receive`].
    pub fn refill(&mut self, memory: &mut Memory) -> bool {
        let Some(rings) = &mut self.open else { return false };
        // Bounded: the ring's length over the burst's.
        while self.in_fill < self.fill_target {
            let want = ((self.fill_target - self.in_fill) as usize).min(BURST_LEN).min(memory.free_count());
            let want = want.min(rings.fill.nb_free(want as u32) as usize);
            if want == 0 {
                break;
            }
            let mut descs = [FrameDesc::default(); BURST_LEN];
            for desc in &mut descs[..want] {
                let frame = memory.alloc().expect("as many chunks were free");
                *desc = memory.give(&frame, self.id);
            }
            // SAFETY: the chunks' tokens are gone; the kernel owns them until they come back by the receive ring.
            let put = unsafe { rings.fill.produce(&descs[..want]) };
            assert_eq!(put, want, "the fill ring has the room that it said");
            self.in_fill += want as u32;
        }
        self.fill_target > 0 && rings.fill.needs_wakeup()
    }

    /// Makes the kernel look at the fill ring again (`recvfrom` does not block).
    pub fn wake_receive(&self) {
        if let Some(fd) = self.fd() {
            // SAFETY: no memory is passed.
            // A failure shows at the next round, by the flag that is still set.
            unsafe {
                libc::recvfrom(
                    fd.as_raw_fd(),
                    std::ptr::null_mut(),
                    0,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                )
            };
        }
    }

    /// Puts frames into the transmit ring, all or none of them. False: there is no room, and the frames stay the caller's.
    pub fn transmit(&mut self, memory: &mut Memory, frames: &mut Vec<Frame>) -> bool {
        let Some(rings) = &mut self.open else { return false };
        let count = frames.len();
        assert!(count <= BURST_LEN, "a batch is a burst at most");
        if (rings.tx.nb_free(count as u32) as usize) < count {
            return false;
        }
        let mut descs = [FrameDesc::default(); BURST_LEN];
        for (desc, frame) in descs.iter_mut().zip(frames.drain(..)) {
            *desc = memory.give(&frame, self.id);
            desc.set_options(0);
        }
        // SAFETY: the tokens are gone; the kernel owns the chunks until they come back by the completion ring.
        let put = unsafe { rings.tx.produce(&descs[..count]) };
        assert_eq!(put, count, "the transmit ring has the room that it said");
        self.in_tx += count as u32;
        true
    }

    /// Takes transmitted chunks back. Bounded by what is on its way.
    pub fn complete(&mut self, memory: &mut Memory) {
        let Some(rings) = &mut self.open else { return };
        while self.in_tx > 0 {
            let mut descs = [FrameDesc::default(); BURST_LEN];
            // SAFETY: as in `receive`.
            let count = unsafe { rings.completion.consume(&mut descs) };
            if count == 0 {
                break;
            }
            for desc in &descs[..count] {
                if let Some(frame) = memory.take(*desc, self.id) {
                    memory.free(frame);
                    self.in_tx -= 1;
                }
            }
        }
    }

    /// Chunks on their way out.
    #[must_use]
    pub fn in_tx(&self) -> u32 {
        self.in_tx
    }

    /// Wakes the kernel until it took what is in the transmit ring, or refuses; completions are drained meanwhile.
    pub fn kick(&mut self, memory: &mut Memory) -> Kicked {
        let mut kicked = Kicked::default();
        self.complete(memory);
        for _ in 0..KICKS_MAX {
            let Some(rings) = &self.open else { break };
            if self.in_tx == 0 || !rings.tx.needs_wakeup() {
                break;
            }
            let before = self.in_tx;
            kicked.calls += 1;
            // SAFETY: the descriptor lives as long as `rings`.
            let fd = unsafe { BorrowedFd::borrow_raw(rings.tx.fd().as_raw_fd()) };
            let result = call::kick(fd);
            self.complete(memory);
            match result.map_err(|e| e.raw_os_error()) {
                Ok(()) => {
                    if self.in_tx == before {
                        break;
                    }
                }
                // More than one batch was there; or the device is full for now.
                Err(Some(libc::EAGAIN)) => {}
                Err(Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV)) => {
                    kicked.down = true;
                    break;
                }
                // ENOBUFS, EBUSY: the device is full; what is left goes at the next flush.
                Err(_) => break,
            }
        }
        kicked
    }

    /// The kernel's statistics since the socket was opened.
    pub fn statistics(&mut self) -> XdpStatistics {
        if let Some(now) = self.open.as_ref().and_then(|rings| rings.rx.fd().xdp_statistics().ok()) {
            self.last = now;
        }
        self.last
    }

    /// Waits (bounded) for what is being transmitted, closes the socket and takes all chunks back.
    /// Returns (frames that were received but not looked at, frames that did not leave).
    ///
    /// The program that steers to the socket must be gone before, or frames get lost without a count.
    pub fn close(&mut self, memory: &mut Memory) -> (u64, u64) {
        let deadline = Instant::now() + CLOSE_WAIT;
        while self.in_tx > 0 && self.open.is_some() && Instant::now() < deadline {
            if self.kick(memory).down {
                break;
            }
            if self.in_tx > 0 {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        let mut unseen = 0;
        // Bounded: no chunk goes back to the fill ring.
        loop {
            let before = unseen;
            self.receive(memory, BURST_LEN, |memory, frame| {
                memory.free(frame);
                unseen += 1;
            });
            if unseen == before {
                break;
            }
        }
        let unsent = u64::from(self.in_tx);
        self.statistics();
        // Closing waits until the kernel uses the rings no more (`xsk_release`, net/xdp/xsk.c).
        self.open = None;
        memory.reclaim(self.id);
        (self.in_fill, self.in_tx) = (0, 0);
        (unseen, unsent)
    }
}
