//! `matchall`: include/uapi/linux/pkt_cls.h; net/sched/cls_matchall.c.

use super::attr::{Attrs, Put};
use super::{Common, Lacking, Links, action};

const CLASSID: u16 = 1;
const ACT: u16 = 2;
const FLAGS: u16 = 3;

pub(super) fn decode(attrs: &Attrs<'_>, links: &Links) -> Result<Common, Lacking> {
    let flags = attrs.u32(FLAGS)?.unwrap_or(0);
    Ok(Common {
        classid: attrs.u32(CLASSID)?,
        actions: action::decode_list(&attrs.nest(ACT)?, links)?,
        old_police: false,
        skip_hw: flags & super::message::SKIP_HW != 0,
        skip_sw: flags & super::message::SKIP_SW != 0,
    })
}

pub(super) fn encode(common: &Common, links: &Links) -> Result<Put, Lacking> {
    let mut put = Put::default();
    if let Some(classid) = common.classid {
        put.u32(CLASSID, classid);
    }
    super::message::put_flags(common, FLAGS, &mut put);
    put.nest(ACT, &action::encode_list(&common.actions, links)?);
    Ok(put)
}
