//! New, changed and deleted u32 nodes and tables (`u32_change()`, `u32_delete()`, cls_u32.c). Look-ups are in [`super::u32`].

use super::Store;
use super::block::{Body, Entry, ProtoKind};
use super::filters::Place;
use super::qdiscs::DeviceState;
use super::u32::{At, KEY, NODE, Named, ROOT_ID, U32Common, U32Table, free_handle};
use crate::rules::NodeWord;
use crate::tc::error::TcError;
use crate::tc::filter::u32::U32Spec;
use crate::types::DeviceKey;

impl Store {
    /// `u32_change()`: without options only the root table is made.
    pub(super) fn change_u32(
        &mut self,
        netns: Option<&str>,
        place: Place,
        at: usize,
        spec: &U32Spec,
    ) -> Result<(), TcError> {
        if !spec.has_options {
            return match spec.handle {
                0 => Ok(()),
                _ => Err(TcError::kernel("cls_u32: Filter handle requires options", "say what to match")),
            };
        }
        let named = if spec.handle == 0 { None } else { self.device_state(place).u32_named(place.block, spec.handle) };
        match named {
            Some(Named::Node) => return self.replace_u32(netns, place, spec),
            Some(Named::Root | Named::Table(_)) => {
                let hint = "a table cannot be changed; name a node, like 1:2:800, or delete the table first";
                return Err(TcError::kernel("cls_u32: Key node id cannot be zero", hint));
            }
            None => {}
        }
        if let Some(count) = spec.divisor {
            return self.make_u32_table(place, at, spec, count);
        }
        self.add_u32(netns, place, at, spec)
    }

    fn device_state(&self, place: Place) -> &DeviceState {
        &self.states[&place.device]
    }

    fn device_state_mut(&mut self, place: Place) -> &mut DeviceState {
        self.states.entry(place.device).or_default()
    }

    fn make_u32_table(&mut self, place: Place, at: usize, spec: &U32Spec, count: usize) -> Result<(), TcError> {
        let no_space = || TcError::errno("No space left on device", "a qdisc takes 2047 u32 tables; use fewer");
        if spec.handle & KEY != 0 {
            let hint = "write the handle of a table, like 1:";
            return Err(TcError::kernel("cls_u32: Divisor can only be used on a hash table", hint));
        }
        let id = match spec.handle >> 20 {
            0 => self.device_state_mut(place).take_u32_id(place.block).ok_or_else(no_space)?,
            id => id,
        };
        let prio = self.chain_mut(place).protos[at].prio;
        let sequence = self.next_sequence();
        let buckets = vec![Vec::new(); count];
        self.device_state_mut(place).u32_mut(place.block).tables.push(U32Table { id, prio, sequence, buckets });
        Ok(())
    }

