//! What fw and basic do with a new or changed node (`fw_change()`, cls_fw.c; `basic_change()`, cls_basic.c).

use super::Store;
use super::block::{Body, Entry};
use super::filters::Place;
use crate::rules::NodeWord;
use crate::tc::error::TcError;
use crate::tc::filter::basic::BasicSpec;
use crate::tc::filter::fw::FwSpec;
use crate::types::DeviceKey;

impl Store {
    /// Without options it is the old method, which makes no node; else the handle is the mark.
    pub(super) fn change_fw(
        &mut self,
        netns: Option<&str>,
        place: Place,
        at: usize,
        spec: &FwSpec,
    ) -> Result<(), TcError> {
        let invalid = |hint: String| Err(TcError::errno("Invalid argument", hint));
        if !spec.has_options {
            return match spec.handle {
                0 => Ok(()),
                _ => invalid("say what to do with the mark: action …, or classid …".to_owned()),
            };
        }
        let proto = &mut self.chain_mut(place).protos[at];
        let existing = (spec.handle != 0).then(|| proto.position(spec.handle).ok()).flatten();
        if spec.handle == 0 {
            return invalid("the handle is the mark: handle MARK[/MASK] fw …; 0 cannot be one".to_owned());
        }
        // The first handle of a prio decides on the mask.
        let mask = *proto.mask.get_or_insert(spec.mask.unwrap_or(u32::MAX));
        let fits = if mask == u32::MAX { spec.mask.is_none_or(|m| m == mask) } else { spec.mask == Some(mask) };
        if !fits {
            return invalid(format!("all handles of this prio have the mask {mask:#x}: handle MARK/{mask:#x} fw …"));
        }
        let kept = existing.and_then(|e| match &proto.entries[e].body {
            Body::Fw { indev } => *indev,
            Body::U32 { .. } | Body::Flower { .. } | Body::Matchall | Body::Basic { .. } => None,
        });
        let given = spec.indev.as_ref().map(|word| self.device_id(&DeviceKey::new(netns, &word.text)));
        let body = Body::Fw { indev: given.or(kept) };
        match existing {
            None => self.insert(netns, place, at, spec.handle, &spec.common, body, NodeWord::len(0)),
            Some(position) => {
                let new = self.entry(netns, place, spec.handle, &spec.common, body, NodeWord::len(0))?;
                self.take_place(place, at, position, new);
                Ok(())
            }
        }
    }

    pub(super) fn change_basic(
        &mut self,
        netns: Option<&str>,
        place: Place,
        at: usize,
        spec: &BasicSpec,
    ) -> Result<(), TcError> {
        if !spec.has_options {
            return Err(TcError::errno("Invalid argument", "say what to do: match …, action …, or classid …"));
        }
        if let Some(why) = spec.refused {
            return Err(TcError::errno("Invalid argument", why));
        }
        let proto = &self.chain_mut(place).protos[at];
        let existing = (spec.handle != 0).then(|| proto.position(spec.handle).ok()).flatten();
        let handle = match spec.handle {
            0 => proto.free_handle(1..=i32::MAX as u32),
            asked => Some(asked),
        };
        let handle = handle.ok_or_else(|| TcError::errno("No space left on device", "all handles are taken"))?;
        let body = Body::Basic { ematches: spec.ematches.clone() };
        match existing {
            None => self.insert(netns, place, at, handle, &spec.common, body, NodeWord::len(0)),
            Some(position) => {
                let new = self.entry(netns, place, handle, &spec.common, body, NodeWord::len(0))?;
                self.take_place(place, at, position, new);
                Ok(())
            }
        }
    }

    /// Puts a node into another's place in the order.
    fn take_place(&mut self, place: Place, at: usize, position: usize, mut new: Entry) {
        let slot = &mut self.chain_mut(place).protos[at].entries[position];
        new.sequence = slot.sequence;
        let old = std::mem::replace(slot, new);
        self.drop_entry(old);
    }
}
