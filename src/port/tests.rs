//! Tests of frame memory without a kernel, and of AF_XDP ports between two veth pairs in a namespace of their own.

use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use pnet::datalink::{self, Channel, DataLinkReceiver, DataLinkSender};
use proptest::prelude::*;

use super::*;
use crate::limits::{BURST_LEN, CHUNK_LEN_XDP};
use crate::sys::bpf::{Kind, Link, Mode, Program, SocketMap};
use crate::wire::checksum;

proptest! {
    #[test]
    fn chunks_in_any_order_are_never_in_two_hands(steps in prop::collection::vec((any::<bool>(), any::<u8>()), 1..300)) {
        let mut pool = FramePool::new(PoolConfig { chunk_count: 16, chunk_len: 32, umem: false }).unwrap();
        let mut held: Vec<(Frame, u8)> = Vec::new();
        for (number, (take, pick)) in steps.into_iter().enumerate() {
            if take {
                match pool.alloc_copy(&[number as u8; 32]) {
                    Ok(frame) => held.push((frame, number as u8)),
                    Err(reason) => {
                        prop_assert_eq!(reason, DropReason::NoBuffer);
                        prop_assert_eq!(held.len(), 16);
                    }
                }
            } else if !held.is_empty() {
                let (frame, _) = held.swap_remove(usize::from(pick) % held.len());
                pool.free(frame);
            }
            prop_assert_eq!(pool.outstanding(), held.len());
            prop_assert_eq!(pool.free_count(), 16 - held.len());
            // A chunk in two hands would show the later one's bytes in both.
            for (frame, mark) in &held {
                prop_assert_eq!(pool.data(frame), &[*mark; 32][..]);
            }
        }
    }
}

#[test]
fn lengths_are_bounded_by_the_chunk() {
    let mut pool = FramePool::new(PoolConfig { chunk_count: 1, chunk_len: 100, umem: false }).unwrap();
    assert_eq!(pool.alloc_copy(&[0; 101]).unwrap_err(), DropReason::TooLong);
    let mut frame = pool.alloc().unwrap();
    assert!(frame.is_empty());
    assert_eq!(pool.buffer_mut(&mut frame).len(), 100);
    pool.set_len(&mut frame, 1000);
    assert_eq!(pool.data(&frame).len(), 100);
    assert!(pool.alloc().is_none());
    pool.free(frame);
}

#[test]
#[should_panic(expected = "not from")]
fn a_frame_of_another_pool_is_refused() {
    let config = PoolConfig { chunk_count: 1, chunk_len: 100, umem: false };
    let (mut one, two) = (FramePool::new(config).unwrap(), FramePool::new(config).unwrap());
    let frame = one.alloc().unwrap();
    let _wild = two.data(&frame);
}

#[test]
fn pools_that_make_no_sense_are_refused() {
    for (chunk_count, chunk_len, umem) in [(0, 100, false), (1, 0, false), (1, 2048, true), (u32::MAX, 65_536, false)] {
        assert!(FramePool::new(PoolConfig { chunk_count, chunk_len, umem }).is_err(), "{chunk_count} × {chunk_len}");
    }
}

#[test]
fn ports_can_go_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<FramePool>();
    is_send::<Port>();
    is_send::<Batch>();
}

#[test]
fn mem_hands_out_what_was_pushed_and_keeps_what_was_sent() {
    let mut pool = FramePool::new(PoolConfig { chunk_count: 4, chunk_len: 64, umem: false }).unwrap();
    let mut mem = Mem::new();
    mem.push(b"abc");
    mem.push(&[0; 65]);
    let (mut port, mut batch) = (Port::Mem(mem), Batch::new());
    port.receive(&mut pool, i64::MAX, &mut batch);
    let frame = batch.pop().unwrap();
    assert!(batch.is_empty());
    port.transmit(&mut pool, frame).unwrap();
    port.flush(&mut pool);
    assert_eq!((port.stats().rx_frames, port.stats().tx_bytes, port.stats().dropped(DropReason::TooLong)), (1, 3, 1));
    port.drain(&mut pool);
    let late = pool.alloc_copy(b"late").unwrap();
    assert_eq!(port.transmit(&mut pool, late), Err(DropReason::Shutdown));
    assert_eq!(pool.outstanding(), 0);
    let Port::Mem(mut mem) = port else { unreachable!("made above") };
    assert_eq!(mem.pop().as_deref(), Some(&b"abc"[..]));
}

