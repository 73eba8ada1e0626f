//! Encoding and decoding again is the identity; what cannot be read is told by its name.

use proptest::prelude::*;

use super::attr::{Attrs, Put};
use super::{
    Basic, BoundAction, Chain, Common, Filter, Flower, Fw, Links, Node, PARENT_INGRESS, Place, Qdisc, SHARED_BLOCK,
    decode_chain, decode_filter, decode_qdisc, ematch, encode_chain, encode_filter, encode_qdisc, meta,
};
use crate::rules::arbitrary;
use crate::rules::flower::FlowerVlan;
use crate::rules::{Action, Control, EmatchAsk, EmatchTerm, EmatchThen, Pedit};
use crate::types::{DeviceId, DeviceKey, PeditHeader, PeditKey, ethertype};

fn links() -> Links {
    Links { list: vec![(1, DeviceKey::local("lo")), (7, DeviceKey::local("eth0"))] }
}

/// A device's hook, or a shared block.
fn hook() -> impl Strategy<Value = (DeviceId, u32)> {
    prop_oneof![
        Just((DeviceId(1), super::PARENT_INGRESS)),
        Just((DeviceId(1), super::PARENT_EGRESS)),
        (1u32..).prop_map(|block| (SHARED_BLOCK, block)),
    ]
}

fn common() -> impl Strategy<Value = Common> {
    any::<Option<u32>>().prop_map(|classid| Common { classid, ..Common::default() })
}

fn place(kind: &str) -> impl Strategy<Value = Place> + use<> {
    let kind = kind.to_owned();
    (hook(), any::<u32>(), 1u16.., 1u32..).prop_map(move |((device, parent), chain, prio, handle)| Place {
        device,
        parent,
        chain,
        prio,
        protocol: ethertype::ALL,
        kind: kind.clone(),
        handle,
    })
}

fn same(filter: &Filter) -> Result<(), TestCaseError> {
    let again = decode_filter(&encode_filter(filter, &links()).unwrap(), &links()).unwrap();
    prop_assert_eq!(&again, filter);
    Ok(())
}

proptest! {
    #[test]
    fn flower_comes_back(place in place("flower"), key in arbitrary::flower(DeviceId(0)), common in common()) {
        let place = Place { protocol: key.protocol().unwrap_or(ethertype::ALL), ..place };
        same(&Filter { place, node: Node::Flower(Flower { key, common }) })?;
    }

    #[test]
    fn basic_comes_back(place in place("basic"), ematches in arbitrary::ematches(), common in common()) {
        same(&Filter { place, node: Node::Basic(Basic { ematches, common }) })?;
    }

    #[test]
    fn fw_comes_back(place in place("fw"), mask in any::<u32>(), has_indev in any::<bool>(), common in common()) {
        let indev = has_indev.then(|| "eth0".to_owned());
        same(&Filter { place, node: Node::Fw(Fw { mask, indev, common }) })?;
    }

    #[test]
    fn chains_come_back((device, parent) in hook(), index in any::<u32>(), key in arbitrary::flower(DeviceId(0))) {
        let plain = Chain { device, parent, index, template: None };
        prop_assert_eq!(decode_chain(&encode_chain(&plain, &links()).unwrap(), parent, &links()).unwrap(), plain.clone());
        let chain = Chain { template: Some(("flower".to_owned(), Ok(key.clone()))), ..plain };
        let again = decode_chain(&encode_chain(&chain, &links()).unwrap(), parent, &links()).unwrap();
        // Beside tags the protocol is not told: see `flower::decode_template`.
        let compared = |tag: &FlowerVlan| FlowerVlan { tpid: None, ..*tag } != FlowerVlan::default();
        let has_tags = key.more.as_ref().is_some_and(|more| more.vlan.iter().any(compared));
        if !has_tags || key.protocol() == Some(ethertype::VLAN) {
            prop_assert_eq!(again, chain);
        } else {
            prop_assert_eq!(again.template.unwrap().1.unwrap().protocol(), Some(ethertype::VLAN));
        }
    }

    #[test]
    fn qdiscs_come_back(blocks in any::<[u32; 2]>(), handle in any::<u32>()) {
        let qdisc = Qdisc { device: DeviceId(0), handle, parent: super::PARENT_INGRESS_QDISC, kind: "clsact".to_owned(), blocks };
        prop_assert_eq!(decode_qdisc(&encode_qdisc(&qdisc, &links()).unwrap(), &links()).unwrap(), qdisc);
    }

    #[test]
    fn no_bytes_are_a_panic(kind in 0usize..5, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let kind = ["flower", "basic", "fw", "u32", "matchall"][kind];
        let mut put = Put(vec![0; 20]);
        put.0[4] = 7;
        put.text(1, kind).bytes(2, &bytes);
        if let Ok(filter) = decode_filter(&put.0, &links()) {
            let _told = encode_filter(&filter, &links());
        }
        let _told = decode_filter(&bytes, &links());
        let _told = decode_chain(&bytes, 0, &links());
        let _told = meta::decode(&bytes);
    }

    /// Attributes that fit into each other, with any numbers and values.
    #[test]
    fn no_attributes_are_a_panic(
        kind in 0usize..3,
        list in proptest::collection::vec((1u16..106, proptest::collection::vec(any::<u8>(), 0..17)), 0..12),
    ) {
        let mut options = Put::default();
        for (number, value) in &list {
            options.bytes(*number, value);
        }
        let mut put = Put(vec![0; 20]);
        put.0[4] = 7;
        put.text(1, ["flower", "basic", "fw"][kind]).nest(2, &options);
        let filter = decode_filter(&put.0, &links()).unwrap();
        let _told = encode_filter(&filter, &links());
        let mut tree = Put::default();
        tree.nest(2, &options);
        let _told = ematch::decode(&Attrs::parse(&tree.0, "a tree").unwrap());
    }
}

