//! Whatever the text, the front end answers; it never panics.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::tc::script::parse_script;
use crate::tc::{AnyDevice, Clock, ListOptions, Selection, Store};

const WORDS: &[&str] = &[
    "tc",
    "qdisc",
    "filter",
    "chain",
    "add",
    "del",
    "replace",
    "change",
    "show",
    "dev",
    "eth0",
    "v0",
    "parent",
    "ffff:",
    "1:",
    "root",
    "ingress",
    "egress",
    "clsact",
    "handle",
    "800::1",
    "::3",
    "800:",
    "1",
    "0",
    "65535",
    "prio",
    "protocol",
    "ip",
    "all",
    "ipv6",
    "u32",
    "flower",
    "matchall",
    "basic",
    "fw",
    "cmp(u8 at 0 eq 1)",
    "police",
    "match",
    "u8",
    "u16",
    "ip6",
    "ether",
    "src",
    "dst",
    "0xff",
    "ffffffff",
    "at",
    "-14",
    "nexthdr+",
    "nexthdr+3",
    "2147483647",
    "-2147483648",
    "mark",
    "indev",
    "order",
    "flowid",
    "1:1",
    "action",
    "gact",
    "pass",
    "drop",
    "goto",
    "jump",
    "random",
    "determ",
    "mirred",
    "redirect",
    "mirror",
    "skbedit",
    "ptype",
    "host",
    "priority",
    "queue_mapping",
    "skbmod",
    "set",
    "swap",
    "mac",
    "dmac",
    "smac",
    "02:00:00:00:00:01",
    "etype",
    "ecn",
    "index",
    "7",
    "ip_proto",
    "tcp",
    "dst_port",
    "80-90",
    "80/0xf",
    "tcp_flags",
    "0x2/0x12",
    "dst_ip",
    "10.0.0.0/8",
    "2001:db8::/33",
    "skip_sw",
    "skip_hw",
    "dst_mac",
    "02:00:00:00:00:01/44",
    "é",
    "",
    "\\",
    "'",
    "\"",
    "#",
    "$TC",
    "${",
    "-n",
    "x",
    "-s",
    "-j",
];

/// Everything that can be asked of a script.
fn exercise(text: &str) {
    let script = parse_script(text, "x.tc", &BTreeMap::new());
    let mut store = Store::new();
    for line in &script.lines {
        if let Err(error) = store.apply_line(line, &AnyDevice) {
            let problem = script.problem(line, &error);
            assert!(problem.line >= 1 && problem.column >= 1 && !problem.message.is_empty() || line.tokens.is_empty());
        }
    }
    let ruleset = store.ruleset();
    for (_, _, filter) in ruleset.filters() {
        assert!(filter.prio > 0);
    }
    for json in [false, true] {
        let options = ListOptions { stats: true, json, ..ListOptions::default() };
        let out =
            store.list_filters(&Selection::default(), &options, &crate::rules::Counters::default(), &Clock::default());
        if json {
            serde_json::from_str::<serde_json::Value>(&out).expect("always valid JSON");
        }
    }
    drop(crate::tc::load(text, "x.tc", &BTreeMap::new(), &AnyDevice).map_err(|d| d.to_string()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn random_words(lines in prop::collection::vec(prop::collection::vec(prop::sample::select(WORDS), 0..24), 1..6)) {
        let mut text = "tc qdisc add dev eth0 clsact\n".to_owned();
        for words in lines {
            text.push_str("tc filter add dev eth0 ingress protocol ip ");
            text.push_str(&words.join(" "));
            text.push('\n');
            text.push_str(&words.join(" "));
            text.push('\n');
        }
        exercise(&text);
    }

    #[test]
    fn random_text(text in "\\PC*") {
        exercise(&text);
        exercise(&format!("tc filter {text}"));
    }

    #[test]
    fn mangled_golden_lines(case in any::<prop::sample::Index>(), edits in prop::collection::vec((any::<prop::sample::Index>(), 0u8..4, any::<prop::sample::Index>()), 1..12)) {
        let cases = golden_rules();
        let mut words: Vec<String> = cases[case.index(cases.len())].split(' ').map(str::to_owned).collect();
        for (at, what, other) in edits {
            let at = at.index(words.len());
            match what {
                0 => drop(words.remove(at)),
                1 => words.insert(at, WORDS[other.index(WORDS.len())].to_owned()),
                2 => words[at] = WORDS[other.index(WORDS.len())].to_owned(),
                _ => words.truncate(at + 1),
            }
            if words.is_empty() {
                words.push(String::new());
            }
        }
        exercise(&words.join(" "));
    }
}

fn golden_rules() -> &'static [String] {
    static RULES: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    RULES.get_or_init(|| super::golden::cases().into_iter().map(|c| c.rules.replace("\\\n", " ")).collect())
}
