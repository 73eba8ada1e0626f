//! Actions by themselves: `tc actions …` (`tc_ctl_action()`, net/sched/act_api.c). It knows no filter.

use super::actions::{ActionSlot, ActionState};
use super::bind::{check_keys, keep_extras};
use super::{Applied, Devices, Store};
use crate::rules::{Action, ActionWord, Control, CounterSource};
use crate::tc::action::{ActionSpec, KINDS};
use crate::tc::actions::{ActionsCommand, Named};
use crate::tc::error::{TcError, exit};
use crate::tc::listing::{Clock, ListOptions};

/// tc ends with 255 where it ends with 2 for other objects.
fn refused(error: TcError) -> TcError {
    TcError { exit_code: exit::USAGE, ..error }
}

/// tc's name of a kind; what it does not know it takes for gact.
fn kind_or_gact(word: &str) -> &'static str {
    KINDS.iter().find(|k| **k == word).copied().unwrap_or("gact")
}

impl Store {
    pub(super) fn actions_object(
        &mut self,
        netns: Option<&str>,
        commands: &[ActionsCommand],
        options: &ListOptions,
        devices: &dyn Devices,
        counters: &dyn CounterSource,
    ) -> Result<Applied, TcError> {
        let mut applied = Applied::default();
        for command in commands {
            match command {
                ActionsCommand::Put { actions, replace } => {
                    Self::check_devices(netns, actions, devices).map_err(refused)?;
                    self.put_actions(netns, actions, *replace).map_err(refused)?;
                }
                ActionsCommand::Delete(named) => {
                    let slots = self.find_actions(netns, named)?;
                    if slots.iter().any(|slot| self.actions.get(*slot).binds > 0) {
                        let error = TcError::kernel("Failed to delete TC action", "filters use it: delete them first");
                        return Err(taken_for_a_command(error, named));
                    }
                    slots.into_iter().for_each(|slot| self.actions.remove(slot));
                }
                ActionsCommand::Get(named) => {
                    let slots = self.find_actions(netns, named)?;
                    let clock = Clock { now_ms: self.now_ms };
                    applied.stdout.push_str(&self.list_actions(&slots, (0, 1), options, counters, &clock));
                }
                ActionsCommand::List { kind, since_ms } => {
                    applied.stdout.push_str(&self.list_kind(netns, kind, *since_ms, options, counters));
                }
                ActionsCommand::Flush(kind) => applied.stderr.extend(self.flush_actions(netns, kind)?),
            }
        }
        Ok(applied)
    }

    /// `tcf_action_add()`: all of them or none.
    fn put_actions(&mut self, netns: Option<&str>, specs: &[ActionSpec], replace: bool) -> Result<(), TcError> {
        let mut made: Vec<ActionSlot> = Vec::new();
        let mut changed = Vec::new();
        for spec in specs {
            match self.put_action(netns, spec, replace) {
                Ok((slot, None)) => made.push(slot),
                Ok((slot, Some(old))) => changed.push((slot, old)),
                Err(error) => {
                    // In this order: one that was made here can have been changed behind that, by its index.
                    for (slot, old) in changed.into_iter().rev() {
                        *self.actions.get_mut(slot) = old;
                    }
                    made.into_iter().for_each(|slot| self.actions.remove(slot));
                    return Err(error.at(spec.token));
                }
            }
        }
        Ok(())
    }

