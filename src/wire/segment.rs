//! Software GSO: a super-frame cut into the frames that a device would have made of it. It allocates nothing and sends nothing.

use super::checksum::{self, IP_PROTO_TCP, IP_PROTO_UDP, Sum};
use super::headers::{IpVersion, TCP_LEN_MIN, Transport};
use super::{be16, be32};
use crate::limits::FRAME_LEN_MAX;
pub use crate::types::{Gso, GsoKind};

/// Length of a UDP header.
const UDP_LEN: usize = 8;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// Why a super-frame cannot be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// `gso_size` is 0.
    #[error("super-frame: gso_size is 0; the sender must say how long a segment is")]
    NoSize,
    /// The headers are not what the kind says, or are cut off, or the IP length does not fit.
    #[error("super-frame: its headers are not those of {0:?}, or do not fit into it; send it without GSO")]
    Headers(GsoKind),
    /// Longer than [`FRAME_LEN_MAX`].
    #[error("super-frame: {0} bytes are more than the {FRAME_LEN_MAX} that a frame can have; lower gso_max_size")]
    TooLong(usize),
}

/// The segments of one super-frame, in order. Each step writes one into the caller's buffer.
#[derive(Debug)]
pub struct Segmenter<'a> {
    frame: &'a [u8],
    packet: Transport,
    /// MAC, IP and transport headers.
    header_len: usize,
    size: usize,
    count: usize,
    next: usize,
    has_checksum: bool,
}

/// Prepares to cut `frame` (from the MAC header on, VLAN tags allowed, whatever checksums) as `gso` says.
///
/// # Errors
/// See [`SegmentError`]; nothing was cut then.
pub fn segments(frame: &[u8], gso: Gso) -> Result<Segmenter<'_>, SegmentError> {
    if gso.size == 0 {
        return Err(SegmentError::NoSize);
    }
    if frame.len() > FRAME_LEN_MAX {
        return Err(SegmentError::TooLong(frame.len()));
    }
    let wrong = SegmentError::Headers(gso.kind);
    let packet = Transport::find(frame).ok_or(wrong)?;
    let fits = match gso.kind {
        GsoKind::TcpV4 => packet.ip_proto == IP_PROTO_TCP && packet.ip == IpVersion::V4,
        GsoKind::TcpV6 => packet.ip_proto == IP_PROTO_TCP && packet.ip == IpVersion::V6,
        GsoKind::UdpL4 => packet.ip_proto == IP_PROTO_UDP,
    };
    let l4_header_len = if packet.ip_proto == IP_PROTO_UDP {
        UDP_LEN
    } else if packet.l4.len() >= TCP_LEN_MIN {
        usize::from(frame[packet.l4.start + 12] >> 4) * 4
    } else {
        return Err(wrong);
    };
    let l4_header_len_min = if packet.ip_proto == IP_PROTO_UDP { UDP_LEN } else { TCP_LEN_MIN };
    if !fits || l4_header_len < l4_header_len_min || l4_header_len > packet.l4.len() {
        return Err(wrong);
    }
    let header_len = packet.l4.start + l4_header_len;
    let payload_len = packet.l4.end - header_len;
    let size = usize::from(gso.size);
    // UDP's zero means that the sender wants none.
    let has_checksum = packet.ip_proto == IP_PROTO_TCP || be16(frame, packet.l4.start + 6) != 0;
    let count = payload_len.div_ceil(size).max(1);
    Ok(Segmenter { frame, packet, header_len, size, count, next: 0, has_checksum })
}

impl Segmenter<'_> {
    /// Length of the longest segment, MAC header and tags included: what a buffer for [`Segmenter::next_into`] must hold.
    #[must_use]
    pub fn segment_len_max(&self) -> usize {
        self.packet.l4.end.min(self.header_len + self.size)
    }

    /// Segments that were not produced yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.count - self.next
    }

    /// Segments that were produced or skipped.
    #[must_use]
    pub fn position(&self) -> usize {
        self.next
    }

    /// Goes to a [`Segmenter::position`] that another segmenter of the same frame had; past the last one there is nothing left.
    pub fn seek(&mut self, position: usize) {
        self.next = position.min(self.count);
    }

    /// Writes the next segment to the start of `out` and returns its length.
    ///
    /// `None`: all were produced ([`Segmenter::remaining`] is 0), or `out` is shorter than this segment; nothing is lost then, it
    /// can be asked for again with a longer buffer.
    pub fn next_into(&mut self, out: &mut [u8]) -> Option<usize> {
        if self.next == self.count {
            return None;
        }
        let start = self.header_len + self.next * self.size;
        let end = self.packet.l4.end.min(start + self.size);
        let len = self.header_len + (end - start);
        let out = out.get_mut(..len)?;
        out[..self.header_len].copy_from_slice(&self.frame[..self.header_len]);
        out[self.header_len..].copy_from_slice(&self.frame[start..end]);
        self.write_ip(out);
        if self.packet.ip_proto == IP_PROTO_TCP {
            self.write_tcp(out);
        } else {
            self.write_udp(out);
        }
        self.next += 1;
        Some(len)
    }

    /// Lengths, the identification (one more for each segment: `inet_gso_segment`, net/ipv4/af_inet.c) and the header's checksum.
    fn write_ip(&self, out: &mut [u8]) {
        let network = self.packet.network;
        match self.packet.ip {
            IpVersion::V4 => {
                let len = (out.len() - network) as u16;
                put16(out, network + 2, len);
                let id = be16(self.frame, network + 4).wrapping_add(self.next as u16);
                put16(out, network + 4, id);
                put16(out, network + 10, 0);
                let header_len = usize::from(out[network] & 0x0f) * 4;
                let checksum = checksum::checksum(&out[network..network + header_len]);
                put16(out, network + 10, checksum);
            }
            IpVersion::V6 => {
                let len = (out.len() - network - super::headers::IPV6_LEN) as u16;
                put16(out, network + 4, len);
            }
        }
    }

    /// Sequence number and flags: FIN and PSH only in the last, CWR only in the first (`tcp_gso_segment`, net/ipv4/tcp_offload.c).
    fn write_tcp(&self, out: &mut [u8]) {
        let l4 = self.packet.l4.start;
        let seq = be32(self.frame, l4 + 4).wrapping_add((self.next * self.size) as u32);
        out[l4 + 4..l4 + 8].copy_from_slice(&seq.to_be_bytes());
        if self.next + 1 != self.count {
            out[l4 + 13] &= !(FIN | PSH);
        }
        if self.next != 0 {
            out[l4 + 13] &= !CWR;
        }
        put16(out, l4 + 16, 0);
        let checksum = self.l4_sum(out).checksum();
        put16(out, l4 + 16, checksum);
    }

    fn write_udp(&self, out: &mut [u8]) {
        let l4 = self.packet.l4.start;
        let len = (out.len() - l4) as u16;
        put16(out, l4 + 4, len);
        if self.has_checksum {
            put16(out, l4 + 6, 0);
            let checksum = checksum::not_zero_for_udp(self.l4_sum(out).checksum(), IP_PROTO_UDP);
            put16(out, l4 + 6, checksum);
        }
    }

    fn l4_sum(&self, out: &[u8]) -> Sum {
        let l4 = &out[self.packet.l4.start..];
        checksum::pseudo_header(&out[self.packet.addresses.clone()], self.packet.ip_proto, l4.len()).bytes(l4)
    }
}

fn put16(out: &mut [u8], offset: usize, value: u16) {
    out[offset..offset + 2].copy_from_slice(&value.to_be_bytes());
}
