//! What u32 keeps for a whole qdisc (`struct tc_u_common`, cls_u32.c): ids of tables, and the tables that `divisor` made.
//! Root tables are their prio's entries. Both hooks of a clsact share all of it.

use std::collections::HashSet;

use super::block::{Block, Body, Entry, Proto, ProtoKind};
use super::qdiscs::{BlockId, DeviceState};

/// The id that means "the root table of this prio" (`TC_U32_ROOT`).
pub(super) const ROOT_ID: u32 = 0xfff;
/// Bucket and node of a handle (`TC_U32_KEY`).
pub(super) const KEY: u32 = 0x000f_ffff;
pub(super) const NODE: u32 = 0xfff;

/// The state of u32 that belongs to a qdisc.
#[derive(Clone, Debug, Default)]
pub struct U32Common {
    /// Last id given to a table, 0..=0x7fe; `None` without u32 filter (it does not exist then).
    last_id: Option<u32>,
    /// The tables that `divisor` made.
    pub tables: Vec<U32Table>,
}

/// A table that `divisor` made (`struct tc_u_hnode`).
#[derive(Clone, Debug)]
pub struct U32Table {
    /// Its id, 1..=0xffe.
    pub id: u32,
    /// The prio that it was made under: it is listed there, though every prio can use it.
    pub prio: u16,
    /// When it was made: larger is later.
    pub sequence: u64,
    /// Its nodes, sorted by handle; as many as the divisor.
    pub buckets: Vec<Vec<Entry>>,
}

/// Where a node is.
pub(super) enum At {
    Root { block: BlockId, chain: usize, proto: usize, entry: usize },
    Table { table: usize, bucket: usize, entry: usize },
}

/// What a handle names.
pub(super) enum Named {
    /// A root table.
    Root,
    /// A table that `divisor` made: its position.
    Table(usize),
    /// A node.
    Node,
}

/// A u32 table of either kind, for listings.
#[derive(Clone, Copy, Debug)]
pub struct ListedTable<'a> {
    /// Its id.
    pub id: u32,
    /// How many buckets it has.
    pub divisor: usize,
    /// Its age.
    sequence: u64,
    root: Option<&'a Proto>,
    made: Option<&'a U32Table>,
}

impl<'a> ListedTable<'a> {
    /// Its nodes by bucket and node.
    pub fn entries(self) -> impl Iterator<Item = &'a Entry> {
        let root = self.root.into_iter().flat_map(|p| &p.entries);
        root.chain(self.made.into_iter().flat_map(|t| t.buckets.iter().flatten()))
    }
}

