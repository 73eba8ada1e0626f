//! Deleting filters and what hangs on them (`tc_del_tfilter()`, cls_api.c). It makes nothing.

use super::Store;
use super::block::{Block, Chain, Entry, Proto};
use super::filters::{NOT_FOUND, Place, find};
use super::u32::U32Table;
use crate::rules::Control;
use crate::tc::error::TcError;
use crate::tc::filter::{FilterCommand, Kind};

impl Store {
    pub(super) fn filter_delete(&mut self, place: Place, command: &FilterCommand) -> Result<(), TcError> {
        let named = command.protocol != 0 || command.kind.is_some();
        if command.prio == 0 && named {
            let text = "Cannot flush filters with protocol, handle or kind set";
            return Err(TcError::kernel(text, "give prio N too, or nothing to delete all of the chain"));
        }
        if self.block(place).chain(place.chain).is_none() {
            if command.prio == 0 {
                return Ok(());
            }
            return Err(TcError::kernel("Cannot find specified filter chain", "tc chain show lists the chains"));
        }
        if command.prio == 0 {
            let protos = std::mem::take(&mut self.chain_mut(place).protos);
            protos.into_iter().for_each(|p| self.drop_proto(p));
            self.after_delete(place);
            return Ok(());
        }
        let chain = self.chain_mut(place);
        find(chain, command.prio, command.protocol)?
            .ok_or_else(|| TcError::kernel(NOT_FOUND, "tc filter show lists the filters"))?;
        let at = chain.position(command.prio).expect("found just before");
        let wrong_kind = command.kind.as_ref().is_some_and(|k| k.name() != chain.protos[at].kind.as_str());
        if wrong_kind {
            let hint = format!("it is a {} filter", chain.protos[at].kind.as_str());
            return Err(TcError::kernel("Specified filter kind does not match existing one", hint));
        }
        match command.kind.as_ref().filter(|k| k.handle() != 0) {
            Some(kind) => self.delete_handle(place, at, kind)?,
            None => {
                let proto = self.chain_mut(place).protos.remove(at);
                self.drop_proto(proto);
            }
        }
        self.after_delete(place);
        Ok(())
    }

    /// Removes one node; the prio goes with its last one.
    fn delete_handle(&mut self, place: Place, at: usize, kind: &Kind) -> Result<(), TcError> {
        let handle = kind.handle();
        let gone;
        let last = match kind {
            Kind::U32(_) => {
                gone = None;
                self.delete_u32(place, handle)?
            }
            Kind::Flower(_) | Kind::Matchall(_) | Kind::Fw(_) | Kind::Basic(_) | Kind::Unknown(_) => {
                let proto = &mut self.chain_mut(place).protos[at];
                let entry = proto.position(handle).map_err(|_| {
                    TcError::kernel("Specified filter handle not found", "tc filter show lists the handles")
                })?;
                gone = Some(proto.entries.remove(entry));
                proto.entries.is_empty()
            }
        };
        let proto = last.then(|| self.chain_mut(place).protos.remove(at));
        if let (Some(gone), None) = (&gone, &proto) {
            let proto = &mut self.chain_mut(place).protos[at];
            proto.flower.remove(gone, &proto.entries);
        }
        gone.into_iter().for_each(|e| self.drop_entry(e));
        proto.into_iter().for_each(|p| self.drop_proto(p));
        Ok(())
    }

    /// Releases what an entry holds.
    pub(super) fn drop_entry(&mut self, entry: Entry) {
        entry.actions.into_iter().for_each(|slot| self.actions.release(slot));
        self.filter_count = self.filter_count.saturating_sub(1);
    }

    fn drop_proto(&mut self, proto: Proto) {
        proto.entries.into_iter().for_each(|e| self.drop_entry(e));
    }

    /// Releases what a whole block holds.
    pub(super) fn drop_block(&mut self, block: Block) {
        block.chains.into_iter().flat_map(|c| c.protos).for_each(|p| self.drop_proto(p));
    }

    /// Flushes a chain.
    pub(super) fn flush_chain(&mut self, place: Place) {
        let protos = std::mem::take(&mut self.chain_mut(place).protos);
        protos.into_iter().for_each(|p| self.drop_proto(p));
        self.after_delete(place);
    }

    fn after_delete(&mut self, place: Place) {
        self.settle_u32(place);
        self.drop_chain_if_unused(place);
        // What went may have been the last to go to a chain that holds nothing.
        let is_empty = |c: &&Chain| c.protos.is_empty() && !c.explicit;
        let empty: Vec<u32> = self.block(place).chains.iter().filter(is_empty).map(|c| c.index).collect();
        empty.into_iter().for_each(|chain| self.drop_chain_if_unused(Place { chain, ..place }));
    }

    /// A chain goes when it holds nothing, was not made by hand, and no action of its hook goes to it.
    pub(super) fn drop_chain_if_unused(&mut self, place: Place) {
        let state = &self.states[&place.device];
        let block = state.block(place.block);
        let unused = block.chain(place.chain).is_some_and(|c| c.protos.is_empty() && !c.explicit);
        let tables = &state.u32(place.block).tables;
        if !unused || self.is_chain_target(block, tables, place.chain) {
            return;
        }
        self.block_mut(place).chains.retain(|c| c.index != place.chain);
    }

    fn is_chain_target(&self, block: &Block, tables: &[U32Table], chain: u32) -> bool {
        let roots = block.protos().flat_map(|(_, p)| p.entries.iter());
        let mut entries = roots.chain(tables.iter().flat_map(|t| t.buckets.iter().flatten()));
        entries.any(|e| {
            e.actions
                .iter()
                .any(|slot| matches!(self.actions.get(*slot).action.control(), Control::GotoChain(c) if c == chain))
        })
    }
}
