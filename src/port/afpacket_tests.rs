//! AF_PACKET and tap ports on a veth pair between two fresh network namespaces. These belong to threads, and vanish with them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

use super::{AfPacket, PacketConfig};
use crate::port::{Batch, FramePool, PoolConfig, Port, PortError, Tap, TapConfig, Wire};
use crate::types::{DropReason, Gso, GsoKind, Offload};
use crate::wire::checksum;

const MTU: u32 = 1500;

/// Whether the test can run. Without root it says so; in CI it must run.
pub(in crate::port) fn can_run() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI must run this test as root");
    eprintln!("SKIPPED: needs root");
    false
}

pub(in crate::port) fn ip(args: &str) {
    let output = Command::new("ip").args(args.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs `here` in one namespace with the veth `va`, and `there` on another thread in one with its peer `vb`.
pub(in crate::port) fn on_veth(here: impl FnOnce(), there: impl FnOnce() + Send + 'static) {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let (tell, told) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let other = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        tell.send(nix::unistd::gettid()).unwrap();
        if wait.recv().is_ok() {
            ip("addr add 198.18.0.2/24 dev vb");
            ip("link set vb up");
            there();
            // Its end of the pair would vanish with the thread: it stays until the other side has left, or failed.
            let _left = wait.recv();
        }
    });
    let tid = told.recv().unwrap();
    ip("link add va type veth peer name vb");
    ip(&format!("link set vb netns {tid}"));
    ip("addr add 198.18.0.1/24 dev va");
    ip("link set va up");
    go.send(()).unwrap();
    here();
    drop(go);
    other.join().unwrap();
}

fn config(device: &str) -> PacketConfig {
    let ifindex = nix::net::if_::if_nametoindex(device).unwrap();
    let device = device.to_owned();
    PacketConfig {
        device,
        ifindex,
        mtu: MTU,
        rx_ring_len: 256,
        tx_ring_len: 256,
        fanout: None,
        qdisc_bypass: false,
        merge: false,
    }
}

pub(in crate::port) fn pool(chunk_count: u32) -> FramePool {
    FramePool::new(PoolConfig { chunk_count, chunk_len: 2048, umem: false }).unwrap()
}

/// Receives until `enough`, which sees frames as on the wire, says so; for at most 5 s.
pub(in crate::port) fn receive(port: &mut Port, pool: &mut FramePool, mut enough: impl FnMut(&[u8]) -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    let mut batch = Batch::new();
    let mut done = false;
    while !done {
        assert!(Instant::now() < end, "the frames did not arrive; {:?}", port.stats());
        port.receive(pool, i64::MAX, &mut batch);
        while let Some(frame) = batch.pop() {
            let mut wire = Wire::of(frame);
            while let Some(piece) = wire.next(pool) {
                let frame = piece.unwrap();
                done |= enough(pool.data(&frame));
                pool.free(frame);
            }
        }
    }
}

/// A frame of an EtherType for experiments (0x88b5), with an optional tag, filled with a pattern.
pub(in crate::port) fn frame(number: u16, tag: Option<[u8; 4]>, len: usize) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    bytes.extend(tag.into_iter().flatten());
    bytes.extend([0x88, 0xb5]);
    bytes.extend(number.to_be_bytes());
    let mut n = 0u8;
    bytes.resize_with(len, || {
        n = n.wrapping_add(7);
        n
    });
    bytes
}

pub(in crate::port) fn is_ours(bytes: &[u8]) -> bool {
    bytes.starts_with(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2])
}

#[test]
fn frames_arrive_byte_for_byte_with_their_tags() {
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
    let (ready, begin) = mpsc::channel::<()>();
    let here = move || {
        let mut pool = pool(128);
        let mut port = Port::AfPacket(AfPacket::open(&PacketConfig { rx_ring_len: 400, ..config("va") }).unwrap());
        ready.send(()).unwrap();
        let mut got = Vec::new();
        receive(&mut port, &mut pool, |bytes| {
            if is_ours(bytes) {
                got.push(bytes.to_vec());
            }
            got.len() == frames.len()
        });
        assert_eq!(got, frames);
        port.drain(&mut pool);
        assert_eq!(pool.outstanding(), 0);
        assert!(port.fd().is_none());
    };
    on_veth(here, move || {
        begin.recv().unwrap();
        let mut pool = pool(4);
        let mut port = Port::AfPacket(AfPacket::open(&PacketConfig { rx_ring_len: 0, ..config("vb") }).unwrap());
        let before = port.stats();
        for burst in sent.chunks(32) {
            for bytes in burst {
                let frame = pool.alloc_copy(bytes).unwrap();
                port.transmit(&mut pool, frame).unwrap();
            }
            port.flush(&mut pool);
        }
        let long = pool.alloc_copy(&frame(0, None, 1515)).unwrap();
        assert_eq!(port.transmit(&mut pool, long), Err(DropReason::TooLong));
        port.drain(&mut pool);
        let stats = port.stats();
        assert_eq!(stats.tx_frames - before.tx_frames, sent.len() as u64);
        assert_eq!(stats.tx_bytes, sent.iter().map(|f| f.len() as u64).sum::<u64>());
        assert_eq!(stats.drops.iter().sum::<u64>(), 1, "{stats:?}");
        assert_eq!(pool.outstanding(), 0);
    });
}