    /// A new node: its table, its handle, then what it says.
    fn add_u32(&mut self, netns: Option<&str>, place: Place, at: usize, spec: &U32Spec) -> Result<(), TcError> {
        let root = self.chain_mut(place).protos[at].table;
        let asked = spec.table >> 20;
        let bucket = (spec.table >> 12 & 0xff) as usize;
        let state = self.device_state(place);
        let made = state.u32(place.block).tables.iter().position(|t| t.id == asked);
        // `ht` can name the root table of another prio too.
        let named = match spec.table {
            0 => root,
            _ if asked == ROOT_ID => root,
            _ if made.is_some() || state.u32_protos(place.block).any(|p| p.table == asked) => asked,
            _ => {
                let hint = format!("make it first: handle {asked:x}: u32 divisor 256; tc filter show lists the tables");
                return Err(TcError::kernel("cls_u32: Specified hash table not found", hint));
            }
        };
        let bucket = if spec.table != 0 && asked == ROOT_ID { 0 } else { bucket };
        let bucket_count = made.map_or(1, |t| state.u32(place.block).tables[t].buckets.len());
        if bucket >= bucket_count {
            let hint = format!("table {named:x}: has {bucket_count} buckets, numbered from 0 in hex");
            return Err(TcError::kernel("cls_u32: Specified hash table buckets exceed configured value", hint));
        }
        let table = named << 20 | (bucket as u32) << 12;
        if spec.handle >> 20 != 0 && spec.handle >> 20 != named {
            let hint =
                format!("the node goes into table {named:x}: write {named:x}::NODE or ::NODE, or ht for another");
            return Err(TcError::kernel("cls_u32: Handle specified hash table address mismatch", hint));
        }
        let entries = self.u32_bucket(place, at, named, bucket)?;
        let handle = match spec.handle & NODE {
            0 => free_handle(entries, table | 0x800..=table | NODE)
                .or_else(|| free_handle(entries, table | 1..=table | NODE)),
            node => Some(table | node).filter(|h| entries.binary_search_by_key(h, |e| e.handle).is_err()),
        };
        let handle = handle.ok_or_else(|| {
            let hint = "this node is taken, or all 4095 of the bucket are; use another bucket or prio";
            match spec.handle & NODE {
                0 => TcError::kernel("cls_u32: Hash table node ID pool exhausted", hint),
                _ => TcError::errno("No space left on device", hint),
            }
        })?;
        if !spec.has_selector {
            let hint = "say what to match: match u32 0 0 matches all";
            return Err(TcError::kernel("cls_u32: Selector not specified", hint));
        }
        check_shift(spec)?;
        let indev = spec.indev.as_ref().map(|w| self.device_id(&DeviceKey::new(netns, &w.text)));
        let link = self.u32_link(place, spec)?;
        let body = Body::U32 {
            keys: spec.keys.clone(),
            mark: spec.mark,
            indev,
            terminal: spec.terminal,
            link: link.flatten(),
            offset: spec.offset,
        };
        let words = NodeWord::len(spec.keys.len()) + u32::from(spec.mark.is_some());
        let entry = self.entry(netns, place, handle, &spec.common, body, words)?;
        let entries = self.u32_bucket(place, at, named, bucket)?;
        let position = entries.partition_point(|e| e.handle < handle);
        entries.insert(position, entry);
        Ok(())
    }

    /// The nodes of a table's bucket.
    fn u32_bucket(&mut self, place: Place, at: usize, id: u32, bucket: usize) -> Result<&mut Vec<Entry>, TcError> {
        if self.chain_mut(place).protos[at].table == id {
            return Ok(&mut self.chain_mut(place).protos[at].entries);
        }
        let state = self.device_state_mut(place);
        if let Some(table) = state.u32(place.block).tables.iter().position(|t| t.id == id) {
            return Ok(&mut state.u32_mut(place.block).tables[table].buckets[bucket]);
        }
        for block in DeviceState::u32_blocks(place.block) {
            let found = state.block(*block).chains.iter().enumerate().find_map(|(c, chain)| {
                chain.protos.iter().position(|p| p.kind == ProtoKind::U32 && p.table == id).map(|p| (c, p))
            });
            if let Some((chain, proto)) = found {
                return Ok(&mut state.block_mut(*block).chains[chain].protos[proto].entries);
            }
        }
        Err(TcError::kernel("cls_u32: Specified hash table not found", "tc filter show lists the tables"))
    }

    /// The table that a node is to link to: `None` if it says nothing, `Some(None)` to take a link away.
    fn u32_link(&self, place: Place, spec: &U32Spec) -> Result<Option<Option<u32>>, TcError> {
        let Some(handle) = spec.link else { return Ok(None) };
        if handle & KEY != 0 {
            let hint = "a link names a table, not a bucket: link 1:";
            return Err(TcError::kernel("cls_u32: u32 Link handle must be a hash table", hint));
        }
        if handle == 0 {
            return Ok(Some(None));
        }
        let id = handle >> 20;
        let state = self.device_state(place);
        if state.u32_protos(place.block).any(|p| p.table == id) {
            let hint = "link to a table of your own: handle 1: u32 divisor 1";
            return Err(TcError::kernel("cls_u32: Not linking to root node", hint));
        }
        if !state.u32(place.block).tables.iter().any(|t| t.id == id) {
            let hint = format!("make it first: handle {id:x}: u32 divisor 1; tc filter show lists the tables");
            return Err(TcError::kernel("cls_u32: Link hash table not found", hint));
        }
        Ok(Some(Some(id)))
    }

