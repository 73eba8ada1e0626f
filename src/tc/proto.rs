//! Names of protocols as tc reads and prints them: link-layer (`protocol ip`) and IP (`ip_proto tcp`). Tables only.

/// `lib/ll_proto.c`: name and EtherType. Where two names have one number, the first is printed.
const LINK: &[(&str, u16)] = &[
    ("loop", 0x0060),
    ("pup", 0x0200),
    ("ip", 0x0800),
    ("x25", 0x0805),
    ("arp", 0x0806),
    ("bpq", 0x08ff),
    ("ieeepup", 0x0a00),
    ("ieeepupat", 0x0a01),
    ("dec", 0x6000),
    ("dna_dl", 0x6001),
    ("dna_rc", 0x6002),
    ("dna_rt", 0x6003),
    ("lat", 0x6004),
    ("diag", 0x6005),
    ("cust", 0x6006),
    ("sca", 0x6007),
    ("rarp", 0x8035),
    ("atalk", 0x809b),
    ("aarp", 0x80f3),
    ("ipx", 0x8137),
    ("ipv6", 0x86dd),
    ("ppp_disc", 0x8863),
    ("ppp_ses", 0x8864),
    ("atmmpoa", 0x884c),
    ("atmfate", 0x8884),
    ("802_3", 0x0001),
    ("ax25", 0x0002),
    ("all", 0x0003),
    ("802_2", 0x0004),
    ("snap", 0x0005),
    ("ddcmp", 0x0006),
    ("wan_ppp", 0x0007),
    ("ppp_mp", 0x0008),
    ("localtalk", 0x0009),
    ("can", 0x000c),
    ("ppptalk", 0x0010),
    ("tr_802_2", 0x0011),
    ("mobitex", 0x0015),
    ("control", 0x0016),
    ("irda", 0x0017),
    ("econet", 0x0018),
    ("tipc", 0x88ca),
    ("profinet", 0x8892),
    ("aoe", 0x88a2),
    ("ethercat", 0x88a4),
    ("802.1ad", 0x88a8),
    ("802.1Q", 0x8100),
    ("mpls_uc", 0x8847),
    ("mpls_mc", 0x8848),
    ("teb", 0x6558),
    ("LLDP", 0x88cc),
    ("ipv4", 0x0800),
];

/// `ll_proto_a2n()`: a name in any case, or a number.
#[must_use]
pub fn link_number(text: &str) -> Option<u16> {
    let known = LINK.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    known.map(|(_, number)| *number).or_else(|| super::number::get_u16(text, 0))
}

/// `ll_proto_n2a()`: a name, or `[number]`.
#[must_use]
pub fn link_name(number: u16) -> String {
    let known = LINK.iter().find(|(_, n)| *n == number);
    known.map_or_else(|| format!("[{number}]"), |(name, _)| (*name).to_owned())
}

/// The names that flower knows (`flower_parse_ip_proto()`), in the order in which prefixes are tried.
const IP: &[(&str, u8)] = &[("tcp", 6), ("udp", 17), ("sctp", 132), ("icmp", 1), ("icmpv6", 58)];

/// `ip_proto` of flower: a prefix of a name, or a *hexadecimal* number; and whether it was a name.
#[must_use]
pub fn ip_number(text: &str) -> Option<(u8, bool)> {
    let known = IP.iter().find(|(name, _)| super::number::matches(text, name));
    known.map(|(_, number)| (*number, true)).or_else(|| super::number::get_u8(text, 16).map(|number| (number, false)))
}

/// How flower prints `ip_proto`.
#[must_use]
pub fn ip_name(number: u8) -> String {
    let known = IP.iter().find(|(_, n)| *n == number);
    known.map_or_else(|| format!("{number:02x}"), |(name, _)| (*name).to_owned())
}

/// `lib/ppp_proto.c`: name and PPP protocol. Where two names have one number, the first is printed.
const PPP: &[(&str, u16)] = &[
    ("ip", 0x0021),
    ("at", 0x0029),
    ("ipx", 0x002b),
    ("vjc_comp", 0x002d),
    ("vjc_uncomp", 0x002f),
    ("mp", 0x003d),
    ("ipv6", 0x0057),
    ("compfrag", 0x00fb),
    ("comp", 0x00fd),
    ("mpls_uc", 0x0281),
    ("mpls_mc", 0x0283),
    ("ipcp", 0x8021),
    ("atcp", 0x8029),
    ("ipxcp", 0x802b),
    ("ipv6cp", 0x8057),
    ("ccpfrag", 0x80fb),
    ("ccp", 0x80fd),
    ("mplscp", 0x80fd),
    ("lcp", 0xc021),
    ("pap", 0xc023),
    ("lqr", 0xc025),
    ("chap", 0xc223),
    ("cbcp", 0xc029),
];

/// `ppp_proto_a2n()`: a name in any case, or a number.
#[must_use]
pub fn ppp_number(text: &str) -> Option<u16> {
    let known = PPP.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    known.map(|(_, number)| *number).or_else(|| super::number::get_u16(text, 0))
}

/// `ppp_proto_n2a()`: a name, or `[number]`.
#[must_use]
pub fn ppp_name(number: u16) -> String {
    let known = PPP.iter().find(|(_, n)| *n == number);
    known.map_or_else(|| format!("[{number}]"), |(name, _)| (*name).to_owned())
}

/// How flower prints `eth_type`.
#[must_use]
pub fn eth_type_name(number: u16) -> String {
    match number {
        0x0800 => "ipv4".to_owned(),
        0x86dd => "ipv6".to_owned(),
        0x0806 => "arp".to_owned(),
        0x8035 => "rarp".to_owned(),
        other => format!("{other:04x}"),
    }
}
