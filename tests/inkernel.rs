//! `--mode xdp` and `--mode tc-bpf`: the kernel forwards by itself, on real devices in namespaces of the test's own.

use std::time::Duration;

use viscum::lab::shell;

use crate::support::forwarder::{Forwarder, command, text, viscum};
use crate::support::left;
use crate::support::testbed::{Namespaces, sh, turn};
use crate::support::traffic::{Counter, send_numbers, tcp_both_ways};

const LEFT: &str = "viscum-ink-l";
const MIDDLE: &str = "viscum-ink-m";
const RIGHT: &str = "viscum-ink-r";
const MODES: [&str; 2] = ["xdp", "tc-bpf"];
const LEFT_MAC: &str = "02:00:00:00:00:0a";
const RIGHT_MAC: &str = "02:00:00:00:00:0b";
const PORT: u16 = 5001;

/// Two hosts that believe to be on one wire, with a wrong idea of each other's address; rules between them put it right.
fn wires() -> Namespaces {
    let namespaces = Namespaces::new(&[LEFT, MIDDLE, RIGHT]);
    for (netns, device, near, mac, address) in
        [(LEFT, "a", "left", LEFT_MAC, "198.18.0.1"), (RIGHT, "b", "right", RIGHT_MAC, "198.18.0.2")]
    {
        sh(MIDDLE, &format!("ip link add {near} type veth peer name {device} address {mac} netns {netns}"));
        sh(MIDDLE, &format!("ip link set dev {near} up"));
        sh(netns, &format!("ip link set dev {device} up"));
        sh(netns, &format!("ip addr add {address}/24 dev {device}"));
    }
    sh(LEFT, "ip neigh add 198.18.0.2 lladdr 02:00:00:00:00:99 dev a nud permanent");
    sh(RIGHT, "ip neigh add 198.18.0.1 lladdr 02:00:00:00:00:99 dev b nud permanent");
    namespaces
}

const RULES: &str = "
tc qdisc add dev left ingress
tc qdisc add dev right ingress
tc filter add dev left parent ffff: prio 1 protocol ip u32 match ip dst 198.18.0.2/32 action skbmod set dmac 02:00:00:00:00:0b pipe action mirred egress redirect dev right
tc filter add dev right parent ffff: prio 1 protocol ip u32 match ip dst 198.18.0.1/32 action skbmod set dmac 02:00:00:00:00:0a pipe action mirred egress redirect dev left
";

