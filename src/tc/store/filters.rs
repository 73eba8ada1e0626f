//! `filter add|replace|change|del`: finding the place, as tc_new_tfilter() and tc_del_tfilter() of net/sched/cls_api.c do.

use super::block::{Block, Chain, Proto, ProtoKind};
use super::qdiscs::BlockId;
use super::{Devices, Store};
use crate::limits::FILTERS_MAX;
use crate::rules::CounterSource;
use crate::tc::command::{Parent, Verb};
use crate::tc::error::TcError;
use crate::tc::filter::{FilterCommand, Kind};
use crate::tc::listing::{Clock, ListOptions};
use crate::types::{DeviceId, DeviceKey};

/// A chain of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub device: DeviceId,
    pub block: BlockId,
    pub chain: u32,
}

/// The highest priority that is given automatically.
const AUTO_PRIO_FIRST: u16 = 0xc000;
/// Automatic priorities go down from the lowest that is at least this.
const AUTO_PRIO_FLOOR: u16 = 0x8000;

pub(super) const NOT_FOUND: &str = "Filter with specified priority/protocol not found";

impl Store {
    pub(super) fn filter(
        &mut self,
        netns: Option<&str>,
        command: &FilterCommand,
        devices: &dyn Devices,
    ) -> Result<Vec<String>, TcError> {
        Self::check_action_devices(netns, command.kind.as_ref(), devices)?;
        let place = self.place(netns, command)?;
        if command.verb == Verb::Delete {
            return self.filter_delete(place, command).map(|()| Vec::new());
        }
        if !Self::is_shared(place.device) {
            self.block_mut(place).parent = Some(command.parent);
        }
        let had_chain = self.block(place).chain(place.chain).is_some();
        let result = self.filter_put(netns, place, command);
        if result.is_err() && !had_chain {
            self.drop_chain_if_unused(place);
        }
        self.settle_u32(place);
        result.map(|()| self.place_notes(place, command))
    }

    /// `filter get` (`tc_get_tfilter()`, cls_api.c).
    pub(super) fn filter_get(
        &mut self,
        netns: Option<&str>,
        command: &FilterCommand,
        options: &ListOptions,
        counters: &dyn CounterSource,
    ) -> Result<String, TcError> {
        let place = self.place(netns, command)?;
        let Some(chain) = self.block(place).chain(place.chain) else {
            return Err(TcError::kernel("Cannot find specified filter chain", "tc chain show lists the chains"));
        };
        let not_found = || TcError::kernel(NOT_FOUND, "tc filter show lists the filters");
        find(chain, command.prio, command.protocol)?.ok_or_else(not_found)?;
        let proto = &chain.protos[chain.position(command.prio).map_err(|_| not_found())?];
        let kind = command.kind.as_ref().filter(|k| k.name() == proto.kind.as_str()).ok_or_else(|| {
            let hint = format!("it is a {} filter", proto.kind.as_str());
            TcError::kernel("Specified filter kind does not match existing one", hint)
        })?;
        let clock = Clock { now_ms: self.now_ms };
        let state = &self.states[&place.device];
        let parent = if command.parent == Parent(0) { state.handle(place.block) } else { command.parent };
        self.list_one((state, place.block), chain, proto, (kind.handle(), parent), options, counters, &clock)
            .ok_or_else(|| TcError::kernel("Specified filter handle not found", "tc filter show lists the handles"))
    }

    /// The device, hook and chain that a command means.
    pub(super) fn place(&mut self, netns: Option<&str>, command: &FilterCommand) -> Result<Place, TcError> {
        let chain = command.chain.unwrap_or(0);
        if let Some(index) = command.block {
            return self.shared_place(netns, index, chain, command.kind_token);
        }
        let Some(device) = &command.device else {
            return Err(TcError::errno("No such device", "say which device: dev DEVICE").at(command.kind_token));
        };
        let key = DeviceKey::new(netns, &device.text);
        let device = self.device_id(&key);
        let state = self.states.entry(device).or_default();
        let block = state.resolve(command.parent)?;
        Self::refuse_shared(state, block)?;
        let other = match block {
            BlockId::Egress => &state.root_block,
            BlockId::Root => &state.egress_block,
            BlockId::Ingress => return Ok(Place { device, block, chain }),
        };
        if !other.is_empty() || block == BlockId::Root && state.shared[1].is_some() {
            let what = format!("filters both at clsact's egress and on the root qdisc of {key}");
            return Err(TcError::unsupported(&what, command.kind_token));
        }
        Ok(Place { device, block, chain })
    }

