//! One receive slot of AF_PACKET made into a frame: tag inline, what is left to the device noted. It does no system call.

use super::{Frame, FramePool, vnet};
use crate::limits::{ETHERNET_LEN, VLAN_TAG_LEN};
use crate::sys::packet::RxSlot;
use crate::sys::packet_abi as abi;
use crate::types::{DropReason, VlanTag, ethertype};
use crate::wire::{checksum, vlan};

/// What is in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Nothing for us: this host sent it.
    Own,
    /// A frame, at this range of the slot's body.
    Here { start: usize, end: usize },
    /// The frame was too long for the slot: the socket's queue has it, with this length.
    Queued { len: usize },
    /// A frame that is lost.
    Lost(DropReason),
}

/// Looks at a slot that the kernel has filled.
pub(super) fn content(slot: &RxSlot<'_>) -> Content {
    let header = &slot.header;
    let queued = header.status & abi::TP_STATUS_COPY != 0;
    if slot.outgoing && !queued {
        return Content::Own;
    }
    let start = usize::from(header.mac).saturating_sub(size_of::<abi::Tpacket2Hdr>());
    let end = start + header.snaplen as usize;
    if queued {
        Content::Queued { len: header.len as usize }
    } else if header.snaplen < header.len {
        // The socket's queue had no room.
        Content::Lost(DropReason::RxFull)
    } else if start < abi::VNET_HDR_LEN || end > slot.body.len() || end - start < ETHERNET_LEN {
        Content::Lost(DropReason::Malformed)
    } else {
        Content::Here { start, end }
    }
}

/// A copy of the frame in the slot, at this range of its body.
///
/// # Errors
/// `NoBuffer`: try again later. Else the frame is lost.
pub(super) fn copy(slot: &RxSlot<'_>, start: usize, end: usize, pool: &mut FramePool) -> Result<Frame, DropReason> {
    let bytes = &slot.body[start..end];
    let tag = tag(&slot.header);
    let tag_len = if tag.is_some() { VLAN_TAG_LEN } else { 0 };
    let mut frame = pool.alloc_for(tag_len + bytes.len())?;
    pool.buffer_mut(&mut frame)[tag_len..tag_len + bytes.len()].copy_from_slice(bytes);
    make_whole(frame, &slot.body[start - abi::VNET_HDR_LEN..start], tag, bytes.len(), pool)
}

