//! basic filters: their expressions as tests that say where to go on, and running them. It writes into no frame.
//!
//! ```text
//! a and not (b or c)      test a: yes → b, no → miss      test b: yes → miss, no → c      test c: yes → miss, no → match
//! ```

use super::Outlet;
use super::actions::After;
use super::compile::append;
use super::layout::{BasicRule, Number, Question, Span, Test};
use super::run::{Run, View};
use super::{Plan, Refusal};
use crate::rules::ematch::{asks_transport, meta_device, meta_extras, meta_text_order};
use crate::rules::{
    self, Control, CounterSink, Ematch, EmatchAsk, EmatchLayer, EmatchMeta, EmatchTerm, EmatchThen, FrameWord,
    MetaObject, NodeWord, Ruleset,
};
use crate::types::{DeviceId, Direction};

/// A test's way on: the expression holds.
pub(super) const MATCH: u32 = u32::MAX;
/// A test's way on: it does not.
pub(super) const MISS: u32 = u32::MAX - 1;

impl Plan {
    /// The rules of a basic filter at a hook of `device`.
    pub(super) fn basic(
        &mut self,
        ruleset: &Ruleset,
        prio: u16,
        device: DeviceId,
        rules: &[rules::BasicRule],
    ) -> Result<Span, Refusal> {
        let name = ruleset.devices.get(device.index()).map_or("", |d| d.name.as_str());
        let mut list = Vec::with_capacity(rules.len());
        for rule in rules {
            self.asks_transport |= asks_transport(&rule.ematches);
            let entry = if rule.ematches.is_empty() { MATCH } else { self.terms(&rule.ematches, name, MATCH, MISS)? };
            let steps = self.steps(ruleset, prio, &rule.actions)?;
            list.push(BasicRule { counters: rule.counters, entry, steps });
        }
        append(&mut self.basic_rules, list, "basic filters")
    }

    /// Lays out a sequence from its end; its first test.
    fn terms(&mut self, terms: &[EmatchTerm], device: &str, yes: u32, no: u32) -> Result<u32, Refusal> {
        let mut next = no;
        for term in terms.iter().rev() {
            let (holds, fails) = match term.then {
                EmatchThen::End => (yes, no),
                EmatchThen::And => (next, no),
                EmatchThen::Or => (yes, next),
            };
            let (holds, fails) = if term.inverted { (fails, holds) } else { (holds, fails) };
            next = match &term.ask {
                EmatchAsk::Group(terms) if terms.is_empty() => fails,
                EmatchAsk::Group(terms) => self.terms(terms, device, holds, fails)?,
                EmatchAsk::One(ematch) => match self.question(ematch, device)? {
                    Known::Now(true) => holds,
                    Known::Now(false) => fails,
                    Known::Asked(question) => {
                        append(&mut self.tests, [Test { question, yes: holds, no: fails }], "ematches")?.start
                    }
                },
            };
        }
        Ok(next)
    }

    fn question(&mut self, ematch: &Ematch, device: &str) -> Result<Known, Refusal> {
        Ok(Known::Asked(match ematch {
            Ematch::Cmp(cmp) => Question::Cmp(*cmp),
            Ematch::U32(key) => Question::U32 {
                offset: key.offset,
                value: u32::from_ne_bytes(key.value.to_be_bytes()),
                mask: u32::from_ne_bytes(key.mask.to_be_bytes()),
            },
            Ematch::Nbyte(nbyte) => Question::Nbyte {
                layer: nbyte.layer,
                offset: nbyte.offset,
                needle: append(&mut self.needles, nbyte.needle.iter().copied(), "nbyte bytes")?,
            },
            Ematch::Meta(EmatchMeta { left, operand, right }) => {
                match (text(left, device), text(right, device)) {
                    // The hook has one device: what its name is compared with is known.
                    (Some(left), Some(right)) => return Ok(Known::Now(operand.holds(meta_text_order(left, right)))),
                    (None, None) => Question::Meta { left: number(left), operand: *operand, right: number(right) },
                    (Some(_), None) | (None, Some(_)) => return Ok(Known::Now(false)),
                }
            }
        }))
    }
}

/// What is known of a match before there is a frame.
enum Known {
    Now(bool),
    Asked(Question),
}

