//! Every golden case, in both forms of the rules: every byte, every delivery, every counter, every listing as the real kernel's.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use viscum::app::replay::{Form, Options, Time, replay};

/// The cases that come with the project, then others of the same kinds beside it, if there are any.
pub fn cases() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> = fs::read_dir(&own).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 16, "the golden cases are missing from {}", own.display());
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden");
    let mut newer: Vec<PathBuf> =
        cases.iter().map(|c| shared.join(c.file_name().unwrap())).filter(|c| c.is_dir()).collect();
    cases.append(&mut newer);
    cases
}

fn run(case: &Path, form: Form, out: &Path) {
    let options = Options {
        rules: case.join("rules.tc"),
        input: case.join("in.pcap"),
        device: None,
        topology: Some(case.join("case.toml")),
        out: out.to_owned(),
        form,
        time: Time::Replay,
    };
    replay(&options, &mut |_| {}).unwrap_or_else(|e| panic!("{}: {e}", case.display()));
}

/// What differs between the results and the kernel's, one line each.
pub fn differences(case: &Path, out: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for dir in [case.join("out"), out.to_owned()] {
        for entry in fs::read_dir(&dir).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".pcap") {
                let [want, have] =
                    [case.join("out"), out.to_owned()].map(|d| fs::read(d.join(&name)).unwrap_or_default());
                if want != have {
                    found.push(format!("{name}: {} bytes, the kernel's has {}", have.len(), want.len()));
                }
            }
        }
    }
    let frames = |dir: &Path| -> Vec<Value> {
        let text = fs::read_to_string(dir.join("frames.jsonl")).unwrap();
        let text = if dir.starts_with(case) { without_skipped_ids(case, &text) } else { text };
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    let (want, have) = (frames(&case.join("out")), frames(out));
    if want.len() != have.len() {
        found.push(format!("{} frames, the kernel had {}", have.len(), want.len()));
    }
    for (want, have) in want.iter().zip(&have).filter(|(w, h)| w != h) {
        found.push(format!("frame {}:\n    kernel {want}\n    ours   {have}", want["n"]));
    }
    for name in ["filters.txt", "tc.log"] {
        found.extend(text_difference(case, name, &case.join("out").join(name), &out.join(name)));
    }
    found.sort();
    found.dedup();
    found
}

/// u32 table ids that a kernel skipped because it had to load a module while it made a filter, and began anew with the next id: case,
/// its id, and the one that a kernel with its modules loaded takes.
const SKIPPED_IDS: &[(&str, &str, &str)] =
    &[("egress", "803", "802"), ("egress", "805", "803"), ("listings", "80d", "80c")];

fn without_skipped_ids(case: &Path, text: &str) -> String {
    let mut text = text.to_owned();
    for (_, id, other) in SKIPPED_IDS.iter().filter(|(name, _, _)| case.ends_with(name)) {
        for (before, after) in
            [("fh ", ":"), ("key ht ", " "), (" chain 0 ", "::"), ("\"fh\":\"", ":"), ("\"key_ht\":\"", "\"")]
        {
            text = text.replace(&format!("{before}{id}{after}"), &format!("{before}{other}{after}"));
        }
        // `-r` shows the handle in hex as well.
        text = text.replace(&format!("[{id}00"), &format!("[{other}00"));
    }
    text
}

