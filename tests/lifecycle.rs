//! Forwarders that come, go, are killed, and change their rules while traffic flows.

use std::thread::JoinHandle;
use std::time::Duration;

use viscum::app::config::Deliver;
use viscum::lab::net::{APPLICATION, CAMERA, CLOUD, CLOUD_ADDRESS, MEC, MEC_ADDRESS};

use crate::forward::{NUMBERS_PORT, WAYS, Way};
use crate::support::forwarder::{Forwarder, project, text, viscum};
use crate::support::left;
use crate::support::testbed::{sh, turn};
use crate::support::traffic::{Counter, Tshark, send_numbers, tcp_both_ways};

/// Numbered datagrams for some time, and who got them.
struct Load {
    sending: JoinHandle<()>,
    at_edge: Counter,
    at_cloud: Counter,
}

const PER_MS: u64 = 4;

impl Load {
    fn start(count: u64) -> Self {
        let (at_edge, at_cloud) = (Counter::start(APPLICATION, NUMBERS_PORT), Counter::start(CLOUD, NUMBERS_PORT));
        let sending = std::thread::spawn(move || send_numbers(CAMERA, CLOUD_ADDRESS, NUMBERS_PORT, count, PER_MS, 1));
        Self { sending, at_edge, at_cloud }
    }

    /// Waits until all are sent; the numbers that came to the edge and to the cloud.
    fn end(self) -> (Vec<u64>, Vec<u64>) {
        self.sending.join().unwrap();
        std::thread::sleep(Duration::from_millis(200));
        (self.at_edge.end(), self.at_cloud.end())
    }
}

fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// The numbers below `count` that came to neither, after a check that none came twice.
fn lost(count: u64, edge: &[u64], cloud: &[u64]) -> Vec<u64> {
    let mut all = [edge, cloud].concat();
    all.sort_unstable();
    let twice: Vec<u64> = all.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0]).collect();
    assert_eq!(twice, Vec::<u64>::new(), "these came twice");
    (0..count).filter(|n| all.binary_search(n).is_err()).collect()
}

#[test]
fn a_killed_forwarder_leaves_nothing_and_the_next_one_starts() {
    for way in WAYS {
        let Some(_testbed) = way.testbed() else { return };
        let before = left::state();
        let forwarder = way.start(&[]);
        assert_ne!(left::state(), before, "a running forwarder can be seen, so that its absence means something");
        let count = 6000;
        let load = Load::start(count);
        pause(600);
        forwarder.kill();
        let (edge, cloud) = load.end();
        match way.deliver {
            Deliver::Veth => left::assert_nothing(&before),
            Deliver::Tap => left::assert_nothing_but_tap_offloads(&before),
        }
        // The edge had the first ones, the cloud the last; what is missing was in rings when the process ended.
        assert!(edge.len() > 1000 && cloud.len() > 1000, "{} at the edge, {} at the cloud", edge.len(), cloud.len());
        assert!(edge.is_sorted() && cloud.is_sorted());
        assert!(edge.last() < cloud.first(), "the kernel took over at once: {:?} {:?}", edge.last(), cloud.first());
        let lost = lost(count, &edge, &cloud);
        eprintln!("   killed: {} at the edge, {} at the cloud, {} lost", edge.len(), cloud.len(), lost.len());
        assert!(
            lost.iter().all(|n| Some(n) > edge.last() && Some(n) < cloud.first()),
            "lost at another time than around the kill: {lost:?}"
        );

        sh(CAMERA, &format!("ping -c 2 -i 0.05 -W 2 {MEC_ADDRESS}"));
        sh(CAMERA, &format!("ping -c 2 -i 0.05 -W 2 {CLOUD_ADDRESS}"));
        tcp_both_ways(CAMERA, CLOUD, CLOUD_ADDRESS, 12345, 1_000_000);
        let next = way.start(&[]);
        tcp_both_ways(CAMERA, APPLICATION, CLOUD_ADDRESS, 12345, 1_000_000);
        next.stop();
        left::assert_nothing(&before);
    }
}

