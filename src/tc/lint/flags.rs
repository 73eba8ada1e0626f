//! Lint about TCP flags that no packet carries.

use super::view::View;
use super::{Warning, warn};
use crate::types::ethertype;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;

/// The flags byte at offset 33 of u32, or flower's `tcp_flags`: a combination that no TCP sends.
pub fn impossible(view: &View<'_>, out: &mut Vec<Warning>) {
    let Some((value, mask)) = compared(view) else { return };
    let why = if value & (SYN | RST) == SYN | RST {
        "SYN and RST together"
    } else if value & (SYN | FIN) == SYN | FIN {
        "SYN and FIN together"
    } else if value & (RST | FIN) == RST | FIN {
        "RST and FIN together"
    } else if mask & 0x3f == 0x3f && value & (SYN | RST | ACK) == 0 {
        "neither SYN, RST nor ACK"
    } else {
        return;
    };
    let text = format!("flags {value:#04x}/{mask:#04x} are {} ({why}): no TCP packet carries that", names(value));
    let hint = match value {
        0x06 => {
            "6 is TCP's protocol number, not a flag; SYN is 0x02, SYN+ACK 0x12: leave this match out to take all of a connection"
        }
        _ => "SYN is 0x02, ACK 0x10, SYN+ACK 0x12, FIN+ACK 0x11; leave this match out to take all of a connection",
    };
    out.push(warn(view, "impossible-flags", text, hint));
}

fn compared(view: &View<'_>) -> Option<(u8, u8)> {
    if let Some((value, mask)) = view.flower.as_ref().and_then(|f| f.tcp_flags) {
        return Some((value as u8, mask as u8));
    }
    let tcp = view.proto.protocol == ethertype::IPV4 && view.is_ip_protocol(6) && view.flower.is_none();
    let (value, mask) = view.word(32).filter(|_| tcp)?;
    let (value, mask) = ((value >> 16) as u8, (mask >> 16) as u8);
    (mask != 0).then_some((value, mask))
}

fn names(value: u8) -> String {
    let all = [(FIN, "FIN"), (SYN, "SYN"), (RST, "RST"), (PSH, "PSH"), (ACK, "ACK"), (URG, "URG")];
    let set: Vec<&str> = all.into_iter().filter(|(bit, _)| value & bit != 0).map(|(_, name)| name).collect();
    if set.is_empty() { "none".to_owned() } else { set.join("+") }
}
