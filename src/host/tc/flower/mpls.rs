//! Label stacks of flower: of one outermost entry in the old form, else as a list (`fl_dump_key_mpls()`).

use super::super::Lacking;
use super::super::attr::{Attrs, Put};
use crate::rules::flower::{FlowerMpls, MPLS_DEPTH_MAX};

/// TTL, bottom of stack, traffic class, label: in the old form, and in an entry of the list.
const OLD: [u16; 4] = [67, 68, 69, 70];
const IN_ENTRY: [u16; 4] = [2, 3, 4, 5];
const LIST: u16 = 99;
const ENTRY: u16 = 1;
const DEPTH: u16 = 1;

/// # Errors
/// A length or a depth is wrong.
pub(super) fn decode(attrs: &Attrs<'_>) -> Result<Vec<FlowerMpls>, Lacking> {
    let mut entries: Vec<FlowerMpls> = Vec::new();
    for (kind, bytes) in attrs.nest(LIST)?.iter() {
        let inside = Attrs::parse(bytes, "flower mpls")?;
        let depth = inside.u8(DEPTH)?.unwrap_or(0);
        let is_new = entries.iter().all(|e| e.depth != depth);
        if kind != ENTRY || !(1..=MPLS_DEPTH_MAX).contains(&usize::from(depth)) || !is_new {
            return Err(Lacking(format!("the flower key mpls with a label {kind} at depth {depth}")));
        }
        entries.push(entry(depth, &inside, IN_ENTRY)?);
    }
    if OLD.iter().any(|kind| attrs.get(*kind).is_some()) {
        if !entries.is_empty() {
            return Err(Lacking("the flower key mpls in both forms".to_owned()));
        }
        entries.push(entry(1, attrs, OLD)?);
    }
    entries.sort_by_key(|entry| entry.depth);
    Ok(entries)
}

fn entry(depth: u8, attrs: &Attrs<'_>, [ttl, bos, tc, label]: [u16; 4]) -> Result<FlowerMpls, Lacking> {
    Ok(FlowerMpls {
        depth,
        label: attrs.u32(label)?.map(|label| label & 0xf_ffff),
        tc: attrs.u8(tc)?.map(|tc| tc & 7),
        bos: attrs.u8(bos)?.map(|bos| bos & 1),
        ttl: attrs.u8(ttl)?,
    })
}

pub(super) fn encode(entries: &[FlowerMpls], put: &mut Put) {
    match entries {
        [] => {}
        [outermost] if outermost.depth == 1 && outermost.word().1 != 0 => put_entry(outermost, OLD, put),
        entries => {
            let mut list = Put::default();
            for entry in entries {
                let mut inside = Put::default();
                inside.u8(DEPTH, entry.depth);
                put_entry(entry, IN_ENTRY, &mut inside);
                list.nest(ENTRY, &inside);
            }
            put.nest(LIST, &list);
        }
    }
}

fn put_entry(entry: &FlowerMpls, [ttl, bos, tc, label]: [u16; 4], put: &mut Put) {
    for (kind, value) in [(ttl, entry.ttl), (bos, entry.bos), (tc, entry.tc)] {
        if let Some(value) = value {
            put.u8(kind, value);
        }
    }
    if let Some(value) = entry.label {
        put.u32(label, value);
    }
}
