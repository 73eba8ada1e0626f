//! Named cases: errors with their place, kernel semantics that no golden case shows, and lint on the talk's rules.

use std::collections::BTreeMap;

use crate::rules::{Action, Classifier, Counters};
use crate::tc::script::parse_script;
use crate::tc::{
    AnyDevice, Applied, Clock, Devices, Facts, ListOptions, Selection, Store, TcError, Warning, lint, load,
};
use crate::types::{DeviceKey, MacAddr};

fn run(store: &mut Store, line: &str) -> Result<Applied, TcError> {
    let script = parse_script(line, "x.tc", &BTreeMap::new());
    assert_eq!(script.lines.len(), 1, "{line}");
    store.apply_line(&script.lines[0], &AnyDevice)
}

fn store(lines: &[&str]) -> Store {
    let mut store = Store::new();
    for line in lines {
        run(&mut store, line).unwrap_or_else(|e| panic!("{line}: {e}"));
    }
    store
}

fn list(store: &Store, what: &str) -> String {
    let script = parse_script(&format!("tc filter show {what}"), "x.tc", &BTreeMap::new());
    let mut store = store.clone();
    store.apply_line(&script.lines[0], &AnyDevice).unwrap().stdout
}

const QDISC: &str = "tc qdisc add dev eth0 ingress";

#[test]
fn what_a_filter_of_a_block_on_two_devices_counted_is_added_once() {
    let ruleset = store(&[
        "tc qdisc add dev a ingress_block 1 ingress",
        "tc qdisc add dev b ingress_block 1 ingress",
        "tc filter add block 1 protocol ip prio 1 u32 match u8 0 0 at 0 action drop",
        "tc filter add block 1 protocol ip prio 2 flower ip_proto udp action drop",
    ])
    .ruleset();
    let mut all = Counters::new(ruleset.counter_words);
    let counted = Counters { words: vec![1; all.words.len()], ..Counters::default() };
    all.merge(&counted, &ruleset);
    assert_eq!(all.words, counted.words);
}

#[test]
fn a_refused_filter_leaves_the_state_untouched() {
    let mut s = store(&[QDISC, "tc filter add dev eth0 parent ffff: prio 1 protocol ip matchall action pass"]);
    let before = list(&s, "dev eth0 parent ffff:");
    for bad in [
        "tc filter add dev eth0 parent ffff: prio 1 protocol ip matchall action skbedit mark 3",
        "tc filter add dev eth0 parent ffff: prio 2 protocol ip chain 7 u32 action drop",
        "tc filter add dev eth0 parent ffff: prio 3 protocol ip matchall action skbedit mark 3 action mirred index 9",
        "tc filter add dev eth0 parent ffff: prio 3 protocol ip matchall action skbedit mark 3 action skbmod index 9",
    ] {
        assert_eq!(run(&mut s, bad).unwrap_err().exit_code, 2, "{bad}");
        assert_eq!(list(&s, "dev eth0 parent ffff:"), before, "{bad}");
    }
    assert_eq!(s.ruleset().actions.len(), 1);
    assert_eq!(s.filter_count(), 1);
}

#[test]
fn the_papers_form_shares_actions_by_index() {
    let rule = |handle, host| {
        format!(
            "tc filter add dev eth0 parent ffff: prio 1 protocol ip handle {handle} flower classid 1:1 dst_ip {host} \
             action skbmod dmac 70:00:00:00:00:00 index 1 action mirred egress redirect dev v0 index 1"
        )
    };
    let mut s = store(&[QDISC, &rule("0x1", "198.51.100.1"), &rule("0x2", "198.51.100.2")]);
    let text = list(&s, "dev eth0 parent ffff:");
    assert!(text.contains("handle 0x2 classid 1:1 \n  eth_type ipv4\n  dst_ip 198.51.100.2\n  not_in_hw\n"), "{text}");
    assert!(text.contains("index 1 ref 2 bind 2"), "{text}");
    assert_eq!(s.ruleset().actions.len(), 2);
    run(&mut s, "tc filter del dev eth0 parent ffff: prio 1 protocol ip handle 0x1 flower").unwrap();
    assert!(list(&s, "dev eth0 parent ffff:").contains("index 1 ref 1 bind 1"));
    run(&mut s, "tc filter del dev eth0 parent ffff:").unwrap();
    assert_eq!((s.ruleset().actions.len(), s.filter_count()), (0, 0));
}