    /// The action, and what it was before if it was there.
    fn put_action(
        &mut self,
        netns: Option<&str>,
        spec: &ActionSpec,
        replace: bool,
    ) -> Result<(ActionSlot, Option<ActionState>), TcError> {
        check_keys(spec)?;
        let kind = spec.params.kind();
        let present = if spec.index == 0 { None } else { self.actions.find(netns, kind, spec.index) };
        if present.is_some() && !replace {
            let hint = format!("{kind} index {} is there already: use replace, or another index", spec.index);
            return Err(TcError::errno("File exists", hint));
        }
        let action = self.make_action(netns, spec)?;
        // Of a policer it is what exceeds that is looked at (`tcf_police_init()`).
        let control = if let Action::Police(police) = &action { police.exceed } else { action.control() };
        if matches!(control, Control::GotoChain(_)) {
            let hint = "an action by itself belongs to no chain; write it in the filter";
            return Err(TcError::kernel("can't goto NULL proto/chain", hint));
        }
        if spec.extras.skip_sw {
            let hint = "skip_sw needs a device that offloads actions; leave it out";
            return Err(TcError::errno("Invalid argument", hint));
        }
        let Some(slot) = present else {
            let slot = self.insert_action(netns, spec, action)?;
            self.actions.get_mut(slot).standalone = true;
            return Ok((slot, None));
        };
        let state = self.actions.get_mut(slot);
        let old = state.clone();
        state.action = action;
        keep_extras(state, &spec.extras);
        Ok((slot, Some(old)))
    }

    fn find_actions(&self, netns: Option<&str>, named: &Named) -> Result<Vec<ActionSlot>, TcError> {
        let mut slots = Vec::new();
        for (kind, index) in &named.list {
            if *index == 0 {
                let error = TcError::kernel("Invalid TC action index value", "an index is a number from 1");
                return Err(taken_for_a_command(error, named));
            }
            let slot = self.actions.find(netns, kind_or_gact(kind), *index).ok_or_else(|| {
                let hint = format!("tc actions ls action {kind} lists those there are");
                taken_for_a_command(TcError::kernel("TC action with specified index not found", hint), named)
            })?;
            slots.push(slot);
        }
        Ok(slots)
    }

    fn list_kind(
        &self,
        netns: Option<&str>,
        kind: &str,
        since_ms: Option<u32>,
        options: &ListOptions,
        counters: &dyn CounterSource,
    ) -> String {
        let none = || if options.json { "[]\n".to_owned() } else { String::new() };
        let Some(kind) = KINDS.iter().find(|k| **k == kind) else { return none() };
        let recent = |slot: &ActionSlot| {
            let state = self.actions.get(*slot);
            let used = counters.word(state.counters + ActionWord::LAST_USED).max(state.installed_ms);
            since_ms.is_none_or(|since| self.now_ms.saturating_sub(used) <= u64::from(since))
        };
        let slots: Vec<ActionSlot> =
            self.actions.of_kind(netns, kind).into_iter().map(|(_, slot)| slot).filter(recent).collect();
        if slots.is_empty() {
            return none();
        }
        self.list_actions(&slots, (slots.len(), 0), options, counters, &Clock { now_ms: self.now_ms })
    }

    /// `tcf_del_walker()`: by index, up to the first that a filter uses.
    fn flush_actions(&mut self, netns: Option<&str>, kind: &str) -> Result<Option<String>, TcError> {
        let flushing = |error: TcError| {
            let mut error = TcError { exit_code: exit::PARSE, ..error };
            error.messages[1] = "We have an error flushing".to_owned();
            error
        };
        let Some(kind) = KINDS.iter().find(|k| **k == kind) else {
            let hint = format!("viscum has the actions {}", KINDS.join(", "));
            return Err(flushing(TcError::kernel("Cannot flush unknown TC action", hint)));
        };
        for (count, (_, slot)) in self.actions.of_kind(netns, kind).into_iter().enumerate() {
            if self.actions.get(slot).binds > 0 {
                if count == 0 {
                    let hint = "filters use them: delete those first";
                    return Err(flushing(TcError::errno("Operation not permitted", hint)));
                }
                return Ok(Some("Warning: Unable to flush all TC actions.".to_owned()));
            }
            self.actions.remove(slot);
        }
        Ok(None)
    }
}

/// `do_action()` goes on behind an error of the kernel, at a word that is no command.
fn taken_for_a_command(error: TcError, named: &Named) -> TcError {
    refused(error.then(format!("Command \"{}\" is unknown, try \"tc actions help\".", named.first)))
}