fn text<'a>(object: &'a MetaObject, device: &'a str) -> Option<&'a [u8]> {
    match object {
        MetaObject::Text(text) => Some(text),
        MetaObject::Device { shift } => Some(meta_device(device.as_bytes(), *shift)),
        MetaObject::Number(_) | MetaObject::Field { .. } => None,
    }
}

fn number(object: &MetaObject) -> Number {
    match *object {
        MetaObject::Number(number) => Number::Known(number.into()),
        MetaObject::Field { field, shift, mask } => Number::Field { field, shift, mask },
        // Texts were sorted out before.
        MetaObject::Text(_) | MetaObject::Device { .. } => Number::Known(0),
    }
}

impl<C: CounterSink, O: Outlet> Run<'_, C, O> {
    /// `basic_classify()`, net/sched/cls_basic.c.
    pub(super) fn basic_filter(&mut self, rules: Span, view: &mut View<'_, '_>) -> After {
        let plan = self.plan;
        for rule in rules.of(&plan.basic_rules) {
            self.counters.add(rule.counters + NodeWord::HIT, 1);
            // Tests lead to tests that were laid out before them: it ends.
            let mut at = rule.entry;
            while let Some(test) = plan.tests.get(at as usize) {
                at = if self.holds(&test.question, view) { test.yes } else { test.no };
            }
            if at != MATCH {
                continue;
            }
            self.counters.add(rule.counters + NodeWord::SUCCESS, 1);
            match self.steps(rule.steps, view) {
                After::Control(Control::Continue) => {}
                verdict @ (After::Control(_) | After::Shot(_) | After::Redirect { .. }) => return verdict,
            }
        }
        After::Control(Control::Continue)
    }

    fn holds(&mut self, question: &Question, view: &View<'_, '_>) -> bool {
        match *question {
            Question::Cmp(cmp) => {
                let at = self.layer(cmp.layer, view) + i64::from(cmp.offset);
                bytes_at(view.packet.data(), at, cmp.width as usize).is_some_and(|bytes| cmp.holds(bytes))
            }
            Question::U32 { offset, value, mask } => {
                let at = i64::from(view.packet.meta.network) + i64::from(offset);
                let in_host_order = |word: u32| u32::from_be_bytes(word.to_ne_bytes());
                let word = FrameWord::at(view.packet.data(), at);
                word.is_some_and(|word| word.holds(in_host_order(value), in_host_order(mask)))
            }
            Question::Nbyte { layer, offset, needle } => {
                let needle = needle.of(&self.plan.needles);
                let at = self.layer(layer, view) + i64::from(offset);
                bytes_at(view.packet.data(), at, needle.len()) == Some(needle)
            }
            Question::Meta { left, operand, right } => {
                let Some(left) = self.number(left, view) else { return false };
                let Some(right) = self.number(right, view) else { return false };
                operand.holds(left.cmp(&right))
            }
        }
    }

    fn number(&mut self, number: Number, view: &View<'_, '_>) -> Option<u64> {
        let (field, shift, mask) = match number {
            Number::Known(number) => return Some(number),
            Number::Field { field, shift, mask } => (field, shift, mask),
        };
        let start = match view.place.direction {
            Direction::Ingress => usize::from(view.packet.meta.network),
            Direction::Egress => 0,
        };
        let outlet = &mut *self.outlet;
        let mut random = || outlet.random_below(1 << 16) as u16;
        let value = field.value(&view.packet.meta, &view.packet.data()[start..], &mut random)?;
        Some(meta_extras(value, shift, mask))
    }

    /// Where a layer's header is, from the frame's start (`tcf_get_base_ptr()`); before it when the head was taken off.
    fn layer(&self, layer: EmatchLayer, view: &View<'_, '_>) -> i64 {
        match layer {
            EmatchLayer::Link => 0,
            EmatchLayer::Network => view.packet.meta.network.into(),
            EmatchLayer::Transport => view.packet.frame().len() as i64 - self.behind_transport as i64,
        }
    }
}

fn bytes_at(data: &[u8], at: i64, len: usize) -> Option<&[u8]> {
    let at = usize::try_from(at).ok()?;
    data.get(at..at.checked_add(len)?)
}
