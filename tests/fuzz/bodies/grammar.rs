//! tc commands that bytes choose from tc's grammar, now and then with a word too many, too few or wrong. Nothing is run here.

use super::choices::Choices;
use super::words::{ACTIONS, ADDRESSES, CONTROLS, DEVICES, MACS, NUMBERS, PROTOCOLS, SMALL, WORDS};

/// The words of one command, the first being an option or the object.
pub fn command(c: &mut Choices<'_>) -> Vec<String> {
    let mut words = Words(Vec::new());
    while c.chance(60) {
        words.say(c.pick(&["-s", "-j", "-p", "-d", "-r", "-br", "-o", "-n x", "-s -j -p", "-N", "-iec"]));
    }
    match c.below(10) {
        0 => qdisc(c, &mut words),
        1..=5 => filter(c, &mut words),
        6 => chain(c, &mut words),
        7 | 8 => actions(c, &mut words),
        _ => words.say(c.pick(WORDS)),
    }
    spoil(c, &mut words.0);
    words.0
}

/// A filter that works more often than not, for the ingress of eth0 and the egress of v0: what frames meet.
pub fn rule(c: &mut Choices<'_>) -> Vec<String> {
    let mut words = Words(Vec::new());
    words.say("filter add");
    words.say(c.pick(&["dev eth0 ingress", "dev eth0 ingress", "dev v0 egress", "dev v0 ingress", "dev eth0 egress"]));
    words.say("protocol");
    words.say(c.pick(&["ip", "all", "all", "ip", "ipv6", "802.1q", "arp"]));
    words.say("prio");
    words.say(c.pick(SMALL));
    if c.chance(40) {
        words.say("chain 1");
    }
    kind(c, &mut words);
    for _ in 0..c.below(4) {
        words.say("action");
        action(c, &mut words);
    }
    words.0
}

struct Words(Vec<String>);

impl Words {
    fn say(&mut self, text: &str) {
        self.0.extend(text.split(' ').map(str::to_owned));
    }
}

/// A word too many, too few, or another.
fn spoil(c: &mut Choices<'_>, words: &mut Vec<String>) {
    if !c.chance(50) {
        return;
    }
    for _ in 0..=c.below(3) {
        let at = c.below(words.len().clamp(1, 256));
        let word = match c.below(3) {
            0 => c.pick(WORDS).to_owned(),
            1 => c.pick(NUMBERS).to_owned(),
            _ => String::from_utf8_lossy(c.take(6)).into_owned(),
        };
        match c.below(4) {
            0 if !words.is_empty() => drop(words.remove(at)),
            1 if !words.is_empty() => words[at] = word,
            2 => words.truncate(at + 1),
            _ => words.insert(at.min(words.len()), word),
        }
    }
}

fn qdisc(c: &mut Choices<'_>, words: &mut Words) {
    words.say("qdisc");
    words.say(c.pick(&["add", "replace", "change", "link", "del", "show", "show", "add"]));
    words.say("dev");
    words.say(c.pick(DEVICES));
    words.say(c.pick(&[
        "ingress",
        "clsact",
        "root",
        "root handle 1:",
        "handle ffff: ingress",
        "parent 1:1",
        "parent ffff:fff1",
        "",
    ]));
    if c.chance(60) {
        words.say(c.pick(&["ingress_block", "egress_block"]));
        words.say(c.pick(NUMBERS));
    }
    if c.chance(128) {
        words.say(c.pick(&[
            "fq",
            "prio bands 4 priomap 0 1 2 3 0 1 2 3 0 1 2 3 0 1 2 3",
            "htb default 1 r2q 10",
            "pfifo limit 100",
            "bfifo limit 5kb",
            "tbf rate 1mbit burst 10k latency 50ms",
            "fq_codel limit 100 target 5ms",
            "sfq perturb 10",
            "netem delay 10ms",
            "x y",
            "mq",
        ]));
    }
}