/// Puts the tag before the frame of `len` bytes that stands behind the room for it, and notes what the header leaves to the device.
///
/// # Errors
/// `Malformed`: the frame is freed.
pub(super) fn make_whole(
    mut frame: Frame,
    header: &[u8],
    tag: Option<VlanTag>,
    len: usize,
    pool: &mut FramePool,
) -> Result<Frame, DropReason> {
    let tag_len = if tag.is_some() { VLAN_TAG_LEN } else { 0 };
    pool.set_len(&mut frame, tag_len + len);
    if let Some(tag) = tag {
        vlan::put_back(pool.data_mut(&mut frame), tag);
    }
    let offload = vnet::read(header, len).and_then(|mut offload| {
        // A super-frame whose checksum is said to be there: each segment needs one of its own all the same.
        if offload.gso.is_some() && offload.checksum.is_none() {
            offload.checksum = Some(checksum::make_partial(pool.data_mut(&mut frame)).ok_or(DropReason::Malformed)?);
        }
        Ok(offload)
    });
    match offload {
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

/// The tag that the kernel took off (`tpacket_rcv`); before 3.14 without its TPID.
pub(super) fn tag(header: &abi::Tpacket2Hdr) -> Option<VlanTag> {
    if header.status & abi::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let has_tpid = header.status & abi::TP_STATUS_VLAN_TPID_VALID != 0;
    Some(VlanTag { tpid: if has_tpid { header.vlan_tpid } else { ethertype::VLAN }, tci: header.vlan_tci })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::PoolConfig;
    use crate::port::finish::Wire;
    use crate::types::{Gso, GsoKind};

    const MAC: usize = 80;

    /// A tagged TCP super-frame of 2500 bytes in a slot: 3 segments of at most 1000.
    fn slot_body() -> (Vec<u8>, usize) {
        let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([198, 18, 0, 1], [198, 18, 0, 2], 64);
        let mut frame = Vec::new();
        builder.tcp(1, 2, 1000, 64).write(&mut frame, &[7; 2500]).unwrap();
        checksum::make_partial(&mut frame).unwrap();
        let mut body = vec![0; MAC - 32];
        body.extend(&frame);
        let vnet = [abi::VNET_NEEDS_CSUM, abi::VNET_GSO_TCPV4 | abi::VNET_GSO_ECN];
        body[MAC - 42..MAC - 40].copy_from_slice(&vnet);
        for (at, word) in [(38, 1000u16), (36, 34), (34, 16)] {
            body[MAC - at..MAC - at + 2].copy_from_slice(&word.to_ne_bytes());
        }
        (body, frame.len())
    }

    fn slot(body: &mut [u8], len: usize) -> RxSlot<'_> {
        let header = abi::Tpacket2Hdr {
            status: abi::TP_STATUS_USER | abi::TP_STATUS_VLAN_VALID | abi::TP_STATUS_VLAN_TPID_VALID,
            len: len as u32,
            snaplen: len as u32,
            mac: MAC as u16,
            vlan_tci: 0x6007,
            vlan_tpid: 0x88a8,
            ..abi::Tpacket2Hdr::default()
        };
        RxSlot { header, outgoing: false, body }
    }

    #[test]
    fn a_tagged_super_frame_is_taken_whole_and_what_it_stands_for_is_right() {
        for needs_checksum in [true, false] {
            let (mut body, len) = slot_body();
            if !needs_checksum {
                body[MAC - 42] = 0;
            }
            let mut pool =
                FramePool::new(PoolConfig { chunk_count: 1, chunk_len: 2048, umem: false }).unwrap().with_large(1);
            let slot = slot(&mut body, len);
            let Content::Here { start, end } = content(&slot) else { panic!("{slot:?}") };
            let frame = copy(&slot, start, end, &mut pool).unwrap();
            assert_eq!(copy(&slot, start, end, &mut pool).unwrap_err(), DropReason::NoBuffer);
            assert_eq!(frame.offload.gso, Some(Gso { kind: GsoKind::TcpV4, size: 1000, ecn: true }));
            assert_eq!(frame.offload.segments(pool.data(&frame)).map(|s| (s.header_len, s.count)), Some((58, 3)));
            let mut wire = Wire::of(frame);
            for (number, payload_len) in [1000usize, 1000, 500].into_iter().enumerate() {
                let frame = wire.next(&mut pool).unwrap().unwrap();
                let bytes = pool.data(&frame);
                assert_eq!(bytes[..18], [4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2, 0x88, 0xa8, 0x60, 7, 8, 0]);
                let packet = etherparse::PacketHeaders::from_ethernet_slice(bytes).unwrap();
                let Some(etherparse::TransportHeader::Tcp(tcp)) = &packet.transport else { panic!("no TCP") };
                let Some(etherparse::NetHeaders::Ipv4(ip, _)) = &packet.net else { panic!("no IPv4") };
                assert_eq!(tcp.sequence_number, 1000 + 1000 * number as u32);
                assert_eq!(packet.payload.slice(), vec![7; payload_len]);
                assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4(ip, packet.payload.slice()).unwrap());
                pool.free(frame);
            }
            assert!(wire.next(&mut pool).is_none());
            assert_eq!(pool.outstanding(), 0);
        }
    }

    #[test]
    fn segments_that_find_no_chunk_are_counted() {
        let (mut body, len) = slot_body();
        let mut pool =
            FramePool::new(PoolConfig { chunk_count: 1, chunk_len: 2048, umem: false }).unwrap().with_large(1);
        let slot = slot(&mut body, len);
        let frame = copy(&slot, MAC - 32, MAC - 32 + len, &mut pool).unwrap();
        let mut wire = Wire::of(frame);
        let first = wire.next(&mut pool).unwrap().unwrap();
        let lost = wire.next(&mut pool).unwrap().unwrap_err();
        assert_eq!((lost.reason, lost.frames), (DropReason::NoBuffer, 2));
        assert!(wire.next(&mut pool).is_none());
        pool.free(first);
        assert_eq!(pool.outstanding(), 0);
    }

    #[test]
    fn what_is_cut_off_is_in_the_queue_or_lost() {
        let (mut body, len) = slot_body();
        let mut slot = slot(&mut body, len);
        slot.header.len += 1;
        assert_eq!(content(&slot), Content::Lost(DropReason::RxFull));
        slot.header.status |= abi::TP_STATUS_COPY;
        assert_eq!(content(&slot), Content::Queued { len: len + 1 });
        slot.header.mac = 36;
        slot.header.status = abi::TP_STATUS_USER;
        slot.header.len -= 1;
        assert_eq!(content(&slot), Content::Lost(DropReason::Malformed), "no room for the virtio_net_hdr");
    }
}
