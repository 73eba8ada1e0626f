//! `struct virtio_net_hdr`: what it says of a frame, read and written. It computes no checksum and cuts nothing.
//!
//! ```text
//! 0 flags  1 gso_type  2 hdr_len  4 gso_size  6 csum_start  8 csum_offset      (host order, 10 bytes)
//! ```

use crate::sys::packet_abi as abi;
use crate::types::{DropReason, Gso, GsoKind, Offload, PartialChecksum};

/// A header's bytes.
pub(super) type Bytes = [u8; abi::VNET_HDR_LEN];

/// What the header of a frame of `frame_len` bytes leaves to us. A checksum whose field is not in the frame is not one.
///
/// # Errors
/// [`DropReason::Malformed`]: a super-frame of a kind that we do not know, or without a size.
pub(super) fn read(header: &[u8], frame_len: usize) -> Result<Offload, DropReason> {
    let word = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
    // hdr_len (at 2) is a hint and of no use.
    let (flags, gso_type, size, start, field) = (header[0], header[1], word(4), word(6), word(8));
    let fits = usize::from(start) + usize::from(field) + 2 <= frame_len;
    let checksum = (flags & abi::VNET_NEEDS_CSUM != 0 && fits)
        .then(|| PartialChecksum { covers: (frame_len - usize::from(start)) as u32, field });
    let kind = match gso_type & !abi::VNET_GSO_ECN {
        abi::VNET_GSO_NONE => return Ok(Offload { checksum, gso: None }),
        abi::VNET_GSO_TCPV4 => GsoKind::TcpV4,
        abi::VNET_GSO_TCPV6 => GsoKind::TcpV6,
        abi::VNET_GSO_UDP_L4 => GsoKind::UdpL4,
        _unknown => return Err(DropReason::Malformed),
    };
    if size == 0 {
        return Err(DropReason::Malformed);
    }
    Ok(Offload { checksum, gso: Some(Gso { kind, size, ecn: gso_type & abi::VNET_GSO_ECN != 0 }) })
}

/// The header for a frame. What `offload` says and the frame's length does not allow is left out.
pub(super) fn write(offload: &Offload, frame: &[u8]) -> Bytes {
    let mut header = Bytes::default();
    let Some(checksum) = offload.checksum else { return header };
    let Some(start) = frame.len().checked_sub(checksum.covers as usize) else { return header };
    let mut put = |at: usize, value: usize| header[at..at + 2].copy_from_slice(&(value as u16).to_ne_bytes());
    put(6, start);
    put(8, usize::from(checksum.field));
    if let (Some(gso), Some(segments)) = (offload.gso, offload.segments(frame)) {
        // The kernel wants all headers in the linear part.
        put(2, segments.header_len);
        put(4, usize::from(gso.size));
        let kind = match gso.kind {
            GsoKind::TcpV4 => abi::VNET_GSO_TCPV4,
            GsoKind::TcpV6 => abi::VNET_GSO_TCPV6,
            GsoKind::UdpL4 => abi::VNET_GSO_UDP_L4,
        };
        header[1] = if gso.ecn { kind | abi::VNET_GSO_ECN } else { kind };
    }
    header[0] = abi::VNET_NEEDS_CSUM;
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_headroom_does_not_matter() {
        let mut frame = vec![0; 200];
        frame[34 + 12] = 8 << 4;
        for kind in [GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::UdpL4] {
            for ecn in [false, true] {
                let checksum = Some(PartialChecksum { covers: 166, field: 16 });
                let offload = Offload { checksum, gso: Some(Gso { kind, size: 50, ecn }) };
                let header = write(&offload, &frame);
                assert_eq!(read(&header, frame.len()), Ok(offload));
                assert_eq!(header[6..8], 34u16.to_ne_bytes());
                // Four bytes of tag more: csum_start and hdr_len move with them.
                let mut tagged = vec![0; 4];
                tagged.extend(&frame);
                let header = write(&offload, &tagged);
                assert_eq!(header[6..8], 38u16.to_ne_bytes());
                assert_eq!(read(&header, tagged.len()), Ok(offload));
            }
        }
        assert_eq!(write(&Offload::NONE, &frame), [0; 10]);
    }

    #[test]
    fn nonsense_is_refused_or_left_out() {
        let header = |flags: u8, kind: u8, size: u16, start: u16, field: u16| {
            let mut bytes = vec![flags, kind, 0, 0];
            for word in [size, start, field] {
                bytes.extend(word.to_ne_bytes());
            }
            bytes
        };
        assert_eq!(read(&header(1, 3, 100, 34, 16), 200), Err(DropReason::Malformed), "UFO");
        assert_eq!(read(&header(1, 1, 0, 34, 16), 200), Err(DropReason::Malformed));
        assert_eq!(read(&header(1, 0, 0, 190, 9), 200), Ok(Offload::NONE));
        let beyond = Offload { checksum: Some(PartialChecksum { covers: 300, field: 0 }), gso: None };
        assert_eq!(write(&beyond, &[0; 200]), [0; 10]);
    }
}
