//! Filters on frames of which everything is known, beside a twin that never sees a byte; and texts that are none.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::{Filter, FilterError};

/// What is known of a frame.
#[derive(Clone, Debug)]
struct Known {
    macs: [u8; 2],
    vlan: Option<u16>,
    v6: bool,
    /// Last bytes of source and destination.
    hosts: [u8; 2],
    udp: bool,
    ports: [u16; 2],
}

impl Known {
    fn v4(&self, end: usize) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.hosts[end] % 2, self.hosts[end])
    }

    fn v6(&self, end: usize) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, u16::from(self.hosts[end] % 2), 0, 0, 0, 0, self.hosts[end].into())
    }

    fn frame(&self) -> Vec<u8> {
        let mac = |last| [2, 0, 0, 0, 0, last];
        let mut frame = Vec::new();
        let start = etherparse::PacketBuilder::ethernet2(mac(self.macs[0]), mac(self.macs[1]));
        let (s, d) = (self.v4(0).octets(), self.v4(1).octets());
        let (s6, d6) = (self.v6(0).octets(), self.v6(1).octets());
        let ip = match (self.vlan, self.v6) {
            (None, false) => start.ipv4(s, d, 64),
            (None, true) => start.ipv6(s6, d6, 64),
            (Some(id), false) => start.single_vlan(id.try_into().unwrap()).ipv4(s, d, 64),
            (Some(id), true) => start.single_vlan(id.try_into().unwrap()).ipv6(s6, d6, 64),
        };
        match self.udp {
            true => ip.udp(self.ports[0], self.ports[1]).write(&mut frame, b"12345").unwrap(),
            false => ip.tcp(self.ports[0], self.ports[1], 1, 64).write(&mut frame, b"12345").unwrap(),
        }
        frame
    }
}

fn known() -> impl Strategy<Value = Known> {
    (
        prop::array::uniform2(0..3_u8),
        prop::option::of(0..3_u16),
        any::<bool>(),
        prop::array::uniform2(0..4_u8),
        any::<bool>(),
        prop::array::uniform2(1..5_u16),
    )
        .prop_map(|(macs, vlan, v6, hosts, udp, ports)| Known { macs, vlan, v6, hosts, udp, ports })
}

/// A condition: its words, and what it is of a frame of which everything is known, if no tag is in the way.
type Condition = (String, fn(&Known, u16) -> bool, u16);

fn condition() -> impl Strategy<Value = Condition> {
    let all: Vec<fn(u16) -> Condition> = vec![
        |n| (format!("host 198.18.{}.{n}", n % 2), |k, n| !k.v6 && k.hosts.contains(&(n as u8)), n),
        |n| (format!("src host 198.18.{}.{n}", n % 2), |k, n| !k.v6 && k.hosts[0] == n as u8, n),
        |n| (format!("ip dst 198.18.{}.{n}", n % 2), |k, n| !k.v6 && k.hosts[1] == n as u8, n),
        |n| (format!("src and dst host 198.18.{}.{n}", n % 2), |k, n| !k.v6 && k.hosts == [n as u8; 2], n),
        |n| (format!("host 2001:db8:{}::{n}", n % 2), |k, n| k.v6 && k.hosts.contains(&(n as u8)), n),
        |n| (format!("net 198.18.{}", n % 2), |k, n| !k.v6 && k.hosts.iter().any(|h| u16::from(h % 2) == n % 2), n),
        |n| (format!("dst net 2001:db8:{}::/48", n % 2), |k, n| k.v6 && u16::from(k.hosts[1] % 2) == n % 2, n),
        |n| (format!("port {n}"), |k, n| k.ports.contains(&n), n),
        |n| (format!("tcp src port {n}"), |k, n| !k.udp && k.ports[0] == n, n),
        |n| (format!("portrange {n}-{}", n + 1), |k, n| k.ports.iter().any(|p| *p == n || *p == n + 1), n),
        |n| ("udp".to_owned(), |k, _| k.udp, n),
        |n| ("ip proto 6".to_owned(), |k, _| !k.v6 && !k.udp, n),
        |n| ("ip6".to_owned(), |k, _| k.v6, n),
        |n| ("arp or icmp or icmp6 or rarp".to_owned(), |_, _| false, n),
    ];
    (0..all.len(), 0..4_u16).prop_map(move |(which, n)| all[which](n))
}

