//! Words of random actions are read back as the same actions.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{action, ematches, flower, protocol, quoted};
use crate::rules::arbitrary;
use crate::rules::police::{Limit, Police, Rate};
use crate::rules::{
    Action, Classifier, Control, Csum, EmatchTerm, FlowerKey, Gact, Nat, Pedit, Random, RandomKind, Simple, Skbedit,
    Skbmod, Vlan,
};
use crate::tc::{AnyDevice, Store, parse_script};
use crate::types::ethertype;
use crate::types::{Checksums, MacAddr, NatRule, PacketType, PeditHeader, PeditKey, VlanOp};

/// What the parser makes of an action's words in a filter.
fn read_back(words: &str) -> Action {
    let rules =
        format!("tc qdisc add dev d ingress\ntc filter add dev d ingress protocol ip pref 1 matchall action {words}");
    let mut store = Store::new();
    for line in parse_script(&rules, "words", &BTreeMap::new()).lines {
        store.apply_line(&line, &AnyDevice).unwrap_or_else(|e| panic!("{words}: {e:?}"));
    }
    store.ruleset().actions[0].action.clone()
}

fn control() -> impl Strategy<Value = Control> {
    prop_oneof![
        Just(Control::Pass),
        Just(Control::Pipe),
        Just(Control::Continue),
        Just(Control::Reclassify),
        Just(Control::Shot),
        Just(Control::Trap),
        (0u32..1 << 28).prop_map(Control::GotoChain),
    ]
}

fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(MacAddr::from)
}

fn any_action() -> impl Strategy<Value = Action> {
    let random = (any::<bool>(), 1u16..=10_000).prop_map(|(determ, val)| Random {
        kind: if determ { RandomKind::Determ } else { RandomKind::Netrand },
        control: Control::Shot,
        val,
    });
    let gact =
        (control(), proptest::option::of(random)).prop_map(|(control, random)| Action::Gact(Gact { control, random }));
    let skbedit = (control(), any::<Option<(u32, u32)>>(), any::<Option<u32>>(), any::<Option<u16>>(), any::<bool>())
        .prop_map(|(control, mark, priority, queue_mapping, inheritdsfield)| {
            let ptype = Some(PacketType::OtherHost);
            let full_mask = mark.is_some_and(|(_, mask)| mask == u32::MAX);
            Action::Skbedit(Skbedit { ptype, full_mask, mark, priority, queue_mapping, inheritdsfield, control })
        });
    let skbmod = (control(), mac(), proptest::option::of(mac()), proptest::option::of(1u16..)).prop_map(
        |(control, dmac, smac, etype)| {
            Action::Skbmod(Skbmod { dmac: Some(dmac), smac, etype, swap_mac: false, ecn: false, control })
        },
    );
    let csum =
        (control(), 1u8..128).prop_map(|(control, update)| Action::Csum(Csum { update: Checksums(update), control }));
    let op = prop_oneof![
        Just(VlanOp::Pop),
        (0u16..0xfff, 0u16..8).prop_map(|(id, priority)| VlanOp::Push { tpid: 0x88a8, tci: priority << 13 | id }),
        (0u16..0xfff, proptest::option::of(0u8..8)).prop_map(|(id, priority)| VlanOp::Modify {
            tpid: 0x8100,
            id,
            priority
        }),
        (mac(), mac()).prop_map(|(dst, src)| VlanOp::PushEth { dst, src }),
    ];
    let vlan = (control(), op).prop_map(|(control, op)| Action::Vlan(Vlan { op, control }));
    let nat =
        (control(), any::<bool>(), any::<(u32, u32)>(), 1u32..=32).prop_map(|(control, egress, (old, new), bits)| {
            let rule = NatRule { egress, old, new, mask: u32::MAX << (32 - bits) };
            Action::Nat(Nat { rule, control })
        });
    let simple = (control(), "[ -~]{1,31}").prop_map(|(control, data)| Action::Simple(Simple { data, control }));
    prop_oneof![gact, skbedit, skbmod, csum, vlan, nat, simple, police()]
}

