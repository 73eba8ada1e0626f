//! AF_XDP sockets on a [`Region`]: chunks in and out of the four rings, kicks, statistics. It counts no drops and looks into no frame.
//!
//! Every chunk that a ring has is marked in the region as this socket's, so the kernel can neither hand one out twice nor one that
//! it was not given; whatever does not fit is left with the kernel.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig};
use xsk_rs::socket::{RxQueue, Socket as XskSocket, TxQueue};
use xsk_rs::umem::frame::FrameDesc;
use xsk_rs::umem::{CompQueue, FillQueue};

use super::umem::{Chunk, Region, os_error};
use crate::limits::BURST_LEN;

/// asm-generic/socket.h; libc knows them under these names on Linux only from some versions on.
const SO_BUSY_POLL: i32 = 46;
/// See [`SO_BUSY_POLL`].
const SO_PREFER_BUSY_POLL: i32 = 69;
/// See [`SO_BUSY_POLL`].
const SO_BUSY_POLL_BUDGET: i32 = 70;

/// How to bind.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The device's rx queue.
    pub queue: u32,
    /// Length of the rx ring, a power of two.
    pub rx_len: u32,
    /// Length of the tx ring, a power of two.
    pub tx_len: u32,
    /// Ask for zero copy; else the kernel copies.
    pub zero_copy: bool,
}

/// `struct xdp_statistics`, include/uapi/linux/if_xdp.h: since the socket was bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames that the kernel had for the socket and no chunk, or that were longer than one.
    pub rx_dropped: u64,
    /// Frames lost since the rx ring was full.
    pub rx_ring_full: u64,
    /// Times that the fill ring was found empty: no count of frames (in copy mode each is in `rx_dropped` too).
    pub fill_ring_empty: u64,
    /// Frames that the kernel refused to transmit, since their descriptor made no sense to it.
    pub tx_invalid: u64,
}

/// One bound socket and its rings.
#[derive(Debug)]
pub struct Socket {
    tx: TxQueue,
    rx: RxQueue,
    fill: FillQueue,
    completion: CompQueue,
    /// The region that it was opened on: the rings' offsets mean nothing elsewhere.
    region: u32,
    /// Its number in the region.
    number: u16,
    tx_len: u32,
    /// Places of the tx ring that are surely free.
    credits: u32,
    /// Chunks given to transmit that did not come back.
    in_flight: usize,
    pending: Vec<FrameDesc>,
    scratch: Box<[FrameDesc; BURST_LEN]>,
}

