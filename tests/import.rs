//! `viscum import`: what a real kernel tells of its rules becomes commands that make the same state.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use viscum::app::import::plan;
use viscum::host::tc::{
    Filter, Links, Node, PARENT_EGRESS, Place, SHARED_BLOCK, Snapshot, Subject, actions_of, assemble, decode_filter,
    encode_filter,
};
use viscum::tc::action::KINDS;
use viscum::tc::store::BlockId;
use viscum::tc::{Devices, Store, load_into, parse_script};
use viscum::types::DeviceKey;

/// The devices that there were.
struct Named(Vec<DeviceKey>);

impl Devices for Named {
    fn exists(&self, key: &DeviceKey) -> bool {
        self.0.contains(key)
    }
}

/// Messages of the kernel without their headers.
type Messages = Vec<(Subject, Vec<u8>)>;

/// A recording: `link NUMBER NAME`, then `qdisc HEX`, `chain PARENT HEX`, `filter HEX`, `action HEX`, one message of the kernel a
/// line, with its header.
fn messages(path: &Path) -> (Links, Messages) {
    let text = fs::read_to_string(path).unwrap();
    let mut links = Links::default();
    let mut messages = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let subject = match words[0] {
            "link" => {
                links.list.push((words[1].parse().unwrap(), DeviceKey::local(words[2])));
                continue;
            }
            "qdisc" => Subject::Qdisc,
            "chain" => Subject::Chain(u32::from_str_radix(words[1], 16).unwrap()),
            "filter" => Subject::Filter,
            "action" => Subject::Actions,
            other => panic!("{}: {other}", path.display()),
        };
        let hex = words[words.len() - 1];
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        messages.push((subject, (0..hex.len()).step_by(2).skip(16).map(byte).collect::<Vec<u8>>()));
    }
    (links, messages)
}

/// The state that a recording tells.
///
/// Which u32 table belongs to which prio only the living kernel could be asked; `rules` answers in its place.
fn recording(path: &Path, rules: &Store) -> Snapshot {
    let (links, messages) = messages(path);
    let names = links.clone();
    let mut is_root = |place: &Place, table: u32| {
        let of_block = || rules.shared(None, place.parent).map(|(_, state)| state);
        let of_device = || rules.state(names.key(place.device));
        let state = if place.device == SHARED_BLOCK { of_block() } else { of_device() }?;
        let block = if place.parent == PARENT_EGRESS { BlockId::Egress } else { BlockId::Ingress };
        let proto = state.block(block).chain(place.chain)?.protos.iter().find(|p| p.prio == place.prio)?;
        Some(proto.table == table)
    };
    assemble(links, messages.iter().map(|(subject, bytes)| (*subject, bytes.as_slice())), &mut is_root)
}

/// The rules of the golden case of the same name, as viscum keeps them; lines that tc refuses are passed over.
fn golden(name: &str, devices: &Named) -> Store {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = fs::read_to_string(case.join("rules.tc")).unwrap();
    let topology: toml::Table = fs::read_to_string(case.join("case.toml")).unwrap().parse().unwrap();
    let env = topology.get("env").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    let env: BTreeMap<String, String> = env.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned())).collect();
    let mut store = Store::new();
    for line in parse_script(&text, name, &env).lines {
        let _refused = store.apply_line(&line, devices);
    }
    store
}

/// All listings of a store: chains, filters and actions.
fn listings(store: &mut Store, devices: &Named) -> String {
    let mut commands = Vec::new();
    for device in devices.0.iter().map(|key| &key.name) {
        for parent in ["ingress", "egress", "parent 1:"] {
            commands.push(format!("tc chain show dev {device} {parent}"));
            commands.push(format!("tc -s filter show dev {device} {parent}"));
        }
    }
    for block in 1..4 {
        commands.push(format!("tc chain show block {block}"));
        commands.push(format!("tc -s filter show block {block}"));
    }
    for kind in KINDS {
        commands.push(format!("tc -s actions ls action {kind}"));
    }
    let mut out = String::new();
    for line in parse_script(&commands.join("\n"), "listings", &BTreeMap::new()).lines {
        // What a qdisc does not have, tc refuses to list.
        let applied = store.apply_line(&line, devices).map_or_else(|e| e.messages.join(" "), |a| a.stdout);
        out.push_str(&format!("# {}\n{applied}", line.text));
    }
    out
}

