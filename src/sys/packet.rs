//! A packet socket with a receive and a transmit ring in shared memory. It moves slots between us and the kernel, never frames.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use super::mmap::SharedMap;
use super::packet_abi as abi;
use super::socket;
use crate::limits::VLAN_TAG_LEN;

/// Length of a slot, receive or transmit: an ordinary frame and what stands before it. Short, so that a ring stays in the cache; longer
/// frames go through the socket itself, straight between the kernel's buffer and ours.
pub const SLOT_LEN: usize = 2048;
/// The longest frame that a transmit slot takes, in bytes.
pub const TX_FRAME_LEN_MAX: usize = SLOT_LEN - abi::TX_OFFSET - abi::VNET_HDR_LEN;
/// Receive slots per block: 64 KiB.
const RX_SLOTS_PER_BLOCK: usize = 32;
/// The most memory of one receive ring. Longer rings are shortened to it.
pub const RX_RING_BYTES_MAX: usize = 64 << 20;
/// What may wait in the queue of frames that are too long for a slot, in bytes as the kernel counts them.
const RX_QUEUE_BYTES: i32 = 32 << 20;
/// What may be under way of frames that are too long for a slot, in bytes as the kernel counts them.
const TX_QUEUE_BYTES: i32 = 32 << 20;
/// Aimed length of a transmit block.
const TX_BLOCK_LEN: usize = 64 << 10;

const _: () =
    assert!(SLOT_LEN.is_multiple_of(abi::TPACKET_ALIGNMENT) && SLOT_LEN > abi::RX_OFFSET_MAX + 1514 + VLAN_TAG_LEN);

/// What a ring socket is to be.
#[derive(Clone, Copy, Debug)]
pub struct RingConfig {
    /// Index of the device.
    pub ifindex: u32,
    /// Slots to receive into; 0: transmit only. Rounded up to whole blocks, cut to [`RX_RING_BYTES_MAX`], halved for lack of memory.
    pub rx_ring_len: u32,
    /// Slots to transmit from; 0: receive only. Rounded up to whole blocks.
    pub tx_ring_len: u32,
    /// Fanout group to join.
    pub fanout: Option<u16>,
    /// Whether to transmit past the queueing discipline.
    pub qdisc_bypass: bool,
}

/// Which step of opening failed, and why.
#[derive(Debug)]
pub struct SetupError {
    /// The call or option.
    pub step: &'static str,
    /// The kernel's answer.
    pub source: io::Error,
}

/// One ring: `slot_count` slots of `slot_len` bytes in blocks, from `start` in the mapping.
#[derive(Clone, Copy, Debug, Default)]
struct Layout {
    start: usize,
    slot_len: usize,
    slot_count: usize,
    slots_per_block: usize,
    block_len: usize,
}

impl Layout {
    fn new(slot_len: usize, slots_per_block: usize, slots: usize) -> Self {
        if slots == 0 {
            return Self::default();
        }
        let block_len = (slot_len * slots_per_block).next_multiple_of(4096);
        // The kernel computes it this way too: rounding up to pages may make room for more.
        let slots_per_block = block_len / slot_len;
        Self { start: 0, slot_len, slot_count: slots.next_multiple_of(slots_per_block), slots_per_block, block_len }
    }

    fn block_count(&self) -> usize {
        self.slot_count.checked_div(self.slots_per_block).unwrap_or(0)
    }

    fn bytes(&self) -> usize {
        self.block_count() * self.block_len
    }

    /// `struct tpacket_req`: block size, blocks, frame size, frames.
    fn request(&self) -> [u32; 4] {
        [self.block_len, self.block_count(), self.slot_len, self.slot_count].map(|n| n as u32)
    }

    fn offset(&self, index: usize) -> usize {
        assert!(index < self.slot_count, "a slot of the ring");
        self.start + index / self.slots_per_block * self.block_len + index % self.slots_per_block * self.slot_len
    }
}

