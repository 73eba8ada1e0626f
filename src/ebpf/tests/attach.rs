//! On a veth pair in a fresh network namespace: attach, update under load, die, meet others. The namespace ends with its thread.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};

use super::privileged;
use crate::ebpf::load::{DropBehind, Steering, XdpMode};
use crate::ebpf::{Object, Target, steer};
use crate::rules::{
    Action, ActionId, ActionInstance, ActionWord, Chain, Classifier, Control, CounterSource, Filter, Gact, Hook,
    MatchallRule, NodeWord, Ruleset,
};
use crate::sys::bpf::{Error, Kind, Link, Mode, Program, remove_leftover, xdp_attached};
use crate::types::{DeviceId, DeviceKey, Direction, Protocol};

const DEVICE: &str = "vt0";

fn sh(script: &str) {
    let out = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Runs in a namespace with `vt0`, whose peer `vt1` sends UDP to 198.18.0.9 into it.
fn in_netns(test: impl FnOnce(u32) + Send + 'static) {
    if !privileged() {
        return;
    }
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        sh("ip link add vt0 type veth peer name vt1
            for c in all default vt0 vt1; do echo 1 > /proc/sys/net/ipv6/conf/$c/disable_ipv6; done
            ip addr add 198.18.0.2/24 dev vt1
            ip link set vt0 up; ip link set vt1 up
            ip neigh add 198.18.0.9 lladdr 02:00:00:00:00:09 dev vt1 nud permanent");
        test(if_nametoindex(DEVICE).unwrap());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn send(count: usize) {
    let socket = UdpSocket::bind("198.18.0.2:0").unwrap();
    for _ in 0..count {
        socket.send_to(&[0; 22], "198.18.0.9:9").unwrap();
    }
}

/// `matchall action CONTROL` for everything of this protocol.
fn object(target: Target, protocol: Protocol, control: Control) -> Object {
    let action = Action::Gact(Gact { control, random: None });
    let counters = NodeWord::len(0);
    let rule = MatchallRule { handle: 1, skip_sw: false, classid: None, actions: vec![ActionId(0)], counters: 0 };
    let filter = Filter { prio: 1, protocol, classifier: Classifier::Matchall(Some(rule)) };
    let chains = [(0, Chain { filters: vec![filter] })].into();
    let ruleset = Ruleset {
        u32_tables: Vec::new(),
        devices: vec![DeviceKey::local(DEVICE)],
        hooks: vec![Hook { device: DeviceId(0), direction: Direction::Ingress, chains }],
        actions: vec![ActionInstance { index: 1, action, counters }],
        counter_words: counters + ActionWord::LEN,
    };
    steer(&ruleset, DeviceId(0), target).unwrap()
}

const ACTION: u32 = NodeWord::len(0);

#[test]
fn updates_under_load_lose_no_frame_and_no_count() {
    in_netns(|ifindex| {
        let pass = object(Target::Xdp, Protocol::ALL, Control::Pass);
        let take = object(Target::Xdp, Protocol::ALL, Control::Shot);
        let mut steering = Steering::attach(&pass, ifindex, XdpMode::Generic).unwrap();
        assert_eq!(xdp_attached(ifindex).unwrap().unwrap().name, "viscum_steer");
        // However long an update takes: frames come before, during and behind each of them.
        let done = AtomicBool::new(false);
        let sent = std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut sent = 0;
                while !done.load(Ordering::Relaxed) && sent < 10_000_000 {
                    send(100);
                    sent += 100;
                }
                sent
            });
            for round in 0..20 {
                steering.update(if round % 2 == 0 { &take } else { &pass }).unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
            done.store(true, Ordering::Relaxed);
            sender.join().unwrap()
        });
        let tally = steering.counters().unwrap();
        assert_eq!(tally.passed + tally.taken, sent);
        assert!(tally.passed > 0 && tally.taken > 0 && tally.unserved == tally.taken, "{tally:?}");
        assert_eq!(tally.word(ACTION + ActionWord::PACKETS), tally.passed);
        assert_eq!(tally.word(ACTION + ActionWord::BYTES), tally.passed * 50, "20 IP, 8 UDP, 22 payload");
        assert!(tally.word(ACTION + ActionWord::FIRST_USED) <= tally.word(ACTION + ActionWord::LAST_USED));
        drop(steering);
        assert_eq!(xdp_attached(ifindex).unwrap(), None);
    });
}

#[test]
fn native_mode_is_used_where_it_works_and_refused_by_name_where_not() {
    in_netns(|ifindex| {
        let pass = object(Target::Xdp, Protocol::ALL, Control::Pass);
        let steering = Steering::attach(&pass, ifindex, XdpMode::Auto).unwrap();
        assert_eq!((steering.mode(), steering.not_native().is_none()), (Mode::Native, true));
        drop(steering);
        sh("ip link set vt1 mtu 32768");
        let refused = Steering::attach(&pass, ifindex, XdpMode::Native).unwrap_err();
        assert!(matches!(refused, Error::MtuTooLarge { .. }), "{refused}");
        let steering = Steering::attach(&pass, ifindex, XdpMode::Auto).unwrap();
        assert_eq!(steering.mode(), Mode::Generic);
        assert!(matches!(steering.not_native(), Some(Error::MtuTooLarge { .. })));
        let missing = Steering::attach(&pass, 9999, XdpMode::Auto).unwrap_err();
        assert!(matches!(missing, Error::NoDevice { ifindex: 9999, .. }), "{missing}");
    });
}

