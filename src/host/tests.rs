//! What the machine says, asked of real devices in fresh namespaces. Needs root; every namespace goes on failure too.

use std::fs::File;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::types::{DeviceId, DeviceKind};

/// A namespace of its own, removed when dropped.
struct Netns(String);

impl Netns {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("viscum-t-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        output("ip", &["netns", "add", &name]).unwrap();
        Self(name)
    }

    /// `ip -netns NAME WORDS`.
    fn ip(&self, words: &str) {
        let mut args = vec!["-netns", self.0.as_str()];
        args.extend(words.split_whitespace());
        output("ip", &args).unwrap();
    }

    fn key(&self, device: &str) -> DeviceKey {
        DeviceKey::new(Some(&self.0), device)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _gone = output("ip", &["netns", "del", &self.0]);
    }
}

fn may_run() -> bool {
    let may = nix::unistd::geteuid().is_root();
    assert!(may || std::env::var("CI").is_err(), "the tests of real devices need root");
    if !may {
        eprintln!("SKIPPED: the tests of real devices need root");
    }
    may
}

#[test]
fn the_inside_of_a_namespace_is_seen_and_the_caller_stays_outside() {
    if !may_run() {
        return;
    }
    let inside = Netns::new();
    inside.ip("link add left type veth peer name right");
    let names = |ns| netns::in_namespace(ns, || link::local().into_iter().map(|(n, _)| n).collect::<Vec<_>>()).unwrap();
    let seen = names(Some(&inside.0));
    assert!(seen.contains(&"left".to_owned()) && seen.contains(&"right".to_owned()), "{seen:?}");
    assert!(!names(None).contains(&"left".to_owned()));
    assert!(netns::names().contains(&inside.0));
}

#[test]
fn a_veth_tells_its_facts_and_its_peer_in_another_namespace() {
    if !may_run() {
        return;
    }
    let (here, there) = (Netns::new(), Netns::new());
    here.ip(&format!(
        "link add left address 02:00:00:00:00:01 mtu 2000 numrxqueues 2 numtxqueues 2 type veth \
         peer name right mtu 1900 numrxqueues 3 numtxqueues 3 netns {}",
        there.0
    ));
    let down = link::find(&here.key("left")).unwrap();
    assert_eq!((down.up, down.carrier), (false, false));
    here.ip("link set left up");
    assert_eq!(link::find(&here.key("left")).map(|l| (l.up, l.carrier)).unwrap(), (true, false));
    there.ip("link set right up");
    let left = link::find(&here.key("left")).unwrap();
    assert_eq!(
        (left.mac.to_string().as_str(), left.mtu, left.up, left.carrier),
        ("02:00:00:00:00:01", 2000, true, true)
    );
    assert_eq!((left.kind.as_str(), left.rx_queues, left.tx_queues, left.xdp_program), ("veth", 2, 2, None));
    let right = link::find(&there.key("right")).unwrap();
    let peer = left.peer.unwrap();
    assert_eq!((peer.ifindex, peer.key), (right.ifindex, Some(there.key("right"))));
    assert_eq!((peer.mtu, peer.tx_queues), (Some(1900), Some(3)));
    assert_eq!(right.peer.and_then(|p| p.key), Some(here.key("left")));
}

#[test]
fn a_peer_in_a_namespace_without_a_name_is_not_mistaken_for_another_with_the_same_numbers() {
    if !may_run() {
        return;
    }
    let (here, nameless, other, fourth) = (Netns::new(), Netns::new(), Netns::new(), Netns::new());
    here.ip(&format!("link add left index 10 type veth peer name right index 20 netns {}", nameless.0));
    other.ip(&format!("link add false index 20 type veth peer name end index 10 netns {}", fourth.0));
    let found = |key| link::find(&key).unwrap().peer.unwrap();
    assert_eq!(found(here.key("left")).key, Some(nameless.key("right")));
    // The open file keeps the namespace when its name goes.
    let kept = File::open(netns::path(&nameless.0)).unwrap();
    drop(nameless);
    let peer = found(here.key("left"));
    assert_eq!((peer.ifindex, peer.key, peer.mtu), (20, None, None));
    drop(kept);
}

