//! Root qdiscs and those below them (`tc_modify_qdisc()`, `tc_get_qdisc()`, net/sched/sch_api.c): remembered, without effect.

use super::Store;
use super::qdiscs::{DeviceState, Qdisc};
use crate::tc::command::Parent;
use crate::tc::error::TcError;
use crate::tc::qdisc::{QdiscCommand, QdiscVerb, can_change, check_class, is_known, refused};
use crate::types::DeviceId;

impl DeviceState {
    /// The qdisc with this handle (`qdisc_lookup()`), the hooks aside.
    fn find_handle(&self, handle: u32) -> Option<&Qdisc> {
        self.root.iter().chain(&self.children).find(|q| q.handle == handle)
    }

    /// What hangs on a class (`qdisc_leaf()`); `None`: nothing that was set.
    fn leaf(&self, class: Parent) -> Result<Option<&Qdisc>, TcError> {
        let missing = || refused("Failed to find specified qdisc", "tc qdisc show lists the handles");
        let (major, minor) = (class.0 & 0xffff_0000, class.0 & 0xffff);
        if major == Parent::INGRESS_QDISC.0 && self.ingress.is_some() {
            let mut error = TcError::errno("Operation not supported", "nothing hangs below ingress or clsact");
            error.messages.truncate(1);
            return Err(error);
        }
        let parent = self.find_handle(major).ok_or_else(missing)?;
        check_class(&parent.kind, &parent.options, minor)?;
        Ok(self.children.iter().find(|q| q.parent == class))
    }

    /// Takes away what hangs on a class, and all below that.
    fn drop_below(&mut self, class: Parent) {
        let mut gone: Vec<Parent> = vec![class];
        while let Some(class) = gone.pop() {
            let is_below =
                |q: &Qdisc| q.parent == class || class.0 & 0xffff == 0 && q.parent.0 & 0xffff_0000 == class.0;
            gone.extend(self.children.iter().filter(|q| is_below(q)).map(|q| Parent(q.handle)));
            self.children.retain(|q| !is_below(q));
        }
    }
}

impl Store {
    /// `tc_modify_qdisc()` for all but the hooks; the kind.
    pub(super) fn put_qdisc(&mut self, device: DeviceId, command: &QdiscCommand) -> Result<String, TcError> {
        let (clid, handle, verb) = (command.parent, command.handle, command.verb);
        let state = &self.states[&device];
        let present = match clid {
            Parent(0) if handle == 0 => return Err(refused("Handle cannot be zero", "say where: root, or parent X")),
            Parent(0) => {
                let missing = || refused("Specified qdisc not found", "say where: root, or parent X");
                Some(state.find_handle(handle).ok_or_else(missing)?)
            }
            Parent::ROOT => state.root.as_ref(),
            class => state.leaf(class)?,
        };
        let kind = command.kind.as_ref().map(|k| k.text.as_str());
        let is_other = |q: &Qdisc| kind.is_some_and(|k| k != q.kind);
        let wrong = |q: &Qdisc| refused("Invalid qdisc name", format!("the qdisc there is {}", q.kind));
        let creates = matches!(verb, QdiscVerb::Add | QdiscVerb::Replace);
        let moved = || refused("Cannot move an existing qdisc to a different parent", "delete it first");
        if clid != Parent(0) && present.is_none_or(|q| handle != 0 && q.handle != handle) && handle != 0 {
            if present.is_some() && !matches!(verb, QdiscVerb::Replace | QdiscVerb::Link) {
                return Err(refused("NLM_F_REPLACE needed to override", "use replace"));
            }
            return match state.find_handle(handle) {
                None if handle == Parent::INGRESS_QDISC.0 && state.ingress.is_some() => Err(moved()),
                None => self.create_qdisc(device, command, creates),
                Some(q) if q.parent != clid => Err(moved()),
                Some(_) if verb == QdiscVerb::Add => {
                    Err(refused("Exclusivity flag on, cannot override", "use replace"))
                }
                Some(q) if is_other(q) => Err(wrong(q)),
                Some(q) => Ok(q.kind.clone()),
            };
        }
        let Some(present) = present else { return self.create_qdisc(device, command, creates) };
        if clid != Parent(0) && handle == 0 && is_other(present) && verb != QdiscVerb::Link {
            return self.create_qdisc(device, command, true);
        }
        if verb == QdiscVerb::Add {
            return Err(refused("Exclusivity flag on, cannot modify", "there is one already; use replace"));
        }
        if is_other(present) {
            return Err(wrong(present));
        }
        let (handle, kind) = (present.handle, present.kind.clone());
        if !can_change(&kind) {
            let hint = format!("replace it by another, or delete the {kind} qdisc first");
            return Err(refused("Change operation not supported by specified qdisc", hint));
        }
        let mut options = present.options.clone();
        options.merge(&command.options);
        options.check(&kind)?;
        let state = self.states.entry(device).or_default();
        let all = state.root.iter_mut().chain(&mut state.children);
        all.filter(|q| q.handle == handle).for_each(|q| q.options = options.clone());
        Ok(kind)
    }

