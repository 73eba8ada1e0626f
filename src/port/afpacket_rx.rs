//! One receive slot of AF_PACKET made into ordinary frames: tag inline, checksum whole, super-frames cut. It does no system call.

use super::{Batch, Frame, FramePool, PortStats};
use crate::limits::{ETHERNET_LEN, VLAN_TAG_LEN};
use crate::sys::packet::RxSlot;
use crate::sys::packet_abi as abi;
use crate::types::{DropReason, VlanTag, ethertype};
use crate::wire::segment::{Gso, GsoKind, segments};
use crate::wire::{checksum, vlan};

/// What became of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It can go back to the kernel.
    Whole,
    /// There was no room for all of it: it must be looked at again.
    Partly,
}

/// How far a super-frame was taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Its tag is back in place (in the slot: that must not happen twice).
    tagged: bool,
    /// Segments handed out.
    segment: usize,
}

/// The fields of `struct virtio_net_hdr` (host order, as af_packet writes it on little and big endian alike) that matter.
#[derive(Clone, Copy, Debug)]
struct Vnet {
    flags: u8,
    gso_type: u8,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

impl Vnet {
    fn parse(bytes: &[u8]) -> Self {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        // hdr_len (at 2) is a hint and of no use.
        Self { flags: bytes[0], gso_type: bytes[1], gso_size: word(4), csum_start: word(6), csum_offset: word(8) }
    }
}

/// Takes what `into` and the pool have room for. `progress` is new for a slot not seen before.
pub(super) fn take(
    slot: RxSlot<'_>,
    progress: &mut Progress,
    pool: &mut FramePool,
    into: &mut Batch,
    stats: &mut PortStats,
) -> Taken {
    if slot.outgoing {
        return Taken::Whole;
    }
    let header = slot.header;
    let start = usize::from(header.mac).saturating_sub(size_of::<abi::Tpacket2Hdr>());
    let end = start + header.snaplen as usize;
    if header.snaplen < header.len {
        stats.drop_one(DropReason::TooLong);
        return Taken::Whole;
    }
    if start < abi::VNET_HDR_LEN || end > slot.body.len() || end - start < ETHERNET_LEN {
        stats.drop_one(DropReason::Malformed);
        return Taken::Whole;
    }
    let vnet = Vnet::parse(&slot.body[start - abi::VNET_HDR_LEN..start]);
    let tag = tag(&header);
    match vnet.gso_type & !abi::VNET_GSO_ECN {
        abi::VNET_GSO_NONE => take_one(&slot.body[start..end], tag, vnet, pool, into, stats),
        gso_type => {
            let kind = match gso_type {
                abi::VNET_GSO_TCPV4 => GsoKind::TcpV4,
                abi::VNET_GSO_TCPV6 => GsoKind::TcpV6,
                abi::VNET_GSO_UDP_L4 => GsoKind::UdpL4,
                _unknown => {
                    stats.drop_one(DropReason::Malformed);
                    return Taken::Whole;
                }
            };
            // The tag goes where the virtio_net_hdr is, so a later look finds that overwritten: only up to its last four bytes
            // (csum_start, csum_offset), which a super-frame does not need.
            let tagged = tag.map_or(start, |_| start - VLAN_TAG_LEN);
            if let (Some(tag), false) = (tag, progress.tagged) {
                vlan::put_back(&mut slot.body[tagged..end], tag);
                progress.tagged = true;
            }
            let gso = Gso { kind, size: vnet.gso_size };
            cut(&slot.body[tagged..end], gso, progress, pool, into, stats)
        }
    }
}

/// The tag that the kernel took off (`tpacket_rcv`); before 3.14 without its TPID.
fn tag(header: &abi::Tpacket2Hdr) -> Option<VlanTag> {
    if header.status & abi::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let has_tpid = header.status & abi::TP_STATUS_VLAN_TPID_VALID != 0;
    Some(VlanTag { tpid: if has_tpid { header.vlan_tpid } else { ethertype::VLAN }, tci: header.vlan_tci })
}

fn take_one(
    frame: &[u8],
    tag: Option<VlanTag>,
    vnet: Vnet,
    pool: &mut FramePool,
    into: &mut Batch,
    stats: &mut PortStats,
) -> Taken {
    let tag_len = if tag.is_some() { VLAN_TAG_LEN } else { 0 };
    let len = frame.len() + tag_len;
    if len > pool.chunk_len() {
        stats.drop_one(DropReason::TooLong);
        return Taken::Whole;
    }
    let Some(mut chunk) = pool.alloc() else { return Taken::Partly };
    let buffer = &mut pool.buffer_mut(&mut chunk)[..len];
    buffer[tag_len..].copy_from_slice(frame);
    // Before the tag is put in: csum_start counts from the untagged MAC header. A field that is not in the frame stays as it is.
    if vnet.flags & abi::VNET_NEEDS_CSUM != 0 {
        let _completed = checksum::complete_at(&mut buffer[tag_len..], vnet.csum_start, vnet.csum_offset);
    }
    if let Some(tag) = tag {
        vlan::put_back(buffer, tag);
    }
    hand_out(chunk, len, pool, into, stats);
    Taken::Whole
}

fn cut(
    frame: &[u8],
    gso: Gso,
    progress: &mut Progress,
    pool: &mut FramePool,
    into: &mut Batch,
    stats: &mut PortStats,
) -> Taken {
    let Ok(mut segmenter) = segments(frame, gso) else {
        stats.drop_one(DropReason::Malformed);
        return Taken::Whole;
    };
    segmenter.seek(progress.segment);
    if segmenter.segment_len_max() > pool.chunk_len() {
        stats.drops[DropReason::TooLong.index()] += segmenter.remaining() as u64;
        return Taken::Whole;
    }
    while segmenter.remaining() > 0 {
        if into.is_full() {
            return Taken::Partly;
        }
        let Some(mut chunk) = pool.alloc() else { return Taken::Partly };
        let len = segmenter.next_into(pool.buffer_mut(&mut chunk)).expect("the longest segment fits into a chunk");
        hand_out(chunk, len, pool, into, stats);
        progress.segment = segmenter.position();
    }
    Taken::Whole
}

fn hand_out(mut chunk: Frame, len: usize, pool: &mut FramePool, into: &mut Batch, stats: &mut PortStats) {
    pool.set_len(&mut chunk, len);
    match into.push(chunk) {
        Ok(()) => {
            stats.rx_frames += 1;
            stats.rx_bytes += len as u64;
        }
        Err(chunk) => {
            // Callers look for room first; if one day they do not, it is counted and not lost.
            stats.drop_one(DropReason::NoBuffer);
            pool.free(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::PoolConfig;

    const MAC: usize = 80;

    /// A tagged TCP super-frame of 2500 bytes in a slot: 3 segments of at most 1000.
    fn slot_body() -> (Vec<u8>, usize) {
        let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([198, 18, 0, 1], [198, 18, 0, 2], 64);
        let mut frame = Vec::new();
        builder.tcp(1, 2, 1000, 64).write(&mut frame, &[7; 2500]).unwrap();
        let mut body = vec![0; MAC - 32];
        body.extend(&frame);
        let vnet = [abi::VNET_NEEDS_CSUM, abi::VNET_GSO_TCPV4 | abi::VNET_GSO_ECN];
        body[MAC - 42..MAC - 40].copy_from_slice(&vnet);
        body[MAC - 38..MAC - 36].copy_from_slice(&1000u16.to_ne_bytes());
        (body, frame.len())
    }

    #[test]
    fn a_tagged_super_frame_is_cut_over_several_receives_without_loss() {
        let (mut body, len) = slot_body();
        let mut pool = FramePool::new(PoolConfig { chunk_count: 1, chunk_len: 2048, umem: false }).unwrap();
        let (mut stats, mut progress, mut into) = (PortStats::default(), Progress::default(), Batch::new());
        let header = abi::Tpacket2Hdr {
            status: abi::TP_STATUS_USER | abi::TP_STATUS_VLAN_VALID | abi::TP_STATUS_VLAN_TPID_VALID,
            len: len as u32,
            snaplen: len as u32,
            mac: MAC as u16,
            vlan_tci: 0x6007,
            vlan_tpid: 0x88a8,
            ..abi::Tpacket2Hdr::default()
        };
        let mut look = |pool: &mut FramePool, into: &mut Batch| {
            let slot = RxSlot { header, outgoing: false, body: &mut body };
            take(slot, &mut progress, pool, into, &mut stats)
        };
        // The tag is put back at the first look, even if there is no chunk yet: it must not be put back again.
        let held = pool.alloc().unwrap();
        assert_eq!(look(&mut pool, &mut into), Taken::Partly);
        assert!(into.is_empty());
        pool.free(held);
        for (number, payload_len) in [1000usize, 1000, 500].into_iter().enumerate() {
            let expected = if number == 2 { Taken::Whole } else { Taken::Partly };
            assert_eq!(look(&mut pool, &mut into), expected);
            let frame = into.pop().unwrap();
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
        assert_eq!((pool.outstanding(), stats.rx_frames, stats.drops.iter().sum::<u64>()), (0, 3, 0));
    }

    #[test]
    fn what_was_cut_off_by_the_slot_is_counted() {
        let (mut body, len) = slot_body();
        let mut pool = FramePool::new(PoolConfig { chunk_count: 1, chunk_len: 2048, umem: false }).unwrap();
        let mut stats = PortStats::default();
        let header =
            abi::Tpacket2Hdr { len: len as u32 + 1, snaplen: len as u32, mac: 80, ..abi::Tpacket2Hdr::default() };
        let slot = RxSlot { header, outgoing: false, body: &mut body };
        let taken = take(slot, &mut Progress::default(), &mut pool, &mut Batch::new(), &mut stats);
        assert_eq!((taken, stats.dropped(DropReason::TooLong)), (Taken::Whole, 1));
    }
}
