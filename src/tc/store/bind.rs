//! Binding a node's actions: found by index or made (`tcf_action_init()`, act_api.c). It knows no kind of filter.

use super::Store;
use super::actions::{ActionSlot, ActionState};
use super::filters::Place;
use crate::rules::{Action, Control, Mirred, Simple, Vlan};
use crate::tc::action::{ActionParams, ActionSpec, Extras, skbedit, skbmod};
use crate::tc::error::TcError;
use crate::tc::filter::Common;
use crate::types::{DeviceKey, VLAN_ID_MASK};

impl Store {
    /// Finds or makes all actions of a node; if one is refused, none is kept.
    pub(super) fn bind_actions(
        &mut self,
        netns: Option<&str>,
        place: Place,
        common: &Common,
    ) -> Result<Vec<ActionSlot>, TcError> {
        let mut slots = Vec::with_capacity(common.actions.len());
        for spec in &common.actions {
            match self.bind_action(netns, spec, common) {
                Ok(slot) => slots.push(slot),
                Err(error) => {
                    slots.into_iter().for_each(|slot| self.actions.release(slot));
                    return Err(error.at(spec.token));
                }
            }
        }
        let offload = common.skip_sw || common.verbose && !common.skip_hw;
        let refusal = offload.then(|| slots.iter().find_map(|s| offload_refusal(&self.actions.get(*s).action)));
        if !common.skip_sw {
            // Nobody asked for more than to be told.
            self.warnings.extend(refusal.flatten().map(|text| format!("Warning: {text}.")));
        } else if let Some(refusal) = refusal {
            slots.into_iter().for_each(|slot| self.actions.release(slot));
            let hint = "skip_sw needs a device that offloads filters; leave it out";
            let error =
                refusal.map_or_else(|| TcError::errno("Operation not supported", hint), |r| TcError::kernel(&r, hint));
            return Err(error);
        }
        for slot in &slots {
            let action = &self.actions.get(*slot).action;
            let control = if let Action::Police(police) = action { police.exceed } else { action.control() };
            if let Control::GotoChain(chain) = control {
                self.block_mut(place).chain_or_new(chain);
            }
        }
        Ok(slots)
    }

    /// An index that is there is bound, and what the command says about it is ignored; else it is made.
    fn bind_action(&mut self, netns: Option<&str>, spec: &ActionSpec, filter: &Common) -> Result<ActionSlot, TcError> {
        let kind = spec.params.kind();
        check_keys(spec)?;
        let mismatch = || {
            let text = "Mismatch between action and filter offload flags";
            TcError::kernel(text, "give the filter the same skip_hw and skip_sw as the action")
        };
        if spec.index != 0 {
            if let Some(slot) = self.actions.find(netns, kind, spec.index) {
                let state = self.actions.get_mut(slot);
                let skips_hw = state.extras.as_ref().is_some_and(|e| e.skip_hw);
                // One that another filter made takes over the filter's flags (`tcf_action_init()`).
                if skips_hw && !filter.skip_hw || state.standalone && filter.skip_hw && !skips_hw {
                    return Err(mismatch());
                }
                keep_extras(state, &spec.extras);
                self.actions.bind(slot);
                return Ok(slot);
            }
        }
        if spec.extras.skip_hw && !filter.skip_hw || spec.extras.skip_sw && !filter.skip_sw {
            return Err(mismatch());
        }
        let action = self.make_action(netns, spec)?;
        let slot = self.insert_action(netns, spec, action)?;
        self.actions.bind(slot);
        Ok(slot)
    }

    /// A new action, not yet used.
    pub(super) fn insert_action(
        &mut self,
        netns: Option<&str>,
        spec: &ActionSpec,
        action: Action,
    ) -> Result<ActionSlot, TcError> {
        let index = match spec.index {
            0 => self.actions.free_index(netns, action.kind()),
            index => index,
        };
        let counters = self.allocate_words(crate::rules::ActionWord::len(&action))?;
        let extras = (spec.extras != Extras::default()).then(|| Box::new(spec.extras.clone()));
        let (netns, installed_ms) = (netns.map(str::to_owned), self.now_ms);
        let state = ActionState { netns, index, action, counters, binds: 0, standalone: false, extras, installed_ms };
        Ok(self.actions.insert(state))
    }

