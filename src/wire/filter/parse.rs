//! From tcpdump's words to a filter. An error shows the place. Names are not looked up: addresses and ports are numbers.

use std::str::FromStr;

use super::{Filter, Node, Side, Test};
use crate::limits::{FILTER_DEPTH_MAX, FILTER_TERMS_MAX, VLAN_TAG_LEN};
use crate::types::{MacAddr, ethertype};

/// `ETH_P_RARP` (include/uapi/linux/if_ether.h).
pub(super) const RARP: u16 = 0x8035;

const WORDS: &str = "the words are: host net port portrange src dst, ip ip6 arp rarp tcp udp sctp icmp icmp6, proto, vlan, \
    ether (host src dst proto), broadcast multicast, less greater, and or not, parentheses";

/// Why a text is no filter, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the filter cannot be read: {reason}\n  {text}\n  {}{}", " ".repeat(*column), "^".repeat((*len).max(1)))]
pub struct FilterError {
    /// What is wrong there, and what to write instead.
    pub reason: String,
    /// The whole text, on one line.
    pub text: String,
    /// Where, in characters from 0.
    pub column: usize,
    /// How long, in characters; 0 at the end.
    pub len: usize,
}

#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    at: usize,
}

/// What an address or number is compared with: the qualifiers in front of it.
#[derive(Clone, Copy)]
pub(super) struct Qualifiers {
    pub protocol: Option<&'static str>,
    pub side: Side,
    pub kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Host,
    Net,
    Port,
    PortRange,
    Proto,
    EtherHost,
    EtherProto,
}

impl FromStr for Filter {
    type Err = FilterError;

    /// Reads a filter; without a word it holds of every frame.
    ///
    /// # Errors
    /// [`FilterError`], with the place.
    fn from_str(text: &str) -> Result<Self, FilterError> {
        let text = text.replace(|c: char| c.is_control(), " ");
        let mut parser = Parser { text: &text, words: words(&text), next: 0, tags: 0, last: None, terms: 0 };
        if parser.words.is_empty() {
            return Ok(Self { root: None });
        }
        let root = parser.expression(0)?;
        match parser.peek() {
            None => Ok(Self { root: Some(root) }),
            Some(")") => Err(parser.here("nothing was opened that this closes; take it away, or put a ( before")),
            Some(_) => Err(parser.here("`and` or `or` is missing before this")),
        }
    }
}

fn words(text: &str) -> Vec<Word<'_>> {
    let mut list = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| !c.is_whitespace()) {
        let at = text.len() - rest.len() + start;
        rest = &rest[start..];
        let len = match rest {
            _ if rest.starts_with("&&") || rest.starts_with("||") => 2,
            _ if rest.starts_with(['(', ')', '!']) => 1,
            _ => rest
                .char_indices()
                .find(|(i, c)| *i > 0 && (c.is_whitespace() || "()!&|".contains(*c)))
                .map_or(rest.len(), |(i, _)| i),
        };
        list.push(Word { text: &rest[..len], at });
        rest = &rest[len..];
    }
    list
}

