//! `u32_classify()` of net/sched/cls_u32.c, for the nodes of one root table.

use super::trace::Step;
use super::{Outcome, Run, Skb};
use crate::rules::{Control, CounterSink, NodeWord, U32Node};

impl Run<'_> {
    pub(super) fn u32_filter(&mut self, nodes: &[U32Node], skb: &mut Skb, bytes: u64) -> Outcome {
        // `skb_network_offset()` is taken once, from `skb->data`: the network header itself at ingress, the frame's start at egress.
        let offset_at_entry = if self.at_ingress() { 0 } else { skb.network() };
        for node in nodes {
            self.counters.add(node.counters + NodeWord::HIT, 1);
            if let Some(mark) = node.mark {
                self.tell(Step::Mark { node, mark: skb.meta.mark });
                if skb.meta.mark & mark.mask != mark.value {
                    continue;
                }
            }
            let network = if self.at_ingress() { skb.network() } else { 0 } + offset_at_entry;
            match self.u32_keys(node, skb, network) {
                // A key that cannot be read ends the whole filter.
                None => return Outcome::Control(Control::Continue),
                Some(false) => continue,
                Some(true) => {}
            }
            let but = match node.indev {
                _ if !node.terminal => Some("it has neither action nor flowid"),
                Some(device) if device != skb.iif => Some("the frame came in by another device than indev"),
                Some(_) | None => None,
            };
            self.tell(Step::Match { handle: node.handle, but });
            if but.is_some() {
                continue;
            }
            self.counters.add(node.counters + NodeWord::SUCCESS, 1);
            match self.action_list(&node.actions, skb, bytes) {
                Outcome::Control(Control::Continue) => {}
                verdict => return verdict,
            }
        }
        Outcome::Control(Control::Continue)
    }

    /// Whether all keys match; `None` if one of them lies outside of the frame.
    fn u32_keys(&mut self, node: &U32Node, skb: &Skb, network: usize) -> Option<bool> {
        for (index, key) in node.keys.iter().enumerate() {
            // Without a linked table both bases are the network header.
            let word = word_at(&skb.data, i64::from(key.offset) + network as i64);
            self.tell(Step::Key { node, key, word });
            let word = word?;
            if (word ^ key.value) & key.mask != 0 {
                return Some(false);
            }
            self.counters.add(node.counters + NodeWord::KEYS + index as u32, 1);
        }
        Some(true)
    }
}

/// `skb_header_pointer()` of four bytes; the kernel would read headroom before the MAC header, which nobody can mean.
fn word_at(data: &[u8], at: i64) -> Option<u32> {
    let at = usize::try_from(at).ok()?;
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}
