//! The errors that a user will hit: each names the object, the reason and the next thing to try, ends with 1, and leaves nothing.

use std::path::Path;
use std::process::Command;

use crate::support::forwarder::{Forwarder, command, project, text, viscum};
use crate::support::testbed::{Namespaces, is_root, sh, turn};

const NETNS: &str = "viscum-test-e";

/// Writes a file and gives its path.
fn file(dir: &Path, name: &str, content: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path.display().to_string()
}

fn rules(from: &str, to: &str) -> String {
    format!(
        "tc qdisc add dev {from} ingress\n\
         tc filter add dev {from} parent ffff: prio 1 protocol ip u32 match ip protocol 17 0xff action mirred egress redirect dev {to}\n"
    )
}

/// What the namespace would keep of a forwarder that failed half-way.
fn kernel_state() -> String {
    let links = sh(NETNS, "ip -d link show");
    let attached = links.lines().filter(|l| l.contains("xdp")).count();
    format!("{attached} {}", sh(NETNS, "tc qdisc show"))
}

/// Runs `viscum run` in the namespace and returns what it complained of.
fn refused(dir: &Path, words: &[&str]) -> String {
    let socket = dir.join("refused.sock").display().to_string();
    let before = kernel_state();
    let output = viscum(Some(NETNS), &[&["run"], words, &["--socket", &socket]].concat());
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
    assert!(said.starts_with("viscum: "), "{said}");
    assert!(!Path::new(&socket).exists(), "{words:?} left its socket");
    assert_eq!(kernel_state(), before, "{words:?} left something attached");
    said
}

fn contains(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
}

fn network() -> Namespaces {
    let made = Namespaces::new(&[NETNS]);
    for line in [
        "ip link add d0 type veth peer name d1",
        "ip link set d0 up",
        "ip link set d1 up",
        "ip link add down0 type veth peer name down1",
        "ip link add big0 mtu 9000 type veth peer name big1 mtu 9000",
        "ip link set big0 up",
        "ip link set big1 up",
    ] {
        sh(NETNS, line);
    }
    made
}

#[test]
fn devices_that_cannot_be_served() {
    let Some(_turn) = turn() else { return };
    let (_made, dir) = (network(), tempfile::tempdir().unwrap());
    let run = |from: &str, to: &str, words: &[&str]| {
        let rules = file(dir.path(), "r.tc", &rules(from, to));
        refused(dir.path(), &[&[rules.as_str()], words].concat())
    };
    contains(&run("nosuch0", "d1", &[]), &["Cannot find device \"nosuch0\"", "r.tc:1:18", "^^^^^^^", "ip link"]);
    contains(&run("d0", "nosuch1", &[]), &["Cannot find device \"nosuch1\"", "r.tc:2:"]);
    contains(&run("down0", "d1", &[]), &["down0 is down", "ip link set down0 up"]);
    contains(&run("big0", "big1", &["--mode", "af-xdp"]), &["big0: MTU 9000", "native XDP", "3506", "--mode auto"]);
    let elsewhere = file(dir.path(), "n.tc", &rules("d0", "d1").replace("tc ", "tc -n viscum-none "));
    contains(&refused(dir.path(), &[&elsewhere]), &["network namespace \"viscum-none\"", "ip netns"]);
}

/// `auto` takes what works and says why.
#[test]
fn auto_mode_names_its_reason() {
    let Some(_turn) = turn() else { return };
    let (_made, dir) = (network(), tempfile::tempdir().unwrap());
    let rules = file(dir.path(), "r.tc", &rules("big0", "d1"));
    let forwarder = Forwarder::start(NETNS, &[&rules], "", &[]);
    contains(&forwarder.started, &["big0: af-packet", "why: MTU 9000 of its peer big1 is too large for native XDP"]);
    contains(&forwarder.started, &["d1: af-xdp", "pinned to core"]);
    forwarder.stop();
}

#[test]
fn files_that_are_no_good() {
    let Some(_turn) = turn() else { return };
    let (_made, dir) = (network(), tempfile::tempdir().unwrap());
    let good = file(dir.path(), "good.tc", &rules("d0", "d1"));
    let run = |name: &str, content: &str| refused(dir.path(), &[&file(dir.path(), name, content)]);
    contains(&run("empty.tc", "# nothing\n"), &["the rules file is empty", "empty.tc", "configs/"]);
    contains(&refused(dir.path(), &["missing.tc"]), &["missing.tc", "No such file"]);
    let bad = "tc qdisc add dev d0 ingress\n\
        tc filter add dev d0 parent ffff: prio 1 protocol ip u32 match ip protcol 17 0xff action drop\n\
        tc filter add dev d0 parent ffff: prio 2 protocol ip flower nosuchkey 5 action drop\n";
    contains(
        &run("bad.tc", bad),
        &["bad.tc:2:67", "\"protcol\"", "bad.tc:3:61", "nosuchkey", "2 problems", "nothing was applied"],
    );
    let into_the_stack = rules("d0", "d1").replace("egress redirect", "ingress redirect");
    contains(
        &run("in.tc", &into_the_stack),
        &["d0 ingress chain 0 prio 1", "mirred ingress redirect", "only the kernel can"],
    );
    let config = |content: &str| refused(dir.path(), &[&good, "--config", &file(dir.path(), "c.toml", content)]);
    contains(&config("[ring]\nrx = 1000\n"), &["ring.rx = 1000", "power of two", "try 1024"]);
    contains(&config("[ring]\nrxx = 1024\n"), &["c.toml", "line 2", "rxx", "configs/viscum.toml"]);
    contains(&config("[worker]\ncores = [4095]\n"), &["core 4095", "taskset"]);
    contains(&config("[device.d0]\ntap = \"x\"\n"), &["\"x\"", "NETNS/NAME"]);
}