/// A receive slot that is ours until it is given back with [`RingSocket::rx_release`].
#[derive(Debug)]
pub struct RxSlot<'a> {
    /// The header, as the kernel left it.
    pub header: abi::Tpacket2Hdr,
    /// Whether this host sent it.
    pub outgoing: bool,
    /// All bytes behind `tpacket2_hdr`: offsets of the header minus its length point into it.
    pub body: &'a mut [u8],
}

/// The socket and its rings.
#[derive(Debug)]
pub struct RingSocket {
    // Before the socket: unmapped first.
    map: SharedMap,
    socket: OwnedFd,
    /// For frames that are too long for a transmit slot: a socket with a transmit ring sends from that only (`packet_sendmsg`).
    sender: Option<OwnedFd>,
    rx: Layout,
    tx: Layout,
}

impl AsFd for RingSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl RingSocket {
    /// Opens, maps and binds it, in the calling thread's network namespace. Nothing of another device is ever received: it has no
    /// protocol until it is bound.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn open(config: &RingConfig) -> Result<Self, SetupError> {
        let socket = at("socket(AF_PACKET)", socket::packet_socket())?;
        let set = |step, name, value: i32| at(step, socket::set_option(&socket, abi::SOL_PACKET, name, value));
        set("PACKET_VERSION", abi::PACKET_VERSION, abi::TPACKET_V2)?;
        set("PACKET_VNET_HDR", abi::PACKET_VNET_HDR, 1)?;
        set("PACKET_LOSS", abi::PACKET_LOSS, 1)?;
        set("PACKET_IGNORE_OUTGOING", abi::PACKET_IGNORE_OUTGOING, 1)?;
        if config.qdisc_bypass {
            set("PACKET_QDISC_BYPASS", abi::PACKET_QDISC_BYPASS, 1)?;
        }
        set("PACKET_COPY_THRESH", abi::PACKET_COPY_THRESH, 1)?;
        let rx = Self::ask_rx(&socket, config.rx_ring_len as usize)?;
        if rx.slot_count > 0 {
            buffer(&socket, "SO_RCVBUF", [libc::SO_RCVBUFFORCE, libc::SO_RCVBUF], RX_QUEUE_BYTES)?;
        }
        let mut tx = Layout::new(SLOT_LEN, TX_BLOCK_LEN / SLOT_LEN, config.tx_ring_len as usize);
        tx.start = rx.bytes();
        if tx.slot_count > 0 {
            at("PACKET_TX_RING", socket::set_option(&socket, abi::SOL_PACKET, abi::PACKET_TX_RING, tx.request()))?;
            // The send buffer bounds how many frames are under way; the ring shall be the only bound. Twice the payload, since
            // the kernel counts its own bookkeeping too. Without CAP_NET_ADMIN the system's limit stays, and flush copes.
            let bytes = i32::try_from(tx.bytes() * 2).unwrap_or(i32::MAX);
            buffer(&socket, "SO_SNDBUF", [libc::SO_SNDBUFFORCE, libc::SO_SNDBUF], bytes)?;
        }
        let sender = if tx.slot_count > 0 { Some(Self::open_sender(config)?) } else { None };
        let map = at("mmap", SharedMap::new(socket.as_fd(), rx.bytes() + tx.bytes()))?;
        let protocol = if rx.slot_count > 0 { abi::ETH_P_ALL } else { 0 };
        at("bind", socket::bind_packet(&socket, config.ifindex, protocol))?;
        if let Some(group) = config.fanout {
            let value = u32::from(group) | abi::PACKET_FANOUT_HASH << 16;
            at("PACKET_FANOUT", socket::set_option(&socket, abi::SOL_PACKET, abi::PACKET_FANOUT, value))?;
        }
        Ok(Self { map, socket, sender, rx, tx })
    }

    fn open_sender(config: &RingConfig) -> Result<OwnedFd, SetupError> {
        let sender = at("socket(AF_PACKET)", socket::packet_socket())?;
        let set = |step, name, value: i32| at(step, socket::set_option(&sender, abi::SOL_PACKET, name, value));
        set("PACKET_VNET_HDR", abi::PACKET_VNET_HDR, 1)?;
        if config.qdisc_bypass {
            set("PACKET_QDISC_BYPASS", abi::PACKET_QDISC_BYPASS, 1)?;
        }
        buffer(&sender, "SO_SNDBUF", [libc::SO_SNDBUFFORCE, libc::SO_SNDBUF], TX_QUEUE_BYTES)?;
        at("bind", socket::bind_packet(&sender, config.ifindex, 0))?;
        Ok(sender)
    }

    /// Asks for a receive ring; for lack of memory for half as much, down to one block.
    fn ask_rx(socket: &OwnedFd, slots: usize) -> Result<Layout, SetupError> {
        let mut slots = slots.min(RX_RING_BYTES_MAX / SLOT_LEN);
        loop {
            let rx = Layout::new(SLOT_LEN, RX_SLOTS_PER_BLOCK, slots);
            if slots == 0 {
                return Ok(rx);
            }
            match socket::set_option(socket, abi::SOL_PACKET, abi::PACKET_RX_RING, rx.request()) {
                Ok(()) => return Ok(rx),
                Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && slots > RX_SLOTS_PER_BLOCK => slots /= 2,
                Err(source) => return Err(SetupError { step: "PACKET_RX_RING", source }),
            }
        }
    }

    /// Slots of the receive ring; 0 if there is none.
    #[must_use]
    pub fn rx_slot_count(&self) -> usize {
        self.rx.slot_count
    }

    /// Slots of the transmit ring; 0 if there is none.
    #[must_use]
    pub fn tx_slot_count(&self) -> usize {
        self.tx.slot_count
    }

    /// The slot at `index`, if the kernel has filled it.
    ///
    /// # Panics
    /// If there is no such slot.
    #[inline]
    pub fn rx_slot(&mut self, index: usize) -> Option<RxSlot<'_>> {
        let offset = self.rx.offset(index);
        // Acquire pairs with the kernel's barrier before it sets TP_STATUS_USER (`__packet_set_status`, net/packet/af_packet.c).
        let status = self.map.word(offset).load(Ordering::Acquire);
        if status & abi::TP_STATUS_USER == 0 {
            return None;
        }
        let load = |at: usize| self.map.word(offset + at).load(Ordering::Relaxed);
        let halves = |word: u32| {
            let [a, b, c, d] = word.to_ne_bytes();
            (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]))
        };
        let ((mac, net), (vlan_tci, vlan_tpid)) = (halves(load(12)), halves(load(24)));
        let header = abi::Tpacket2Hdr {
            status,
            len: load(4),
            snaplen: load(8),
            mac,
            net,
            sec: load(16),
            nsec: load(20),
            vlan_tci,
            vlan_tpid,
            padding: [0; 4],
        };
        let head = size_of::<abi::Tpacket2Hdr>();
        // SAFETY: the kernel does not touch a slot that has TP_STATUS_USER until `rx_release`, which needs `&mut self` and so
        // the end of this slice; the words are in the header, which is not part of it.
        let body = unsafe { self.map.bytes_mut(offset + head, self.rx.slot_len - head) };
        let outgoing = body[abi::PKTTYPE_OFFSET - head] == abi::PACKET_OUTGOING;
        Some(RxSlot { header, outgoing, body })
    }

    /// Takes the oldest frame that was too long for its slot: the header, then as much of the frame as there is room for. Returns the
    /// length of both together, which is more than the room if something was cut off.
    ///
    /// # Errors
    /// EAGAIN: there is none. What the socket's pending error was: try again.
    pub fn receive_queued(&self, header: &mut [u8], frame: &mut [u8]) -> io::Result<usize> {
        socket::receive_parts(&self.socket, [header, frame])
    }

    /// Transmits a frame of any length at once.
    ///
    /// # Errors
    /// What `sendmsg` says; ENXIO if there is no transmit ring either.
    pub fn send_long(&self, header: &[u8], frame: &[u8]) -> io::Result<()> {
        let sender = self.sender.as_ref().ok_or_else(|| io::Error::from_raw_os_error(libc::ENXIO))?;
        socket::send_parts(sender, [header, frame]).map(drop)
    }

    /// The pending error of the socket for long frames; reading clears it.
    pub fn take_sender_error(&self) {
        if let Some(sender) = &self.sender {
            let _stale: io::Result<()> = socket::take_error(sender);
        }
    }

    /// Gives a slot back to the kernel.
    ///
    /// # Panics
    /// If there is no such slot.
    #[inline]
    pub fn rx_release(&mut self, index: usize) {
        // Release: our reads are over before the kernel sees the slot as its own.
        self.map.word(self.rx.offset(index)).store(abi::TP_STATUS_KERNEL, Ordering::Release);
    }

    /// Who has the transmit slot: one of `TP_STATUS_KERNEL` (ours), `SEND_REQUEST`, `SENDING` (2), `WRONG_FORMAT`.
    ///
    /// # Panics
    /// If there is no such slot.
    #[inline]
    #[must_use]
    pub fn tx_status(&self, index: usize) -> u32 {
        // Acquire pairs with the barrier of `tpacket_destruct_skb`: the kernel has read all that it wanted.
        self.map.word(self.tx.offset(index)).load(Ordering::Acquire) & abi::TP_STATUS_OWNER
    }

    /// Copies a frame to a slot and marks it to be sent with the next [`socket::kick`]. False if the slot is not ours.
    ///
    /// # Panics
    /// If there is no such slot, or the frame is longer than [`TX_FRAME_LEN_MAX`].
    #[inline]
    pub fn tx_submit(&mut self, index: usize, header: &[u8; abi::VNET_HDR_LEN], frame: &[u8]) -> bool {
        if self.tx_status(index) != abi::TP_STATUS_KERNEL {
            return false;
        }
        let offset = self.tx.offset(index);
        let len = abi::VNET_HDR_LEN + frame.len();
        assert!(abi::TX_OFFSET + len <= self.tx.slot_len, "the port compared the frame's length with the slot's");
        // SAFETY: the kernel does not touch the data of a slot that is ours (TP_STATUS_AVAILABLE); the words are before it.
        let bytes = unsafe { self.map.bytes_mut(offset + abi::TX_OFFSET, len) };
        let (vnet, data) = bytes.split_at_mut(abi::VNET_HDR_LEN);
        vnet.copy_from_slice(header);
        data.copy_from_slice(frame);
        self.map.word(offset + 4).store(len as u32, Ordering::Relaxed);
        // Release: frame and length are there before the kernel sees the request.
        self.map.word(offset).store(abi::TP_STATUS_SEND_REQUEST, Ordering::Release);
        true
    }

    /// Bytes of the frame that was last put into the slot.
    ///
    /// # Panics
    /// If there is no such slot.
    #[must_use]
    pub fn tx_frame_len(&self, index: usize) -> usize {
        (self.map.word(self.tx.offset(index) + 4).load(Ordering::Relaxed) as usize).saturating_sub(abi::VNET_HDR_LEN)
    }

    /// Takes back a slot that the kernel did not send (`SEND_REQUEST` or `WRONG_FORMAT`): it is ours again.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn tx_take_back(&mut self, index: usize) {
        // Only our own system call looks for requests, and none is running: no race with the kernel.
        self.map.word(self.tx.offset(index)).store(abi::TP_STATUS_KERNEL, Ordering::Release);
    }

    /// Frames that the receive ring had no room for since the last call (`tp_drops`; reading resets it).
    ///
    /// # Errors
    /// What `getsockopt` says.
    pub fn take_rx_drops(&self) -> io::Result<u32> {
        socket::get_option::<[u32; 2]>(&self.socket, abi::SOL_PACKET, abi::PACKET_STATISTICS)
            .map(|[_packets, drops]| drops)
    }
}

/// The bound of a socket's queue; without CAP_NET_ADMIN it is the system's limit at most.
fn buffer(socket: &OwnedFd, step: &'static str, [forced, plain]: [i32; 2], bytes: i32) -> Result<(), SetupError> {
    if socket::set_option(socket, libc::SOL_SOCKET, forced, bytes).is_ok() {
        return Ok(());
    }
    at(step, socket::set_option(socket, libc::SOL_SOCKET, plain, bytes))
}

fn at<T>(step: &'static str, result: io::Result<T>) -> Result<T, SetupError> {
    result.map_err(|source| SetupError { step, source })
}
