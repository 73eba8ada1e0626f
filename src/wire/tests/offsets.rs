//! Where headers are found, and where not: one table of frames.

use crate::types::ethertype;
use crate::wire::{Fragment, Headers, IpVersion};

/// A MAC header, then this, then zeros up to `len` bytes in all.
fn frame(network: &[u8], len: usize) -> Vec<u8> {
    let mut frame = [&[0; 14], network].concat();
    frame.resize(len, 0);
    frame
}

fn ipv4(ihl: u8, fragment: u16, proto: u8, len: usize) -> Headers {
    let [high, low] = fragment.to_be_bytes();
    let mut bytes = frame(&[0x40 | ihl, 0, 0, 0, 0, 0, high, low, 64, proto], len.max(34));
    if let Some(offset) = bytes.get_mut(14 + usize::from(ihl) * 4 + 12) {
        *offset = 0x50;
    }
    bytes.truncate(len);
    Headers::parse(&bytes, ethertype::IPV4, 14)
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
        Headers::parse(&frame(&bytes, 14 + bytes.len() + 8), ethertype::IPV6, 14)
    };
    let plain = header(17, &[]);
    assert_eq!((plain.ip, plain.ip_proto, plain.ports), (Some(IpVersion::V6), 17, Some(54)));
    let options = header(0, &[17, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((options.ip_proto, options.ports), (17, Some(62)));
    for (offset, fragment) in [(1, Fragment::First), (8, Fragment::Later)] {
        let headers = header(44, &[17, 0, 0, offset, 0, 0, 0, 0]);
        assert_eq!((headers.ip_proto, headers.fragment, headers.ports), (17, fragment, None));
    }
    assert_eq!(Headers::parse(&frame(&[], 60), ethertype::ARP, 14).ip, None);
}
