//! `--mode tc`: the rules in the kernel's own tc, on real devices in namespaces of the test's own. Rules of u32 and mirred, which every
//! kernel with tc has.

use std::time::Duration;

use viscum::lab::shell;

use crate::support::forwarder::{Forwarder, command, text, viscum};
use crate::support::testbed::{Namespaces, sh, turn};
use crate::support::traffic::{Counter, send_numbers, tcp_both_ways};

const LEFT: &str = "viscum-ktc-l";
const MIDDLE: &str = "viscum-ktc-m";
const RIGHT: &str = "viscum-ktc-r";
const PORT: u16 = 5001;

/// Two hosts on one wire, which has been cut: rules between them join it.
fn wires() -> Namespaces {
    let namespaces = Namespaces::new(&["viscum-ktc-l", "viscum-ktc-m", "viscum-ktc-r"]);
    let ends = [
        (LEFT, "a", "left", "02:00:00:00:00:0a", "198.18.0.1"),
        (RIGHT, "b", "right", "02:00:00:00:00:0b", "198.18.0.2"),
    ];
    for (netns, device, near, mac, address) in ends {
        sh(MIDDLE, &format!("ip link add {near} type veth peer name {device} address {mac} netns {netns}"));
        sh(MIDDLE, &format!("ip link set dev {near} up"));
        sh(netns, &format!("ip link set dev {device} up"));
        sh(netns, &format!("ip addr add {address}/24 dev {device}"));
    }
    sh(LEFT, "ip neigh add 198.18.0.2 lladdr 02:00:00:00:00:0b dev a nud permanent");
    sh(RIGHT, "ip neigh add 198.18.0.1 lladdr 02:00:00:00:00:0a dev b nud permanent");
    namespaces
}

const RULES: &str = "
tc qdisc add dev left ingress
tc qdisc add dev right clsact
tc filter add dev left parent ffff: prio 1 protocol ip u32 match ip dst 198.18.0.2/32 action mirred egress redirect dev right
tc filter add dev right ingress prio 7 protocol ip u32 match ip src 198.18.0.9/32 flowid 1:1
tc filter add dev right ingress prio 7 protocol ip u32 match ip dst 198.18.0.1/32 action mirred egress redirect dev left
";

