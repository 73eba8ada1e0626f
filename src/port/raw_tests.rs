//! Raw ports on a veth pair between two fresh network namespaces, against AF_PACKET's rings at the other end.

use super::*;
use crate::port::afpacket::tests::{can_run, frame, ip, is_ours, on_veth, pool, receive};
use crate::port::{AfPacket, PacketConfig, Port};

fn raw(device: &str, receives: bool) -> Port {
    let ifindex = nix::net::if_::if_nametoindex(device).unwrap();
    Port::Raw(Raw::open(&RawConfig { device: device.to_owned(), ifindex, mtu: 1500, receives }).unwrap())
}

#[test]
fn frames_arrive_byte_for_byte_with_their_tags_and_leave_so() {
    if !can_run() {
        return;
    }
    let frames: Vec<Vec<u8>> = (0..300u16)
        .map(|n| match n % 3 {
            0 => frame(n, None, 14 + 46 + usize::from(n)),
            1 => frame(n, Some([0x81, 0x00, 0x60, 0x07]), 1518),
            _ => frame(n, Some([0x88, 0xa8, 0x00, 0x2a]), 64),
        })
        .collect();
    let sent = frames.clone();
    let (ready, begin) = std::sync::mpsc::channel::<()>();
    let here = move || {
        let mut pool = pool(128);
        let mut port = raw("va", true);
        ready.send(()).unwrap();
        let mut got = Vec::new();
        receive(&mut port, &mut pool, |bytes| {
            if is_ours(bytes) {
                got.push(bytes.to_vec());
            }
            got.len() == frames.len()
        });
        assert_eq!(got, frames);
        assert!(port.fd().is_some());
        port.drain(&mut pool);
        assert_eq!(pool.outstanding(), 0);
        assert!(port.fd().is_none());
    };
    on_veth(here, move || {
        begin.recv().unwrap();
        let mut pool = pool(4);
        let mut port = raw("vb", false);
        assert!(port.fd().is_none(), "nothing to wait for");
        for bytes in &sent {
            let frame = pool.alloc_copy(bytes).unwrap();
            port.transmit(&mut pool, frame).unwrap();
        }
        let long = pool.alloc_copy(&frame(0, None, 1515)).unwrap();
        assert_eq!(port.transmit(&mut pool, long), Err(DropReason::TooLong));
        ip("link set vb down");
        let late = pool.alloc_copy(&frame(0, None, 100)).unwrap();
        assert_eq!(port.transmit(&mut pool, late), Err(DropReason::TargetDown));
        ip("link set vb up");
        let stats = port.stats();
        assert_eq!((stats.tx_frames, stats.drops.iter().sum::<u64>()), (sent.len() as u64, 2), "{stats:?}");
        assert_eq!(pool.outstanding(), 0);
    });
}

/// What a stack hands to its device: partial checksums, and super-frames, which nobody says the size of.
#[test]
fn a_stacks_frames_get_their_checksums_and_super_frames_are_cut() {
    if !can_run() {
        return;
    }
    const LEN: usize = 400_000;
    let (ready, begin) = std::sync::mpsc::channel::<()>();
    let here = move || {
        let mut pool = pool(64).with_large(8);
        let mut port = raw("va", true);
        let listener = std::net::TcpListener::bind("198.18.0.1:5000").unwrap();
        let server = std::thread::spawn(move || {
            let mut all = Vec::new();
            std::io::Read::read_to_end(&mut listener.accept().unwrap().0, &mut all).unwrap();
            all
        });
        ready.send(()).unwrap();
        let (mut longest, mut have) = (0, 0);
        receive(&mut port, &mut pool, |bytes| {
            longest = longest.max(bytes.len());
            let packet = etherparse::PacketHeaders::from_ethernet_slice(bytes).unwrap();
            let (Some(etherparse::NetHeaders::Ipv4(ip, _)), Some(etherparse::TransportHeader::Tcp(tcp))) =
                (packet.net, packet.transport)
            else {
                return false;
            };
            let payload = packet.payload.slice();
            assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4(&ip, payload).unwrap());
            have += payload.len();
            tcp.fin
        });
        assert!(have >= LEN, "{have} bytes");
        assert_eq!(longest, 1514, "full segments");
        let stats = port.stats();
        assert_eq!(stats.drops.iter().sum::<u64>(), 0, "{stats:?}");
        assert_eq!(server.join().unwrap().len(), LEN);
    };
    on_veth(here, move || {
        begin.recv().unwrap();
        let bytes = vec![7; LEN];
        std::io::Write::write_all(&mut std::net::TcpStream::connect("198.18.0.1:5000").unwrap(), &bytes).unwrap();
    });
}

#[test]
fn what_cannot_be_known_is_lost_by_name() {
    let seen = |len, partial, gso_tcp| Peeked { len, tag: None, partial, gso_tcp, stamp_ns: 0 };
    let builder = || etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([198, 18, 0, 1], [198, 18, 0, 2], 64);
    let mut udp = Vec::new();
    builder().udp(1, 2).write(&mut udp, &[7; 4000]).unwrap();
    let len = udp.len();
    assert_eq!(offload(&mut udp, &seen(len, true, false), 1500), Err(DropReason::TooLong));
    assert_eq!(offload(&mut udp, &seen(len, true, false), 9000).unwrap().gso, None);
    let mut tcp = Vec::new();
    builder().tcp(1, 2, 3, 4).write(&mut tcp, &[7; 4000]).unwrap();
    let len = tcp.len();
    // One jumbo frame, or two and a half ordinary ones.
    assert_eq!(offload(&mut tcp, &seen(len, true, false), 9000).unwrap().gso, None);
    let size = |mtu| offload(&mut tcp.clone(), &seen(len, true, true), mtu).unwrap().gso.map(|g| g.size);
    assert_eq!((size(9000), size(1500), size(1000)), (Some(1460), Some(1460), Some(960)));
    assert_eq!(offload(&mut tcp.clone(), &seen(len, false, false), 9000), Ok(Offload::NONE));
    let mut other = frame(0, None, 3000);
    assert_eq!(offload(&mut other, &seen(3000, false, false), 1500), Err(DropReason::TooLong));
    assert_eq!(offload(&mut other, &seen(3000, true, false), 9000), Err(DropReason::Malformed));
}

#[test]
fn it_sends_to_a_ring_what_it_was_given_with_offloads() {
    if !can_run() {
        return;
    }
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    ip("link add va type veth peer name vb");
    ip("link set va up");
    ip("link set vb up");
    let mut pool = pool(64).with_large(4);
    let mut port = raw("va", false);
    let ifindex = nix::net::if_::if_nametoindex("vb").unwrap();
    let ring = PacketConfig {
        device: "vb".to_owned(),
        ifindex,
        mtu: 1500,
        rx_ring_len: 256,
        tx_ring_len: 0,
        fanout: None,
        qdisc_bypass: false,
        merge: false,
    };
    let mut sink = Port::AfPacket(AfPacket::open(&ring).unwrap());
    let (bytes, offload) = crate::port::afpacket::tests::super_frame(false);
    let mut frame = pool.alloc_copy(&bytes).unwrap();
    frame.offload = offload;
    port.transmit(&mut pool, frame).unwrap();
    assert_eq!(port.stats().tx_frames, 9);
    let mut lens = Vec::new();
    receive(&mut sink, &mut pool, |bytes| {
        if is_ours(bytes) {
            lens.push(bytes.len());
        }
        lens.len() == 9
    });
    assert_eq!(lens[..8], [1502; 8], "{lens:?}");
}
