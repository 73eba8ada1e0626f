//! What the kinds of filter do with a new or changed node (cls_u32.c, cls_matchall.c; cls_flower.c is in `flower`), and binding its actions.

use super::block::{Body, Entry};
use super::filters::Place;
use super::{Devices, Store};
use crate::rules::NodeWord;
use crate::tc::action::{ActionParams, ActionSpec};
use crate::tc::error::TcError;
use crate::tc::filter::matchall::MatchallSpec;
use crate::tc::filter::{Common, Kind, fw};

impl Store {
    /// tc looks devices up while it parses, before it asks the kernel for anything.
    pub(super) fn check_action_devices(
        netns: Option<&str>,
        kind: Option<&Kind>,
        devices: &dyn Devices,
    ) -> Result<(), TcError> {
        let Some(kind) = kind else { return Ok(()) };
        let checked = Self::check_devices(netns, &common(kind).actions, devices);
        match kind {
            Kind::Fw(_) => checked.map_err(|e| e.renamed("Illegal \"action\"", fw::ILLEGAL_ACTION)),
            Kind::U32(_) | Kind::Flower(_) | Kind::Matchall(_) | Kind::Basic(_) | Kind::Unknown(_) => checked,
        }
    }

    /// The same for a list of actions.
    pub(super) fn check_devices(
        netns: Option<&str>,
        actions: &[ActionSpec],
        devices: &dyn Devices,
    ) -> Result<(), TcError> {
        for spec in actions {
            let ActionParams::Mirred(mirred) = &spec.params else { continue };
            let Some(device) = &mirred.device else { continue };
            super::check_device(netns, device, devices).map_err(|error| {
                error.then("bad action parsing").then(spec.complaint.clone()).then("Illegal \"action\"")
            })?;
        }
        Ok(())
    }

    /// `tp->ops->change()`.
    pub(super) fn change(&mut self, netns: Option<&str>, place: Place, at: usize, kind: &Kind) -> Result<(), TcError> {
        match kind {
            Kind::U32(spec) => self.change_u32(netns, place, at, spec),
            Kind::Flower(spec) => self.change_flower(netns, place, at, spec),
            Kind::Matchall(spec) => self.change_matchall(netns, place, at, spec),
            Kind::Fw(spec) => self.change_fw(netns, place, at, spec),
            Kind::Basic(spec) => self.change_basic(netns, place, at, spec),
            Kind::Unknown(_) => {
                Err(TcError::kernel("TC classifier not found", "use u32, flower, matchall, basic or fw"))
            }
        }
    }

    /// `mall_change()`: one node, and it cannot be changed.
    fn change_matchall(
        &mut self,
        netns: Option<&str>,
        place: Place,
        at: usize,
        spec: &MatchallSpec,
    ) -> Result<(), TcError> {
        if !spec.has_options {
            return Err(TcError::errno("Invalid argument", "say what to do: action …, or classid …"));
        }
        if !self.chain_mut(place).protos[at].entries.is_empty() {
            return Err(TcError::errno(
                "File exists",
                "a prio takes one matchall filter; delete it first, or use another prio",
            ));
        }
        let handle = if spec.handle == 0 { 1 } else { spec.handle };
        self.insert(netns, place, at, handle, &spec.common, Body::Matchall, NodeWord::len(0))
    }

    #[expect(clippy::too_many_arguments, reason = "all of it is what a node consists of")]
    pub(super) fn insert(
        &mut self,
        netns: Option<&str>,
        place: Place,
        at: usize,
        handle: u32,
        common: &Common,
        body: Body,
        words: u32,
    ) -> Result<(), TcError> {
        let entry = self.entry(netns, place, handle, common, body, words)?;
        let proto = &mut self.chain_mut(place).protos[at];
        let position = proto.position(handle).unwrap_or_else(|p| p);
        proto.entries.insert(position, entry);
        Ok(())
    }

    /// A new node with its actions bound.
    pub(super) fn entry(
        &mut self,
        netns: Option<&str>,
        place: Place,
        handle: u32,
        common: &Common,
        body: Body,
        words: u32,
    ) -> Result<Entry, TcError> {
        let actions = self.bind_actions(netns, place, common)?;
        let counters = self.allocate_words(words)?;
        self.filter_count += 1;
        let (line, sequence) = (self.line, self.next_sequence());
        Ok(Entry {
            handle,
            classid: common.classid,
            actions,
            old_police: common.old_police,
            skip_hw: common.skip_hw,
            counters,
            line,
            sequence,
            body,
        })
    }
}

fn common(kind: &Kind) -> &Common {
    static NONE: Common = Common {
        classid: None,
        actions: Vec::new(),
        old_police: false,
        verbose: false,
        skip_hw: false,
        skip_sw: false,
    };
    match kind {
        Kind::U32(spec) => &spec.common,
        Kind::Flower(spec) => &spec.common,
        Kind::Matchall(spec) => &spec.common,
        Kind::Fw(spec) => &spec.common,
        Kind::Basic(spec) => &spec.common,
        Kind::Unknown(_) => &NONE,
    }
}
