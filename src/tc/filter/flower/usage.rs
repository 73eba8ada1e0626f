//! The words that tc prints about flower, and ours about what is missing. Text only.

use crate::tc::error::TcError;

/// `explain()`, tc/f_flower.c.
const USAGE: &[&str] = &[
    "Usage: ... flower	[ MATCH-LIST ] [ verbose ]",
    "			[ skip_sw | skip_hw ]",
    "			[ action ACTION-SPEC ] [ classid CLASSID ]",
    "",
    "Where: MATCH-LIST := [ MATCH-LIST ] MATCH",
    "       MATCH      := {	indev DEV-NAME |",
    "			num_of_vlans VLANS_COUNT |",
    "			vlan_id VID |",
    "			vlan_prio PRIORITY |",
    "			vlan_ethtype [ ipv4 | ipv6 | ETH-TYPE ] |",
    "			cvlan_id VID |",
    "			cvlan_prio PRIORITY |",
    "			cvlan_ethtype [ ipv4 | ipv6 | ETH-TYPE ] |",
    "			pppoe_sid PSID |",
    "			ppp_proto [ ipv4 | ipv6 | mpls_uc | mpls_mc | PPP_PROTO ]			dst_mac MASKED-LLADDR |",
    "			src_mac MASKED-LLADDR |",
    "			ip_proto [tcp | udp | sctp | icmp | icmpv6 | IP-PROTO ] |",
    "			ip_tos MASKED-IP_TOS |",
    "			ip_ttl MASKED-IP_TTL |",
    "			mpls LSE-LIST |",
    "			mpls_label LABEL |",
    "			mpls_tc TC |",
    "			mpls_bos BOS |",
    "			mpls_ttl TTL |",
    "			dst_ip PREFIX |",
    "			src_ip PREFIX |",
    "			dst_port PORT-NUMBER |",
    "			src_port PORT-NUMBER |",
    "			tcp_flags MASKED-TCP_FLAGS |",
    "			type MASKED-ICMP-TYPE |",
    "			code MASKED-ICMP-CODE |",
    "			arp_tip IPV4-PREFIX |",
    "			arp_sip IPV4-PREFIX |",
    "			arp_op [ request | reply | OP ] |",
    "			arp_tha MASKED-LLADDR |",
    "			arp_sha MASKED-LLADDR |",
    "			enc_dst_ip [ IPV4-ADDR | IPV6-ADDR ] |",
    "			enc_src_ip [ IPV4-ADDR | IPV6-ADDR ] |",
    "			enc_key_id [ KEY-ID ] |",
    "			enc_tos MASKED-IP_TOS |",
    "			enc_ttl MASKED-IP_TTL |",
    "			geneve_opts MASKED-OPTIONS |",
    "			vxlan_opts MASKED-OPTIONS |",
    "                       erspan_opts MASKED-OPTIONS |",
    "			gtp_opts MASKED-OPTIONS |",
    "			ip_flags IP-FLAGS |",
    "			enc_dst_port [ port_number ] |",
    "			ct_state MASKED_CT_STATE |",
    "			ct_label MASKED_CT_LABEL |",
    "			ct_mark MASKED_CT_MARK |",
    "			ct_zone MASKED_CT_ZONE }",
    "	LSE-LIST := [ LSE-LIST ] LSE",
    "	LSE := lse depth DEPTH { label LABEL | tc TC | bos BOS | ttl TTL }",
    "	FILTERID := X:Y:Z",
    "	MASKED_LLADDR := { LLADDR | LLADDR/MASK | LLADDR/BITS }",
    "	MASKED_CT_STATE := combination of {+|-} and flags trk,est,new,rel,rpl,inv",
    "	ACTION-SPEC := ... look at individual actions",
    "",
    "NOTE:	CLASSID, IP-PROTO are parsed as hexadecimal input.",
    "NOTE:	There can be only used one mask per one prio. If user needs",
    "	to specify different mask, he has to use different prio.",
];

/// `What is "WORD"?`, with the usage.
pub(super) fn what_is(word: &str, token: usize) -> TcError {
    let hint = "see the keys in \"tc filter add flower help\"; those of tunnels and connections are not among viscum's";
    let mut error = TcError::parse(format!("What is \"{word}\"?"), token, hint);
    if word == "help" {
        error.messages.clear();
        error.hint = "leave \"help\" out".to_owned();
    }
    error.messages.extend(USAGE.iter().map(|s| (*s).to_owned()));
    error
}

/// Of a key that viscum lacks: what to write in its place.
pub(super) fn instead_of(name: &str) -> Option<&'static str> {
    match name {
        "ct_state" | "ct_zone" | "ct_mark" | "ct_label" => {
            Some("viscum does not track connections: match addresses, ports and tcp_flags in both directions")
        }
        "enc_dst_ip" | "enc_src_ip" | "enc_key_id" | "enc_dst_port" | "enc_tos" | "enc_ttl" | "geneve_opts"
        | "vxlan_opts" | "erspan_opts" | "gtp_opts" => Some(
            "only frames that a tunnel device took out of their tunnel have these; match the outer headers with dst_ip, \
             ip_proto udp and dst_port, and what is in the tunnel with u32",
        ),
        _ => None,
    }
}

/// How a key's value is written.
pub(super) fn hint(name: &str) -> &'static str {
    match name {
        "dst_mac" | "src_mac" | "arp_sha" | "arp_tha" => {
            "write six hex bytes, like 70:00:00:00:00:00, or with a mask, MAC/BITS or MAC/MASK"
        }
        "ip_proto" => "use tcp, udp, sctp, icmp, icmpv6, or a hexadecimal number",
        "dst_ip" | "src_ip" => {
            "addresses need protocol ip or ipv6 before flower, or vlan_ethtype ip behind protocol 802.1Q"
        }
        "dst_port" | "src_port" => {
            "write ip_proto tcp (or udp, sctp), then PORT, PORT/MASK or FROM-TO; port 0 is written 0/0xffff"
        }
        "tcp_flags" => "write FLAGS or FLAGS/MASK in hex, at most 0xfff",
        "ip_flags" => "use frag, nofrag, firstfrag, nofirstfrag, with / between",
        "ip_tos" | "ip_ttl" => "write VALUE or VALUE/MASK, the mask in hex",
        "type" | "code" => "write ip_proto icmp (or icmpv6) before it, then VALUE or VALUE/MASK, decimal",
        "arp_op" => "use request or reply, with protocol arp before flower",
        "arp_tip" | "arp_sip" => "write ADDRESS or ADDRESS/LENGTH, with protocol arp before flower",
        "vlan_id" | "cvlan_id" => "a VLAN id is a decimal number up to 4095",
        "vlan_prio" | "cvlan_prio" => "a priority is a number from 0 to 7",
        "mpls_label" | "label" => "a label is a decimal number up to 1048575",
        "mpls_tc" | "tc" => "a traffic class is a number from 0 to 7",
        "mpls_bos" | "bos" => "the bottom of stack is 0 or 1",
        "pppoe_sid" => "a session id is a decimal number up to 65535",
        _ => "write a decimal number up to 255",
    }
}
