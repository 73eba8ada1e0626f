//! `viscum run --take-over`: the kernel's own filters become viscum's and go back, while numbered datagrams flow through them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use viscum::app::config::{Config, Overrides, TakeOver};
use viscum::app::takeover::{Found, TakeOverError};
use viscum::types::DeviceKey;

use crate::live::{LEFT, MIDDLE, PORT, RIGHT, accepted, pause, wire};
use crate::support::forwarder::{Forwarder, command, text, viscum};
use crate::support::testbed::{Namespaces, sh, turn};
use crate::support::traffic::{Counter, send_numbers};

const PER_MS: u64 = 4;

/// Two wires, and between their ends what this kernel's tc can do: u32 with hash tables, links and chains, an action of its own.
fn kernel_forwards() -> Namespaces {
    let made = Namespaces::new(&[LEFT, MIDDLE, RIGHT]);
    (0..2).for_each(wire);
    let redirect = format!("match ip protocol 17 0xff match ip dport {PORT} 0xffff action mirred egress redirect");
    for words in [
        "qdisc add dev in0 clsact",
        "qdisc add dev in1 ingress",
        "actions add action mirred egress redirect dev out1 index 70",
        &format!("filter add dev in0 ingress prio 2 protocol ip u32 {redirect} dev out0"),
        "filter add dev in0 ingress prio 5 protocol ip handle 2: u32 divisor 16",
        "filter add dev in0 ingress prio 5 protocol ip u32 ht 2:3: match ip dport 12345 0xffff action mirred egress redirect dev out0",
        "filter add dev in0 ingress prio 5 protocol ip u32 match ip protocol 6 0xff link 2: offset at 0 mask 0f00 shift 6 plus 0 eat \
         hashkey mask 0x000f0000 at 12",
        "filter add dev in0 ingress prio 7 protocol ip u32 match ip protocol 99 0xff flowid 1:7",
        "filter add dev in0 ingress prio 3 protocol ip chain 4 u32 match u8 1 1 at 0 flowid 2:3",
        "chain add dev in1 ingress chain 9",
        "filter add dev in1 ingress prio 1 protocol ip u32 match ip dst 198.18.1.2/32 action mirred index 70",
    ] {
        sh(MIDDLE, &format!("tc {words}"));
    }
    made
}

/// What the kernel's tc lists; without a line about hardware, which depends on who has listed actions before.
fn listed() -> String {
    let list = |what: &str| sh(MIDDLE, &format!("tc {what}"));
    let hooks = ["in0 ingress", "in0 egress", "in1 ingress", "out0 ingress"];
    let filters = hooks.map(|hook| list(&format!("filter show dev {hook}"))).concat();
    let all = filters + &list("qdisc show") + &list("chain show dev in1 ingress");
    all.lines().filter(|line| !line.contains("used_hw_stats")).map(|line| format!("{line}\n")).collect()
}

/// That all is as before. What the kernel has deleted counts as a user of its actions for a while.
fn assert_listed(before: &str, what: &str) {
    let mut tries = 0..100;
    while listed() != before && tries.next().is_some() {
        pause(20);
    }
    assert_eq!(listed(), before, "{what}");
}

fn saved(forwarder: &Forwarder) -> PathBuf {
    Path::new(&forwarder.socket()).with_extension("taken-over.tc")
}

fn take_over(words: &[&str]) -> Forwarder {
    Forwarder::start(MIDDLE, &[], "", &[&["--take-over"], words].concat())
}

/// The numbers below `count` that did not come, after a check that none came twice.
fn lost(count: u64, mut numbers: Vec<u64>) -> Vec<u64> {
    numbers.sort_unstable();
    let twice: Vec<u64> = numbers.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0]).collect();
    assert_eq!(twice, Vec::<u64>::new(), "these came twice");
    (0..count).filter(|n| numbers.binary_search(n).is_err()).collect()
}

#[test]
fn each_datagram_comes_once_while_the_kernels_rules_go_over_and_back() {
    let Some(_turn) = turn() else { return };
    for (mode, lost_max) in [("af-xdp", 0), ("af-packet", 20), ("xdp", 0), ("tc-bpf", 0)] {
        let _made = kernel_forwards();
        let before = listed();
        assert!(before.contains("ht 2 bkt 3") && before.contains("index 70"), "{before}");
        let count = 4000 * PER_MS;
        let counter = Counter::start(RIGHT, PORT);
        let sending = std::thread::spawn(move || send_numbers(LEFT, "198.18.0.2", PORT, count, PER_MS, 1));
        pause(700);
        let forwarder = take_over(&["--give-back", "--mode", mode]);
        let now = listed();
        assert!(!now.contains("u32") && now.contains("qdisc clsact") && now.contains("chain 9"), "{mode}: {now}");
        assert!(
            forwarder.started.contains("taken over from the kernel: 6 filters of in0, in1"),
            "{}",
            forwarder.started
        );
        let script = std::fs::read_to_string(saved(&forwarder)).unwrap();
        assert!(
            script.contains("tc qdisc replace dev in0 clsact\n") && script.matches("filter add").count() == 8,
            "{script}"
        );
        pause(700);
        let shown = accepted(&forwarder, MIDDLE, "-s filter show dev in0 ingress");
        assert!(shown.contains("Egress Redirect to device out0") && shown.contains("ht 2 bkt 3"), "{shown}");
        let counted = forwarder.packets(&["in0", "ingress"]);
        assert!(counted > 600 * PER_MS, "{mode}: {counted}");
        let file = saved(&forwarder);
        let said = forwarder.stop();
        assert!(said.contains("given back to the kernel: 6 filters of in0, in1\n"), "{said}");
        assert!(!file.exists());
        assert_listed(&before, mode);
        sending.join().unwrap();
        pause(300);
        let numbers = counter.end();
        assert!(numbers.len() as u64 > counted + 600 * PER_MS, "{mode}: the kernel had the first and the last");
        let lost = lost(count, numbers);
        eprintln!("   {mode}: {counted} of {count} by viscum, lost {lost:?}");
        assert!(lost.len() <= lost_max, "{mode}: lost {lost:?}");
    }
}

