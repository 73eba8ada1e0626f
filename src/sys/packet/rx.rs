//! The receive ring: slots that the kernel filled, one at a time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use super::{HEADER_LEN, Layout, bind, socket, status};
use crate::limits::FRAME_LEN_MAX;
use crate::sys::call::{get_option, set_option};
use crate::sys::mmap::Map;

/// `struct virtio_net_hdr`, include/uapi/linux/virtio_net.h; the kernel puts it right before the MAC header (`tpacket_rcv`).
const VNET_LEN: usize = 10;
/// Room for header, address and alignment before the frame, then the longest super-frame: 17 pages.
const SLOT_LEN: usize = 17 * 4096;
/// Slots share blocks of 1 MiB, 15 in each, so that little of the kernel's power-of-two allocation is wasted.
const BLOCK_LEN: usize = 1 << 20;
const _: () = assert!(SLOT_LEN >= FRAME_LEN_MAX + 256 && SLOT_LEN % 16 == 0);
/// Room before the frame in a slot, at least: header, `sockaddr_ll`, `virtio_net_hdr`. A tag (4 bytes) is put there.
const FRONT_MIN: usize = HEADER_LEN + 20 + VNET_LEN;

/// What the kernel's stack left to do, host byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// Bit 0 (`VIRTIO_NET_HDR_F_NEEDS_CSUM`): the checksum is partial.
    pub flags: u8,
    /// `VIRTIO_NET_HDR_GSO_*`, with bit 7 for ECN.
    pub gso_type: u8,
    /// Bytes of payload in each segment.
    pub gso_size: u16,
    /// Where the sum begins, from the MAC header without the tag that was taken off.
    pub csum_start: u16,
    /// Where the checksum goes, from `csum_start`.
    pub csum_offset: u16,
}

/// A received frame in its slot, ours until dropped.
#[derive(Debug)]
pub struct Slot<'a> {
    ring: &'a mut RxRing,
    start: usize,
    len: usize,
    /// The frame's own length, of which [`Slot::data`] may be a part.
    pub whole_len: usize,
    /// See [`VnetHeader`].
    pub vnet: VnetHeader,
    /// The tag that was taken off: TPID and TCI.
    pub tag: Option<(u16, u16)>,
    /// `PACKET_OUTGOING`: our own host sent it.
    pub outgoing: bool,
}

impl Slot<'_> {
    /// The frame from its MAC header on; with [`Slot::put_tag`] the tag too.
    pub fn data(&mut self) -> &mut [u8] {
        let slot = self.ring.slot(self.ring.next);
        // SAFETY: `start` and `len` were compared with the slot's length; the kernel does not touch the slot until it is
        // given back, which needs this borrow to end.
        unsafe { std::slice::from_raw_parts_mut(slot.add(self.start), self.len) }
    }

    /// Puts the tag that was taken off back in front; true if there was one.
    pub fn put_tag(&mut self) -> bool {
        let Some((tpid, tci)) = self.tag.take() else { return false };
        if self.len < 12 {
            return false;
        }
        self.start -= 4;
        self.len += 4;
        self.whole_len += 4;
        let data = self.data();
        data.copy_within(4..16, 0);
        data[12..14].copy_from_slice(&tpid.to_be_bytes());
        data[14..16].copy_from_slice(&tci.to_be_bytes());
        true
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.ring.release();
    }
}

/// See the file's head.
#[derive(Debug)]
pub struct RxRing {
    // Before the socket: unmapped first.
    map: Map,
    fd: OwnedFd,
    layout: Layout,
    next: usize,
}

impl RxRing {
    /// A ring of at least `slots` slots on a device of the calling thread's namespace. `fanout`: the group of sockets that share the
    /// device's frames, by flow.
    ///
    /// # Errors
    /// `EPERM` (CAP_NET_RAW), `ENODEV`, `ENETDOWN`, `ENOMEM`.
    pub fn open(ifindex: u32, slots: usize, fanout: Option<u16>) -> io::Result<Self> {
        let fd = socket()?;
        let layout = Layout::new(slots, SLOT_LEN, BLOCK_LEN);
        set_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1)?;
        layout.set(fd.as_fd(), libc::PACKET_RX_RING)?;
        set_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1)?;
        let map = Map::shared(fd.as_fd(), layout.len())?;
        bind(fd.as_fd(), ifindex, libc::ETH_P_ALL as u16)?;
        if let Some(group) = fanout {
            let word = libc::c_int::from(group) | (libc::PACKET_FANOUT_HASH as libc::c_int) << 16;
            set_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_FANOUT, &word)?;
        }
        Ok(Self { map, fd, layout, next: 0 })
    }

    /// The oldest frame. `None`: there is none.
    pub fn take(&mut self) -> Option<Slot<'_>> {
        let slot = self.slot(self.next);
        // SAFETY: the slot is mapped as long as the ring. Acquire pairs with the kernel's barrier in `__packet_set_status`.
        if unsafe { status(slot) }.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the slot is ours now; header, address and `virtio_net_hdr` are plain bytes within it (see the offsets).
        let (header, address) = unsafe {
            (
                slot.cast::<libc::tpacket2_hdr>().read(),
                slot.add(HEADER_LEN).cast::<libc::sockaddr_ll>().read_unaligned(),
            )
        };
        let start = usize::from(header.tp_mac).clamp(FRONT_MIN, self.layout.slot_len);
        let len = (header.tp_snaplen as usize).min(self.layout.slot_len - start);
        // SAFETY: `start` is at least `FRONT_MIN`, so these bytes are within the slot.
        let bytes = unsafe { slot.add(start - VNET_LEN).cast::<[u8; VNET_LEN]>().read() };
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let vnet = VnetHeader {
            flags: bytes[0],
            gso_type: bytes[1],
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        };
        let tag = (header.tp_status & libc::TP_STATUS_VLAN_VALID != 0).then(|| {
            let has_tpid = header.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
            (if has_tpid { header.tp_vlan_tpid } else { 0x8100 }, header.tp_vlan_tci)
        });
        let outgoing = address.sll_pkttype == libc::PACKET_OUTGOING;
        Some(Slot { start, len, whole_len: header.tp_len as usize, vnet, tag, outgoing, ring: self })
    }

    /// Frames that the kernel dropped for want of a slot, since the last call (`PACKET_STATISTICS` starts again from 0).
    pub fn take_drops(&mut self) -> u64 {
        let zero = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        get_option(self.fd.as_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, zero)
            .map_or(0, |s| u64::from(s.tp_drops))
    }

    fn slot(&self, index: usize) -> *mut u8 {
        self.map.at(self.layout.offset(index), self.layout.slot_len)
    }

    fn release(&mut self) {
        // SAFETY: mapped as long as the ring. Release pairs with the kernel's read in `packet_lookup_frame`: our reads are done.
        unsafe { status(self.slot(self.next)) }.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % self.layout.slot_count;
    }
}

impl AsFd for RxRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
