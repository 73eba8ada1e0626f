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
        text.lines().map(|l| without_headroom(case, serde_json::from_str(l).unwrap())).collect()
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

/// Two filters of `u32_offsets` (prio 14 and 15) have a key before the MAC header: the kernel reads whatever is in the
/// headroom there, viscum does not match. All else of that case is compared.
fn reads_headroom(case: &Path, line: &str) -> bool {
    case.ends_with("u32_offsets") && (line.contains("pref 14 ") || line.contains("pref 15 "))
}

fn without_headroom(case: &Path, mut frame: Value) -> Value {
    frame["hits"].as_object_mut().unwrap().retain(|name, _| !reads_headroom(case, name));
    frame
}

/// `tc.log` without what two commands print that only show, and in a form that is not ours: `tc -p` and `-r` (keys in words, flags), `tc -j` (6.1 repeats the key `match`), and
/// `chain show`, where tc 6.1 prints a chain with a template twice.
fn log_without_shows(text: &str) -> String {
    let mut skipping = false;
    let mut out = String::new();
    for line in text.lines() {
        if line.starts_with('[') {
            skipping = line.contains(" tc -p ")
                || line.contains(" tc -j ")
                || line.contains(" tc -r ")
                || line.contains(" chain show ");
        }
        // Qdiscs that the kernel gives a device by itself have no handle; viscum knows those of the rules.
        let own = line.starts_with("    out: qdisc ") && line.contains(" 0: root ");
        if !(own || skipping && line.starts_with("    out:")) {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// The listing without the blocks of those filters.
fn listing_without_headroom(case: &Path, text: &str) -> String {
    let mut skipping = false;
    let mut out = String::new();
    for line in text.lines() {
        if line.starts_with("filter ") {
            skipping = reads_headroom(case, line);
        }
        if !skipping {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

fn text_difference(case: &Path, name: &str, want: &Path, have: &Path) -> Option<String> {
    let [want, have] = [want, have].map(|p| {
        let text = mask_times(&fs::read_to_string(p).unwrap());
        if name == "tc.log" { log_without_shows(&text) } else { listing_without_headroom(case, &text) }
    });
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
