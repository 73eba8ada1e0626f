//! `flower`: `TCA_FLOWER_*`, include/uapi/linux/pkt_cls.h; net/sched/cls_flower.c.

use super::attr::{Attrs, Put};
use super::{Common, Flower, Lacking, Links, action};
use crate::rules::flower::FlowerIpv6;
use crate::rules::{FlowerKey, PortMatch};

const CLASSID: u16 = 1;
const ACT: u16 = 3;
const FLAGS: u16 = 22;
const IN_HW_COUNT: u16 = 86;

const ETH_DST: u16 = 4;
const ETH_SRC: u16 = 6;
const ETH_TYPE: u16 = 8;
const IP_PROTO: u16 = 9;
const IPV4_SRC: u16 = 10;
const IPV4_DST: u16 = 12;
const IPV6_SRC: u16 = 14;
const IPV6_DST: u16 = 16;
const TCP_FLAGS: u16 = 71;
/// Protocol, then value and mask of source and destination port.
const PORTS: [(u8, [u16; 4]); 3] = [(6, [18, 35, 19, 36]), (17, [20, 37, 21, 38]), (132, [41, 39, 42, 40])];
/// The first and last port of a range, of source and destination.
const RANGES: [[u16; 2]; 2] = [[87, 88], [89, 90]];

/// Keys that are not read, by tc's names. What is not listed is told by its number.
const OTHERS: &[(u16, &str)] = &[
    (2, "indev"),
    (23, "vlan_id"),
    (24, "vlan_prio"),
    (25, "vlan_ethtype"),
    (26, "enc_key_id"),
    (27, "enc_src_ip"),
    (29, "enc_dst_ip"),
    (31, "enc_src_ip"),
    (33, "enc_dst_ip"),
    (43, "enc_src_port"),
    (45, "enc_dst_port"),
    (47, "ip_flags"),
    (49, "code"),
    (51, "type"),
    (53, "code"),
    (55, "type"),
    (57, "arp_sip"),
    (59, "arp_tip"),
    (61, "arp_op"),
    (63, "arp_sha"),
    (65, "arp_tha"),
    (67, "mpls_ttl"),
    (68, "mpls_bos"),
    (69, "mpls_tc"),
    (70, "mpls_label"),
    (73, "ip_tos"),
    (75, "ip_ttl"),
    (77, "cvlan_id"),
    (78, "cvlan_prio"),
    (79, "cvlan_ethtype"),
    (80, "enc_tos"),
    (82, "enc_ttl"),
    (84, "geneve_opts, vxlan_opts or erspan_opts"),
    (91, "ct_state"),
    (93, "ct_zone"),
    (95, "ct_mark"),
    (97, "ct_label"),
    (99, "mpls"),
    (100, "hash"),
    (102, "num_of_vlans"),
    (103, "pppoe_sid"),
    (104, "ppp_proto"),
    (105, "l2tpv3_sid"),
];

pub(super) fn decode(attrs: &Attrs<'_>, links: &Links) -> Result<Flower, Lacking> {
    let flags = attrs.u32(FLAGS)?.unwrap_or(0);
    let common = Common {
        classid: attrs.u32(CLASSID)?,
        actions: action::decode_list(&attrs.nest(ACT)?, links)?,
        old_police: false,
        skip_hw: flags & super::message::SKIP_HW != 0,
        skip_sw: flags & super::message::SKIP_SW != 0,
    };
    Ok(Flower { key: decode_key(attrs)?, common })
}

/// The keys of a filter or of a chain's template.
pub(super) fn decode_key(attrs: &Attrs<'_>) -> Result<FlowerKey, Lacking> {
    refuse_others(attrs)?;
    let mac = |kind| pair::<6, _>(attrs, kind, kind + 1, |bytes| bytes);
    let v4 = |kind| pair::<4, _>(attrs, kind, kind + 1, Into::into);
    let v6 = |kind| pair::<16, _>(attrs, kind, kind + 1, Into::into);
    let mut key = FlowerKey {
        eth_type: attrs.be16(ETH_TYPE)?,
        ip_proto: attrs.u8(IP_PROTO)?,
        src_ipv4: v4(IPV4_SRC)?,
        dst_ipv4: v4(IPV4_DST)?,
        src_port: port(attrs, 0)?,
        dst_port: port(attrs, 1)?,
        tcp_flags: pair::<2, _>(attrs, TCP_FLAGS, TCP_FLAGS + 1, u16::from_be_bytes)?,
        src_mac: mac(ETH_SRC)?,
        dst_mac: mac(ETH_DST)?,
        ..FlowerKey::default()
    };
    *key.ipv6_mut() = FlowerIpv6 { src: v6(IPV6_SRC)?, dst: v6(IPV6_DST)? };
    key.settle();
    Ok(key)
}

