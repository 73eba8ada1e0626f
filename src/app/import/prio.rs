//! Prios with their records, and which numbers of u32 tables and prios are taken. It writes no command.

use std::collections::BTreeSet;

use crate::host::tc::{Filter, Node, Place};
use crate::rules::{FlowerField, FlowerKey};

/// The id of the first root table of a qdisc; the others follow.
pub(super) const FIRST_ROOT: u32 = 0x800;
/// How many numbers that nothing has now are passed over by prios that are made and deleted.
pub(super) const GAP_MAX: u32 = 256;

/// All records of one prio of one chain.
pub(super) struct Prio<'a> {
    pub(super) head: &'a Place,
    /// u32: its root table.
    pub(super) root: Option<u32>,
    pub(super) records: Vec<&'a Filter>,
}

/// Which u32 tables of a qdisc are there, roots included, and which prios.
pub(super) struct Tables<'a> {
    pub(super) known: BTreeSet<u32>,
    pub(super) made: Vec<&'a Place>,
}

/// Which bits a flower filter compares.
pub(super) fn mask_of(node: &Node) -> Option<Vec<(FlowerField, u128)>> {
    let Node::Flower(flower) = node else { return None };
    Some(flower.key.mask())
}

/// What a flower filter compares with what.
pub(super) fn masked_key(node: &Node) -> Option<FlowerKey> {
    let Node::Flower(flower) = node else { return None };
    Some(flower.key.masked())
}

/// Puts the u32 prios into the order of their root tables; the others stay where they are.
pub(super) fn sort_roots(prios: &mut [Prio<'_>]) {
    let places: Vec<usize> = (0..prios.len()).filter(|at| prios[*at].root.is_some()).collect();
    // A selection sort: prios are few, and stay in place where they are sorted already.
    for (first, at) in places.iter().enumerate() {
        let least = places[first..].iter().copied().min_by_key(|place| prios[*place].root);
        prios.swap(*at, least.unwrap_or(*at));
    }
}

/// Prios that only take up numbers of root tables.
pub(super) struct Fillers {
    /// The number that the next root table gets.
    pub(super) next: u32,
    pub(super) made: Vec<Place>,
    /// Numbers of prios that no filter has.
    pub(super) free: BTreeSet<u16>,
    /// The chains that have a prio already: hook and number.
    pub(super) chains: BTreeSet<(u32, u32)>,
}

impl Fillers {
    pub(super) fn new(prios: &[Prio<'_>]) -> Self {
        let taken: BTreeSet<u16> = prios.iter().map(|p| p.head.prio).collect();
        let free = (1..=u16::MAX).rev().filter(|prio| !taken.contains(prio)).take(GAP_MAX as usize * 4).collect();
        Self { next: FIRST_ROOT, made: Vec::new(), free, chains: BTreeSet::new() }
    }
}
