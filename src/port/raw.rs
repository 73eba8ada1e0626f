//! Frames of a device through a plain packet socket (`pnet::datalink`), one system call or two for each. It only taps, as AF_PACKET's rings do.
//!
//! pnet moves the bytes. What it does not tell is asked of the socket before each frame, by a look at the queue that takes nothing
//! (`PACKET_AUXDATA`): length, the tag that the kernel took off, whether the checksum is only begun. There is no `virtio_net_hdr`: how a
//! super-frame was joined is not told, so it is cut to frames of 1500 bytes, and one that is not TCP is dropped as `too_long`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use pnet::datalink::{self, Channel, Config, DataLinkReceiver, DataLinkSender, NetworkInterface};

use super::device::{explain, fits_device, refusal};
use super::finish::Wire;
use super::{Batch, Frame, FramePool, PortError, PortStats};
use crate::limits::{BURST_LEN, ETHERNET_LEN, FRAME_LEN_MAX, VLAN_TAG_LEN};
use crate::sys::packet::SetupError;
use crate::sys::packet_abi as abi;
use crate::sys::socket::{self, Peeked};
use crate::types::{DropReason, Gso, GsoKind, Offload, ethertype};
use crate::wire::{be16, checksum, vlan};

/// What may wait in the socket's queue, in bytes as the kernel counts them.
const RX_QUEUE_BYTES: i32 = 8 << 20;
/// A super-frame is cut to frames for this MTU, or the device's if that is smaller: how long those were that it was joined of is not told,
/// and these get through everywhere.
const SEGMENT_MTU: usize = 1500;
/// Where TCP has its checksum, from its header on. UDP has it elsewhere.
const TCP_CHECKSUM_FIELD: u16 = 16;

/// How long before the tap, and the program behind it, a frame may have been stamped: that is done where it enters the stack, from where
/// it may have to wait for its turn. One that was stamped so shortly before a program was replaced may have met the new one.
pub const STAMP_MARGIN: Duration = Duration::from_millis(3);
const STAMP_MARGIN_NS: i64 = STAMP_MARGIN.as_nanos() as i64;

/// How to open a [`Raw`].
#[derive(Clone, Debug)]
pub struct RawConfig {
    /// Name of the device, for messages.
    pub device: String,
    /// Its index in the calling thread's network namespace.
    pub ifindex: u32,
    /// Its MTU, in bytes without MAC header and outer tag.
    pub mtu: u32,
    /// It receives; else it only transmits, and no frame is queued for it.
    pub receives: bool,
}

/// A port on a plain packet socket.
pub struct Raw {
    /// A descriptor of pnet's socket.
    socket: OwnedFd,
    sender: Box<dyn DataLinkSender>,
    receiver: Box<dyn DataLinkReceiver>,
    receives: bool,
    mtu: usize,
    stats: PortStats,
    open: bool,
}

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Raw").field("socket", &self.socket).field("mtu", &self.mtu).finish_non_exhaustive()
    }
}

impl Raw {
    /// Opens it in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`PortError::Open`] with the step and what to try.
    pub fn open(config: &RawConfig) -> Result<Self, PortError> {
        Self::set_up(config).map_err(|error| explain(&config.device, error))
    }

