//! u32 filters with links: `u32_classify()` of net/sched/cls_u32.c over the plan's arrays. Filters without any are in `filters`.

use super::Outlet;
use super::actions::After;
use super::layout::{FarNode, LinkTo, Span};
use super::run::{Run, View};
use crate::limits::{U32_DEPTH_MAX, U32_VISITS_MAX};
use crate::rules::{Control, CounterSink, FrameWord, NodeWord};
use crate::types::Direction;

/// Where a node's keys count from.
#[derive(Clone, Copy)]
struct Base {
    /// Where `skb->data` is in the frame: the network header at ingress, the frame's start at egress.
    data: i64,
    /// `off`: bytes behind that.
    network: i64,
    /// How far the next header is behind it. It stays when a link returns.
    next_header: i64,
}

/// Nodes that are still to be tried, the first of them at work, and from where.
#[derive(Clone, Copy, Default)]
struct Level {
    nodes: Span,
    network: i64,
}

impl Level {
    fn advance(&mut self) {
        self.nodes.start += 1;
        self.nodes.len -= 1;
    }
}

/// What comparing a node's keys came to.
enum Keys {
    Fit,
    Differ,
    Unreadable,
}

impl<C: CounterSink, O: Outlet> Run<'_, C, O> {
    pub(super) fn u32_tables(&mut self, root: Span, view: &mut View<'_, '_>) -> After {
        let nothing = After::Control(Control::Continue);
        let plan = self.plan;
        let at_ingress = view.place.direction == Direction::Ingress;
        let off = if at_ingress { 0 } else { i64::from(view.packet.meta.network) };
        let mut base = Base { data: 0, network: off, next_header: 0 };
        let mut levels = [Level::default(); U32_DEPTH_MAX + 1];
        levels[0] = Level { nodes: root, network: base.network };
        let mut depth = 0;
        for _ in 0..U32_VISITS_MAX {
            base.network = levels[depth].network;
            base.data = if at_ingress { i64::from(view.packet.meta.network) } else { 0 };
            let returned = levels[depth].nodes.len == 0;
            if returned {
                if depth == 0 {
                    return nothing;
                }
                depth -= 1;
            }
            let far = &plan.far_nodes[levels[depth].nodes.start as usize];
            if !returned {
                match self.far_keys(far, base, view) {
                    Keys::Unreadable => return nothing,
                    Keys::Differ => {
                        levels[depth].advance();
                        continue;
                    }
                    Keys::Fit => {}
                }
                if let Some(link) = &far.link {
                    let data = view.packet.data();
                    let buckets = plan.tables[link.table as usize];
                    let Some(bucket) = descend(link, data, &mut base, buckets.len as usize) else { return nothing };
                    if depth == U32_DEPTH_MAX {
                        return nothing;
                    }
                    let beyond = link.moves && base.data + base.network >= data.len() as i64;
                    let nodes = if beyond { Span::default() } else { buckets.of(&plan.buckets)[bucket] };
                    depth += 1;
                    levels[depth] = Level { nodes, network: base.network };
                    continue;
                }
            }
            levels[depth].advance();
            let node = &far.node;
            if !node.terminal || node.indev.is_some_and(|device| device != view.place.iif) {
                continue;
            }
            self.counters.add(node.counters + NodeWord::SUCCESS, 1);
            match self.steps(node.steps, view) {
                After::Control(Control::Continue) => {}
                verdict @ (After::Control(_) | After::Shot(_) | After::Redirect { .. }) => return verdict,
            }
        }
        nothing
    }

    fn far_keys(&mut self, far: &FarNode, base: Base, view: &View<'_, '_>) -> Keys {
        let node = &far.node;
        if !self.u32_mark(node, view.packet.meta.mark) {
            return Keys::Differ;
        }
        for (passed, key) in (node.counters + NodeWord::KEYS..).zip(node.keys.of(&self.plan.far_keys)) {
            let at =
                base.data + base.network + i64::from(key.offset) + if key.next_header { base.next_header } else { 0 };
            let Some(word) = FrameWord::at(view.packet.data(), at) else { return Keys::Unreadable };
            if !word.holds(key.value, key.mask) {
                return Keys::Differ;
            }
            self.counters.add(passed, 1);
        }
        Keys::Fit
    }
}

/// Moves the base as the link says and finds the bucket; `None` if the frame is too short for the words that it reads.
fn descend(link: &LinkTo, data: &[u8], base: &mut Base, bucket_count: usize) -> Option<usize> {
    let descent = &link.descent;
    let bucket = if bucket_count > 1 {
        let word = bytes_at::<4>(data, base.data + base.network + i64::from(descent.hash_at))?;
        descent.bucket(u32::from_be_bytes(word), bucket_count)
    } else {
        0
    };
    if let Some(variable) = descent.variable {
        let word = bytes_at::<2>(data, base.data + base.network + i64::from(variable.at))?;
        base.next_header = i64::from(descent.distance(u16::from_be_bytes(word)));
    } else if descent.plus.is_some() {
        base.next_header = i64::from(descent.distance(0));
    }
    if descent.eat {
        base.network += base.next_header;
        base.next_header = 0;
    }
    Some(bucket)
}

fn bytes_at<const N: usize>(data: &[u8], at: i64) -> Option<[u8; N]> {
    let at = usize::try_from(at).ok()?;
    data.get(at..at.checked_add(N)?)?.try_into().ok()
}