/// `tc.log` without what is not ours: default qdiscs, which the kernel gives a device by itself; that an action cannot be offloaded,
/// which depends on the drivers that are loaded. JSON is compared as values: see [`canonical`].
fn log_without_own(text: &str) -> String {
    let mut out = String::new();
    let mut json: Option<String> = None;
    let end = |json: &mut Option<String>, out: &mut String| {
        out.push_str(&json.take().map_or_else(String::new, |text| canonical(&text)));
    };
    for line in text.lines() {
        if line.starts_with('[') {
            end(&mut json, &mut out);
            json = line.contains(" tc -j").then(String::new).or_else(|| line.contains(" -j ").then(String::new));
        }
        let own = line.starts_with("    out: qdisc ") && line.contains(" 0: ") && line.contains("root refcnt");
        let offload = line.starts_with("    err: Warning: act_api: Failed to setup tc actions for offload");
        match (line.strip_prefix("    out: "), &mut json) {
            (Some(text), Some(json)) => json.push_str(text),
            _ if own || offload => {}
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    end(&mut json, &mut out);
    out
}

/// JSON with every list under a key that tc 6.1 repeats reduced to its last value, as readers of repeated keys keep it. What is no JSON
/// (tc 6.1 prints text amid that of some actions) is left out, and so is ours then: `text_difference` sees to that.
fn canonical(text: &str) -> String {
    fn reduce(value: &mut Value) {
        match value {
            Value::Object(map) => {
                for (name, value) in map.iter_mut() {
                    let repeated = matches!(name.as_str(), "match" | "success" | "control_action");
                    if let (true, Value::Array(list)) = (repeated, &*value) {
                        *value = list.last().cloned().unwrap_or_default();
                    }
                    reduce(value);
                }
            }
            Value::Array(list) => {
                // Default qdiscs: see `log_without_own`.
                list.retain(|v| v["handle"] != "0:" || v.get("root").is_none());
                list.iter_mut().for_each(reduce);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    if text.is_empty() {
        return String::new();
    }
    match serde_json::from_str::<Value>(text) {
        Ok(mut value) => {
            reduce(&mut value);
            format!("    json: {value}\n")
        }
        Err(_) => NO_JSON.to_owned(),
    }
}

const NO_JSON: &str = "    json: none\n";

/// What we print where tc's own is no JSON is not compared.
fn without_unreadable(want: &str, have: &str) -> String {
    let no_json = |line: &str| format!("{line}\n") == NO_JSON;
    let skip: Vec<usize> = want.lines().enumerate().filter(|(_, l)| no_json(l)).map(|(at, _)| at).collect();
    let keep = |(at, line): (usize, &str)| {
        let ours = skip.contains(&at);
        assert!(!ours || line.starts_with("    json: ") && !no_json(line), "ours is always JSON: {line}");
        if ours { NO_JSON.to_owned() } else { format!("{line}\n") }
    };
    have.lines().enumerate().map(keep).collect()
}

fn text_difference(case: &Path, name: &str, want: &Path, have: &Path) -> Option<String> {
    let read = |path: &Path| mask_times(&fs::read_to_string(path).unwrap());
    let [want, mut have] = [without_skipped_ids(case, &read(want)), read(have)]
        .map(|text| if name == "tc.log" { log_without_own(&text) } else { text });
    if name == "tc.log" && want.lines().count() == have.lines().count() {
        have = without_unreadable(&want, &have);
    }
    if want == have {
        return None;
    }
    let line = want
        .lines()
        .zip(have.lines())
        .position(|(w, h)| w != h)
        .unwrap_or(want.lines().count().min(have.lines().count()));
    let at = |text: &str| text.lines().nth(line).unwrap_or("(end)").to_owned();
    Some(format!("{name} line {}:\n    kernel {}\n    ours   {}", line + 1, at(&want), at(&have)))
}

/// Times vary from run to run; whether there is a `firstused` does not.
fn mask_times(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut words: Vec<&str> = line.split(' ').collect();
        for at in 1..words.len() {
            if ["installed", "used", "firstused"].contains(&words[at - 1]) {
                words[at] = "T";
            }
        }
        out.push_str(&words.join(" "));
        out.push('\n');
    }
    out
}

fn check(form: Form) {
    let mut wrong = Vec::new();
    for case in cases() {
        let out = tempfile::tempdir().unwrap();
        run(&case, form, out.path());
        let differences = differences(&case, out.path());
        if !differences.is_empty() {
            let shown: Vec<String> = differences.iter().take(4).map(|d| format!("  {d}")).collect();
            wrong.push(format!("{} ({} differences)\n{}", case.display(), differences.len(), shown.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn eval_is_right_on_every_case() {
    check(Form::Eval);
}

#[test]
fn the_plan_is_right_on_every_case() {
    check(Form::Plan);
}
