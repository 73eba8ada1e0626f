//! What happens to devices while they are served: each is noticed, told, and recovered from, and the others go on undisturbed.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use viscum::host::netns::in_namespace;
use viscum::lab::shell;

use crate::live::{LEFT, MIDDLE, MODES, PORT, RIGHT, accepted, devices, pause, take, tc, wire};
use crate::support::forwarder::Forwarder;
use crate::support::left;
use crate::support::testbed::{Namespaces, sh, turn};
use crate::support::traffic::{Counter, send_numbers};

/// Numbered datagrams, one each ms, whatever becomes of the way, until it is ended.
struct Hammer {
    ended: Arc<AtomicBool>,
    sending: JoinHandle<u64>,
}

impl Hammer {
    fn start(to: &'static str, port: u16) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let sending = std::thread::spawn(move || {
            in_namespace(Some(LEFT), || {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                let mut number = 0_u64;
                while !seen.load(Ordering::Relaxed) {
                    let mut datagram = [0; 64];
                    datagram[..8].copy_from_slice(&number.to_be_bytes());
                    // Without a way there is an error: the number is lost.
                    let _no_way = socket.send_to(&datagram, (to, port));
                    number += 1;
                    pause(1);
                }
                number
            })
            .unwrap()
        });
        Self { ended, sending }
    }

    fn end(self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        self.sending.join().unwrap()
    }
}

/// Waits until `status` says what is asked for.
fn wait_for(forwarder: &Forwarder, what: &str, is: impl Fn(&Value) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let status = forwarder.status();
        if is(&status) {
            return;
        }
        assert!(Instant::now() < deadline, "{what} is not so: {status:#}\n{}", forwarder.errors());
        pause(20);
    }
}

fn is_served(status: &Value, device: &str) -> bool {
    let list = status["devices"].as_array().unwrap();
    list.iter().any(|d| d["device"] == device && d["up"] == true)
}

fn is_absent(status: &Value, device: &str, why: &str) -> bool {
    let list = status["absent"].as_array().unwrap();
    list.iter().any(|d| d["device"] == device && d["reason"].as_str().unwrap().contains(why))
}

/// The second pair forwards, each datagram once.
fn flows_again(forwarder: &Forwarder, after: &str) {
    wait_for(forwarder, after, |s| is_served(s, "in1") && is_served(s, "out1"));
    let counter = Counter::start(RIGHT, PORT + 1);
    send_numbers(LEFT, "198.18.1.2", PORT + 1, 200, 1, 1);
    pause(300);
    assert_eq!(counter.end(), (0..200).collect::<Vec<_>>(), "after {after}");
}

/// Rules of both pairs, in a file: all UDP is forwarded.
fn rules(dir: &tempfile::TempDir) -> String {
    let file = dir.path().join("pairs.tc").display().to_string();
    let pair = |n: u8| {
        format!(
            "tc qdisc add dev in{n} ingress\ntc filter add dev in{n} ingress prio 1 protocol ip u32 match ip protocol 17 0xff \
             action mirred egress redirect dev out{n}\n"
        )
    };
    std::fs::write(&file, pair(0) + &pair(1)).unwrap();
    file
}

/// Takes the program off a device, as an administrator could. Which link is the forwarder's, its descriptors tell.
fn take_program_off(forwarder: &Forwarder, device: &str) {
    let link = sh(MIDDLE, &format!("ip -o link show {device}"));
    let ifindex = link.split(':').next().unwrap().trim().to_owned();
    let number = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)).map(str::to_owned)
    };
    let files = std::fs::read_dir(format!("/proc/{}/fdinfo", forwarder.pid())).unwrap();
    let infos = files.flatten().filter_map(|file| std::fs::read_to_string(file.path()).ok());
    let of_device = |text: &String| number(text, "ifindex:").as_ref() == Some(&ifindex);
    let id = infos.filter(of_device).find_map(|text| number(&text, "link_id:"));
    sh(MIDDLE, &format!("bpftool link detach id {}", id.expect("a link on the device")));
}