impl Socket {
    /// Opens a socket on the region's UMEM and binds it to a queue of a device in the calling thread's network namespace. No program is
    /// loaded. The second and later sockets share the first one's mode (`XDP_SHARED_UMEM`).
    ///
    /// # Errors
    /// What the kernel says; EBUSY also if the region has a socket on this queue; `Unsupported` if the region is no UMEM.
    pub fn open(region: &mut Region, device: &CStr, options: Options) -> io::Result<Self> {
        let Some(shared) = &mut region.shared else { return Err(io::ErrorKind::Unsupported.into()) };
        let number = shared.opened;
        shared.opened = number.checked_add(1).ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE))?;
        let mode = if options.zero_copy { BindFlags::XDP_ZEROCOPY } else { BindFlags::XDP_COPY };
        let config = SocketConfig::builder()
            .rx_queue_size(QueueSize::new(options.rx_len).map_err(|_| io::ErrorKind::InvalidInput)?)
            .tx_queue_size(QueueSize::new(options.tx_len).map_err(|_| io::ErrorKind::InvalidInput)?)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(mode | BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        let interface = Interface::new(device.to_owned());
        // SAFETY: the one requirement is that program load is inhibited if the UMEM has a socket on this queue: it always is.
        let opened = unsafe { XskSocket::new(config, &shared.umem, &interface, options.queue) };
        let (tx, rx, rings) = opened.map_err(os_error)?;
        let (fill, completion) = rings.ok_or_else(|| io::Error::from_raw_os_error(libc::EBUSY))?;
        // libxdp keeps the UMEM's descriptor open as long as the UMEM, so no other socket can have its number.
        let fd = rx.fd().as_raw_fd();
        if *shared.umem_fd.get_or_insert(fd) == fd {
            shared.anchor = number;
        }
        shared.sockets.push((number, fd));
        let region = region.id();
        Ok(Self {
            tx,
            rx,
            fill,
            completion,
            region,
            number,
            tx_len: options.tx_len,
            credits: options.tx_len,
            in_flight: 0,
            pending: Vec::with_capacity(BURST_LEN),
            scratch: Box::new([FrameDesc::default(); BURST_LEN]),
        })
    }

    /// The kernel polls the device from this thread's system calls, for up to `us` microseconds each.
    ///
    /// # Errors
    /// What setsockopt(2) says; the socket works without, too.
    pub fn busy_poll(&self, us: u32) -> io::Result<()> {
        let us = i32::try_from(us).unwrap_or(i32::MAX);
        for (name, value) in [(SO_PREFER_BUSY_POLL, 1), (SO_BUSY_POLL, us), (SO_BUSY_POLL_BUDGET, BURST_LEN as i32)] {
            // SAFETY: the value is an int that outlives the call, and its size is passed; the descriptor is open while `self` lives.
            let code = unsafe {
                let value = (&raw const value).cast();
                libc::setsockopt(self.raw_fd(), libc::SOL_SOCKET, name, value, size_of::<i32>() as libc::socklen_t)
            };
            if code < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    /// Takes up to `max` (at most a burst) received chunks. Returns how many the kernel had, good or not.
    pub fn receive(&mut self, region: &mut Region, max: usize, mut each: impl FnMut(&mut Region, Chunk)) -> usize {
        self.check(region);
        let max = max.min(BURST_LEN);
        // SAFETY: the descriptors are only overwritten; they are checked against what this socket was lent before they are used.
        let count = unsafe { self.rx.consume(&mut self.scratch[..max]) };
        for desc in &self.scratch[..count] {
            if let Some(chunk) = region.received(*desc, self.number) {
                each(region, chunk);
            }
        }
        count
    }

    /// Gives free chunks to the kernel to receive into until the fill ring is full or only `spare` are left. Returns how many.
    pub fn refill(&mut self, region: &mut Region, spare: usize) -> usize {
        self.check(region);
        let wanted = (self.fill.nb_free_exact() as usize).min(region.free_count().saturating_sub(spare));
        let mut filled = 0;
        while filled < wanted {
            let mut count = 0;
            while count < BURST_LEN.min(wanted - filled) {
                let Some(desc) = region.lend_to_fill(self.number) else { break };
                self.scratch[count] = desc;
                count += 1;
            }
            // SAFETY: the descriptors were just lent by the region, whose UMEM this socket was made from (`number` is from it), so no
            // token of their chunks exists until they are received.
            let produced = unsafe { self.fill.produce(&self.scratch[..count]) };
            // There is room for `wanted`, and nobody else produces. If the ring did refuse, the chunks would be lost, not shared.
            debug_assert_eq!(produced, count);
            if count == 0 {
                break;
            }
            filled += count;
        }
        filled
    }

    /// Whether the kernel waits for [`Socket::wake_receive`] to go on filling.
    #[must_use]
    pub fn receive_needs_wakeup(&self) -> bool {
        self.fill.needs_wakeup()
    }

    /// Makes the kernel look at the fill ring, or poll the device.
    pub fn wake_receive(&self) {
        // Nothing is lost if it fails: the next round tries again.
        // SAFETY: no buffer is passed (length 0), and no address is asked for.
        let _ready = unsafe {
            let null = std::ptr::null_mut();
            libc::recvfrom(self.raw_fd(), null, 0, libc::MSG_DONTWAIT, null.cast(), null.cast())
        };
    }

    /// Takes a chunk to transmit at the next [`Socket::submit`].
    ///
    /// # Errors
    /// There is no room: the chunk comes back.
    pub fn queue(&mut self, region: &mut Region, chunk: Chunk) -> Result<(), Chunk> {
        self.check(region);
        if self.credits == 0 || self.pending.len() == BURST_LEN {
            self.submit();
            if self.credits == 0 || self.pending.len() == BURST_LEN {
                return Err(chunk);
            }
        }
        let desc = region.lend_to_transmit(chunk, self.number)?;
        self.pending.push(desc);
        self.credits -= 1;
        self.in_flight += 1;
        Ok(())
    }

    /// Puts what was queued into the tx ring.
    pub fn submit(&mut self) {
        // SAFETY: the descriptors are of chunks that the region lent to this socket for transmission: no token of them exists.
        let produced = unsafe { self.tx.produce(&self.pending) };
        if produced == self.pending.len() {
            self.pending.clear();
        }
        self.credits = self.tx.nb_free_exact().saturating_sub(self.pending.len() as u32);
    }

    /// Frames in the tx ring that the kernel has not taken.
    #[must_use]
    pub fn unsent(&mut self) -> u32 {
        self.tx_len - self.tx.nb_free_exact().min(self.tx_len)
    }

    /// Whether the kernel waits for [`Socket::kick`] to transmit. In copy mode it always does.
    #[must_use]
    pub fn transmit_needs_wakeup(&self) -> bool {
        self.tx.needs_wakeup()
    }

    /// Makes the kernel transmit: up to 32 frames (`TX_BATCH_SIZE`, net/xdp/xsk.c), then it says EAGAIN.
    ///
    /// # Errors
    /// What sendto(2) says. EAGAIN, EBUSY and ENOBUFS pass; with ENETDOWN and ENXIO frames stay in the ring.
    pub fn kick(&self) -> io::Result<()> {
        // SAFETY: no buffer and no address are passed.
        let code = unsafe { libc::sendto(self.raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0) };
        if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Takes back the chunks of frames that have left. Returns how many.
    pub fn complete(&mut self, region: &mut Region) -> usize {
        self.check(region);
        let mut completed = 0;
        // The ring is never longer than this many bursts, however fast the kernel is.
        for _ in 0..=self.in_flight / BURST_LEN {
            // SAFETY: the descriptors are only overwritten; they are checked against what this socket was lent before they are used.
            let count = unsafe { self.completion.consume(&mut self.scratch[..]) };
            for desc in &self.scratch[..count] {
                completed += usize::from(region.transmitted(*desc, self.number));
            }
            if count < BURST_LEN {
                break;
            }
        }
        self.in_flight = self.in_flight.saturating_sub(completed);
        completed
    }

    /// Frames given to transmit whose chunks did not come back yet.
    #[must_use]
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// What the kernel counted.
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn statistics(&self) -> io::Result<Statistics> {
        let kernel = self.rx.fd().xdp_statistics()?;
        Ok(Statistics {
            rx_dropped: kernel.rx_dropped(),
            rx_ring_full: kernel.rx_ring_full(),
            fill_ring_empty: kernel.rx_fill_ring_empty_descs(),
            tx_invalid: kernel.tx_invalid_descs(),
        })
    }

    /// Closes the socket: [`Socket::part`], drop and [`Region::closed`] at once.
    pub fn close(self, region: &mut Region) {
        let parted = self.part(region);
        let socket = parted.socket;
        drop(parted);
        region.closed(socket);
    }

    /// The first half of closing: the region counts on this socket no more, and its memory stays shared through the others. The kernel
    /// works on until the result is dropped, which may take it a while (`xsk_release()` waits for running packets): so that can
    /// happen on another thread. Then tell [`Region::closed`].
    pub fn part(self, region: &mut Region) -> Parted {
        self.check(region);
        let forgotten = region.let_go(self.number);
        Parted { socket: Closed { number: self.number, forgotten, region: self.region }, _rings: self }
    }

    /// # Panics
    /// Another region: a fault of the program that must not give away chunks that the kernel has.
    fn check(&self, region: &Region) {
        assert!(region.id() == self.region, "an AF_XDP socket was used with a pool that it was not opened on");
    }

    fn raw_fd(&self) -> i32 {
        self.rx.fd().as_raw_fd()
    }
}

/// A socket that is not used any more; dropping it closes it.
#[derive(Debug)]
pub struct Parted {
    /// What the region must be told when this is dropped.
    pub socket: Closed,
    _rings: Socket,
}

/// A socket that was closed, for [`Region::closed`].
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    pub(super) number: u16,
    /// The kernel forgot it with its descriptor. Otherwise that is the UMEM's own, and its queue is bound until the UMEM goes.
    pub(super) forgotten: bool,
    pub(super) region: u32,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the queues keep the socket, and so the descriptor, open while `self` is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.raw_fd()) }
    }
}
