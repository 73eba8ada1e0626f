//! `viscum tc` beside the machine's own tc and kernel: the same words, the same answers.

use std::process::Command;

use viscum::lab::net::{APPLICATION, CAMERA, CLOUD, CLOUD_ADDRESS, MEC};

use crate::forward::{NUMBERS_PORT, WAYS};
use crate::support::forwarder::{Forwarder, VISCUM, project, text};
use crate::support::testbed::{Namespaces, sh, turn};
use crate::support::traffic::{Counter, send_numbers};

const NETNS: &str = "viscum-test-t";

/// Exit code, standard output, standard error.
type Said = (Option<i32>, String, String);

fn run(program: &[&str], words: &[&str], socket: &str) -> Said {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", NETNS]).args(program).args(words).env("VISCUM_SOCKET", socket);
    let output = command.output().unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// What kernels have that lack the other kinds: u32, mirred, ingress and clsact. No `match mark` (an option of the kernel), and nothing whose
/// message changed between kernels.
const COMMANDS: &[&str] = &[
    "qdisc add dev d0 ingress",
    "qdisc add dev d0 ingress",
    "qdisc add dev nosuch ingress",
    "qdisc del dev d1 ingress",
    "qdisc add dev d1 clsact",
    "filter add dev d0 parent ffff: prio 1 protocol ip u32 match ip protocol 6 0xff match ip dport 12345 0xffff action mirred egress redirect dev d1",
    "filter add dev d0 parent ffff: prio 1 protocol ip u32 match ip protocol 17 0xff action mirred egress mirror dev d1",
    "filter add dev d0 parent ffff: prio 2 protocol ipv6 u32 match ip6 dst 2001:db8::/32 action mirred egress redirect dev d1 index 9",
    "filter add dev d0 parent ffff: prio 3 protocol all u32 match u32 0 0 at 0 flowid 1:1",
    "filter add dev d0 parent ffff: prio 1 protocol ip handle 800::5 u32 match u8 6 0xff at 9 flowid 1:1",
    "filter add dev d0 parent ffff: prio 1 protocol ip handle 800::5 u32 match u8 6 0xff at 9 flowid 1:1",
    "filter add dev d0 parent ffff: prio 1 protocol ip u32 match",
    "filter add dev d0 parent ffff: prio 1 protocol ip u32 match ip foo 1 1",
    "filter add dev d0 parent ffff: prio x protocol ip u32 match u32 0 0 flowid 1:1",
    "filter add dev d0 parent ffff: prio 1 protocol ip u32 match u32 0 0 action mirred egress redirect dev nosuch",
    "filter add dev d1 egress prio 1 protocol ip u32 match ip src 10.0.0.0/8 action mirred egress mirror dev d0",
    "filter show dev d0 parent ffff:",
    "filter show dev d0 ingress",
    "filter show dev d1 egress",
    "filter show dev d1",
    "filter replace dev d0 parent ffff: prio 1 protocol ip handle 800::5 u32 match u8 17 0xff at 9 flowid 1:9",
    "filter del dev d0 parent ffff: prio 1 protocol ip handle 800::801 u32",
    "filter del dev d0 parent ffff: prio 1 protocol ip handle 800::801 u32",
    "filter del dev d0 parent ffff: prio 77",
    "filter show dev d0 ingress",
    "filter del dev d0 parent ffff: prio 1",
    "filter del dev d0 ingress",
    "filter show dev d0 ingress",
    "qdisc show dev d1",
    "qdisc del dev d1 clsact",
    "filter show dev d1 egress",
    "foo",
    "filter foo",
];

#[test]
fn the_same_answers_as_tc() {
    let Some(_turn) = turn() else { return };
    let _made = Namespaces::new(&[NETNS]);
    sh(NETNS, "ip link add d0 type veth peer name d1");
    sh(NETNS, "ip link set d0 up");
    sh(NETNS, "ip link set d1 up");
    let forwarder = Forwarder::start(NETNS, &[], "", &["--state-only"]);
    let socket = forwarder.socket();
    let mut different = Vec::new();
    for line in COMMANDS {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (theirs, ours) = (run(&["tc"], &words, &socket), run(&[VISCUM, "tc"], &words, &socket));
        // A veth has a root qdisc of its own in the kernel, which viscum knows nothing of.
        let theirs = (theirs.0, theirs.1.replace("qdisc noqueue 0: root refcnt 2 \n", ""), theirs.2);
        if theirs != ours {
            different.push(format!("tc {line}\n  tc     {theirs:?}\n  viscum {ours:?}"));
        }
    }
    assert!(different.is_empty(), "{} of {}:\n{}", different.len(), COMMANDS.len(), different.join("\n"));
    forwarder.stop();
}

/// A client elsewhere means its own devices; what is gone is forgotten, and another of the same name starts without anything.
#[test]
fn devices_are_those_of_the_client_and_go_with_what_was_on_them() {
    const OTHER: &str = "viscum-test-o";
    let Some(_turn) = turn() else { return };
    let _made = Namespaces::new(&[NETNS, OTHER]);
    sh(OTHER, "ip link add d0 type veth peer name d1");
    let forwarder = Forwarder::start(NETNS, &[], "", &["--state-only"]);
    let tc = |line: &str| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", OTHER, VISCUM, "tc"]).args(line.split_whitespace());
        let output = command.env("VISCUM_SOCKET", forwarder.socket()).output().unwrap();
        (output.status.code(), text(&output.stdout))
    };
    let add = "filter add dev d0 ingress protocol ip prio 1 u32 match u32 0 0 flowid 1:1";
    assert_eq!(tc("qdisc add dev d0 ingress").0, Some(0));
    assert_eq!(tc(add).0, Some(0));
    let listed = tc("filter show dev d0 ingress").1;
    assert!(listed.contains("fh 800::800"), "{listed}");
    assert_eq!(tc("filter add dev d0 ingress protocol ip prio 2 u32 match u32 0 0 indev none0 flowid 1:1").0, Some(2));
    sh(OTHER, "ip link del d0");
    assert_eq!(tc("filter show dev d0 ingress").0, Some(1));
    sh(OTHER, "ip link add d0 type veth peer name d1");
    assert_eq!(tc("filter show dev d0 ingress"), (Some(0), String::new()));
    assert_eq!(tc(add).0, Some(2));
    assert_eq!(tc("qdisc add dev d0 ingress").0, Some(0));
    // Twice another device: the first of them is noticed by a command that makes no state.
    for _ in 0..2 {
        sh(OTHER, "ip link del d0");
        sh(OTHER, "ip link add d0 type veth peer name d1");
        assert_eq!(tc("qdisc show dev d0"), (Some(0), String::new()));
    }
    sh(OTHER, "ip link del d0");
    sh(OTHER, "ip link add d0 type veth peer name d1");
    assert_eq!(tc("qdisc add dev d0 ingress").0, Some(0));
    assert_eq!(tc("qdisc add dev d0 ingress").0, Some(2), "it is still there");
    forwarder.stop();
}

