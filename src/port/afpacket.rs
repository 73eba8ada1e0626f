//! A device by AF_PACKET: a tap on what it receives, and transmission. The kernel handles every frame as well.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use super::{Batch, Frame, FramePool, PortError, PortStats};
use crate::limits::{ETHERNET_LEN, VLAN_TAG_LEN};
use crate::sys::packet::{Queued, RxRing, Slot, TxRing};
use crate::types::DropReason;
use crate::wire::checksum;
use crate::wire::segment::{Gso, GsoKind, segments};

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`, include/uapi/linux/virtio_net.h.
const NEEDS_CSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_ECN`, a bit beside the kind.
const GSO_ECN: u8 = 0x80;
/// Segments of one super-frame: one of 64 KiB with the smallest segments that TCP makes (`TCP_MIN_MSS` less options: 48).
const SEGMENTS_MAX: usize = 1536;
/// Slots looked at per frame that a burst has room for: what is ignored must not keep the worker.
const LOOKS_MAX: usize = 4 * crate::limits::BURST_LEN;

/// What a port is opened with.
#[derive(Clone, Debug)]
pub struct PacketConfig {
    /// Its name, for messages.
    pub device: String,
    /// Its number in the calling thread's namespace.
    pub ifindex: u32,
    /// Its MTU: longer frames are not sent.
    pub mtu: u32,
    /// Frames in the receive ring (68 KiB each, super-frames come whole); 0: transmit only.
    pub rx_ring_len: u32,
    /// Frames in the transmit ring; 0: receive only.
    pub tx_ring_len: u32,
    /// The group of sockets that share the device's frames by flow.
    pub fanout: Option<u16>,
    /// Past the device's qdisc: faster, drops when the driver is full.
    pub qdisc_bypass: bool,
}

/// See the file's head.
#[derive(Debug)]
pub struct AfPacket {
    rx: Option<RxRing>,
    tx: Option<TxRing>,
    mtu: usize,
    /// Segments that had no room in a burst.
    pending: VecDeque<Frame>,
    stats: PortStats,
}

impl AfPacket {
    /// Opens the rings that are asked for, and binds them.
    ///
    /// # Errors
    /// See [`PortError`].
    pub fn open(config: &PacketConfig) -> Result<Self, PortError> {
        let failed = |e| PortError::system(&config.device, "AF_PACKET socket", e);
        let rx = match config.rx_ring_len {
            0 => None,
            len => {
                super::error::ring("receive", len)?;
                Some(RxRing::open(config.ifindex, len as usize, config.fanout).map_err(failed)?)
            }
        };
        let mtu = config.mtu as usize;
        let tx = match config.tx_ring_len {
            0 => None,
            len => {
                super::error::ring("transmit", len)?;
                let len_max = mtu + ETHERNET_LEN + VLAN_TAG_LEN;
                Some(TxRing::open(config.ifindex, len as usize, len_max, config.qdisc_bypass).map_err(failed)?)
            }
        };
        Ok(Self { rx, tx, mtu, pending: VecDeque::with_capacity(SEGMENTS_MAX), stats: PortStats::default() })
    }

    pub(super) fn receive(&mut self, pool: &mut FramePool, into: &mut Batch) {
        let Self { rx: Some(rx), pending, stats, .. } = self else { return };
        for _ in 0..LOOKS_MAX {
            while !into.is_full() {
                let Some(frame) = pending.pop_front() else { break };
                stats.rx_frames += 1;
                stats.rx_bytes += frame.len() as u64;
                let pushed = into.push(frame);
                assert!(pushed.is_ok(), "a batch that is not full takes a frame");
            }
            if into.is_full() {
                break;
            }
            let Some(mut slot) = rx.take() else { break };
            if slot.outgoing {
                continue;
            }
            if let Err((reason, count)) = unpack(&mut slot, pool, pending) {
                stats.drop_many(reason, count);
            }
        }
    }

    pub(super) fn transmit(&mut self, pool: &mut FramePool, frame: Frame) -> Result<(), DropReason> {
        let sent = self.queue(pool.data(&frame));
        pool.free(frame);
        if let Err(reason) = sent {
            self.stats.drop_many(reason, 1);
        }
        sent
    }

