//! What is refused, and how it is said. No privilege needed.

use crate::ebpf::{Reason, Target, steer, takes};
use crate::rules::flower::{FlowerKey, FlowerMore, FlowerRule};
use crate::rules::police::{Limit, Police};
use crate::rules::{
    Action, ActionId, ActionInstance, Chain, Classifier, Control, Filter, Gact, Hook, MatchallRule, Mirred, MirredMode,
    Nat, Random, RandomKind, Ruleset, Skbedit, Skbmod, Vlan,
};
use crate::types::{DeviceId, DeviceKey, Direction, NatRule, PacketType, Protocol, VlanOp};

fn ruleset(actions: Vec<Action>) -> Ruleset {
    let ids = (0..actions.len() as u32).map(ActionId).collect();
    let rule = MatchallRule { handle: 1, skip_sw: false, classid: None, actions: ids, counters: 0 };
    let filter = Filter { prio: 10, protocol: Protocol::ALL, classifier: Classifier::Matchall(Some(rule)) };
    let chains = [(0, Chain { filters: vec![filter] })].into();
    let instance = |(n, action)| ActionInstance { index: n as u32 + 1, action, counters: 2 + n as u32 * 7 };
    Ruleset {
        u32_tables: Vec::new(),
        devices: vec![DeviceKey::local("eth0"), DeviceKey::local("v0")],
        hooks: vec![Hook { device: DeviceId(0), direction: Direction::Ingress, chains }],
        actions: actions.into_iter().enumerate().map(instance).collect(),
        counter_words: 100,
    }
}

fn skbmod(control: Control) -> Action {
    Action::Skbmod(Skbmod { dmac: None, smac: None, etype: None, swap_mac: true, ecn: false, control })
}

fn skbedit(ptype: PacketType, mark: Option<(u32, u32)>) -> Action {
    Action::Skbedit(Skbedit {
        ptype: Some(ptype),
        mark,
        full_mask: false,
        priority: None,
        queue_mapping: None,
        inheritdsfield: false,
        control: Control::Pipe,
    })
}

fn mirred(mode: MirredMode, direction: Direction) -> Action {
    let control = if mode == MirredMode::Redirect { Control::Stolen } else { Control::Pipe };
    Action::Mirred(Mirred { direction, mode, device: DeviceId(1), control })
}

fn gact(control: Control) -> Action {
    Action::Gact(Gact { control, random: None })
}

fn reason(actions: Vec<Action>, target: Target) -> Option<Reason> {
    steer(&ruleset(actions), DeviceId(0), target).err().map(|r| r.reason)
}

#[test]
fn the_scenarios_rules_are_taken() {
    let redirect = || mirred(MirredMode::Redirect, Direction::Egress);
    let rules = vec![skbmod(Control::Pipe), skbedit(PacketType::Host, None), redirect()];
    for target in [Target::Xdp, Target::DropBehind] {
        assert_eq!(reason(rules.clone(), target), None);
        assert_eq!(reason(vec![skbedit(PacketType::Host, None), gact(Control::Pass)], target), None);
        assert_eq!(reason(vec![mirred(MirredMode::Mirror, Direction::Egress), redirect()], target), None);
    }
    assert!(takes(&ruleset(rules), DeviceId(0)));
    assert!(!takes(&ruleset(vec![gact(Control::Pass)]), DeviceId(0)));
    assert!(takes(&ruleset(vec![gact(Control::Reclassify)]), DeviceId(0)));
    assert!(takes(&ruleset(vec![gact(Control::GotoChain(0))]), DeviceId(0)), "a chain to itself ends in a drop");
    assert!(!takes(&ruleset(vec![gact(Control::GotoChain(9))]), DeviceId(0)), "a chain that is not there accepts");
}

#[test]
fn a_policer_is_taken_only_where_the_frame_is_taken_either_way() {
    let police =
        |exceed, conform| Action::Police(Police { mtu: 100, limit: Limit::None, exceed, conform, compat: false });
    let redirect = || mirred(MirredMode::Redirect, Direction::Egress);
    for target in [Target::Xdp, Target::DropBehind] {
        assert_eq!(reason(vec![police(Control::Shot, Control::Pipe), redirect()], target), None);
        assert_eq!(reason(vec![police(Control::Shot, Control::Pass)], target), Some(Reason::Police));
        assert_eq!(reason(vec![police(Control::Pass, Control::Pipe), redirect()], target), Some(Reason::Police));
        assert_eq!(reason(vec![police(Control::Pipe, Control::Shot), redirect()], target), Some(Reason::Police));
    }
}

