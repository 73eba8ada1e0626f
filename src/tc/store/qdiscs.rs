//! Qdiscs: which device has which hooks (net/sched/sch_api.c, sch_ingress.c). All others are remembered and do nothing.

use super::Store;
use super::block::Block;
use super::u32::U32Common;
use crate::tc::command::Parent;
use crate::tc::error::TcError;
use crate::tc::qdisc::{INGRESS_PARENT, Options, QdiscCommand, QdiscVerb, refused, takes_filters};
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

/// A qdisc that does nothing here, except that filters hang on a root qdisc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qdisc {
    /// Its kind.
    pub kind: String,
    /// `N:` as `N << 16`.
    pub handle: u32,
    /// `root`, or the class that it hangs on.
    pub parent: Parent,
    /// What it was told.
    pub options: Options,
}

/// What is attached to a device.
#[derive(Clone, Debug, Default)]
pub struct DeviceState {
    /// The hook qdisc.
    pub ingress: Option<IngressKind>,
    /// It once had one: the kernel then complains differently.
    pub had_ingress: bool,
    /// The shared blocks that stand in for `ingress_block` and `egress_block`: see [`Store::shared`].
    pub shared: [Option<DeviceId>; 2],
    /// Of a shared block, which is kept like a device: its number.
    pub shared_index: Option<u32>,
    /// The root qdisc, if it was set.
    pub root: Option<Qdisc>,
    /// Qdiscs below it.
    pub children: Vec<Qdisc>,
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

    /// The parent that the kernel reports for filters of a place: the one that the last filter there was added by (`block->classid`).
    #[must_use]
    pub fn label(&self, id: BlockId) -> Parent {
        match self.block(id).parent {
            Some(parent) if parent != Parent(0) => parent,
            Some(_) | None => self.handle(id),
        }
    }

    /// The parent that names a place: the qdisc, or its hook if it has two.
    #[must_use]
    pub fn handle(&self, id: BlockId) -> Parent {
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
    /// `qdisc add|change|replace|link|del`; what is to be said about it.
    pub(super) fn qdisc(&mut self, netns: Option<&str>, command: &QdiscCommand) -> Result<Vec<String>, TcError> {
        let Some(device) = &command.device else {
            return Err(refused("Cannot find specified device", "say which device: dev DEVICE"));
        };
        let id = self.device_id(&DeviceKey::new(netns, &device.text));
        self.states.entry(id).or_default();
        if command.parent == INGRESS_PARENT {
            return self.ingress_qdisc(netns, id, command).map(|()| Vec::new());
        }
        if command.verb == QdiscVerb::Delete {
            return self.delete_qdisc(id, command).map(|()| Vec::new());
        }
        let kind = self.put_qdisc(id, command)?;
        let key = self.device_key(id);
        let what = if command.parent == Parent::ROOT { "root qdisc" } else { "qdisc" };
        Ok(vec![format!("{what} {kind} of {key} has no effect here: viscum does not queue")])
    }

    fn ingress_qdisc(&mut self, netns: Option<&str>, device: DeviceId, command: &QdiscCommand) -> Result<(), TcError> {
        let state = &self.states[&device];
        let kind = match command.kind.as_ref().map(|k| k.text.as_str()) {
            Some("ingress") => Some(IngressKind::Ingress),
            Some("clsact") => Some(IngressKind::Clsact),
            Some(_) => return Err(refused("Specified qdisc kind is unknown", "use ingress or clsact there")),
            None => None,
        };
        match (command.verb, state.ingress) {
            (QdiscVerb::Delete, None) if state.had_ingress && command.handle == 0 => {
                Err(refused("Cannot delete qdisc with handle of zero", "the device has no ingress or clsact qdisc"))
            }
            (QdiscVerb::Delete, None) if state.had_ingress => {
                Err(refused("Invalid handle", "the device has no ingress or clsact qdisc"))
            }
            (QdiscVerb::Delete, None) => {
                let hint = "the device has no ingress or clsact qdisc";
                Err(refused("Cannot find specified qdisc on specified device", hint))
            }
            (QdiscVerb::Delete, Some(present)) if kind.is_some_and(|k| k != present) => {
                Err(refused("Invalid qdisc name", format!("the device has {}", present.as_str())))
            }
            (QdiscVerb::Delete, Some(_)) => {
                self.drop_hooks(device);
                Ok(())
            }
            (QdiscVerb::Add, Some(_)) => {
                let hint = "the device has one already; delete it first, or use replace";
                Err(refused("Exclusivity flag on, cannot modify", hint))
            }
            (QdiscVerb::Replace | QdiscVerb::Change | QdiscVerb::Link, Some(present))
                if kind.is_none_or(|k| k == present) =>
            {
                Ok(())
            }
            (QdiscVerb::Replace | QdiscVerb::Change | QdiscVerb::Link, Some(present)) => {
                Err(refused("Invalid qdisc name", format!("the device has {}; delete it first", present.as_str())))
            }
            (QdiscVerb::Change | QdiscVerb::Link, None) => {
                Err(refused("Qdisc not found. To create specify NLM_F_CREATE flag", "use add"))
            }
            (QdiscVerb::Add | QdiscVerb::Replace, None) => {
                let kind =
                    kind.ok_or_else(|| refused("Specified qdisc kind is unknown", "name it: ingress or clsact"))?;
                if kind == IngressKind::Ingress && command.blocks[1] != 0 {
                    return Err(refused(
                        "Egress block sharing is not supported",
                        "an ingress qdisc has no egress; use clsact",
                    ));
                }
                if command.blocks[1] != 0 && !state.root_block.is_empty() {
                    let what = "filters both at clsact's egress and on the root qdisc of a device";
                    return Err(TcError::unsupported(what, 0));
                }
                self.share(netns, device, command.blocks);
                let state = self.states.entry(device).or_default();
                state.ingress = Some(kind);
                state.had_ingress = true;
                Ok(())
            }
        }
    }

    /// The hook qdisc goes, with its filters; shared blocks lose a user.
    fn drop_hooks(&mut self, device: DeviceId) {
        let state = self.states.entry(device).or_default();
        state.ingress = None;
        let blocks = [std::mem::take(&mut state.ingress_block), std::mem::take(&mut state.egress_block)];
        let common = std::mem::take(&mut state.hook_u32);
        let shared = std::mem::take(&mut state.shared);
        blocks.into_iter().for_each(|block| self.drop_block(block));
        self.drop_u32(common);
        shared.into_iter().flatten().for_each(|id| self.unshare(id));
    }
}
