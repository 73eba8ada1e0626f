//! Software GRO: ordinary TCP frames in a row made into one super-frame, which [`super::segment`] cuts into the same frames again, byte
//! for byte. It allocates nothing and keeps no frame.

use super::checksum::{self, IP_PROTO_TCP, Sum};
use super::headers::{IPV6_LEN, IpVersion, TCP_LEN_MIN, Transport};
use super::{be16, be32};
use crate::types::{Gso, GsoKind, Offload};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
/// Where TCP keeps its checksum, in bytes from its header.
const CHECKSUM_AT: usize = 16;
/// The most that an IP header can say of its datagram, in bytes.
const IP_LEN_MAX: usize = 65_535;

/// A super-frame that grows. The frames that it is made of are the caller's.
#[derive(Clone, Debug)]
pub struct Merge {
    ip: IpVersion,
    network: usize,
    l4: usize,
    header_len: usize,
    /// Payload bytes of each frame but the last.
    size: usize,
    /// Length so far.
    len: usize,
    count: u32,
    next_seq: u32,
    next_id: u16,
    /// Its last frame ends it: it was shorter, or said that it is to be handed on now.
    closed: bool,
    /// The checksums of the first frame were looked at.
    checked: bool,
}

/// What makes a frame one that can be merged.
struct Candidate {
    packet: Transport,
    header_len: usize,
    flags: u8,
}

impl Candidate {
    /// TCP with a payload, no padding behind it, nothing but ACK, PSH and FIN; and nothing left to the device but its checksum.
    fn find(frame: &[u8], offload: &Offload) -> Option<Self> {
        // Without the whole look at most frames that are not TCP.
        if offload.gso.is_some() || frame.len() < 14 + 20 + TCP_LEN_MIN {
            return None;
        }
        let packet = Transport::find(frame)?;
        if packet.ip_proto != IP_PROTO_TCP || packet.l4.end != frame.len() || packet.l4.len() < TCP_LEN_MIN {
            return None;
        }
        let l4 = packet.l4.start;
        let header_len = l4 + usize::from(frame[l4 + 12] >> 4) * 4;
        let flags = frame[l4 + 13];
        let plain = flags & ACK != 0 && flags & !(ACK | PSH | FIN) == 0;
        (plain && header_len >= l4 + TCP_LEN_MIN && header_len < frame.len()).then_some(Self {
            packet,
            header_len,
            flags,
        })
    }

    /// Whether its checksums are those that cutting would compute. A checksum of 0xffff is never computed for TCP.
    fn is_right(&self, frame: &[u8], offload: &Offload) -> bool {
        let Transport { network, ip, addresses, l4, .. } = &self.packet;
        if *ip == IpVersion::V4 {
            let header = &frame[*network..*network + usize::from(frame[*network] & 0x0f) * 4];
            let rest = Sum::default().bytes(&header[..10]).bytes(&header[12..]);
            if rest.checksum() != be16(header, 10) {
                return false;
            }
        }
        if let Some(partial) = offload.checksum {
            let pseudo = checksum::pseudo_header(&frame[addresses.clone()], IP_PROTO_TCP, l4.len()).fold();
            return partial.covers as usize == l4.len()
                && usize::from(partial.field) == CHECKSUM_AT
                && be16(frame, l4.start + CHECKSUM_AT) == pseudo;
        }
        let sum = checksum::pseudo_header(&frame[addresses.clone()], IP_PROTO_TCP, l4.len()).bytes(&frame[l4.clone()]);
        sum.fold() == 0xffff && be16(frame, l4.start + CHECKSUM_AT) != 0xffff
    }
}

impl Merge {
    /// A super-frame of one frame, if others can follow it.
    #[must_use]
    pub fn begin(frame: &[u8], offload: &Offload) -> Option<Self> {
        let Candidate { packet, header_len, flags } = Candidate::find(frame, offload)?;
        if flags & (PSH | FIN) != 0 {
            return None;
        }
        let size = frame.len() - header_len;
        let id = if packet.ip == IpVersion::V4 { be16(frame, packet.network + 4) } else { 0 };
        Some(Self {
            ip: packet.ip,
            network: packet.network,
            l4: packet.l4.start,
            header_len,
            size,
            len: frame.len(),
            count: 1,
            next_seq: be32(frame, packet.l4.start + 4).wrapping_add(size as u32),
            next_id: id.wrapping_add(1),
            closed: false,
            checked: false,
        })
    }

