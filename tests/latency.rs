//! `viscum latency` on the testbed: every frame that was sent on has a time, or is told to have none; and nobody watches afterwards.

use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use viscum::lab::net::{APPLICATION, CAMERA, CLOUD_ADDRESS, MEC};

use crate::forward::{NUMBERS_PORT, WAYS};
use crate::support::forwarder::{Forwarder, project, text, viscum};
use crate::support::testbed::{Namespaces, sh, turn};
use crate::support::traffic::{Counter, send_numbers};
use crate::watch::Watcher;

/// What the lines of `latency -j` say: each is sound, and the last one counts.
fn read_lines(out: &tempfile::NamedTempFile) -> Value {
    let said = std::fs::read_to_string(out.path()).unwrap();
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut before = 0;
    for line in &lines {
        let all = &line["all"];
        let count = all["count"].as_u64().unwrap();
        assert_eq!(count - before, line["last"]["count"].as_u64().unwrap(), "{line}");
        before = count;
        if count == 0 {
            assert!(all["p50_ns"].is_null(), "{line}");
            continue;
        }
        let percentiles = ["p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns"].map(|name| all[name].as_u64().unwrap());
        assert!(percentiles.is_sorted() && percentiles[0] > 0, "{line}");
        // A frame that had stayed for half a minute would be a stamp that was misread.
        assert!(percentiles[4] < 30_000_000_000, "{line}");
        let histogram = line["histogram"].as_array().unwrap();
        assert_eq!(histogram.iter().map(|power| power[2].as_u64().unwrap()).sum::<u64>(), count, "{line}");
    }
    lines.into_iter().last().unwrap()
}

