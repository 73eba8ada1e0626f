//! What the action `csum` does to a frame: checksums computed anew, as `tcf_csum_act()` (net/sched/act_csum.c) does, oddities included.

use super::checksum::{IP_PROTO_TCP, IP_PROTO_UDP, Sum, pseudo_header};
use super::headers::{IPV4_LEN_MIN, IPV6_LEN};
use super::{be16, be32};
use crate::types::{Checksums, Offload, PacketMeta, ethertype, is_tag};

const IP_PROTO_HOP_BY_HOP: u8 = 0;
const IP_PROTO_ICMP: u8 = 1;
const IP_PROTO_IGMP: u8 = 2;
const IP_PROTO_ROUTING: u8 = 43;
const IP_PROTO_ICMPV6: u8 = 58;
const IP_PROTO_DESTINATION: u8 = 60;
const IP_PROTO_SCTP: u8 = 132;
const IP_PROTO_UDPLITE: u8 = 136;
const VLAN_LEN: usize = 4;
const UDP_LEN: usize = 8;
const JUMBO: u8 = 0xc2;

/// Which IP header stands before the transport header.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V4,
    V6,
}

/// Computes the chosen checksums of a frame whose outer VLAN tag is taken off; false if the frame must be dropped: a header is
/// cut, or IP says more bytes than there are.
///
/// Tags that are left in the frame are passed over; `data_start` says from where the kernel reads them (0 at egress, the network
/// header at ingress), and that is where the network header is afterwards.
pub fn mend(frame: &mut [u8], meta: &mut PacketMeta, data_start: usize, update: Checksums) -> bool {
    let mut at = data_start;
    let mut network = usize::from(meta.network);
    let mut next = meta.protocol;
    while is_tag(next) {
        meta.network = data_start as u16;
        if frame.len() < at + VLAN_LEN {
            return true;
        }
        next = be16(frame, at + 2);
        at += VLAN_LEN;
        network = at;
    }
    match next {
        ethertype::IPV4 => ipv4(&mut frame[network..], &mut meta.offload, update),
        ethertype::IPV6 => ipv6(&mut frame[network..], &mut meta.offload, update),
        _ => true,
    }
}

/// `tcf_csum_ipv4()`.
fn ipv4(packet: &mut [u8], offload: &mut Offload, update: Checksums) -> bool {
    if packet.len() < IPV4_LEN_MIN {
        return false;
    }
    let words = usize::from(packet[0] & 0xf);
    let later_fragment = be16(packet, 6) & 0x1fff != 0;
    let total = usize::from(be16(packet, 2));
    if !later_fragment && !transport(packet, offload, Version::V4, packet[9], words * 4, total, update) {
        return false;
    }
    if update.has(Checksums::IPV4_HEADER) {
        packet[10..12].fill(0);
        // `ip_fast_csum()` of x86 adds nothing for a header that is too short, and takes its first word as it is.
        let check = if words <= 4 {
            [packet[0], packet[1]]
        } else {
            Sum::default().bytes(&packet[..packet.len().min(words * 4)]).checksum().to_be_bytes()
        };
        packet[10..12].copy_from_slice(&check);
    }
    true
}

/// `tcf_csum_ipv6()`.
fn ipv6(packet: &mut [u8], offload: &mut Offload, update: Checksums) -> bool {
    if packet.len() < IPV6_LEN {
        return false;
    }
    let mut payload = usize::from(be16(packet, 4));
    let mut next = packet[6];
    let mut header = IPV6_LEN;
    loop {
        match next {
            IP_PROTO_ROUTING | IP_PROTO_HOP_BY_HOP | IP_PROTO_DESTINATION => {
                if packet.len() < header + 2 {
                    return false;
                }
                let len = (usize::from(packet[header + 1]) + 1) * 8;
                if packet.len() < header + len {
                    return false;
                }
                if next == IP_PROTO_HOP_BY_HOP && !hop_by_hop(&packet[header..header + len], &mut payload) {
                    return false;
                }
                next = packet[header];
                header += len;
            }
            IP_PROTO_ICMPV6 | IP_PROTO_TCP | IP_PROTO_UDP | IP_PROTO_UDPLITE | IP_PROTO_SCTP => {
                return transport(packet, offload, Version::V6, next, header, payload + IPV6_LEN, update);
            }
            _ => return true,
        }
        if packet.len() <= header {
            return true;
        }
    }
}

