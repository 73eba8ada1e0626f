//! What an explanation cannot know of an action: chance, and what a running forwarder remembers. It runs nothing.

use crate::rules::{Action, ActionInstance, RandomKind};

/// Why what is said of this action may differ from what happened, if it may. `live`: to a frame of a running forwarder.
pub fn unsure(instance: &ActionInstance, live: bool) -> Option<&'static str> {
    match &instance.action {
        Action::Police(police) if live && police.policer().buckets.is_some() => {
            Some("the forwarder's tokens at that time are not known here: taken as enough")
        }
        Action::Gact(gact) => match gact.random.as_ref().map(|random| random.kind) {
            Some(RandomKind::Netrand) => Some("this is chance: another time it may fall the other way"),
            Some(RandomKind::Determ) if live => {
                Some("how many packets the forwarder had counted by then is not known here: taken as none")
            }
            Some(RandomKind::Determ) | None => None,
        },
        Action::Police(_)
        | Action::Mirred(_)
        | Action::Skbedit(_)
        | Action::Skbmod(_)
        | Action::Csum(_)
        | Action::Pedit(_)
        | Action::Vlan(_)
        | Action::Nat(_)
        | Action::Simple(_) => None,
    }
}
