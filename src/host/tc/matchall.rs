//! `matchall`: include/uapi/linux/pkt_cls.h; net/sched/cls_matchall.c.

use super::attr::{Attrs, Put};
use super::common::{self, Numbers};
use super::{Common, Lacking, Links};

const NUMBERS: Numbers = Numbers { classid: 1, actions: 2, police: None, flags: Some(3) };

pub(super) fn decode(attrs: &Attrs<'_>, links: &Links) -> Result<Common, Lacking> {
    common::decode(attrs, NUMBERS, links)
}

pub(super) fn encode(matchall: &Common, links: &Links) -> Result<Put, Lacking> {
    let mut put = Put::default();
    common::encode(matchall, NUMBERS, links, &mut put)?;
    Ok(put)
}
