//! Qdiscs: which device has which hooks (net/sched/sch_api.c, sch_ingress.c). Root qdiscs are kept by name only.

use std::fmt::Write as _;

use super::Store;
use super::block::Block;
use super::u32::U32Common;
use crate::tc::command::{Parent, Verb, Word};
use crate::tc::error::TcError;
use crate::tc::number::classid_text;
use crate::tc::qdisc::{INGRESS_PARENT, QdiscCommand, is_known, takes_filters};
use crate::types::{DeviceId, DeviceKey};

/// Which of the two hook qdiscs a device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IngressKind {
    /// `ingress`: one hook.
    Ingress,
    /// `clsact`: both hooks.
    Clsact,
}

impl IngressKind {
    /// tc's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Clsact => "clsact",
        }
    }
}

/// A root qdisc: it does nothing here except that filters hang on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootQdisc {
    /// Its kind.
    pub kind: String,
    /// `N:` as `N << 16`.
    pub handle: u32,
}

/// What is attached to a device.
#[derive(Clone, Debug, Default)]
pub struct DeviceState {
    /// The hook qdisc.
    pub ingress: Option<IngressKind>,
    /// It once had one: the kernel then complains differently.
    pub had_ingress: bool,
    /// The root qdisc, if it was set.
    pub root: Option<RootQdisc>,
    /// Filters of the ingress hook.
    pub ingress_block: Block,
    /// Filters of clsact's egress hook.
    pub egress_block: Block,
    /// Filters on the root qdisc.
    pub root_block: Block,
    /// What u32 keeps for the hook qdisc.
    pub hook_u32: U32Common,
    /// What u32 keeps for the root qdisc.
    pub root_u32: U32Common,
}

/// The three places for filters on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BlockId {
    /// Ingress of `ingress` or `clsact`.
    Ingress,
    /// Egress of `clsact`.
    Egress,
    /// The root qdisc.
    Root,
}

impl DeviceState {
    /// The filters of a place.
    #[must_use]
    pub fn block(&self, id: BlockId) -> &Block {
        match id {
            BlockId::Ingress => &self.ingress_block,
            BlockId::Egress => &self.egress_block,
            BlockId::Root => &self.root_block,
        }
    }

    /// The same, to change.
    pub fn block_mut(&mut self, id: BlockId) -> &mut Block {
        match id {
            BlockId::Ingress => &mut self.ingress_block,
            BlockId::Egress => &mut self.egress_block,
            BlockId::Root => &mut self.root_block,
        }
    }

    /// What u32 keeps for the qdisc of a place.
    #[must_use]
    pub fn u32(&self, id: BlockId) -> &U32Common {
        match id {
            BlockId::Ingress | BlockId::Egress => &self.hook_u32,
            BlockId::Root => &self.root_u32,
        }
    }

    /// The same, to change.
    pub fn u32_mut(&mut self, id: BlockId) -> &mut U32Common {
        match id {
            BlockId::Ingress | BlockId::Egress => &mut self.hook_u32,
            BlockId::Root => &mut self.root_u32,
        }
    }

    /// The parent that the kernel reports for filters of a place.
    #[must_use]
    pub fn label(&self, id: BlockId) -> Parent {
        match (id, self.ingress) {
            (BlockId::Ingress, Some(IngressKind::Clsact)) => Parent::INGRESS,
            (BlockId::Ingress, _) => Parent::INGRESS_QDISC,
            (BlockId::Egress, _) => Parent::EGRESS,
            (BlockId::Root, _) => Parent(self.root.as_ref().map_or(0, |r| r.handle)),
        }
    }

    /// Which place a parent means (`__tcf_qdisc_find()`, `__tcf_block_find()`, cls_api.c).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn resolve(&self, parent: Parent) -> Result<BlockId, TcError> {
        let (major, minor) = (parent.0 & 0xffff_0000, parent.0 & 0xffff);
        let no_qdisc = |hint: &str| Err(TcError::kernel("Parent Qdisc doesn't exists", hint));
        if major == Parent::INGRESS_QDISC.0 {
            return match (self.ingress, minor) {
                (None, _) => no_qdisc("add the qdisc first: tc qdisc add dev DEVICE ingress (or clsact)"),
                (Some(IngressKind::Ingress), _) | (Some(IngressKind::Clsact), 0xfff2) => Ok(BlockId::Ingress),
                (Some(IngressKind::Clsact), 0xfff3) => Ok(BlockId::Egress),
                (Some(IngressKind::Clsact), 0) => Err(TcError::errno(
                    "Invalid argument",
                    "the device has clsact: write ingress or egress, not parent ffff:",
                )),
                (Some(IngressKind::Clsact), _) => {
                    Err(TcError::kernel("Specified class doesn't exist", "write ingress or egress"))
                }
            };
        }
        let takes = self.root.as_ref().is_none_or(|r| takes_filters(&r.kind));
        match &self.root {
            _ if !takes => {
                Err(TcError::kernel("Qdisc not classful", "use clsact and egress, or a root qdisc like prio"))
            }
            Some(root) if major != 0 && root.handle != major => no_qdisc("its handle is another one"),
            None if major != 0 => no_qdisc("add the root qdisc first: tc qdisc add dev DEVICE root handle 1: prio"),
            Some(_) | None if minor != 0 => {
                Err(TcError::kernel("Specified class doesn't exist", "filters on classes are not kept here"))
            }
            Some(_) | None => Ok(BlockId::Root),
        }
    }
}