#[test]
fn queues_in_use_are_counted_in_the_devices_own_namespace() {
    if !may_run() {
        return;
    }
    let inside = Netns::new();
    inside.ip("link add left numrxqueues 4 numtxqueues 4 type veth peer name right numrxqueues 4 numtxqueues 4");
    let left = link::find(&inside.key("left")).unwrap();
    assert_eq!((left.rx_queues, link::active_queues(&left)), (4, 4));
    let lo = link::find(&DeviceKey::local("lo")).unwrap();
    assert_eq!(link::active_queues(&lo), 1);
}

#[test]
fn known_devices_make_a_topology_with_the_pair_joined() {
    if !may_run() {
        return;
    }
    let (here, there) = (Netns::new(), Netns::new());
    here.ip(&format!("link add left type veth peer name right netns {}", there.0));
    here.ip("link add single type veth peer name unasked");
    here.ip("tuntap add wire mode tap");
    let keys = [there.key("right"), here.key("gone"), here.key("left"), here.key("single"), here.key("wire")];
    let (known, missing) = topology(&keys).unwrap();
    assert_eq!(missing, [here.key("gone")]);
    let kinds: Vec<DeviceKind> = known.devices.iter().map(|d| d.kind.clone()).collect();
    let veth = |peer| DeviceKind::Veth { peer };
    assert_eq!(kinds, [veth(Some(DeviceId(1))), veth(Some(DeviceId(0))), veth(None), DeviceKind::Wire]);
}

#[test]
fn a_device_that_does_not_exist_is_told_with_the_nearest_names_first() {
    if !may_run() {
        return;
    }
    let inside = Netns::new();
    for pair in ["zebra:zulu", "uplink0:alpha", "beta:gamma", "delta:omega", "sigma:kappa"] {
        let (left, right) = pair.split_once(':').unwrap();
        inside.ip(&format!("link add {left} type veth peer name {right}"));
    }
    let error = link::find(&inside.key("uplnik0")).unwrap_err().to_string();
    assert!(error.contains(&format!("{}/uplnik0", inside.0)) && error.contains("are: uplink0, "), "{error}");
    assert!(error.contains("and 3 more"), "{error}");
    let error = link::find(&DeviceKey::new(Some("viscum-none"), "x")).unwrap_err().to_string();
    assert!(error.contains("ip netns add viscum-none"), "{error}");
}

#[test]
fn one_namespaces_lock_is_not_anothers() {
    if !may_run() {
        return;
    }
    let (one, two) = (Netns::new(), Netns::new());
    for ns in [&one, &two] {
        ns.ip("link add left index 77 type veth peer name right");
    }
    let held = lock::device(&one.key("left")).unwrap();
    let error = lock::device(&one.key("left")).unwrap_err().to_string();
    let holder = format!("process {}", std::process::id());
    assert!(error.contains(&holder) && error.contains(&one.key("left").to_string()), "{error}");
    drop(lock::device(&two.key("left")).unwrap());
    drop(held);
    drop(lock::device(&one.key("left")).unwrap());
}

/// Nobody accepts at the lock's socket, so those who ask pile up there: a restart loop must not end in one that hangs.
#[test]
fn a_lock_that_many_asked_for_still_answers_at_once() {
    if !may_run() {
        return;
    }
    let inside = Netns::new();
    inside.ip("link add left index 78 type veth peer name right");
    sysctl::set(Some(&inside.0), "net/core/somaxconn", "2").unwrap();
    let _held = lock::device(&inside.key("left")).unwrap();
    let (done, answer) = std::sync::mpsc::channel();
    let key = inside.key("left");
    std::thread::spawn(move || {
        for _ in 0..8 {
            let error = lock::device(&key).unwrap_err();
            assert!(matches!(error, HostError::Locked { .. }), "{error}");
        }
        done.send(()).unwrap();
    });
    let answered = answer.recv_timeout(std::time::Duration::from_secs(10));
    assert!(answered.is_ok(), "the lock is waited for");
}

#[test]
fn a_setting_of_a_namespace_is_put_back() {
    if !may_run() {
        return;
    }
    let inside = Netns::new();
    let (ns, name) = (Some(inside.0.as_str()), "net/ipv4/ip_forward");
    sysctl::set(ns, name, "0").unwrap();
    let guard = sysctl::set_while(ns, name, "1").unwrap();
    assert_eq!(sysctl::get(ns, name).unwrap(), "1");
    drop(guard);
    assert_eq!(sysctl::get(ns, name).unwrap(), "0");
}
