//! The wire layer against etherparse and against sums computed word by word.

mod checksums;
mod offsets;
mod segments;
mod tags;
mod transports;

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};

/// A TCP or UDP frame, over IPv4 or IPv6, behind up to two tags, with right checksums.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub tcp: bool,
    pub v6: bool,
    pub tags: usize,
    pub tcp_options: bool,
}

impl Shape {
    pub const fn new(bits: u8) -> Self {
        Self { tcp: bits & 1 != 0, v6: bits & 2 != 0, tags: (bits as usize >> 2) % 3, tcp_options: bits & 16 != 0 }
    }

    pub fn frame(self, payload: &[u8]) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let ip = if self.v6 {
            let address = |last| [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
            ethernet.ipv6(address(1), address(2), 64)
        } else {
            ethernet.ipv4([198, 18, 0, 1], [203, 0, 113, 9], 64)
        };
        let mut frame = Vec::new();
        if self.tcp {
            let mut tcp = ip.tcp(40_000, 12_345, 0xffff_f000, 4096).ack(77).psh().fin().cwr();
            if self.tcp_options {
                tcp = tcp.options_raw(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]).unwrap();
            }
            tcp.write(&mut frame, payload).unwrap();
        } else {
            ip.udp(40_000, 12_345).write(&mut frame, payload).unwrap();
        }
        for _ in 0..self.tags {
            frame.splice(12..12, [0x81, 0, 0, 100]);
        }
        frame
    }
}

/// Panics unless every length and checksum of a frame is right; gives its payload.
pub fn verified(frame: &[u8]) -> Vec<u8> {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    if let Some(etherparse::NetSlice::Ipv4(ip)) = &packet.net {
        let header = ip.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum(), "IP checksum");
        assert_eq!(
            usize::from(header.total_len),
            frame.len() - (ip.header().slice().as_ptr() as usize - frame.as_ptr() as usize)
        );
    }
    let same = |written: u16, computed: u16| written == computed || (written, computed) == (0xffff, 0);
    match (packet.net.unwrap(), packet.transport.unwrap()) {
        (etherparse::NetSlice::Ipv4(ip), TransportSlice::Tcp(tcp)) => {
            let computed = tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()).unwrap();
            assert!(same(tcp.checksum(), computed), "TCP checksum");
            tcp.payload().to_vec()
        }
        (etherparse::NetSlice::Ipv6(ip), TransportSlice::Tcp(tcp)) => {
            let computed = tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination()).unwrap();
            assert!(same(tcp.checksum(), computed), "TCP checksum");
            tcp.payload().to_vec()
        }
        (etherparse::NetSlice::Ipv4(ip), TransportSlice::Udp(udp)) => {
            let header = udp.to_header();
            let computed =
                header.calc_checksum_ipv4_raw(ip.header().source(), ip.header().destination(), udp.payload()).unwrap();
            assert_eq!(header.checksum, computed, "UDP checksum");
            udp.payload().to_vec()
        }
        (etherparse::NetSlice::Ipv6(ip), TransportSlice::Udp(udp)) => {
            let header = udp.to_header();
            let computed =
                header.calc_checksum_ipv6_raw(ip.header().source(), ip.header().destination(), udp.payload()).unwrap();
            assert_eq!(header.checksum, computed, "UDP checksum");
            udp.payload().to_vec()
        }
        other => panic!("neither TCP nor UDP over IP: {other:?}"),
    }
}
