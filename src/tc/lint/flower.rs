//! Lint about flower keys that no frame has together.

use super::view::View;
use super::{Warning, warn};
use crate::rules::flower::{FlowerKey, FlowerMore, PortMatch, fragment};
use crate::types::is_tag;

/// Keys that contradict each other, or that the kernel's dissector never finds.
pub fn never(view: &View<'_>, out: &mut Vec<Warning>) {
    let Some(key) = &view.flower else { return };
    let none = FlowerMore::default();
    let more = key.more.as_deref().unwrap_or(&none);
    for (text, hint) in [addresses(key), tags(more), fragments(key, more)].into_iter().flatten() {
        out.push(warn(view, "never-matches", format!("no frame matches this filter: {text}"), hint));
    }
}

type Finding = Option<(String, &'static str)>;

fn addresses(key: &FlowerKey) -> Finding {
    let text = "an address of prefix length 0 makes the kernel ask for addresses that it then does not look for";
    key.no_address.then(|| (text.to_owned(), "leave the address out to take all"))
}

fn tags(more: &FlowerMore) -> Finding {
    let hint = "with num_of_vlans leave the protocol all, or write protocol 802.1Q";
    for tag in &more.vlan {
        if let Some(tpid) = tag.tpid.filter(|tpid| !is_tag(*tpid)) {
            return Some((format!("num_of_vlans makes {tpid:#06x} the type of a VLAN tag"), hint));
        }
    }
    let outer = more.vlan[0].tpid.is_some() && more.num_of_vlans == Some(0);
    outer.then(|| ("it asks for a tag and for num_of_vlans 0".to_owned(), "leave num_of_vlans out"))
}

/// Of a fragment, also of the first, the dissector finds neither ports nor flags nor ICMP: they are 0.
fn fragments(key: &FlowerKey, more: &FlowerMore) -> Finding {
    let (value, mask) = more.ip_flags?;
    let is_fragment = value & mask & (fragment::IS_FRAGMENT | fragment::FIRST) != 0;
    if mask & fragment::IS_FRAGMENT != 0 && value & fragment::IS_FRAGMENT == 0 && value & mask & fragment::FIRST != 0 {
        return Some(("a first fragment is a fragment".to_owned(), "write ip_flags firstfrag alone"));
    }
    let byte = |pair: Option<(u8, u8)>| pair.is_some_and(|(value, _)| value != 0);
    let port = |port: Option<PortMatch>| match port {
        Some(PortMatch::Masked(value, _)) => value != 0,
        Some(PortMatch::Range(first, _)) => first != 0,
        None => false,
    };
    let upper = port(key.src_port)
        || port(key.dst_port)
        || key.tcp_flags.is_some_and(|(value, _)| value != 0)
        || byte(more.icmp_type)
        || byte(more.icmp_code);
    (is_fragment && upper).then(|| {
        let text = "the kernel finds no ports, tcp_flags or ICMP type in a fragment, not in the first either";
        (text.to_owned(), "match fragments by addresses and ip_proto only")
    })
}
