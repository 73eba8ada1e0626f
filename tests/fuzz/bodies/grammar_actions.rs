//! Actions that bytes choose from tc's grammar. Nothing is run here.

use super::choices::Choices;
use super::grammar::{ADDRESSES, DEVICES, MACS, NUMBERS, SMALL, Words};

const CONTROLS: &[&str] = &[
    "pass",
    "drop",
    "pipe",
    "continue",
    "reclassify",
    "ok",
    "shot",
    "stolen",
    "trap",
    "goto chain 1",
    "jump 1",
    "jump 2",
];
/// Kinds of action, those that viscum refuses too.
pub const ACTIONS: &[&str] = &[
    "gact", "mirred", "skbedit", "skbmod", "csum", "pedit", "vlan", "nat", "police", "simple", "sample", "ct", "bpf",
    "mpls",
];
pub fn actions(c: &mut Choices<'_>, words: &mut Words) {
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

pub fn action(c: &mut Choices<'_>, words: &mut Words) {
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
