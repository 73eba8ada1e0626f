//! Golden cases: a real kernel's and a real tc's answers, line by line.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::rules::{CounterSource, Counters};
use crate::tc::script::parse_script;
use crate::tc::{AnyDevice, Clock, Devices, ListOptions, Selection, Store, TcError};
use crate::types::DeviceKey;

/// A golden case: the script, its environment and devices, and what came out.
pub(super) struct Case {
    pub name: String,
    pub rules: String,
    pub after: String,
    pub env: BTreeMap<String, String>,
    devices: Vec<DeviceKey>,
    show: Vec<DeviceKey>,
    out: PathBuf,
}

impl Devices for Case {
    fn exists(&self, key: &DeviceKey) -> bool {
        key.name == "lo" || self.devices.contains(key)
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// All cases there are.
pub(super) fn cases() -> Vec<Case> {
    let mut names: Vec<String> = std::fs::read_dir(root())
        .expect("tests/golden is there")
        .map(|e| e.expect("readable").file_name().to_string_lossy().into_owned())
        .filter(|n| root().join(n).join("case.toml").exists())
        .collect();
    names.sort();
    assert!(names.len() >= 10, "only {names:?}");
    names.iter().map(|n| case(n)).collect()
}

fn case(name: &str) -> Case {
    let dir = root().join(name);
    let toml: toml::Table = std::fs::read_to_string(dir.join("case.toml")).unwrap().parse().unwrap();
    let text = |v: &toml::Value| v.as_str().unwrap_or_default().to_owned();
    let env = toml.get("env").and_then(|e| e.as_table()).into_iter().flatten();
    let devices: Vec<DeviceKey> = toml["device"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| DeviceKey::new(d.get("netns").and_then(|n| n.as_str()), &text(&d["name"])))
        .collect();
    let show = match toml.get("show").and_then(|s| s.as_array()) {
        None => devices.clone(),
        Some(names) => names.iter().map(|n| devices.iter().find(|d| d.name == text(n)).unwrap().clone()).collect(),
    };
    Case {
        name: name.to_owned(),
        rules: std::fs::read_to_string(dir.join("rules.tc")).unwrap(),
        after: std::fs::read_to_string(dir.join("after.tc")).unwrap_or_default(),
        env: env.map(|(k, v)| (k.clone(), text(v))).collect(),
        devices,
        show,
        out: dir.join("out"),
    }
}

/// One command of a log: number, exit code, text, stdout, stderr.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    line: usize,
    exit_code: u8,
    text: String,
    out: Vec<String>,
    err: Vec<String>,
}

fn log(case: &Case, name: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in std::fs::read_to_string(case.out.join(name)).unwrap_or_default().lines() {
        if let Some(text) = line.strip_prefix("    out: ") {
            entries.last_mut().unwrap().out.push(text.to_owned());
        } else if let Some(text) = line.strip_prefix("    err: ") {
            entries.last_mut().unwrap().err.push(text.to_owned());
        } else if let Some((number, rest)) = line.strip_prefix('[').and_then(|l| l.split_once("] rc=")) {
            let (code, text) = rest.split_once(' ').unwrap_or((rest, ""));
            entries.push(Entry {
                line: number.parse().unwrap(),
                exit_code: code.parse().unwrap(),
                text: text.to_owned(),
                out: Vec::new(),
                err: Vec::new(),
            });
        }
    }
    entries
}

fn is_unsupported(error: &TcError) -> bool {
    error.messages.iter().any(|m| m.starts_with("viscum does not support"))
}

fn applied(case: &Case) -> Store {
    let mut store = Store::new();
    for line in &parse_script(&case.rules, "rules.tc", &case.env).lines {
        let _ = store.apply_line(line, case);
    }
    store
}

/// Whether a case needs words that are refused by name; its listings cannot be the same then.
fn supported(case: &Case) -> bool {
    let mut store = Store::new();
    let script = parse_script(&case.rules, "rules.tc", &case.env);
    script.lines.iter().all(|line| !matches!(store.apply_line(line, case), Err(e) if is_unsupported(&e)))
}

/// The kernel loaded modules in the middle of these cases and skipped ids of u32 tables: the replay of the same cases knows which.
fn skips_ids(case: &Case) -> bool {
    matches!(case.name.as_str(), "egress" | "listings")
}

#[test]
fn every_line_ends_with_the_exit_code_and_messages_of_tc() {
    let mut wrong = Vec::new();
    for case in cases() {
        let script = parse_script(&case.rules, "rules.tc", &case.env);
        let mut store = Store::new();
        let entries = log(&case, "tc.log");
        assert_eq!(script.lines.len(), entries.len(), "{}", case.name);
        for (line, expected) in script.lines.iter().zip(&entries) {
            assert_eq!((line.number, &line.text), (expected.line, &expected.text), "{}", case.name);
            let (code, out, err) = match store.apply_line(line, &case) {
                Ok(a) => (0, a.stdout, a.stderr),
                Err(e) if is_unsupported(&e) => continue,
                Err(e) => (e.exit_code, String::new(), e.messages),
            };
            // The replay of the same cases compares JSON as values, and knows what a kernel's modules do to ids and warnings.
            let same_out = case.name == "listings"
                || line.text == "tc"
                || line.text == "tc -V"
                || line.text.contains("qdisc show")
                || line.text.starts_with("tc -j")
                || mask_times(&out).trim_end() == mask_times(&expected.out.join("\n")).trim_end();
            let offload = |text: &String| !text.contains("Failed to setup tc actions for offload");
            let told: Vec<String> = expected.err.iter().filter(|e| offload(e)).cloned().collect();
            let same_err = err == expected.err || err == told || line.text == "tc";
            if code != expected.exit_code || !same_err || !same_out {
                wrong.push(format!("{} {expected:#?}\ngot {code} {err:#?}\n{out}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

/// Times differ from run to run.
fn mask_times(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut words: Vec<&str> = line.split(' ').collect();
        for i in 1..words.len() {
            if matches!(words[i - 1], "installed" | "used" | "firstused") {
                words[i] = "N";
            }
        }
        out.push_str(&words.join(" ").replace(" firstused N sec", ""));
        out.push('\n');
    }
    out
}

/// All numbers of statistics as 0, and times as N.
fn mask_statistics(text: &str) -> String {
    let mut out = String::new();
    for line in mask_times(text).lines() {
        let counted = ["(rule hit", "(success", "Sent "].iter().filter_map(|m| line.find(m)).min();
        let at = counted.unwrap_or(line.len());
        out.push_str(&line[..at]);
        let mut in_number = false;
        for c in line[at..].chars() {
            if !c.is_ascii_digit() {
                out.push(c);
            } else if !in_number {
                out.push('0');
            }
            in_number = c.is_ascii_digit();
        }
        out.push('\n');
    }
    out
}

fn selections(case: &Case, store: &Store) -> Vec<Selection> {
    let shown = |s: &Selection| case.show.iter().any(|d| Some(&d.name) == s.device.as_ref() && d.netns == s.netns);
    store.selections().into_iter().filter(shown).collect()
}

#[test]
fn listings_are_those_of_tc_byte_for_byte() {
    let mut count = 0;
    for case in cases().into_iter().filter(|case| supported(case) && !skips_ids(case)) {
        let store = applied(&case);
        let expected = std::fs::read_to_string(case.out.join("filters.txt")).unwrap();
        let parts: Vec<&str> = expected.split("# tc").skip(1).collect();
        for part in parts {
            let (command, body) = part.split_once('\n').unwrap();
            let options = ListOptions { stats: true, ..ListOptions::default() };
            let all = selections(&case, &store);
            let wanted = format!("tc{command}");
            let shown = |s: &&Selection| {
                s.command_line(&options) == wanted || format!("{}:", s.command_line(&options)) == wanted
            };
            let selection = all.iter().find(shown);
            let got = selection
                .map_or(String::new(), |s| store.list_filters(s, &options, &Counters::default(), &Clock { now_ms: 1 }));
            let (got, body) = (mask_statistics(&got), mask_statistics(body));
            assert_eq!(got.trim_end(), body.trim_end(), "{} tc{command}", case.name);
            count += 1;
        }
    }
    assert!(count >= 15, "{count} listings compared");
}

/// Statistics and times do not count in a comparison of JSON.
fn mask_json(value: &mut serde_json::Value) {
    if let Some(map) = value.as_object_mut() {
        for name in ["installed", "last_used", "first_used", "stats", "rule_hit", "success"] {
            map.remove(name);
        }
        map.values_mut().for_each(mask_json);
    }
    value.as_array_mut().into_iter().flatten().for_each(mask_json);
}

#[test]
fn json_is_that_of_tc_where_tc_prints_json() {
    let mut count = 0;
    for case in cases().into_iter().filter(|case| supported(case) && !skips_ids(case)) {
        let store = applied(&case);
        let text = std::fs::read_to_string(case.out.join("filters.json")).unwrap();
        let golden: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
        for selection in selections(&case, &store) {
            let options = ListOptions { stats: true, json: true, ..ListOptions::default() };
            let got = store.list_filters(&selection, &options, &Counters::default(), &Clock { now_ms: 1 });
            let mut got: serde_json::Value = serde_json::from_str(&got).expect("always valid");
            let line = selection.command_line(&options);
            let key = line.split(" dev ").nth(1).unwrap();
            let Some(expected) = golden.iter().find(|(k, _)| k.starts_with(key)).map(|(_, v)| v) else { continue };
            if expected.get("not_json").is_some() {
                continue;
            }
            let mut expected = expected.clone();
            mask_json(&mut got);
            mask_json(&mut expected);
            assert_eq!(got, expected, "{} {key}", case.name);
            count += 1;
        }
    }
    assert!(count >= 5, "{count} compared");
}

/// Counters that say their own word's number, to see that listings read the right words.
struct Echo;

impl CounterSource for Echo {
    fn word(&self, word: u32) -> u64 {
        u64::from(word) * 1000
    }
}

#[test]
fn listings_read_the_words_of_the_ruleset() {
    for case in cases() {
        let store = applied(&case);
        let ruleset = store.ruleset();
        let options = ListOptions { stats: true, ..ListOptions::default() };
        let text: String = store
            .selections()
            .iter()
            .map(|s| store.list_filters(s, &options, &Echo, &Clock { now_ms: 1 << 40 }))
            .collect();
        let used: Vec<_> = ruleset.filters().flat_map(|(_, _, f)| ruleset.filter_actions(f)).collect();
        for action in used.into_iter().map(|id| ruleset.action(id)) {
            let sent = format!("Sent {} bytes", u64::from(action.counters) * 1000);
            assert!(text.contains(&sent), "{} {sent}", case.name);
            assert!(action.counters < ruleset.counter_words);
        }
    }
}

#[test]
fn a_case_without_refused_lines_loads_as_a_whole() {
    for case in cases() {
        let refused = log(&case, "tc.log").iter().any(|e| e.exit_code != 0);
        let result = crate::tc::load(&case.rules, "rules.tc", &case.env, &AnyDevice);
        assert_eq!(result.is_err(), refused || !supported(&case), "{}", case.name);
        if let Err(diagnostics) = result {
            let text = diagnostics.to_string();
            assert!(text.contains("rules.tc:") && text.contains('^') && text.contains("hint:"), "{text}");
        }
        assert!(!case.after.contains('\0'));
    }
}
