//! Where headers are found, and where not: one table of frames.

use crate::types::{Offload, PacketMeta, PacketType, VlanTag, ethertype};
use crate::wire::{Fragment, Headers, IpVersion, SeenTag};

/// A MAC header, then this, then zeros up to `len` bytes in all.
fn frame(network: &[u8], len: usize) -> Vec<u8> {
    let mut frame = [&[0; 14], network].concat();
    frame.resize(len, 0);
    frame
}

fn parse(frame: &[u8], protocol: u16, tag: Option<VlanTag>) -> Headers {
    let ptype = PacketType::Host;
    let meta = PacketMeta {
        tag,
        protocol,
        network: 14,
        ptype,
        mark: 0,
        priority: 0,
        queue_mapping: 0,
        offload: Offload::NONE,
    };
    Headers::parse(frame, &meta)
}

fn ipv4(ihl: u8, fragment: u16, proto: u8, len: usize) -> Headers {
    let [high, low] = fragment.to_be_bytes();
    let mut bytes = frame(&[0x40 | ihl, 0, 0, 0, 0, 0, high, low, 64, proto], len.max(34));
    if let Some(offset) = bytes.get_mut(14 + usize::from(ihl) * 4 + 12) {
        *offset = 0x50;
    }
    bytes.truncate(len);
    parse(&bytes, ethertype::IPV4, None)
}

#[test]
fn ipv4_transport_is_behind_the_options() {
    let plain = ipv4(5, 0x4000, 6, 54);
    assert_eq!((plain.ip, plain.ip_proto, plain.fragment), (Some(IpVersion::V4), 6, Fragment::No));
    assert_eq!((plain.l4, plain.ports, plain.tcp_flags), (Some(34), Some(34), Some(46)));
    let options = ipv4(7, 0, 6, 62);
    assert_eq!((options.l4, options.ports, options.tcp_flags), (Some(42), Some(42), Some(54)));
}

#[test]
fn what_is_cut_is_not_found() {
    assert_eq!(ipv4(5, 0, 6, 33).ip, None);
    assert_eq!(ipv4(4, 0, 6, 60).ip, None);
    assert_eq!((ipv4(5, 0, 6, 37).ports, ipv4(5, 0, 6, 38).ports), (None, Some(34)));
    assert_eq!((ipv4(5, 0, 6, 53).tcp_flags, ipv4(5, 0, 6, 53).ports), (None, Some(34)));
    assert_eq!((ipv4(15, 0, 17, 40).l4, ipv4(15, 0, 17, 40).ports), (Some(74), None));
    assert_eq!(ipv4(5, 0, 1, 60).ports, None);
    assert_eq!(ipv4(5, 0, 51, 60).ports, Some(38));
}

#[test]
fn fragments_have_no_ports() {
    for (word, fragment) in [(0x2000, Fragment::First), (0x2001, Fragment::Later), (0x0001, Fragment::Later)] {
        let headers = ipv4(5, word, 6, 60);
        assert_eq!((headers.fragment, headers.ip_proto), (fragment, 6));
        assert_eq!((headers.l4, headers.ports, headers.tcp_flags), (None, None, None));
    }
}

