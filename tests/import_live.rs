//! `viscum import` on this machine's kernel: rules that its own tc loaded come back as rules that viscum lists as tc does.

use std::collections::BTreeMap;

use viscum::tc::{AnyDevice, Store, load_into, parse_script};

use crate::support::forwarder::viscum;
use crate::support::testbed::is_root;

/// A namespace with a veth pair, removed when dropped.
struct Place(String);

fn output(ip: &[&str]) {
    assert!(std::process::Command::new("ip").args(ip).status().unwrap().success(), "ip {ip:?}");
}

impl Place {
    fn new(tag: &str) -> Self {
        let name = format!("viscum-i{tag}-{}", std::process::id());
        output(&["netns", "add", &name]);
        let place = Self(name);
        place.ip("link add d0 type veth peer name d1");
        place.ip("link add d2 type veth peer name d3");
        place
    }

    fn ip(&self, words: &str) {
        let mut args = vec!["-n", self.0.as_str()];
        args.extend(words.split(' '));
        output(&args);
    }

    /// tc's answer, and whether it did it.
    fn tc(&self, words: &str) -> (bool, String) {
        let mut args = vec!["-n", self.0.as_str()];
        args.extend(words.split_whitespace());
        let done = std::process::Command::new("tc").args(&args).output().unwrap();
        (done.status.success(), String::from_utf8_lossy(&done.stdout).into_owned())
    }

