//! `flower`: parse, and its keys in text and JSON. It changes no state.

mod mask;
mod print;

pub use mask::{fits_template, mask_of, masked};
pub use print::{json, text};

use super::super::action;
use super::super::args::Args;
use super::super::command::Word;
use super::super::error::{TcError, exit};
use super::super::number::{Prefix, get_u16, mac, mask_v4, mask_v6, matches, prefix, unsigned};
use super::super::proto;
use super::{Common, number_handle, parse_classid};
use crate::rules::{FlowerKey, PortMatch};
use crate::types::ethertype;

/// A flower filter as written.
#[derive(Clone, Debug, Default)]
pub struct FlowerSpec {
    /// `handle N`; 0: none given.
    pub handle: u32,
    /// What it compares, as written: values may have bits outside their masks.
    pub key: FlowerKey,
    /// `classid`, actions, flags.
    pub common: Common,
}

/// Words in the order in which tc tries prefixes (tc/f_flower.c); those that are not parsed below are refused by name.
const WORDS: &[&str] = &[
    "classid",
    "hw_tc",
    "ip_flags",
    "verbose",
    "skip_hw",
    "skip_sw",
    "ct_state",
    "ct_zone",
    "ct_mark",
    "ct_label",
    "indev",
    "vlan_id",
    "vlan_prio",
    "vlan_ethtype",
    "num_of_vlans",
    "cvlan_id",
    "cvlan_prio",
    "cvlan_ethtype",
    "mpls",
    "mpls_label",
    "mpls_tc",
    "mpls_bos",
    "mpls_ttl",
    "dst_mac",
    "src_mac",
    "ip_proto",
    "ip_tos",
    "ip_ttl",
    "dst_ip",
    "src_ip",
    "dst_port",
    "src_port",
    "tcp_flags",
    "type",
    "code",
    "arp_tip",
    "arp_sip",
    "arp_op",
    "arp_tha",
    "arp_sha",
    "enc_dst_ip",
    "enc_src_ip",
    "enc_key_id",
    "enc_dst_port",
    "enc_tos",
    "enc_ttl",
    "geneve_opts",
    "vxlan_opts",
    "erspan_opts",
    "gtp_opts",
    "pppoe_sid",
    "ppp_proto",
    "l2tpv3_sid",
    "action",
];

const TCP: u8 = 6;

/// Parses the words after `flower` (`flower_parse_opt()`, tc/f_flower.c). `protocol` is the filter's.
///
/// # Errors
/// What tc says; keys that viscum lacks are refused by name.
pub fn parse(args: &mut Args<'_>, handle: Option<&Word>, protocol: u16) -> Result<FlowerSpec, TcError> {
    let mut spec = FlowerSpec { handle: number_handle(handle)?, ..FlowerSpec::default() };
    let mut flags = None;
    while let Some(word) = args.word() {
        let token = args.position();
        let name = if word == "flowid" { Some("classid") } else { WORDS.iter().copied().find(|w| matches(word, w)) };
        match name {
            Some("classid") => {
                spec.common.classid = parse_classid(args)?;
                continue;
            }
            Some("action") => {
                args.next_word()?;
                spec.common.actions.extend(action::parse_list(args)?);
                continue;
            }
            Some("skip_hw") => spec.common.skip_hw = true,
            Some("skip_sw") => spec.common.skip_sw = true,
            Some("verbose") => {}
            Some("tcp_flags") => flags = Some(tcp_flags(args)?),
            Some(name) => key(args, name, word, protocol, &mut spec.key)?,
            None => {
                let hint = "flower takes dst_ip, src_ip, ip_proto, dst_port, src_port, tcp_flags, dst_mac, src_mac, classid, action";
                return Err(TcError::parse(format!("What is \"{word}\"?"), token, hint));
            }
        }
        args.skip();
    }
    if protocol != ethertype::ALL && protocol != 0 {
        spec.key.eth_type = Some(protocol);
    }
    // The kernel looks at the flags only beside ip_proto tcp (fl_set_key()).
    spec.key.tcp_flags = flags.filter(|_| spec.key.ip_proto == Some(TCP)).filter(|(_, mask)| *mask != 0);
    Ok(spec)
}

/// One key with its value; the current word is its name.
fn key(args: &mut Args<'_>, name: &str, word: &str, protocol: u16, key: &mut FlowerKey) -> Result<(), TcError> {
    let unsupported = TcError::unsupported(&format!("the flower key {name}"), args.position());
    match name {
        "dst_mac" => key.dst_mac = masked_mac(args, name)?,
        "src_mac" => key.src_mac = masked_mac(args, name)?,
        "ip_proto" => key.ip_proto = Some(ip_proto(args, protocol)?),
        "dst_ip" => ip(args, name, protocol, &mut key.dst_ipv4, &mut key.dst_ipv6)?,
        "src_ip" => ip(args, name, protocol, &mut key.src_ipv4, &mut key.src_ipv6)?,
        "dst_port" => key.dst_port = port(args, name, key.ip_proto)?,
        "src_port" => key.src_port = port(args, name, key.ip_proto)?,
        _ => {
            debug_assert!(!word.is_empty(), "a word that matched is not empty");
            return Err(unsupported);
        }
    }
    Ok(())
}

fn illegal(name: &str, args: &Args<'_>, hint: &str) -> TcError {
    TcError::parse(format!("Illegal \"{name}\""), args.position(), hint)
}