/// The authors' way of taking a rule away and putting it back, by tc itself, while datagrams come.
#[test]
fn a_script_that_deletes_and_adds_filters_under_load() {
    for way in [WAYS[0], WAYS[2], WAYS[4]] {
        let Some(_testbed) = way.testbed() else { return };
        let forwarder = way.start(&[]);
        let tc = |line: &str| {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", MEC, VISCUM, "tc"]).args(line.split_whitespace());
            let output = command.env("VISCUM_SOCKET", forwarder.socket()).output().unwrap();
            assert!(output.status.success(), "tc {line}: {}", text(&output.stderr));
            text(&output.stdout)
        };
        let (at_edge, at_cloud) = (Counter::start(APPLICATION, NUMBERS_PORT), Counter::start(CLOUD, NUMBERS_PORT));
        let count = 8000;
        let sending = std::thread::spawn(move || send_numbers(CAMERA, CLOUD_ADDRESS, NUMBERS_PORT, count, 4, 1));
        let pause = |ms| std::thread::sleep(std::time::Duration::from_millis(ms));
        pause(400);
        tc("filter del dev eth0 parent ffff: prio 2");
        pause(600);
        let rule = std::fs::read_to_string(project("tests/rules/numbers.tc")).unwrap();
        let rule = rule.lines().filter(|l| !l.starts_with('#')).collect::<Vec<_>>().join(" ").replace('\\', " ");
        tc(rule.trim().strip_prefix("tc ").unwrap());
        sending.join().unwrap();
        pause(200);
        let (edge, cloud) = (at_edge.end(), at_cloud.end());
        assert!(edge.len() > 2000 && cloud.len() > 1000, "{} at the edge, {} at the cloud", edge.len(), cloud.len());
        let mut all = [edge.as_slice(), &cloud].concat();
        all.sort_unstable();
        let lost = count as usize - all.len();
        all.dedup();
        assert_eq!(all.len() + lost, count as usize, "{way:?}: some came twice");
        let allowed = if way.mode == "af-packet" { 40 } else { 0 };
        assert!(lost <= allowed, "{way:?}: {lost} were lost");
        // The new filter counts from zero; the one beside it was not touched.
        let listing = tc("-s filter show dev eth0 ingress");
        assert!(listing.contains("pref 1 u32") && listing.contains("pref 2 u32"), "{listing}");
        let counted = forwarder.packets(&["eth0", "ingress"]);
        assert!(counted > 1000 && counted < edge.len() as u64, "{counted} of {}", edge.len());
        forwarder.stop();
    }
}

/// A bad line of a batch is told with its number; the lines before it are in force, those behind it with `-force` only.
#[test]
fn a_batch_stops_where_it_fails() {
    let Some(_turn) = turn() else { return };
    let _made = Namespaces::new(&[NETNS]);
    sh(NETNS, "ip link add d0 type veth peer name d1");
    let forwarder = Forwarder::start(NETNS, &[], "", &["--state-only"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let good = |prio: u32| format!("filter add dev d0 ingress prio {prio} protocol ip matchall action drop\n");
    let lines = format!("# batch\nqdisc add dev d0 clsact\n{}{}{}", good(1), good(1), good(2));
    std::fs::write(file.path(), lines).unwrap();
    let path = file.path().display().to_string();
    let tc = |words: &[&str]| run(&[VISCUM, "tc"], words, &forwarder.socket());
    let (code, _, said) = tc(&["-b", &path]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.ends_with(&format!("Command failed {path}:4\n")), "{said}");
    let filters = || tc(&["filter", "show", "dev", "d0", "ingress"]).1.matches("handle").count();
    assert_eq!(filters(), 1);
    assert_eq!(tc(&["-force", "-b", &path]).0, Some(1));
    assert_eq!(filters(), 2);
    forwarder.stop();
}
