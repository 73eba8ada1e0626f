//! `fw`: `TCA_FW_*`, include/uapi/linux/pkt_cls.h; net/sched/cls_fw.c.

use super::attr::{Attrs, Put};
use super::common::{self, Numbers};
use super::{Fw, Lacking, Links};

const NUMBERS: Numbers = Numbers { classid: 1, actions: 4, police: Some(2), flags: None };
const INDEV: u16 = 3;
const MASK: u16 = 5;

/// A mask that is not told is all ones.
pub(super) fn decode(attrs: &Attrs<'_>, links: &Links) -> Result<Fw, Lacking> {
    Ok(Fw {
        mask: attrs.u32(MASK)?.unwrap_or(u32::MAX),
        indev: attrs.text(INDEV),
        common: common::decode(attrs, NUMBERS, links)?,
    })
}

pub(super) fn encode(fw: &Fw, links: &Links) -> Result<Put, Lacking> {
    let mut put = Put::default();
    if let Some(indev) = &fw.indev {
        put.text(INDEV, indev);
    }
    if fw.mask != u32::MAX {
        put.u32(MASK, fw.mask);
    }
    common::encode(&fw.common, NUMBERS, links, &mut put)?;
    Ok(put)
}