impl DeviceState {
    /// The places whose u32 filters share tables and ids (`tc_u_common_ptr()`: `block->q`).
    pub(super) const fn u32_blocks(id: BlockId) -> &'static [BlockId] {
        match id {
            BlockId::Ingress | BlockId::Egress => &[BlockId::Ingress, BlockId::Egress],
            BlockId::Root => &[BlockId::Root],
        }
    }

    pub(super) fn u32_protos(&self, id: BlockId) -> impl Iterator<Item = &Proto> {
        let blocks = Self::u32_blocks(id).iter().map(|b| self.block(*b));
        blocks.flat_map(Block::protos).map(|(_, p)| p).filter(|p| p.kind == ProtoKind::U32)
    }

    /// The tables that are listed for a prio: all of that prio on the qdisc, whatever their hook and chain, the newest first
    /// (`u32_walk()` compares `ht->prio` only).
    #[must_use]
    pub fn u32_tables(&self, id: BlockId, prio: u16) -> Vec<ListedTable<'_>> {
        let roots = self.u32_protos(id).filter(|p| p.prio == prio).map(|p| ListedTable {
            id: p.table,
            divisor: 1,
            sequence: p.sequence,
            root: Some(p),
            made: None,
        });
        let made = self.u32(id).tables.iter().filter(|t| t.prio == prio).map(|t| ListedTable {
            id: t.id,
            divisor: t.buckets.len(),
            sequence: t.sequence,
            root: None,
            made: Some(t),
        });
        let mut tables: Vec<ListedTable<'_>> = roots.chain(made).collect();
        tables.sort_by_key(|t| std::cmp::Reverse(t.sequence));
        tables
    }

    /// Takes an id for a new table: 0x800 for the first of the qdisc, then 801, 802 … without going back (`gen_new_htid()`).
    /// `None` when all are taken.
    pub(super) fn take_u32_id(&mut self, block: BlockId) -> Option<u32> {
        const LAST: u32 = 0x7fe;
        let Some(last) = self.u32(block).last_id else {
            self.u32_mut(block).last_id = Some(0);
            return Some(0x800);
        };
        let taken: HashSet<u32> =
            self.u32_protos(block).map(|p| p.table).chain(self.u32(block).tables.iter().map(|t| t.id)).collect();
        let id = (last + 1..=LAST).chain(1..=last.min(LAST)).find(|id| !taken.contains(&(id | 0x800)))?;
        self.u32_mut(block).last_id = Some(id);
        Some(id | 0x800)
    }

    /// `u32_get()`.
    pub(super) fn u32_named(&self, block: BlockId, handle: u32) -> Option<Named> {
        let id = handle >> 20;
        if handle & KEY != 0 {
            return self.u32_find(block, handle).map(|_| Named::Node);
        }
        if id == ROOT_ID || self.u32_protos(block).any(|p| p.table == id) {
            return Some(Named::Root);
        }
        self.u32(block).tables.iter().position(|t| t.id == id).map(Named::Table)
    }

    /// Whether there is such a table or node.
    pub(super) fn u32_exists(&self, block: BlockId, handle: u32) -> bool {
        self.u32_named(block, handle).is_some()
    }

    pub(super) fn u32_find(&self, block: BlockId, handle: u32) -> Option<At> {
        let id = handle >> 20;
        if let Some(table) = self.u32(block).tables.iter().position(|t| t.id == id) {
            let bucket = (handle >> 12 & 0xff) as usize;
            let entries = self.u32(block).tables[table].buckets.get(bucket)?;
            let entry = entries.binary_search_by_key(&handle, |e| e.handle).ok()?;
            return Some(At::Table { table, bucket, entry });
        }
        for id in Self::u32_blocks(block) {
            for (c, chain) in self.block(*id).chains.iter().enumerate() {
                for (p, proto) in chain.protos.iter().enumerate() {
                    if proto.kind == ProtoKind::U32 && proto.table == handle >> 20 {
                        let entry = proto.position(handle).ok()?;
                        return Some(At::Root { block: *id, chain: c, proto: p, entry });
                    }
                }
            }
        }
        None
    }

    pub(super) fn u32_entries(&mut self, block: BlockId, at: &At) -> &mut Vec<Entry> {
        match at {
            At::Root { block, chain, proto, .. } => &mut self.block_mut(*block).chains[*chain].protos[*proto].entries,
            At::Table { table, bucket, .. } => &mut self.u32_mut(block).tables[*table].buckets[*bucket],
        }
    }

    /// A node by its handle.
    pub(in crate::tc) fn u32_entry(&self, block: BlockId, handle: u32) -> Option<&Entry> {
        match self.u32_find(block, handle)? {
            At::Root { block, chain, proto, entry } => self.block(block).chains[chain].protos[proto].entries.get(entry),
            At::Table { table, bucket, entry } => self.u32(block).tables[table].buckets[bucket].get(entry),
        }
    }

    /// How many buckets a table has, of whichever kind.
    pub(in crate::tc) fn u32_divisor(&self, block: BlockId, id: u32) -> Option<usize> {
        let made = self.u32(block).tables.iter().find(|t| t.id == id).map(|t| t.buckets.len());
        made.or_else(|| self.u32_protos(block).any(|p| p.table == id).then_some(1))
    }

    /// How many nodes link to a table.
    pub(super) fn u32_links_to(&self, block: BlockId, table: u32) -> usize {
        let roots = self.u32_protos(block).flat_map(|p| &p.entries);
        let made = self.u32(block).tables.iter().flat_map(|t| t.buckets.iter().flatten());
        roots.chain(made).filter(|e| matches!(&e.body, Body::U32 { link, .. } if *link == Some(table))).count()
    }

    /// `tp_c->refcnt == 1 && !tp_c->knodes`.
    pub(super) fn u32_is_last(&self, block: BlockId) -> bool {
        let mut roots = self.u32_protos(block);
        let first_is_empty = roots.next().is_some_and(|p| p.entries.is_empty());
        first_is_empty
            && roots.next().is_none()
            && self.u32(block).tables.iter().all(|t| t.buckets.iter().all(Vec::is_empty))
    }

    /// What goes with the last u32 filter of a qdisc: its tables.
    pub(super) fn settle_u32(&mut self, block: BlockId) -> Vec<U32Table> {
        if self.u32_protos(block).next().is_some() {
            return Vec::new();
        }
        std::mem::take(self.u32_mut(block)).tables
    }
}

/// The lowest handle in a range that is free among sorted entries.
pub(super) fn free_handle(entries: &[Entry], range: std::ops::RangeInclusive<u32>) -> Option<u32> {
    let start = entries.partition_point(|e| e.handle < *range.start());
    let dense_end = range.start() + (entries.len() - start) as u32;
    // Without a gap from the start, the next one is free.
    if entries.last().is_none_or(|e| e.handle.wrapping_add(1) == dense_end) && range.contains(&dense_end) {
        return Some(dense_end);
    }
    let mut handle = *range.start();
    for entry in &entries[start..] {
        if entry.handle != handle {
            break;
        }
        handle += 1;
    }
    range.contains(&handle).then_some(handle)
}