#[test]
fn counter_words_stay_with_their_owner_and_are_never_reused() {
    let mut s = store(&[QDISC, "tc filter add dev eth0 parent ffff: prio 1 protocol ip matchall action pass"]);
    run(&mut s, "tc filter add dev eth0 parent ffff: prio 2 protocol ip matchall action drop").unwrap();
    let before = s.ruleset();
    run(&mut s, "tc filter del dev eth0 parent ffff: prio 1").unwrap();
    run(&mut s, "tc filter add dev eth0 parent ffff: prio 1 protocol ip matchall action drop").unwrap();
    let after = s.ruleset();
    let words = |r: &crate::rules::Ruleset, prio| {
        let filter = r.filters().find(|(_, _, f)| f.prio == prio).unwrap().2.clone();
        let Classifier::Matchall(Some(rule)) = filter.classifier else { panic!("a matchall filter") };
        rule.counters
    };
    assert_eq!(words(&before, 2), words(&after, 2));
    assert!(words(&after, 1) >= before.counter_words);
}

#[test]
fn replacing_a_u32_node_keeps_its_keys_and_changes_its_actions() {
    let mut s =
        store(&[QDISC, "tc filter add dev eth0 parent ffff: prio 1 protocol ip u32 match u32 1 ff at 0 action pass"]);
    let replace = "tc filter replace dev eth0 parent ffff: prio 1 protocol ip handle 800::800 u32 match u32 2 ff at 4 action drop";
    run(&mut s, replace).unwrap();
    let text = list(&s, "dev eth0 parent ffff:");
    assert!(text.contains("match 00000001/000000ff at 0") && text.contains("gact action drop"), "{text}");
    assert_eq!(
        run(&mut s, "tc filter add dev eth0 parent ffff: prio 1 protocol ip handle 800::800 u32 match u32 0 0 at 0")
            .unwrap_err()
            .messages[0],
        "Error: Filter already exists."
    );
}

#[test]
fn prefixes_sudo_and_netns_are_taken_as_tc_takes_them() {
    let s = store(&[
        "sudo /sbin/tc -n ns1 q a dev v0 clsact",
        "ip netns exec ns1 tc f a dev v0 egress pro ip pri 7 u32 ma ip dport 80 0xffff flowid 1:1 act goto chain 3",
    ]);
    assert_eq!(s.devices()[0], DeviceKey::new(Some("ns1"), "v0"));
    let text = list(&s, "dev v0 egress");
    assert_eq!(text, "", "another namespace");
    let selection = &s.selections()[1];
    let options = ListOptions { stats: true, ..ListOptions::default() };
    assert_eq!(selection.command_line(&options), "tc -n ns1 -s filter show dev v0 egress");
    let text = s.list_filters(selection, &options, &Counters::default(), &Clock { now_ms: 5000 });
    assert!(
        text.contains("pref 7 u32 chain 0 fh 800::800 order 2048 key ht 800 bkt 0 *flowid 1:1 not_in_hw"),
        "{text}"
    );
    assert!(text.contains("installed 4 sec used 4 sec\n"), "{text}");
}

#[test]
fn all_bad_lines_are_told_at_once_with_their_places() {
    let text = "tc qdisc add dev eth0 ingress\nip link set eth0 up\n\n# fine\ntc filter add dev eth0 parent ffff: \\\n   \
                protocol ip u32 match ip dport 99999 0xffff \\\n   action drop\ntc filter add dev eth0 parent ffff: u32 match u8 $NO 1\n";
    let diagnostics = load(text, "rules.tc", &BTreeMap::new(), &AnyDevice).unwrap_err();
    let places: Vec<_> = diagnostics.problems.iter().map(|p| (p.line, p.column, p.len)).collect();
    assert_eq!(places, [(2, 1, 2), (6, 35, 5), (8, 50, 1)], "{diagnostics}");
    let shown = diagnostics.to_string();
    assert!(shown.contains("rules.tc:6:35\n") && shown.contains("^^^^^") && shown.contains("hint: "), "{shown}");
    assert!(shown.contains("3 problems in rules.tc; nothing was applied"), "{shown}");
}

#[test]
fn a_file_without_filter_is_an_error_of_its_own() {
    for (text, expected) in [("", "is empty"), ("# nothing\n\n", "is empty"), (QDISC, "adds no filter")] {
        let diagnostics = load(text, "rules.tc", &BTreeMap::new(), &AnyDevice).unwrap_err();
        assert!(diagnostics.to_string().contains(expected), "{diagnostics}");
    }
}