/// What `viscum run` says, which must refuse.
fn refused(words: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s").display().to_string();
    let output = viscum(Some(MIDDLE), &[&["run", "--socket", &socket, "--take-over"], words].concat());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
    text(&output.stderr)
}

#[test]
fn what_viscum_cannot_do_in_the_kernels_place_is_refused_and_stays() {
    let Some(_turn) = turn() else { return };
    let _made = kernel_forwards();
    let object = tempfile::NamedTempFile::new().unwrap();
    // The text form of classic BPF: one instruction, which returns 0.
    std::fs::write(object.path(), "1,6 0 0 0,").unwrap();
    sh(
        MIDDLE,
        &format!("tc filter add dev in1 ingress prio 9 protocol all bpf bytecode-file {}", object.path().display()),
    );
    sh(MIDDLE, "tc filter add dev in0 egress prio 1 protocol ip u32 match u8 1 1 at 0 flowid 1:1");
    let before = listed();
    let said = refused(&[]);
    for word in
        ["dev in1 ingress protocol all pref 9 bpf", "the classifier bpf", "in0 egress: what the host itself", "--dev"]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
    let said = refused(&["--mode", "tc-bpf"]);
    assert!(!said.contains("in0 egress") && said.contains("pref 9 bpf"), "{said}");
    let said = refused(&["--dev", "out0"]);
    assert!(said.contains("no filters at ingress or egress of out0; those that have: in0, in1"), "{said}");
    sh(MIDDLE, "tc qdisc add dev out0 ingress_block 7 ingress");
    sh(MIDDLE, "tc filter add block 7 prio 1 protocol ip u32 match u8 1 1 at 0 flowid 1:1");
    let said = refused(&["--dev", "out0"]);
    assert!(said.contains("out0: its filters are in a block that devices share"), "{said}");
    sh(MIDDLE, "tc qdisc del dev out0 ingress");
    let said = refused(&["--dev", "nope"]);
    assert!(said.contains("no such device: nope") && said.contains("out0"), "{said}");
    sh(MIDDLE, "tc filter del dev in0 egress");
    let clean = listed();
    sh(MIDDLE, "ip link set out0 down");
    let said = refused(&["--dev", "in0"]);
    assert!(said.contains("out0 is down"), "{said}");
    sh(MIDDLE, "ip link set out0 up");
    assert_listed(&clean, "in0");
    assert_ne!(clean, before);
    // The other device alone, whose filters viscum can do.
    let forwarder = take_over(&["--dev", "in0", "--give-back"]);
    assert!(!sh(MIDDLE, "tc filter show dev in0 ingress").contains("u32"));
    assert!(sh(MIDDLE, "tc filter show dev in1 ingress").contains("bpf"));
    forwarder.stop();
    assert_listed(&clean, "in0");
}

#[test]
fn filters_at_both_hooks_go_over_to_programs_at_both() {
    let Some(_turn) = turn() else { return };
    let _made = kernel_forwards();
    sh(
        MIDDLE,
        "tc filter add dev in0 egress prio 1 protocol ip u32 match ip dst 198.18.0.1/32 action mirred egress redirect dev out0",
    );
    let before = listed();
    let forwarder = take_over(&["--mode", "tc-bpf", "--give-back"]);
    assert!(!listed().contains("u32"));
    forwarder.stop();
    assert_listed(&before, "");
}