    fn set_up(config: &RawConfig) -> Result<Self, SetupError> {
        let at = |step| move |source| SetupError { step, source };
        let theirs = socket::packet_socket().map_err(at("socket(AF_PACKET)"))?;
        let set = |step, name| socket::set_option(&theirs, abi::SOL_PACKET, name, 1i32).map_err(at(step));
        set("PACKET_IGNORE_OUTGOING", abi::PACKET_IGNORE_OUTGOING)?;
        set("PACKET_AUXDATA", abi::PACKET_AUXDATA)?;
        socket::set_option(&theirs, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1i32).map_err(at("SO_TIMESTAMPNS"))?;
        // With CAP_NET_ADMIN; without, the system's default has to do.
        let _smaller = socket::set_option(&theirs, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RX_QUEUE_BYTES);
        let socket = theirs.try_clone().map_err(at("one more descriptor of it"))?;
        let interface = NetworkInterface {
            name: config.device.clone(),
            description: String::new(),
            index: config.ifindex,
            mac: None,
            ips: Vec::new(),
            flags: 0,
        };
        let options = Config {
            // It closes the socket when it goes, or cannot bind.
            socket_fd: Some(theirs.into_raw_fd()),
            read_buffer_size: FRAME_LEN_MAX,
            // Only for frames that are built in place.
            write_buffer_size: 0,
            read_timeout: Some(Duration::ZERO),
            write_timeout: Some(Duration::ZERO),
            // As the kernel's tc: what the device takes by itself.
            promiscuous: false,
            ..Config::default()
        };
        let (sender, receiver) = match datalink::channel(&interface, options).map_err(at("bind"))? {
            Channel::Ethernet(sender, receiver) => (sender, receiver),
            _other => return Err(at("datalink::channel")(io::ErrorKind::Unsupported.into())),
        };
        if !config.receives {
            // pnet has bound it to all protocols: to none instead, so that nothing is queued.
            socket::bind_packet(&socket, config.ifindex, 0).map_err(at("bind to no protocol"))?;
        }
        let (receives, mtu) = (config.receives, config.mtu as usize);
        Ok(Self { socket, sender, receiver, receives, mtu, stats: PortStats::default(), open: true })
    }

    /// As `Port::receive`. Without a free chunk it leaves frames in the socket's queue.
    pub fn receive(&mut self, pool: &mut FramePool, until: i64, into: &mut Batch) {
        for _ in 0..BURST_LEN {
            if into.is_full() || !self.open || !self.receives {
                return;
            }
            let seen = match socket::peek_packet(&self.socket) {
                Ok(seen) => seen,
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
                // Empty; or the device went down, which is told once.
                Err(_) => return,
            };
            if seen.stamp_ns > until.saturating_sub(STAMP_MARGIN_NS) {
                return;
            }
            let room = pool.alloc_for(seen.len + tag_len(&seen));
            if matches!(room, Err(DropReason::NoBuffer)) {
                return;
            }
            let taken = self.receiver.next();
            let result = match (room, taken) {
                (Ok(frame), Ok(bytes)) if bytes.len() == seen.len => whole(frame, bytes, &seen, self.mtu, pool),
                (Ok(frame), Ok(_other)) => {
                    pool.free(frame);
                    Err(DropReason::Malformed)
                }
                (Err(reason), Ok(_dropped)) => Err(reason),
                (room, Err(_)) => {
                    room.into_iter().for_each(|frame| pool.free(frame));
                    return;
                }
            };
            match result {
                Ok(frame) => {
                    self.stats.hand_out(frame, pool, into);
                    if into.keeps_stamps() {
                        into.stamp_last(seen.stamp_ns);
                    }
                }
                Err(reason) => self.stats.drop_one(reason),
            }
        }
    }

    /// As `Port::transmit`: sent at once, as the frames that it stands for.
    ///
    /// # Errors
    /// That of the first frame: `TooLong`, `Malformed` as AF_PACKET's; `TargetDown`, `TxFull`, `TxError` by the kernel's answer.
    pub fn transmit(&mut self, pool: &mut FramePool, frame: Frame) -> Result<(), DropReason> {
        let mut wire = Wire::of(frame);
        let mut first = None;
        while let Some(piece) = wire.next(pool) {
            let sent = match piece {
                Ok(frame) => {
                    let sent = self.send(pool.data(&frame));
                    pool.free(frame);
                    sent
                }
                Err(lost) => {
                    self.stats.drops[lost.reason.index()] += lost.frames as u64;
                    Err(lost.reason)
                }
            };
            first.get_or_insert(sent);
        }
        first.unwrap_or(Ok(()))
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), DropReason> {
        let result = self.put(bytes);
        match result {
            Ok(()) => {
                self.stats.tx_frames += 1;
                self.stats.tx_bytes += bytes.len() as u64;
            }
            Err(reason) => self.stats.drop_one(reason),
        }
        result
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), DropReason> {
        if !self.open {
            return Err(DropReason::Shutdown);
        }
        fits_device(bytes, self.mtu)?;
        self.stats.tx_wakeups += 1;
        match self.sender.send_to(bytes, None) {
            Some(Ok(())) => Ok(()),
            // There was no room at once: it does not wait.
            Some(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Err(DropReason::TxFull),
            Some(Err(error)) => Err(refusal(&error)),
            None => Err(DropReason::TooLong),
        }
    }

    /// Readable when frames are there; none for a port that only transmits, or after [`Raw::drain`].
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        (self.open && self.receives).then(|| self.socket.as_fd())
    }