fn is_ip(protocol: u16) -> bool {
    matches!(protocol, ethertype::IPV4 | ethertype::IPV6)
}

fn ip_proto(args: &mut Args<'_>, protocol: u16) -> Result<u8, TcError> {
    let text = args.next_word()?;
    if !is_ip(protocol) {
        return Err(illegal("ip_proto", args, "ip_proto needs protocol ip or ipv6 before flower"));
    }
    let hint = "use tcp, udp, sctp, icmp, icmpv6, or a hexadecimal number";
    proto::ip_number(text).ok_or_else(|| illegal("ip_proto", args, hint))
}

type V4 = Option<(std::net::Ipv4Addr, std::net::Ipv4Addr)>;
type V6 = Option<(std::net::Ipv6Addr, std::net::Ipv6Addr)>;

/// `dst_ip`/`src_ip`. A prefix of length 0 compares nothing, so it is no key.
fn ip(args: &mut Args<'_>, name: &str, protocol: u16, v4: &mut V4, v6: &mut V6) -> Result<(), TcError> {
    let text = args.next_word()?;
    if !is_ip(protocol) {
        return Err(illegal(name, args, "addresses need protocol ip or ipv6 before flower"));
    }
    let is_v6 = protocol == ethertype::IPV6;
    let family = if is_v6 { "inet6" } else { "inet" };
    match prefix(text, Some(is_v6)) {
        Some(Prefix::V4(address, bits)) => {
            let mask = mask_v4(bits);
            *v4 = (bits > 0).then(|| (address, mask.into()));
        }
        Some(Prefix::V6(address, bits)) => {
            let mask = mask_v6(bits);
            *v6 = (bits > 0).then(|| (address, mask.into()));
        }
        Some(Prefix::Any) | None => {
            let message = format!("Error: {family} prefix is expected rather than \"{text}\".");
            let hint = "write ADDRESS or ADDRESS/LENGTH";
            return Err(TcError {
                exit_code: exit::PARSE,
                messages: vec![message],
                hint: hint.to_owned(),
                token: Some(args.position()),
            });
        }
    }
    Ok(())
}

/// `80`, `80/0xfff0` or `8000-9000`; only beside `ip_proto tcp|udp|sctp` (`flower_parse_port()`).
fn port(args: &mut Args<'_>, name: &str, ip_proto: Option<u8>) -> Result<Option<PortMatch>, TcError> {
    let text = args.next_word()?;
    if !matches!(ip_proto, Some(6 | 17 | 132)) {
        return Err(illegal(name, args, "write ip_proto tcp (or udp, sctp) before the port"));
    }
    let hint = "write PORT, PORT/MASK or FROM-TO";
    let number = |s: &str| get_u16(s, 10).ok_or_else(|| illegal(name, args, hint));
    if let Some((from, to)) = text.split_once('-') {
        let (from, to) = (number(from)?, number(to)?);
        if from >= to {
            args.stderr.push("max value should be greater than min value".to_owned());
            return Err(illegal(name, args, "the first port of a range must be smaller than the last"));
        }
        return Ok(Some(PortMatch::Range(from, to)));
    }
    let (value, mask) = match text.split_once('/') {
        None => (number(text)?, u16::MAX),
        Some((value, mask)) => {
            let mask = get_u16(mask, 0).ok_or_else(|| illegal(name, args, hint))?;
            (number(value)?, mask)
        }
    };
    Ok((mask != 0).then_some(PortMatch::Masked(value, mask)))
}

/// `FLAGS` or `FLAGS/MASK`, in hex, 12 bits (`flower_parse_tcp_flags()`).
fn tcp_flags(args: &mut Args<'_>) -> Result<(u16, u16), TcError> {
    let text = args.next_word()?;
    let (value, mask) = text.split_once('/').map_or((text, "fff"), |(v, m)| (v, m));
    let read = |s: &str| unsigned(s, 16).filter(|n| *n <= 0xfff).map(|n| n as u16);
    match (read(value), read(mask)) {
        (Some(value), Some(mask)) => Ok((value, mask)),
        _ => Err(illegal("tcp_flags", args, "write FLAGS or FLAGS/MASK in hex, at most 0xfff")),
    }
}

/// An address and a mask.
type MaskedMac = ([u8; 6], [u8; 6]);

/// `MAC`, `MAC/MASK` or `MAC/BITS`.
fn masked_mac(args: &mut Args<'_>, name: &str) -> Result<Option<MaskedMac>, TcError> {
    let text = args.next_word()?;
    let hint = "write six hex bytes, like 70:00:00:00:00:00, or with a mask, MAC/BITS";
    let (address, mask) = text.split_once('/').map_or((text, None), |(a, m)| (a, Some(m)));
    let mask = match mask {
        None => Some([0xff; 6]),
        Some(m) if m.contains(':') => mac(m),
        Some(bits) => unsigned(bits, 10).filter(|b| (1..=48).contains(b)).map(|bits| {
            let mask = (u64::MAX << (48 - bits)).to_be_bytes();
            [mask[2], mask[3], mask[4], mask[5], mask[6], mask[7]]
        }),
    };
    let (Some(address), Some(mask)) = (mac(address), mask) else { return Err(illegal(name, args, hint)) };
    Ok((mask != [0; 6]).then_some((address, mask)))
}
