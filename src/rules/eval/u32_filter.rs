//! `u32_classify()` of net/sched/cls_u32.c: the root table, and the tables that it links to.

use super::trace::{LinkFailure, Step};
use super::{Outcome, Run, Skb};
use crate::limits::{U32_DEPTH_MAX, U32_VISITS_MAX};
use crate::rules::{Control, CounterSink, FrameWord, NodeWord, U32Base, U32Link, U32Node};

/// Where a node's keys count from.
#[derive(Clone, Copy)]
struct Base {
    /// Where `skb->data` is in the frame now: the network header at ingress, the frame's start at egress. Actions can move it.
    data: i64,
    /// `off`: bytes behind that. `skb_network_offset()` is taken once, when the filter is entered.
    network: i64,
    /// `off2`: how far the next header is behind it. It stays when a link returns.
    next_header: i64,
}

/// What comparing a node came to.
enum Node {
    Differs,
    Fits,
    /// A word is not in the frame, which ends the whole filter.
    Unreadable,
}

/// Nodes that are still to be tried, and from where.
struct Level<'a> {
    nodes: &'a [U32Node],
    next: usize,
    network: i64,
}

impl Run<'_> {
    pub(super) fn u32_filter(&mut self, root: &[U32Node], skb: &mut Skb, bytes: u64) -> Outcome {
        let nothing = Outcome::Control(Control::Continue);
        let ruleset = self.ruleset;
        let off = if self.at_ingress() { 0 } else { skb.network() as i64 };
        let mut base = Base { data: 0, network: off, next_header: 0 };
        let mut levels = vec![Level { nodes: root, next: 0, network: base.network }];
        for _ in 0..U32_VISITS_MAX {
            let Some(level) = levels.last_mut() else { return nothing };
            base.network = level.network;
            base.data = if self.at_ingress() { skb.network() as i64 } else { 0 };
            let Some(node) = level.nodes.get(level.next) else {
                // The table is done: the node that linked to it has its turn, if it does something by itself.
                levels.pop();
                let Some(level) = levels.last_mut() else { return nothing };
                let node = &level.nodes[level.next];
                level.next += 1;
                match self.u32_match(node, skb, bytes) {
                    Outcome::Control(Control::Continue) => continue,
                    verdict => return verdict,
                }
            };
            match self.u32_node(node, base, skb) {
                Node::Unreadable => return nothing,
                Node::Differs => level.next += 1,
                Node::Fits => match &node.link {
                    None => {
                        level.next += 1;
                        match self.u32_match(node, skb, bytes) {
                            Outcome::Control(Control::Continue) => {}
                            verdict => return verdict,
                        }
                    }
                    Some(_) if levels.len() > U32_DEPTH_MAX => {
                        self.tell(Step::LinkFails { node, failure: LinkFailure::Deep });
                        return nothing;
                    }
                    Some(link) => {
                        let table = &ruleset.u32_tables[link.table as usize];
                        let bucket = match descend(link, &skb.data, &mut base, table.buckets.len()) {
                            Ok(bucket) => bucket,
                            Err((at, bytes)) => {
                                let failure = LinkFailure::Cut { at, bytes, frame_len: skb.data.len() };
                                self.tell(Step::LinkFails { node, failure });
                                return nothing;
                            }
                        };
                        let moves = link.descent.plus.is_some() || link.descent.variable.is_some() || link.descent.eat;
                        // A base behind the frame's end is no way to go on: as if the table were empty.
                        let beyond = moves && base.data + base.network >= skb.data.len() as i64;
                        self.tell(Step::Link {
                            node,
                            table: table.id,
                            bucket,
                            offset: base.data + base.network - skb.network() as i64,
                            next_header: base.next_header,
                            beyond,
                        });
                        let nodes = if beyond { &[][..] } else { &table.buckets[bucket] };
                        levels.push(Level { nodes, next: 0, network: base.network });
                    }
                },
            }
        }
        nothing
    }

    /// The mark and the keys of a node.
    fn u32_node(&mut self, node: &U32Node, base: Base, skb: &Skb) -> Node {
        self.counters.add(node.counters + NodeWord::HIT, 1);
        if let Some(mark) = node.mark {
            self.tell(Step::Mark { node, mark: skb.meta.mark });
            if skb.meta.mark & mark.mask != mark.value {
                return Node::Differs;
            }
            self.counters.add(node.counters + NodeWord::mark(node.keys.len()), 1);
        }
        for (index, key) in node.keys.iter().enumerate() {
            let from = match key.base {
                U32Base::Network => base.data + base.network,
                U32Base::NextHeader => base.data + base.network + base.next_header,
            };
            let at = from + i64::from(key.offset);
            let word = FrameWord::at(&skb.data, at);
            self.tell(Step::Key { node, key, word, at, frame_len: skb.data.len() });
            let Some(word) = word else { return Node::Unreadable };
            if !word.holds(key.value, key.mask) {
                return Node::Differs;
            }
            self.counters.add(node.counters + NodeWord::KEYS + index as u32, 1);
        }
        Node::Fits
    }

    /// `check_terminal`: what a node does whose keys fit.
    fn u32_match(&mut self, node: &U32Node, skb: &mut Skb, bytes: u64) -> Outcome {
        let but = match node.indev {
            _ if !node.terminal && node.link.is_some() => Some("it only links, and nothing behind the link ended it"),
            _ if !node.terminal => Some("it has neither action nor flowid"),
            Some(device) if device != skb.iif => Some("the frame came in by another device than indev"),
            Some(_) | None => None,
        };
        self.tell(Step::Match { handle: node.handle, but });
        if but.is_some() {
            return Outcome::Control(Control::Continue);
        }
        self.counters.add(node.counters + NodeWord::SUCCESS, 1);
        self.action_list(&node.actions, skb, bytes)
    }
}

/// Moves the base as a link says and finds the bucket.
///
/// # Errors
/// The frame is too short for a word that it reads: where that begins, and its bytes.
fn descend(link: &U32Link, data: &[u8], base: &mut Base, bucket_count: usize) -> Result<usize, (i64, i64)> {
    let descent = &link.descent;
    let mut bucket = 0;
    if bucket_count > 1 {
        let at = base.data + base.network + i64::from(descent.hash_at);
        let word = word_at(data, at).ok_or((at, 4))?;
        bucket = descent.bucket(word, bucket_count);
    }
    if descent.plus.is_some() || descent.variable.is_some() {
        let word = match descent.variable {
            Some(variable) => {
                let at = base.data + base.network + i64::from(variable.at);
                bytes_at::<2>(data, at).map(u16::from_be_bytes).ok_or((at, 2))?
            }
            None => 0,
        };
        base.next_header = i64::from(descent.distance(word));
    }
    if descent.eat {
        base.network += base.next_header;
        base.next_header = 0;
    }
    Ok(bucket)
}

/// Four bytes of the frame; from before it, what a link hashes is whatever the kernel has there.
fn word_at(data: &[u8], at: i64) -> Option<u32> {
    bytes_at::<4>(data, at).map(u32::from_be_bytes)
}

fn bytes_at<const N: usize>(data: &[u8], at: i64) -> Option<[u8; N]> {
    let at = usize::try_from(at).ok()?;
    data.get(at..at.checked_add(N)?)?.try_into().ok()
}