/// Until nobody watches.
fn wait_unwatched(forwarder: &Forwarder) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while forwarder.status()["watching"].as_u64().unwrap() > 0 {
        assert!(Instant::now() < deadline, "the forwarder still works for a client that is gone");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn sampled(line: &Value) -> u64 {
    line["all"]["count"].as_u64().unwrap() + line["not_sampled"].as_u64().unwrap()
}

#[test]
fn every_frame_that_was_sent_on_has_a_time_and_no_other() {
    for way in WAYS {
        let Some(_testbed) = way.testbed() else { return };
        let drops = project("tests/rules/drops.tc");
        let forwarder = way.start(&[&drops]);
        let out = tempfile::NamedTempFile::new().unwrap();
        let other = tempfile::NamedTempFile::new().unwrap();
        let watcher = Watcher::start(&forwarder, &["latency", "eth0", "-j", "-i", "0.2"], out.reopen().unwrap());
        let opposite = Watcher::start(&forwarder, &["latency", "IMAGE_HOST_VETH", "-j"], other.reopen().unwrap());
        assert_eq!(forwarder.status()["watching"], 2);
        let at_edge = Counter::start(APPLICATION, NUMBERS_PORT);
        send_numbers(CAMERA, CLOUD_ADDRESS, NUMBERS_PORT, 2000, 4, 1);
        // Dropped by a rule.
        send_numbers(CAMERA, CLOUD_ADDRESS, 5002, 100, 4, 1);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(at_edge.end().len(), 2000);
        let said = watcher.end(true);
        let line = read_lines(&out);
        assert_eq!(sampled(&line), 2000, "{said}: {line}");
        assert!(said.starts_with(&format!("{} frames sampled", line["all"]["count"])), "{said}");
        assert!(opposite.end(true).starts_with("0 frames sampled"), "nothing came from there");
        wait_unwatched(&forwarder);
        forwarder.stop();
    }
}

#[test]
fn it_ends_after_a_count_and_a_client_that_is_killed_is_let_go() {
    let way = WAYS[2];
    let Some(_testbed) = way.testbed() else { return };
    let forwarder = way.start(&[]);
    let out = tempfile::NamedTempFile::new().unwrap();
    let counted = Watcher::start(&forwarder, &["latency", "eth0", "-c", "50"], out.reopen().unwrap());
    let killed = Watcher::start(&forwarder, &["latency", "any"], Stdio::null());
    assert!(forwarder.ask(&["status"]).contains("watched by 2 "));
    kill(Pid::from_raw(i32::try_from(killed.pid()).unwrap()), Signal::SIGKILL).unwrap();
    send_numbers(CAMERA, CLOUD_ADDRESS, NUMBERS_PORT, 200, 4, 1);
    assert!(counted.end(false).starts_with("50 frames sampled"));
    let said = std::fs::read_to_string(out.path()).unwrap();
    assert!(said.contains("p99.9") && said.contains(" .. ") && said.contains("eth0: 50 frames in "), "{said}");
    wait_unwatched(&forwarder);
    assert!(!forwarder.ask(&["status"]).contains("watched by"));
    // The forwarder ends first: whoever looks is told what there was.
    let last = Watcher::start(&forwarder, &["latency", "eth0"], Stdio::null());
    send_numbers(CAMERA, CLOUD_ADDRESS, NUMBERS_PORT, 10, 4, 1);
    std::thread::sleep(Duration::from_millis(100));
    forwarder.stop();
    assert_eq!(last.end(false), "10 frames sampled, none missed");
}

/// Two queues come in and one goes out: frames that another worker sends have a time as well.
#[test]
fn frames_that_cross_from_worker_to_worker_have_a_time() {
    let Some(_turn) = turn() else { return };
    let (left, middle, right) = ("viscum-lat-l", "viscum-lat-m", "viscum-lat-r");
    let _made = Namespaces::new(&["viscum-lat-l", "viscum-lat-m", "viscum-lat-r"]);
    let queues = "numtxqueues 2 numrxqueues 2";
    sh(middle, &format!("ip link add in0 {queues} type veth peer name a0 {queues} netns {left}"));
    sh(middle, &format!("ip link add out0 type veth peer name b0 address 02:00:00:00:00:0b netns {right}"));
    for (netns, device) in [(middle, "in0"), (middle, "out0"), (left, "a0"), (right, "b0")] {
        sh(netns, &format!("ip link set {device} up"));
    }
    sh(left, "ip addr add 198.18.5.1/24 dev a0");
    sh(right, "ip addr add 198.18.5.2/24 dev b0");
    sh(left, "ip neigh add 198.18.5.2 lladdr 02:00:00:00:00:0b dev a0 nud permanent");
    let through = project("tests/rules/through.tc");
    let forwarder = Forwarder::start(middle, &[&through], "[device.in0]\nqueues = 2\n", &["--mode", "af-xdp"]);
    let out = tempfile::NamedTempFile::new().unwrap();
    let watcher = Watcher::start(&forwarder, &["latency", "in0", "-j"], out.reopen().unwrap());
    send_numbers(left, "198.18.5.2", NUMBERS_PORT, 1000, 4, 8);
    std::thread::sleep(Duration::from_millis(200));
    let said = watcher.end(true);
    let status = forwarder.status();
    let ports = status["workers"].as_array().unwrap().iter().flat_map(|w| w["ports"].as_array().unwrap());
    assert!(ports.map(|p| p["crossed_out"].as_u64().unwrap()).sum::<u64>() > 0, "{status}");
    assert_eq!(sampled(&read_lines(&out)), 1000, "{said}");
    forwarder.stop();
}

#[test]
fn where_no_worker_sees_a_frame_that_is_said() {
    let way = WAYS[2];
    let Some(_testbed) = way.testbed() else { return };
    let forwarder = Forwarder::start(MEC, &[&project("configs/alpr.tc")], "", &["--mode", "tc-bpf"]);
    let output = viscum(None, &["latency", "--socket", &forwarder.socket(), "eth0"]);
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("eth0: the kernel forwards by itself here"), "{said}");
    assert_eq!(forwarder.status()["watching"], 0);
    forwarder.stop();
}
