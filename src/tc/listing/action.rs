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
        if self.options.brief && !bound {
            let _ = writeln!(
                out,
                "\n\taction order {}: {} \t index {}",
                order.unwrap_or_default(),
                state.action.kind(),
                state.index
            );
            cookie_text(state, out);
            return;
        }
        self.action_body(order, state, out);
        cookie_text(state, out);
        let extras = state.extras.as_deref().cloned().unwrap_or_default();
        let mut flags = String::new();
        flags.push_str(if extras.no_percpu { "\tno_percpu" } else { "" });
        if !bound {
            flags.push_str(if extras.skip_hw { "\tskip_hw" } else { "\tnot_in_hw" });
        }
        if !flags.is_empty() {
            let _ = writeln!(out, "{flags}");
        }
        if let Some(hw_stats) = extras.hw_stats {
            let _ = writeln!(out, "\thw_stats {hw_stats}");
        }
    }

    fn action_body(&self, order: Option<usize>, state: &ActionState, out: &mut String) {
        let what = match &state.action {
            Action::Gact(a) => gact::text(a),
            Action::Mirred(a) => mirred::text(a, &self.store.device_key(a.device).name),
            Action::Skbedit(a) => skbedit::text(a),
            Action::Skbmod(a) => skbmod::text(a),
            Action::Csum(a) => csum::text(a),
            Action::Pedit(a) => pedit::text(a),
            Action::Vlan(a) => vlan::text(a),
            Action::Nat(a) => nat::text(a),
            Action::Police(a) => police::text(a, state.index, (state.refs(), state.binds)),
            Action::Simple(a) => simple::text(a),
        };
        match order {
            Some(order) => out.push_str(&format!("\n\taction order {order}: {what}")),
            None => out.push_str(&format!("\n{what}")),
        }
        if !matches!(state.action, Action::Police(_)) {
            let _ = write!(out, "index {} ref {} bind {}", state.index, state.refs(), state.binds);
        }
        let keys = if let Action::Pedit(pedit) = &state.action { pedit::keys_text(pedit) } else { String::new() };
        if !self.options.stats {
            let _ = writeln!(out, "{keys}");
            return;
        }
        let times = self.times(state);
        let _ = write!(out, " installed {} sec used {} sec", times.installed, times.used);
        if let Some(first) = times.first_used {
            let _ = write!(out, " firstused {first} sec");
        }
        out.push_str(&keys);
        let word = |offset| self.counters.word(state.counters + offset);
        if order.is_none() {
            let [bytes, packets, drops, overlimits] =
                [ActionWord::BYTES, ActionWord::PACKETS, ActionWord::DROPS, ActionWord::OVERLIMITS].map(word);
            let _ = write!(out, "\n\n Sent {bytes} bytes {packets} pkts (dropped {drops}, overlimits {overlimits}) ");
            return;
        }
        let _ = writeln!(
            out,
            "\n\tAction statistics:\n\tSent {} bytes {} pkt (dropped {}, overlimits {} requeues 0) \n\tbacklog 0b 0p requeues 0",
            word(ActionWord::BYTES),
            word(ActionWord::PACKETS),
            word(ActionWord::DROPS),
            word(ActionWord::OVERLIMITS),
        );
    }

    /// The JSON of action number `order`: of a filter (`bound`), or by itself.
    pub(super) fn action_json(&self, order: usize, state: &ActionState, bound: bool) -> Value {
        let mut map = Map::new();
        map.insert("order".to_owned(), order.into());
        // These two say their kind in another way.
        if !matches!(state.action, Action::Nat(_) | Action::Simple(_)) {
            map.insert("kind".to_owned(), state.action.kind().into());
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
            Action::Police(a) => police::json(a, state.index, (state.refs(), state.binds), &mut map),
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
            let word = |offset| self.counters.word(state.counters + offset);
            let stats = json!({
                "bytes": word(ActionWord::BYTES), "packets": word(ActionWord::PACKETS), "drops": word(ActionWord::DROPS),
                "overlimits": word(ActionWord::OVERLIMITS), "requeues": 0, "backlog": 0, "qlen": 0,
            });
            map.insert("stats".to_owned(), stats);
        }
        let extras = state.extras.as_deref().cloned().unwrap_or_default();
        map.extend(extras.cookie.as_deref().map(|c| ("cookie".to_owned(), hex(c).into())));
        map.extend(extras.no_percpu.then(|| ("no_percpu".to_owned(), true.into())));
        if !bound {
            let flag = if extras.skip_hw { "skip_hw" } else { "not_in_hw" };
            map.insert(flag.to_owned(), true.into());
        }
        map.extend(extras.hw_stats.map(|h| ("hw_stats".to_owned(), json!([h]))));
        Value::Object(map)
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

fn cookie_text(state: &ActionState, out: &mut String) {
    if let Some(cookie) = state.extras.as_ref().and_then(|e| e.cookie.as_deref()) {
        let _ = writeln!(out, "\tcookie {}", hex(cookie));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
