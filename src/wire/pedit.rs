//! What the action `pedit` does to a frame, as `tcf_pedit_act()` (net/sched/act_pedit.c) does.

use super::be16;
use super::headers::{IPV4_LEN_MIN, IPV6_LEN};
use crate::types::{PacketMeta, PeditHeader, PeditKey, ethertype};

/// How many bytes before the frame a key may reach (`NET_SKB_PAD`; drivers may give more): they are lost. What is there counts as 0.
const HEADROOM: isize = 64;
const WORD: isize = 4;

/// Changes the words of a frame whose outer VLAN tag is taken off. At the first key that has no place in the frame it ends, and what
/// was changed before stays; that is no error.
pub fn apply(frame: &mut [u8], meta: &PacketMeta, keys: &[PeditKey]) {
    for key in keys {
        let Some(at) = place(frame, meta, key) else { return };
        let mut word = [0; 4];
        for (index, byte) in word.iter_mut().enumerate() {
            *byte = position(at, index).map_or(0, |i| frame[i]);
        }
        let (value, mask) = (key.value.to_be_bytes(), key.mask.to_be_bytes());
        let value = if key.add {
            (u32::from_le_bytes(word).wrapping_add(u32::from_le_bytes(value)) & !u32::from_le_bytes(mask)).to_le_bytes()
        } else {
            value
        };
        for index in 0..word.len() {
            if let Some(i) = position(at, index) {
                frame[i] = word[index] & mask[index] ^ value[index];
            }
        }
    }
}

/// Where byte `index` of a word is in the frame, unless it is before it.
fn position(at: isize, index: usize) -> Option<usize> {
    at.checked_add_unsigned(index).and_then(|at| usize::try_from(at).ok())
}

/// Where a key's word begins, from the frame's start; all of it is in the frame or before it.
fn place(frame: &[u8], meta: &PacketMeta, key: &PeditKey) -> Option<isize> {
    let header = match key.header {
        PeditHeader::Network | PeditHeader::Ipv4 | PeditHeader::Ipv6 => usize::from(meta.network),
        PeditHeader::Eth => 0,
        PeditHeader::Tcp => transport(frame, meta, 6)?,
        PeditHeader::Udp => transport(frame, meta, 17)?,
    } as isize;
    let mut offset = key.offset as isize;
    if key.offmask != 0 {
        let byte = *frame.get(usize::try_from(header + key.at as isize).ok()?)?;
        offset += ((u32::from(byte) & key.offmask) >> key.shift.min(31)) as isize;
    }
    let at = header + offset;
    (offset % WORD == 0 && at >= -HEADROOM && at + WORD <= frame.len() as isize).then_some(at)
}

/// `pedit_l4_skb_offset()`: with IPv4 what IHL says, with IPv6 only if extension headers lead to `ip_proto`.
fn transport(frame: &[u8], meta: &PacketMeta, ip_proto: u8) -> Option<usize> {
    let network = usize::from(meta.network);
    let packet = frame.get(network..)?;
    match meta.protocol {
        ethertype::IPV4 if packet.len() >= IPV4_LEN_MIN => Some(network + usize::from(packet[0] & 0xf) * 4),
        ethertype::IPV6 if packet.len() >= IPV6_LEN => ipv6_transport(packet, ip_proto).map(|at| network + at),
        _ => None,
    }
}

/// `ipv6_find_hdr()`, net/ipv6/exthdrs_core.c; a later fragment has no transport header.
fn ipv6_transport(packet: &[u8], ip_proto: u8) -> Option<usize> {
    let mut next = packet[6];
    let mut at = IPV6_LEN;
    loop {
        if next == ip_proto {
            return Some(at);
        }
        if !matches!(next, 0 | 43 | 44 | 51 | 60) || packet.len() < at + 2 {
            return None;
        }
        let len = match next {
            44 => {
                if packet.len() < at + 4 || be16(packet, at + 2) & !7 != 0 {
                    return None;
                }
                8
            }
            51 => (usize::from(packet[at + 1]) + 2) * 4,
            _ => (usize::from(packet[at + 1]) + 1) * 8,
        };
        next = packet[at];
        at += len;
    }
}
