//! Lints about ports and offsets: masks that match more than one port, fragments and options, keys before the frame.

use super::view::{Port, View};
use super::{Warning, warn};
use crate::rules::U32Base;
use crate::types::ethertype;

/// How many of the other ports are named.
const NAMED_MAX: usize = 4;

/// A port with a mask that is not ffff: names the other ports that match.
pub fn masks(view: &View<'_>, out: &mut Vec<Warning>) {
    for port in view.ports().into_iter().filter(|p| p.mask != u16::MAX) {
        let which = name(port);
        let count = 1u32 << port.mask.count_zeros();
        let first: Vec<String> = matching(port).take(NAMED_MAX).map(|p| p.to_string()).collect();
        let last = port.value | !port.mask;
        let text = format!(
            "the {which} is compared with mask {:#06x} only: {count} ports match, {}, … {last}",
            port.mask,
            first.join(", ")
        );
        let hint = match port.mask {
            0x00ff => format!(
                "an 8-bit mask looks at the low byte {:#04x} alone (12345 and 57 have the same); write 0xffff after the port",
                port.value
            ),
            _ => "write 0xffff after the port, unless all of these are meant".to_owned(),
        };
        out.push(warn(view, "port-mask", text, hint));
    }
}

fn name(port: Port) -> &'static str {
    if port.destination { "destination port" } else { "source port" }
}

/// The ports that match, ascending.
fn matching(port: Port) -> impl Iterator<Item = u16> {
    (0..=u16::MAX).filter(move |p| p & port.mask == port.value)
}

/// u32 ports at a fixed offset: wrong for fragments and for IP options.
pub fn assumptions(view: &View<'_>, out: &mut Vec<Warning>) {
    if view.flower.is_some() || view.proto.protocol != ethertype::IPV4 || view.ports().is_empty() {
        return;
    }
    let no_fragment = view.word(4).is_some_and(|(v, m)| m & 0x1fff == 0x1fff && v & 0x1fff == 0);
    let no_options =
        view.word(0).is_some_and(|(v, m)| m & 0x0f00_0000 == 0x0f00_0000 && v & 0x0f00_0000 == 0x0500_0000);
    let (why, keys) = match (no_fragment, no_options) {
        (true, true) => return,
        (false, true) => ("later fragments", "match ip nofrag"),
        (true, false) => ("packets with IP options", "match ip ihl 5 0xf"),
        (false, false) => ("later fragments and packets with IP options", "match ip nofrag match ip ihl 5 0xf"),
    };
    let text = format!("ports are compared at a fixed offset, so {why} match or miss by whatever bytes stand there");
    let hint = format!(
        "add \"{keys}\"; ihl is the low half of the byte, its mask is 0xf; or use flower, which finds the header itself"
    );
    out.push(warn(view, "port-offset", text, hint));
}

/// Negative offsets that no frame has.
pub fn beyond_header(view: &View<'_>, out: &mut Vec<Warning>) {
    const MAC_HEADER: i32 = -14;
    for key in view.words.iter().filter(|k| k.base == U32Base::Network && k.offset < MAC_HEADER) {
        // The aligned word at −16 holds the first two bytes of the frame in its low half.
        let in_frame = if key.offset == -16 { 0x0000_ffff } else { 0 };
        if key.mask & !in_frame == 0 && key.offset == -16 && key.mask != 0 {
            continue;
        }
        let text = format!(
            "the key at {} is before the Ethernet header: the kernel compares what happens to lie in memory there",
            key.offset
        );
        let hint = "the first byte of the frame is at -14; here such a key never matches";
        out.push(warn(view, "before-header", text, hint));
    }
}