    pub(super) fn make_action(&mut self, netns: Option<&str>, spec: &ActionSpec) -> Result<Action, TcError> {
        let nothing = || {
            let hint = format!("there is no {} action with index {}: say what it does", spec.params.kind(), spec.index);
            TcError::errno("Invalid argument", hint)
        };
        Ok(match &spec.params {
            ActionParams::Gact(gact) => {
                if gact.random.as_ref().is_some_and(|r| matches!(r.control, Control::GotoChain(_))) {
                    return Err(TcError::kernel(
                        "goto chain not allowed on fallback",
                        "use another control after random",
                    ));
                }
                Action::Gact(gact.clone())
            }
            ActionParams::Mirred(mirred) => {
                let Some(device) = &mirred.device else {
                    let hint = format!("there is no mirred action with index {}: say dev DEVICE", spec.index);
                    return Err(TcError::kernel("act_mirred: Specified device does not exist", hint));
                };
                let device = self.device_id(&DeviceKey::new(netns, &device.text));
                let (direction, mode, control) = (mirred.direction, mirred.mode, mirred.control);
                Action::Mirred(Mirred { direction, mode, device, control })
            }
            ActionParams::Skbedit(edit) if skbedit::is_empty(edit) => return Err(nothing()),
            ActionParams::Skbmod(edit) if skbmod::is_empty(edit) => return Err(nothing()),
            ActionParams::Skbedit(edit) => Action::Skbedit(edit.clone()),
            ActionParams::Skbmod(edit) => Action::Skbmod(edit.clone()),
            ActionParams::Csum(csum) => Action::Csum(csum.clone()),
            ActionParams::Pedit(pedit) => Action::Pedit(pedit.clone()),
            ActionParams::Police(spec) => match spec.refused {
                Some(refused) => return Err(refused.error()),
                None => Action::Police(spec.police.clone()),
            },
            ActionParams::Nat(nat) => Action::Nat(nat.clone()),
            ActionParams::Simple(simple) => {
                Action::Simple(Simple { data: simple.data.clone().ok_or_else(nothing)?, control: simple.control })
            }
            ActionParams::Vlan(vlan) => {
                // VLAN_VID_MASK is what no tag may say (`tcf_vlan_init()`).
                if vlan.id.is_some_and(|id| id >= VLAN_ID_MASK) {
                    return Err(TcError::errno("Numerical result out of range", "a VLAN id is 0 to 4094"));
                }
                Action::Vlan(Vlan { op: vlan.op.ok_or_else(nothing)?, control: vlan.control })
            }
        })
    }
}

/// `tcf_pedit_init()` looks at its keys before it looks for the index.
pub(super) fn check_keys(spec: &ActionSpec) -> Result<(), TcError> {
    if matches!(&spec.params, ActionParams::Pedit(pedit) if pedit.keys.is_empty()) {
        let hint = "say what it changes: pedit ex munge ip ttl set 64";
        return Err(TcError::kernel("act_pedit: Pedit requires keys to be passed", hint));
    }
    Ok(())
}

/// An action that is named again gets the cookie, if one is given, and `hw_stats` whatever they are (`tcf_action_init_1()`).
pub(super) fn keep_extras(state: &mut ActionState, given: &Extras) {
    let mut extras = state.extras.take().map(|e| *e).unwrap_or_default();
    extras.cookie = given.cookie.clone().or(extras.cookie);
    extras.hw_stats = given.hw_stats;
    state.extras = (extras != Extras::default()).then(|| Box::new(extras));
}

/// Why an action cannot be offloaded, where the kernel says so (`tcf_gact_offload_act_setup()`).
fn offload_refusal(action: &Action) -> Option<String> {
    let name = match action.control() {
        Control::Continue => "continue",
        Control::Reclassify => "reclassify",
        Control::Pipe => "pipe",
        Control::Pass
        | Control::Shot
        | Control::Stolen
        | Control::Queued
        | Control::Trap
        | Control::Jump(_)
        | Control::GotoChain(_) => return None,
    };
    matches!(action, Action::Gact(_)).then(|| format!("act_gact: Offload of \"{name}\" action is not supported"))
}