fn rules(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

fn start(rules: &tempfile::NamedTempFile) -> Forwarder {
    Forwarder::start(MIDDLE, &[&rules.path().display().to_string()], "", &["--mode", "tc"])
}

/// A start that must fail: what it says.
fn refused(text_of_rules: &str) -> String {
    let (file, dir) = (rules(text_of_rules), tempfile::tempdir().unwrap());
    let (path, socket) = (file.path().display().to_string(), dir.path().join("s").display().to_string());
    let before = kernel();
    let output = viscum(Some(MIDDLE), &["run", &path, "--mode", "tc", "--socket", &socket]);
    assert!(!output.status.success(), "{}", text(&output.stdout));
    assert_eq!(kernel(), before);
    text(&output.stderr)
}

/// What the kernel's own tc says is there.
fn kernel() -> String {
    let hooks = [("left", "ingress"), ("right", "ingress"), ("right", "egress"), ("left", "egress")];
    let filters = hooks.map(|(device, hook)| {
        shell::run(Some(MIDDLE), &format!("tc filter show dev {device} {hook}")).unwrap_or_default()
    });
    sh(MIDDLE, "tc qdisc show") + &filters.concat()
}

/// How many of `count` datagrams from left to right arrive.
fn arrive(count: u64) -> usize {
    let counter = Counter::start(RIGHT, PORT);
    send_numbers(LEFT, "198.18.0.2", PORT, count, 1, 1);
    std::thread::sleep(Duration::from_millis(200));
    counter.end().len()
}

fn tc(forwarder: &Forwarder, words: &str) {
    let words: Vec<&str> = std::iter::once("tc").chain(words.split_whitespace()).collect();
    let done = command(Some(MIDDLE), &words).env("VISCUM_SOCKET", forwarder.socket()).output().unwrap();
    assert!(done.status.success(), "{words:?}: {}", text(&done.stderr));
}

#[test]
fn the_kernel_has_the_rules_and_viscum_shows_what_it_counts() {
    let Some(_turn) = turn() else { return };
    let _wires = wires();
    let before = kernel();
    let file = rules(RULES);
    let forwarder = start(&file);
    assert!(forwarder.started.contains("left: the kernel's own tc"), "{}", forwarder.started);
    assert!(kernel().contains("mirred (Egress Redirect to device right) stolen"), "{}", kernel());
    assert_eq!(forwarder.status()["workers"].as_array().unwrap().len(), 0);
    assert_eq!(arrive(30), 30);
    tcp_both_ways(LEFT, RIGHT, "198.18.0.2", 5002, 300_000);
    let packets = forwarder.packets(&["dev", "left", "ingress"]);
    assert!(packets > 40, "{packets}");
    assert!(forwarder.packets(&["dev", "right", "ingress"]) > 10);

    forwarder.ask(&["bypass", "left"]);
    assert!(!kernel().contains("device right"), "{}", kernel());
    assert_eq!(arrive(20), 0, "bypassed");
    forwarder.ask(&["nobypass", "left"]);
    assert_eq!(arrive(20), 20);
    assert_eq!(forwarder.packets(&["dev", "left", "ingress"]), packets + 20, "counts outlive a bypass");

    // A filter more: the other prio stays, and goes on counting in the kernel itself.
    tc(
        &forwarder,
        "filter add dev left ingress prio 3 protocol ip u32 match ip dst 198.18.0.3/32 action mirred egress mirror dev right",
    );
    assert!(kernel().contains("Egress Mirror to device right"), "{}", kernel());
    assert_eq!(arrive(20), 20);
    assert_eq!(forwarder.packets(&["dev", "left", "ingress"]), packets + 40);
    let listed = sh(MIDDLE, "tc -s filter show dev left ingress");
    assert!(listed.contains("Sent") && listed.contains(" 40 pkt"), "{listed}");
    tc(&forwarder, "filter del dev left ingress prio 3");
    assert!(!kernel().contains("Mirror"), "{}", kernel());

    // The other filter of one prio is replaced: counters of what is still there go on.
    tc(&forwarder, "filter add dev left ingress prio 1 protocol ip u32 match ip dst 198.18.0.8/32 flowid 1:1");
    assert_eq!(arrive(10), 10);
    assert_eq!(forwarder.packets(&["dev", "left", "ingress"]), packets + 50);

    std::fs::write(file.path(), RULES.replace("198.18.0.2/32", "198.18.0.77/32")).unwrap();
    forwarder.ask(&["reload", &file.path().display().to_string()]);
    assert_eq!(arrive(20), 0, "other rules");
    assert_eq!(forwarder.packets(&["dev", "left", "ingress"]), 0, "a reload counts anew");
    forwarder.stop();
    assert_eq!(kernel(), before);
}

#[test]
fn tables_and_links_of_u32_come_with_their_nodes() {
    let Some(_turn) = turn() else { return };
    let _wires = wires();
    let before = kernel();
    let table = "
tc qdisc add dev left clsact
tc filter add dev left ingress prio 5 protocol ip handle 2: u32 divisor 16
tc filter add dev left ingress prio 5 protocol ip u32 ht 2:2: match ip dst 198.18.0.2/32 action mirred egress redirect dev right
tc filter add dev left ingress prio 5 protocol ip u32 match ip protocol 17 0xff link 2: hashkey mask 0x0000000f at 16
tc filter add dev left ingress prio 6 protocol ip chain 3 u32 match ip dst 198.18.0.5/32 action mirred egress redirect dev right
tc filter add dev left egress prio 5 protocol ip u32 match ip dst 198.18.0.6/32 action mirred egress mirror dev right
";
    let forwarder = start(&rules(table));
    assert_eq!(arrive(30), 30, "{}", kernel());
    assert_eq!(forwarder.packets(&["dev", "left", "ingress"]), 30, "{}", kernel());
    tc(&forwarder, "filter add dev left ingress prio 5 protocol ip u32 ht 2:3: match ip dst 198.18.0.3/32 flowid 1:1");
    assert_eq!(arrive(30), 30, "{}", kernel());
    assert_eq!(forwarder.packets(&["dev", "left", "ingress"]), 60);
    forwarder.stop();
    assert_eq!(kernel(), before);
}

#[test]
fn what_the_kernel_lacks_and_what_others_have_is_refused_by_name() {
    let Some(_turn) = turn() else { return };
    let _wires = wires();
    let with = |rest: &str| {
        format!("tc qdisc add dev left clsact\ntc filter add dev left ingress prio 1 protocol ip {rest}\n")
    };
    let probed = viscum::host::tc::probe_kinds().unwrap();
    if probed.iter().any(|s| s.kind == "skbmod" && !s.present) {
        let said =
            refused(&with("u32 match u32 0 0 action skbmod swap mac pipe action mirred egress redirect dev right"));
        assert!(said.contains("left: this kernel's tc has no action skbmod") && said.contains("--mode auto"), "{said}");
    }
    if probed.iter().any(|s| s.kind == "fw" && !s.present) {
        let said = refused(&with("handle 5 fw flowid 1:1"));
        assert!(said.contains("left: this kernel's tc has no classifier fw"), "{said}");
    }
    let shared = with("u32 match u32 1 1 at 0 action mirred egress redirect dev right index 3")
        + "tc filter add dev left ingress prio 2 protocol ip u32 match u32 2 2 at 0 action mirred egress redirect dev right index 3\n";
    let said = refused(&shared);
    assert!(said.contains("left ingress chain 0 prio 2") && said.contains("mirred index 3"), "{said}");

    // Somebody else's filters, and qdiscs that do not do.
    sh(MIDDLE, "tc qdisc add dev left ingress");
    sh(MIDDLE, "tc filter add dev left ingress prio 9 protocol ip u32 match u32 0 0 flowid 1:1");
    let said = refused(RULES);
    assert!(said.contains("left has filters of somebody else") && said.contains("prio 9 u32"), "{said}");
    sh(MIDDLE, "tc filter del dev left ingress prio 9");
    let said = refused(&with("u32 match u32 0 0 flowid 1:1").replace("ingress prio 1", "egress prio 1"));
    assert!(said.contains("left has the qdisc ingress already") && said.contains("clsact"), "{said}");
    // A qdisc that was there is used, and stays.
    let before = kernel();
    let forwarder = start(&rules(RULES));
    assert_eq!(arrive(10), 10);
    forwarder.stop();
    assert_eq!(kernel(), before);
}

/// The one mode whose rules are not held by a descriptor: they outlive a SIGKILL, and the next start takes them away.
#[test]
fn what_a_killed_forwarder_left_goes_with_the_next_start() {
    let Some(_turn) = turn() else { return };
    let _wires = wires();
    let file = rules(RULES);
    start(&file).kill();
    assert_eq!(arrive(10), 10, "they are still there");
    let forwarder = start(&file);
    assert_eq!(arrive(10), 10);
    assert_eq!(forwarder.packets(&["dev", "left", "ingress"]), 10, "new ones");
    forwarder.stop();
    assert!(!kernel().contains("filter"), "{}", kernel());
}