/// Runs `test` in a thread with a fresh network namespace, which goes with the thread. Without the right to: says so, and fails in CI.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let result = std::thread::spawn(move || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "no network namespace in CI: {error}");
            eprintln!("SKIPPED: no network namespace ({error}); run as root");
            return;
        }
        test();
    })
    .join();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn ip(arguments: &str) {
    let output = std::process::Command::new("ip").args(arguments.split(' ')).output().expect("ip(8) is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn veths() {
    for (near, far) in [("a", "pa"), ("b", "pb")] {
        ip(&format!("link add name {near} type veth peer name {far}"));
        for device in [near, far] {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6"), "1").ok();
            ip(&format!("link set dev {device} up"));
        }
    }
}

fn raw(device: &str) -> (Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>) {
    let interface = datalink::interfaces().into_iter().find(|interface| interface.name == device).unwrap();
    let config = datalink::Config { read_timeout: Some(Duration::from_millis(100)), ..Default::default() };
    match datalink::channel(&interface, config).unwrap() {
        Channel::Ethernet(tx, rx) => (tx, rx),
        _ => panic!("no Ethernet channel"),
    }
}

/// XDP: `return bpf_redirect_map(map, ctx->rx_queue_index, XDP_PASS)`.
fn redirect_all(map: &SocketMap) -> Program {
    let insn = |code: u64, dst: u64, src: u64, off: u64, imm: i32| {
        code | dst << 8 | src << 12 | off << 16 | u64::from(imm as u32) << 32
    };
    let insns = [
        insn(0x61, 2, 1, 16, 0),
        insn(0x18, 1, 1, 0, map.map().raw_fd()),
        0,
        insn(0xb7, 3, 0, 0, 2),
        insn(0x85, 0, 0, 0, 51),
        insn(0x95, 0, 0, 0, 0),
    ];
    Program::load(Kind::Xdp, "test", &insns).unwrap()
}

fn attach(device: &str, port: &AfXdp) -> (SocketMap, Link) {
    let map = SocketMap::new(c"xsks", 1).unwrap();
    map.set(0, port.socket_fd().unwrap()).unwrap();
    let ifindex = nix::net::if_::if_nametoindex(device).unwrap();
    let link = Link::xdp(&redirect_all(&map), ifindex, Mode::Native).unwrap();
    (map, link)
}

fn frame(number: u16) -> Vec<u8> {
    let mut bytes = vec![0; 60 + usize::from(number) % 1400];
    bytes[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
    bytes[14..16].copy_from_slice(&number.to_be_bytes());
    let len = bytes.len();
    bytes[len - 1] = 0xa5;
    bytes
}

fn umem(chunk_count: u32) -> FramePool {
    FramePool::new(PoolConfig { chunk_count, chunk_len: CHUNK_LEN_XDP, umem: true }).unwrap()
}

fn config(device: &str, len: u32) -> XdpConfig {
    let rings = XdpConfig::new(device, 0);
    XdpConfig { rx_ring_len: len, tx_ring_len: len, fill_ring_len: len, completion_ring_len: len, ..rings }
}

/// Receives from `port` until `wanted` frames came or a second has passed.
fn receive_all(
    port: &mut Port,
    pool: &mut FramePool,
    wanted: usize,
    mut each: impl FnMut(&mut FramePool, Frame),
) -> usize {
    let deadline = Instant::now() + Duration::from_secs(1);
    let (mut batch, mut count) = (Batch::new(), 0);
    while count < wanted && Instant::now() < deadline {
        port.receive(pool, i64::MAX, &mut batch);
        while let Some(frame) = batch.pop() {
            count += 1;
            each(pool, frame);
        }
    }
    count
}

#[test]
fn frames_cross_from_one_device_to_another_in_one_umem() {
    in_namespace(|| {
        veths();
        let mut pool = umem(2048);
        let a = AfXdp::open(&mut pool, &config("a", 256)).unwrap();
        let b = AfXdp::open(&mut pool, &config("b", 256)).unwrap();
        let _links = [attach("a", &a), attach("b", &b)];
        let (mut a, mut b) = (Port::AfXdp(a), Port::AfXdp(b));
        let (mut sender, _) = raw("pa");
        let (_, mut receiver) = raw("pb");
        // More frames than chunks: each chunk goes round some times. In small groups, since a veth holds 256.
        let mut seen = 0;
        for group in 0..200_u16 {
            for number in group * 32..(group + 1) * 32 {
                sender.send_to(&frame(number), None).unwrap().unwrap();
            }
            let count = receive_all(&mut a, &mut pool, 32, |pool, frame| b.transmit(pool, frame).unwrap());
            assert_eq!(count, 32, "group {group}: {:?}", a.stats());
            b.flush(&mut pool);
            assert_eq!(pool.outstanding(), 0);
            for _ in 0..32 {
                let bytes = receiver.next().unwrap_or_else(|error| panic!("frame {seen}: {error}; {:?}", b.stats()));
                assert_eq!(bytes, frame(seen));
                seen += 1;
            }
        }
        for port in [&mut b, &mut a] {
            port.drain(&mut pool);
            assert_eq!(port.stats().drops, [0; DropReason::ALL.len()]);
            assert!(port.fd().is_none());
        }
        assert_eq!((a.stats().rx_frames, b.stats().tx_frames), (6400, 6400));
        assert_eq!(a.stats().rx_bytes, b.stats().tx_bytes);
        assert_eq!(pool.outstanding(), 0);
        // `b` was not the UMEM's first socket: all its chunks are free again; `a`'s fill ring goes with the UMEM.
        assert_eq!(pool.free_count(), 2048 - 256);
        // All ports closed: the same queues can be had again, on new memory.
        let mut again = Port::AfXdp(AfXdp::open(&mut pool, &config("a", 256)).unwrap());
        again.drain(&mut pool);
    });
}

#[test]
fn frames_for_which_there_is_no_room_are_counted() {
    in_namespace(|| {
        veths();
        let mut pool = umem(1024);
        let a = AfXdp::open(&mut pool, &config("a", 64)).unwrap();
        let _link = attach("a", &a);
        let mut a = Port::AfXdp(a);
        let (mut sender, _) = raw("pa");
        for number in 0..200 {
            sender.send_to(&frame(number), None).unwrap().unwrap();
        }
        std::thread::sleep(Duration::from_millis(50));
        let received = receive_all(&mut a, &mut pool, 64, |pool, frame| pool.free(frame));
        assert_eq!(received, 64);
        assert_eq!(a.stats().dropped(DropReason::RxFull), 136, "{:?}", a.stats());
        assert_eq!(a.stats().dropped(DropReason::RxFull), 136, "counted once");
        // In the rx ring when it ends.
        for number in 0..10 {
            sender.send_to(&frame(number), None).unwrap().unwrap();
        }
        std::thread::sleep(Duration::from_millis(50));
        a.drain(&mut pool);
        assert_eq!(a.stats().dropped(DropReason::Shutdown), 10);
        assert_eq!(pool.outstanding(), 0);
    });
}

#[test]
fn a_device_that_is_down_takes_a_ring_and_no_more() {
    in_namespace(|| {
        veths();
        let mut pool = umem(1024);
        let mut b = Port::AfXdp(AfXdp::open(&mut pool, &config("b", 64)).unwrap());
        ip("link set dev b down");
        let mut refused = 0;
        for number in 0..100 {
            let frame = pool.alloc_copy(&frame(number)).unwrap();
            if let Err(reason) = b.transmit(&mut pool, frame) {
                assert_eq!(reason, DropReason::TargetDown);
                refused += 1;
            }
            b.flush(&mut pool);
        }
        assert_eq!(refused, 36);
        assert_eq!(pool.outstanding(), 0);
        let start = Instant::now();
        b.drain(&mut pool);
        assert!(start.elapsed() < Duration::from_millis(900));
        assert_eq!(b.stats().dropped(DropReason::TargetDown), 36);
        assert_eq!(b.stats().dropped(DropReason::Shutdown), 64);
        assert_eq!(pool.outstanding(), 0);
    });
}

#[test]
fn a_partial_checksum_is_completed_if_asked() {
    in_namespace(|| {
        veths();
        let mut pool = umem(1024);
        let a = AfXdp::open(&mut pool, &config("a", 64)).unwrap();
        let _link = attach("a", &a);
        let mut a = Port::AfXdp(a);
        let mut packet = Vec::new();
        etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([198, 18, 0, 1], [198, 18, 0, 2], 64)
            .udp(1, 2)
            .write(&mut packet, &[7; 40])
            .unwrap();
        let whole = packet.clone();
        let pseudo = checksum::pseudo_header(&packet[26..34], checksum::IP_PROTO_UDP, 48).fold();
        packet[40..42].copy_from_slice(&pseudo.to_be_bytes());
        raw("pa").0.send_to(&packet, None).unwrap().unwrap();
        let count = receive_all(&mut a, &mut pool, 1, |pool, frame| {
            assert_eq!(pool.data(&frame), packet, "left to whoever sends it on");
            let mut wire = Wire::of(frame);
            let frame = wire.next(pool).unwrap().unwrap();
            assert_eq!(pool.data(&frame), whole);
            assert!(frame.offload.is_none() && wire.next(pool).is_none());
            pool.free(frame);
        });
        assert_eq!(count, 1);
        a.drain(&mut pool);
    });
}

#[test]
fn ports_that_cannot_be_opened_say_why_and_what_to_try() {
    in_namespace(|| {
        veths();
        let mut pool = umem(1024);
        let mut say = |config: &XdpConfig| AfXdp::open(&mut pool, config).unwrap_err().to_string();
        assert!(say(&config("nosuch", 64)).contains("see `ip link`"));
        assert!(say(&config("much-too-long-a-name", 64)).contains("1 to 15 bytes"));
        assert!(say(&config("a", 100)).contains("power of two"));
        assert!(say(&XdpConfig { queue: 7, ..config("a", 64) }).contains("ethtool -l"));
        let mut a = AfXdp::open(&mut pool, &config("a", 64)).unwrap();
        let busy = AfXdp::open(&mut umem(1024), &config("a", 64)).unwrap_err().to_string();
        assert!(busy.contains("another AF_XDP socket"), "{busy}");
        let busy = AfXdp::open(&mut pool, &config("a", 64)).unwrap_err().to_string();
        assert!(busy.contains("another AF_XDP socket"), "{busy}");
        let other = AfXdp::open(&mut pool, &config("b", 128)).unwrap_err().to_string();
        assert!(other.contains("one length"), "{other}");
        let mut private = FramePool::new(PoolConfig { chunk_count: 1, chunk_len: 2048, umem: false }).unwrap();
        assert!(matches!(AfXdp::open(&mut private, &config("b", 64)), Err(PortError::NotUmem { .. })));
        a.drain(&mut pool);
        assert_eq!(pool.outstanding(), 0);
        assert_eq!(BURST_LEN, 64, "the rings above are one burst long");
    });
}

#[test]
fn the_queue_of_a_pools_first_port_is_busy_until_the_pool_goes() {
    in_namespace(|| {
        veths();
        let (mut pool, mut other) = (umem(1024), umem(1024));
        for device in ["a", "b"] {
            AfXdp::open(&mut pool, &config(device, 64)).unwrap().drain(&mut pool);
            if device == "a" {
                // Closed, but libxdp keeps its descriptor: the kernel may still write to the chunks that it has.
                let busy = AfXdp::open(&mut other, &config("a", 64)).unwrap_err().to_string();
                assert!(busy.contains("another AF_XDP socket"), "{busy}");
                assert_eq!(pool.free_count(), 1024 - 64);
            }
        }
        drop(pool);
        AfXdp::open(&mut other, &config("a", 64)).unwrap().drain(&mut other);
    });
}