#[test]
fn a_device_that_flaps_goes_is_renamed_or_resized_disturbs_nobody_and_comes_back() {
    let Some(_turn) = turn() else { return };
    for mode in MODES {
        let programs = left::programs();
        let _made = Namespaces::new(&[LEFT, MIDDLE, RIGHT]);
        (0..2).for_each(wire);
        let dir = tempfile::tempdir().unwrap();
        let forwarder = Forwarder::start(MIDDLE, &[&rules(&dir)], "", &["--mode", mode]);
        let (steady, disturbed) = (Counter::start(RIGHT, PORT), Counter::start(RIGHT, PORT + 2));
        let sending = [Hammer::start("198.18.0.2", PORT), Hammer::start("198.18.1.2", PORT + 2)];
        flows_again(&forwarder, "the start");

        sh(MIDDLE, "ip link set in1 down");
        wait_for(&forwarder, "in1 is down", |s| !is_served(s, "in1"));
        sh(MIDDLE, "ip link set in1 up");
        flows_again(&forwarder, "down and up");
        for _ in 0..5 {
            sh(MIDDLE, "ip link set out1 down");
            sh(MIDDLE, "ip link set out1 up");
        }
        flows_again(&forwarder, "flapping");

        sh(MIDDLE, "ip link set out1 mtu 1400");
        flows_again(&forwarder, "a smaller MTU");
        sh(MIDDLE, "ip link set in1 mtu 1400");
        sh(MIDDLE, "ip link set in1 mtu 1500");
        sh(MIDDLE, "ip link set out1 mtu 1500");
        flows_again(&forwarder, "the old MTU");

        sh(MIDDLE, "ip link set in1 name other1");
        wait_for(&forwarder, "the new name", |s| is_served(s, "other1"));
        let listing = accepted(&forwarder, MIDDLE, "filter show dev other1 ingress");
        assert!(listing.contains("Redirect to device out1"), "the filter is on it: {listing}");
        sh(MIDDLE, "ip link set other1 name in1");
        flows_again(&forwarder, "two new names");

        take_program_off(&forwarder, "in1");
        pause(1000);
        flows_again(&forwarder, "the program was taken off");

        for _ in 0..2 {
            sh(MIDDLE, "ip link del in1");
            wait_for(&forwarder, "in1 is gone", |s| is_absent(s, "in1", "gone"));
            sh(MIDDLE, "ip link del out1");
            wait_for(&forwarder, "out1 is gone", |s| is_absent(s, "out1", "gone"));
            wire(1);
            flows_again(&forwarder, "other devices of the same names");
        }

        let [sent, sent_beside] = sending.map(Hammer::end);
        pause(300);
        let (numbers, beside) = (steady.end(), disturbed.end());
        eprintln!(
            "   {mode}: {} of {sent} beside the faults, {} of {sent_beside} through them",
            numbers.len(),
            beside.len()
        );
        assert_eq!(
            numbers,
            (0..sent).collect::<Vec<_>>(),
            "{mode}: each once and in order, whatever became of the others"
        );
        assert!(beside.is_sorted_by(|a, b| a < b), "{mode}: none twice, and in order");
        assert!(beside.len() > 1000 && beside.len() as u64 <= sent_beside, "{mode}: {} of {sent_beside}", beside.len());
        forwarder.stop();
        left::assert_no_new_programs(&programs);
    }
}