fn place(c: &mut Choices<'_>, words: &mut Words) {
    match c.below(12) {
        0 => {
            words.say("block");
            words.say(c.pick(NUMBERS));
        }
        1 => words.say("dev"),
        _ => {
            words.say("dev");
            words.say(c.pick(DEVICES));
            words.say(c.pick(&["ingress", "egress", "parent ffff:", "parent 1:", "root", "", "parent ffff:fff3"]));
        }
    }
    if c.chance(200) {
        words.say("protocol");
        words.say(c.pick(PROTOCOLS));
    }
    if c.chance(200) {
        words.say(c.pick(&["prio", "pref"]));
        words.say(if c.chance(30) { c.pick(NUMBERS) } else { c.pick(SMALL) });
    }
    if c.chance(50) {
        words.say("chain");
        words.say(c.pick(NUMBERS));
    }
    if c.chance(60) {
        words.say("handle");
        words.say(c.pick(&["1", "2", "800::800", "::3", "800:", "1:", "1:0:1", "0x80000800", "5/0xff"]));
    }
}

fn filter(c: &mut Choices<'_>, words: &mut Words) {
    words.say("filter");
    words.say(c.pick(&["add", "add", "add", "replace", "change", "del", "get", "show"]));
    place(c, words);
    kind(c, words);
    for _ in 0..c.below(4) {
        words.say("action");
        action(c, words);
    }
}

fn kind(c: &mut Choices<'_>, words: &mut Words) {
    match c.below(9) {
        0..=3 => {
            words.say("u32");
            for _ in 0..c.below(5) {
                u32_part(c, words);
            }
        }
        4 | 5 => {
            words.say("flower");
            for _ in 0..c.below(5) {
                flower_part(c, words);
            }
        }
        6 => words.say("matchall"),
        7 => {
            words.say("basic match");
            words.say(c.pick(&[
                "cmp(u8 at 0 layer 1 mask 0xf0 eq 64)",
                "u32(u16 0x1122 0xffff at 12)",
                "meta(nf_mark gt 24)",
                "cmp(u16 at 2 layer 2 gt 80)",
                "not cmp(u8 at 9 layer 1 eq 6) and u32(u8 6 0xff at 9)",
                "canid(sff 1)",
                "nbyte(\"ab\" at 0 layer 1)",
            ]));
        }
        _ => words.say(c.pick(&["fw", "bpf", "route", "flow", "rsvp", "tcindex", "cgroup", "fw classid 1:1"])),
    }
}

fn u32_part(c: &mut Choices<'_>, words: &mut Words) {
    match c.below(14) {
        0..=2 => {
            words.say("match");
            words.say(c.pick(&["u8", "u16", "u32"]));
            words.say(c.pick(&["0", "6", "0x11", "3039", "c6120001", "45", "0x80"]));
            words.say(c.pick(&["0", "ff", "0xffff", "f0", "ffffffff"]));
            words.say("at");
            words.say(c.pick(&[
                "0",
                "8",
                "9",
                "16",
                "20",
                "33",
                "-14",
                "-2",
                "nexthdr+0",
                "nexthdr+13",
                "-16",
                "2147483644",
            ]));
        }
        3 => {
            words.say("match ip");
            words.say(c.pick(&["src", "dst"]));
            words.say(c.pick(ADDRESSES));
        }
        4 => {
            words.say(c.pick(&["match ip", "match ip6", "match tcp", "match udp", "match icmp", "match ether"]));
            words.say(c.pick(&[
                "sport",
                "dport",
                "protocol",
                "tos",
                "ihl",
                "df",
                "type",
                "flowlabel",
                "src",
                "frag",
                "icmp_type",
            ]));
            words.say(c.pick(NUMBERS));
            words.say(c.pick(&["0xff", "0xffff", "0xf", ""]));
        }
        5 => words.say(c.pick(&["divisor 4", "divisor 256", "divisor 257", "divisor 1"])),
        6 => words.say(c.pick(&["link 1:", "link 2:", "link 800:", "link 0:"])),
        7 => words.say(c.pick(&["ht 1:", "ht 1:2:", "ht 800:", "ht 2:ff:"])),
        8 => words.say(c.pick(&[
            "offset at 0 mask 0f00 shift 6 eat",
            "offset plus 14",
            "offset plus 65535 eat",
            "offset at -2 mask ffff shift 15",
        ])),
        9 => words.say(c.pick(&[
            "hashkey mask 0xff at 12",
            "hashkey mask 0 at -4",
            "hashkey mask ffffffff at 2147483647",
        ])),
        10 => words.say(c.pick(&["sample u8 6 0xff at 9 divisor 4", "sample ip protocol 6 0xff"])),
        11 => words.say(c.pick(&["match mark 1 1", "match mark 0xff 0", "indev eth0", "indev v9"])),
        12 => words.say(c.pick(&["flowid 1:1", "classid 1:", "order 5", "order 5000", "skip_hw", "skip_sw"])),
        _ => words.say(c.pick(&["police rate 1mbit burst 10k drop", "match u8 0 0"])),
    }
}

