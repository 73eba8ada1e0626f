//! The testbed for real, without the forwarder: the path works, the servers' logs tell, and nothing is left.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::process::Process;
use super::*;
use crate::app::config::Deliver;
use crate::host::netns;

/// Brings the testbed down on failure too.
struct Testbed;

impl Drop for Testbed {
    fn drop(&mut self) {
        if let Err(e) = down() {
            eprintln!("the testbed is left: {e}");
        }
    }
}

fn may_run() -> bool {
    let may = nix::unistd::geteuid().is_root();
    assert!(may || std::env::var("CI").is_err(), "the testbed's tests need root");
    if !may {
        eprintln!("SKIPPED: the testbed needs root");
    }
    may
}

/// Tests that need the testbed take turns, in whichever process they run: its namespaces have fixed names.
fn turn() -> nix::fcntl::Flock<std::fs::File> {
    let file = std::fs::File::create(std::env::temp_dir().join("viscum-lab-test.lock")).unwrap();
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap()
}

/// One test, as the namespaces have fixed names.
#[test]
fn the_testbed_comes_up_serves_and_goes_without_a_trace() {
    if !may_run() {
        return;
    }
    let _turn = turn();
    for deliver in [Deliver::Tap, Deliver::Veth] {
        let testbed = Testbed;
        up(&NetOptions { deliver, ..NetOptions::default() }).unwrap();
        assert!(net::is_up());
        let far = crate::host::link::find(&crate::types::DeviceKey::new(Some(net::APPLICATION), "IMAGE_CONT_VETH"));
        let far = far.unwrap();
        assert_eq!((far.mac.to_string().as_str(), far.mtu, far.noarp), ("70:00:00:00:00:00", 32768, true));
        let peer = far.peer.and_then(|p| p.key).map(|k| k.to_string());
        match deliver {
            Deliver::Tap => assert_eq!((far.kind.as_str(), peer), ("tun", None)),
            Deliver::Veth => assert_eq!(peer.as_deref(), Some("viscum-mec/IMAGE_HOST_VETH")),
        }
        the_cloud_answers_through_the_mec_box();
        a_program_that_a_crash_left_is_stopped();
        drop(testbed);
        assert!(!net::is_up() && !Path::new(process::DIRECTORY).exists());
        assert!(netns::names().iter().all(|n| !n.starts_with("viscum-") && n != net::APPLICATION));
        down().unwrap();
    }
}

fn the_cloud_answers_through_the_mec_box() {
    let forwarded = || -> u64 {
        let text = shell::run(Some(net::MEC), "cat /proc/net/snmp").unwrap();
        let values = text.lines().filter(|l| l.starts_with("Ip:")).nth(1).unwrap().to_owned();
        values.split_whitespace().nth(6).unwrap().parse().unwrap()
    };
    let before = forwarded();
    let listener = netns::in_namespace(Some(net::CLOUD), || std::net::TcpListener::bind("0.0.0.0:12345"));
    let listener = listener.unwrap().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut picture = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut picture).unwrap();
        std::io::Write::write_all(&mut stream, format!("{} bytes\n", picture.len()).as_bytes()).unwrap();
    });
    let to: SocketAddr = format!("{}:12345", net::CLOUD_ADDRESS).parse().unwrap();
    let answer = netns::in_namespace(Some(net::CAMERA), || camera::send(to, &[7; 200_000])).unwrap().unwrap();
    server.join().unwrap();
    assert_eq!(answer.text, "200000 bytes");
    assert!(forwarded() > before, "the MEC box saw nothing of it");
}

fn a_program_that_a_crash_left_is_stopped() {
    let mut left = Process::start("left", net::CLOUD, Path::new("sleep"), &["1000"]).unwrap();
    assert!(left.wait_for("never", Duration::from_millis(50)).is_err());
    process::stop_all().unwrap();
    assert!(left.stop().is_some_and(|s| !s.success()));
}

#[test]
fn a_log_line_is_found_by_its_peer_alone() {
    let log = "peer=198.18.0.2:4000 local=198.51.100.10:12345 bytes=7 plate=\"A\" ms=1\n";
    assert_eq!(server::logged_bytes(log, "198.18.0.2:4000".parse().unwrap()), Some(7));
    assert_eq!(server::logged_bytes(log, "198.18.0.2:400".parse().unwrap()), None);
}

#[test]
fn times_are_summed_up_in_milliseconds() {
    let mut times = camera::Times::default();
    for ms in [10, 20, 30] {
        times.add(Duration::from_millis(ms));
    }
    assert!(times.to_string().starts_with("3 requests: min 10.0, median 20.0, max 30."), "{times}");
}
