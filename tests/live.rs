//! A forwarder that starts empty: devices come with tc's commands and go with them, while traffic flows.

use std::process::Command;
use std::time::Duration;

use viscum::app::config::Deliver;
use viscum::lab::net::{APPLICATION, CAMERA, CLOUD, CLOUD_ADDRESS, MEC};
use viscum::lab::shell;

use crate::support::forwarder::{Forwarder, VISCUM, project, text};
use crate::support::left;
use crate::support::testbed::{Namespaces, Testbed, sh, turn};
use crate::support::traffic::{Counter, send_numbers, tcp_both_ways};

pub const MODES: [&str; 2] = ["af-xdp", "af-packet"];
pub const PORT: u16 = 5001;
pub const LEFT: &str = "viscum-live-l";
pub const MIDDLE: &str = "viscum-live-m";
pub const RIGHT: &str = "viscum-live-r";

/// A pair of devices between which rules can forward: `n` from 0.
pub fn wire(n: u8) {
    let (left, right) = (format!("a{n}"), format!("b{n}"));
    sh(MIDDLE, &format!("ip link add in{n} type veth peer name {left} netns {LEFT}"));
    sh(MIDDLE, &format!("ip link add out{n} type veth peer name {right} address 02:00:00:00:00:b{n} netns {RIGHT}"));
    for (netns, device) in [(MIDDLE, &format!("in{n}")), (MIDDLE, &format!("out{n}")), (LEFT, &left), (RIGHT, &right)] {
        sh(netns, &format!("ip link set {device} up"));
    }
    sh(LEFT, &format!("ip addr add 198.18.{n}.1/24 dev {left}"));
    sh(RIGHT, &format!("ip addr add 198.18.{n}.2/24 dev {right}"));
    sh(LEFT, &format!("ip neigh replace 198.18.{n}.2 lladdr 02:00:00:00:00:b{n} dev {left} nud permanent"));
}

