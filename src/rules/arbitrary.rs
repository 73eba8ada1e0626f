//! Random flower keys and expressions of `basic` as the kernel keeps them, for tests of whatever writes and reads them.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::option;
use proptest::prelude::*;

use super::flower::{FlowerArp, FlowerMpls, FlowerPppoe, FlowerVlan, MaskedMac, behind_ppp};
use super::{
    Ematch, EmatchAsk, EmatchCmp, EmatchLayer, EmatchMeta, EmatchNbyte, EmatchOperand, EmatchTerm, EmatchThen,
    EmatchU32, EmatchWidth, FlowerKey, MetaField, MetaObject, PortMatch,
};
use crate::types::{DeviceId, ethertype};

/// Tags with the type that each has in front of it and behind it.
#[derive(Clone, Debug)]
struct Tags {
    list: Vec<FlowerVlan>,
    count: Option<u8>,
}

fn vlan() -> impl Strategy<Value = FlowerVlan> {
    (option::of(0u16..0x1000), option::of(0u8..8)).prop_map(|(id, prio)| FlowerVlan {
        id,
        prio,
        ..FlowerVlan::default()
    })
}

fn tags() -> impl Strategy<Value = Tags> {
    let types = proptest::sample::select(vec![ethertype::VLAN, ethertype::QINQ]);
    (proptest::collection::vec((vlan(), types), 0..3), any::<bool>(), option::of(0u8..2)).prop_map(
        |(tags, counted, none)| {
            let len = tags.len() as u8;
            let mut list: Vec<FlowerVlan> = Vec::new();
            for (tag, tpid) in tags {
                if let Some(before) = list.last_mut().filter(|_| !counted) {
                    before.eth_type = Some(tpid);
                }
                list.push(FlowerVlan { tpid: (!counted).then_some(tpid), ..tag });
            }
            Tags { list, count: if counted && len > 0 { Some(len) } else { none.filter(|_| len == 0).map(|_| 0) } }
        },
    )
}

fn mac() -> impl Strategy<Value = MaskedMac> {
    any::<MaskedMac>().prop_filter("a mask of 0 is not kept", |(_, mask)| *mask != [0; 6])
}

fn byte() -> impl Strategy<Value = (u8, u8)> {
    (any::<u8>(), 1u8..)
}

fn v4() -> impl Strategy<Value = (Ipv4Addr, Ipv4Addr)> {
    (any::<Ipv4Addr>(), 1u32..=32).prop_map(|(address, bits)| (address, Ipv4Addr::from(u32::MAX << (32 - bits))))
}

fn v6() -> impl Strategy<Value = (Ipv6Addr, Ipv6Addr)> {
    (any::<Ipv6Addr>(), 1u32..=128).prop_map(|(address, bits)| (address, Ipv6Addr::from(u128::MAX << (128 - bits))))
}

fn port() -> impl Strategy<Value = PortMatch> {
    prop_oneof![
        (any::<u16>(), 1u16..).prop_map(|(value, mask)| PortMatch::Masked(value, mask)),
        (1u16..0x7fff, 1u16..0x7fff).prop_map(|(first, more)| PortMatch::Range(first, first + more)),
    ]
}

fn mpls() -> impl Strategy<Value = Vec<FlowerMpls>> {
    let part = (option::of(0u32..1 << 20), option::of(0u8..8), option::of(0u8..2), any::<Option<u8>>());
    proptest::collection::btree_map(1u8..=7, part, 0..4).prop_map(|entries| {
        let entry = |(depth, (label, tc, bos, ttl))| FlowerMpls { depth, label, tc, bos, ttl };
        entries.into_iter().map(entry).collect()
    })
}

/// A key, and the device that its `indev` may be.
pub fn flower(indev: DeviceId) -> impl Strategy<Value = FlowerKey> {
    let types = proptest::sample::select(vec![
        None,
        Some(ethertype::IPV4),
        Some(ethertype::IPV6),
        Some(ethertype::ARP),
        Some(ethertype::MPLS_UC),
        Some(ethertype::PPP_SES),
        Some(0x1234),
    ]);
    let pppoe = (any::<Option<u16>>(), option::of(proptest::sample::select(vec![0x21u16, 0x57, 0x281, 0xc021])))
        .prop_map(|(sid, proto)| FlowerPppoe { sid, proto });
    let below =
        (tags(), types, pppoe, option::of(mac()), option::of(mac()), any::<bool>(), option::of((0u8..4, 1u8..4)));
    let ip = (
        option::of(proptest::sample::select(vec![1u8, 6, 17, 132, 58, 89])),
        option::of(byte()),
        option::of(byte()),
        [option::of(v4()), option::of(v4())],
        [option::of(v6()), option::of(v6())],
        [option::of(port()), option::of(port())],
        option::of((0u16..0x1000, 1u16..0x1000)),
        [option::of(byte()), option::of(byte())],
    );
    let arp = (option::of(v4()), option::of(v4()), option::of((0u8..3, 1u8..)), option::of(mac()), option::of(mac()))
        .prop_map(|(sip, tip, op, sha, tha)| FlowerArp { sip, tip, op, sha, tha });
    (below, ip, arp, mpls()).prop_map(move |(below, ip, arp, mpls)| {
        let (tags, eth_type, pppoe, src_mac, dst_mac, has_indev, flags) = below;
        let mut key = FlowerKey { src_mac, dst_mac, ..FlowerKey::default() };
        let more = key.more_mut();
        more.indev = has_indev.then_some(indev);
        (more.num_of_vlans, more.ip_flags) = (tags.count, flags);
        for (place, tag) in more.vlan.iter_mut().zip(&tags.list) {
            *place = *tag;
        }
        if let Some(last) = tags.list.len().checked_sub(1) {
            more.vlan[last].eth_type = eth_type;
        }
        key.eth_type = eth_type;
        if eth_type == Some(ethertype::PPP_SES) {
            key.more_mut().pppoe = Some(pppoe);
            key.eth_type = pppoe.proto.map(|proto| behind_ppp(proto).unwrap_or(ethertype::PPP_SES));
        }
        match key.eth_type {
            Some(family @ (ethertype::IPV4 | ethertype::IPV6)) => upper(&mut key, family, ip),
            Some(ethertype::ARP) => key.more_mut().arp = arp,
            Some(ethertype::MPLS_UC) => key.more_mut().mpls = mpls,
            Some(_) | None => {}
        }
        key.settle();
        key
    })
}

