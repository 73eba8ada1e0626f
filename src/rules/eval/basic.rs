//! basic: `basic_classify()` of net/sched/cls_basic.c, with the extended matches of net/sched/ematch.c and em_*.c.

use super::trace::Step;
use super::{Outcome, Run, Skb};
use crate::rules::ematch::{meta_device, meta_extras, meta_text_order};
use crate::rules::{
    BasicRule, Control, CounterSink, Ematch, EmatchAsk, EmatchLayer, EmatchMeta, EmatchTerm, FrameWord, MetaObject,
    NodeWord,
};

impl Run<'_> {
    pub(super) fn basic_filter(&mut self, rules: &[BasicRule], skb: &mut Skb, bytes: u64) -> Outcome {
        for rule in rules {
            self.counters.add(rule.counters + NodeWord::HIT, 1);
            if !rule.ematches.is_empty() && !self.ematch_terms(rule.handle, &rule.ematches, skb) {
                continue;
            }
            self.counters.add(rule.counters + NodeWord::SUCCESS, 1);
            self.tell(Step::Match { handle: rule.handle, but: None });
            match self.action_list(&rule.actions, skb, bytes) {
                Outcome::Control(Control::Continue) => {}
                verdict => return verdict,
            }
        }
        Outcome::Control(Control::Continue)
    }

    /// `__tcf_em_tree_match()`.
    fn ematch_terms(&mut self, handle: u32, terms: &[EmatchTerm], skb: &Skb) -> bool {
        let mut result = false;
        for term in terms {
            let holds = match &term.ask {
                EmatchAsk::Group(terms) => self.ematch_terms(handle, terms, skb),
                EmatchAsk::One(ematch) => {
                    let holds = self.ematch(ematch, skb);
                    self.tell(Step::Ematch { handle, ematch, inverted: term.inverted, holds });
                    holds
                }
            };
            result = holds != term.inverted;
            if term.then.ends(result) {
                break;
            }
        }
        result
    }

    fn ematch(&mut self, ematch: &Ematch, skb: &Skb) -> bool {
        match ematch {
            Ematch::Cmp(cmp) => {
                let at = layer(cmp.layer, skb) + i64::from(cmp.offset);
                bytes_at(&skb.data, at, cmp.width as usize).is_some_and(|bytes| cmp.holds(bytes))
            }
            Ematch::U32(key) => {
                let at = skb.network() as i64 + i64::from(key.offset);
                FrameWord::at(&skb.data, at).is_some_and(|word| word.holds(key.value, key.mask))
            }
            Ematch::Nbyte(nbyte) => {
                let at = layer(nbyte.layer, skb) + i64::from(nbyte.offset);
                bytes_at(&skb.data, at, nbyte.needle.len()) == Some(nbyte.needle.as_slice())
            }
            Ematch::Meta(meta) => self.meta(meta, skb),
        }
    }

    /// `em_meta_match()`.
    fn meta(&mut self, meta: &EmatchMeta, skb: &Skb) -> bool {
        let left = self.meta_value(&meta.left, skb);
        let Some(left) = left else { return false };
        let right = self.meta_value(&meta.right, skb);
        let order = match (left, right) {
            (Value::Number(left), Some(Value::Number(right))) => left.cmp(&right),
            (Value::Text(left), Some(Value::Text(right))) => meta_text_order(&left, &right),
            (Value::Number(_) | Value::Text(_), _) => return false,
        };
        meta.operand.holds(order)
    }

    fn meta_value(&mut self, object: &MetaObject, skb: &Skb) -> Option<Value> {
        Some(match object {
            MetaObject::Number(number) => Value::Number(u64::from(*number)),
            MetaObject::Text(text) => Value::Text(text.clone()),
            MetaObject::Field { field, shift, mask } => {
                let data = if self.at_ingress() { &skb.data[skb.network()..] } else { &skb.data[..] };
                let mut random = || (self.random_below)(1 << 16) as u16;
                Value::Number(meta_extras(field.value(&skb.meta, data, &mut random)?, *shift, *mask))
            }
            MetaObject::Device { shift } => {
                let device = self.places.last().map_or(skb.iif, |(device, _)| *device);
                let name = self.ruleset.devices[device.index()].name.as_bytes();
                Value::Text(meta_device(name, *shift).to_vec())
            }
        })
    }
}

/// Where a layer's header is, from the frame's start (`tcf_get_base_ptr()`); before it when the head was taken off.
fn layer(layer: EmatchLayer, skb: &Skb) -> i64 {
    match layer {
        EmatchLayer::Link => 0,
        EmatchLayer::Network => skb.network() as i64,
        EmatchLayer::Transport => skb.data.len() as i64 - skb.behind_transport as i64,
    }
}

/// Bytes of the frame; the kernel would read headroom before the MAC header, which nobody can mean.
fn bytes_at(data: &[u8], at: i64, len: usize) -> Option<&[u8]> {
    let at = usize::try_from(at).ok()?;
    data.get(at..at.checked_add(len)?)
}

/// What a side of `meta` is for a frame.
enum Value {
    Number(u64),
    Text(Vec<u8>),
}
