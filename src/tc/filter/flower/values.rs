//! Values of flower's keys as tc reads them: addresses, ports, flags, masks (tc/f_flower.c). It changes no state.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Parser;
use super::attributes::Given;
use crate::rules::flower::{MaskedMac, fragment};
use crate::tc::error::{TcError, exit};
use crate::tc::number::{Prefix, get_u8, get_u16, mask_v4, mask_v6, prefix, unsigned};
use crate::tc::proto;
use crate::types::ethertype;

/// An address of either family with its mask.
enum Address {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
    /// `any`: tc sends an address of no bytes, which the kernel refuses.
    Any,
}

impl Parser<'_, '_> {
    /// The keys of Ethernet, IP and what is behind it.
    pub(super) fn ip(&mut self, name: &'static str, text: &str) -> Result<(), TcError> {
        match name {
            "dst_mac" => self.attributes.dst_mac = Some(self.mac(name, text)?),
            "src_mac" => self.attributes.src_mac = Some(self.mac(name, text)?),
            "ip_proto" => self.ip_proto(text)?,
            "ip_tos" => self.attributes.ip_tos = Some(self.read(name, tos_ttl(text))?),
            "ip_ttl" => self.attributes.ip_ttl = Some(self.read(name, tos_ttl(text))?),
            "ip_flags" => {
                let flags = ip_flags(text, self.attributes.ip_flags.unwrap_or((0, 0)));
                self.attributes.ip_flags = Some(self.read(name, flags)?).filter(|(_, mask)| *mask != 0);
            }
            "dst_ip" | "src_ip" => self.address(name, text)?,
            "dst_port" | "src_port" => self.port(name, text)?,
            "tcp_flags" => self.attributes.tcp_flags = Some(self.read(name, tcp_flags(text))?),
            _ => self.icmp(name, text)?,
        }
        Ok(())
    }

    pub(super) fn arp(&mut self, name: &'static str, text: &str) -> Result<(), TcError> {
        match name {
            "arp_tha" => self.attributes.arp.tha = Some(self.mac(name, text)?),
            "arp_sha" => self.attributes.arp.sha = Some(self.mac(name, text)?),
            _ if !matches!(self.eth_type, ethertype::ARP | ethertype::RARP) => return Err(self.illegal(name)),
            "arp_op" => {
                let value = |s: &str| match s {
                    "request" => Some(1),
                    "reply" => Some(2),
                    _ => get_u8(s, 10).filter(|op| *op <= 2),
                };
                self.attributes.arp.op = Some(self.read(name, masked_u8(text, value))?);
            }
            _ => match self.prefix(text, Some(false))? {
                Address::V4(address, mask) if name == "arp_tip" => self.attributes.arp.tip = Some((address, mask)),
                Address::V4(address, mask) => self.attributes.arp.sip = Some((address, mask)),
                Address::V6(..) | Address::Any => self.attributes.out_of_range = true,
            },
        }
        Ok(())
    }

    fn ip_proto(&mut self, text: &str) -> Result<(), TcError> {
        let wrong_type = |parser: &Self| {
            let hint = "ip_proto needs protocol ip or ipv6 before flower; icmp is for ip, icmpv6 for ipv6";
            parser.cannot("Illegal \"eth_type\" for ip proto".to_owned(), hint).then("Illegal \"ip_proto\"")
        };
        if !matches!(self.eth_type, ethertype::IPV4 | ethertype::IPV6) {
            return Err(wrong_type(self));
        }
        let (number, named) = self.read("ip_proto", proto::ip_number(text))?;
        let family = match (named, number) {
            (true, 1) => ethertype::IPV4,
            (true, 58) => ethertype::IPV6,
            _ => self.eth_type,
        };
        if family != self.eth_type {
            return Err(wrong_type(self));
        }
        self.attributes.ip_proto = Some(number);
        Ok(())
    }

    fn address(&mut self, name: &'static str, text: &str) -> Result<(), TcError> {
        let family = match self.eth_type {
            ethertype::IPV4 => Some(false),
            ethertype::IPV6 => Some(true),
            0 => None,
            _ => return Err(self.illegal(name)),
        };
        let destination = usize::from(name == "dst_ip");
        match self.prefix(text, family)? {
            Address::V4(address, mask) => self.attributes.ipv4[destination] = Some((address, mask)),
            Address::V6(address, mask) => self.attributes.ipv6[destination] = Some((address, mask)),
            Address::Any => self.attributes.out_of_range = true,
        }
        Ok(())
    }

    /// `get_prefix()`, which ends tc with its own message.
    fn prefix(&self, text: &str, v6: Option<bool>) -> Result<Address, TcError> {
        let family = match v6 {
            None => "any valid",
            Some(false) => "inet",
            Some(true) => "inet6",
        };
        if matches!(text, "default" | "any" | "all") {
            return Ok(Address::Any);
        }
        match prefix(text, v6) {
            Some(Prefix::V4(address, bits)) => Ok(Address::V4(address, mask_v4(bits).into())),
            Some(Prefix::V6(address, bits)) => Ok(Address::V6(address, mask_v6(bits).into())),
            Some(Prefix::Any) | None => Err(TcError {
                exit_code: exit::PARSE,
                messages: vec![format!("Error: {family} prefix is expected rather than \"{text}\".")],
                hint: "write ADDRESS or ADDRESS/LENGTH".to_owned(),
                token: Some(self.args.position()),
            }),
        }
    }