fn flower_part(c: &mut Choices<'_>, words: &mut Words) {
    let key = c.pick(&[
        "ip_proto",
        "dst_ip",
        "src_ip",
        "dst_port",
        "src_port",
        "tcp_flags",
        "dst_mac",
        "src_mac",
        "classid",
        "indev",
        "ip_tos",
        "ip_ttl",
        "ip_flags",
        "vlan_id",
        "vlan_prio",
        "vlan_ethtype",
        "cvlan_id",
        "num_of_vlans",
        "arp_op",
        "arp_tip",
        "type",
        "code",
        "enc_key_id",
        "ct_state",
        "mpls_label",
        "skip_hw",
        "eth_type",
    ]);
    words.say(key);
    match key {
        "dst_ip" | "src_ip" | "arp_tip" => words.say(c.pick(ADDRESSES)),
        "dst_mac" | "src_mac" => words.say(c.pick(MACS)),
        "ip_proto" => words.say(c.pick(&["tcp", "udp", "icmp", "icmpv6", "sctp", "6", "300"])),
        "dst_port" | "src_port" => words.say(c.pick(&["12345", "80-90", "80/0xf", "90-80", "0", "70000", "57-500"])),
        "tcp_flags" => words.say(c.pick(&["0x2/0x12", "0x10", "2", "0xffff"])),
        "ip_flags" => words.say(c.pick(&["frag", "nofrag", "firstfrag/nofirstfrag", "x"])),
        "vlan_ethtype" | "eth_type" => words.say(c.pick(PROTOCOLS)),
        "skip_hw" => {}
        _ => words.say(c.pick(NUMBERS)),
    }
}

fn chain(c: &mut Choices<'_>, words: &mut Words) {
    words.say("chain");
    words.say(c.pick(&["add", "del", "show", "get"]));
    place(c, words);
    if c.chance(128) {
        kind(c, words);
    }
}

fn actions(c: &mut Choices<'_>, words: &mut Words) {
    words.say("actions");
    match c.below(8) {
        0..=3 => {
            words.say(c.pick(&["add", "replace", "change"]));
            for _ in 0..=c.below(3) {
                words.say("action");
                action(c, words);
            }
        }
        4 | 5 => {
            words.say(c.pick(&["ls", "flush", "show"]));
            words.say("action");
            words.say(c.pick(ACTIONS));
        }
        _ => {
            words.say(c.pick(&["del", "get", "delete"]));
            words.say("action");
            words.say(c.pick(ACTIONS));
            words.say("index");
            words.say(c.pick(NUMBERS));
        }
    }
}

