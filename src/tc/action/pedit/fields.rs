//! The fields that `pedit` knows by name (tc/p_eth.c, p_ip.c, p_ip6.c, p_tcp.c, p_udp.c). Names must be whole, unlike elsewhere in tc.

use crate::types::PeditHeader;

/// How a field's value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldKind {
    Number,
    Ipv4,
    Ipv6,
    Mac,
}

/// A field of a header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) offset: i32,
    /// In bytes.
    pub(super) len: usize,
    pub(super) kind: FieldKind,
    /// Its bits.
    pub(super) retain: u32,
    pub(super) may_decrement: bool,
}

/// The header of this name; `icmp` has one without any field.
pub(super) fn header(name: &str) -> Option<PeditHeader> {
    Some(match name {
        "eth" => PeditHeader::Eth,
        "ip" => PeditHeader::Ipv4,
        "ip6" | "ipv6" => PeditHeader::Ipv6,
        "tcp" => PeditHeader::Tcp,
        "udp" => PeditHeader::Udp,
        _ => return None,
    })
}

/// The field of this name.
pub(super) fn field(header: PeditHeader, name: &str) -> Option<Field> {
    let number = |offset, len, retain| Field { offset, len, kind: FieldKind::Number, retain, may_decrement: false };
    let address = |offset, len, kind| Field { offset, len, kind, retain: u32::MAX, may_decrement: false };
    Some(match (header, name) {
        (PeditHeader::Eth, "dst") => address(0, 6, FieldKind::Mac),
        (PeditHeader::Eth, "src") => address(6, 6, FieldKind::Mac),
        (PeditHeader::Eth, "type") => number(12, 2, 0xffff),
        (PeditHeader::Ipv4, "src") => address(12, 4, FieldKind::Ipv4),
        (PeditHeader::Ipv4, "dst") => address(16, 4, FieldKind::Ipv4),
        (PeditHeader::Ipv4, "tos" | "dsfield" | "precedence") => number(1, 1, 0xff),
        (PeditHeader::Ipv4, "ihl") => number(0, 1, 0x0f),
        (PeditHeader::Ipv4, "ttl") => Field { may_decrement: true, ..number(8, 1, 0xff) },
        (PeditHeader::Ipv4, "protocol") => number(9, 1, 0xff),
        (PeditHeader::Ipv4, "nofrag") => number(6, 1, 0x3f),
        (PeditHeader::Ipv4, "firstfrag") => number(6, 1, 0x1f),
        (PeditHeader::Ipv4, "ce") => number(6, 1, 0x80),
        (PeditHeader::Ipv4, "df") => number(6, 1, 0x40),
        (PeditHeader::Ipv4, "mf") => number(6, 1, 0x20),
        (PeditHeader::Ipv4, "sport") => number(20, 2, 0xffff),
        (PeditHeader::Ipv4, "dport") => number(22, 2, 0xffff),
        (PeditHeader::Ipv4, "icmp_type" | "icmp_code") => number(20, 1, 0xff),
        (PeditHeader::Ipv6, "src") => address(8, 16, FieldKind::Ipv6),
        (PeditHeader::Ipv6, "dst") => address(24, 16, FieldKind::Ipv6),
        (PeditHeader::Ipv6, "flow_lbl") => number(0, 4, 0x0007_ffff),
        // The value is shifted by half a byte when it is packed.
        (PeditHeader::Ipv6, "traffic_class") => number(TRAFFIC_CLASS, 1, 0xff),
        (PeditHeader::Ipv6, "payload_len") => number(4, 2, 0xffff),
        (PeditHeader::Ipv6, "nexthdr") => number(6, 1, 0xff),
        (PeditHeader::Ipv6, "hoplimit") => Field { may_decrement: true, ..number(7, 1, 0xff) },
        (PeditHeader::Tcp | PeditHeader::Udp, "sport") => number(0, 2, 0xffff),
        (PeditHeader::Tcp | PeditHeader::Udp, "dport") => number(2, 2, 0xffff),
        (PeditHeader::Tcp, "flags") => number(13, 1, 0xff),
        _ => return None,
    })
}

/// Stands for the eight bits that begin in the middle of the first byte.
pub(super) const TRAFFIC_CLASS: i32 = i32::MIN;
