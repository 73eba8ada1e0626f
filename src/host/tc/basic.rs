//! `basic`: `TCA_BASIC_*`, include/uapi/linux/pkt_cls.h; net/sched/cls_basic.c. Its expression is in [`super::ematch`].

use super::attr::{Attrs, Put};
use super::common::{self, Numbers};
use super::{Basic, Lacking, Links, ematch};

const NUMBERS: Numbers = Numbers { classid: 1, actions: 3, police: Some(4), flags: None };
const EMATCHES: u16 = 2;

pub(super) fn decode(attrs: &Attrs<'_>, links: &Links) -> Result<Basic, Lacking> {
    Ok(Basic { ematches: ematch::decode(&attrs.nest(EMATCHES)?)?, common: common::decode(attrs, NUMBERS, links)? })
}

pub(super) fn encode(basic: &Basic, links: &Links) -> Result<Put, Lacking> {
    let mut put = Put::default();
    if !basic.ematches.is_empty() {
        put.nest(EMATCHES, &ematch::encode(&basic.ematches)?);
    }
    common::encode(&basic.common, NUMBERS, links, &mut put)?;
    Ok(put)
}