    fn create_qdisc(&mut self, device: DeviceId, command: &QdiscCommand, creates: bool) -> Result<String, TcError> {
        if !creates {
            return Err(refused("Qdisc not found. To create specify NLM_F_CREATE flag", "use add"));
        }
        let kind = command.kind.as_ref().map_or("", |k| k.text.as_str());
        if !is_known(kind) {
            return Err(refused("Specified qdisc kind is unknown", "use one that Linux has, like fq or prio"));
        }
        for (block, name) in command.blocks.into_iter().zip(["Ingress", "Egress"]) {
            if block != 0 {
                let hint = "only ingress and clsact share blocks";
                return Err(refused(&format!("{name} block sharing is not supported"), hint));
            }
        }
        command.options.check(kind)?;
        let handle = if command.handle == 0 { self.free_handle(device) } else { command.handle };
        let qdisc = Qdisc { kind: kind.to_owned(), handle, parent: command.parent, options: command.options.clone() };
        let state = self.states.entry(device).or_default();
        if command.parent == Parent::ROOT {
            self.drop_root(device);
            self.states.entry(device).or_default().root = Some(qdisc);
        } else {
            state.drop_below(command.parent);
            state.children.push(qdisc);
        }
        Ok(kind.to_owned())
    }

    /// `qdisc_alloc_handle()`: 8001:, 8002:, … over all devices.
    fn free_handle(&mut self, device: DeviceId) -> u32 {
        loop {
            self.auto_handle = if self.auto_handle == 0xffff_0000 { 0x8001_0000 } else { self.auto_handle + 0x1_0000 };
            if self.states[&device].find_handle(self.auto_handle).is_none() && self.auto_handle != 0xffff_0000 {
                return self.auto_handle;
            }
        }
    }

    /// `tc_get_qdisc()` for a deletion.
    pub(super) fn delete_qdisc(&mut self, device: DeviceId, command: &QdiscCommand) -> Result<(), TcError> {
        let state = &self.states[&device];
        let zero = || refused("Cannot delete qdisc with handle of zero", "none was set there");
        let found = match command.parent {
            Parent(0) => {
                let text = "Failed to find qdisc with specified handle";
                let found =
                    state.find_handle(command.handle).ok_or_else(|| refused(text, "say where: root, or parent X"))?;
                Some(found)
            }
            Parent::ROOT => state.root.as_ref(),
            class => state.leaf(class)?,
        };
        let Some(found) = found else {
            return Err(if command.handle == 0 { zero() } else { refused("Invalid handle", "none was set there") });
        };
        if command.handle != 0 && found.handle != command.handle {
            return Err(refused("Invalid handle", "the qdisc there has another one"));
        }
        if command.kind.as_ref().is_some_and(|k| k.text != found.kind) {
            return Err(refused("Invalid qdisc name", format!("the qdisc there is {}", found.kind)));
        }
        if command.parent == Parent(0) {
            return Err(refused("Classid cannot be zero", "say where: root, or parent X"));
        }
        if command.parent == Parent::ROOT {
            self.drop_root(device);
        } else {
            self.states.entry(device).or_default().drop_below(command.parent);
        }
        Ok(())
    }

    /// The root qdisc goes, with what is below it and its filters.
    fn drop_root(&mut self, device: DeviceId) {
        let state = self.states.entry(device).or_default();
        state.root = None;
        state.children.clear();
        let (block, common) = (std::mem::take(&mut state.root_block), std::mem::take(&mut state.root_u32));
        self.drop_block(block);
        self.drop_u32(common);
    }
}