/// What cannot be imported of the recordings: the case, what is said, and how the rules lose it too.
const LEFT_OUT: &[(&str, &str, &str)] = &[
    (
        "police_syntax",
        "dev eth0 ingress protocol ip pref 68 matchall chain 0 handle 0x1: it has a burst of 3878289408 ticks at 1 in a second, \
     which tc has no words for",
        "tc filter del dev eth0 ingress pref 68",
    ),
    (
        "fw",
        "dev eth0 ingress protocol all pref 9 fw chain 0 handle 0x9: import does not read a fw filter without action and classid: the \
         kernel tells neither its mask nor its indev",
        "tc filter del dev eth0 ingress pref 9",
    ),
    // An address of prefix length 0 is not told, and a filter with one is told as one without.
    (
        "flower_changes",
        "dev eth0 ingress protocol ip pref 1 flower chain 0 handle 0x4: the kernel tells the same keys of 2 filters of this prio, which \
         tc cannot add",
        "tc filter del dev eth0 ingress protocol ip pref 1 handle 4 flower",
    ),
    (
        "flower_changes",
        "dev eth0 ingress protocol ip pref 1 flower chain 0 handle 0x5: the kernel tells the same keys of 2 filters of this prio, which \
         tc cannot add",
        "tc filter del dev eth0 ingress protocol ip pref 1 handle 5 flower",
    ),
    (
        "flower_changes",
        "dev eth0 ingress protocol ip pref 1 flower chain 0 handle 0x7: it has flower with another protocol than its filter's, which tc \
         has no words for",
        "tc filter del dev eth0 ingress protocol ip pref 1 handle 7 flower",
    ),
    // Changed to the keys of the other.
    (
        "flower_changes",
        "dev eth0 ingress protocol 802.1Q pref 3 flower chain 0 handle 0x1: the kernel tells the same keys of 2 filters of this prio, \
         which tc cannot add",
        "tc filter del dev eth0 ingress protocol 802.1Q pref 3 handle 1 flower",
    ),
    (
        "flower_changes",
        "dev eth0 ingress protocol 802.1Q pref 3 flower chain 0 handle 0x3: the kernel tells the same keys of 2 filters of this prio, \
         which tc cannot add",
        "tc filter del dev eth0 ingress protocol 802.1Q pref 3 handle 3 flower",
    ),
];

/// The order of lines does not matter where a prio was made anew: its root table is then younger than its other tables, which commands
/// cannot bring about.
fn in_any_order(name: &str, text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    if name == "u32_tables" {
        lines.sort_unstable();
    }
    let text = lines.join("\n");
    // A filter that was refused has left an action behind in that kernel (6.1), which nothing holds.
    let text = if name == "errors" { text.split("# tc -s actions").next().unwrap_or_default() } else { &text };
    // The word that named the hook last is what a listing shows; the kernel does not tell it.
    let words = ["filter parent ffff: ", "filter ingress ", "filter egress "];
    words.iter().fold(text.to_owned(), |text, word| text.replace(word, "filter "))
}