    /// Whether `next` goes on where `merged` (the first frame, or what was made of it) ends.
    #[must_use]
    pub fn takes(&mut self, merged: &[u8], first: &Offload, next: &[u8], offload: &Offload) -> bool {
        if self.closed {
            return false;
        }
        let Some(candidate) = Candidate::find(next, offload) else { return false };
        let payload_len = next.len() - candidate.header_len;
        if candidate.header_len != self.header_len
            || payload_len > self.size
            || self.len + payload_len - self.network > IP_LEN_MAX
            || be32(next, self.l4 + 4) != self.next_seq
            || !self.same_headers(merged, next)
            || !candidate.is_right(next, offload)
        {
            return false;
        }
        self.checked = self.checked || Candidate::find(merged, first).is_some_and(|c| c.is_right(merged, first));
        self.checked
    }

    /// All but what cutting writes: lengths, identification, sequence number, checksums, and the flags of the last.
    fn same_headers(&self, merged: &[u8], next: &[u8]) -> bool {
        let same = |from: usize, to: usize| merged[from..to] == next[from..to];
        let ip = match self.ip {
            IpVersion::V4 => {
                same(0, self.network + 2)
                    && be16(next, self.network + 4) == self.next_id
                    && same(self.network + 6, self.network + 10)
                    && same(self.network + 12, self.l4 + 4)
            }
            IpVersion::V6 => same(0, self.network + 4) && same(self.network + 6, self.l4 + 4),
        };
        ip && same(self.l4 + 8, self.l4 + 13)
            && same(self.l4 + 14, self.l4 + CHECKSUM_AT)
            && same(self.l4 + CHECKSUM_AT + 2, self.header_len)
    }

    /// Appends a frame that [`Merge::takes`] to the super-frame in `room`, which must have [`Merge::room_for`] it.
    ///
    /// # Panics
    /// If it has not.
    pub fn append(&mut self, room: &mut [u8], next: &[u8]) {
        let payload = &next[self.header_len..];
        room[self.len..self.len + payload.len()].copy_from_slice(payload);
        let flags = next[self.l4 + 13];
        room[self.l4 + 13] |= flags;
        self.closed = flags & (PSH | FIN) != 0 || payload.len() < self.size;
        self.len += payload.len();
        self.count += 1;
        self.next_seq = self.next_seq.wrapping_add(payload.len() as u32);
        self.next_id = self.next_id.wrapping_add(1);
    }

    /// Length of the super-frame with one more frame in it, in bytes.
    #[must_use]
    pub const fn room_for(&self, next: &[u8]) -> usize {
        self.len + next.len() - self.header_len
    }

    /// Its length so far, in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes: never.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Frames in it.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Writes lengths and sums into the super-frame's headers, and says what is left to the device. `None`: it is but one frame, and
    /// nothing changed.
    pub fn finish(&self, room: &mut [u8]) -> Option<Offload> {
        if self.count < 2 {
            return None;
        }
        let frame = &mut room[..self.len];
        let put = |frame: &mut [u8], at: usize, value: u16| frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
        let kind = match self.ip {
            IpVersion::V4 => {
                put(frame, self.network + 2, (self.len - self.network) as u16);
                put(frame, self.network + 10, 0);
                let header_len = usize::from(frame[self.network] & 0x0f) * 4;
                let sum = checksum::checksum(&frame[self.network..self.network + header_len]);
                put(frame, self.network + 10, sum);
                GsoKind::TcpV4
            }
            IpVersion::V6 => {
                put(frame, self.network + 4, (self.len - self.network - IPV6_LEN) as u16);
                GsoKind::TcpV6
            }
        };
        let checksum = checksum::make_partial(frame)?;
        Some(Offload { checksum: Some(checksum), gso: Some(Gso { kind, size: self.size as u16, ecn: false }) })
    }
}