fn action(c: &mut Choices<'_>, words: &mut Words) {
    let kind = c.pick(ACTIONS);
    words.say(kind);
    match kind {
        "gact" => {
            words.say(c.pick(CONTROLS));
            if c.chance(30) {
                words.say(c.pick(&["random determ drop 2", "random netrand ok 3", "random determ goto chain 1 5"]));
            }
        }
        "mirred" => {
            words.say(c.pick(&[
                "egress redirect",
                "egress redirect",
                "egress mirror",
                "ingress redirect",
                "ingress mirror",
            ]));
            words.say("dev");
            words.say(c.pick(DEVICES));
        }
        "skbedit" => words.say(c.pick(&[
            "ptype host",
            "mark 1/0xff",
            "priority 1:1",
            "queue_mapping 3",
            "ptype otherhost mark 7",
            "inheritdsfield",
        ])),
        "skbmod" => {
            words.say(c.pick(&["set dmac", "dmac", "set smac"]));
            words.say(c.pick(MACS));
            words.say(c.pick(&["swap mac", "etype 0x1234", "set etype 5", "ecn", ""]));
        }
        "csum" => words.say(c.pick(&["ip", "tcp and udp", "ip and icmp and igmp", "sctp", "ip4h udplite"])),
        "pedit" => pedit(c, words),
        "vlan" => words.say(c.pick(&[
            "pop",
            "push id 5",
            "push protocol 802.1ad id 4095 priority 7",
            "modify id 1",
            "pop_eth",
            "push_eth dst_mac 02:00:00:00:00:01 src_mac 02:00:00:00:00:02",
        ])),
        "nat" => {
            words.say(c.pick(&["ingress", "egress"]));
            words.say(c.pick(ADDRESSES));
            words.say(c.pick(&["203.0.113.9", "198.51.100.1"]));
        }
        "police" => words.say(c.pick(&[
            "rate 1mbit burst 10k",
            "rate 1kbit burst 100 mtu 64 peakrate 2kbit",
            "pkts_rate 1 pkts_burst 1",
            "mtu 60",
            "rate 1tbit burst 1g",
            "rate 10kbit burst 1k conform-exceed drop/pipe",
            "avrate 1mbit",
            "rate 1 burst 1 overhead 65535 linklayer atm",
        ])),
        "simple" => words.say(c.pick(&["sdata \"a\\\"b\"", "sdata x", ""])),
        _ => words.say(c.pick(&["rate 1 group 1", "nat", "run", "pop"])),
    }
    if c.chance(80) {
        words.say(c.pick(CONTROLS));
    }
    if c.chance(60) {
        words.say("index");
        words.say(if c.chance(40) { c.pick(NUMBERS) } else { c.pick(SMALL) });
    }
    if c.chance(20) {
        words.say(c.pick(&[
            "cookie aabb",
            "hw_stats disabled",
            "no_percpu",
            "skip_hw",
            "cookie 0123456789abcdef0123456789abcdef00",
        ]));
    }
}

fn pedit(c: &mut Choices<'_>, words: &mut Words) {
    words.say(c.pick(&["", "ex"]));
    for _ in 0..=c.below(3) {
        words.say("munge");
        words.say(c.pick(&[
            "offset 0 u32 set 0x11223344",
            "offset 14 u8 clear",
            "offset 16 u16 at 0 f0 2 set 5",
            "offset -14 u32 invert",
            "ip dst set 203.0.113.5",
            "ip ttl add 255",
            "ip ttl decrement",
            "eth dst set 02:00:00:00:00:09",
            "eth src invert",
            "tcp dport set 80",
            "udp sport add 1",
            "ip6 dst set 2001:db8::5",
            "icmp type set 3",
            "ip tos set 5 retain 3",
            "ip6 traffic_class set 7",
            "offset 2147483644 u32 clear",
            "offset 1 u32 set 1",
            "eth type set 0x800",
            "ip ihl set 0xf",
        ]));
    }
}
