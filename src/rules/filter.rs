//! Filters: what a frame is compared with. One [`Filter`] is what the kernel calls a `tcf_proto`: all nodes of one prio.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::ActionId;
use crate::types::{DeviceId, Protocol};

/// All that one prio of a chain holds: one protocol, one kind.
#[derive(Clone, Debug)]
pub struct Filter {
    /// `prio` / `pref`: 1..=65535, smaller is tried first.
    pub prio: u16,
    /// Which packets it sees at all.
    pub protocol: Protocol,
    /// The kind, with its nodes.
    pub classifier: Classifier,
}

impl Filter {
    /// The actions of all its nodes, in order; one that is shared comes more than once.
    pub fn actions(&self) -> impl Iterator<Item = ActionId> + '_ {
        let lists: Vec<&[ActionId]> = match &self.classifier {
            Classifier::U32(nodes) => nodes.iter().map(|n| n.actions.as_slice()).collect(),
            Classifier::Flower(rules) => rules.iter().map(|r| r.actions.as_slice()).collect(),
            Classifier::Matchall(rule) => rule.iter().map(|r| r.actions.as_slice()).collect(),
        };
        lists.into_iter().flatten().copied()
    }
}

/// The kinds of filter.
#[derive(Clone, Debug)]
pub enum Classifier {
    /// `u32`: nodes of the root table in the order in which they are tried (by node id).
    U32(Vec<U32Node>),
    /// `flower`: rules in the order in which they are tried: by the age of their mask, then of themselves.
    /// Rules with `skip_sw` are not in it.
    Flower(Vec<FlowerRule>),
    /// `matchall`: at most one.
    Matchall(Option<MatchallRule>),
}

impl Classifier {
    /// tc's name of the kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::U32(_) => "u32",
            Self::Flower(_) => "flower",
            Self::Matchall(_) => "matchall",
        }
    }
}

/// One u32 node (`tc_u_knode`): all keys must match.
#[derive(Clone, Debug)]
pub struct U32Node {
    /// `table:bucket:node`, as the kernel packs it: 12, 8 and 12 bits.
    pub handle: u32,
    /// The keys, in the order of comparison.
    pub keys: Vec<U32Key>,
    /// `match mark V M`.
    pub mark: Option<U32Mark>,
    /// `indev D`: only frames that came in by this device.
    pub indev: Option<DeviceId>,
    /// False without action and flowid: such a node matches nothing (`TC_U32_TERMINAL` is not set).
    pub terminal: bool,
    /// `flowid`/`classid`, as `major << 16 | minor`.
    pub classid: Option<u32>,
    /// Executed in order on a match.
    pub actions: Vec<ActionId>,
    /// Base of its counter words, see [`super::NodeWord`].
    pub counters: u32,
}

/// Where a key's offset counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum U32Base {
    /// The network header.
    Network,
    /// `nexthdr+`: what a linked table's `offset` reached; without one that is the network header as well
    /// (`offmask` −1: `key->off + (off2 & key->offmask)`, u32_classify()).
    NextHeader,
}

/// One u32 key: the 32-bit word at an offset, masked, must equal a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct U32Key {
    /// Already masked; host byte order (as tc prints it).
    pub value: u32,
    /// Host byte order.
    pub mask: u32,
    /// Bytes from the base; may be negative down to the MAC header at −14.
    pub offset: i32,
    /// See [`U32Base`].
    pub base: U32Base,
}

/// `match mark VALUE MASK` of a u32 node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct U32Mark {
    /// Already masked.
    pub value: u32,
    /// Compared bits.
    pub mask: u32,
}

/// A matchall filter.
#[derive(Clone, Debug)]
pub struct MatchallRule {
    /// Its handle, 1 unless given.
    pub handle: u32,
    /// `skip_sw`: never matches here.
    pub skip_sw: bool,
    /// `classid`.
    pub classid: Option<u32>,
    /// Executed in order.
    pub actions: Vec<ActionId>,
    /// Base of its counter words.
    pub counters: u32,
}

/// A flower filter: every key that is given must match.
#[derive(Clone, Debug)]
pub struct FlowerRule {
    /// Its handle, 1, 2, … unless given.
    pub handle: u32,
    /// What it compares.
    pub key: FlowerKey,
    /// `classid`.
    pub classid: Option<u32>,
    /// Executed in order on a match.
    pub actions: Vec<ActionId>,
    /// Base of its counter words.
    pub counters: u32,
}

/// The keys of a flower filter. `None`: not compared. Values are already masked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowerKey {
    /// The filter's protocol unless that is `all`: compared with the type of the packet (`eth_type`).
    pub eth_type: Option<u16>,
    /// `ip_proto`.
    pub ip_proto: Option<u8>,
    /// `src_ip` / `dst_ip` of IPv4: value and mask.
    pub src_ipv4: Option<(Ipv4Addr, Ipv4Addr)>,
    /// See `src_ipv4`.
    pub dst_ipv4: Option<(Ipv4Addr, Ipv4Addr)>,
    /// `src_ip` / `dst_ip` of IPv6: value and mask.
    pub src_ipv6: Option<(Ipv6Addr, Ipv6Addr)>,
    /// See `src_ipv6`.
    pub dst_ipv6: Option<(Ipv6Addr, Ipv6Addr)>,
    /// `src_port`.
    pub src_port: Option<PortMatch>,
    /// `dst_port`.
    pub dst_port: Option<PortMatch>,
    /// `tcp_flags`: value and mask, 12 bits.
    pub tcp_flags: Option<(u16, u16)>,
    /// `src_mac`: value and mask.
    pub src_mac: Option<([u8; 6], [u8; 6])>,
    /// `dst_mac`: value and mask.
    pub dst_mac: Option<([u8; 6], [u8; 6])>,
}

/// A flower port: masked, or a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortMatch {
    /// `80` or `80/0xfff0`: value (already masked) and mask.
    Masked(u16, u16),
    /// `8000-9000`: both ends included.
    Range(u16, u16),
}
