//! Where on its stack a program keeps what it must know of a frame. No code is made here.
//!
//! Everything is fetched once into the stack, so that classification is plain comparison, the same for both targets:
//!
//! ```text
//! fp−8   u64 milliseconds       fp−12  u32 length without outer tag   fp−14  u16 protocol of filters
//! fp−18  u16 EtherType          fp−20  u16 length, at most 65535      fp−22  u16 offset of the network header
//! fp−26… u16 what was dissected fp−40  u32 map key                    fp−44  4 bytes read on the way
//! fp−48… u32 words of the frame, in network order, by their offset in the frame without its outer tag
//! ```
//!
//! The verifier follows 8-aligned slots value by value and would try each combination of comparisons on its own. So the
//! small ones are at other offsets, and so are words, as long as there is room.

use std::collections::{BTreeMap, BTreeSet};

use super::ematch;
use super::refusal::Reason;
use super::verdict::{Entry, filters};
use crate::limits::ETHERNET_LEN;
use crate::rules::{Classifier, FlowerKey, Hook, InFrame};
use crate::types::{Protocol, ethertype};

/// Stack slots, as offsets from the frame pointer.
pub(super) mod slot {
    pub const NOW_MS: i16 = -8;
    pub const DATA_LEN: i16 = -12;
    pub const PROTOCOL: i16 = -14;
    pub const ETH_TYPE: i16 = -18;
    pub const LEN: i16 = -20;
    pub const NETWORK: i16 = -22;
    pub const IP_PROTO: i16 = -26;
    pub const FOUND: i16 = -28;
    pub const SRC_PORT: i16 = -30;
    pub const DST_PORT: i16 = -34;
    pub const TCP_FLAGS: i16 = -36;
    pub const MAP_KEY: i16 = -40;
    pub const SCRATCH: i16 = -44;
    pub const WORDS: i16 = -48;
    pub const END: i16 = -512;
}

/// Farthest word that a program reads, in bytes; offsets of instructions are 16 bits.
pub(super) const WORD_AT_MAX: i32 = 32_000;
pub(super) const NETWORK: i32 = ETHERNET_LEN as i32;

/// Which words of the frame are needed, and where on the stack they are.
#[derive(Debug, Default)]
pub(super) struct Layout {
    words: BTreeMap<i32, i16>,
    /// A rule looks at what the dissector finds.
    pub dissect: bool,
    pub dissect_ipv4: bool,
    pub dissect_ipv6: bool,
}

impl Layout {
    /// For all rules that a frame can reach; `device` is the name of the hook's.
    pub fn of(hook: &Hook, device: &str, entries: &BTreeSet<Entry>) -> Result<Self, Reason> {
        let mut layout = Self::default();
        let mut words = BTreeSet::new();
        for chain in entries.iter().map(|e| e.chain).collect::<BTreeSet<_>>() {
            for filter in filters(hook, chain) {
                match &filter.classifier {
                    Classifier::U32(nodes) => {
                        for key in nodes.iter().flat_map(|n| &n.keys) {
                            if let InFrame::Key(key) = key.in_frame(NETWORK) {
                                words.insert(word_at(key.offset)?);
                            }
                        }
                    }
                    Classifier::Flower(rules) => {
                        for rule in rules {
                            can_dissect(&rule.key, filter.protocol)?;
                            layout.need(&rule.key, &mut words);
                        }
                    }
                    Classifier::Basic(rules) => {
                        for rule in rules {
                            ematch::need(&rule.ematches, device, &mut words)?;
                        }
                    }
                    Classifier::Matchall(_) | Classifier::Fw(_) => {}
                }
            }
        }
        if layout.dissect_ipv4 {
            words.extend([14, 18, 22]);
        }
        if layout.dissect_ipv6 {
            words.insert(18);
        }
        let slots = (slot::END / 4..=slot::WORDS / 4).rev().map(|n| n * 4);
        let (odd, even): (Vec<i16>, Vec<i16>) = slots.partition(|s| s % 8 != 0);
        let limit = odd.len() + even.len();
        if words.len() > limit {
            return Err(Reason::TooManyWords { count: words.len(), limit });
        }
        layout.words = words.into_iter().zip(odd.into_iter().chain(even)).collect();
        Ok(layout)
    }

    fn need(&mut self, key: &FlowerKey, words: &mut BTreeSet<i32>) {
        let addresses4 = key.src_ipv4.is_some() || key.dst_ipv4.is_some();
        let addresses6 = key.ipv6.is_some();
        // Also without further keys: MPLS within IP is no IP to flower.
        self.dissect_ipv4 |= key.eth_type == Some(ethertype::IPV4);
        self.dissect_ipv6 |= key.eth_type == Some(ethertype::IPV6);
        self.dissect = self.dissect_ipv4 || self.dissect_ipv6;
        if addresses4 {
            words.extend([26, 30]);
        }
        if addresses6 {
            words.extend((22..54).step_by(4));
        }
        if key.src_mac.is_some() || key.dst_mac.is_some() {
            words.extend([0, 4, 8]);
        }
    }

    /// Stack slots by the words' offsets in the frame without its outer tag.
    pub fn words(&self) -> &BTreeMap<i32, i16> {
        &self.words
    }

    /// Stack slot of the word at this offset of the frame without its outer tag.
    pub fn slot(&self, at: i32) -> i16 {
        self.words[&at]
    }
}

/// Whether a program can find what a key compares: keys of Ethernet, IP and ports in frames whose type is the filter's protocol.
pub(super) fn can_dissect(key: &FlowerKey, protocol: Protocol) -> Result<(), Reason> {
    let refuse = |key: &str| Err(Reason::FlowerKey { key: key.to_owned() });
    if let Some(more) = &key.more {
        let only = FlowerKey { more: Some(more.clone()), ..FlowerKey::default() };
        return refuse(only.fields().first().map_or("mpls", |(field, _, _)| field.name()));
    }
    let upper = key.ip_proto.is_some()
        || key.src_port.is_some()
        || key.dst_port.is_some()
        || key.tcp_flags.is_some()
        || key.src_ipv4.is_some()
        || key.dst_ipv4.is_some()
        || key.ipv6.is_some();
    match key.eth_type {
        None if upper => refuse("a key of IP without protocol ip or ipv6"),
        None => Ok(()),
        Some(ethertype::IPV4 | ethertype::IPV6) if protocol.0 == key.eth_type.unwrap_or(0) => Ok(()),
        Some(other) if upper || other != protocol.0 => refuse("a key of what is behind tags"),
        Some(ethertype::HSR | ethertype::PRP | ethertype::BATMAN | ethertype::PPP_SES) => {
            refuse("a protocol that has others in it")
        }
        Some(ethertype::VLAN | ethertype::QINQ) => refuse("the type of a tag"),
        Some(_) => Ok(()),
    }
}

/// The place in the frame, without its outer tag, of a u32 key that is in it.
pub(super) fn word_at(offset: i32) -> Result<i32, Reason> {
    if offset > WORD_AT_MAX - NETWORK {
        return Err(Reason::OffsetTooFar { offset, limit: WORD_AT_MAX as u32 });
    }
    Ok(offset + NETWORK)
}
