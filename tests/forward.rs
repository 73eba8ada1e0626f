//! Forwarding on the testbed, in each mode and with each delivery: the host is not disturbed, what arrives is what was sent, and the
//! counters are what others saw.

use viscum::app::config::Deliver;
use viscum::lab::net::{APPLICATION, CAMERA, CLOUD, CLOUD_ADDRESS, MEC, MEC_ADDRESS, ROUTER};

use crate::support::forwarder::{Forwarder, project};
use crate::support::left;
use crate::support::testbed::{Namespaces, Testbed, sh, turn};
use crate::support::traffic::{Counter, Session, Tshark, send_numbers, tcp_both_ways};

const MB: usize = 1_000_000;
/// Beside the plate service: a datagram service, to see each frame by its number.
pub const NUMBERS_PORT: u16 = 5001;

/// A way to forward.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub mode: &'static str,
    pub deliver: Deliver,
    pub veth_mtu: u32,
    /// What `run` says is in use on eth0.
    in_use: &'static str,
}

/// Native XDP takes no MTU of 32768, so AF_XDP on both devices takes a smaller one; `auto` takes what the scenario has.
pub const WAYS: [Way; 9] = [
    Way { mode: "af-xdp", deliver: Deliver::Veth, veth_mtu: 1500, in_use: "eth0: af-xdp" },
    Way { mode: "af-xdp", deliver: Deliver::Tap, veth_mtu: 1500, in_use: "eth0: af-xdp" },
    Way { mode: "af-packet", deliver: Deliver::Veth, veth_mtu: 32768, in_use: "eth0: af-packet" },
    Way { mode: "af-packet", deliver: Deliver::Tap, veth_mtu: 32768, in_use: "eth0: af-packet" },
    Way { mode: "auto", deliver: Deliver::Veth, veth_mtu: 32768, in_use: "eth0: af-xdp" },
    Way { mode: "auto", deliver: Deliver::Tap, veth_mtu: 32768, in_use: "eth0: af-xdp" },
    Way { mode: "raw", deliver: Deliver::Veth, veth_mtu: 1500, in_use: "eth0: raw" },
    Way { mode: "raw", deliver: Deliver::Veth, veth_mtu: 32768, in_use: "eth0: raw" },
    Way { mode: "raw", deliver: Deliver::Tap, veth_mtu: 32768, in_use: "eth0: raw" },
];

impl Way {
    pub fn testbed(self) -> Option<Testbed> {
        eprintln!("{self:?}");
        Testbed::up(self.deliver, self.veth_mtu)
    }

    /// The forwarder with the recommended rules and the datagram service.
    pub fn start(self, words: &[&str]) -> Forwarder {
        let (alpr, numbers) = (project("configs/alpr.tc"), project("tests/rules/numbers.tc"));
        let mut all = vec!["--mode", self.mode];
        if self.deliver == Deliver::Tap {
            all.extend(["--deliver", "tap"]);
        }
        all.extend(words);
        let forwarder = Forwarder::start(MEC, &[&alpr, &numbers], "", &all);
        assert!(forwarder.started.contains(self.in_use), "{}", forwarder.started);
        forwarder
    }
}

