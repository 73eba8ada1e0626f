//! `basic` and `fw` where no golden case shows them: escapes that a shell's `echo` changes, what viscum refuses, the old method of fw.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::rules::{Classifier, FwFilter};
use crate::tc::script::parse_script;
use crate::tc::{AnyDevice, Applied, Facts, Store, TcError, lint};

const QDISC: &str = "tc qdisc add dev eth0 ingress";

fn run(store: &mut Store, line: &str) -> Result<Applied, TcError> {
    let script = parse_script(line, "x.tc", &BTreeMap::new());
    assert_eq!(script.lines.len(), 1, "{line}");
    store.apply_line(&script.lines[0], &AnyDevice)
}

fn basic(expression: &str) -> String {
    format!("tc filter add dev eth0 parent ffff: prio 1 protocol all basic match '{expression}' action pass")
}

/// The line of the listing that shows an expression of one match.
fn shown(expression: &str) -> String {
    let mut store = Store::new();
    run(&mut store, QDISC).unwrap();
    run(&mut store, &basic(expression)).unwrap_or_else(|e| panic!("{expression}: {e}"));
    let listing = run(&mut store, "tc filter show dev eth0 parent ffff:").unwrap().stdout;
    listing.lines().nth(2).unwrap().trim().to_owned()
}