/// `viscum tc` in a namespace: exit code and what it said.
pub fn tc(forwarder: &Forwarder, netns: &str, line: &str) -> (i32, String) {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", netns, VISCUM, "tc"]).args(line.split_whitespace());
    let output = command.env("VISCUM_SOCKET", forwarder.socket()).output().unwrap();
    (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
}

pub fn accepted(forwarder: &Forwarder, netns: &str, line: &str) -> String {
    let (code, said) = tc(forwarder, netns, line);
    assert_eq!(code, 0, "tc {line}: {said}");
    said
}

pub fn take(n: u8) -> String {
    format!(
        "filter add dev in{n} parent ffff: prio 1 protocol ip u32 match ip protocol 17 0xff match ip dport {PORT} 0xffff \
         action mirred egress redirect dev out{n}"
    )
}

pub fn devices(forwarder: &Forwarder) -> Vec<String> {
    let status = forwarder.status();
    let devices = status["devices"].as_array().unwrap();
    devices.iter().map(|d| d["device"].as_str().unwrap().to_owned()).collect()
}

pub fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Datagrams of the first pair of devices flow on, each once, while others come and go; `count` is how many are sent, one each ms: the
/// rings hold more than a busy machine may let a worker wait.
fn while_numbers_flow(count: u64, and: impl FnOnce()) {
    let counter = Counter::start(RIGHT, PORT);
    let sending = std::thread::spawn(move || send_numbers(LEFT, "198.18.0.2", PORT, count, 1, 1));
    and();
    sending.join().unwrap();
    pause(300);
    let numbers = counter.end();
    let lost: Vec<u64> = (0..count).filter(|n| numbers.binary_search(n).is_err()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "each once and in order");
    assert_eq!(lost, Vec::<u64>::new(), "lost");
}

#[test]
fn devices_come_and_go_with_filters_and_disturb_nobody() {
    let Some(_turn) = turn() else { return };
    for mode in MODES {
        let _made = Namespaces::new(&[LEFT, MIDDLE, RIGHT]);
        (0..3).for_each(wire);
        let forwarder = Forwarder::start(MIDDLE, &[], "", &["--mode", mode]);
        assert!(forwarder.started.contains("no device yet"), "{}", forwarder.started);
        assert_eq!(devices(&forwarder), Vec::<String>::new());
        for n in 0..3 {
            accepted(&forwarder, MIDDLE, &format!("qdisc add dev in{n} ingress"));
        }
        assert_eq!(devices(&forwarder), Vec::<String>::new(), "a qdisc alone takes nothing");
        accepted(&forwarder, MIDDLE, &take(0));
        assert_eq!(devices(&forwarder), ["in0", "out0"]);
        while_numbers_flow(4000, || {
            for _ in 0..3 {
                accepted(&forwarder, MIDDLE, &take(1));
                // The other way as well: out1 receives, in1 transmits.
                accepted(&forwarder, MIDDLE, "qdisc add dev out1 ingress");
                let back =
                    "filter add dev out1 ingress prio 1 protocol ip matchall action mirred egress redirect dev in1";
                accepted(&forwarder, MIDDLE, back);
                accepted(&forwarder, MIDDLE, &take(2));
                assert_eq!(devices(&forwarder), ["in0", "out0", "in1", "out1", "in2", "out2"]);
                accepted(&forwarder, MIDDLE, "filter del dev in1 ingress");
                assert_eq!(devices(&forwarder), ["in0", "out0", "in1", "out1", "in2", "out2"], "out1 sends to in1");
                accepted(&forwarder, MIDDLE, "qdisc del dev out1 ingress");
                accepted(&forwarder, MIDDLE, "filter del dev in2 ingress prio 1");
                assert_eq!(devices(&forwarder), ["in0", "out0"]);
            }
        });
        // What came later forwards as well.
        accepted(&forwarder, MIDDLE, &take(2));
        let counter = Counter::start(RIGHT, PORT);
        send_numbers(LEFT, "198.18.2.2", PORT, 500, 4, 1);
        pause(300);
        assert_eq!(counter.end(), (0..500).collect::<Vec<_>>());
        assert_eq!(forwarder.packets(&["in0", "ingress"]), 4000);
        assert_eq!(forwarder.packets(&["in2", "ingress"]), 500);
        accepted(&forwarder, MIDDLE, "qdisc del dev in0 ingress");
        accepted(&forwarder, MIDDLE, "qdisc del dev in2 ingress");
        assert_eq!(devices(&forwarder), Vec::<String>::new());
        let said = forwarder.stop();
        assert!(said.contains("in0: received 4000 frames"), "{said}");
    }
}

#[test]
fn a_device_that_cannot_be_served_is_refused_and_nothing_changes() {
    let Some(_turn) = turn() else { return };
    for mode in MODES {
        let _made = Namespaces::new(&[LEFT, MIDDLE, RIGHT]);
        (0..2).for_each(wire);
        let forwarder = Forwarder::start(MIDDLE, &[], "", &["--mode", mode]);
        accepted(&forwarder, MIDDLE, "qdisc add dev in0 ingress");
        accepted(&forwarder, MIDDLE, "qdisc add dev in1 ingress");
        accepted(&forwarder, MIDDLE, &take(0));
        sh(MIDDLE, "ip link set out1 down");
        let before = forwarder.status()["devices"].clone();
        while_numbers_flow(2000, || {
            let (code, said) = tc(&forwarder, MIDDLE, &take(1));
            assert_eq!(code, 2, "{said}");
            assert!(said.contains("out1 is down") && said.contains("ip link set out1 up"), "{said}");
            let (code, said) = tc(
                &forwarder,
                MIDDLE,
                "filter add dev in1 ingress prio 1 protocol all matchall action mirred ingress redirect dev out0",
            );
            assert_eq!(code, 2, "{said}");
            assert!(said.contains("mirred egress redirect"), "{said}");
        });
        let names =
            |v: &serde_json::Value| v.as_array().unwrap().iter().map(|d| d["device"].clone()).collect::<Vec<_>>();
        assert_eq!(names(&forwarder.status()["devices"]), names(&before));
        assert_eq!(accepted(&forwarder, MIDDLE, "filter show dev in1 ingress"), "");
        sh(MIDDLE, "ip link set out1 up");
        accepted(&forwarder, MIDDLE, &take(1));
        assert_eq!(devices(&forwarder), ["in0", "out0", "in1", "out1"]);
        forwarder.stop();
    }
}

/// One queue more means one worker more: frames of the new device cross over to devices that were there.
#[test]
fn a_device_with_more_queues_brings_workers_and_reload_brings_and_drops_devices() {
    let Some(_turn) = turn() else { return };
    for mode in MODES {
        let _made = Namespaces::new(&[LEFT, MIDDLE, RIGHT]);
        wire(0);
        sh(
            MIDDLE,
            &format!(
                "ip link add in1 numtxqueues 2 numrxqueues 2 type veth peer name a1 numtxqueues 2 numrxqueues 2 netns {LEFT}"
            ),
        );
        sh(MIDDLE, "ip link set in1 up");
        sh(LEFT, "ip link set a1 up");
        sh(LEFT, "ip addr add 198.18.1.1/24 dev a1");
        sh(LEFT, "ip neigh add 198.18.1.2 lladdr 02:00:00:00:00:b0 dev a1 nud permanent");
        sh(RIGHT, "ip addr add 198.18.1.2/24 dev b0");
        let forwarder = Forwarder::start(MIDDLE, &[], "[device.in1]\nqueues = 2\n", &["--mode", mode]);
        accepted(&forwarder, MIDDLE, "qdisc add dev in0 ingress");
        accepted(&forwarder, MIDDLE, &take(0));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("both.tc").display().to_string();
        let rules = format!(
            "tc qdisc add dev in0 ingress\ntc {}\ntc qdisc add dev in1 ingress\ntc filter add dev in1 ingress prio 1 protocol ip \
             matchall action mirred egress redirect dev out0\n",
            take(0)
        );
        std::fs::write(&file, rules).unwrap();
        let workers = |forwarder: &Forwarder| forwarder.status()["workers"].as_array().unwrap().len();
        assert_eq!(workers(&forwarder), 1);
        while_numbers_flow(4000, || {
            forwarder.ask(&["reload", &file]);
            assert_eq!((workers(&forwarder), devices(&forwarder).len()), (2, 3));
        });
        let counter = Counter::start(RIGHT, PORT);
        send_numbers(LEFT, "198.18.1.2", PORT, 2000, 4, 8);
        pause(300);
        let mut numbers = counter.end();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..2000).collect::<Vec<_>>(), "{mode}: each once");
        std::fs::write(&file, format!("tc qdisc add dev in0 ingress\ntc {}\n", take(0))).unwrap();
        forwarder.ask(&["reload", &file]);
        assert_eq!(devices(&forwarder), ["in0", "out0"]);
        let said = forwarder.stop();
        assert_eq!(said.matches("in1: received").count(), 2, "{said}");
    }
}