    /// `80`, `80/0xfff0` or `8000-9000`; only beside `ip_proto tcp|udp|sctp` (`flower_parse_port()`).
    fn port(&mut self, name: &'static str, text: &str) -> Result<(), TcError> {
        let destination = usize::from(name == "dst_port");
        let kind = match self.attributes.ip_proto {
            Some(6) => Some(0),
            Some(17) => Some(1),
            Some(132) => Some(2),
            _ => None,
        };
        let decimal = |s: &str| get_u16(s, 10);
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (decimal(first), decimal(last)),
            None => (decimal(text), Some(0)),
        };
        match (first, last) {
            (Some(first @ 1..), Some(last @ 1..)) => {
                if last <= first {
                    self.args.stderr.push("max value should be greater than min value".to_owned());
                    return Err(self.illegal(name));
                }
                self.read(name, kind)?;
                self.attributes.ranges[destination] = Some((first, last));
            }
            // The end of a range that is 0 is as if it were not there.
            (Some(port @ 1..), Some(0)) => {
                let kind = self.read(name, kind)?;
                self.attributes.ports[kind][destination].value = Some(port);
            }
            (Some(_), Some(_)) => return Err(self.illegal(name)),
            (None, _) | (_, None) => {
                let parts = text.split_once('/').filter(|_| !text.contains('-'));
                let pair = parts.and_then(|(value, mask)| Some((get_u16(value, 0)?, get_u16(mask, 0)?)));
                let ((value, mask), kind) = (self.read(name, pair)?, self.read(name, kind)?);
                self.attributes.ports[kind][destination] = Given { value: Some(value), mask: Some(mask) };
            }
        }
        Ok(())
    }

    fn icmp(&mut self, name: &'static str, text: &str) -> Result<(), TcError> {
        let version = match (self.eth_type, self.attributes.ip_proto) {
            (ethertype::IPV4, Some(1)) => 0,
            (ethertype::IPV6, Some(58)) => 1,
            _ => return Err(self.illegal(name)),
        };
        let value = self.read(name, masked_u8(text, |s| get_u8(s, 10)))?;
        self.attributes.icmp[version][usize::from(name == "code")] = Some(value);
        Ok(())
    }

    /// `MAC`, `MAC/MASK` or `MAC/BITS` (`flower_parse_eth_addr()`).
    fn mac(&mut self, name: &'static str, text: &str) -> Result<MaskedMac, TcError> {
        let (address, mask) = text.split_once('/').map_or((text, None), |(a, m)| (a, Some(m)));
        let read = |parser: &mut Self, text: &str| match lladdr(text) {
            Ok(address) => Ok(address),
            Err(part) => {
                parser.args.stderr.extend(part.map(|part| format!("\"{part}\" is invalid lladdr.")));
                Err(parser.illegal(name))
            }
        };
        let address = read(self, address)?;
        let bits = mask.and_then(|m| unsigned(m, 10)).and_then(|bits| u32::try_from(bits).ok());
        let mask = match (mask, bits) {
            (None, _) => [0xff; 6],
            (Some(_), Some(bits)) => {
                // A shift by 64 - bits, and the processor takes that modulo 64.
                let mask = 0xffff_ffff_ffff_u64.wrapping_shl(64_u32.wrapping_sub(bits)).to_be_bytes();
                std::array::from_fn(|i| mask[i])
            }
            (Some(mask), None) => read(self, mask)?,
        };
        Ok((address, mask))
    }
}

/// `ll_addr_a2n()` of six bytes, as far as it is defined: fewer bytes leave the rest to chance there, and are refused here. What
/// follows the sixth is ignored. The error is the part that tc complains about.
fn lladdr(text: &str) -> Result<[u8; 6], Option<&str>> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next().ok_or(None)?;
        let digits = part.trim_start();
        let digits = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")).unwrap_or(digits);
        let len = digits.bytes().take_while(u8::is_ascii_hexdigit).count();
        *byte = u32::from_str_radix(&digits[..len], 16).ok().and_then(|n| u8::try_from(n).ok()).ok_or(Some(part))?;
    }
    Ok(bytes)
}

/// `VALUE` or `VALUE/MASK`, the mask decimal (`flower_parse_u8()`).
fn masked_u8(text: &str, value: impl Fn(&str) -> Option<u8>) -> Option<(u8, u8)> {
    match text.split_once('/') {
        None => Some((value(text)?, u8::MAX)),
        Some((v, mask)) => Some((value(v)?, get_u8(mask, 10)?)),
    }
}

/// `VALUE` or `VALUE/MASK`: the value decimal or else hex, the mask hex (`flower_parse_ip_tos_ttl()`).
fn tos_ttl(text: &str) -> Option<(u8, u8)> {
    let value = |s: &str| get_u8(s, 10).or_else(|| get_u8(s, 16));
    match text.split_once('/') {
        None => Some((value(text)?, u8::MAX)),
        Some((v, mask)) => Some((value(v)?, get_u8(mask, 16)?)),
    }
}

/// `frag`, `nofrag`, `firstfrag`, `nofirstfrag`, with `/` between, added to what was said before.
fn ip_flags(text: &str, before: (u8, u8)) -> Option<(u8, u8)> {
    let (mut value, mut mask) = before;
    for token in text.split('/').filter(|t| !t.is_empty()) {
        let (on, name) = token.strip_prefix("no").map_or((true, token), |name| (false, name));
        let bit = match name {
            "frag" => fragment::IS_FRAGMENT,
            "firstfrag" => fragment::FIRST,
            _ => return None,
        };
        value = if on { value | bit } else { value & !bit };
        mask |= bit;
    }
    Some((value, mask))
}

/// `FLAGS` or `FLAGS/MASK`, in hex, 12 bits (`flower_parse_tcp_flags()`).
fn tcp_flags(text: &str) -> Option<(u16, u16)> {
    let (value, mask) = text.split_once('/').map_or((text, "fff"), |(v, m)| (v, m));
    let read = |s: &str| get_u16(s, 16).filter(|n| *n <= 0xfff);
    Some((read(value)?, read(mask)?))
}