#[test]
fn ipv6_extension_headers_are_followed() {
    let header = |next: u8, extensions: &[u8]| {
        let mut bytes = vec![0; 40];
        bytes[0] = 0x60;
        bytes[6] = next;
        bytes.extend(extensions);
        parse(&frame(&bytes, 14 + bytes.len() + 8), ethertype::IPV6, None)
    };
    let plain = header(17, &[]);
    assert_eq!((plain.ip, plain.ip_proto, plain.ports), (Some(IpVersion::V6), 17, Some(54)));
    let options = header(0, &[17, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((options.ip_proto, options.ports), (17, Some(62)));
    for (offset, fragment) in [(1, Fragment::First), (8, Fragment::Later)] {
        let headers = header(44, &[17, 0, 0, offset, 0, 0, 0, 0]);
        assert_eq!((headers.ip_proto, headers.fragment, headers.ports), (17, fragment, None));
    }
    assert_eq!(parse(&frame(&[], 60), ethertype::ARP, None).ip, None);
}

#[test]
fn icmp_needs_eight_bytes() {
    assert_eq!((ipv4(5, 0, 1, 41).icmp, ipv4(5, 0, 1, 42).icmp, ipv4(5, 0x2000, 1, 60).icmp), (None, Some(34), None));
}

#[test]
fn tags_are_looked_behind() {
    let bytes = frame(&[0, 7, 0x88, 0x47, 0, 1, 0, 64, 0, 2, 1, 64], 60);
    let headers = parse(&bytes, ethertype::VLAN, Some(VlanTag { tpid: ethertype::QINQ, tci: 100 }));
    let outer = SeenTag { tci: 100, tpid: 0x88a8, eth_type: 0x8100 };
    assert_eq!(headers.tags, [outer, SeenTag { tci: 7, tpid: 0x8100, eth_type: 0x8847 }]);
    assert_eq!((headers.tag_count, headers.eth_type, headers.mpls, headers.mpls_count), (2, 0x8847, 18, 2));
    // A cut tag is no tag, and the type stays its own.
    let cut = parse(&bytes[..17], ethertype::VLAN, None);
    assert_eq!((cut.tag_count, cut.eth_type), (0, 0x8100));
}

#[test]
fn pppoe_and_mpls_within_ip_change_the_type() {
    let session = |head: u8, proto: u16| {
        let [high, low] = proto.to_be_bytes();
        parse(&frame(&[head, 0, 0, 5, 0, 40, high, low, 0x45], 80), ethertype::PPP_SES, None)
    };
    let ip = session(0x11, 0x0021);
    assert_eq!((ip.eth_type, ip.pppoe, ip.ip, ip.network), (0x0800, Some(14), Some(IpVersion::V4), 22));
    assert_eq!((session(0x11, 0xc021).eth_type, session(0x11, 0xc021).pppoe), (0x8864, Some(14)));
    assert_eq!((session(0x12, 0x0021).eth_type, session(0x12, 0x0021).pppoe), (0x8864, None));
    assert_eq!(session(0x11, 0x0020).pppoe, None);
    let mpls = ipv4(5, 0, 137, 60);
    assert_eq!((mpls.eth_type, mpls.ip_proto, mpls.mpls, mpls.mpls_count), (0x8847, 137, 34, 6));
    assert_eq!(ipv4(5, 0x2000, 137, 60).eth_type, 0x0800);
}

#[test]
fn arp_is_for_ipv4_over_ethernet() {
    let arp = |bytes: [u8; 8], len: usize| parse(&frame(&bytes, len), ethertype::ARP, None).arp;
    assert_eq!(arp([0, 1, 8, 0, 6, 4, 0, 1], 42), Some(14));
    assert_eq!(arp([0, 1, 8, 0, 6, 4, 0, 1], 41), None);
    assert_eq!(arp([0, 1, 8, 0, 6, 4, 0, 3], 42), None);
    assert_eq!(arp([0, 6, 8, 0, 6, 4, 0, 2], 42), None);
}

/// Sixteen extension headers are gone to, and behind a sixteenth only ports are looked at.
#[test]
fn further_headers_have_a_bound() {
    let chain = |count: usize| {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 0, 0, 64];
        bytes.resize(40, 0);
        for index in 1..=count {
            bytes.extend([if index == count { 6 } else { 0 }, 0, 0, 0, 0, 0, 0, 0]);
        }
        let l4 = bytes.len() + 14;
        bytes.extend([0; 12]);
        bytes.extend([0x50, 2, 0, 0, 0, 0, 0, 0]);
        let found = parse(&frame(&bytes, 14 + bytes.len()), ethertype::IPV6, None);
        (found.ip_proto, found.ports == Some(l4), found.tcp_flags == Some(l4 + 12))
    };
    assert_eq!(chain(15), (6, true, true));
    assert_eq!(chain(16), (6, true, false));
    assert_eq!(chain(17), (0, false, false));
}