/// A script of the project, in the MEC box's network namespace, as a user there would run it.
fn script(forwarder: &Forwarder, name: &str) -> String {
    let net = format!("--net=/run/netns/{MEC}");
    let path = project(&format!("tests/scripts/{name}"));
    let mut command = Command::new("nsenter");
    command.args([&net, "sh", &path]).env("TC", format!("{VISCUM} tc")).env("VISCUM_SOCKET", forwarder.socket());
    let output = command.output().unwrap();
    let errors = text(&output.stderr);
    // What tc itself says of `skbmod smac`, and: not every kernel has policy routing for IPv6.
    let good = ["note: ", "MAC address <", "Operation not supported", "Address family not supported"];
    let bad = errors.lines().find(|line| !good.iter().any(|words| line.contains(words)));
    assert_eq!(bad, None, "{name}: {errors}");
    text(&output.stdout)
}

#[test]
fn the_scenarios_scripts_run_unmodified() {
    for mode in ["auto", "af-packet"] {
        let Some(_testbed) = Testbed::up(Deliver::Veth, 32768) else { return };
        let programs = left::programs();
        let forwarder = Forwarder::start(MEC, &[], "", &["--mode", mode]);
        // The scripts make the pair and the namespace themselves.
        sh(MEC, "ip link del IMAGE_HOST_VETH");
        shell::run(None, &format!("ip netns del {APPLICATION}")).unwrap();
        let through = |server| tcp_both_ways(CAMERA, server, CLOUD_ADDRESS, 12345, 100_000);
        through(CLOUD);
        for round in 0..2 {
            script(&forwarder, "start.sh");
            // The hosted service's own address, so that TCP answers from it.
            sh(APPLICATION, &format!("ip route add local {CLOUD_ADDRESS}/32 dev lo"));
            through(APPLICATION);
            let stats = script(&forwarder, "stats.sh");
            assert_eq!(stats.matches("Action statistics:").count(), 4 + 3 * 2 + 8, "{stats}");
            assert!(stats.contains("mirred (Egress Redirect to device IMAGE_HOST_VETH) stolen"), "{stats}");
            for device in ["eth0", "IMAGE_HOST_VETH"] {
                assert!(forwarder.packets(&[device, "ingress"]) > 20, "round {round}: {stats}");
            }
            let inside = forwarder.packets(&["IMAGE_CONT_VETH", "ingress", "-n", APPLICATION]);
            assert!(inside > 20, "round {round}: {inside} inside; {stats}");
            script(&forwarder, "bypass.sh");
            through(CLOUD);
            script(&forwarder, "nobypass.sh");
            through(APPLICATION);
            script(&forwarder, "stop.sh");
            assert_eq!(devices(&forwarder), Vec::<String>::new());
            through(CLOUD);
        }
        forwarder.stop();
        left::assert_no_new_programs(&programs);
    }
}