#[test]
fn what_a_real_kernel_told_becomes_the_rules_that_it_was_given() {
    let mut wrong = Vec::new();
    let mut filters = 0;
    for path in recordings() {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let links = fs::read_to_string(&path).unwrap();
        let links = links.lines().filter_map(|l| l.strip_prefix("link ")).filter_map(|l| l.split(' ').nth(1));
        let devices = Named(links.map(DeviceKey::local).collect());
        let mut rules = golden(&name, &devices);
        let import = plan(&recording(&path, &rules));
        filters += import.filters;
        let script = import.script();
        let left_out: Vec<&str> = import.left_out.iter().map(String::as_str).collect();
        if left_out
            != LEFT_OUT.iter().filter(|(case, _, _)| *case == name).map(|(_, line, _)| *line).collect::<Vec<_>>()
        {
            wrong.push(format!("{name}: {left_out:#?}"));
        }
        for (_, _, delete) in LEFT_OUT.iter().filter(|(case, _, _)| *case == name) {
            for line in parse_script(delete, "delete", &BTreeMap::new()).lines {
                rules.apply_line(&line, &devices).unwrap();
            }
        }
        let mut store = Store::new();
        if let Err(bad) = load_into(&mut store, &script, &name, &BTreeMap::new(), &devices) {
            wrong.push(format!("{name}: {bad}"));
            continue;
        }
        let [want, have] = [&mut rules, &mut store].map(|s| in_any_order(&name, &listings(s, &devices)));
        if let Some((line, (want, have))) = want.lines().zip(have.lines()).enumerate().find(|(_, (w, h))| w != h) {
            wrong.push(format!("{name} line {line}:\n  the rules  {want}\n  the import {have}\n{script}"));
        } else if want.len() != have.len() {
            wrong.push(format!("{name}: {} and {} bytes", want.len(), have.len()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(filters > 400, "the recordings are missing: {filters} filters");
}

fn recordings() -> Vec<std::path::PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/netlink");
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// What a request does not say: who uses an action is the kernel's to count.
fn without_counts(mut filter: Filter) -> Filter {
    let actions = match &mut filter.node {
        Node::U32(node) => &mut node.common.actions,
        Node::Flower(flower) => &mut flower.common.actions,
        Node::Matchall(common) => &mut common.actions,
        Node::Fw(fw) => &mut fw.common.actions,
        Node::Basic(basic) => &mut basic.common.actions,
        Node::Head | Node::U32Table(_) | Node::Other(_) => return filter,
    };
    actions.iter_mut().for_each(|action| (action.refs, action.binds) = (0, 0));
    filter
}

#[test]
fn what_a_real_kernel_told_is_encoded_and_decoded_to_the_same() {
    let mut kinds = std::collections::BTreeSet::new();
    for path in recordings() {
        let (links, messages) = messages(&path);
        for (_, payload) in messages.iter().filter(|(subject, _)| *subject == Subject::Filter) {
            let filter = without_counts(decode_filter(payload, &links).unwrap());
            if matches!(filter.node, Node::Other(_)) {
                continue;
            }
            kinds.extend(actions_of(&filter.node).iter().map(|a| a.kind.clone()));
            kinds.insert(filter.place.kind.clone());
            let again = decode_filter(&encode_filter(&filter, &links).unwrap(), &links).unwrap();
            assert_eq!(again, filter, "{}", path.display());
        }
    }
    let all = [
        "basic", "flower", "fw", "gact", "matchall", "mirred", "nat", "pedit", "police", "simple", "skbedit", "skbmod",
        "u32", "vlan",
    ];
    let missing: Vec<&&str> = all.iter().filter(|kind| !kinds.contains(**kind)).collect();
    assert!(missing.is_empty(), "no recording has {missing:?}");
}

#[test]
fn messages_with_wrong_bytes_are_told_or_understood_and_never_a_panic() {
    use rand::{Rng as _, SeedableRng as _};
    let mut random = rand::rngs::SmallRng::seed_from_u64(7);
    let mut told = 0;
    for path in recordings() {
        let (links, mut messages) = messages(&path);
        for (subject, payload) in &mut messages {
            for _ in 0..4 {
                let at = random.gen_range(0..payload.len());
                payload[at] = random.r#gen();
            }
            let len = if random.gen_bool(0.3) { random.gen_range(0..=payload.len()) } else { payload.len() };
            payload.truncate(len);
            if *subject == Subject::Filter {
                if let Ok(filter) = decode_filter(payload, &links) {
                    // Not all that is decoded can be asked for; that is told too.
                    told += usize::from(encode_filter(&filter, &links).is_err());
                } else {
                    told += 1;
                }
            }
        }
        let mut nobody_knows = |_: &Place, _| None;
        let snapshot = assemble(links, messages.iter().map(|(s, b)| (*s, b.as_slice())), &mut nobody_knows);
        let _script = plan(&snapshot).script();
    }
    assert!(told > 100, "{told}");
}
