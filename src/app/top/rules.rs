//! Rules and what they counted, out of the JSON of `viscum show -s -j`. It asks nobody.

use serde_json::Value;

/// A filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RuleCount {
    /// `eth0 ingress pref 1 u32 800::800`.
    pub name: String,
    /// What it does, in a few words.
    pub does: String,
    /// Frames that matched: what its first action counted, or a u32 filter without one.
    pub frames: u64,
    /// Their bytes, if an action counted them.
    pub bytes: u64,
}

/// All filters of a listing, each list under the command that prints it.
pub(super) fn read_rules(listing: &Value) -> Vec<RuleCount> {
    let lists = listing.as_object().into_iter().flatten();
    lists
        .flat_map(|(command, list)| {
            let hook = hook_of(command);
            list.as_array().into_iter().flatten().filter_map(move |filter| rule(&hook, filter))
        })
        .collect()
}

/// `tc -n NS -s -j filter show dev eth0 ingress`: `NS/eth0 ingress`.
fn hook_of(command: &str) -> String {
    let words: Vec<&str> = command.split_whitespace().collect();
    let netns = words.windows(2).find(|pair| pair[0] == "-n").map_or(String::new(), |pair| format!("{}/", pair[1]));
    let hook = words.iter().position(|word| *word == "show").map_or(&[][..], |at| &words[at + 1..]);
    let hook = hook.strip_prefix(&["dev"]).unwrap_or(hook);
    match hook {
        // Filters of the qdisc `ingress`.
        [device, "parent", "ffff:"] => format!("{netns}{device} ingress"),
        other => netns + &other.join(" "),
    }
}

fn rule(hook: &str, filter: &Value) -> Option<RuleCount> {
    let options = filter.get("options")?;
    if options.get("ht_divisor").is_some() {
        return None;
    }
    let word = |of: &Value, name: &str| match of.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) | None => String::new(),
    };
    let chain = Some(word(filter, "chain")).filter(|chain| !matches!(chain.as_str(), "" | "0"));
    let chain = chain.map_or(String::new(), |chain| format!(" chain {chain}"));
    let handle = ["fh", "handle"].map(|name| word(options, name)).concat();
    let name = format!("{hook} pref {} {}{chain} {handle}", word(filter, "pref"), word(filter, "kind"));
    let actions: Vec<&Value> = options.get("actions").and_then(Value::as_array).into_iter().flatten().collect();
    let (frames, bytes) = match actions.first() {
        Some(first) => {
            let stats = |name: &str| first.pointer(&format!("/stats/{name}")).and_then(Value::as_u64).unwrap_or(0);
            (stats("packets"), stats("bytes"))
        }
        // Repeated names are a list, the filter's own first.
        None => {
            let success = options.get("success");
            (success.and_then(|s| s.as_u64().or_else(|| s.get(0)?.as_u64())).unwrap_or(0), 0)
        }
    };
    let does = actions.iter().map(|action| {
        let to = Some(word(action, "to_dev")).filter(|to| !to.is_empty());
        word(action, "kind") + &to.map_or(String::new(), |to| format!(" to {to}"))
    });
    Some(RuleCount { name: name.trim_end().to_owned(), does: does.collect::<Vec<_>>().join(", "), frames, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn filters_have_a_name_and_what_they_counted_and_nothing_else_is_one() {
        let listing = json!({
            "tc -n ns -s -j filter show dev v0 ingress": [
                {"protocol": "ip", "pref": 1, "kind": "u32", "chain": 0},
                {"protocol": "ip", "pref": 1, "kind": "u32", "chain": 0, "options": {"fh": "800:", "ht_divisor": 1}},
                {"protocol": "ip", "pref": 1, "kind": "u32", "chain": 0, "options": {"fh": "800::800", "success": [9, 8],
                    "actions": [{"order": 1, "kind": "skbmod", "stats": {"bytes": 700, "packets": 7}},
                                {"order": 2, "kind": "mirred", "to_dev": "v1", "stats": {"bytes": 1, "packets": 1}}]}},
                {"protocol": "ip", "pref": 2, "kind": "u32", "chain": 3, "options": {"fh": "801::800", "success": [5, 4]}},
                {"protocol": "all", "pref": 9, "kind": "flower", "chain": 0, "options": {"handle": 1}}
            ],
            "tc -s -j filter show dev v1 parent ffff:": [
                {"protocol": "ip", "pref": 7, "kind": "matchall", "chain": 0, "options": {"handle": "0x1"}}
            ],
            "tc -s -j filter show dev v1 egress": "nonsense"
        });
        let rule =
            |name: &str, does: &str, frames, bytes| RuleCount { name: name.into(), does: does.into(), frames, bytes };
        assert_eq!(
            read_rules(&listing),
            [
                rule("ns/v0 ingress pref 1 u32 800::800", "skbmod, mirred to v1", 7, 700),
                rule("ns/v0 ingress pref 2 u32 chain 3 801::800", "", 5, 0),
                rule("ns/v0 ingress pref 9 flower 1", "", 0, 0),
                rule("v1 ingress pref 7 matchall 0x1", "", 0, 0),
            ]
        );
        assert_eq!(read_rules(&Value::Null), []);
    }
}
