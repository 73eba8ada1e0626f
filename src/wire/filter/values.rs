//! The values of a filter: addresses, ports, numbers. Which words they belong to is `parse`'s.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Test;
use super::parse::{FilterError, Kind, Parser, Qualifiers};

impl Parser<'_> {
    pub(super) fn address(&mut self, q: Qualifiers) -> Result<Test, FilterError> {
        let (ip, arp, rarp, v6) = match q.protocol {
            None => (true, true, true, true),
            Some("ip") => (true, false, false, false),
            Some("arp") => (false, true, false, false),
            Some("rarp") => (false, false, true, false),
            Some("ip6") => (false, false, false, true),
            Some(_) => return Err(self.here("ports are of this protocol, addresses are not: write `tcp and host …`")),
        };
        let word = self.peek().unwrap_or_default();
        let (address, len) = word.split_once('/').map_or((word, None), |(a, len)| (a, Some(len)));
        if len.is_some() && q.kind == Kind::Host {
            return Err(self.here("a prefix is a net: write `net` before it"));
        }
        let prefix = |bits: u32| len.map_or(Some(bits), |len| len.parse().ok().filter(|len| *len <= bits));
        if let Ok(address) = address.parse::<Ipv6Addr>() {
            let Some(len) = prefix(128) else { return Err(self.here("a prefix of IPv6 has 0 to 128 bits")) };
            if !v6 {
                return Err(self.here("an IPv6 address needs `ip6` or no protocol before it"));
            }
            let mask = u128::MAX.checked_shl(128 - len).unwrap_or(0);
            let address = u128::from(address);
            return self.masked(address & !mask != 0).map(|()| Test::Ipv6 { side: q.side, address, mask });
        }
        let parts = address.split('.').count() as u32;
        let given = if q.kind == Kind::Net && parts < 4 {
            format!("{address}{}", ".0".repeat(4 - parts as usize))
        } else {
            address.to_owned()
        };
        let Ok(address) = given.parse::<Ipv4Addr>() else {
            return Err(self.here("no address; names are not looked up, write 198.51.100.10 or 2001:db8::1"));
        };
        if !(ip || arp || rarp) {
            return Err(self.here("an IPv4 address needs `ip`, `arp` or no protocol before it"));
        }
        let Some(mut bits) = prefix(32) else { return Err(self.here("a prefix of IPv4 has 0 to 32 bits")) };
        if len.is_none() && q.kind == Kind::Net {
            bits = parts * 8;
        }
        let mut mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        if q.kind == Kind::Net && len.is_none() && self.peek_behind() == Some("mask") {
            self.next += 2;
            match self.peek().and_then(|w| w.parse::<Ipv4Addr>().ok()) {
                Some(given) => mask = given.into(),
                None => return Err(self.here("after `mask` comes a mask such as 255.255.0.0")),
            }
        }
        let address = u32::from(address);
        self.masked(address & !mask != 0).map(|()| Test::Ipv4 { side: q.side, address, mask, ip, arp, rarp })
    }

    /// Steps over the last word of an address, which must not have bits outside of its mask.
    fn masked(&mut self, outside: bool) -> Result<(), FilterError> {
        if outside {
            return Err(self.here("the address has bits that the prefix or mask does not; it would never match"));
        }
        self.next += 1;
        Ok(())
    }

    pub(super) fn port(&mut self, q: Qualifiers) -> Result<Test, FilterError> {
        let protocol = match q.protocol {
            None => None,
            Some("tcp") => Some(6),
            Some("udp") => Some(17),
            Some("sctp") => Some(132),
            Some(_) => return Err(self.here("only tcp, udp and sctp have ports")),
        };
        let word = self.peek().unwrap_or_default();
        let (low, high) = match word.split_once('-') {
            Some((low, high)) if q.kind == Kind::PortRange => (low, high),
            Some(_) | None => (word, word),
        };
        match (low.parse(), high.parse()) {
            (Ok(low), Ok(high)) if low <= high => {
                self.next += 1;
                Ok(Test::Port { side: q.side, protocol, low, high })
            }
            _ if q.kind == Kind::PortRange => Err(self.here("no range of ports; write 5000-5010")),
            _ => Err(self.here("no port; names are not looked up, write a number up to 65535")),
        }
    }

    /// A number, decimal or with 0x.
    pub(super) fn number(&mut self, max: u64, what: &str) -> Result<u64, FilterError> {
        let word = self.peek().unwrap_or_default();
        let number = match word.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => word.parse(),
        };
        match number {
            Ok(number) if number <= max => {
                self.next += 1;
                Ok(number)
            }
            Ok(_) | Err(_) => Err(self.here(format!("{what} is a number from 0 to {max}"))),
        }
    }
}