    /// A u32 node that is there keeps its keys; only what hangs on it changes (`u32_init_knode()`).
    fn replace_u32(&mut self, netns: Option<&str>, place: Place, spec: &U32Spec) -> Result<(), TcError> {
        let old = self.device_state(place).u32_entry(place.block, spec.handle).expect("the caller has found it");
        if old.skip_hw != spec.common.skip_hw {
            let hint = "a node keeps its skip_hw: say it again, or delete the node first";
            return Err(TcError::kernel("cls_u32: Key node flags do not match passed flags", hint));
        }
        let link = self.u32_link(place, spec)?;
        let slots = self.bind_actions(netns, place, &spec.common)?;
        let indev = spec.indev.as_ref().map(|w| self.device_id(&DeviceKey::new(netns, &w.text)));
        let line = self.line;
        let state = self.device_state_mut(place);
        let at = state.u32_find(place.block, spec.handle).expect("the caller has found it");
        let (At::Root { entry, .. } | At::Table { entry, .. }) = at;
        let entry = &mut state.u32_entries(place.block, &at)[entry];
        let old = std::mem::replace(&mut entry.actions, slots);
        entry.line = line;
        entry.old_police = spec.common.old_police;
        entry.classid = spec.common.classid.or(entry.classid);
        if let Body::U32 { indev: own_indev, link: own_link, .. } = &mut entry.body {
            *own_indev = indev.or(*own_indev);
            *own_link = link.unwrap_or(*own_link);
        }
        old.into_iter().for_each(|slot| self.actions.release(slot));
        Ok(())
    }

    /// `u32_delete()`: a node or a table. True if that was the last of the qdisc, so that the prio goes too.
    pub(super) fn delete_u32(&mut self, place: Place, handle: u32) -> Result<bool, TcError> {
        let state = self.device_state(place);
        match state.u32_named(place.block, handle) {
            None => {
                return Err(TcError::kernel("Specified filter handle not found", "tc filter show lists the handles"));
            }
            Some(Named::Root) => {
                return Err(TcError::kernel("cls_u32: Not allowed to delete root node", "delete the whole prio"));
            }
            Some(Named::Table(table)) => {
                let links = state.u32_links_to(place.block, handle >> 20);
                if links > 0 {
                    let hint = format!("{links} nodes link to it: delete them first");
                    return Err(TcError::kernel("cls_u32: Can not delete in-use filter", hint));
                }
                let gone = self.device_state_mut(place).u32_mut(place.block).tables.remove(table);
                self.drop_u32_table(gone);
            }
            Some(Named::Node) => {
                let state = self.device_state_mut(place);
                let at = state.u32_find(place.block, handle).expect("it was found just before");
                let (At::Root { entry, .. } | At::Table { entry, .. }) = at;
                let gone = state.u32_entries(place.block, &at).remove(entry);
                self.drop_entry(gone);
            }
        }
        Ok(self.device_state(place).u32_is_last(place.block))
    }

    fn drop_u32_table(&mut self, table: U32Table) {
        table.buckets.into_iter().flatten().for_each(|e| self.drop_entry(e));
    }

    /// Forgets ids and tables when the last u32 filter of a qdisc is gone (`u32_destroy()`).
    pub(super) fn settle_u32(&mut self, place: Place) {
        let gone = self.device_state_mut(place).settle_u32(place.block);
        gone.into_iter().for_each(|t| self.drop_u32_table(t));
    }

    /// Drops what u32 holds for a qdisc that goes.
    pub(super) fn drop_u32(&mut self, common: U32Common) {
        common.tables.into_iter().for_each(|t| self.drop_u32_table(t));
    }
}

/// `u32_change()` of 6.1.
fn check_shift(spec: &U32Spec) -> Result<(), TcError> {
    if spec.offset.variable.is_none_or(|v| v.shift < 16) {
        return Ok(());
    }
    Err(TcError::kernel("cls_u32: offshift must be less than 16", "the offset is a 16-bit word: shift it by 0 to 15"))
}
