//! Tests of the ports on real devices, in fresh network namespaces. They need root.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::limits::CHUNK_LEN_XDP;
use crate::sys::bpf;
use crate::sys::device::interface;
use crate::sys::netns::with_netns;

/// Three namespaces: hosts `b` and `c` with one veth each, `b0` and `c0`, whose other ends `a0` and `a1` are in `a`.
struct Net {
    names: [String; 3],
}

static NEXT: AtomicU32 = AtomicU32::new(0);

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Net {
    /// None without privilege: the test says so and ends.
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "CI must run these tests as root");
            eprintln!("SKIPPED: needs root");
            return None;
        }
        let stem = format!("vp{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let net = Self { names: ["a", "b", "c"].map(|n| format!("{stem}{n}")) };
        let [a, b, c] = &net.names;
        for name in &net.names {
            ip(&format!("netns add {name}"));
            ip(&format!("-n {name} link set lo up"));
        }
        for (near, far, host, address) in [("a0", "b0", b, 1), ("a1", "c0", c, 2)] {
            ip(&format!("-n {a} link add {near} type veth peer name {far} netns {host}"));
            ip(&format!("-n {host} link set {far} address 02:00:00:00:00:0{address} up"));
            ip(&format!("-n {host} addr add 198.18.0.{address}/24 dev {far}"));
            ip(&format!("-n {a} link set {near} up"));
        }
        ip(&format!("-n {b} neigh add 198.18.0.2 lladdr 02:00:00:00:00:02 dev b0"));
        ip(&format!("-n {c} neigh add 198.18.0.1 lladdr 02:00:00:00:00:01 dev c0"));
        Some(net)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in &self.names {
            // The test failed already, or the next lines of its output show what is left.
            let _output = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

fn packet(device: &str) -> Port {
    let found = interface(device).unwrap();
    let config = PacketConfig {
        device: device.to_owned(),
        ifindex: found.index,
        mtu: found.mtu,
        rx_ring_len: 256,
        tx_ring_len: 256,
        fanout: None,
        qdisc_bypass: false,
    };
    Port::AfPacket(AfPacket::open(&config).unwrap())
}

/// A program that gives everything to the socket of its queue.
struct Steered {
    _link: bpf::Link,
    _map: bpf::SocketMap,
}

fn xdp_config(device: &str) -> XdpConfig {
    XdpConfig {
        device: device.to_owned(),
        queue: 0,
        rx: 256,
        tx: 256,
        fill: 256,
        zero_copy: false,
        complete_partial: true,
        busy_poll_us: None,
    }
}

fn xdp(pool: &mut FramePool, device: &str) -> (Port, Steered) {
    let port = AfXdp::open(pool, &xdp_config(device)).unwrap();
    assert!(!port.is_zero_copy());
    let map = bpf::SocketMap::new(c"test", 1).unwrap();
    map.set(0, port.socket_fd().unwrap()).unwrap();
    // r2 = ctx->rx_queue_index; return bpf_redirect_map(map, r2, XDP_PASS)
    let load_map = 0x18 | 0x11 << 8 | (map.map().raw_fd() as u64) << 32;
    let insns = [0x61 | 0x12 << 8 | 16 << 16, load_map, 0, 0xb7 | 3 << 8 | 2 << 32, 0x85 | 51 << 32, 0x95];
    let program = bpf::Program::load(bpf::Kind::Xdp, "t", &insns).unwrap();
    let link = bpf::Link::xdp(&program, interface(device).unwrap().index, bpf::Mode::Native).unwrap();
    (Port::AfXdp(port), Steered { _link: link, _map: map })
}

fn umem() -> FramePool {
    FramePool::new(PoolConfig { chunk_count: 4096, chunk_len: CHUNK_LEN_XDP, umem: true }).unwrap()
}

/// Sends what arrives on one port out by the other until told to stop.
fn bridge(pool: &mut FramePool, ports: &mut [Port; 2], until: impl Fn() -> bool) {
    let mut batch = Batch::new();
    while !until() {
        for from in 0..2 {
            ports[from].receive(pool, &mut batch);
            while let Some(frame) = batch.pop() {
                let _counted = ports[1 - from].transmit(pool, frame);
            }
        }
        ports.iter_mut().for_each(|p| p.flush(pool));
        std::thread::yield_now();
    }
}

/// Sends bytes by TCP from host `b` to host `c` and back (an answer of the same bytes) while the ports are bridged.
fn transfer(net: &Net, pool: &mut FramePool, ports: &mut [Port; 2], len: usize) {
    let [_, b, c] = &net.names;
    let done = AtomicBool::new(false);
    let bytes: Vec<u8> = (0..len as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let listener = with_netns(Some(c), || TcpListener::bind("198.18.0.2:12345").unwrap()).unwrap();
    std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            stream.write_all(&got).unwrap();
            got
        });
        let client = scope.spawn(|| {
            let mut stream = with_netns(Some(b), || TcpStream::connect("198.18.0.2:12345").unwrap()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.write_all(&bytes).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap();
            back
        });
        let deadline = Instant::now() + Duration::from_secs(30);
        bridge(pool, ports, || done.load(Ordering::Relaxed) || client.is_finished() || Instant::now() > deadline);
        assert!(client.is_finished(), "the transfer hangs: {:?}", ports.each_mut().map(Port::stats));
        assert!(client.join().unwrap() == bytes && server.join().unwrap() == bytes);
    });
    for port in ports {
        port.drain(pool);
    }
    assert_eq!(pool.outstanding(), 0);
}

