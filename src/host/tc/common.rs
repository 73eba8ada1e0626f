//! What filters of all kinds have: classid, actions, flags. The numbers of the attributes are the kind's.

use super::attr::{Attrs, Put};
use super::{Common, Lacking, Links, action};

/// `TCA_CLS_FLAGS_*`, include/uapi/linux/pkt_cls.h.
const SKIP_HW: u32 = 1;
const SKIP_SW: u32 = 2;

/// Which attributes of a kind they are.
#[derive(Clone, Copy)]
pub(super) struct Numbers {
    pub(super) classid: u16,
    pub(super) actions: u16,
    /// The old form of a policer, instead of actions.
    pub(super) police: Option<u16>,
    pub(super) flags: Option<u16>,
}

pub(super) fn decode(attrs: &Attrs<'_>, numbers: Numbers, links: &Links) -> Result<Common, Lacking> {
    let flags = numbers.flags.map_or(Ok(None), |kind| attrs.u32(kind))?.unwrap_or(0);
    let mut common = Common {
        classid: attrs.u32(numbers.classid)?,
        actions: action::decode_list(&attrs.nest(numbers.actions)?, links)?,
        old_police: false,
        skip_hw: flags & SKIP_HW != 0,
        skip_sw: flags & SKIP_SW != 0,
    };
    if let Some(police) = numbers.police.filter(|kind| attrs.get(*kind).is_some()) {
        common.actions = vec![action::decode_old_police(&attrs.nest(police)?)];
        common.old_police = true;
    }
    Ok(common)
}

pub(super) fn encode(common: &Common, numbers: Numbers, links: &Links, put: &mut Put) -> Result<(), Lacking> {
    if let Some(classid) = common.classid {
        put.u32(numbers.classid, classid);
    }
    let flags = if common.skip_hw { SKIP_HW } else { 0 } | if common.skip_sw { SKIP_SW } else { 0 };
    if let Some(kind) = numbers.flags.filter(|_| flags != 0) {
        put.u32(kind, flags);
    }
    match (numbers.police.filter(|_| common.old_police), common.actions.as_slice()) {
        (_, []) => {}
        (Some(kind), [police]) => {
            let what = police.what.as_ref().map_err(Clone::clone)?;
            put.nest(kind, &action::encode_options(what, police.index, links)?);
        }
        (Some(_), _) => return Err(Lacking("several actions under the old word police".to_owned())),
        (None, actions) => {
            put.nest(numbers.actions, &action::encode_list(actions, links)?);
        }
    }
    Ok(())
}
