//! `flower`: `TCA_FLOWER_*`, include/uapi/linux/pkt_cls.h; net/sched/cls_flower.c. Keys of VLAN tags and PPPoE are in [`tags`], those
//! with a value and a mask in [`keys`].

mod keys;
mod mpls;
mod tags;

use std::ops::RangeInclusive;

use super::attr::{Attrs, Put};
use super::common::{self, Numbers};
use super::{Flower, Lacking, Links};
use crate::rules::FlowerKey;

const NUMBERS: Numbers = Numbers { classid: 1, actions: 3, police: None, flags: Some(22) };
const INDEV: u16 = 2;

/// Attributes that are read, or say nothing of what is compared (`TCA_FLOWER_IN_HW_COUNT`).
const READ: &[RangeInclusive<u16>] = &[1..=22, 23..=25, 35..=42, 47..=79, 86..=90, 99..=99, 102..=104];
/// The others by tc's names: value or mask. What is not listed is told by its number.
const OTHERS: &[(RangeInclusive<u16>, &str)] = &[
    (26..=26, "enc_key_id"),
    (27..=28, "enc_src_ip"),
    (29..=30, "enc_dst_ip"),
    (31..=32, "enc_src_ip"),
    (33..=34, "enc_dst_ip"),
    (43..=44, "enc_src_port"),
    (45..=46, "enc_dst_port"),
    (80..=81, "enc_tos"),
    (82..=83, "enc_ttl"),
    (84..=85, "geneve_opts, vxlan_opts, erspan_opts or gtp_opts"),
    (91..=92, "ct_state"),
    (93..=94, "ct_zone"),
    (95..=96, "ct_mark"),
    (97..=98, "ct_label"),
    (100..=101, "hash"),
    (105..=105, "l2tpv3_sid"),
];

/// A filter of this protocol.
pub(super) fn decode(attrs: &Attrs<'_>, protocol: u16, links: &Links) -> Result<Flower, Lacking> {
    let common = common::decode(attrs, NUMBERS, links)?;
    Ok(Flower { key: decode_key(attrs, Some(protocol), links)?, common })
}

/// The template of a chain, whose protocol the kernel does not tell: if it has tags, the outer one is taken for 802.1Q.
pub(super) fn decode_template(attrs: &Attrs<'_>, links: &Links) -> Result<FlowerKey, Lacking> {
    decode_key(attrs, None, links)
}

fn decode_key(attrs: &Attrs<'_>, protocol: Option<u16>, links: &Links) -> Result<FlowerKey, Lacking> {
    refuse_others(attrs)?;
    let mut key = FlowerKey::default();
    tags::decode(attrs, protocol, &mut key)?;
    keys::decode(attrs, &mut key)?;
    key.more_mut().mpls = mpls::decode(attrs)?;
    if let Some(name) = attrs.text(INDEV) {
        let device = links.named(&name);
        key.more_mut().indev =
            Some(device.ok_or_else(|| Lacking(format!("the flower key indev {name}, a device that is gone")))?);
    }
    key.settle();
    Ok(key)
}

fn refuse_others(attrs: &Attrs<'_>) -> Result<(), Lacking> {
    let unread = |(kind, _): &(u16, &[u8])| !READ.iter().any(|range| range.contains(kind));
    let Some((kind, _)) = attrs.iter().find(unread) else { return Ok(()) };
    Err(Lacking(match OTHERS.iter().find(|(range, _)| range.contains(&kind)) {
        Some((_, name)) => format!("the flower key {name}"),
        None => format!("the flower key number {kind} (TCA_FLOWER_*)"),
    }))
}

/// A value and its mask, which is the next attribute; without one all bits count. `None` also where no bit does.
fn pair<const N: usize, T>(
    attrs: &Attrs<'_>,
    (value, mask): (u16, u16),
    read: impl Fn([u8; N]) -> T,
) -> Result<Option<(T, T)>, Lacking> {
    let Some(bytes) = attrs.array::<N>(value)? else { return Ok(None) };
    let mask = attrs.array::<N>(mask)?.unwrap_or([0xff; N]);
    Ok((mask != [0; N]).then(|| (read(bytes), read(mask))))
}

pub(super) fn encode(flower: &Flower, links: &Links) -> Result<Put, Lacking> {
    let mut put = encode_template(&flower.key, links)?;
    common::encode(&flower.common, NUMBERS, links, &mut put)?;
    Ok(put)
}

/// The keys alone.
pub(super) fn encode_template(key: &FlowerKey, links: &Links) -> Result<Put, Lacking> {
    let mut put = Put::default();
    tags::encode(key, &mut put);
    keys::encode(key, &mut put)?;
    if let Some(more) = &key.more {
        mpls::encode(&more.mpls, &mut put);
        if let Some(device) = more.indev {
            let name = links.list.get(device.index()).map(|(_, key)| &key.name);
            put.text(INDEV, name.ok_or_else(|| Lacking("a device of another namespace".to_owned()))?);
        }
    }
    Ok(put)
}
