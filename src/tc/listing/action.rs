//! One action in a listing: what its kind prints, then index, times and statistics. It changes nothing.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::Source;
use crate::rules::{Action, ActionWord};
use crate::tc::action::{csum, gact, mirred, nat, pedit, police, simple, skbedit, skbmod, vlan};
use crate::tc::store::ActionState;

/// Seconds that listings show: `installed`, `used`, `firstused`.
struct Times {
    installed: u64,
    used: u64,
    first_used: Option<u64>,
}

impl Source<'_> {
    /// The text of action number `order`: of a filter (`bound`), or by itself; without a number: of the old word `police`.
    pub(super) fn action_text(&self, order: Option<usize>, state: &ActionState, bound: bool, out: &mut String) {
        if self.options.brief {
            self.brief_action(order.unwrap_or_default(), state, bound, out);
            return;
        }
        self.action_body(order, state, out);
        let mut tail = cookie_text(state);
        let extras = state.extras.as_deref().cloned().unwrap_or_default();
        tail.push_str(if extras.no_percpu { "\tno_percpu" } else { "" });
        if !bound {
            tail.push_str(if extras.skip_hw { "\tskip_hw" } else { "\tnot_in_hw" });
        }
        if extras.no_percpu || !bound {
            tail.push('\n');
        }
        // The old word `police` leaves them off, which is told of the action by itself (`tcf_action_init_1()`).
        let compat = matches!(&state.action, Action::Police(police) if police.compat && !bound);
        if let Some(hw_stats) = extras.hw_stats.or(compat.then_some("disabled")) {
            let _ = writeln!(tail, "\thw_stats {hw_stats}");
        }
        out.push_str(&self.options.lines(&tail));
    }

    /// `-br` (`tcf_action_dump_terse()`): a policer does not even tell its kind then.
    fn brief_action(&self, order: usize, state: &ActionState, bound: bool, out: &mut String) {
        let kind = match &state.action {
            Action::Police(_) => String::new(),
            Action::Gact(_)
            | Action::Mirred(_)
            | Action::Skbedit(_)
            | Action::Skbmod(_)
            | Action::Csum(_)
            | Action::Pedit(_)
            | Action::Vlan(_)
            | Action::Nat(_)
            | Action::Simple(_) => format!("{} ", state.action.kind()),
        };
        let mut text = format!("\n\taction order {order}: {kind}");
        if !bound {
            let _ = writeln!(text, "\t index {}", state.index);
        }
        if self.options.stats {
            text.push_str("\tAction statistics:\n");
            text.push_str(&self.statistics(state));
        }
        text.push_str(&cookie_text(state));
        out.push_str(&self.options.lines(&text));
    }

    fn action_body(&self, order: Option<usize>, state: &ActionState, out: &mut String) {
        // The last: whether tc ends the lines of this kind plainly, whatever `-o` says.
        let (what, plain) = match &state.action {
            Action::Gact(a) => (gact::text(a), false),
            Action::Mirred(a) => (mirred::text(a, &self.store.device_key(a.device).name), false),
            Action::Skbedit(a) => (skbedit::text(a), false),
            Action::Skbmod(a) => (skbmod::text(a), true),
            Action::Csum(a) => (csum::text(a), false),
            Action::Pedit(a) => (pedit::text(a), true),
            Action::Vlan(a) => (vlan::text(a, self.options.numeric), false),
            Action::Nat(a) => (nat::text(a), false),
            Action::Police(a) => (police::text(a, state.index, (state.refs(), state.binds), self.options), false),
            Action::Simple(a) => (simple::text(a), true),
        };
        out.push_str(&self.options.lines("\n"));
        if let Some(order) = order {
            let _ = write!(out, "\taction order {order}: ");
        }
        out.push_str(&if plain { what } else { self.options.lines(&what).into_owned() });
        if !matches!(state.action, Action::Police(_)) {
            let _ = write!(out, "index {} ref {} bind {}", state.index, state.refs(), state.binds);
        }
        if self.options.stats {
            let times = self.times(state);
            let _ = write!(out, " installed {} sec used {} sec", times.installed, times.used);
            if let Some(first) = times.first_used {
                let _ = write!(out, " firstused {first} sec");
            }
        }
        if let Action::Pedit(pedit) = &state.action {
            out.push_str(&pedit::keys_text(pedit));
        }
        match (&state.action, self.options.stats) {
            (Action::Skbmod(_), _) => out.push('\n'),
            (_, false) => out.push_str(&self.options.lines("\n")),
            (_, true) if order.is_some() => out.push_str(&self.options.lines("\n")),
            (_, true) => {}
        }
        if self.options.stats && order.is_some() {
            out.push_str(&self.options.lines(&format!("\tAction statistics:\n{}", self.statistics(state))));
        } else if self.options.stats {
            let word = |offset| self.counters.word(state.counters + offset);
            let [bytes, packets, drops, overlimits] =
                [ActionWord::BYTES, ActionWord::PACKETS, ActionWord::DROPS, ActionWord::OVERLIMITS].map(word);
            let text = format!("\n\n Sent {bytes} bytes {packets} pkts (dropped {drops}, overlimits {overlimits}) ");
            out.push_str(&self.options.lines(&text));
        }
    }

    fn statistics(&self, state: &ActionState) -> String {
        let word = |offset| self.counters.word(state.counters + offset);
        format!(
            "\tSent {} bytes {} pkt (dropped {}, overlimits {} requeues 0) \n\tbacklog 0b 0p requeues 0\n",
            word(ActionWord::BYTES),
            word(ActionWord::PACKETS),
            word(ActionWord::DROPS),
            word(ActionWord::OVERLIMITS),
        )
    }

    /// The JSON of action number `order`: of a filter (`bound`), or by itself.
    pub(super) fn action_json(&self, order: usize, state: &ActionState, bound: bool) -> Value {
        let mut map = Map::new();
        map.insert("order".to_owned(), order.into());
        // These two say their kind in another way.
        if !matches!(state.action, Action::Nat(_) | Action::Simple(_)) {
            map.insert("kind".to_owned(), state.action.kind().into());
        }
        if self.options.brief {
            map.extend((!bound).then(|| ("index".to_owned(), state.index.into())));
            map.extend(self.options.stats.then(|| ("stats".to_owned(), self.json_statistics(state))));
            let cookie = state.extras.as_ref().and_then(|e| e.cookie.as_deref());
            map.extend(cookie.map(|c| ("cookie".to_owned(), hex(c).into())));
            return Value::Object(map);
        }
        match &state.action {
            Action::Gact(a) => gact::json(a, &mut map),
            Action::Mirred(a) => mirred::json(a, &self.store.device_key(a.device).name, &mut map),
            Action::Skbedit(a) => skbedit::json(a, &mut map),
            Action::Skbmod(a) => skbmod::json(a, &mut map),
            Action::Csum(a) => csum::json(a, &mut map),
            Action::Pedit(a) => pedit::json(a, &mut map),
            Action::Vlan(a) => vlan::json(a, &mut map),
            Action::Nat(a) => nat::json(a, &mut map),
            Action::Police(a) => police::json(a, state.index, (state.refs(), state.binds), self.options, &mut map),
            Action::Simple(a) => simple::json(a, &mut map),
        }
        // Of a policer they are there already.
        map.entry("index").or_insert_with(|| state.index.into());
        map.insert("ref".to_owned(), state.refs().into());
        map.insert("bind".to_owned(), state.binds.into());
        let keys = if let Action::Pedit(pedit) = &state.action { Some(pedit::keys_json(pedit)) } else { None };
        if !self.options.stats {
            map.extend(keys.map(|keys| ("keys".to_owned(), keys)));
        } else {
            let times = self.times(state);
            map.insert("installed".to_owned(), times.installed.into());
            map.insert("last_used".to_owned(), times.used.into());
            map.extend(times.first_used.map(|first| ("first_used".to_owned(), first.into())));
            map.extend(keys.map(|keys| ("keys".to_owned(), keys)));
            map.insert("stats".to_owned(), self.json_statistics(state));
        }
        let extras = state.extras.as_deref().cloned().unwrap_or_default();
        map.extend(extras.cookie.as_deref().map(|c| ("cookie".to_owned(), hex(c).into())));
        map.extend(extras.no_percpu.then(|| ("no_percpu".to_owned(), true.into())));
        if !bound {
            let flag = if extras.skip_hw { "skip_hw" } else { "not_in_hw" };
            map.insert(flag.to_owned(), true.into());
        }
        let compat = matches!(&state.action, Action::Police(police) if police.compat && !bound);
        let hw_stats = extras.hw_stats.or(compat.then_some("disabled"));
        map.extend(hw_stats.map(|h| ("hw_stats".to_owned(), json!([h]))));
        Value::Object(map)
    }

    fn json_statistics(&self, state: &ActionState) -> Value {
        let word = |offset| self.counters.word(state.counters + offset);
        json!({
            "bytes": word(ActionWord::BYTES), "packets": word(ActionWord::PACKETS), "drops": word(ActionWord::DROPS),
            "overlimits": word(ActionWord::OVERLIMITS), "requeues": 0, "backlog": 0, "qlen": 0,
        })
    }

    /// An action that was never used counts as used when it was installed (`tcf_tm_dump()`).
    fn times(&self, state: &ActionState) -> Times {
        let ago = |ms: u64| self.clock.now_ms.saturating_sub(ms) / 1000;
        let word = |offset| Some(self.counters.word(state.counters + offset)).filter(|ms| *ms != 0);
        Times {
            installed: ago(state.installed_ms),
            used: ago(word(ActionWord::LAST_USED).unwrap_or(state.installed_ms)),
            first_used: word(ActionWord::FIRST_USED).map(ago),
        }
    }
}

fn cookie_text(state: &ActionState) -> String {
    let cookie = state.extras.as_ref().and_then(|e| e.cookie.as_deref());
    cookie.map(|cookie| format!("\tcookie {}\n", hex(cookie))).unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