    pub(super) const fn stats_mut(&mut self) -> &mut PortStats {
        &mut self.stats
    }

    /// As `Port::stats`.
    pub fn stats(&mut self) -> PortStats {
        // Reading resets it.
        if let Ok([_, dropped]) = socket::get_option::<[u32; 2]>(&self.socket, abi::SOL_PACKET, abi::PACKET_STATISTICS)
        {
            self.stats.drops[DropReason::RxFull.index()] += u64::from(dropped);
        }
        self.stats.clone()
    }

    /// As `Port::drain`: nothing is under way, since every frame was taken at once. What waits in the queue stays there.
    pub fn drain(&mut self) {
        self.open = false;
    }
}

fn tag_len(seen: &Peeked) -> usize {
    if seen.tag.is_some() { VLAN_TAG_LEN } else { 0 }
}

/// The frame as it was on the wire, with what is left to a device noted beside it.
fn whole(mut frame: Frame, bytes: &[u8], seen: &Peeked, mtu: usize, pool: &mut FramePool) -> Result<Frame, DropReason> {
    let tag_len = tag_len(seen);
    pool.buffer_mut(&mut frame)[tag_len..tag_len + bytes.len()].copy_from_slice(bytes);
    pool.set_len(&mut frame, tag_len + bytes.len());
    let data = pool.data_mut(&mut frame);
    if let Some(tag) = seen.tag {
        vlan::put_back(data, tag);
    }
    let result = if bytes.len() < ETHERNET_LEN { Err(DropReason::Malformed) } else { offload(data, seen, mtu) };
    match result {
        Ok(offload) => {
            frame.offload = offload;
            Ok(frame)
        }
        Err(reason) => {
            pool.free(frame);
            Err(reason)
        }
    }
}

/// What a device would have to do with the frame, as far as it can be known.
fn offload(data: &mut [u8], seen: &Peeked, mtu: usize) -> Result<Offload, DropReason> {
    // One more tag may be within the frame.
    let too_long = seen.len > mtu + ETHERNET_LEN + VLAN_TAG_LEN;
    if !seen.partial && !seen.gso_tcp && !too_long {
        return Ok(Offload::NONE);
    }
    let Some(partial) = checksum::make_partial(data) else {
        return Err(if too_long { DropReason::TooLong } else { DropReason::Malformed });
    };
    let offload = Offload { checksum: Some(partial), gso: None };
    let headers_len = |kind| {
        // Its size does not matter here.
        let gso = Some(Gso { kind, size: 1, ecn: false });
        Offload { gso, ..offload }.segments(data).map(|s| s.header_len)
    };
    let is_tcp = partial.field == TCP_CHECKSUM_FIELD;
    let kind = if network_is_v6(data) { GsoKind::TcpV6 } else { GsoKind::TcpV4 };
    let Some(headers_len) = headers_len(kind).filter(|_| is_tcp) else {
        return if too_long { Err(DropReason::TooLong) } else { Ok(offload) };
    };
    let size = (mtu.min(SEGMENT_MTU) + ETHERNET_LEN + tag_len(seen)).saturating_sub(headers_len);
    if data.len() <= headers_len + size || !(seen.gso_tcp || too_long) {
        return Ok(offload);
    }
    match u16::try_from(size) {
        Ok(size) if size > 0 => Ok(Offload { gso: Some(Gso { kind, size, ecn: false }), ..offload }),
        Ok(_) | Err(_) => Err(DropReason::TooLong),
    }
}

/// Whether IPv6 follows the MAC header and its tags.
fn network_is_v6(data: &[u8]) -> bool {
    let mut at = ETHERNET_LEN - 2;
    while data.len() > at + VLAN_TAG_LEN + 1 && crate::types::is_tag(be16(data, at)) {
        at += VLAN_TAG_LEN;
    }
    data.len() > at + 1 && be16(data, at) == ethertype::IPV6
}

#[cfg(test)]
#[path = "raw_tests.rs"]
mod tests;