/// Bypass, nobypass and reload while datagrams come: each goes to the edge or to the cloud, once.
fn switched_under_load(way: Way) {
    let Some(_testbed) = way.testbed() else { return };
    let forwarder = way.start(&[]);
    let count = 14_000;
    let load = Load::start(count);
    pause(500);
    let bypassed = forwarder.ask(&["bypass", "eth0"]);
    assert!(bypassed.contains("eth0"), "{bypassed}");
    pause(700);
    forwarder.ask(&["nobypass", "eth0"]);
    pause(500);
    let received = forwarder.packets(&["eth0", "ingress"]);
    let (alpr, numbers) = (project("configs/alpr.tc"), project("tests/rules/numbers.tc"));
    forwarder.ask(&["reload", &alpr, &numbers]);
    let (edge, cloud) = load.end();
    assert!(cloud.len() > 1000 && edge.len() > 5000, "{} at the edge, {} at the cloud", edge.len(), cloud.len());
    // One stretch of numbers went to the cloud.
    let lost = lost(count, &edge, &cloud);
    let at_cloud = cloud[0]..=cloud[cloud.len() - 1];
    let between: Vec<&u64> = edge.iter().filter(|n| at_cloud.contains(n)).collect();
    assert!(between.is_empty(), "{way:?}: edge and cloud were not taken in turns: {between:?} at the edge in between");
    let after = forwarder.packets(&["eth0", "ingress"]);
    eprintln!(
        "   {} at the edge, {} at the cloud, lost {lost:?}; {received} before the reload, {after} after",
        edge.len(),
        cloud.len()
    );
    assert!(after < edge.len() as u64, "a reload starts counting anew");
    assert!(lost.len() <= in_flight(way), "{way:?}: lost {lost:?}");
    forwarder.stop();
}

/// How many datagrams may be in flight in the instants of three changes, and be lost. An XDP program hands each frame to one or the other;
/// with AF_PACKET it is not known which program, the old or the new one, drops behind the tap what comes while one replaces the other. That
/// takes microseconds, and with raw sockets 3 ms, unless the machine lets the forwarder wait in between.
fn in_flight(way: Way) -> usize {
    let ms = match way.mode {
        "af-packet" => 10,
        "raw" => 40,
        _ => 0,
    };
    3 * ms * PER_MS as usize
}

#[test]
fn rules_change_under_load_and_nothing_else_is_lost() {
    for way in WAYS {
        switched_under_load(way);
    }
}

/// What the camera can see of an answer, but for its time.
#[test]
fn the_camera_cannot_tell_edge_from_cloud() {
    let way = WAYS[4];
    let Some(_testbed) = way.testbed() else { return };
    let seen = |server| {
        let tshark = Tshark::start(CAMERA, "eth0", "tcp src port 12345");
        tcp_both_ways(CAMERA, server, CLOUD_ADDRESS, 12345, 20_000);
        let mut kinds = tshark.end("tcp", &["eth.src", "eth.dst", "ip.src", "ip.ttl", "ip.dsfield", "tcp.srcport"]);
        kinds.sort();
        kinds.dedup();
        kinds
    };
    let cloud = seen(CLOUD);
    let forwarder = way.start(&[]);
    let edge = seen(APPLICATION);
    assert!(forwarder.packets(&["eth0", "ingress"]) > 5, "the edge has answered");
    forwarder.stop();
    assert_eq!(edge.len(), 1, "one kind of frame: {edge:?}");
    assert_eq!(edge, cloud);
}

/// The demo as a user starts it; it says itself what was wrong, and the counts are looked at again here.
#[test]
fn the_demo_reads_every_plate() {
    let Some(_turn) = turn() else { return };
    let output = viscum(None, &["lab", "demo", "--count", "4"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    let answered = |by: &str| said.lines().filter(|l| l.contains(&format!(" by the {by}, "))).count();
    // Two before the forwarder starts and two bypassed; four, and two again after `nobypass`.
    assert_eq!((answered("cloud"), answered("edge")), (4, 6), "{said}");
    for line in said.lines().filter(|l| l.contains(" plate ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |word: &str| words[words.iter().position(|w| *w == word).unwrap() + 1];
        assert_eq!(after("plate"), after("read"), "{line}");
    }
    assert!(said.contains("Mbit/s to 198.51.100.20, served by the edge"), "{said}");
    assert_eq!(said.matches("every received frame is accounted for").count(), 2, "{said}");
    assert!(said.ends_with("The testbed is removed.\n"), "{said}");
    let namespaces = std::process::Command::new("ip").args(["netns", "list"]).output().unwrap();
    let names = text(&namespaces.stdout);
    for name in [CAMERA, MEC, CLOUD, APPLICATION] {
        assert!(!names.lines().any(|l| l.split_whitespace().next() == Some(name)), "{name} is left");
    }
}

/// `down` after a crash: a demo that was killed, with a forwarder under way.
#[test]
fn down_removes_what_a_crash_left() {
    let Some(_turn) = turn() else { return };
    assert!(viscum(None, &["lab", "up"]).status.success());
    let rules = project("configs/alpr.tc");
    let forwarder = Forwarder::start(MEC, &[&rules], "", &[]);
    forwarder.kill();
    let output = viscum(None, &["lab", "down"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let namespaces = std::process::Command::new("ip").args(["netns", "list"]).output().unwrap();
    assert!(!text(&namespaces.stdout).contains("viscum-"), "{}", text(&namespaces.stdout));
    assert!(viscum(None, &["lab", "down"]).status.success(), "down with nothing up is no error");
}
