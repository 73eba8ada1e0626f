//! `mirred`: `struct tc_mirred`, include/uapi/linux/tc_act/tc_mirred.h.

use super::super::attr::{Attrs, Put};
use super::super::{Lacking, Links};
use super::{General, Options, structure};
use crate::rules::{Action, Mirred, MirredMode};
use crate::types::Direction;

const PARMS: u16 = 2;
/// Since Linux 6.8.
const BLOCK: u16 = 4;

pub(super) fn decode(attrs: &Attrs<'_>, links: &Links) -> Options {
    structure(attrs, PARMS, "mirred", |control, fields| {
        let (direction, mode) = match fields.i32()? {
            1 => (Direction::Egress, MirredMode::Redirect),
            2 => (Direction::Egress, MirredMode::Mirror),
            3 => (Direction::Ingress, MirredMode::Redirect),
            4 => (Direction::Ingress, MirredMode::Mirror),
            other => return Err(Lacking(format!("mirred's way {other}"))),
        };
        let ifindex = fields.u32()?;
        if attrs.get(BLOCK).is_some() {
            return Err(Lacking("mirred to a shared block".to_owned()));
        }
        let device = links.device(ifindex).ok_or_else(|| match ifindex {
            0 => Lacking("mirred to a device that is gone".to_owned()),
            _ => Lacking(format!("mirred to device number {ifindex}, which has no name here")),
        })?;
        Ok(Action::Mirred(Mirred { direction, mode, device, control }))
    })
}

pub(super) fn encode(mirred: &Mirred, index: u32, links: &Links, put: &mut Put) -> Result<(), Lacking> {
    let way: u32 = match (mirred.direction, mirred.mode) {
        (Direction::Egress, MirredMode::Redirect) => 1,
        (Direction::Egress, MirredMode::Mirror) => 2,
        (Direction::Ingress, MirredMode::Redirect) => 3,
        (Direction::Ingress, MirredMode::Mirror) => 4,
    };
    let ifindex = links.ifindex(mirred.device);
    let ifindex = ifindex.ok_or_else(|| Lacking("mirred to a device that is not in this namespace".to_owned()))?;
    let mut bytes = General::bytes(index, mirred.control);
    bytes.extend([way.to_ne_bytes(), ifindex.to_ne_bytes()].concat());
    put.bytes(PARMS, &bytes);
    Ok(())
}