    fn place_notes(&self, place: Place, command: &FilterCommand) -> Vec<String> {
        if Self::is_shared(place.device) {
            return Vec::new();
        }
        let key = self.device_key(place.device);
        let mut notes = match command.parent {
            Parent(0) => vec![format!(
                "the filter names no parent, so it is on the root qdisc of {key} and runs at egress; \
                 write parent ffff: (or ingress) for received frames"
            )],
            Parent(_) => Vec::new(),
        };
        if let Some(Kind::Basic(spec)) = &command.kind {
            notes.extend(spec.note.clone());
        }
        notes
    }

    pub(super) fn block(&self, place: Place) -> &Block {
        self.states[&place.device].block(place.block)
    }

    pub(super) fn block_mut(&mut self, place: Place) -> &mut Block {
        self.states.entry(place.device).or_default().block_mut(place.block)
    }

    pub(super) fn chain_mut(&mut self, place: Place) -> &mut Chain {
        self.block_mut(place).chain_or_new(place.chain)
    }

    /// `add`, `replace`, `change`.
    fn filter_put(&mut self, netns: Option<&str>, place: Place, command: &FilterCommand) -> Result<(), TcError> {
        let creates = matches!(command.verb, Verb::Add | Verb::Replace);
        if command.prio == 0 && !creates {
            return Err(TcError::kernel("Invalid filter command with priority of zero", "give prio N"));
        }
        let chain = self.chain_mut(place);
        let found = find(chain, command.prio, command.protocol)?;
        let (prio, created) = match found {
            Some(prio) => (prio, false),
            None => (self.create_proto(place, command, creates)?, true),
        };
        let result = self.put_entry(netns, place, prio, command, creates);
        let no_entry = created && result.is_err();
        if no_entry {
            let chain = self.chain_mut(place);
            if let Ok(at) = chain.position(prio) {
                chain.protos.remove(at);
            }
        }
        result
    }

    /// A new `tcf_proto`. A u32 table id that it takes stays taken even if the filter is then refused, as in the kernel.
    fn create_proto(&mut self, place: Place, command: &FilterCommand, creates: bool) -> Result<u16, TcError> {
        let Some(kind) = command.kind.as_ref().filter(|_| command.protocol != 0) else {
            return Err(TcError::kernel("Filter kind and protocol must be specified", "give protocol P and a kind"));
        };
        if !creates {
            let text = "Need both RTM_NEWTFILTER and NLM_F_CREATE to create a new filter";
            return Err(TcError::kernel(text, "there is nothing to change: use add or replace"));
        }
        let kind = match kind {
            Kind::U32(_) => ProtoKind::U32,
            Kind::Flower(_) => ProtoKind::Flower,
            Kind::Matchall(_) => ProtoKind::Matchall,
            Kind::Fw(_) => ProtoKind::Fw,
            Kind::Basic(_) => ProtoKind::Basic,
            Kind::Unknown(_) => {
                let hint = "viscum knows the filters u32, flower, matchall, basic and fw";
                return Err(TcError::kernel("TC classifier not found", hint).at(command.kind_token));
            }
        };
        let prio = match command.prio {
            0 => automatic_prio(self.chain_mut(place))?,
            prio => prio,
        };
        let table = match kind {
            ProtoKind::U32 => {
                self.states.entry(place.device).or_default().take_u32_id(place.block).ok_or_else(|| {
                    TcError::errno(
                        "No space left on device",
                        "a hook takes 2047 u32 priorities; share one prio instead",
                    )
                })?
            }
            ProtoKind::Flower | ProtoKind::Matchall | ProtoKind::Fw | ProtoKind::Basic => 0,
        };
        let proto = Proto {
            prio,
            protocol: command.protocol,
            kind,
            table,
            sequence: self.next_sequence(),
            entries: Vec::new(),
            flower: super::flower::FlowerIndex::default(),
            mask: None,
        };
        let chain = self.chain_mut(place);
        let at = chain.position(prio).unwrap_or_else(|at| at);
        chain.protos.insert(at, proto);
        Ok(prio)
    }

