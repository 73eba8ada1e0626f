//! Deleting filters and what hangs on them (`tc_del_tfilter()`, cls_api.c). It makes nothing.

use super::Store;
use super::block::{Block, Body, Entry, Proto, ProtoKind};
use super::filters::{NOT_FOUND, Place, find};
use crate::rules::Control;
use crate::tc::error::TcError;
use crate::tc::filter::{FilterCommand, Kind, flower};

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
        let block = self.block_mut(place);
        let own = block.chains.iter().position(|c| c.index == place.chain).expect("the chain was found just before");
        let found = match kind {
            Kind::U32(_) if handle & 0x000f_ffff == 0 && block.protos().any(|(_, p)| p.table == handle >> 20) => {
                return Err(TcError::kernel("cls_u32: Not allowed to delete root node", "delete the whole prio"));
            }
            Kind::U32(_) => block.find_u32(handle),
            Kind::Flower(_) | Kind::Matchall(_) | Kind::Unknown(_) => {
                block.chains[own].protos[at].position(handle).ok().map(|e| (own, at, e))
            }
        };
        let (chain, proto, entry) = found
            .ok_or_else(|| TcError::kernel("Specified filter handle not found", "tc filter show lists the handles"))?;
        let gone = block.chains[chain].protos[proto].entries.remove(entry);
        let last = match kind {
            // u32 says "last" only when no other u32 prio and no other node is left on the hook (u32_delete()).
            Kind::U32(_) => {
                let mut tables = block.protos().filter(|(_, p)| p.kind == ProtoKind::U32);
                tables.next().is_some_and(|(_, p)| p.entries.is_empty()) && tables.next().is_none()
            }
            Kind::Flower(_) | Kind::Matchall(_) | Kind::Unknown(_) => block.chains[own].protos[at].entries.is_empty(),
        };
        let proto = last.then(|| block.chains[own].protos.remove(at));
        if let (Body::Flower { written, .. }, None) = (&gone.body, &proto) {
            let key = flower::masked(written);
            self.block_mut(place).chains[own].protos[at].keys.remove(&key);
        }
        self.drop_entry(gone);
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
        self.block_mut(place).settle_u32();
        self.drop_chain_if_unused(place);
    }

    /// A chain goes when it holds nothing, was not made by hand, and no action of its hook goes to it.
    pub(super) fn drop_chain_if_unused(&mut self, place: Place) {
        let block = self.block(place);
        let unused = block.chain(place.chain).is_some_and(|c| c.protos.is_empty() && !c.explicit);
        if !unused || self.is_chain_target(block, place.chain) {
            return;
        }
        self.block_mut(place).chains.retain(|c| c.index != place.chain);
    }

    fn is_chain_target(&self, block: &Block, chain: u32) -> bool {
        let mut entries = block.protos().flat_map(|(_, p)| p.entries.iter());
        entries.any(|e| {
            e.actions
                .iter()
                .any(|slot| matches!(self.actions.get(*slot).action.control(), Control::GotoChain(c) if c == chain))
        })
    }
}