    fn add(&self, words: &str) {
        assert!(self.tc(words).0, "tc {words}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = std::process::Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// tc's listing without what another version of tc or kernel prints otherwise: counters, times, offload, `*flowid`.
fn essence(listing: &str) -> String {
    let mut out = String::new();
    for line in listing.lines() {
        let line = line.replace("*flowid", "flowid").replace("not_in_hw", "").replace("parent ffff: ", "");
        // The kernel lets go of what was deleted a while later: until then it counts as a user of an action.
        let line = line.split(" ref ").next().unwrap_or_default();
        let line = line.split("(rule hit").next().unwrap_or_default().split("(success").next().unwrap_or_default();
        let noise = ["Sent", "backlog", "Action statistics:", "used_hw_stats", "random type"];
        let words = line.split_whitespace().collect::<Vec<_>>().join(" ");
        if !words.is_empty() && !noise.iter().any(|n| words.starts_with(n)) {
            out.push_str(&words.replace("terminal flowid 1", "flowid 1"));
            out.push('\n');
        }
    }
    out
}

fn imported(place: &Place, arguments: &[&str]) -> (i32, String) {
    let mut args = vec!["import", "-n", place.0.as_str()];
    args.extend(arguments);
    let done = viscum(None, &args);
    (done.status.code().unwrap(), String::from_utf8(done.stdout).unwrap())
}

/// That viscum lists what was imported as tc lists what is there.
fn assert_same_state(place: &Place, script: &str) {
    let mut store = Store::new();
    if script.contains("filter add") {
        load_into(&mut store, script, "import", &BTreeMap::new(), &AnyDevice)
            .unwrap_or_else(|e| panic!("{e}\n{script}"));
    }
    for hook in ["d0 ingress", "d0 egress", "d2 ingress"] {
        let (_, theirs) = place.tc(&format!("-s filter show dev {hook}"));
        let line = format!("tc -n {} -s filter show dev {hook}", place.0);
        let script_line = &parse_script(&line, "show", &BTreeMap::new()).lines[0];
        let ours = store.apply_line(script_line, &AnyDevice).map(|a| a.stdout).unwrap_or_default();
        assert_eq!(essence(&ours), essence(&theirs), "{hook}\n{script}");
    }
}

#[test]
fn u32_hash_tables_links_and_both_hooks_come_back() {
    if !is_root() {
        return;
    }
    let place = Place::new("h");
    for words in [
        "qdisc add dev d0 clsact",
        "qdisc add dev d2 ingress",
        "filter add dev d0 ingress prio 1 protocol ip u32 match ip dst 198.18.0.0/15 action mirred egress redirect dev d2",
        "filter add dev d0 egress prio 1 protocol ip u32 match ip src 198.18.0.1/32 flowid 1:1",
        "filter add dev d0 ingress prio 5 protocol ip handle 2: u32 divisor 16",
        "filter add dev d0 ingress prio 5 protocol ip u32 ht 2:3: match ip dport 12345 0xffff action mirred egress mirror dev d2",
        "filter add dev d0 ingress prio 5 protocol ip u32 match ip protocol 6 0xff link 2: offset at 0 mask 0f00 shift 6 plus 0 eat \
         hashkey mask 0x000f0000 at 12",
        "filter add dev d0 egress prio 7 protocol ip u32 match u32 0 0 flowid 1:7",
        "filter add dev d0 ingress prio 9 protocol all u32 match u16 0x1234 0xffff at nexthdr+0 indev d0 flowid 1:2",
        "filter add dev d2 ingress prio 3 protocol 802.1Q chain 4 u32 match u8 1 1 at -13 flowid 2:3",
        "filter del dev d0 egress prio 1",
        "filter add dev d0 egress prio 1 protocol all u32 match ip src 198.18.0.2/32 flowid 1:1",
    ] {
        place.add(words);
    }
    let (code, script) = imported(&place, &[]);
    assert_eq!(code, 0, "{script}");
    assert_same_state(&place, &script);
    // One device only, and a device that is not there.
    let (_, only) = imported(&place, &["--dev", "d2"]);
    assert!(only.contains("dev d2 ingress") && !only.contains("dev d0"), "{only}");
    let missing = viscum(None, &["import", "-n", &place.0, "--dev", "d9"]);
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(!missing.status.success() && said.contains("no such device") && said.contains("d2"), "{said}");
}

#[test]
fn chains_keep_the_order_in_which_they_came() {
    if !is_root() {
        return;
    }
    let place = Place::new("c");
    place.add("qdisc add dev d0 clsact");
    // They are listed as 3, 0, 7, 2; what made 3 and 0 is gone.
    for words in [
        "add dev d0 ingress prio 1 protocol ip chain 3 u32 match u32 1 1 at 0",
        "add dev d0 ingress prio 2 protocol ip u32 match u32 2 2 at 0",
        "add dev d0 ingress prio 3 protocol ip chain 7 u32 match u32 7 7 at 0",
        "add dev d0 ingress prio 4 protocol ip chain 2 u32 match u32 3 3 at 0",
        "add dev d0 ingress prio 5 protocol ip chain 7 u32 match u32 4 4 at 0",
        "add dev d0 ingress prio 6 protocol ip u32 match u32 5 5 at 0",
        "add dev d0 ingress prio 7 protocol ip chain 3 u32 match u32 6 6 at 0",
        "del dev d0 ingress prio 1 chain 3",
        "del dev d0 ingress prio 2",
    ] {
        place.add(&format!("filter {words}"));
    }
    let (code, script) = imported(&place, &[]);
    assert_eq!(code, 0, "{script}");
    assert_same_state(&place, &script);
}

#[test]
fn what_import_does_not_read_is_a_comment_and_exit_code_3() {
    if !is_root() {
        return;
    }
    let place = Place::new("b");
    place.add("qdisc add dev d0 clsact");
    place.add("filter add dev d0 ingress prio 2 protocol ip u32 match u32 0 0 flowid 1:1");
    let program = tempfile::tempdir().unwrap();
    let object = program.path().join("pass");
    // The text form of classic BPF: one instruction, which returns 0.
    std::fs::write(&object, "1,6 0 0 0,").unwrap();
    place.add(&format!("filter add dev d0 ingress prio 1 protocol all bpf bytecode-file {}", object.display()));
    let (code, script) = imported(&place, &[]);
    assert_eq!(code, 3, "{script}");
    let expected = "# left out: dev d0 ingress protocol all pref 1 bpf chain 0 handle 0x1: import does not read the classifier bpf";
    assert!(script.contains(expected) && script.contains("pref 2 handle ::800 u32"), "{script}");
}

#[test]
fn random_u32_rules_come_back() {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};
    if !is_root() {
        return;
    }
    let key = prop_oneof![
        (any::<u32>(), any::<u32>(), -4i32..16)
            .prop_map(|(v, m, at)| format!("match u32 {v:#x} {m:08x} at {}", at * 4)),
        (any::<u16>(), any::<u16>(), 0i32..20).prop_map(|(v, m, at)| format!("match u16 {v:#x} {m:04x} at {}", at * 2)),
        (any::<u8>(), 0u8..4).prop_map(|(v, at)| format!("match u8 {v:#x} 0xff at nexthdr+{at}")),
    ];
    let action = prop_oneof![
        Just("flowid 1:5".to_owned()),
        Just(String::new()),
        (1u32..4).prop_map(|index| format!("action mirred egress redirect dev d2 index {index}")),
        (4u32..6).prop_map(|index| format!("flowid 3: action mirred egress mirror dev d2 continue index {index}")),
    ];
    let hook = prop_oneof![Just("d0 ingress"), Just("d0 egress"), Just("d2 ingress")];
    let chain = prop_oneof![3 => Just(""), 1 => Just("chain 3")];
    let rule = (hook, 1u16..6, chain, proptest::collection::vec(key, 1..4), action, 0u8..8);
    let rules = proptest::collection::vec(rule, 1..14);
    let place = Place::new("r");
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    runner
        .run(&rules, |rules| {
            for device in ["d0", "d2"] {
                let _none = place.tc(&format!("qdisc del dev {device} clsact"));
                place.add(&format!("qdisc add dev {device} clsact"));
            }
            for (hook, prio, chain, keys, action, drop) in rules {
                let start = format!("filter add dev {hook} protocol ip prio {prio} {chain} u32");
                // Two keys at one place can contradict each other: tc refuses that.
                let _refused = place.tc(&format!("{start} {} {action}", keys.join(" ")));
                if drop == 0 {
                    let _missing = place.tc(&format!("filter del dev {hook} protocol ip prio {prio} {chain}"));
                }
            }
            let (code, script) = imported(&place, &[]);
            prop_assert_eq!(code, 0, "{}", script);
            assert_same_state(&place, &script);
            Ok(())
        })
        .unwrap();
}

#[test]
fn this_kernels_kinds_are_found_by_trying_them() {
    if !is_root() {
        return;
    }
    let found = viscum::host::tc::probe_kinds().unwrap();
    let place = Place::new("p");
    place.add("qdisc add dev d0 clsact");
    // A kind that the probe says is there, tc can use too, and one that is missing it cannot.
    let tries = [
        ("u32", "filter add dev d0 ingress prio 1 protocol ip u32 match u32 0 0 flowid 1:1"),
        ("matchall", "filter add dev d0 ingress prio 2 protocol ip matchall classid 1:1"),
        ("flower", "filter add dev d0 ingress prio 3 protocol ip flower classid 1:1"),
        ("gact", "actions add action gact pass index 1"),
        ("skbedit", "actions add action skbedit mark 1 index 1"),
        ("skbmod", "actions add action skbmod swap mac index 1"),
        ("mirred", "actions add action mirred egress redirect dev d0 index 1"),
        ("csum", "actions add action csum iph index 1"),
        ("vlan", "actions add action vlan pop index 1"),
    ];
    for (kind, words) in tries {
        let support = found.iter().find(|s| s.kind == kind).unwrap();
        assert_eq!(support.present, place.tc(words).0, "{support:?}");
    }
    assert!(found.iter().all(|s| s.present == s.said.is_empty()), "{found:?}");
}

/// Rules of all kinds; a kernel that has not all of them refuses some.
const ALL_KINDS: &[&str] = &[
    "qdisc add dev d0 ingress_block 7 clsact",
    "qdisc add dev d2 ingress_block 7 egress_block 9 clsact",
    "filter add block 7 prio 1 protocol ip u32 match ip dst 198.18.0.0/15 action mirred egress redirect dev d2",
    "filter add block 7 prio 1 protocol ip chain 3 u32 match ip src 198.18.0.1/32 flowid 1:1",
    "filter add block 9 prio 5 protocol ip handle 2: u32 divisor 16",
    "filter add block 9 prio 5 protocol ip u32 ht 2:3: match ip dport 12345 0xffff flowid 1:4",
    "filter add block 9 prio 5 protocol ip u32 match ip protocol 6 0xff link 2: hashkey mask 0x000f0000 at 12",
    "filter add dev d0 egress prio 1 protocol all u32 match u32 0 0 flowid 1:9",
    "chain add block 9 chain 77",
    "chain add block 7 chain 8 protocol 802.1Q flower vlan_id 0 vlan_ethtype ip ip_proto tcp dst_port 0/0xffff ip_flags frag",
    "chain add dev d0 egress chain 5 protocol mpls_uc flower mpls lse depth 2 label 0 lse depth 3",
    "filter add dev d0 egress prio 2 protocol 802.1ad flower vlan_id 200 vlan_ethtype 802.1Q cvlan_id 100 cvlan_ethtype ipv6 \
     ip_proto icmpv6 type 128/240 code 1 indev d0 classid 1:2",
    "filter add dev d0 egress prio 2 protocol 802.1ad flower vlan_ethtype ppp_ses pppoe_sid 5 ppp_proto ip dst_ip 10.0.0.0/9",
    "filter add dev d0 egress prio 3 protocol all flower num_of_vlans 2 cvlan_prio 2 action pass",
    "filter add dev d0 egress prio 4 protocol arp flower arp_op reply arp_sip 10.1.2.0/24 arp_tha 2:3:4:5:6:7/ff:0:0:0:0:1 action pass",
    "filter add dev d0 egress prio 5 protocol mpls_uc flower mpls lse depth 1 label 16 lse depth 3 ttl 63 action drop",
    "filter add dev d0 egress prio 5 protocol mpls_uc flower mpls_label 5 mpls_bos 1 hw_tc 3",
    "filter add dev d0 egress prio 6 protocol ppp_ses flower ppp_proto lcp action pass",
    "filter add dev d0 egress prio 7 protocol ip flower ip_proto udp dst_port 100-200 ip_tos 0x10/fc ip_ttl 5 ip_flags frag/nofirstfrag",
    "filter add dev d0 egress prio 7 protocol ip flower ip_proto icmp type 8 src_mac 2:0:0:0:0:0/8 skip_hw action pass",
    "filter add dev d0 egress prio 8 protocol ip handle 0x17/0xff fw indev d0 action drop",
    "filter add dev d0 egress prio 8 protocol ip handle 0x117/0xff fw classid 1:5",
    "filter add dev d0 egress prio 8 protocol ip handle 0x18/0xff fw classid 1:5 action pass",
    "filter add dev d0 egress prio 9 protocol all basic match 'cmp(u16 at 2 layer transport mask 0xff trans gt 80) and not (u32(u32 \
     0x0a000001 0xffffffff at 12) or (nbyte(GET at 20 layer 2) and meta(nf_mark shift 1 mask 0xf0 eq 16)))' action drop",
    "filter add dev d0 egress prio 9 protocol all basic match 'meta(\"d 0\" lt dev shift 1) or meta(vlan gt random)' classid 1:3",
    "filter add dev d0 egress prio 9 protocol all basic match 'nbyte(\"\\x00a(\\xff\" at 0 layer link)' action pass",
    "filter add dev d0 egress prio 10 protocol all basic action pass",
    "filter add dev d0 egress prio 11 protocol all matchall action pass",
    "filter add block 7 prio 9 protocol ip flower ip_proto tcp tcp_flags 2/3 action drop",
];

/// Whole kernels have them all; see what is said where this one has not.
#[test]
fn the_kernel_takes_back_what_was_read_of_every_kind() {
    use viscum::app::import::import;
    use viscum::host::{netns, tc};
    if !is_root() {
        return;
    }
    let place = Place::new("t");
    let words = |line: &str| -> Vec<String> {
        parse_script(&format!("tc {line}"), "rule", &BTreeMap::new()).lines[0]
            .tokens
            .iter()
            .skip(1)
            .map(|t| t.text.clone())
            .collect()
    };
    let mut refused = Vec::new();
    for line in ALL_KINDS {
        let mut args = vec!["-n".to_owned(), place.0.clone()];
        args.extend(words(line));
        if !std::process::Command::new("tc").args(&args).output().unwrap().status.success() {
            refused.push(line);
        }
    }
    let not_u32: Vec<_> = refused.iter().filter(|line| line.contains("u32 match") || line.contains("qdisc")).collect();
    assert!(not_u32.is_empty(), "{not_u32:#?}");
    eprintln!("{} of {} rules are there; without {refused:#?}", ALL_KINDS.len() - refused.len(), ALL_KINDS.len());
    let (before, snapshot) = import(Some(&place.0), None).unwrap();
    assert!(before.left_out.is_empty(), "{:#?}", before.left_out);
    let script = before.script();
    // tc makes the same of the words, and the kernel of the messages.
    for by_messages in [false, true] {
        for device in ["d0", "d2"] {
            place.add(&format!("qdisc del dev {device} clsact"));
        }
        if by_messages {
            let put_back = || -> Result<(), tc::NetlinkError> {
                let mut socket = tc::Socket::new()?;
                before.steps.iter().try_for_each(|step| tc::apply(&mut socket, &snapshot.links, &step.change))
            };
            netns::in_namespace(Some(&place.0), put_back).unwrap().unwrap();
        } else {
            let mut shell = std::process::Command::new("sh");
            assert!(shell.args(["-e", "-c", &script]).status().unwrap().success(), "{script}");
        }
        assert_eq!(import(Some(&place.0), None).unwrap().0.script(), script, "by messages: {by_messages}");
    }
    if script.contains("filter add") {
        load_into(&mut Store::new(), &script, "import", &BTreeMap::new(), &AnyDevice).unwrap();
    }
}

/// In the old method of fw the kernel does not come to the end of its own list.
#[test]
fn a_list_that_the_kernel_ends_early_is_read_prio_by_prio() {
    if !is_root() {
        return;
    }
    let place = Place::new("o");
    place.add("qdisc add dev d0 clsact");
    if !place.tc("filter add dev d0 ingress prio 3 protocol ip fw").0 {
        eprintln!("not tried: this kernel has no fw");
        return;
    }
    for words in [
        "prio 2 protocol ip chain 4 u32 match u32 1 1 at 0 flowid 1:1",
        "prio 9 protocol ip u32 match u32 2 2 at 0 flowid 1:2",
        "prio 3 protocol ip chain 4 u32 match u32 3 3 at 0 flowid 1:3",
        "prio 65535 protocol all matchall action pass",
    ] {
        place.add(&format!("filter add dev d0 ingress {words}"));
    }
    let (code, script) = imported(&place, &[]);
    assert_eq!(code, 0, "{script}");
    for line in
        ["pref 3 fw", "pref 9 handle ::800 u32", "pref 3 chain 4 handle ::800 u32", "pref 65535 handle 0x1 matchall"]
    {
        assert!(script.contains(line), "{line}\n{script}");
    }
    load_into(&mut Store::new(), &script, "import", &BTreeMap::new(), &AnyDevice).unwrap();
}
