//! What the kernel counted of filters and actions: the statistics of a list of filters. It changes nothing.

use super::attr::{Attrs, Fields};
use super::message::{Head, filters_request};
use super::socket::Message;
use super::{Lacking, NetlinkError, Socket};

/// What one filter counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Its chain.
    pub chain: u32,
    /// Its prio.
    pub prio: u16,
    /// Its handle.
    pub handle: u32,
    /// How often it was tried, how often it matched, and for u32 how often each key did: of basic, and of u32 where the kernel counts
    /// it (`CONFIG_CLS_U32_PERF`).
    pub nodes: Vec<u64>,
    /// Its actions, in order.
    pub actions: Vec<CountedAction>,
}

/// What an action counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountedAction {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that it dropped.
    pub drops: u64,
    /// What it could not do.
    pub overlimits: u64,
}

/// The statistics of all filters of a hook. `ifindex` is of the socket's namespace.
///
/// # Errors
/// [`NetlinkError`].
pub fn read_counts(socket: &mut Socket, ifindex: u32, parent: u32) -> Result<Vec<Counted>, NetlinkError> {
    let answers =
        socket.dump(Message::GetFilter, &filters_request(ifindex, parent, None), "the filters' statistics")?;
    answers.iter().filter_map(|answer| decode(answer).transpose()).collect::<Result<_, _>>().map_err(Into::into)
}

/// `None`: the record is no filter.
fn decode(payload: &[u8]) -> Result<Option<Counted>, Lacking> {
    const KIND: u16 = 1;
    const OPTIONS: u16 = 2;
    const CHAIN: u16 = 11;
    let (head, attrs) = Head::read(payload)?;
    if attrs.get(OPTIONS).is_none() || head.handle == 0 {
        return Ok(None);
    }
    let options = attrs.nest(OPTIONS)?;
    // TCA_U32_ACT and TCA_U32_PCNT; TCA_FLOWER_ACT; TCA_MATCHALL_ACT; TCA_FW_ACT; TCA_BASIC_ACT and TCA_BASIC_PCNT.
    let (actions, counts) = match super::attr::text(attrs.need(KIND)?).as_str() {
        "u32" => (7, Some(9)),
        "flower" => (3, None),
        "matchall" => (2, None),
        "fw" => (4, None),
        "basic" => (3, Some(5)),
        _ => return Ok(None),
    };
    let nodes = counts.and_then(|kind| options.get(kind)).map_or_else(Vec::new, words);
    let mut list: Vec<(u16, &[u8])> = options.nest(actions)?.iter().collect();
    list.sort_by_key(|(order, _)| *order);
    Ok(Some(Counted {
        chain: attrs.u32(CHAIN)?.unwrap_or(0),
        prio: (head.info >> 16) as u16,
        handle: head.handle,
        nodes,
        actions: list.into_iter().map(|(_, bytes)| action(bytes)).collect::<Result<_, _>>()?,
    }))
}

/// `struct tc_u32_pcnt`, `struct tc_basic_pcnt`: 64-bit numbers.
fn words(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks_exact(8).map(|c| u64::from_ne_bytes([c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]])).collect()
}

fn action(bytes: &[u8]) -> Result<CountedAction, Lacking> {
    /// `TCA_ACT_STATS`, and in it `TCA_STATS_*` (include/uapi/linux/gen_stats.h).
    const STATS: u16 = 4;
    const BASIC: u16 = 1;
    const QUEUE: u16 = 3;
    const PACKETS_64: u16 = 8;
    let stats = Attrs::parse(bytes, "an action")?.nest(STATS)?;
    let mut counted = CountedAction::default();
    if let Some(basic) = stats.get(BASIC) {
        let mut fields = Fields::new(basic, "statistics");
        counted.bytes = u64::from_ne_bytes(fields.array()?);
        counted.packets = u64::from(fields.u32()?);
    }
    if let Some(packets) = stats.u64(PACKETS_64)? {
        counted.packets = packets;
    }
    if let Some(queue) = stats.get(QUEUE) {
        let mut fields = Fields::new(queue, "statistics");
        let (_len, _backlog, drops) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let _requeues = fields.u32()?;
        (counted.drops, counted.overlimits) = (u64::from(drops), u64::from(fields.u32()?));
    }
    Ok(counted)
}
