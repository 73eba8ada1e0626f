//! `viscum probe` as a user runs it: with and without privilege, with a device and rules. Nothing is left of what was tried.

use std::io::Write;
use std::process::Command;

use serde_json::Value;
use viscum::lab::shell;

use crate::support::forwarder::{VISCUM, text, viscum};
use crate::support::left;
use crate::support::testbed::{Namespaces, sh, turn};

const PLACE: &str = "viscum-test-p";

fn json(netns: Option<&str>, words: &[&str]) -> Value {
    let output = viscum(netns, words);
    assert!(output.status.success(), "viscum {words:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a probe could change: links, qdiscs and offloads of the namespace, namespaces, programs.
fn state() -> String {
    let inside = sh(PLACE, "ip -d link show") + &sh(PLACE, "tc qdisc show") + &sh(PLACE, "ethtool -k left");
    // Other tests come and go there: only what a probe could have made.
    let outside = shell::run(None, "ip netns list").unwrap() + &shell::run(None, "ip link show").unwrap();
    let probes = outside + &left::programs();
    inside + &probes.lines().filter(|line| line.contains("probe")).collect::<Vec<_>>().join("\n")
}

#[test]
fn kernel_and_device_are_tried_and_left_as_they_were() {
    let Some(_turn) = turn() else { return };
    let _made = Namespaces::new(&["viscum-test-p"]);
    sh(PLACE, "ip link add left type veth peer name right");
    sh(PLACE, "ip link set left up");
    sh(PLACE, "ip link set right up");
    let before = state();
    let found = json(Some(PLACE), &["probe", "left", "-j"]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    // The kernel frees programs a little later than their holders end.
    while state() != before && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(state(), before);
    // This is what the other tests rely on.
    for (section, name) in [
        ("kernel", "AF_XDP sockets"),
        ("kernel", "XDP native on veth"),
        ("tc", "classifier u32"),
        ("left", "XDP native"),
        ("left", "XDP multi-buffer"),
        ("left", "AF_XDP by copy"),
        ("caller", "CAP_NET_ADMIN"),
    ] {
        assert_eq!(found[section][name]["state"], "yes", "{section} {name}: {}", found[section]);
    }
    assert_eq!(found["left"]["AF_XDP without copy"]["state"], "no");
    let said = text(&viscum(Some(PLACE), &["probe", "left", "--passive"]).stdout);
    assert!(said.contains("XDP native") && said.contains("not tried: --passive"), "{said}");
    assert!(said.contains("auto takes af-xdp for left"), "{said}");

    sh(PLACE, "ip link set right mtu 9000");
    let found = json(Some(PLACE), &["probe", "left", "-j"]);
    let auto = &found["modes"]["auto"][0];
    assert_eq!((&auto["device"], &auto["mode"]), (&"left".into(), &"af-packet".into()), "{auto}");
    assert!(auto["passed_over"][0]["why"].as_str().unwrap().contains("MTU 9000"), "{auto}");
    let missing = viscum(Some(PLACE), &["probe", "lef"]);
    assert!(!missing.status.success() && text(&missing.stderr).contains("no such device: lef"), "{missing:?}");
}

#[test]
fn rules_decide_which_modes_there_are() {
    let Some(_turn) = turn() else { return };
    let _made = Namespaces::new(&["viscum-test-p"]);
    sh(PLACE, "ip link add left type veth peer name right");
    let mut rules = tempfile::NamedTempFile::new().unwrap();
    rules
        .write_all(
            b"tc qdisc add dev left ingress\n\
              tc filter add dev left parent ffff: prio 1 protocol ip matchall action mirred egress mirror dev right pipe action ok\n",
        )
        .unwrap();
    let path = rules.path().display().to_string();
    let found = json(Some(PLACE), &["probe", "--rules", &path, "-j"]);
    let mode =
        |name: &str| found["modes"]["each"].as_array().unwrap().iter().find(|m| m["mode"] == name).unwrap().clone();
    for (name, state, why) in [
        ("af-packet", "yes", ""),
        ("af-xdp", "no", "left ingress chain 0 prio 1"),
        ("xdp", "no", "left ingress chain 0 prio 1"),
        ("tc-bpf", "yes", ""),
    ] {
        let found = mode(name);
        assert_eq!(found["state"], state, "{found}");
        assert!(found["why"].as_str().unwrap_or_default().contains(why), "{found}");
    }
    let auto = found["modes"]["auto"].as_array().unwrap();
    assert_eq!(auto.len(), 2, "both devices: {auto:?}");
    assert!(auto.iter().all(|choice| choice["mode"] == "af-packet"), "{auto:?}");

    // A mark that the host's stack is to see: nothing for workers.
    let marking = "tc qdisc add dev left ingress\n\
                   tc filter add dev left parent ffff: prio 1 protocol ip u32 match u32 0 0 action skbedit mark 7 pipe action ok\n";
    std::fs::write(rules.path(), marking).unwrap();
    let found = json(Some(PLACE), &["probe", "--rules", &path, "-j"]);
    let auto = &found["modes"]["auto"][0];
    assert_eq!(auto["mode"], "tc-bpf", "{auto}");
    let over = &auto["passed_over"][0];
    assert_eq!(over["mode"], "af-xdp or af-packet");
    assert!(over["why"].as_str().unwrap().contains("left ingress chain 0 prio 1"), "{auto}");
}

/// Without privilege it says what it could not try, and fails at nothing.
#[test]
fn without_privilege_it_names_what_it_could_not_try() {
    let Some(_turn) = turn() else { return };
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("viscum");
    std::fs::copy(VISCUM, &copy).unwrap();
    shell::run(None, &format!("chmod 755 {}", dir.path().display())).unwrap();
    let words = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let output = Command::new("setpriv").args(words).arg(&copy).args(["probe", "-j"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (section, name) in [
        ("kernel", "XDP native on veth"),
        ("kernel", "AF_PACKET sockets"),
        ("tc", "classifier u32"),
        ("tc", "action skbmod"),
    ] {
        assert_eq!(found[section][name]["state"], "untried", "{section} {name}: {}", found[section]);
    }
    assert_eq!(found["caller"]["CAP_NET_RAW"]["state"], "no");
    assert!(found["caller"]["CAP_NET_RAW"]["remedy"].as_str().unwrap().contains("setcap"));
}