#[test]
fn what_is_not_there_yet_is_refused_by_name() {
    let mut s = store(&[QDISC]);
    for (words, name) in [
        ("flow map key src", "classifier flow"),
        ("matchall action sample rate 10 group 1", "action sample"),
        ("flower ct_state +trk", "flower key ct_state"),
        ("flower enc_key_id 5", "flower key enc_key_id"),
    ] {
        let error = run(&mut s, &format!("tc filter add dev eth0 parent ffff: protocol ip {words}")).unwrap_err();
        assert!(error.messages[0].contains(name), "{words}: {error}");
    }
}

/// Texts and exit codes as tc 6.1.0 prints them for the same words.
#[test]
fn messages_are_those_of_tc() {
    let cases = [
        ("qdisc add dev d0 parent ffff:fff1 clsact", 255, "Error: \"clsact\" is a duplicate parent ID"),
        ("filter add dev d0 ingress protocol ip u32 match ip nofrag", 1, "Illegal \"match\""),
        ("filter add dev d0 ingress u32 match mark 1 1", 255, "Command line is not complete. Try option \"help\""),
        ("filter add dev d0 ingress handle 802::7 u32 order 8 match u32 0 0", 1, "\"order\" contradicts \"handle\""),
        ("filter add dev d0 ingress protocol all flower dst_ip 1.2.3.4", 1, "Illegal \"dst_ip\""),
        ("filter add dev d0 dev d1", 255, "Error: duplicate \"dev\": \"d1\" is the second value."),
        ("filter del dev d0 ingress handle 800::800", 255, "Must specify filter type when using \"handle\""),
        ("-x filter show", 255, "Option \"-x\" is unknown, try \"tc -help\"."),
        ("filter show foo", 255, " What is \"foo\"? Try \"tc filter help\""),
        ("qdisc foo", 255, "Command \"foo\" is unknown, try \"tc qdisc help\"."),
        (
            "filter add dev d0 ingress matchall action mirred egress mirror redirect dev d1",
            1,
            "Can't have both mirror and redir",
        ),
        ("filter add dev d0 ingress matchall action gact", 255, "Command line is not complete. Try option \"help\""),
        ("filter add dev d0 ingress matchall action goto foo 1", 255, "\"chain index\" expected"),
        ("filter add dev d0 ingress matchall action jump x", 255, "Invalid \"jump count\" (x)"),
        ("filter add dev d0 ingress matchall action skbedit queue_mapping x", 1, "Illegal queue_mapping"),
        ("filter add dev d0 ingress matchall action skbmod smac x", 1, "Invalid smac address x"),
        ("filter add dev d0 ingress matchall action mirred index x", 1, "Illegal \"index\""),
        (
            "filter add dev d0 ingress matchall action mirred egress redirect dev d1 index x",
            1,
            "mirred: Illegal \"index\"",
        ),
        ("filter add dev d0 ingress matchall action pass index x", 1, "Illegal \"index\""),
        ("filter add dev d0 ingress matchall action pass action", 1, "bad action empty 1"),
        ("filter add dev d0 ingress matchall foo", 1, "What is \"foo\"?"),
        ("filter add dev d0 ingress flower foo", 1, "What is \"foo\"?"),
        ("filter add dev d0 ingress protocol ip flower ip_proto zz", 1, "Illegal \"ip_proto\""),
        (
            "filter add dev d0 ingress protocol ip flower ip_proto tcp dst_port 90-80",
            1,
            "max value should be greater than min value",
        ),
        ("filter add dev d0 ingress u32 match u32 0 0 classid zz", 1, "Illegal \"classid\""),
        ("filter add dev d0 parent zz u32", 255, "Error: argument \"zz\" is wrong: Invalid parent ID"),
    ];
    for (words, code, message) in cases {
        let mut s = store(&["tc qdisc add dev d0 clsact"]);
        let error = run(&mut s, &format!("tc {words}")).unwrap_err();
        assert_eq!((error.exit_code, error.messages[0].as_str()), (code, message), "{words}");
    }
}

#[test]
fn mirred_keeps_direction_and_device() {
    let s =
        store(&[QDISC, "tc filter add dev eth0 parent ffff: matchall action mirred ingress mirror dev v1 continue"]);
    let rules = s.ruleset();
    let Action::Mirred(mirred) = &rules.actions[0].action else { panic!("mirred") };
    assert_eq!(rules.devices[mirred.device.index()].name, "v1");
    assert!(list(&s, "dev eth0 parent ffff:").contains("mirred (Ingress Mirror to device v1) continue"));
}