#[test]
fn a_program_of_others_is_reported_and_stays() {
    in_netns(|ifindex| {
        // r0 = XDP_PASS; exit
        let insns = [[0xb7u8, 0, 0, 0, 2, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]].map(u64::from_ne_bytes);
        let foreign = Program::load_as(Kind::Xdp, "foreign".to_owned(), &insns).unwrap();
        let link = Link::xdp(&foreign, ifindex, Mode::Native).unwrap();
        let pass = object(Target::Xdp, Protocol::ALL, Control::Pass);
        let error = Steering::attach(&pass, ifindex, XdpMode::Auto).unwrap_err();
        assert!(error.to_string().contains("XDP program foreign (id "), "{error}");
        let Error::Busy { attached: Some(attached), .. } = error else { panic!("{error}") };
        assert!(!attached.is_ours());
        assert_eq!(xdp_attached(ifindex).unwrap(), Some(attached));
        drop(link);
        Steering::attach(&pass, ifindex, XdpMode::Auto).unwrap();
    });
}

#[test]
fn what_is_taken_is_dropped_behind_the_tap() {
    in_netns(|ifindex| {
        let take_arp = object(Target::DropBehind, Protocol(0x0806), Control::Stolen);
        let take_ip = object(Target::DropBehind, Protocol(0x0800), Control::Stolen);
        for cls in [false, true] {
            let attach = if cls { DropBehind::attach_cls } else { DropBehind::attach };
            let mut behind = attach(&take_arp, ifindex).unwrap();
            eprintln!("mode {}", behind.mode());
            send(10);
            behind.update(&take_ip).unwrap();
            send(7);
            let tally = behind.counters().unwrap();
            assert_eq!((tally.passed, tally.taken), (10, 7), "cls {cls}");
            drop(behind);
            sh("test -z \"$(tc qdisc show dev vt0 clsact 2>/dev/null; tc filter show dev vt0 ingress)\"");
        }
        let left = DropBehind::attach_cls(&take_ip, ifindex).unwrap();
        std::mem::forget(left);
        assert_eq!(remove_leftover(ifindex), 1);
        assert_eq!(remove_leftover(ifindex), 0);
    });
}

#[test]
fn tags_beside_the_frame_are_seen() {
    in_netns(|ifindex| {
        let tag = "ip link add link vt1 name vt1.5 type vlan id 5";
        if !Command::new("sh").args(["-c", tag]).output().unwrap().status.success() {
            eprintln!("SKIPPED: the kernel has no VLAN devices");
            return;
        }
        sh("echo 1 > /proc/sys/net/ipv6/conf/vt1.5/disable_ipv6; ip link set vt1.5 up
            ip addr flush dev vt1; ip addr add 198.18.0.2/24 dev vt1.5
            ip neigh add 198.18.0.9 lladdr 02:00:00:00:00:09 dev vt1.5 nud permanent");
        let tagged = object(Target::DropBehind, Protocol(0x8100), Control::Shot);
        let behind = DropBehind::attach(&tagged, ifindex).unwrap();
        send(5);
        assert_eq!(behind.counters().unwrap().taken, 5);
    });
}

/// The process that is killed; nothing unless started by [`links_go_with_the_process`].
#[test]
fn child_that_is_killed() {
    let Ok(ifindex) = std::env::var("VISCUM_TEST_IFINDEX") else { return };
    let ifindex = ifindex.parse().unwrap();
    let steering = Steering::attach(&object(Target::Xdp, Protocol::ALL, Control::Shot), ifindex, XdpMode::Auto);
    let behind = DropBehind::attach(&object(Target::DropBehind, Protocol::ALL, Control::Shot), ifindex);
    println!("\nattached {}", steering.is_ok() && behind.is_ok());
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn links_go_with_the_process() {
    in_netns(|ifindex| {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ebpf::tests::attach::child_that_is_killed", "--nocapture"])
            .env("VISCUM_TEST_IFINDEX", ifindex.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let ready = lines.into_iter().find(|line| line.starts_with("attached "));
        let attached = xdp_attached(ifindex).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(ready.as_deref(), Some("attached true"));
        assert!(attached.unwrap().is_ours());
        let deadline = Instant::now() + Duration::from_secs(5);
        while xdp_attached(ifindex).unwrap().is_some() {
            assert!(Instant::now() < deadline, "the XDP program is still there");
            std::thread::sleep(Duration::from_millis(10));
        }
        // Nothing drops any more: the next program sees every frame.
        let steering = object(Target::DropBehind, Protocol::ALL, Control::Pass);
        let behind = DropBehind::attach(&steering, ifindex).unwrap();
        send(3);
        assert_eq!(behind.counters().unwrap().passed, 3);
    });
}