    fn queue(&mut self, bytes: &[u8]) -> Result<(), DropReason> {
        if bytes.len() < ETHERNET_LEN {
            return Err(DropReason::Malformed);
        }
        // The kernel makes an exception for one 802.1Q tag (`packet_extra_vlan_len_allowed`, net/packet/af_packet.c).
        let tag_len = if bytes[12..14] == [0x81, 0] { VLAN_TAG_LEN } else { 0 };
        if bytes.len() > self.mtu + ETHERNET_LEN + tag_len {
            return Err(DropReason::TooLong);
        }
        let Some(tx) = &mut self.tx else { return Err(DropReason::TargetDown) };
        let mut queued = tx.queue(bytes);
        if queued == Queued::Full {
            self.flush_ring();
            queued = self.tx.as_mut().map_or(Queued::Full, |tx| tx.queue(bytes));
        }
        match queued {
            Queued::Yes => {
                self.stats.tx_frames += 1;
                self.stats.tx_bytes += bytes.len() as u64;
                Ok(())
            }
            Queued::Full => Err(DropReason::TxFull),
            Queued::TooLong => Err(DropReason::TooLong),
        }
    }

    pub(super) fn flush(&mut self, _pool: &mut FramePool) {
        self.flush_ring();
    }

    fn flush_ring(&mut self) {
        let Some(tx) = &mut self.tx else { return };
        let sent = tx.flush();
        self.stats.tx_wakeups += sent.calls;
        self.stats.drop_many(DropReason::TxFull, sent.full);
        self.stats.drop_many(DropReason::TxError, sent.failed);
        self.stats.drop_many(DropReason::TargetDown, sent.down);
        self.stats.tx_frames -= sent.full + sent.failed + sent.down;
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.rx.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn stats(&mut self) -> PortStats {
        if let Some(rx) = &mut self.rx {
            self.stats.drop_many(DropReason::RxFull, rx.take_drops());
        }
        self.stats.clone()
    }

    pub(super) fn drain(&mut self, pool: &mut FramePool) {
        self.flush_ring();
        self.stats();
        for frame in self.pending.drain(..) {
            pool.free(frame);
            self.stats.drop_many(DropReason::Shutdown, 1);
        }
        if let Some(tx) = &mut self.tx {
            let left = tx.withdraw();
            self.stats.drop_many(DropReason::Shutdown, left);
            self.stats.tx_frames -= left;
        }
        // Frames still in the receive ring are the kernel's business as well: it has handled them.
        (self.rx, self.tx) = (None, None);
    }
}

/// Makes of a slot what was on the wire, or would have been, and appends it to `pending`.
fn unpack(slot: &mut Slot<'_>, pool: &mut FramePool, pending: &mut VecDeque<Frame>) -> Result<(), (DropReason, u64)> {
    let tag_len = if slot.put_tag() { VLAN_TAG_LEN as u16 } else { 0 };
    let vnet = slot.vnet;
    if slot.data().len() < slot.whole_len {
        return Err((DropReason::TooLong, 1));
    }
    let kind = match vnet.gso_type & !GSO_ECN {
        0 => None,
        1 => Some(GsoKind::TcpV4),
        4 => Some(GsoKind::TcpV6),
        5 => Some(GsoKind::UdpL4),
        // UDP fragmentation offload: no kernel since 4.14 makes it.
        _ => return Err((DropReason::Malformed, 1)),
    };
    let data = slot.data();
    let Some(kind) = kind else {
        if vnet.flags & NEEDS_CSUM != 0 {
            checksum::complete_at(data, vnet.csum_start.saturating_add(tag_len), vnet.csum_offset);
        }
        pending.push_back(pool.alloc_copy(data).map_err(|reason| (reason, 1))?);
        return Ok(());
    };
    let Ok(mut cut) = segments(data, Gso { kind, size: vnet.gso_size }) else { return Err((DropReason::Malformed, 1)) };
    while cut.remaining() > 0 {
        let left = cut.remaining() as u64;
        if pending.len() >= SEGMENTS_MAX {
            return Err((DropReason::NoBuffer, left));
        }
        let Some(mut frame) = pool.alloc() else { return Err((DropReason::NoBuffer, left)) };
        match cut.next_into(pool.buffer_mut(&mut frame)) {
            Some(len) => pool.set_len(&mut frame, len),
            None => {
                pool.free(frame);
                return Err((DropReason::TooLong, left));
            }
        }
        pending.push_back(frame);
    }
    Ok(())
}