pub(super) struct Parser<'a> {
    text: &'a str,
    words: Vec<Word<'a>>,
    pub(super) next: usize,
    /// Bytes of the tags that `vlan` has stepped over so far: as with tcpdump, for all that is written behind it.
    tags: usize,
    /// For a value without a word: `port 80 or 443`.
    last: Option<Qualifiers>,
    terms: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn peek(&self) -> Option<&'a str> {
        self.words.get(self.next).map(|w| w.text)
    }

    pub(super) fn peek_behind(&self) -> Option<&'a str> {
        self.words.get(self.next + 1).map(|w| w.text)
    }

    fn take(&mut self, word: &str) -> bool {
        let is = self.peek() == Some(word);
        self.next += usize::from(is);
        is
    }

    /// An error at the next word.
    pub(super) fn here(&self, reason: impl Into<String>) -> FilterError {
        let (at, len) =
            self.words.get(self.next).map_or((self.text.trim_end().len(), 0), |w| (w.at, w.text.chars().count()));
        let column = self.text[..at].chars().count();
        FilterError { reason: reason.into(), text: self.text.to_owned(), column, len }
    }

    /// As in tcpdump `and` and `or` bind alike, from the left.
    fn expression(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut left = self.term(depth)?;
        loop {
            let and = self.take("and") || self.take("&&");
            if !and && !self.take("or") && !self.take("||") {
                return Ok(left);
            }
            let right = self.term(depth)?;
            let (a, b) = (Box::new(left), Box::new(right));
            left = if and { Node::And(a, b) } else { Node::Or(a, b) };
        }
    }

    fn term(&mut self, depth: usize) -> Result<Node, FilterError> {
        if depth > FILTER_DEPTH_MAX {
            return Err(self.here(format!("more than {FILTER_DEPTH_MAX} levels deep; write it flatter")));
        }
        if self.take("not") || self.take("!") {
            return Ok(Node::Not(Box::new(self.term(depth + 1)?)));
        }
        if self.take("(") {
            let inner = self.expression(depth + 1)?;
            if !self.take(")") {
                return Err(self.here("a ) is missing here"));
            }
            return Ok(inner);
        }
        self.terms += 1;
        if self.terms > FILTER_TERMS_MAX {
            return Err(
                self.here(format!("more than {FILTER_TERMS_MAX} conditions; a net or a port range may say the same"))
            );
        }
        self.primitive()
    }

    fn test(&self, test: Test) -> Node {
        Node::Test(test, self.tags)
    }

    fn primitive(&mut self) -> Result<Node, FilterError> {
        let Some(word) = self.peek() else { return Err(self.here(format!("a condition is missing here; {WORDS}"))) };
        let test = match word {
            "vlan" => return self.vlan(),
            "broadcast" | "multicast" => self.ether_cast(),
            "less" | "greater" => {
                self.next += 1;
                let len = self.number(usize::MAX as u64, "a length in bytes")? as usize;
                if word == "less" { Test::LengthAtMost(len) } else { Test::LengthAtLeast(len) }
            }
            "ether" => {
                self.next += 1;
                return self.ether();
            }
            "src" | "dst" | "host" | "net" | "port" | "portrange" | "proto" => return self.qualified(None),
            "ip" | "ip6" | "arp" | "rarp" | "tcp" | "udp" | "sctp" | "icmp" | "icmp6" => {
                let protocol = known(word);
                self.next += 1;
                match self.peek() {
                    Some("src" | "dst" | "host" | "net" | "port" | "portrange" | "proto") => {
                        return self.qualified(protocol);
                    }
                    Some("broadcast" | "multicast") => {
                        return Err(self.here("only of Ethernet: `ether broadcast`, `ether multicast`"));
                    }
                    Some(_) | None => protocol_test(word),
                }
            }
            _ if word.contains('[') => {
                return Err(self.here("bytes of a frame, as in tcp[13], cannot be asked for here"));
            }
            _ if word.starts_with(|c: char| c.is_ascii_hexdigit() || c == ':')
                && word.contains(['.', ':', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) =>
            {
                // As in tcpdump: the words of the value before, `port 80 or 443`; an address alone is a host.
                let last = self.last.unwrap_or(Qualifiers { protocol: None, side: Side::Either, kind: Kind::Host });
                return self.value(last);
            }
            _ => return Err(self.here(format!("this word is not known; {WORDS}"))),
        };
        Ok(self.test(test))
    }

    fn ether_cast(&mut self) -> Test {
        let broadcast = self.take("broadcast");
        if broadcast {
            Test::EtherHost(Side::Destination, [0xff; 6])
        } else {
            self.next += 1;
            Test::EtherMulticast
        }
    }

    fn vlan(&mut self) -> Result<Node, FilterError> {
        self.next += 1;
        let digits = self.peek().is_some_and(|w| w.starts_with(|c: char| c.is_ascii_digit()));
        let id = if digits { Some(self.number(0xfff, "a VLAN id")? as u16) } else { None };
        let node = self.test(Test::Vlan(id));
        self.tags += VLAN_TAG_LEN;
        Ok(node)
    }

    fn ether(&mut self) -> Result<Node, FilterError> {
        match self.peek() {
            Some("broadcast" | "multicast") => {
                let test = self.ether_cast();
                Ok(self.test(test))
            }
            Some("proto") => {
                self.next += 1;
                self.value(Qualifiers { protocol: None, side: Side::Either, kind: Kind::EtherProto })
            }
            Some("host" | "src" | "dst") => {
                let side = self.side();
                let _optional = self.take("host");
                self.value(Qualifiers { protocol: None, side, kind: Kind::EtherHost })
            }
            Some(_) | None => Err(self.here("after `ether` comes host, src, dst, proto, broadcast or multicast")),
        }
    }

    /// `src`, `dst`, `src or dst`, `src and dst`, or nothing, which is either.
    fn side(&mut self) -> Side {
        let first = match self.peek() {
            Some("src") => Side::Source,
            Some("dst") => Side::Destination,
            Some(_) | None => return Side::Either,
        };
        self.next += 1;
        let other = if first == Side::Source { "dst" } else { "src" };
        if self.peek_behind() == Some(other) {
            let both = match self.peek() {
                Some("or" | "||") => Some(Side::Either),
                Some("and" | "&&") => Some(Side::Both),
                Some(_) | None => None,
            };
            if let Some(both) = both {
                self.next += 2;
                return both;
            }
        }
        first
    }

    fn qualified(&mut self, protocol: Option<&'static str>) -> Result<Node, FilterError> {
        let side = self.side();
        let kind = match self.peek() {
            Some("net") => Kind::Net,
            Some("port") => Kind::Port,
            Some("portrange") => Kind::PortRange,
            Some("proto") => Kind::Proto,
            Some(_) | None => Kind::Host,
        };
        if kind != Kind::Host || self.peek() == Some("host") {
            self.next += 1;
        }
        self.value(Qualifiers { protocol, side, kind })
    }

    /// The value behind its qualifiers.
    fn value(&mut self, q: Qualifiers) -> Result<Node, FilterError> {
        self.last = Some(q);
        if self.peek().is_none_or(|w| matches!(w, ")" | "and" | "or" | "not" | "&&" | "||")) {
            return Err(self.here("a value is missing here: an address or a number"));
        }
        let test = match q.kind {
            Kind::Host | Kind::Net => self.address(q)?,
            Kind::Port | Kind::PortRange => self.port(q)?,
            Kind::Proto => {
                let (v4, v6) = match q.protocol {
                    None => (true, true),
                    Some("ip") => (true, false),
                    Some("ip6") => (false, true),
                    Some(_) => return Err(self.here("only `ip proto`, `ip6 proto` and `proto` have a number")),
                };
                Test::IpProtocol { number: self.number(255, "an IP protocol")? as u8, v4, v6 }
            }
            Kind::EtherProto => {
                let number = self.number(0xffff, "an EtherType")?;
                if number < u64::from(ethertype::MIN) {
                    self.next -= 1;
                    return Err(self.here("an EtherType is at least 0x600"));
                }
                Test::EtherType(number as u16)
            }
            Kind::EtherHost => {
                let mac = self.peek().and_then(|w| w.parse::<MacAddr>().ok());
                let Some(mac) = mac else {
                    return Err(self.here("no MAC address, which looks like 02:00:00:00:00:01"));
                };
                self.next += 1;
                Test::EtherHost(q.side, mac.octets())
            }
        };
        Ok(self.test(test))
    }
}

fn known(word: &str) -> Option<&'static str> {
    ["ip", "ip6", "arp", "rarp", "tcp", "udp", "sctp", "icmp", "icmp6"].into_iter().find(|w| *w == word)
}

/// A protocol's name alone.
fn protocol_test(word: &str) -> Test {
    let of_ip = |number, v4, v6| Test::IpProtocol { number, v4, v6 };
    match word {
        "ip" => Test::EtherType(ethertype::IPV4),
        "ip6" => Test::EtherType(ethertype::IPV6),
        "arp" => Test::EtherType(ethertype::ARP),
        "rarp" => Test::EtherType(RARP),
        "tcp" => of_ip(6, true, true),
        "udp" => of_ip(17, true, true),
        "sctp" => of_ip(132, true, true),
        "icmp" => of_ip(1, true, false),
        _ => of_ip(58, false, true),
    }
}