impl Store {
    /// `qdisc add|change|replace|del`; what is to be said about it.
    pub(super) fn qdisc(&mut self, netns: Option<&str>, command: &QdiscCommand) -> Result<Vec<String>, TcError> {
        let Some(device) = &command.device else {
            return Err(refused("Cannot find specified device", "say which device: dev DEVICE"));
        };
        let id = self.device_id(&DeviceKey::new(netns, &device.text));
        if command.parent == INGRESS_PARENT {
            return self.ingress_qdisc(id, command).map(|()| Vec::new());
        }
        if command.parent != Parent::ROOT {
            let token = command.kind.as_ref().map_or(device.token, |k| k.token);
            return Err(TcError::unsupported("qdiscs below the root qdisc", token));
        }
        self.root_qdisc(id, command)
    }

    fn ingress_qdisc(&mut self, device: DeviceId, command: &QdiscCommand) -> Result<(), TcError> {
        let state = self.states.entry(device).or_default();
        let kind = match command.kind.as_ref().map(|k| k.text.as_str()) {
            Some("ingress") => Some(IngressKind::Ingress),
            Some("clsact") => Some(IngressKind::Clsact),
            Some(_) => return Err(refused("Specified qdisc kind is unknown", "use ingress or clsact there")),
            None => None,
        };
        match (command.verb, state.ingress) {
            (Verb::Delete, None) if state.had_ingress => {
                Err(refused("Invalid handle", "the device has no ingress or clsact qdisc"))
            }
            (Verb::Delete, None) => {
                let hint = "the device has no ingress or clsact qdisc";
                Err(refused("Cannot find specified qdisc on specified device", hint))
            }
            (Verb::Delete, Some(present)) if kind.is_some_and(|k| k != present) => {
                Err(refused("Invalid qdisc name", format!("the device has {}", present.as_str())))
            }
            (Verb::Delete, Some(_)) => {
                state.ingress = None;
                let blocks = [std::mem::take(&mut state.ingress_block), std::mem::take(&mut state.egress_block)];
                let common = std::mem::take(&mut state.hook_u32);
                blocks.into_iter().for_each(|block| self.drop_block(block));
                self.drop_u32(common);
                Ok(())
            }
            (Verb::Add, Some(_)) => {
                let hint = "the device has one already; delete it first, or use replace";
                Err(refused("Exclusivity flag on, cannot modify", hint))
            }
            (Verb::Replace | Verb::Change, Some(present)) if kind == Some(present) => Ok(()),
            (Verb::Replace | Verb::Change, Some(present)) => {
                Err(refused("Invalid qdisc name", format!("the device has {}; delete it first", present.as_str())))
            }
            (Verb::Change, None) => Err(refused("Qdisc not found. To create specify NLM_F_CREATE flag", "use add")),
            (Verb::Add | Verb::Replace, None) => {
                state.ingress = kind;
                state.had_ingress = true;
                Ok(())
            }
        }
    }

    fn root_qdisc(&mut self, device: DeviceId, command: &QdiscCommand) -> Result<Vec<String>, TcError> {
        let state = self.states.entry(device).or_default();
        if command.verb == Verb::Delete {
            if state.root.take().is_none() {
                return Err(refused("Cannot delete qdisc with handle of zero", "no root qdisc was set"));
            }
            let (block, common) = (std::mem::take(&mut state.root_block), std::mem::take(&mut state.root_u32));
            self.drop_block(block);
            self.drop_u32(common);
            return Ok(Vec::new());
        }
        let kind = command.kind.as_ref().map_or("", |k| k.text.as_str());
        if !is_known(kind) {
            return Err(refused("Specified qdisc kind is unknown", "use one that Linux has, like fq or prio"));
        }
        if state.root.is_some() && command.verb == Verb::Add {
            return Err(refused("Exclusivity flag on, cannot modify", "the device has a root qdisc; use replace"));
        }
        let handle = if command.handle == 0 { 0x8001_0000 } else { command.handle };
        state.root = Some(RootQdisc { kind: kind.to_owned(), handle });
        let (block, common) = (std::mem::take(&mut state.root_block), std::mem::take(&mut state.root_u32));
        self.drop_block(block);
        self.drop_u32(common);
        let key = self.device_key(device);
        Ok(vec![format!("root qdisc {kind} of {key} has no effect here: viscum does not queue")])
    }

    /// `qdisc show`: the hooks, and root qdiscs without their parameters.
    pub(super) fn qdisc_listing(&self, netns: Option<&str>, device: Option<&Word>) -> String {
        let mut out = String::new();
        for (_, key, state) in self.states() {
            if key.netns.as_deref() != netns || device.is_some_and(|d| d.text != key.name) {
                continue;
            }
            let dev = if device.is_none() { format!("dev {} ", key.name) } else { String::new() };
            if let Some(root) = &state.root {
                let _ = writeln!(out, "qdisc {} {} {dev}root ", root.kind, classid_text(root.handle));
            }
            match state.ingress {
                Some(IngressKind::Ingress) => {
                    let _ = writeln!(out, "qdisc ingress ffff: {dev}parent ffff:fff1 ---------------- ");
                }
                Some(IngressKind::Clsact) => {
                    let _ = writeln!(out, "qdisc clsact ffff: {dev}parent ffff:fff1 ");
                }
                None => {}
            }
        }
        out
    }
}

/// tc says no more than this when a qdisc is refused.
fn refused(text: &str, hint: impl Into<String>) -> TcError {
    let mut error = TcError::kernel(text, hint);
    error.messages.truncate(1);
    error
}