    fn put_entry(
        &mut self,
        netns: Option<&str>,
        place: Place,
        prio: u16,
        command: &FilterCommand,
        creates: bool,
    ) -> Result<(), TcError> {
        let Some(kind) = &command.kind else {
            return Err(TcError::errno(
                "Invalid argument",
                "name the kind of filter: u32, flower, matchall, basic or fw",
            ));
        };
        let chain = self.chain_mut(place);
        let at = chain.position(prio).expect("the proto was found or made just before");
        let proto_kind = chain.protos[at].kind;
        let template_fits = chain.template.is_none() || proto_kind == ProtoKind::Flower;
        if proto_kind.as_str() != kind.name() {
            let text = "Specified filter kind does not match existing one";
            let hint = format!("prio {prio} holds {} filters; use another prio", proto_kind.as_str());
            return Err(TcError::kernel(text, hint).at(command.kind_token));
        }
        let exists = self.exists(place, at, kind);
        if !exists && !creates {
            let text = "Need both RTM_NEWTFILTER and NLM_F_CREATE to create a new filter";
            return Err(TcError::kernel(text, "there is nothing to change: use add or replace"));
        }
        if exists && command.verb == Verb::Add {
            return Err(TcError::kernel("Filter already exists", "use replace to change it, or another handle"));
        }
        if !template_fits {
            let text = "Chain template is set to a different filter kind";
            return Err(TcError::kernel(text, "this chain takes flower filters only").at(command.kind_token));
        }
        if !exists && self.filter_count >= FILTERS_MAX {
            return Err(TcError::errno("Cannot allocate memory", format!("viscum takes {FILTERS_MAX} filters")));
        }
        self.change(netns, place, at, kind)
    }

    /// Whether the handle that the command names is there (`tp->ops->get()`).
    fn exists(&self, place: Place, at: usize, kind: &Kind) -> bool {
        let block = self.block(place);
        let handle = kind.handle();
        if handle == 0 {
            return false;
        }
        match kind {
            Kind::U32(_) => self.states[&place.device].u32_exists(place.block, handle),
            Kind::Flower(_) | Kind::Matchall(_) | Kind::Fw(_) | Kind::Basic(_) => {
                block.chain(place.chain).is_some_and(|c| c.protos[at].position(handle).is_ok())
            }
            Kind::Unknown(_) => false,
        }
    }
}

/// The prio, if it is there with this protocol (`tcf_chain_tp_find()`); 0 for both means any.
pub(super) fn find(chain: &Chain, prio: u16, protocol: u16) -> Result<Option<u16>, TcError> {
    let not_found = |hint: String| Err(TcError::kernel(NOT_FOUND, hint));
    if prio == 0 {
        return match chain.position(AUTO_PRIO_FLOOR) {
            Ok(_) => not_found("no automatic priority is free; give prio N".to_owned()),
            Err(_) => Ok(None),
        };
    }
    let Ok(at) = chain.position(prio) else { return Ok(None) };
    let proto = &chain.protos[at];
    if protocol != 0 && proto.protocol != protocol {
        let name = crate::tc::proto::link_name(proto.protocol);
        return not_found(format!("prio {prio} is for protocol {name}; one prio holds one protocol, use another prio"));
    }
    Ok(Some(prio))
}

/// `tcf_auto_prio()`: one below the lowest prio that is at least 0x8000, at first 49152.
fn automatic_prio(chain: &Chain) -> Result<u16, TcError> {
    let at = chain.position(AUTO_PRIO_FLOOR).unwrap_or_else(|at| at);
    let Some(next) = chain.protos.get(at) else { return Ok(AUTO_PRIO_FIRST) };
    Ok(next.prio - 1)
}