fn rules(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

fn start(rules: &tempfile::NamedTempFile, mode: &str) -> Forwarder {
    Forwarder::start(MIDDLE, &[&rules.path().display().to_string()], "", &["--mode", mode])
}

/// How many of `count` datagrams from left to right arrive.
fn arrive(count: u64) -> usize {
    let counter = Counter::start(RIGHT, PORT);
    send_numbers(LEFT, "198.18.0.2", PORT, count, 1, 1);
    std::thread::sleep(Duration::from_millis(200));
    counter.end().len()
}

#[test]
fn tcp_goes_through_with_checksums_that_a_device_would_have_completed() {
    let Some(_turn) = turn() else { return };
    let before = left::programs();
    for mode in MODES {
        let _wires = wires();
        let rules = rules(RULES);
        let forwarder = start(&rules, mode);
        assert!(forwarder.started.contains("in the kernel"), "{}", forwarder.started);
        tcp_both_ways(LEFT, RIGHT, "198.18.0.2", 5002, 300_000);
        for device in ["left", "right"] {
            let packets = forwarder.packets(&["dev", device, "ingress"]);
            assert!(packets > 10, "{mode} {device}: {packets} packets counted");
        }
        let status = forwarder.status();
        assert_eq!(status["workers"].as_array().unwrap().len(), 0, "no worker is needed");
        assert!(status["devices"][0]["program_taken"].as_u64().unwrap() > 10);
        forwarder.stop();
        assert_eq!(arrive(20), 0, "{mode}: it is off");
    }
    assert_eq!(left::programs(), before);
}

#[test]
fn rules_change_while_it_runs() {
    let Some(_turn) = turn() else { return };
    for mode in MODES {
        let _wires = wires();
        let file = rules(RULES);
        let forwarder = start(&file, mode);
        assert_eq!(arrive(50), 50, "{mode}");
        forwarder.ask(&["bypass", "left"]);
        assert_eq!(arrive(20), 0, "{mode}: bypassed, the kernel has them");
        forwarder.ask(&["nobypass", "left"]);
        assert_eq!(arrive(50), 50, "{mode}");
        let counted = forwarder.packets(&["dev", "left", "ingress"]);
        assert_eq!(counted, 100, "{mode}: counts outlive changes");
        // Down, up: what a redirect to it counts, and that it is found again.
        sh(MIDDLE, "ip link set dev right down");
        std::thread::sleep(Duration::from_millis(600));
        assert_eq!(arrive(20), 0, "{mode}: the target is down");
        let shown = forwarder.ask(&["show", "dev", "left", "ingress", "-s"]);
        assert!(shown.contains("overlimits 20"), "{mode}: {shown}");
        sh(MIDDLE, "ip link set dev right up");
        std::thread::sleep(Duration::from_millis(600));
        assert_eq!(arrive(50), 50, "{mode}: it is up again");
        std::fs::write(file.path(), RULES.replace("198.18.0.2/32", "198.18.0.77/32")).unwrap();
        forwarder.ask(&["reload", &file.path().display().to_string()]);
        assert_eq!(arrive(20), 0, "{mode}: other rules");
        forwarder.stop();
    }
}

#[test]
fn a_change_under_load_loses_nothing_and_counts_all() {
    let Some(_turn) = turn() else { return };
    for mode in MODES {
        let _wires = wires();
        let file = rules(RULES);
        let forwarder = start(&file, mode);
        let counter = Counter::start(RIGHT, PORT);
        let sending = std::thread::spawn(|| send_numbers(LEFT, "198.18.0.2", PORT, 1000, 1, 1));
        for n in 0..10 {
            let line = format!(
                "tc filter add dev left parent ffff: prio {} protocol arp u32 match u8 0 0 at 0 action drop",
                n + 10
            );
            let words: Vec<&str> = line.split_whitespace().collect();
            let added = command(Some(MIDDLE), &words).env("VISCUM_SOCKET", forwarder.socket()).output().unwrap();
            assert!(added.status.success(), "{mode}: {}", text(&added.stderr));
            std::thread::sleep(Duration::from_millis(50));
        }
        sending.join().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(counter.end().len(), 1000, "{mode}");
        let shown = forwarder.ask(&["show", "dev", "left", "ingress", "-s"]);
        assert!(shown.contains("1000 pkt"), "{mode}: {shown}");
        forwarder.stop();
    }
}

#[test]
fn nothing_is_left_however_it_ends() {
    let Some(_turn) = turn() else { return };
    for mode in MODES {
        let _wires = wires();
        let file = rules(RULES);
        let forwarder = start(&file, mode);
        forwarder.kill();
        std::thread::sleep(Duration::from_millis(500));
        for (netns, device) in [(MIDDLE, "left"), (MIDDLE, "right"), (LEFT, "a"), (RIGHT, "b")] {
            let link = sh(netns, &format!("ip -d link show dev {device}"));
            assert!(!link.contains("xdp") && !link.contains("prog/"), "{link}");
        }
        // And a new one can start.
        start(&file, mode).stop();
    }
}

#[test]
fn what_a_mode_cannot_do_is_refused_by_name() {
    let Some(_turn) = turn() else { return };
    let _wires = wires();
    let qdiscs = "tc qdisc add dev left ingress\ntc qdisc add dev right clsact\n";
    for (mode, rule, word) in [
        (
            "xdp",
            "tc filter add dev left parent ffff: prio 1 protocol ip matchall action mirred egress mirror dev right",
            "--mode tc-bpf",
        ),
        (
            "xdp",
            "tc filter add dev left parent ffff: prio 1 protocol ip matchall action skbedit mark 7 pipe",
            "the mark",
        ),
        (
            "tc-bpf",
            "tc filter add dev left parent ffff: prio 1 protocol ip matchall action police rate 1mbit burst 10k drop",
            "police",
        ),
        (
            "xdp",
            "tc filter add dev right egress prio 1 protocol ip matchall action drop
             tc filter add dev left parent ffff: prio 1 protocol ip matchall action mirred egress redirect dev right",
            "past the rules at the egress of right",
        ),
    ] {
        let file = rules(&format!("{qdiscs}{rule}\n"));
        let dir = tempfile::tempdir().unwrap();
        let (path, socket) = (file.path().display().to_string(), dir.path().join("s").display().to_string());
        let output = viscum(Some(MIDDLE), &["run", &path, "--mode", mode, "--socket", &socket]);
        let said = text(&output.stderr);
        assert!(
            !output.status.success() && said.contains("left ingress") && said.contains(word),
            "{mode} {rule}: {said}"
        );
    }
    let links = shell::run(Some(MIDDLE), "ip -d link show").unwrap();
    assert!(!links.contains("xdp"), "{links}");
}

/// tc's hook sees what the host itself sends, and copies.
#[test]
fn egress_rules_and_copies_at_tcs_hook() {
    let Some(_turn) = turn() else { return };
    let _wires = wires();
    sh(MIDDLE, "ip addr add 198.18.0.3/24 dev right");
    sh(MIDDLE, &format!("ip neigh add 198.18.0.2 lladdr {RIGHT_MAC} dev right nud permanent"));
    let file = rules(&format!(
        "tc qdisc add dev left clsact
         tc qdisc add dev right clsact
         tc filter add dev right egress prio 1 protocol ip u32 match ip dst 198.18.0.2/32 match ip dport {PORT} 0xffff action skbedit mark 5 pipe action pedit munge offset 22 u16 set 7001 pipe action csum udp
         tc filter add dev left ingress prio 1 protocol ip u32 match ip dst 198.18.0.2/32 match ip protocol 17 0xff action skbmod set dmac {RIGHT_MAC} pipe action mirred egress mirror dev right pipe action drop
"
    ));
    let forwarder = start(&file, "tc-bpf");
    let counter = Counter::start(RIGHT, 7001);
    send_numbers(MIDDLE, "198.18.0.2", PORT, 30, 1, 1);
    send_numbers(LEFT, "198.18.0.2", PORT, 30, 1, 1);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(counter.end().len(), 60, "with a new port, from the host itself and as copies");
    assert_eq!(forwarder.packets(&["dev", "left", "ingress"]), 30);
    assert_eq!(forwarder.packets(&["dev", "right", "egress"]), 60);
    forwarder.stop();
}

/// `auto` takes workers; a rule that these cannot do brings another mode for all devices, with the reason, and is not needed for ever.
#[test]
fn auto_goes_on_to_what_can_do_all_rules_and_back() {
    let Some(_turn) = turn() else { return };
    let before = left::programs();
    let _wires = wires();
    let marking = RULES.replace(
        "protocol ip u32 match ip dst 198.18.0.2/32",
        "protocol ip u32 match ip dst 198.18.0.9/32 action skbedit mark 7 pipe action ok
tc filter add dev left parent ffff: prio 2 protocol ip u32 match ip dst 198.18.0.2/32",
    );
    let (file, plain) = (rules(&marking), rules(RULES));
    let forwarder =
        Forwarder::start(MIDDLE, &[&file.path().display().to_string()], "[device.left]\nmode = \"auto\"\n", &[]);
    assert!(forwarder.started.contains("left: in the kernel (tcx)"), "{}", forwarder.started);
    assert!(
        forwarder.started.contains("not af-xdp or af-packet: left ingress chain 0 prio 1"),
        "{}",
        forwarder.started
    );
    assert_eq!(arrive(50), 50);
    let modes = |forwarder: &Forwarder| {
        let status = forwarder.status();
        let devices = status["devices"].as_array().unwrap();
        devices.iter().map(|d| d["mode"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    forwarder.ask(&["reload", &plain.path().display().to_string()]);
    assert!(modes(&forwarder).iter().all(|mode| mode.starts_with("af-xdp")), "{:?}", modes(&forwarder));
    assert_eq!(arrive(50), 50);
    assert_eq!(forwarder.packets(&["dev", "left", "ingress"]), 50);
    // One command more: what was counted stays.
    let line = "tc filter add dev right ingress prio 9 protocol ip u32 match ip dst 198.18.0.9/32 action skbedit mark 7 pipe action ok";
    let words: Vec<&str> = line.split_whitespace().collect();
    let tc = |words: &[&str]| command(Some(MIDDLE), words).env("VISCUM_SOCKET", forwarder.socket()).output().unwrap();
    let added = tc(&words);
    assert!(added.status.success(), "{}", text(&added.stderr));
    assert!(modes(&forwarder).iter().all(|mode| mode == "in the kernel (tcx)"), "{:?}", modes(&forwarder));
    assert_eq!(arrive(50), 50);
    assert_eq!(forwarder.packets(&["dev", "left", "ingress"]), 100);
    // What no mode can do is told mode by mode, and nothing has changed.
    let line = "tc filter add dev right ingress prio 10 protocol ip u32 match ip dst 198.18.0.9/32 \
                action police rate 1mbit burst 10k conform-exceed drop/ok action ok";
    let refused = tc(&line.split_whitespace().collect::<Vec<_>>());
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    for part in ["not af-xdp or af-packet: right ingress", "not tc-bpf: right ingress", "not xdp: ", "not tc: "] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    assert_eq!(arrive(50), 50);
    assert_eq!(forwarder.packets(&["dev", "left", "ingress"]), 150);
    forwarder.stop();
    assert_eq!(left::programs(), before);
}