#[test]
fn a_second_forwarder_and_a_foreign_program() {
    let Some(_turn) = turn() else { return };
    let (_made, dir) = (network(), tempfile::tempdir().unwrap());
    let rules = file(dir.path(), "r.tc", &rules("d0", "d1"));
    let first = Forwarder::start(NETNS, &[&rules], "", &[]);
    let pid = format!("process {}", first.pid());
    contains(&refused(dir.path(), &[&rules]), &["d0 is already served by another viscum", &pid, "stop that one first"]);
    let (others, socket) = (file(dir.path(), "o.tc", &self::rules("big0", "big1")), first.socket());
    let output = viscum(Some(NETNS), &["run", &others, "--socket", &socket]);
    assert_eq!(output.status.code(), Some(1));
    contains(&text(&output.stderr), &["another viscum listens on", &socket, "--socket"]);
    first.stop();

    let source = file(dir.path(), "pass.c", "int pass(void *context) { return 2; }\n");
    let object = dir.path().join("pass.o").display().to_string();
    let status = Command::new("clang").args(["-O2", "-target", "bpf", "-c", &source, "-o", &object]).status().unwrap();
    assert!(status.success());
    sh(NETNS, &format!("ip link set d0 xdp obj {object} sec .text"));
    for mode in ["auto", "af-xdp"] {
        let said = refused(dir.path(), &[&rules, "--mode", mode]);
        contains(&said, &["d0: cannot attach", "XDP program pass (id ", "is attached already", "detach it"]);
    }
    assert!(sh(NETNS, "ip -d link show dev d0").contains("name pass"), "the foreign program is still there");
}

#[test]
fn missing_capabilities_are_named() {
    let Some(_turn) = turn() else { return };
    let (_made, dir) = (network(), tempfile::tempdir().unwrap());
    let rules = file(dir.path(), "r.tc", &rules("d0", "d1"));
    let run = |setpriv: &[&str]| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", NETNS, "setpriv"]).args(setpriv);
        let output = command.args([crate::support::forwarder::VISCUM, "run", &rules]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr)
    };
    let said = run(&["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]);
    contains(&said, &["missing CAP_NET_ADMIN:", "sudo", "setcap"]);
    let said = run(&["--bounding-set", "-net_raw", "--inh-caps", "-net_raw"]);
    contains(&said, &["missing CAP_NET_RAW:"]);
}

#[test]
fn commands_without_a_forwarder_and_bad_captures() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock").display().to_string();
    let asks: [&[&str]; 5] =
        [&["show", "-s"], &["status"], &["bypass", "eth0"], &["nobypass", "eth0"], &["reload", "configs/alpr.tc"]];
    for words in asks {
        let output =
            command(None, words).args(["--socket", &socket]).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        contains(&text(&output.stderr), &["no forwarder answers on", &socket, "viscum run"]);
    }
    let (alpr, bad) = (project("configs/alpr.tc"), file(dir.path(), "bad.pcap", "xx"));
    let out = dir.path().join("out").display().to_string();
    let replay = |input: &str, dev: &[&str]| {
        let output = viscum(None, &[&["replay", "--rules", &alpr, "--in", input, "--out", &out], dev].concat());
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr)
    };
    contains(&replay("none.pcap", &["--dev", "eth0"]), &["none.pcap", "No such file"]);
    contains(&replay(&bad, &["--dev", "eth0"]), &["bad.pcap: neither pcap nor pcapng", "editcap"]);
    contains(&replay(&bad, &[]), &["which device", "--dev"]);
    contains(&replay(&bad, &["--dev", "eth9"]), &["eth9"]);
}

/// A forwarder that is asked for nonsense keeps forwarding, and says what is wrong.
#[test]
fn nonsense_asked_of_a_running_forwarder() {
    let Some(_turn) = turn() else { return };
    let (_made, dir) = (network(), tempfile::tempdir().unwrap());
    let first = file(dir.path(), "r.tc", &rules("d0", "d1"));
    let forwarder = Forwarder::start(NETNS, &[&first], "", &[]);
    let socket = forwarder.socket();
    let ask = |words: &[&str]| {
        let output = viscum(Some(NETNS), &[words, &["--socket", &socket]].concat());
        assert_eq!(output.status.code(), Some(1), "{words:?}: {}", text(&output.stdout));
        text(&output.stderr)
    };
    contains(&ask(&["bypass", "eth7"]), &["eth7"]);
    contains(&ask(&["nobypass", "d0"]), &["d0"]);
    contains(&ask(&["show", "eth7", "ingress"]), &["eth7 has no filters", "dev d0"]);
    let bad = file(dir.path(), "bad.tc", "tc filter add dev d0 parent ffff: prio x\n");
    contains(&ask(&["reload", &bad]), &["bad.tc:1:", "nothing was applied"]);
    // A device that cannot be served: nothing changes, here nor anywhere.
    sh(NETNS, "ip link set big1 down");
    let other = file(dir.path(), "o.tc", &rules("big0", "big1"));
    contains(&ask(&["reload", &other]), &["big1", "is down", "ip link set"]);
    let listing = forwarder.ask(&["show", "d0", "ingress"]);
    assert!(listing.contains("match 00110000/00ff0000 at 8"), "{listing}");
    forwarder.stop();
    assert!(is_root());
}