fn police() -> impl Strategy<Value = Action> {
    let rate = (1u64..1 << 34, any::<u16>(), any::<bool>()).prop_map(|(bytes_per_s, overhead, atm)| Rate {
        bytes_per_s,
        overhead,
        mpu: 64,
        atm,
    });
    (rate, 1u32..1 << 24, 512u32..1 << 16, control()).prop_map(|(rate, size, mtu, exceed)| {
        let burst_ticks = crate::tc::action::police::ticks_of(rate.bytes_per_s, size);
        let limit = Limit::Bytes { rate, burst_ticks, peak: None };
        Action::Police(Police { mtu, limit, exceed, conform: Control::Pipe, compat: false })
    })
}

fn pedit_key() -> impl Strategy<Value = PeditKey> {
    let word = (any::<u32>(), any::<u32>(), -3i32..12, any::<bool>()).prop_map(|(value, mask, at, add)| PeditKey {
        add,
        value: value & !mask,
        mask,
        offset: at * 4,
        ..PeditKey::default()
    });
    let field = |header, offset, shift: u32, bits: u32| {
        (any::<(u32, u32)>(), any::<bool>()).prop_map(move |((value, changed), add)| {
            let changed = (changed % (1 << bits)) << shift;
            PeditKey { header, add, value: value & changed, mask: !changed, offset, ..PeditKey::default() }
        })
    };
    prop_oneof![
        word,
        field(PeditHeader::Ipv4, 8, 24, 8),
        field(PeditHeader::Ipv4, 0, 16, 8),
        field(PeditHeader::Ipv6, 0, 20, 8),
        field(PeditHeader::Tcp, 0, 16, 16),
        field(PeditHeader::Udp, 0, 0, 16),
    ]
}

/// What the parser makes of a filter's words behind `filter add dev d ingress pref 1`.
fn classifier(words: &str) -> Classifier {
    let rules = format!("tc qdisc add dev d ingress\ntc filter add dev d ingress pref 1 {words} action pass");
    let mut store = Store::new();
    for line in parse_script(&rules, "words", &BTreeMap::new()).lines {
        store.apply_line(&line, &AnyDevice).unwrap_or_else(|e| panic!("{words}: {e:?}"));
    }
    let ruleset = store.ruleset();
    let chain = ruleset.hooks.iter().flat_map(|hook| hook.chains.values()).find(|chain| !chain.filters.is_empty());
    chain.unwrap().filters[0].classifier.clone()
}

fn flower_of(words: &str) -> FlowerKey {
    let Classifier::Flower(rules) = classifier(words) else { panic!("{words}") };
    rules[0].key.clone()
}

fn expression_of(words: &str) -> Vec<EmatchTerm> {
    let Classifier::Basic(rules) = classifier(words) else { panic!("{words}") };
    rules[0].ematches.clone()
}

proptest! {
    #[test]
    fn flower_comes_back(before in arbitrary::flower(crate::types::DeviceId(0))) {
        let number = before.protocol().unwrap_or(ethertype::ALL);
        let indev = before.more.as_ref().and_then(|more| more.indev).map(|_| "d");
        let words = format!("protocol {} flower{}", protocol(number), flower(&before, number, indev).unwrap());
        prop_assert_eq!(flower_of(&words), before.masked(), "{}", words);
    }

    #[test]
    fn expressions_come_back(before in arbitrary::ematches()) {
        // Several texts can overwrite each other.
        if let Ok(words) = ematches(&before) {
            prop_assert_eq!(expression_of(&format!("protocol all basic{words}")), before, "{}", words);
        }
    }

    #[test]
    fn actions_come_back(before in any_action(), index in 1u32..1 << 20) {
        // A text can hold what no line can.
        if let Ok(words) = action(&before, index, &|_| String::new()) {
            prop_assert_eq!(read_back(&words), before, "{}", words);
        }
    }

    #[test]
    fn pedit_comes_back(keys in proptest::collection::vec(pedit_key(), 1..6), how in control()) {
        let before = Action::Pedit(Pedit { keys, extended: true, control: how });
        let words = action(&before, 1, &|_| String::new()).unwrap();
        prop_assert_eq!(read_back(&words), before, "{}", words);
    }
}

#[test]
fn words_that_a_shell_would_read_otherwise_are_quoted_or_refused() {
    for (word, expected) in
        [("eth0.5", "eth0.5"), ("a b", "'a b'"), ("$(x)", "'$(x)'"), ("it's", "\"it's\""), ("", "''")]
    {
        assert_eq!(quoted(word).unwrap(), expected);
    }
    for word in ["a\nb", "'$x'"] {
        assert!(quoted(word).unwrap_err().to_string().contains("no words for"), "{word:?}");
    }
}