fn filter(text: &str) -> Filter {
    text.parse().unwrap_or_else(|e: FilterError| panic!("{e}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_filter_holds_as_what_is_known_says(
        k in known(), a in condition(), b in condition(), c in condition(), nots in prop::array::uniform3(any::<bool>()),
        and in any::<bool>(), tagged in any::<bool>(), nest in any::<bool>(),
    ) {
        let frame = k.frame();
        // Behind `vlan` the words are about what is behind the tag, as in tcpdump; without it a tagged frame is no IP.
        let seen = k.vlan.is_some() == tagged;
        let [a, b, c] = [(a, nots[0]), (b, nots[1]), (c, nots[2])].map(|((text, holds, n), not)| {
            let text = if not { format!("not ( {text})") } else { format!("({text} )") };
            (text, (seen && holds(&k, n)) != not)
        });
        let word = if and { "and" } else { "||" };
        let join = |x: bool, y: bool| if and { x && y } else { x || y };
        let (text, expected) = match nest {
            // Both bind alike, from the left.
            false => (format!("{} {word} {} and {}", a.0, b.0, c.0), join(a.1, b.1) && c.1),
            true => (format!("{} {word} ( {} and {} )", a.0, b.0, c.0), join(a.1, b.1 && c.1)),
        };
        let (text, expected) = match tagged {
            true => (format!("vlan && ({text})"), expected && k.vlan.is_some()),
            false => (text, expected),
        };
        prop_assert_eq!(filter(&text).matches(&frame), expected, "{} on {:?}", text, k);
        let mac = format!("ether src 02:00:00:00:00:0{} or ether dst 02:00:00:00:00:01", k.macs[0]);
        prop_assert!(filter(&mac).matches(&frame));
        prop_assert_eq!(filter("ether host 02:00:00:00:00:02").matches(&frame), k.macs.contains(&2));
        for len in 0..=frame.len() {
            let _never_panics = filter(&text).matches(&frame[..len]);
        }
    }

    #[test]
    fn no_text_panics(text in "(tcp |udp |src |or |and |not |host |net |port |vlan |ether |[(] ?|[)] |1|10[.]0 |0x8|::|/9 |[^a]){0,12}") {
        if let Err(e) = text.parse::<Filter>() {
            prop_assert!(e.column <= e.text.chars().count() && e.to_string().lines().count() == 3, "{}", e);
        }
    }
}

/// IHL, fragments, and what is cut.
#[test]
fn ports_are_where_the_headers_say() {
    let k = Known { macs: [1, 2], vlan: None, v6: false, hosts: [1, 2], udp: true, ports: [1000, 2000] };
    let mut frame = k.frame();
    assert!(filter("udp port 2000").matches(&frame));
    assert!(!filter("udp port 2000").matches(&frame[..36]) && filter("src port 1000").matches(&frame[..36]));
    frame[21] = 1;
    assert!(!filter("port 2000").matches(&frame), "a later fragment has no ports");
    frame[21] = 0;
    frame[14] = 0x46;
    frame.splice(34..34, [1, 1, 1, 1]);
    assert!(filter("src port 1000 and dst port 2000").matches(&frame), "behind IP options");
    assert!(filter("less 51 and greater 51").matches(&frame) && !filter("greater 52 or less 50").matches(&frame));
}

#[test]
fn addresses_in_arp_and_values_without_words() {
    let mut arp = [[0xff; 6], [2, 0, 0, 0, 0, 1]].concat();
    arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 198, 18, 0, 1, 0, 0, 0, 0, 0, 0, 198, 18, 0, 2]);
    for text in
        ["", "arp", "arp host 198.18.0.2", "src 198.18.0.1 and dst net 198.18.0.0/16", "broadcast", "198.18.0.2"]
    {
        assert!(filter(text).matches(&arp), "{text}");
    }
    for text in ["ip host 198.18.0.2", "rarp", "host 198.18.0.3 or 198.18.0.4", "multicast and not broadcast"] {
        assert!(!filter(text).matches(&arp), "{text}");
    }
    assert!(filter("host 198.18.0.3 or 198.18.0.2").matches(&arp));
    assert!(filter("net 198.18.0.0 mask 255.255.0.0").matches(&arp));
}

#[test]
fn an_error_shows_the_place_and_what_to_write() {
    for (text, place, word) in [
        ("tcp and hots 10.0.0.1", "hots", "host net port"),
        ("host example.com", "example.com", "names are not looked up"),
        ("(tcp or udp", "", ") is missing"),
        ("tcp) or udp", ")", "opened"),
        ("port 80 port 81", "port", "`and` or `or`"),
        ("port 65536", "65536", "65535"),
        ("portrange 9-1", "9-1", "5000-5010"),
        ("net 10.0.0.1/8", "10.0.0.1/8", "never match"),
        ("host 10.0.0.0/8", "10.0.0.0/8", "`net`"),
        ("tcp[13] = 2", "tcp[13]", "cannot be asked"),
        ("tcp host 1.2.3.4", "1.2.3.4", "tcp and host"),
        ("icmp port 1", "1", "tcp, udp and sctp"),
        ("ether host 1:2", "1:2", "MAC"),
        ("ether proto 5", "5", "0x600"),
        ("vlan 5000", "5000", "4095"),
        ("not", "", "condition is missing"),
        ("port and tcp", "and", "value is missing"),
    ] {
        let error = text.parse::<Filter>().unwrap_err();
        let shown: String = error.text.chars().skip(error.column).take(error.len).collect();
        assert_eq!(shown, place, "{error}");
        assert!(error.reason.contains(word), "{error}");
    }
    let deep = format!("{}tcp{}", "( ".repeat(100), " )".repeat(100));
    assert!(deep.parse::<Filter>().unwrap_err().reason.contains("levels deep"));
    let many = vec!["port 1"; 200].join(" or ");
    assert!(many.parse::<Filter>().unwrap_err().reason.contains("conditions"));
}
