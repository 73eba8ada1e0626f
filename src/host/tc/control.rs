//! How to go on after an action, as the kernel's number: include/uapi/linux/pkt_cls.h.

use super::Lacking;
use crate::rules::Control;

/// `TC_ACT_EXT_SHIFT`.
const EXTENDED_SHIFT: u32 = 28;
const VALUE: u32 = (1 << EXTENDED_SHIFT) - 1;

/// `TC_ACT_*`.
pub(super) fn decode(number: i32) -> Result<Control, Lacking> {
    let bits = number.cast_unsigned();
    Ok(match number {
        -1 => Control::Continue,
        0 => Control::Pass,
        1 => Control::Reclassify,
        2 => Control::Shot,
        3 => Control::Pipe,
        4 => Control::Stolen,
        5 => Control::Queued,
        8 => Control::Trap,
        _ if bits >> EXTENDED_SHIFT == 1 => Control::Jump(bits & VALUE),
        _ if bits >> EXTENDED_SHIFT == 2 => Control::GotoChain(bits & VALUE),
        _ => return Err(Lacking(format!("the control {number} (TC_ACT_*)"))),
    })
}

/// The other way.
pub(super) const fn encode(control: Control) -> i32 {
    match control {
        Control::Continue => -1,
        Control::Pass => 0,
        Control::Reclassify => 1,
        Control::Shot => 2,
        Control::Pipe => 3,
        Control::Stolen => 4,
        Control::Queued => 5,
        Control::Trap => 8,
        Control::Jump(count) => (1 << EXTENDED_SHIFT | count & VALUE).cast_signed(),
        Control::GotoChain(chain) => (2 << EXTENDED_SHIFT | chain & VALUE).cast_signed(),
    }
}