#[test]
fn tags_and_addresses_change_only_on_frames_that_are_taken() {
    let vlan = |control| Action::Vlan(Vlan { op: VlanOp::Pop, control });
    let nat = |control| Action::Nat(Nat { rule: NatRule { egress: true, old: 0, new: 0, mask: 0 }, control });
    for action in [vlan, nat] as [fn(Control) -> Action; 2] {
        let redirect = mirred(MirredMode::Redirect, Direction::Egress);
        assert_eq!(reason(vec![action(Control::Pipe), redirect], Target::Xdp), None);
        for control in [Control::Pass, Control::Continue, Control::Reclassify, Control::GotoChain(1)] {
            let refused = reason(vec![action(control)], Target::Xdp);
            assert!(matches!(refused, Some(Reason::RewriteThenPass { .. })), "{control:?}: {refused:?}");
        }
    }
}

#[test]
fn changes_to_a_frame_that_the_kernel_gets_are_refused_by_name() {
    let refusal = steer(&ruleset(vec![skbmod(Control::Pass)]), DeviceId(0), Target::DropBehind).unwrap_err();
    let text = refusal.to_string();
    assert!(text.starts_with("eth0 ingress chain 0 prio 10 handle 0x1: skbmod rewrites a frame"), "{text}");
    for control in [Control::Continue, Control::GotoChain(1), Control::Reclassify] {
        assert!(matches!(reason(vec![skbmod(control)], Target::Xdp), Some(Reason::RewriteThenPass { .. })));
    }
    let marked = vec![skbedit(PacketType::Host, Some((1, 1))), gact(Control::Pass)];
    assert!(matches!(reason(marked, Target::Xdp), Some(Reason::EditThenPass { what: "the mark", .. })));
    let other = vec![skbedit(PacketType::OtherHost, None)];
    assert!(matches!(reason(other, Target::Xdp), Some(Reason::EditThenPass { what: "the packet type", .. })));
}

#[test]
fn copies_of_what_the_kernel_gets_are_for_taps_only() {
    let rules = vec![mirred(MirredMode::Mirror, Direction::Egress), gact(Control::Pass)];
    assert!(matches!(reason(rules.clone(), Target::Xdp), Some(Reason::MirrorThenPass { .. })));
    assert_eq!(reason(rules, Target::DropBehind), None);
}

#[test]
fn chance_and_ingress_are_refused() {
    let random = Some(Random { kind: RandomKind::Netrand, control: Control::Shot, val: 2 });
    let rules = vec![Action::Gact(Gact { control: Control::Pass, random })];
    assert_eq!(reason(rules, Target::Xdp), Some(Reason::Random));
    let rules = vec![mirred(MirredMode::Redirect, Direction::Ingress)];
    assert_eq!(reason(rules, Target::DropBehind), Some(Reason::MirredIngress { mode: "redirect" }));
}

#[test]
fn flower_keys_that_a_program_does_not_find_are_refused_by_name() {
    let refused = |protocol: u16, key: FlowerKey| {
        let mut ruleset = ruleset(vec![mirred(MirredMode::Redirect, Direction::Egress)]);
        let filter = &mut ruleset.hooks[0].chains.get_mut(&0).unwrap().filters[0];
        let rule = FlowerRule { handle: 1, key, classid: None, actions: vec![ActionId(0)], counters: 0 };
        (filter.protocol, filter.classifier) = (Protocol(protocol), Classifier::Flower(vec![rule]));
        match steer(&ruleset, DeviceId(0), Target::Xdp).err().map(|r| r.reason) {
            Some(Reason::FlowerKey { key }) => Some(key),
            None => None,
            other => panic!("{other:?}"),
        }
    };
    let more = |change: fn(&mut FlowerMore)| {
        let mut key = FlowerKey::default();
        change(key.more_mut());
        key
    };
    assert_eq!(refused(0x8100, more(|m| m.vlan[0].id = Some(5))).as_deref(), Some("vlan_id"));
    assert_eq!(refused(3, more(|m| m.num_of_vlans = Some(1))).as_deref(), Some("num_of_vlans"));
    assert_eq!(refused(3, more(|m| m.ip_flags = Some((1, 1)))).as_deref(), Some("ip_flags"));
    let hsr = FlowerKey { eth_type: Some(0x892f), ..FlowerKey::default() };
    assert_eq!(refused(0x892f, hsr).as_deref(), Some("a protocol that has others in it"));
    let inner = FlowerKey { eth_type: Some(0x0800), ..FlowerKey::default() };
    assert_eq!(refused(0x8100, inner.clone()).as_deref(), Some("a key of what is behind tags"));
    assert_eq!(refused(0x0800, inner), None);
    assert_eq!(refused(0x8100, FlowerKey::default()), None);
}
