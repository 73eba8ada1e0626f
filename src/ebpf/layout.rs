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
use crate::rules::{Classifier, FlowerKey, Hook};
use crate::types::ethertype;

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
const NETWORK: i32 = ETHERNET_LEN as i32;

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
                            words.extend(word_at(key.offset)?);
                        }
                    }
                    Classifier::Flower(rules) => rules.iter().for_each(|r| layout.need(&r.key, &mut words)),
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
        let addresses6 = key.src_ipv6.is_some() || key.dst_ipv6.is_some();
        let upper = key.ip_proto.is_some()
            || key.src_port.is_some()
            || key.dst_port.is_some()
            || key.tcp_flags.is_some()
            || addresses4
            || addresses6;
        self.dissect |= upper;
        self.dissect_ipv4 |= upper && key.eth_type.is_none_or(|t| t == ethertype::IPV4);
        self.dissect_ipv6 |= upper && key.eth_type.is_none_or(|t| t == ethertype::IPV6);
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

/// A u32 key's place in the frame without its outer tag; `None` before the frame, where nothing can be read.
pub(super) fn word_at(offset: i32) -> Result<Option<i32>, Reason> {
    if offset < -NETWORK {
        return Ok(None);
    }
    if offset > WORD_AT_MAX - NETWORK {
        return Err(Reason::OffsetTooFar { offset, limit: WORD_AT_MAX as u32 });
    }
    Ok(Some(offset + NETWORK))
}
