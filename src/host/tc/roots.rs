//! Which u32 table is the root of which prio. The kernel lists, under a prio, all tables that any chain and hook of the qdisc made for a
//! prio of that number (`u32_walk()`, net/sched/cls_u32.c), and does not say which is whose. It changes nothing.

use super::message::Head;
use super::read::same_prio;
use super::socket::Message;
use super::{Filter, Lacking, Links, Node, PARENT_EGRESS, PARENT_INGRESS, Place, SHARED_BLOCK, Socket, attr::Put};

/// For each u32 prio its root table. `ask` says whether a table is the root of a prio, if that can be found out.
pub(super) fn find(
    filters: &[Filter],
    ask: &mut dyn FnMut(&Place, u32) -> Option<bool>,
) -> Vec<(Place, Result<u32, Lacking>)> {
    let heads: Vec<&Place> =
        filters.iter().filter(|f| f.node == Node::Head && f.place.kind == "u32").map(|f| &f.place).collect();
    heads.iter().map(|head| ((*head).clone(), root_of(head, &heads, filters, ask))).collect()
}

fn root_of(
    head: &Place,
    heads: &[&Place],
    filters: &[Filter],
    ask: &mut dyn FnMut(&Place, u32) -> Option<bool>,
) -> Result<u32, Lacking> {
    // Newest first; a root has one bucket.
    let listed: Vec<u32> = filters
        .iter()
        .filter(|f| same_prio(&f.place, head) && f.node == Node::U32Table(1))
        .map(|f| f.place.handle >> 20)
        .collect();
    let unknown =
        |why: &str| Lacking(format!("which u32 table prio {} of chain {} begins with {why}", head.prio, head.chain));
    match listed.as_slice() {
        [] => Err(unknown("(the kernel lists none)")),
        [only] => Ok(*only),
        [.., oldest] => {
            let answers: Vec<Option<bool>> = listed.iter().map(|table| ask(head, *table)).collect();
            if let Some(at) = answers.iter().position(|answer| *answer == Some(true)) {
                return Ok(listed[at]);
            }
            // A prio's root is older than the tables that were made under it.
            let rivals = heads.iter().filter(|h| h.prio == head.prio && shares_tables(h, head)).count();
            if rivals == 1 { Ok(*oldest) } else { Err(unknown("(asking the kernel takes CAP_NET_ADMIN)")) }
        }
    }
}

/// Both hooks of a clsact share tables; a shared block has its own (`tc_u_common_ptr()`).
fn shares_tables(a: &Place, b: &Place) -> bool {
    let hook = |p: &Place| p.device != SHARED_BLOCK && matches!(p.parent, PARENT_INGRESS | PARENT_EGRESS);
    a.device == b.device && (a.parent == b.parent || hook(a) && hook(b))
}

/// Asks the kernel for a node without a selector in this table of this prio. It refuses that always, and first if the table is not the
/// root (`u32_change()`), in other words.
pub(super) fn ask(socket: &mut Socket, links: &Links, filters: &[Filter], place: &Place, table: u32) -> Option<bool> {
    const KIND: u16 = 1;
    const OPTIONS: u16 = 2;
    const CHAIN: u16 = 11;
    let taken = |handle: u32| filters.iter().any(|f| f.place.device == place.device && f.place.handle == handle);
    let handle = (1..=0xfff).rev().map(|node| table << 20 | node).find(|handle| !taken(*handle))?;
    let head = Head::of(&Place { handle, ..place.clone() }, links.ifindex(place.device)?);
    let mut put = Put(head.bytes());
    put.text(KIND, "u32").u32(CHAIN, place.chain).nest(OPTIONS, &Put::default());
    let error = socket.change(Message::NewFilter, true, &put.0, "a question about a u32 table").err()?;
    // The kernel puts its module's name before its words.
    let said = error.said()?;
    if said.ends_with("Selector not specified") {
        return Some(true);
    }
    said.ends_with("hash table address mismatch").then_some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::DeviceId;

    fn record(parent: u32, prio: u16, handle: u32, node: Node) -> Filter {
        let place =
            Place { device: DeviceId(0), parent, chain: 0, prio, protocol: 0x800, kind: "u32".to_owned(), handle };
        Filter { place, node }
    }

    #[test]
    fn the_oldest_is_the_root_unless_prios_share_their_tables_and_then_the_kernel_is_asked() {
        let list = |parent| {
            vec![
                record(parent, 1, 0, Node::Head),
                record(parent, 1, 0x8010_0000, Node::U32Table(1)),
                record(parent, 1, 0x8000_0000, Node::U32Table(1)),
            ]
        };
        let found = find(&list(PARENT_INGRESS), &mut |_, _| None);
        assert_eq!(found[0].1, Ok(0x800));
        let both = [list(PARENT_INGRESS), list(PARENT_EGRESS)].concat();
        let found = find(&both, &mut |_, _| None);
        assert!(found.iter().all(|(_, root)| root.as_ref().unwrap_err().0.contains("CAP_NET_ADMIN")));
        let answer = |place: &Place, table| Some((place.parent == PARENT_INGRESS) == (table == 0x801));
        let found = find(&both, &mut |place, table| answer(place, table));
        assert_eq!((&found[0].1, &found[1].1), (&Ok(0x801), &Ok(0x800)));
    }
}