#[test]
fn super_frames_of_tcp_arrive_whole_and_stand_for_frames_with_right_checksums() {
    if !can_run() {
        return;
    }
    const LEN: usize = 400_000;
    let (ready, begin) = mpsc::channel::<()>();
    let here = move || {
        // One chunk for super-frames: the others must wait, not be lost.
        let mut pool = pool(20).with_large(1);
        let mut port = Port::AfPacket(AfPacket::open(&config("va")).unwrap());
        let listener = TcpListener::bind("198.18.0.1:5000").unwrap();
        let server = std::thread::spawn(move || {
            let mut all = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut all).unwrap();
            all
        });
        ready.send(()).unwrap();
        let (mut stream, mut first, mut longest, mut counted) = (vec![0u8; LEN], None, 0, 0u64);
        let mut have = 0;
        receive(&mut port, &mut pool, |bytes| {
            counted += 1;
            longest = longest.max(bytes.len());
            let packet = etherparse::PacketHeaders::from_ethernet_slice(bytes).unwrap();
            let (Some(net), Some(etherparse::TransportHeader::Tcp(tcp))) = (packet.net, packet.transport) else {
                return false;
            };
            let etherparse::NetHeaders::Ipv4(ip, _) = net else { return false };
            let payload = packet.payload.slice();
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4(&ip, payload).unwrap());
            let start = *first.get_or_insert(tcp.sequence_number.wrapping_add(1));
            if !payload.is_empty() {
                let at = tcp.sequence_number.wrapping_sub(start) as usize;
                stream[at..at + payload.len()].copy_from_slice(payload);
                have += payload.len();
            }
            tcp.fin
        });
        assert!(have >= LEN && stream.iter().enumerate().all(|(i, b)| *b == (i % 251) as u8));
        assert_eq!(longest, 1514, "full segments");
        let stats = port.stats();
        assert!(stats.rx_frames < counted / 2, "{counted} frames came in {}: most as super-frames", stats.rx_frames);
        assert_eq!(stats.drops.iter().sum::<u64>(), 0, "{stats:?}");
        assert_eq!(server.join().unwrap(), stream);
        port.drain(&mut pool);
        assert_eq!(pool.outstanding(), 0);
    };
    on_veth(here, move || {
        begin.recv().unwrap();
        let bytes: Vec<u8> = (0..LEN).map(|i| (i % 251) as u8).collect();
        TcpStream::connect("198.18.0.1:5000").unwrap().write_all(&bytes).unwrap();
    });
}

/// A TCP super-frame of 9 segments, each with a checksum to be computed, perhaps behind a tag.
pub(in crate::port) fn super_frame(tag: bool) -> (Vec<u8>, Offload) {
    let builder = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]).ipv4(
        [198, 18, 9, 1],
        [198, 18, 9, 2],
        64,
    );
    let payload: Vec<u8> = (0..12_345u32).map(|i| (i * 7) as u8).collect();
    let mut frame = Vec::new();
    builder.tcp(1, 2, 1000, 64).write(&mut frame, &payload).unwrap();
    if tag {
        frame.splice(12..12, [0x81, 0, 0x60, 7]);
    }
    let checksum = checksum::make_partial(&mut frame);
    (frame, Offload { checksum, gso: Some(Gso { kind: GsoKind::TcpV4, size: 1448, ecn: false }) })
}