/// A list of ematches: kind, flags and data each.
fn tree(list: &[(u16, u16, Vec<u8>)]) -> Result<Vec<EmatchTerm>, super::Lacking> {
    let mut inside = Put::default();
    for (number, (kind, flags, data)) in (1..).zip(list) {
        let mut bytes = [0, *kind, *flags, 0].map(u16::to_ne_bytes).concat();
        bytes.extend(data);
        inside.bytes(number, &bytes);
    }
    let mut put = Put::default();
    put.nest(2, &inside);
    ematch::decode(&Attrs::parse(&put.0, "a tree").unwrap())
}

#[test]
fn groups_of_ematches_go_forward_and_do_not_multiply_without_end() {
    let group = |first: u32, then: u16| (0, then, first.to_ne_bytes().to_vec());
    let key = (3u16, 0, vec![0; 16]);
    let told = |list: &[(u16, u16, Vec<u8>)]| tree(list).unwrap_err().0;
    assert!(told(&[group(0, 0)]).contains("a group that begins at 0"));
    assert!(told(&[group(2, 0), key.clone()]).contains("a group that begins at 2"));
    // A sequence that the list ends is at its end.
    let terms = tree(&[group(1, 0), (3, 1, vec![0; 16])]).unwrap();
    let EmatchAsk::Group(inside) = &terms[0].ask else { panic!("{terms:?}") };
    assert_eq!(inside[0].then, EmatchThen::End);
    // Each of these begins the next twice.
    let doubling: Vec<_> = (0..20).flat_map(|at| [group(at * 2 + 2, 1), group(at * 2 + 2, 0)]).chain([key]).collect();
    assert!(told(&doubling).contains("more than 256 matches"), "{}", told(&doubling));
    let deep: Vec<_> = (1..60).map(|first| group(first, 0)).chain([(3, 0, vec![0; 16])]).collect();
    assert!(told(&deep).contains("parentheses"));
    for (kind, name) in [(5, "text"), (7, "canid"), (8, "ipset"), (9, "ipt"), (77, "number 77")] {
        assert!(told(&[(kind, 0, vec![0; 16])]).contains(name));
    }
}

#[test]
fn what_flower_compares_and_viscum_has_not_is_named() {
    for (number, name) in
        [(26, "enc_key_id"), (31, "enc_src_ip"), (92, "ct_state"), (105, "l2tpv3_sid"), (200, "number 200")]
    {
        let mut options = Put::default();
        options.u32(number, 1);
        let mut put = Put(vec![0; 20]);
        put.0[4] = 7;
        put.text(1, "flower").nest(2, &options);
        let Node::Other(lacking) = decode_filter(&put.0, &links()).unwrap().node else { panic!("{name} is read") };
        assert!(lacking.0.contains(name), "{lacking}");
    }
}

#[test]
fn more_actions_than_a_message_holds_are_refused_by_name() {
    let key = PeditKey {
        header: PeditHeader::Network,
        add: false,
        value: 1,
        mask: 0,
        offset: 0,
        at: 0,
        offmask: 0,
        shift: 0,
    };
    let pedit = Pedit { keys: vec![key; 100], extended: false, control: Control::Pipe };
    let action = BoundAction {
        kind: "pedit".to_owned(),
        index: 0,
        refs: 0,
        binds: 0,
        cookie: None,
        hw_stats: None,
        flags: 0,
        what: Ok(Action::Pedit(pedit)),
    };
    let filter = |count| Filter {
        place: Place {
            device: DeviceId(0),
            parent: PARENT_INGRESS,
            chain: 0,
            prio: 1,
            protocol: ethertype::ALL,
            kind: "matchall".to_owned(),
            handle: 1,
        },
        node: Node::Matchall(Common { actions: vec![action.clone(); count], ..Common::default() }),
    };
    let links = Links { list: vec![(7, DeviceKey::local("d0"))] };
    assert!(encode_filter(&filter(10), &links).is_ok());
    let error = encode_filter(&filter(32), &links).unwrap_err();
    assert!(error.0.contains("a list of 32 actions"), "{error}");
}
