//! The masks of flower keys: what is compared, which rules share a mask, what a template allows. It parses nothing.

use crate::rules::{FlowerKey, PortMatch};

/// The same key with its values masked: what is compared. Listings show the values as written.
#[must_use]
pub fn masked(key: &FlowerKey) -> FlowerKey {
    let port = |p: PortMatch| match p {
        PortMatch::Masked(value, mask) => PortMatch::Masked(value & mask, mask),
        PortMatch::Range(from, to) => PortMatch::Range(from, to),
    };
    let address = |(a, m): ([u8; 6], [u8; 6])| (std::array::from_fn(|i| a[i] & m[i]), m);
    FlowerKey {
        eth_type: key.eth_type,
        ip_proto: key.ip_proto,
        src_ipv4: key.src_ipv4.map(|(a, m)| (a & m, m)),
        dst_ipv4: key.dst_ipv4.map(|(a, m)| (a & m, m)),
        src_ipv6: key.src_ipv6.map(|(a, m)| (a & m, m)),
        dst_ipv6: key.dst_ipv6.map(|(a, m)| (a & m, m)),
        src_port: key.src_port.map(port),
        dst_port: key.dst_port.map(port),
        tcp_flags: key.tcp_flags.map(|(v, m)| (v & m, m)),
        src_mac: key.src_mac.map(address),
        dst_mac: key.dst_mac.map(address),
    }
}

/// Which bits a key compares: the key itself with all its values zero. Two rules with the same share a mask in the kernel.
#[must_use]
pub fn mask_of(key: &FlowerKey) -> FlowerKey {
    let port = |p: PortMatch| match p {
        PortMatch::Masked(_, mask) => PortMatch::Masked(0, mask),
        PortMatch::Range(..) => PortMatch::Range(0, 0),
    };
    FlowerKey {
        eth_type: key.eth_type.map(|_| 0),
        ip_proto: key.ip_proto.map(|_| 0),
        src_ipv4: key.src_ipv4.map(|(_, m)| (0.into(), m)),
        dst_ipv4: key.dst_ipv4.map(|(_, m)| (0.into(), m)),
        src_ipv6: key.src_ipv6.map(|(_, m)| (0.into(), m)),
        dst_ipv6: key.dst_ipv6.map(|(_, m)| (0.into(), m)),
        src_port: key.src_port.map(port),
        dst_port: key.dst_port.map(port),
        tcp_flags: key.tcp_flags.map(|(_, m)| (0, m)),
        src_mac: key.src_mac.map(|(_, m)| ([0; 6], m)),
        dst_mac: key.dst_mac.map(|(_, m)| ([0; 6], m)),
    }
}

/// Whether a key compares only bits that a chain's template compares too (`fl_mask_fits_tmplt()`).
#[must_use]
pub fn fits_template(key: &FlowerKey, template: &FlowerKey) -> bool {
    fn within<T: Copy>(key: Option<T>, template: Option<T>, fits: impl Fn(T, T) -> bool) -> bool {
        key.is_none_or(|k| template.is_some_and(|t| fits(k, t)))
    }
    let mac = |k: ([u8; 6], [u8; 6]), t: ([u8; 6], [u8; 6])| (0..6).all(|i| k.1[i] & !t.1[i] == 0);
    let port = |k, t| match (k, t) {
        (PortMatch::Masked(_, k), PortMatch::Masked(_, t)) => k & !t == 0,
        (PortMatch::Range(..), PortMatch::Range(..)) => true,
        (PortMatch::Masked(..), PortMatch::Range(..)) | (PortMatch::Range(..), PortMatch::Masked(..)) => false,
    };
    within(key.eth_type, template.eth_type, |_, _| true)
        && within(key.ip_proto, template.ip_proto, |_, _| true)
        && within(key.src_ipv4, template.src_ipv4, |k, t| k.1 & t.1 == k.1)
        && within(key.dst_ipv4, template.dst_ipv4, |k, t| k.1 & t.1 == k.1)
        && within(key.src_ipv6, template.src_ipv6, |k, t| k.1 & t.1 == k.1)
        && within(key.dst_ipv6, template.dst_ipv6, |k, t| k.1 & t.1 == k.1)
        && within(key.src_port, template.src_port, port)
        && within(key.dst_port, template.dst_port, port)
        && within(key.tcp_flags, template.tcp_flags, |k, t| k.1 & !t.1 == 0)
        && within(key.src_mac, template.src_mac, mac)
        && within(key.dst_mac, template.dst_mac, mac)
}