#[test]
fn super_frames_cross_a_veth_whole_with_and_without_a_tag() {
    if !can_run() {
        return;
    }
    let (ready, begin) = mpsc::channel::<()>();
    let here = move || {
        let mut pool = pool(8).with_large(4);
        let mut port = Port::AfPacket(AfPacket::open(&config("va")).unwrap());
        ready.send(()).unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        let (mut batch, mut got) = (Batch::new(), Vec::new());
        while got.len() < 6 {
            assert!(Instant::now() < end, "{} frames; {:?}", got.len(), port.stats());
            port.receive(&mut pool, i64::MAX, &mut batch);
            while let Some(frame) = batch.pop() {
                if is_ours(pool.data(&frame)) {
                    got.push((pool.data(&frame).to_vec(), frame.offload));
                }
                pool.free(frame);
            }
        }
        for (number, (bytes, offload)) in got.iter().enumerate() {
            match number % 3 {
                2 => assert_eq!((bytes.as_slice(), *offload), (frame(7, None, 100).as_slice(), Offload::NONE)),
                tag => assert!((bytes, *offload) == (&super_frame(tag == 1).0, super_frame(false).1), "{offload:?}"),
            }
        }
        assert_eq!(port.stats().drops.iter().sum::<u64>(), 0);
        port.drain(&mut pool);
        assert_eq!(pool.outstanding(), 0);
    };
    on_veth(here, move || {
        begin.recv().unwrap();
        let mut pool = pool(8).with_large(4);
        let mut port = Port::AfPacket(AfPacket::open(&config("vb")).unwrap());
        // Long and short ones in turn: they leave by two sockets, in their order.
        for _ in 0..2 {
            for tag in [false, true] {
                let (bytes, offload) = super_frame(tag);
                let mut frame = pool.alloc_copy(&bytes).unwrap();
                frame.offload = offload;
                port.transmit(&mut pool, frame).unwrap();
            }
            let short = pool.alloc_copy(&frame(7, None, 100)).unwrap();
            port.transmit(&mut pool, short).unwrap();
        }
        port.drain(&mut pool);
        let stats = port.stats();
        assert_eq!((stats.tx_frames, stats.drops.iter().sum::<u64>()), (6, 0), "{stats:?}");
        assert_eq!(pool.outstanding(), 0);
    });
}

#[test]
fn a_device_that_goes_down_is_counted_and_comes_back() {
    if !can_run() {
        return;
    }
    on_veth(
        || {
            let mut pool = pool(8);
            let mut port = Port::AfPacket(AfPacket::open(&config("va")).unwrap());
            let mut send = |port: &mut Port| {
                for n in 0..5 {
                    let frame = pool.alloc_copy(&frame(n, None, 60)).unwrap();
                    port.transmit(&mut pool, frame).unwrap();
                }
                port.flush(&mut pool);
                port.stats()
            };
            ip("link set va down");
            let stats = send(&mut port);
            assert_eq!((stats.tx_frames, stats.dropped(DropReason::TargetDown)), (0, 5), "{stats:?}");
            ip("link set va up");
            let stats = send(&mut port);
            assert_eq!((stats.tx_frames, stats.dropped(DropReason::TargetDown)), (5, 5), "{stats:?}");
            port.drain(&mut pool);
            assert_eq!(pool.outstanding(), 0);
        },
        || {},
    );
}

#[test]
fn a_tap_takes_and_gives_frames() {
    if !can_run() {
        return;
    }
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let open = |name: &str| Tap::open(&TapConfig { name: name.to_owned(), mtu: MTU, merge: false });
    let missing = open("t0").unwrap_err().to_string();
    assert!(missing.contains("t0") && missing.contains("ip tuntap add"), "{missing}");
    let no_tap = open("lo").unwrap_err();
    assert!(matches!(no_tap, PortError::Open { .. }) && no_tap.to_string().contains("no tap"), "{no_tap}");
    ip("tuntap add dev t0 mode tap");
    let mut pool = pool(8);
    let mut tap = Port::Tap(open("t0").unwrap());
    let down = pool.alloc_copy(&frame(0, None, 60)).unwrap();
    assert_eq!(tap.transmit(&mut pool, down), Err(DropReason::TargetDown));
    ip("link set t0 up");
    let mut stack = Port::AfPacket(AfPacket::open(&config("t0")).unwrap());
    for (from, to) in [(0, 1), (1, 0)] {
        let ends = [&mut tap, &mut stack];
        let sent = frame(from, Some([0x81, 0, 0, 5]), 200);
        let token = pool.alloc_copy(&sent).unwrap();
        ends[usize::from(from)].transmit(&mut pool, token).unwrap();
        ends[usize::from(from)].flush(&mut pool);
        receive(ends[to], &mut pool, |bytes| is_ours(bytes) && bytes == sent);
    }
    tap.drain(&mut pool);
    stack.drain(&mut pool);
    assert_eq!(pool.outstanding(), 0);
}

#[test]
fn a_device_that_is_not_there_is_named() {
    if !can_run() {
        return;
    }
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let error = AfPacket::open(&PacketConfig { device: "gone".to_owned(), ifindex: 999, ..config("lo") }).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("gone") && text.contains("ip link"), "{text}");
}