struct Some3;

impl Devices for Some3 {
    fn exists(&self, key: &DeviceKey) -> bool {
        ["eth0", "IMAGE_HOST_VETH", "IMAGE_CONT_VETH"].contains(&key.name.as_str())
    }
}

fn warnings(text: &str) -> Vec<Warning> {
    let env = BTreeMap::from([("specified_veth".to_owned(), "IMAGE_HOST_VETH".to_owned())]);
    let (store, _) = load(text, "rules.tc", &env, &AnyDevice).unwrap_or_else(|d| panic!("{d}"));
    let mac = |key: &DeviceKey| match key.name.as_str() {
        "IMAGE_CONT_VETH" => Some(MacAddr::new(0x70, 0, 0, 0, 0, 0)),
        "eth0" => Some(MacAddr::new(0x5c, 0xb9, 1, 0xc3, 0xd9, 0x38)),
        _ => None,
    };
    let peer = |key: &DeviceKey| {
        (key.name == "IMAGE_HOST_VETH").then(|| DeviceKey::new(Some("imagedetection"), "IMAGE_CONT_VETH"))
    };
    lint(&store, &Facts { devices: &Some3, mac: &mac, peer: &peer })
}

fn golden(name: &str) -> String {
    let path = format!("{}/tests/golden/{name}/rules.tc", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

fn codes(warnings: &[Warning]) -> Vec<(&'static str, usize)> {
    warnings.iter().map(|w| (w.code, w.line)).collect()
}

#[test]
fn lint_finds_what_is_wrong_with_step_4_as_printed() {
    let found = warnings(&golden("seed_step4_literal"));
    for code in ["port-mask", "impossible-flags", "port-offset", "source-port"] {
        assert!(codes(&found).contains(&(code, 4)), "{code}: {found:#?}");
    }
    let mask = found.iter().find(|w| w.code == "port-mask").unwrap();
    assert!(mask.text.contains("256 ports match, 57, 313, 569, 825, … 65337"), "{mask}");
}

#[test]
fn lint_finds_the_double_rule_of_step_6_and_the_direction_of_step_4() {
    let second = "tc filter add dev $specified_veth parent ffff: prio 2 protocol ip u32 match ip protocol 0x6 0xff \
                  match ip sport 12345 0xff match u8 0x12 0xff at 33 action skbedit ptype host \
                  action skbmod dmac e4:d3:f1:b1:b4:83 action skbmod smac 5c:b9:01:c3:d9:38 action mirred egress redirect dev eth0\n";
    let as_shown = golden("seed_step6_as_shown");
    let first = as_shown.split("tc filter add dev $specified_veth parent ffff: prio 2").next().unwrap();
    let printed = format!("{}\n{first}{second}", golden("seed_step4_literal"));
    let found = warnings(&printed);
    let last = printed.lines().count();
    assert!(codes(&found).contains(&("shadowed", last)), "{found:#?}");
    let direction = found.iter().find(|w| w.code == "source-port").unwrap();
    assert!(direction.line == 4 && direction.text.contains("way back"), "{direction}");
    assert!(!found.iter().any(|w| w.code == "source-port" && w.line > 12), "{found:#?}");
}

#[test]
fn lint_has_little_to_say_about_rules_that_worked() {
    let found = warnings(&golden("seed_e2e_in"));
    let unexpected: Vec<_> = found.iter().filter(|w| !matches!(w.code, "port-mask" | "port-offset")).collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    let clean = "tc qdisc add dev eth0 ingress\ntc filter add dev eth0 parent ffff: protocol ip prio 1 u32 match ip nofrag \
                 match ip ihl 5 0xf match ip protocol 6 0xff match ip dport 12345 0xffff action drop";
    assert_eq!(warnings(clean), []);
}

#[test]
fn lint_finds_loops_missing_devices_wrong_macs_and_keys_before_the_frame() {
    let add = |rest: &str| format!("{QDISC}\ntc filter add dev eth0 parent ffff: protocol ip prio 1 {rest}");
    for (rules, code) in [
        (add("matchall action mirred egress redirect dev nosuch"), "no-device"),
        (add("matchall action mirred ingress redirect dev eth0"), "redirect-loop"),
        (add("matchall action mirred egress redirect dev eth0"), "redirect-loop"),
        (add("matchall action skbedit ptype host action mirred egress redirect dev IMAGE_HOST_VETH"), "packet-type"),
        (add("u32 match u32 0 0 at -20 action pass"), "before-header"),
        (add("flower ip_proto tcp tcp_flags 0x6 action pass"), "impossible-flags"),
        (add("flower ip_proto tcp dst_port 80/0xf0 action pass"), "port-mask"),
        (add("flower dst_ip 198.51.100.1/0 action pass"), "never-matches"),
        (add("flower ip_flags nofrag/firstfrag action pass"), "never-matches"),
        (add("flower ip_flags frag ip_proto udp dst_port 80 action pass"), "never-matches"),
        (add("flower num_of_vlans 1 action pass"), "never-matches"),
        (add("u32 match tcp dst 80 0xff action pass"), "port-mask"),
    ] {
        let found = warnings(&rules);
        assert!(codes(&found).contains(&(code, 2)), "{code}: {rules}\n{found:#?}");
    }
    let narrow = "\ntc filter add dev eth0 parent ffff: protocol ip prio 2 flower dst_ip 198.51.100.0/25 action drop";
    let wide = add("flower dst_ip 198.51.100.0/24 action pass");
    assert!(codes(&warnings(&format!("{wide}{narrow}"))).contains(&("shadowed", 3)));
}

#[test]
fn a_selection_of_everything_names_devices_and_parents() {
    let s = store(&[QDISC, "tc filter add dev eth0 parent ffff: prio 1 protocol ip matchall action pass"]);
    let text = s.list_filters(&Selection::default(), &ListOptions::default(), &Counters::default(), &Clock::default());
    assert!(text.starts_with("filter dev eth0 parent ffff: protocol ip pref 1 matchall chain 0 \n"), "{text}");
}

#[test]
fn a_refused_list_of_actions_takes_back_one_that_it_made_and_changed() {
    let mut s = store(&["tc actions add action gact pass index 1"]);
    let error = run(&mut s, "tc actions replace action gact pipe action gact drop index 2 action gact goto chain 1");
    assert!(error.is_err(), "an action by itself cannot go to a chain");
    assert_eq!(run(&mut s, "tc actions get action gact index 2").unwrap_err().exit_code, 255);
    assert!(run(&mut s, "tc actions flush action gact").is_ok());
}

#[test]
fn filters_are_listed_under_the_parent_that_the_last_one_was_added_by() {
    let mut s = store(&["tc qdisc add dev eth0 ingress", "tc filter add dev eth0 ingress prio 1 matchall action pass"]);
    assert_eq!(show(&mut s, "dev eth0 ingress"), show(&mut s, "dev eth0 parent ffff:").replace("ingress ", ""));
    run(&mut s, "tc filter add dev eth0 parent ffff: prio 2 matchall action pass").unwrap();
    assert!(show(&mut s, "dev eth0 ingress").starts_with("filter parent ffff: protocol all pref 1 matchall"));
}

#[test]
fn a_shared_block_runs_at_every_hook_that_has_it_and_goes_with_the_last() {
    let mut s = store(&[
        "tc qdisc add dev eth0 ingress_block 7 ingress",
        "tc qdisc add dev v0 egress_block 7 clsact",
        "tc filter add block 7 prio 1 matchall action drop",
    ]);
    let hooks: Vec<usize> =
        s.ruleset().hooks.iter().map(|h| h.chains.values().map(|c| c.filters.len()).sum()).collect();
    assert_eq!(hooks, [1, 0, 1], "eth0 ingress, v0 ingress, v0 egress");
    let refused = run(&mut s, "tc filter add dev eth0 ingress prio 2 matchall action drop").unwrap_err();
    assert!(refused.messages[0].contains("This filter block is shared"), "{refused:?}");
    run(&mut s, "tc qdisc del dev eth0 ingress").unwrap();
    assert_eq!((s.filter_count(), show(&mut s, "block 7").is_empty()), (1, false));
    s.forget_device(&DeviceKey::local("v0"));
    assert_eq!(s.filter_count(), 0);
    assert_eq!(run(&mut s, "tc filter show block 7").unwrap_err().messages[0], "Cannot find block \"7\"");
}

fn show(store: &mut Store, words: &str) -> String {
    run(store, &format!("tc filter show {words}")).unwrap().stdout
}