type Masked = Option<(u8, u8)>;
type Ip = (
    Option<u8>,
    Masked,
    Masked,
    [Option<(Ipv4Addr, Ipv4Addr)>; 2],
    [Option<(Ipv6Addr, Ipv6Addr)>; 2],
    [Option<PortMatch>; 2],
    Option<(u16, u16)>,
    [Masked; 2],
);

fn upper(key: &mut FlowerKey, family: u16, ip: Ip) {
    let (protocol, tos, ttl, v4, v6, ports, flags, icmp) = ip;
    key.ip_proto = protocol;
    (key.more_mut().ip_tos, key.more_mut().ip_ttl) = (tos, ttl);
    if family == ethertype::IPV4 {
        [key.src_ipv4, key.dst_ipv4] = v4;
    } else {
        (key.ipv6_mut().src, key.ipv6_mut().dst) = (v6[0], v6[1]);
    }
    match (protocol, family) {
        (Some(6 | 17 | 132), _) => {
            [key.src_port, key.dst_port] = ports;
            key.tcp_flags = flags.filter(|_| protocol == Some(6));
        }
        (Some(1), ethertype::IPV4) | (Some(58), ethertype::IPV6) => {
            [key.more_mut().icmp_type, key.more_mut().icmp_code] = icmp;
        }
        _ => {}
    }
}

fn ematch() -> impl Strategy<Value = Ematch> {
    let layer = || proptest::sample::select(vec![EmatchLayer::Link, EmatchLayer::Network, EmatchLayer::Transport]);
    let operand = || proptest::sample::select(vec![EmatchOperand::Eq, EmatchOperand::Gt, EmatchOperand::Lt]);
    let width = proptest::sample::select(vec![EmatchWidth::U8, EmatchWidth::U16, EmatchWidth::U32]);
    let cmp = (width, any::<u16>(), layer(), any::<u32>(), any::<bool>(), operand(), any::<u32>()).prop_map(
        |(width, offset, layer, mask, trans, operand, value)| {
            Ematch::Cmp(EmatchCmp { width, offset, layer, mask, trans, operand, value })
        },
    );
    let u32 = (any::<(u32, u32)>(), -8i32..1000, any::<bool>()).prop_map(|((value, mask), at, next_header)| {
        Ematch::U32(EmatchU32 { value: value & mask, mask, offset: at * 4, next_header })
    });
    let needle = prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..20),
        "[ -~]{1,12}".prop_map(String::into_bytes),
        Just(b"And".to_vec()),
    ];
    let nbyte = (needle, any::<u16>(), layer())
        .prop_map(|(needle, offset, layer)| Ematch::Nbyte(EmatchNbyte { needle, offset, layer }));
    let field = proptest::sample::select(vec![
        MetaField::Random,
        MetaField::Priority,
        MetaField::Protocol,
        MetaField::PacketType,
        MetaField::PacketLen,
        MetaField::MacLen,
        MetaField::Mark,
        MetaField::Vlan,
    ]);
    let number = prop_oneof![
        any::<u32>().prop_map(MetaObject::Number),
        (field, any::<u8>(), any::<u32>()).prop_map(|(field, shift, mask)| MetaObject::Field { field, shift, mask }),
    ]
    .boxed();
    let text = || "[ -~]{1,9}".prop_map(|text| MetaObject::Text(text.into_bytes()));
    let device = prop_oneof![any::<u8>().prop_map(|shift| MetaObject::Device { shift }), text()];
    let sides = prop_oneof![(number.clone(), number), (text().boxed(), device.boxed())];
    let meta =
        (sides, operand()).prop_map(|((left, right), operand)| Ematch::Meta(EmatchMeta { left, operand, right }));
    prop_oneof![cmp, u32, nbyte, meta]
}

/// An expression, at least one match long.
pub fn ematches() -> impl Strategy<Value = Vec<EmatchTerm>> {
    let ask =
        ematch().prop_map(EmatchAsk::One).prop_recursive(3, 16, 4, |ask| sequence(ask).prop_map(EmatchAsk::Group));
    sequence(ask)
}

fn sequence(ask: impl Strategy<Value = EmatchAsk> + Clone) -> impl Strategy<Value = Vec<EmatchTerm>> {
    proptest::collection::vec((any::<(bool, bool)>(), ask), 1..5).prop_map(|list| {
        let last = list.len() - 1;
        let term = |(at, ((inverted, and), ask))| {
            let then = match (at == last, and) {
                (true, _) => EmatchThen::End,
                (false, true) => EmatchThen::And,
                (false, false) => EmatchThen::Or,
            };
            EmatchTerm { inverted, ask, then }
        };
        list.into_iter().enumerate().map(term).collect()
    })
}