#[test]
fn a_killed_viscum_leaves_the_filters_in_a_file() {
    let Some(_turn) = turn() else { return };
    let _made = kernel_forwards();
    let before = listed();
    let forwarder = take_over(&["--give-back"]);
    let file = saved(&forwarder);
    let script = std::fs::read_to_string(&file).unwrap();
    forwarder.kill();
    assert!(!listed().contains("u32"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("control.taken-over.tc");
    std::fs::write(&file, &script).unwrap();
    let (path, socket) = (file.display().to_string(), dir.path().join("control.sock").display().to_string());
    let again = viscum(Some(MIDDLE), &["run", "--take-over", "--socket", &socket]);
    let said = text(&again.stderr);
    assert!(!again.status.success() && said.contains(&format!("`sh {path}`")), "{said}");
    sh(MIDDLE, &format!("sh {path}"));
    assert_listed(&before, "");
    // It is a rules file as well.
    Forwarder::start(MIDDLE, &[&path], "", &[]).stop();
}

#[test]
fn without_give_back_the_file_stays_and_a_change_meanwhile_is_told() {
    let Some(_turn) = turn() else { return };
    let _made = kernel_forwards();
    let before = listed();
    let forwarder = take_over(&["--dev", "in0", "--dev", "in1"]);
    accepted(&forwarder, MIDDLE, "filter del dev in0 ingress prio 7");
    let file = saved(&forwarder);
    let kept = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(&file, kept.path()).unwrap();
    let said = forwarder.stop();
    assert!(said.contains("the kernel has no more 6 filters of in0, in1; `sh "), "{said}");
    assert!(said.contains("what was changed in viscum since then is not in them"), "{said}");
    assert!(!listed().contains("u32"));
    sh(MIDDLE, &format!("sh {}", kept.path().display()));
    assert_listed(&before, "");
}

#[test]
fn what_the_kernel_does_not_take_back_is_told_and_kept() {
    let Some(_turn) = turn() else { return };
    let _made = kernel_forwards();
    let forwarder = take_over(&["--give-back"]);
    // Somebody else's filter, of another protocol, has the number of ours.
    sh(MIDDLE, "tc filter add dev in0 ingress prio 2 protocol arp u32 match u8 0 0 at 0 flowid 1:9");
    sh(MIDDLE, "ip link del in1");
    let (success, said, errors) = forwarder.end();
    assert!(!success && said.contains("every received frame is accounted for"), "{said}{errors}");
    for word in [
        "--give-back",
        "the filter of in0 chain 0 prio 2 u32",
        "Protocol mismatch",
        "taken-over.tc` makes those that are missing",
    ] {
        assert!(errors.contains(word), "{word}: {errors}");
    }
    assert!(!errors.contains("in1"), "it is gone, and its filters with it: {errors}");
    let now = sh(MIDDLE, "tc filter show dev in0 ingress");
    assert!(
        now.contains("ht 2 bkt 3") && now.contains("flowid 1:9") && now.contains("chain 4"),
        "the others are back: {now}"
    );
}

fn found(dir: &Path, devices: &[&str]) -> Found {
    let over = Overrides { socket: Some(dir.join("s.sock")), ..Overrides::default() };
    let devices = devices.iter().map(|name| DeviceKey::new(Some(MIDDLE), name)).collect();
    Found::read(&TakeOver { devices, give_back: true }, &Config::load(None, over).unwrap()).unwrap()
}

#[test]
fn what_was_deleted_comes_back_when_not_all_can_be() {
    let Some(_turn) = turn() else { return };
    let _made = kernel_forwards();
    let (before, dir) = (listed(), tempfile::tempdir().unwrap());
    let found_first = found(dir.path(), &["in0", "in1"]);
    sh(MIDDLE, "tc qdisc del dev in1 ingress");
    let Err(error @ TakeOverError::Delete { .. }) = found_first.take_all() else {
        panic!("there is nothing to delete at in1")
    };
    assert!(error.to_string().contains("the kernel has all of its filters again"), "{error}");
    assert_listed(&before, "all");
    assert!(!dir.path().join("s.taken-over.tc").exists());
    // And a device of another namespace, there and back.
    let taken = found(dir.path(), &["in0"]).take_all().unwrap();
    assert!(!sh(MIDDLE, "tc filter show dev in0 ingress").contains("u32"));
    let told = taken.give_back().unwrap();
    assert_eq!(told, format!("given back to the kernel: 5 filters of {MIDDLE}/in0"));
    assert_listed(&before, "in0");
}

#[test]
fn import_can_be_piped_into_run() {
    let Some(_turn) = turn() else { return };
    let _made = kernel_forwards();
    let before = listed();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s").display().to_string();
    let mut import = command(Some(MIDDLE), &["import", "--dev", "in0"]).stdout(Stdio::piped()).spawn().unwrap();
    let rules = import.stdout.take().unwrap();
    let mut run = command(Some(MIDDLE), &["run", "-", "--socket", &socket]);
    let mut run = run.stdin(rules).stdout(Stdio::piped()).spawn().unwrap();
    assert!(import.wait().unwrap().success());
    let show = ["show", "in0", "ingress", "-s", "--socket", &socket];
    let mut tries = 0..200;
    while !viscum(None, &show).status.success() {
        assert!(tries.next().is_some(), "it does not start");
        pause(50);
    }
    let counter = Counter::start(RIGHT, PORT);
    send_numbers(LEFT, "198.18.0.2", PORT, 400, PER_MS, 1);
    pause(200);
    assert_eq!(counter.end(), (0..400).collect::<Vec<_>>());
    let shown = text(&viscum(None, &show).stdout);
    assert!(shown.contains("400 pkt"), "viscum had them, not the kernel's own filters: {shown}");
    kill(Pid::from_raw(i32::try_from(run.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert!(run.wait().unwrap().success());
    assert_listed(&before, "");
}
