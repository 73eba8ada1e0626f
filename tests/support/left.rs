//! What a forwarder could leave behind, as text: programs, qdiscs, filters, features, sysctls. Compared before and after.

use std::time::{Duration, Instant};

use viscum::lab::net::{APPLICATION, MEC};
use viscum::lab::shell;

use super::testbed::sh;

/// Everything of the testbed's two forwarding namespaces that a forwarder may change.
pub fn state() -> String {
    let mut text = String::new();
    for netns in [MEC, APPLICATION] {
        let links = sh(netns, "ip -d link show");
        for line in links.lines().filter(|l| l.contains("xdp") || l.contains("prog/")) {
            text += &format!("{netns}: {}\n", line.trim());
        }
        for device in devices(netns) {
            text += &format!("{netns} {device}: {}\n", sh(netns, &format!("tc qdisc show dev {device}")).trim());
            for hook in ["ingress", "egress"] {
                let filters = shell::run(Some(netns), &format!("tc filter show dev {device} {hook}"));
                text += &format!("{netns} {device} {hook}: {}\n", filters.unwrap_or_default().trim());
            }
            // What is in force. A tap's offloads are off until a reader asks for them, and "requested" in the listing until one has come.
            text += &sh(netns, &format!("ethtool -k {device}")).replace(" [requested on]", "");
            text += &sh(netns, &format!("ip -o link show {device}")).replace("LOWERLAYERDOWN", "UP");
        }
    }
    text + &programs()
}

fn devices(netns: &str) -> Vec<String> {
    let links = sh(netns, "ip -o link show");
    let names = links.lines().filter_map(|l| l.split(": ").nth(1));
    names.map(|n| n.split('@').next().unwrap().to_owned()).filter(|n| n != "lo").collect()
}

/// The loaded programs that are ours, whichever way they are attached (tcx is seen by no tc of Debian 12).
pub fn programs() -> String {
    let list = shell::run(None, "bpftool prog show").unwrap();
    list.lines().filter(|l| l.contains("name viscum")).map(|l| format!("{l}\n")).collect()
}

/// What the reader of a tap asks the kernel for, as `ethtool -k` names it.
const TAP_OFFLOADS: [&str; 4] = ["tx-checksum", "tcp-segmentation-offload", "tx-tcp", "tx-udp"];

/// As [`assert_nothing`], but for the offloads of taps, which nobody is left to put back.
pub fn assert_nothing_but_tap_offloads(before: &str) {
    wait(before, &|text| {
        let offload = |l: &&str| TAP_OFFLOADS.iter().any(|name| l.trim_start().starts_with(name));
        text.lines().filter(|l| !offload(l)).map(|l| format!("{l}\n")).collect()
    });
}

/// Waits until all is as before: the kernel frees programs a little later than their holders end.
pub fn assert_nothing(before: &str) {
    wait(before, &str::to_owned);
}

fn wait(before: &str, of: &dyn Fn(&str) -> String) {
    let before = &of(before);
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let now = of(&state());
        if now == *before {
            return;
        }
        if Instant::now() > deadline {
            let old: Vec<&str> = before.lines().collect();
            let added: Vec<&str> = now.lines().filter(|l| !old.contains(l)).collect();
            let gone: Vec<&str> = old.into_iter().filter(|l| !now.lines().any(|n| n == *l)).collect();
            panic!("something was left or changed:\n{}\nand what is gone:\n{}", added.join("\n"), gone.join("\n"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until no program of ours is loaded that was not before.
pub fn assert_no_new_programs(before: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let now = programs();
        let new: Vec<&str> = now.lines().filter(|line| !before.contains(line)).collect();
        if new.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "programs are left: {new:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