/// Segments that the namespace's own stack sent as resets, and ICMP messages that it sent as errors.
pub fn complaints(netns: &str) -> (u64, u64) {
    let text = sh(netns, "nstat -asz TcpOutRsts IcmpOutDestUnreachs");
    let value = |name: &str| {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (value("TcpOutRsts"), value("IcmpOutDestUnreachs"))
}

#[test]
fn every_way_forwards_and_leaves_the_host_alone() {
    for way in WAYS {
        let Some(_testbed) = way.testbed() else { return };
        let before = left::state();
        let forwarder = way.start(&[]);
        // ARP from nothing, ping, and an interactive session with the MEC box itself, all through the forwarding.
        sh(ROUTER, "ip neigh flush dev mec");
        sh(MEC, "ip neigh flush dev eth0");
        let session = Session::start(CAMERA, MEC, MEC_ADDRESS, 22);
        sh(CAMERA, &format!("ping -c 3 -i 0.05 -W 2 {MEC_ADDRESS}"));
        tcp_both_ways(CAMERA, APPLICATION, CLOUD_ADDRESS, 12345, 50 * MB);
        sh(CAMERA, &format!("ping -c 3 -i 0.05 -W 2 {CLOUD_ADDRESS}"));
        assert!(session.end() > 10, "the session hardly moved");
        assert_eq!(complaints(MEC), (0, 0), "the MEC box answered what was not for it");
        assert_eq!(complaints(CLOUD), (0, 0), "the cloud got what the edge has taken");
        forwarder.stop();
        left::assert_nothing(&before);
    }
}

#[test]
fn counters_are_what_receiver_and_tshark_saw_and_no_frame_comes_twice() {
    for way in WAYS {
        let Some(_testbed) = way.testbed() else { return };
        let forwarder = way.start(&[]);
        let service = format!("tcp port 12345 or udp port {NUMBERS_PORT}");
        let edge = Tshark::start(APPLICATION, "IMAGE_CONT_VETH", &service);
        let camera = Tshark::start(CAMERA, "eth0", &service);
        let (at_edge, at_cloud) = (Counter::start(APPLICATION, NUMBERS_PORT), Counter::start(CLOUD, NUMBERS_PORT));
        tcp_both_ways(CAMERA, APPLICATION, CLOUD_ADDRESS, 12345, MB);
        send_numbers(CAMERA, CLOUD_ADDRESS, NUMBERS_PORT, 2000, 4, 1);
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert_eq!(at_edge.end(), (0..2000).collect::<Vec<_>>(), "each datagram once and in order at the edge");
        assert_eq!(at_cloud.end(), Vec::<u64>::new(), "none at the cloud");
        let in_frames = edge.end("ip.dst == 198.51.100.10", &["eth.src", "eth.dst", "tcp.len", "udp.length"]);
        let out_frames = camera.end("ip.src == 198.51.100.10", &["eth.src", "ip.src", "tcp.len"]);
        let unlike = in_frames.iter().find(|f| !f.starts_with("5c:b9:01:c3:d9:38\t70:00:00:00:00:00\t"));
        assert_eq!(unlike, None, "the rules rewrite both addresses");
        assert_eq!(in_frames.iter().filter(|f| f.ends_with("\t72")).count(), 2000);
        let (in_packets, out_packets) = (packets(&in_frames), packets(&out_frames));
        assert_eq!(forwarder.packets(&["eth0", "ingress"]), in_packets, "what the namespace received");
        let out = forwarder.packets(&["IMAGE_HOST_VETH", "ingress"]);
        assert_eq!(out, out_packets, "what the camera received");
        let inside = ["IMAGE_CONT_VETH", "ingress", "-n", APPLICATION];
        assert_eq!(forwarder.packets(&inside), in_packets - 2000, "step 5 counts TCP inside the namespace");
        forwarder.stop();
    }
}

/// Packets as tc counts them in captured frames whose third field is `tcp.len`: a super-frame is as many as it has segments.
fn packets(frames: &[String]) -> u64 {
    /// Of an MTU of 1500 bytes, with time stamps.
    const SEGMENT_LEN: u64 = 1448;
    let len = |line: &String| line.split('\t').nth(2).unwrap().parse::<u64>().unwrap_or(0);
    frames.iter().map(|line| len(line).div_ceil(SEGMENT_LEN).max(1)).sum()
}

/// User and system time of `seconds` of doing nothing, in clock ticks of 10 ms.
fn idle_ticks(forwarder: &Forwarder, seconds: u64) -> u64 {
    std::thread::sleep(std::time::Duration::from_millis(500));
    let before = forwarder.cpu_ticks();
    std::thread::sleep(std::time::Duration::from_secs(seconds));
    forwarder.cpu_ticks() - before
}

#[test]
fn an_idle_forwarder_sleeps_and_a_busy_one_does_not() {
    let way = WAYS[0];
    let Some(_testbed) = way.testbed() else { return };
    let forwarder = way.start(&[]);
    let adaptive = idle_ticks(&forwarder, 3);
    forwarder.stop();
    let forwarder = way.start(&["--busy"]);
    let busy = idle_ticks(&forwarder, 3);
    forwarder.stop();
    // No timing is asserted but that one sleeps and the other does not: 300 ticks are a whole core.
    assert!(adaptive < 30 && busy > 4 * adaptive.max(5), "{adaptive} ticks of 300 adaptive, {busy} busy");
}

/// Two queues come in and one goes out: frames of the second worker cross over to the first, in order within a flow.
#[test]
fn frames_cross_over_where_queue_counts_differ() {
    let Some(_turn) = turn() else { return };
    for mode in ["af-xdp", "af-packet"] {
        let (left, middle, right) = ("viscum-test-l", "viscum-test-m", "viscum-test-r");
        let _made = Namespaces::new(&["viscum-test-l", "viscum-test-m", "viscum-test-r"]);
        for line in [
            format!(
                "ip link add in0 numtxqueues 2 numrxqueues 2 type veth peer name a0 numtxqueues 2 numrxqueues 2 netns {left}"
            ),
            format!("ip link add out0 type veth peer name b0 address 02:00:00:00:00:0b netns {right}"),
            "ip link set in0 up".to_owned(),
            "ip link set out0 up".to_owned(),
        ] {
            sh(middle, &line);
        }
        for (netns, device, address) in [(left, "a0", "198.18.5.1/24"), (right, "b0", "198.18.5.2/24")] {
            sh(netns, &format!("ip addr add {address} dev {device}"));
            sh(netns, &format!("ip link set {device} up"));
        }
        sh(left, "ip neigh add 198.18.5.2 lladdr 02:00:00:00:00:0b dev a0 nud permanent");
        let forwarder = Forwarder::start(
            middle,
            &[&project("tests/rules/through.tc")],
            "[device.in0]\nqueues = 2\n",
            &["--mode", mode],
        );
        let counter = Counter::start(right, NUMBERS_PORT);
        send_numbers(left, "198.18.5.2", NUMBERS_PORT, 4000, 4, 8);
        std::thread::sleep(std::time::Duration::from_millis(200));
        let mut numbers = counter.end();
        for flow in 0..8 {
            let of_flow: Vec<u64> = numbers.iter().copied().filter(|n| n % 8 == flow).collect();
            assert!(of_flow.is_sorted(), "{mode}: flow {flow} was reordered");
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..4000).collect::<Vec<_>>(), "{mode}: each once");
        let status = forwarder.status();
        let workers = status["workers"].as_array().unwrap();
        assert_eq!(workers.len(), 2, "{mode}: one worker each queue: {status}");
        let ports = workers.iter().flat_map(|w| w["ports"].as_array().unwrap());
        let crossed: u64 = ports.map(|p| p["crossed_out"].as_u64().unwrap()).sum();
        // A packet socket transmits for any worker, an XDP socket for the one of its queue.
        assert_eq!(crossed > 0, mode == "af-xdp", "{mode}: the test needs flows on both queues: {status}");
        forwarder.stop();
    }
}
