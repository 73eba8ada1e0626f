//! tc's language and state: scripts and commands are answered, listings are valid, and what was made can be deleted without a rest.

use std::collections::BTreeMap;

use serde_json::Value;
use viscum::plan::Plan;
use viscum::rules::Counters;
use viscum::tc::{
    AnyDevice, Clock, Facts, Line, ListOptions, Selection, Store, Token, command, lint, load, parse_script,
};

use super::choices::Choices;
use super::{grammar, words};

/// Enough for every interplay, and few enough that a run stays short.
const COMMANDS_MAX: usize = 24;

pub fn script(text: &str) {
    let script = parse_script(text, "fuzz.tc", &BTreeMap::new());
    let mut store = Store::new();
    for line in &script.lines {
        if let Err(error) = store.apply_line(line, &AnyDevice) {
            let problem = script.problem(line, &error);
            assert!(problem.line >= 1 && problem.column >= 1, "{problem:?}");
            assert!([1, 2, 255].contains(&error.exit_code), "{error:?}");
        }
    }
    look(&mut store);
    // All at once or nothing, with warnings.
    match load(text, "fuzz.tc", &BTreeMap::new(), &AnyDevice) {
        Ok((store, _)) => warn(&store),
        Err(diagnostics) => assert!(!diagnostics.to_string().is_empty()),
    }
}

pub fn commands(data: &[u8]) {
    let mut choices = Choices(data);
    let mut store = Store::new();
    for line in ["qdisc add dev eth0 clsact", "qdisc add dev v0 ingress"] {
        say(&mut store, line).expect("the first qdiscs are taken");
    }
    for number in 1..=COMMANDS_MAX {
        if choices.is_empty() {
            break;
        }
        let words = grammar::command(&mut choices);
        store.set_now_ms(number as u64 * 1000);
        let _refused = apply(&mut store, words);
    }
    look(&mut store);
    delete_all(&mut store);
}

fn line(words: Vec<String>) -> Line {
    let mut tokens = vec![Token { text: "tc".to_owned(), line: 1, column: 1, len: 2 }];
    for text in words {
        let column = tokens.last().map_or(1, |t| t.column + t.len + 1);
        let len = text.chars().count();
        tokens.push(Token { text, line: 1, column, len });
    }
    let command = command::parse(&tokens);
    Line { number: 1, text: String::new(), tokens, command }
}

/// Applies a command; what it lists as JSON is JSON. Its output, or its exit code.
fn apply(store: &mut Store, words: Vec<String>) -> Result<String, u8> {
    let json = words.iter().any(|w| w == "-j" || w == "-json");
    let line = line(words);
    if std::env::var_os("VISCUM_FUZZ_SAY").is_some() {
        println!("{}", line.tokens.iter().map(|t| t.text.as_str()).collect::<Vec<_>>().join(" "));
    }
    let before = store.filter_count();
    match store.apply_line(&line, &AnyDevice) {
        Ok(applied) => {
            let listed = applied.stdout.trim();
            if json && (listed.starts_with('[') || listed.starts_with('{')) {
                let parsed = serde_json::from_str::<Value>(listed);
                assert!(parsed.is_ok(), "{:?}: {}", line.tokens, applied.stdout);
            }
            Ok(applied.stdout)
        }
        Err(error) => {
            assert!([1, 2, 255].contains(&error.exit_code), "{error:?}");
            assert_eq!(store.filter_count(), before, "what is refused changes nothing: {:?}", line.tokens);
            Err(error.exit_code)
        }
    }
}

fn say(store: &mut Store, text: &str) -> Result<String, u8> {
    apply(store, text.split(' ').map(str::to_owned).collect())
}

/// Every listing of the state in every form, the checks, and the plan.
fn look(store: &mut Store) {
    let ruleset = store.ruleset();
    let counters = Counters::new(ruleset.counter_words);
    for form in [2, 3, 6, 10, 31, 1] {
        let on = |bit: u8| form & bit != 0;
        let options = ListOptions {
            stats: on(1),
            json: on(2),
            pretty: on(4),
            brief: on(8),
            details: on(16),
            ..ListOptions::default()
        };
        let listed = store.list_filters(&Selection::default(), &options, &counters, &Clock { now_ms: 99_000 });
        assert!(!options.json || serde_json::from_str::<Value>(&listed).is_ok(), "{listed}");
    }
    // One form for each input: many inputs are worth more than many forms.
    let form = usize::try_from(ruleset.counter_words).unwrap_or(0) + ruleset.actions.len();
    for options in ["-j", ["-j -p -s", "-s -j", "-d", "-p", "-o -s", "-br"][form % 6]] {
        for place in ["eth0 ingress", "eth0 egress", "eth0", "v0 ingress", "v0 root", "v1 parent 1:"] {
            let _no_such_place = say(store, &format!("{options} filter show dev {place}"));
            let _no_such_place = say(store, &format!("{options} chain show dev {place}"));
        }
        for kind in words::ACTIONS {
            let _no_such_kind = say(store, &format!("{options} actions ls action {kind}"));
        }
        let _refused = say(store, &format!("{options} qdisc show"));
    }
    warn(store);
    drop(Plan::compile(&ruleset));
}

/// Qdiscs away, then actions: nothing may be left, nothing may still be counted as in use.
fn delete_all(store: &mut Store) {
    for netns in ["", "-n x "] {
        for device in ["eth0", "v0", "v1"] {
            // What hangs on a default qdisc goes when another takes its place.
            for words in ["replace", "del"].map(|verb| format!("{netns}qdisc {verb} dev {device} root prio")) {
                say(store, &words).expect("a root qdisc can be replaced and deleted");
            }
            for place in ["ingress", "clsact"] {
                let _was_not_there = say(store, &format!("{netns}qdisc del dev {device} {place}"));
            }
        }
    }
    let left: Vec<String> = store.ruleset().devices.iter().map(ToString::to_string).collect();
    let odd = store.states().any(|(_, key, _)| !["eth0", "v0", "v1"].contains(&key.name.as_str()));
    if odd {
        return;
    }
    assert_eq!(store.filter_count(), 0, "filters are left on {left:?}");
    for netns in ["", "-n x "] {
        for kind in ["gact", "mirred", "skbedit", "skbmod", "csum", "pedit", "vlan", "nat", "police", "simple"] {
            assert_eq!(say(store, &format!("{netns}actions flush action {kind}")), Ok(String::new()), "{kind}");
            assert_eq!(say(store, &format!("{netns}actions ls action {kind}")), Ok(String::new()), "{kind}");
        }
    }
}

/// The checks of `viscum check`, without a host.
fn warn(store: &Store) {
    let facts = Facts { devices: &AnyDevice, mac: &|_| None, peer: &|_| None };
    for warning in lint(store, &facts) {
        assert!(!warning.text.is_empty() && !warning.code.is_empty(), "{warning:?}");
    }
}