/// As a tc 6.1 on a 6.1 kernel showed them.
#[test]
fn escapes_are_read_as_in_c() {
    for (expression, want) in [
        (r#"nbyte("\x5c\xb9" at 0 layer link)"#, r#"nbyte(5c b9 "\." at 0 layer 0)"#),
        (r#"nbyte("\0\21" at 22 layer 0)"#, r#"nbyte(00 11 ".." at 22 layer 0)"#),
        (r#"nbyte("\n\r\t\v\b\f\a\q" at 1)"#, r#"nbyte(0a 0d 09 0b 08 0c 07 71 ".......q" at 1 layer 1)"#),
        (r#"nbyte("\x4\x41zz\"q\\" at 0)"#, r#"nbyte(04 41 7a 7a 22 71 5c ".Azz"q\" at 0 layer 1)"#),
        (r#"meta("ab\001c" eq dev shift 2)"#, r#"meta(61 62 01 63 "ab.c" eq dev shift 2)"#),
    ] {
        assert_eq!(shown(expression), want);
    }
    let mut store = Store::new();
    run(&mut store, QDISC).unwrap();
    for (expression, want) in [
        (r#"nbyte("\777" at 0)"#, "error: octal escape sequence out of range"),
        (r#"nbyte("\8" at 0)"#, "error: invalid octale escape sequence"),
    ] {
        let error = run(&mut store, &basic(expression)).unwrap_err();
        assert_eq!((error.exit_code, error.messages[0].as_str()), (1, want));
        assert_eq!(error.messages[1], "Parse error: syntax error");
    }
}

#[test]
fn what_only_a_kernel_knows_is_refused_by_name() {
    let mut store = Store::new();
    run(&mut store, QDISC).unwrap();
    for (expression, what, instead) in [
        ("canid(sff 1)", "the ematch canid", "CAN"),
        ("ipset(foo src)", "the ematch ipset", "dst_ip"),
        ("ipt(-m x)", "the ematch ipt", "cmp"),
        ("meta(loadavg_1 gt 100)", "meta(loadavg_1)", "viscum tc"),
        ("meta(sk_family eq 2)", "meta(sk_family)", "ports"),
        ("meta(rt_iif eq 2)", "meta(rt_iif)", "indev"),
        ("meta(data_len eq 0)", "meta(data_len)", "pkt_len"),
        ("meta(tc_index eq 0)", "meta(tc_index)", "nf_mark"),
        ("meta(dev eq 2)", "a device's number in meta", "eq dev"),
    ] {
        let error = run(&mut store, &basic(expression)).unwrap_err();
        assert_eq!(error.exit_code, 2, "{expression}");
        assert!(
            error.messages[0].starts_with("viscum does not support ") && error.messages[0].contains(what),
            "{error}"
        );
        assert!(error.hint.contains(instead), "{expression}: {}", error.hint);
    }
    let deep = format!("{}cmp(u8 at 0 eq 1){}", "(".repeat(33), ")".repeat(33));
    assert!(run(&mut store, &basic(&deep)).unwrap_err().messages[0].contains("32 parentheses"));
    let long = vec!["cmp(u8 at 0 eq 1)"; 257].join(" or ");
    assert!(run(&mut store, &basic(&long)).unwrap_err().messages[0].contains("256 matches"));
    assert_eq!(store.filter_count(), 0);
    let fits = format!("{}cmp(u8 at 0 eq 1){}", "(".repeat(32), ")".repeat(32));
    run(&mut store, &basic(&fits)).unwrap();
}

/// tc keeps quoted texts in one buffer: the kernel gets the second one twice, and viscum says so.
#[test]
fn a_quoted_text_that_tc_overwrites_is_told() {
    let mut store = Store::new();
    run(&mut store, QDISC).unwrap();
    let notes = run(&mut store, &basic(r#"nbyte("abcdef" at 0) and nbyte("XY" at 9)"#)).unwrap().notes;
    assert!(notes.len() == 1 && notes[0].contains(r#"nbyte(58 59 63 64 65 66 "XYcdef" at 0 layer 1)"#), "{notes:?}");
    let silent = run(&mut store, &basic(r#"nbyte(abcdef at 0) and nbyte("XY" at 9)"#)).unwrap().notes;
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn json_of_both_is_valid_and_has_what_the_text_has() {
    let mut store = Store::new();
    run(&mut store, QDISC).unwrap();
    run(&mut store, &basic("not (cmp(u8 at 9 eq 6) or cmp(u8 at 9 eq 17))")).unwrap();
    let fw =
        "tc filter add dev eth0 parent ffff: prio 2 protocol ip handle 10/0xff fw indev eth0 classid 1:1 action drop";
    run(&mut store, fw).unwrap();
    let listing = run(&mut store, "tc -j filter show dev eth0 parent ffff:").unwrap().stdout;
    let json: serde_json::Value = serde_json::from_str(&listing).unwrap();
    assert_eq!(json[1]["options"]["handle"], "1");
    assert_eq!(json[1]["options"]["ematch"], "NOT ( cmp(u8 at 9 layer 1 eq 6) OR cmp(u8 at 9 layer 1 eq 17) )");
    let options = &json[3]["options"];
    assert_eq!((&options["handle"], &options["mask"]), (&"a".into(), &"ff".into()));
    assert_eq!((&options["classid"], &options["input_dev"]), (&"1:1".into(), &"eth0".into()));
    assert_eq!(options["actions"][0]["kind"], "gact");
}

#[test]
fn of_a_long_classid_the_last_eight_digits_count() {
    let mut store = Store::new();
    run(&mut store, QDISC).unwrap();
    run(&mut store, "tc filter add dev eth0 parent ffff: prio 1 protocol ip handle 1 fw classid 98765fedcb").unwrap();
    let listing = run(&mut store, "tc filter show dev eth0 parent ffff:").unwrap().stdout;
    assert!(listing.contains("handle 0x1 classid 765f:edcb "), "{listing}");
}

#[test]
fn lint_knows_marks_that_nothing_sets_and_protocols_the_wrong_way_round() {
    let codes = |lines: &[&str]| {
        let mut store = Store::new();
        run(&mut store, QDISC).unwrap();
        lines.iter().for_each(|line| drop(run(&mut store, line).unwrap()));
        let facts = Facts { devices: &AnyDevice, mac: &|_| None, peer: &|_| None };
        lint(&store, &facts).into_iter().map(|w| w.code).collect::<Vec<_>>()
    };
    let fw = "tc filter add dev eth0 parent ffff: prio 2 protocol ip handle 5 fw action drop";
    let mark = "tc filter add dev eth0 parent ffff: prio 1 protocol ip u32 match u8 6 0xff at 9 action skbedit mark 5 action continue";
    assert_eq!(codes(&[fw]), ["mark-unset"]);
    assert!(codes(&[mark, fw]).is_empty());
    assert_eq!(codes(&[&basic("meta(protocol eq 0x0800)")]), ["protocol-order"]);
    assert_eq!(codes(&[&basic("not meta(0x86dd eq protocol)")]), ["protocol-order"]);
    assert!(codes(&[&basic("meta(protocol eq 8)")]).is_empty());
}

/// `fw` without handle makes a filter without nodes; its first handle ends the old method for good.
#[test]
fn the_old_method_of_fw_knows_its_qdisc() {
    let mut store = Store::new();
    for line in [
        "tc qdisc add dev eth0 clsact",
        "tc qdisc add dev v0 root handle 7: prio",
        "tc filter add dev eth0 egress prio 1 protocol ip fw",
        "tc filter add dev v0 parent 7: prio 1 protocol ip fw",
    ] {
        run(&mut store, line).unwrap();
    }
    let kinds = |store: &Store| {
        let fw = |c: &Classifier| match c {
            Classifier::Fw(FwFilter::Classes { qdisc }) => format!("classes of {qdisc:x}"),
            Classifier::Fw(FwFilter::Marks { mask, rules }) => format!("{} marks under {mask:x}", rules.len()),
            Classifier::U32(_) | Classifier::Flower(_) | Classifier::Matchall(_) | Classifier::Basic(_) => {
                String::new()
            }
        };
        store.ruleset().filters().map(|(_, _, f)| fw(&f.classifier)).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&store), ["classes of ffff0000", "classes of 70000"]);
    run(&mut store, "tc filter add dev v0 parent 7: prio 1 protocol ip handle 3/0xf fw classid 7:1").unwrap();
    assert_eq!(kinds(&store), ["classes of ffff0000", "1 marks under f"]);
    run(&mut store, "tc filter del dev v0 parent 7: prio 1 protocol ip handle 3 fw").unwrap();
    assert_eq!(kinds(&store), ["classes of ffff0000"]);
}

/// Pieces of expressions, and other bytes.
const PIECES: &[&str] = &[
    "cmp",
    "u32",
    "nbyte",
    "meta",
    "(",
    ")",
    "and",
    "or",
    "not",
    "u8",
    "u16",
    "u32",
    "at",
    "layer",
    "link",
    "2",
    "0",
    "-1",
    "mask",
    "0xff",
    "eq",
    "gt",
    "lt",
    "trans",
    "nexthdr+",
    "nexthdr+4",
    "\"eth0\"",
    "\"\\x41\"",
    "\"\\9\"",
    "\"",
    "\\",
    "dev",
    "shift",
    "priority",
    "vlan",
    "random",
    "é",
    "18446744073709551615",
    "99999999999999999999",
    "",
    "list",
    "x",
];

proptest! {
    #[test]
    fn no_expression_makes_it_panic(pieces in prop::collection::vec((prop::sample::select(PIECES), any::<bool>()), 0..30)) {
        let expression: String =
            pieces.iter().map(|(piece, blank)| format!("{piece}{}", if *blank { " " } else { "" })).collect();
        let mut store = Store::new();
        run(&mut store, QDISC).unwrap();
        for line in [basic(&expression), basic(&format!("cmp(u8 at 0 eq 1) or {expression}"))] {
            if let Err(error) = run(&mut store, &line) {
                prop_assert!(error.messages.iter().any(|m| !m.is_empty()) && !error.hint.is_empty(), "{line}: {error:?}");
            }
        }
        let listing = run(&mut store, "tc -j filter show dev eth0 parent ffff:").unwrap().stdout;
        prop_assert!(serde_json::from_str::<serde_json::Value>(&listing).is_ok(), "{listing}");
    }
}