/// Frames as they arrive from host `b`: bytes are equal, tags are where they were.
fn burst(net: &Net, pool: &mut FramePool, port: &mut Port) {
    let mut sender_pool = tests::heap(256);
    let mut sender = with_netns(Some(&net.names[1]), || packet("b0")).unwrap();
    let tags: [&[u8]; 3] = [&[], &[0x81, 0, 0x20, 5], &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 9]];
    let frames: Vec<Vec<u8>> = (0..48_u8)
        .map(|n| {
            let mut frame = vec![2, 9, 9, 9, 9, 9, 2, 8, 8, 8, 8, 8];
            frame.extend(tags[usize::from(n) % 3]);
            frame.extend([0x88, 0xb5, n]);
            frame.resize(60 + usize::from(n) * 7, n);
            frame
        })
        .collect();
    for frame in &frames {
        let frame = sender_pool.alloc_copy(frame).unwrap();
        sender.transmit(&mut sender_pool, frame).unwrap();
    }
    let long = sender_pool.alloc_copy(&[0; 1515]).unwrap();
    assert_eq!(sender.transmit(&mut sender_pool, long), Err(DropReason::TooLong));
    sender.flush(&mut sender_pool);
    let (mut batch, mut got) = (Batch::new(), Vec::new());
    let deadline = Instant::now() + Duration::from_secs(5);
    while got.len() < frames.len() && Instant::now() < deadline {
        port.receive(pool, &mut batch);
        while let Some(frame) = batch.pop() {
            let bytes = pool.data(&frame).to_vec();
            pool.free(frame);
            if bytes[..2] == [2, 9] {
                got.push(bytes);
            }
        }
    }
    assert_eq!(sender.stats().tx_frames, 48);
    sender.drain(&mut sender_pool);
    assert_eq!((sender_pool.outstanding(), pool.outstanding()), (0, 0));
    assert!(got == frames, "{} of {} frames, or not as they were sent", got.len(), frames.len());
}

#[test]
fn af_packet_gives_frames_as_on_the_wire() {
    let Some(net) = Net::new() else { return };
    let mut pool = tests::heap(4096);
    let mut ports = with_netns(Some(&net.names[0]), || [packet("a0"), packet("a1")]).unwrap();
    burst(&net, &mut pool, &mut ports[0]);
    transfer(&net, &mut pool, &mut ports, 3_000_000);
}

#[test]
fn af_xdp_forwards_without_a_copy() {
    let Some(net) = Net::new() else { return };
    with_netns(Some(&net.names[0]), || {
        let mut pool = umem();
        let (p0, s0) = xdp(&mut pool, "a0");
        let (p1, s1) = xdp(&mut pool, "a1");
        let taken = AfXdp::open(&mut umem(), &xdp_config("a0")).unwrap_err();
        assert!(matches!(taken, PortError::Busy { .. }), "{taken}");
        let mut ports = [p0, p1];
        burst(&net, &mut pool, &mut ports[0]);
        transfer(&net, &mut pool, &mut ports, 3_000_000);
        let stats = ports.each_mut().map(Port::stats);
        assert!(stats.iter().all(|s| s.rx_frames > 0 && s.tx_frames > 0), "{stats:?}");
        drop((s0, s1));
    })
    .unwrap();
}

#[test]
fn a_tap_takes_the_place_of_a_veth() {
    let Some(net) = Net::new() else { return };
    let [a, _, c] = &net.names;
    ip(&format!("-n {c} link del c0"));
    ip(&format!("-n {c} tuntap add mode tap name c0"));
    let config = TapConfig { name: "c0".to_owned(), mtu: 1500 };
    let tap = with_netns(Some(c), || Tap::open(&config).unwrap()).unwrap();
    ip(&format!("-n {c} link set c0 address 02:00:00:00:00:02 up"));
    ip(&format!("-n {c} addr add 198.18.0.2/24 dev c0"));
    ip(&format!("-n {c} neigh add 198.18.0.1 lladdr 02:00:00:00:00:01 dev c0"));
    let busy = with_netns(Some(c), || Tap::open(&config)).unwrap().unwrap_err();
    assert!(matches!(busy, PortError::Busy { .. }), "{busy}");
    let mut pool = tests::heap(4096);
    let mut ports = [with_netns(Some(a), || packet("a0")).unwrap(), Port::Tap(tap)];
    transfer(&net, &mut pool, &mut ports, 3_000_000);
}

#[test]
fn devices_that_are_not_there_or_down_are_named() {
    let Some(net) = Net::new() else { return };
    with_netns(Some(&net.names[0]), || {
        let none = AfXdp::open(&mut umem(), &xdp_config("nope")).unwrap_err();
        assert!(matches!(none, PortError::NoDevice { .. }), "{none}");
        let mut pool = tests::heap(64);
        let mut port = packet("a0");
        ip(&format!("-n {} link set a0 down", net.names[0]));
        let frame = pool.alloc_copy(&[1; 60]).unwrap();
        port.transmit(&mut pool, frame).unwrap();
        port.flush(&mut pool);
        let stats = port.stats();
        assert_eq!((stats.tx_frames, stats.dropped(DropReason::TargetDown)), (0, 1));
        port.drain(&mut pool);
        assert_eq!(pool.outstanding(), 0);
    })
    .unwrap();
    assert!(with_netns(Some("../etc"), || ()).is_err());
}
