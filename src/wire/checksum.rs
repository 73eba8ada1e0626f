//! The internet checksum (RFC 1071), full and incremental (RFC 1624), and completion of partial ones. It never judges a frame.

use super::{be16, headers};
use crate::types::PartialChecksum;

/// TCP's number in an IP header.
pub const IP_PROTO_TCP: u8 = 6;
/// UDP's number in an IP header.
pub const IP_PROTO_UDP: u8 = 17;
/// Where TCP keeps its checksum, in bytes from its header.
const TCP_CHECKSUM_OFFSET: usize = 16;
/// Where UDP keeps its checksum, in bytes from its header.
const UDP_CHECKSUM_OFFSET: usize = 6;

/// A one's complement sum that is not folded yet. 64 bits cannot overflow with what fits into one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes as 16-bit words in network order; an odd last byte counts as the upper half of a word.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        // Words of four bytes give the same sum modulo 0xffff, with half the additions.
        let mut sum = self.0;
        let mut words = bytes.chunks_exact(4);
        for word in &mut words {
            sum += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
        }
        let rest = words.remainder();
        let mut tail = [0u8; 4];
        tail[..rest.len()].copy_from_slice(rest);
        Self(sum + u64::from(u32::from_be_bytes(tail)))
    }

    /// Adds one word.
    #[must_use]
    pub const fn word(self, word: u16) -> Self {
        Self(self.0 + word as u64)
    }

    /// The 16-bit sum, not complemented; 0 only if everything added was 0.
    #[must_use]
    pub const fn fold(self) -> u16 {
        let mut sum = self.0;
        // Each step shrinks 64 bits at least by 15 until it fits: four are enough.
        sum = (sum & 0xffff_ffff) + (sum >> 32);
        sum = (sum & 0xffff_ffff) + (sum >> 32);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum as u16
    }

    /// The checksum: the complement of the sum.
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }
}

/// The checksum of an IPv4 header whose checksum field is zero.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    Sum::default().bytes(bytes).checksum()
}

/// The checksum after one 16-bit word that it covers changed: HC' = ~(~HC + ~m + m') (RFC 1624, equation 3).
#[must_use]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    Sum(!checksum as u64 + !old as u64 + new as u64).checksum()
}

/// The sum of a pseudo header: `addresses` are source and destination together (8 or 32 bytes), `l4_len` is what TCP or UDP take.
#[must_use]
pub fn pseudo_header(addresses: &[u8], ip_proto: u8, l4_len: usize) -> Sum {
    let Sum(sum) = Sum::default().bytes(addresses);
    Sum(sum + u64::from(ip_proto) + l4_len as u64)
}

/// Computes the checksum of a TCP or UDP frame that a local stack left to a device that never did it (`CHECKSUM_PARTIAL` lost on
/// the way through a veth): its checksum field equals the folded sum of the pseudo header, not complemented.
///
/// `frame` begins with the MAC header and may have up to two VLAN tags. Returns whether it was completed; anything else (other
/// protocols, fragments, lengths that do not fit, a checksum that is there) is untouched. A frame whose checksum is right and
/// looks partial by chance gets the same checksum again, so this is safe for all frames that are not damaged.
pub fn complete_partial(frame: &mut [u8]) -> bool {
    let Some(packet) = headers::Transport::find(frame) else { return false };
    let checksum_offset = match packet.ip_proto {
        IP_PROTO_TCP => TCP_CHECKSUM_OFFSET,
        IP_PROTO_UDP => UDP_CHECKSUM_OFFSET,
        _ => return false,
    };
    let l4 = packet.l4.clone();
    let field = l4.start + checksum_offset;
    if field + 2 > l4.end {
        return false;
    }
    let pseudo = pseudo_header(&frame[packet.addresses.clone()], packet.ip_proto, l4.len());
    if be16(frame, field) != pseudo.fold() {
        return false;
    }
    // The field itself holds the pseudo header's sum: adding all of L4 adds it.
    let checksum = not_zero_for_udp(Sum::default().bytes(&frame[l4]).checksum(), packet.ip_proto);
    frame[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
    true
}

/// Puts the pseudo header's sum into the checksum field of a TCP or UDP frame, as a stack does that leaves the rest to a device;
/// `None`, and nothing changed, for anything else.
pub fn make_partial(frame: &mut [u8]) -> Option<PartialChecksum> {
    let (l4, field, pseudo) = partial(frame)?;
    frame[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
    Some(PartialChecksum { covers: (frame.len() - l4) as u32, field: (field - l4) as u16 })
}

/// The checksum that a local stack left to a device that never did it, see [`complete_partial`]; `None` if there is none, or the frame
/// goes on behind what it covers.
#[must_use]
pub fn find_partial(frame: &[u8]) -> Option<PartialChecksum> {
    let (l4, field, pseudo) = partial(frame)?;
    (be16(frame, field) == pseudo)
        .then(|| PartialChecksum { covers: (frame.len() - l4) as u32, field: (field - l4) as u16 })
}

/// The field of a partial checksum, what is in it and what should be: they differ if actions rewrote what the pseudo header is made of.
#[must_use]
pub fn stale_partial(frame: &[u8], checksum: PartialChecksum) -> Option<(usize, u16, u16)> {
    let (l4, field, pseudo) = partial(frame)?;
    let known = checksum.covers as usize == frame.len() - l4 && usize::from(checksum.field) == field - l4;
    (known && be16(frame, field) != pseudo).then(|| (field, be16(frame, field), pseudo))
}

/// Where transport header and checksum field begin, and the pseudo header's sum: of a TCP or UDP frame without padding.
fn partial(frame: &[u8]) -> Option<(usize, usize, u16)> {
    let packet = headers::Transport::find(frame)?;
    let checksum_offset = match packet.ip_proto {
        IP_PROTO_TCP => TCP_CHECKSUM_OFFSET,
        IP_PROTO_UDP => UDP_CHECKSUM_OFFSET,
        _ => return None,
    };
    let field = packet.l4.start + checksum_offset;
    if field + 2 > packet.l4.end || packet.l4.end != frame.len() {
        return None;
    }
    let pseudo = pseudo_header(&frame[packet.addresses], packet.ip_proto, packet.l4.len());
    Some((packet.l4.start, field, pseudo.fold()))
}

/// As `virtio_net_hdr` asks with `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the sum from `csum_start` to the frame's end is put, complemented,
/// `csum_offset` bytes behind `csum_start`. A result of 0 is written as 0xffff, for TCP too (`skb_checksum_help`, net/core/dev.c).
///
/// Returns false, and leaves the frame alone, if the field is not within it.
pub fn complete_at(frame: &mut [u8], csum_start: u16, csum_offset: u16) -> bool {
    let start = usize::from(csum_start);
    let field = start + usize::from(csum_offset);
    if field + 2 > frame.len() {
        return false;
    }
    let checksum = not_zero_for_udp(Sum::default().bytes(&frame[start..]).checksum(), IP_PROTO_UDP);
    frame[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
    true
}

/// UDP's zero means "no checksum": its other form 0xffff is sent instead (RFC 768).
pub(super) const fn not_zero_for_udp(checksum: u16, ip_proto: u8) -> u16 {
    if checksum == 0 && ip_proto == IP_PROTO_UDP { 0xffff } else { checksum }
}