/// What tc's commands put on a device goes with the device, as in the kernel; and the name may be another's then.
#[test]
fn filters_of_commands_go_with_their_device() {
    let Some(_turn) = turn() else { return };
    for mode in MODES {
        let _made = Namespaces::new(&[LEFT, MIDDLE, RIGHT]);
        (0..2).for_each(wire);
        let forwarder = Forwarder::start(MIDDLE, &[], "", &["--mode", mode]);
        for n in 0..2 {
            accepted(&forwarder, MIDDLE, &format!("qdisc add dev in{n} ingress"));
            accepted(&forwarder, MIDDLE, &take(n));
        }
        sh(MIDDLE, "ip link del in1");
        wait_for(&forwarder, "in1 is let go", |s| s["devices"].as_array().unwrap().len() == 2);
        assert_eq!(devices(&forwarder), ["in0", "out0"], "nothing sends to out1 any more");
        sh(MIDDLE, "ip link del out1");
        wire(1);
        assert_eq!(accepted(&forwarder, MIDDLE, "filter show dev in1 ingress"), "");
        assert_eq!(tc(&forwarder, MIDDLE, &take(1)).0, 2, "the qdisc is gone too");
        accepted(&forwarder, MIDDLE, "qdisc add dev in1 ingress");
        accepted(&forwarder, MIDDLE, &take(1));
        let counter = Counter::start(RIGHT, PORT);
        send_numbers(LEFT, "198.18.1.2", PORT, 200, 1, 1);
        pause(300);
        assert_eq!(counter.end(), (0..200).collect::<Vec<_>>());
        // The target goes: the filter stays, and what it redirects is dropped and counted.
        sh(MIDDLE, "ip link del out1");
        wait_for(&forwarder, "out1 is gone", |s| is_absent(s, "out1", "gone"));
        send_numbers(LEFT, "198.18.1.2", PORT, 50, 1, 1);
        pause(300);
        let listing = accepted(&forwarder, MIDDLE, "-s filter show dev in1 ingress");
        assert!(listing.contains("250 pkt (dropped 0, overlimits 50"), "{listing}");
        forwarder.stop();
    }
}

/// A namespace with served devices is deleted: the forwarder does not keep it alive.
#[test]
fn a_namespace_that_is_deleted_is_let_go() {
    const INNER: &str = "viscum-live-n";
    let Some(_turn) = turn() else { return };
    for mode in MODES {
        let _made = Namespaces::new(&[LEFT, MIDDLE, RIGHT, INNER]);
        wire(0);
        sh(MIDDLE, &format!("ip link add host1 type veth peer name inner1 netns {INNER}"));
        sh(MIDDLE, "ip link set host1 up");
        sh(INNER, "ip link set inner1 up");
        let forwarder = Forwarder::start(MIDDLE, &[], "", &["--mode", mode]);
        accepted(&forwarder, MIDDLE, "qdisc add dev in0 ingress");
        accepted(&forwarder, MIDDLE, &take(0));
        accepted(&forwarder, MIDDLE, &format!("-n {INNER} qdisc add dev inner1 ingress"));
        let count =
            format!("-n {INNER} filter add dev inner1 ingress prio 1 protocol ip matchall action skbedit ptype host");
        accepted(&forwarder, MIDDLE, &count);
        assert_eq!(devices(&forwarder), ["in0", "out0", &format!("{INNER}/inner1")]);
        let counter = Counter::start(RIGHT, PORT);
        let sending = std::thread::spawn(|| send_numbers(LEFT, "198.18.0.2", PORT, 2000, 1, 1));
        pause(200);
        shell::run(None, &format!("ip netns del {INNER}")).unwrap();
        wait_for(&forwarder, "the namespace's device is let go", |s| s["devices"].as_array().unwrap().len() == 2);
        // The other end of the pair goes with the namespace: nothing of ours keeps it.
        let deadline = Instant::now() + Duration::from_secs(10);
        while shell::try_run(Some(MIDDLE), "ip link show host1") {
            assert!(Instant::now() < deadline, "the namespace is still alive");
            pause(50);
        }
        sending.join().unwrap();
        pause(300);
        assert_eq!(counter.end(), (0..2000).collect::<Vec<_>>());
        forwarder.stop();
    }
}
