//! What the action `nat` does to a frame, as `tcf_nat_act()` (net/sched/act_nat.c) does: addresses and the checksums over them.

use super::headers::{IPV4_LEN_MIN, TCP_LEN_MIN};
use super::{be16, be32};
use crate::types::NatRule;

const IP_PROTO_ICMP: u8 = 1;
const IP_PROTO_TCP: u8 = 6;
const IP_PROTO_UDP: u8 = 17;
const UDP_LEN: usize = 8;
const ICMP_LEN: usize = 8;
const SOURCE: usize = 12;
const DESTINATION: usize = 16;

/// Translates a frame whose network header is at `network`, whatever protocol it has; false if a header is cut, and the frame must
/// be dropped (with what was changed before). `partial`: the transport checksum is still to be computed, and its field holds the pseudo
/// header's sum (`inet_proto_csum_replace4()`, net/core/utils.c).
pub fn translate(frame: &mut [u8], network: usize, rule: NatRule, partial: bool) -> bool {
    let packet = &mut frame[network..];
    if packet.len() < IPV4_LEN_MIN {
        return false;
    }
    let at = if rule.egress { SOURCE } else { DESTINATION };
    let old = be32(packet, at);
    let new = rule.translate(old);
    if let Some(new) = new {
        packet[at..at + 4].copy_from_slice(&new.to_be_bytes());
        replace(packet, 10, old, new);
    }
    let later_fragment = be16(packet, 6) & 0x1fff != 0;
    let l4 = usize::from(packet[0] & 0xf) * 4;
    match (packet[9], new) {
        _ if later_fragment => true,
        (IP_PROTO_ICMP, _) => icmp_error(packet, l4, rule),
        (IP_PROTO_TCP, Some(new)) => {
            if packet.len() < l4 + TCP_LEN_MIN {
                return false;
            }
            replace_l4(packet, l4 + 16, old, new, partial);
            true
        }
        (IP_PROTO_UDP, Some(new)) => {
            if packet.len() < l4 + UDP_LEN {
                return false;
            }
            if be16(packet, l4 + 6) != 0 || partial {
                replace_l4(packet, l4 + 6, old, new, partial);
                if be16(packet, l4 + 6) == 0 {
                    packet[l4 + 6..l4 + 8].fill(0xff);
                }
            }
            true
        }
        _ => true,
    }
}

/// The packet that an ICMP error tells of went the other way: its other address is translated, its own checksums stay.
fn icmp_error(packet: &mut [u8], l4: usize, rule: NatRule) -> bool {
    if packet.len() < l4 + ICMP_LEN {
        return false;
    }
    if !matches!(packet[l4], 3 | 4 | 5 | 11 | 12) {
        return true;
    }
    let inner = l4 + ICMP_LEN;
    if packet.len() < inner + IPV4_LEN_MIN {
        return false;
    }
    let at = inner + if rule.egress { DESTINATION } else { SOURCE };
    let old = be32(packet, at);
    if let Some(new) = rule.translate(old) {
        packet[at..at + 4].copy_from_slice(&new.to_be_bytes());
        replace(packet, l4 + 2, old, new);
    }
    true
}

/// As [`replace`]; a partial checksum is the sum itself, not its complement.
fn replace_l4(packet: &mut [u8], at: usize, old: u32, new: u32, partial: bool) {
    let complement = |packet: &mut [u8]| packet[at..at + 2].iter_mut().for_each(|byte| *byte = !*byte);
    if partial {
        complement(packet);
    }
    replace(packet, at, old, new);
    if partial {
        complement(packet);
    }
}

/// `csum_replace4()`, include/net/checksum.h: the checksum at `at`, after `old` among what it covers became `new`.
fn replace(packet: &mut [u8], at: usize, old: u32, new: u32) {
    let halves = |word: u32| u64::from(word >> 16) + u64::from(word & 0xffff);
    let mut sum = u64::from(!u32::from(be16(packet, at))) + halves(!old) + halves(new);
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    packet[at..at + 2].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}