/// `tcf_csum_ipv6_hopopts()`: finds a jumbo payload length. False for one that is malformed.
fn hop_by_hop(options: &[u8], payload: &mut usize) -> bool {
    let mut at = 2;
    while options.len() - at > 1 {
        let left = options.len() - at;
        let len = match options[at] {
            0 => 1,
            kind => {
                let len = usize::from(options[at + 1]) + 2;
                if kind == JUMBO {
                    if len != 6 || left < 6 || at & 3 != 2 {
                        return false;
                    }
                    *payload = be32(options, at + 2) as usize;
                    return true;
                }
                len
            }
        };
        // "ignore obscure options"
        if len > left {
            return true;
        }
        at += len;
    }
    true
}

/// The transport header's checksum, `header` bytes from the IP header's start; `total` is what IP says of all of it.
///
/// A super-frame's is left to where that is cut (`skb_is_gso()`); for other frames nothing is left to the device afterwards
/// (`CHECKSUM_NONE`).
fn transport(
    packet: &mut [u8],
    offload: &mut Offload,
    version: Version,
    ip_proto: u8,
    header: usize,
    total: usize,
    update: Checksums,
) -> bool {
    let (wanted, header_len, field) = match (ip_proto, version) {
        (IP_PROTO_ICMP, Version::V4) | (IP_PROTO_ICMPV6, Version::V6) => (Checksums::ICMP, 8, 2),
        (IP_PROTO_IGMP, Version::V4) => (Checksums::IGMP, 8, 2),
        (IP_PROTO_TCP, _) => (Checksums::TCP, 20, 16),
        (IP_PROTO_UDP, _) => (Checksums::UDP, UDP_LEN, 6),
        (IP_PROTO_UDPLITE, _) => (Checksums::UDPLITE, UDP_LEN, 6),
        (IP_PROTO_SCTP, _) => (Checksums::SCTP, 12, 8),
        _ => return true,
    };
    if !update.has(wanted) {
        return true;
    }
    if offload.gso.is_some() && matches!(ip_proto, IP_PROTO_TCP | IP_PROTO_UDP) {
        return true;
    }
    // tcf_csum_skb_nextlayer()
    if packet.len() < total || total < header + header_len {
        return false;
    }
    let partial = offload.checksum.take();
    let field = header + field;
    let end = match ip_proto {
        IP_PROTO_UDP | IP_PROTO_UDPLITE => {
            let said = usize::from(be16(packet, header + 4));
            // Without a checksum there is none to mend; UDP-Lite must have one.
            if ip_proto == IP_PROTO_UDP && be16(packet, field) == 0 {
                return true;
            }
            packet[field..field + 2].fill(0);
            let fits = if ip_proto == IP_PROTO_UDP {
                said == total - header
            } else {
                said == 0 || (UDP_LEN..=total - header).contains(&said)
            };
            // "obscure": the checksum stays 0, or for the device to compute.
            if !fits {
                offload.checksum = partial;
                return true;
            }
            if said == 0 { total } else { header + said }
        }
        IP_PROTO_SCTP => {
            packet[field..field + 4].fill(0);
            // To the frame's end, padding included (`sctp_compute_cksum()`).
            let crc = crc32c::crc32c(&packet[header..]);
            packet[field..field + 4].copy_from_slice(&crc.to_le_bytes());
            return true;
        }
        _ => {
            packet[field..field + 2].fill(0);
            total
        }
    };
    // Addresses are read after the field was cleared: with a short IHL it may lie in them.
    let pseudo = match (ip_proto, version) {
        (IP_PROTO_ICMP | IP_PROTO_IGMP, Version::V4) => Sum::default(),
        (_, Version::V4) => pseudo_header(&packet[12..20], ip_proto, pseudo_len(packet, ip_proto, header, total)),
        (_, Version::V6) => pseudo_header(&packet[8..40], ip_proto, pseudo_len(packet, ip_proto, header, total)),
    };
    let mut check = pseudo.bytes(&packet[header..end]).checksum();
    if check == 0 && matches!(ip_proto, IP_PROTO_UDP | IP_PROTO_UDPLITE) {
        check = 0xffff;
    }
    packet[field..field + 2].copy_from_slice(&check.to_be_bytes());
    true
}

/// The length in the pseudo header: UDP's and UDP-Lite's own, else what IP has left.
fn pseudo_len(packet: &[u8], ip_proto: u8, header: usize, total: usize) -> usize {
    match ip_proto {
        IP_PROTO_UDP | IP_PROTO_UDPLITE => usize::from(be16(packet, header + 4)),
        _ => total - header,
    }
}