fn refuse_others(attrs: &Attrs<'_>) -> Result<(), Lacking> {
    let ports = PORTS.iter().flat_map(|(_, kinds)| kinds).chain(RANGES.iter().flatten());
    let pairs = [ETH_DST, ETH_SRC, IPV4_SRC, IPV4_DST, IPV6_SRC, IPV6_DST, TCP_FLAGS];
    let mut known = vec![CLASSID, ACT, FLAGS, IN_HW_COUNT, ETH_TYPE, IP_PROTO];
    known.extend(pairs.iter().flat_map(|kind| [*kind, kind + 1]).chain(ports.copied()));
    let Some((kind, _)) = attrs.iter().find(|(kind, _)| !known.contains(kind)) else { return Ok(()) };
    let name = OTHERS.iter().find(|(number, _)| *number == kind || *number + 1 == kind).map(|(_, name)| *name);
    Err(Lacking(match name {
        Some(name) => format!("the flower key {name}"),
        None => format!("the flower key number {kind} (TCA_FLOWER_*)"),
    }))
}

/// A value and its mask; without a mask all bits count.
fn pair<const N: usize, T>(
    attrs: &Attrs<'_>,
    value: u16,
    mask: u16,
    read: impl Fn([u8; N]) -> T,
) -> Result<Option<(T, T)>, Lacking> {
    let Some(bytes) = attrs.array::<N>(value)? else { return Ok(None) };
    let mask = attrs.array::<N>(mask)?.unwrap_or([0xff; N]);
    Ok(Some((read(bytes), read(mask))))
}

/// `end` is 0 for the source, 1 for the destination.
fn port(attrs: &Attrs<'_>, end: usize) -> Result<Option<PortMatch>, Lacking> {
    for (_, kinds) in PORTS {
        let found = pair::<2, _>(attrs, kinds[2 * end], kinds[2 * end + 1], u16::from_be_bytes)?;
        if let Some((value, mask)) = found.filter(|(_, mask)| *mask != 0) {
            return Ok(Some(PortMatch::Masked(value, mask)));
        }
    }
    let [first, last] = RANGES[end];
    let range = attrs.be16(first)?.zip(attrs.be16(last)?);
    Ok(range.map(|(first, last)| PortMatch::Range(first, last)))
}

pub(super) fn encode(flower: &Flower, links: &Links) -> Result<Put, Lacking> {
    let mut put = Put::default();
    if let Some(classid) = flower.common.classid {
        put.u32(CLASSID, classid);
    }
    encode_key(&flower.key, &mut put)?;
    super::message::put_flags(&flower.common, FLAGS, &mut put);
    put.nest(ACT, &action::encode_list(&flower.common.actions, links)?);
    Ok(put)
}

fn encode_key(key: &FlowerKey, put: &mut Put) -> Result<(), Lacking> {
    if key.no_address || key.more.is_some() {
        return Err(Lacking("flower keys beyond addresses, ports and flags".to_owned()));
    }
    let mut pair = |kind: u16, value: &[u8], mask: &[u8]| {
        put.bytes(kind, value).bytes(kind + 1, mask);
    };
    for (kind, field) in [(ETH_DST, key.dst_mac), (ETH_SRC, key.src_mac)] {
        field.iter().for_each(|(value, mask)| pair(kind, value, mask));
    }
    for (kind, field) in [(IPV4_SRC, key.src_ipv4), (IPV4_DST, key.dst_ipv4)] {
        field.iter().for_each(|(value, mask)| pair(kind, &value.octets(), &mask.octets()));
    }
    let [src, dst] = key.addresses6();
    for (kind, field) in [(IPV6_SRC, src), (IPV6_DST, dst)] {
        field.iter().for_each(|(value, mask)| pair(kind, &value.octets(), &mask.octets()));
    }
    if let Some((value, mask)) = key.tcp_flags {
        pair(TCP_FLAGS, &value.to_be_bytes(), &mask.to_be_bytes());
    }
    if let Some(eth_type) = key.eth_type {
        put.be16(ETH_TYPE, eth_type);
    }
    if let Some(protocol) = key.ip_proto {
        put.u8(IP_PROTO, protocol);
    }
    for (end, port) in [key.src_port, key.dst_port].into_iter().enumerate() {
        match port {
            None => {}
            Some(PortMatch::Range(first, last)) => {
                put.be16(RANGES[end][0], first).be16(RANGES[end][1], last);
            }
            Some(PortMatch::Masked(value, mask)) => {
                let known = PORTS.iter().find(|(protocol, _)| key.ip_proto == Some(*protocol));
                let (_, kinds) =
                    known.ok_or_else(|| Lacking("a flower port without ip_proto tcp, udp or sctp".to_owned()))?;
                put.be16(kinds[2 * end], value).be16(kinds[2 * end + 1], mask);
            }
        }
    }
    Ok(())
}
