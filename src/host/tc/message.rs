//! Messages of rtnetlink about traffic control (`struct tcmsg`, include/uapi/linux/rtnetlink.h): what they are about, both ways.

use super::attr::{Attrs, Fields, Put};
use super::{
    BLOCK_IFINDEX, BoundAction, Chain, Filter, Lacking, Links, Node, Place, Qdisc, SHARED_BLOCK, action, basic, flower,
    fw, matchall, u32,
};
use crate::types::DeviceId;

/// `TCA_*`.
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const CHAIN: u16 = 11;
const INGRESS_BLOCK: u16 = 13;
const EGRESS_BLOCK: u16 = 14;
/// Length of `struct tcmsg`, in bytes.
const HEAD_LEN: usize = 20;
/// Length of `struct tcamsg`, in bytes.
const ACTION_HEAD_LEN: usize = 4;
/// `TCA_ACT_TAB`.
const ACTION_TABLE: u16 = 1;

/// `struct tcmsg`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) ifindex: u32,
    pub(super) handle: u32,
    pub(super) parent: u32,
    pub(super) info: u32,
}

impl Head {
    pub(super) fn read(payload: &[u8]) -> Result<(Self, Attrs<'_>), Lacking> {
        let mut fields = Fields::new(payload, "a message");
        let _family = fields.u32()?;
        let head = Self { ifindex: fields.u32()?, handle: fields.u32()?, parent: fields.u32()?, info: fields.u32()? };
        Ok((head, Attrs::parse(&payload[HEAD_LEN..], "a message")?))
    }

    /// Prio and protocol as they stand in `info`.
    pub(super) const fn of(place: &Place, ifindex: u32) -> Self {
        let info = (place.prio as u32) << 16 | place.protocol.to_be() as u32;
        Self { ifindex, handle: place.handle, parent: place.parent, info }
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        [0, self.ifindex, self.handle, self.parent, self.info].iter().flat_map(|w| w.to_ne_bytes()).collect()
    }

    /// Device and hook of a filter, or that it is of a shared block. What is below an `ingress` qdisc is told as below the qdisc itself.
    fn hook(self, links: &Links) -> Result<(DeviceId, u32), Lacking> {
        /// `ffff:`.
        const QDISC: u32 = 0xffff_0000;
        match (self.ifindex, self.parent) {
            (BLOCK_IFINDEX, index) => Ok((SHARED_BLOCK, index)),
            (_, QDISC) => Ok((self.device(links)?, super::PARENT_INGRESS)),
            (_, parent) => Ok((self.device(links)?, parent)),
        }
    }

    fn device(self, links: &Links) -> Result<DeviceId, Lacking> {
        links.device(self.ifindex).ok_or_else(|| Lacking(format!("device number {}, which is gone", self.ifindex)))
    }
}

/// `RTM_NEWQDISC`.
///
/// # Errors
/// It is cut, or of a device that is not in `links`.
pub fn decode_qdisc(payload: &[u8], links: &Links) -> Result<Qdisc, Lacking> {
    let (head, attrs) = Head::read(payload)?;
    Ok(Qdisc {
        device: head.device(links)?,
        handle: head.handle,
        parent: head.parent,
        kind: super::attr::text(attrs.need(KIND)?),
        blocks: [attrs.u32(INGRESS_BLOCK)?.unwrap_or(0), attrs.u32(EGRESS_BLOCK)?.unwrap_or(0)],
    })
}

/// `RTM_NEWCHAIN` of a hook: the message itself only tells the qdisc, or the shared block.
///
/// # Errors
/// As [`decode_qdisc`].
pub fn decode_chain(payload: &[u8], parent: u32, links: &Links) -> Result<Chain, Lacking> {
    let (head, attrs) = Head::read(payload)?;
    let (device, told) = head.hook(links)?;
    let parent = if device == SHARED_BLOCK { told } else { parent };
    let template = match attrs.text(KIND) {
        None => None,
        Some(kind) if kind == "flower" => {
            Some((kind, attrs.nest(OPTIONS).and_then(|options| flower::decode_template(&options, links))))
        }
        Some(kind) => {
            let lacking = Lacking(format!("a chain's template for {kind}"));
            Some((kind, Err(lacking)))
        }
    };
    let index = attrs.u32(CHAIN)?.unwrap_or(0);
    Ok(Chain { device, parent, index, template })
}

/// `RTM_NEWTFILTER`. What viscum lacks of it is said in it.
///
/// # Errors
/// As [`decode_qdisc`].
pub fn decode_filter(payload: &[u8], links: &Links) -> Result<Filter, Lacking> {
    let (head, attrs) = Head::read(payload)?;
    let kind = super::attr::text(attrs.need(KIND)?);
    let (device, parent) = head.hook(links)?;
    let place = Place {
        device,
        parent,
        chain: attrs.u32(CHAIN)?.unwrap_or(0),
        prio: (head.info >> 16) as u16,
        protocol: u16::from_be(head.info as u16),
        handle: head.handle,
        kind,
    };
    let node = match attrs.get(OPTIONS) {
        // fw_dump()
        None if place.kind == "fw" && place.handle != 0 => Node::Other(Lacking(
            "a fw filter without action and classid: the kernel tells neither its mask nor its indev".to_owned(),
        )),
        None => Node::Head,
        Some(_) => options(&place, &attrs, links).unwrap_or_else(Node::Other),
    };
    Ok(Filter { place, node })
}

fn options(place: &Place, attrs: &Attrs<'_>, links: &Links) -> Result<Node, Lacking> {
    let options = attrs.nest(OPTIONS)?;
    match place.kind.as_str() {
        "u32" => u32::decode(&options, links),
        "flower" => flower::decode(&options, place.protocol, links).map(Node::Flower),
        "matchall" => matchall::decode(&options, links).map(Node::Matchall),
        "fw" => fw::decode(&options, links).map(Node::Fw),
        "basic" => basic::decode(&options, links).map(Node::Basic),
        other => Err(Lacking(format!("the classifier {other}"))),
    }
}

/// `RTM_GETACTION`'s answer: the actions of one kind, or some of them.
///
/// # Errors
/// It is cut.
pub fn decode_action_dump(payload: &[u8], links: &Links) -> Result<Vec<BoundAction>, Lacking> {
    let attrs =
        payload.get(ACTION_HEAD_LEN..).ok_or_else(|| Lacking("an answer about actions that is cut".to_owned()))?;
    let table = Attrs::parse(attrs, "actions")?.nest(ACTION_TABLE)?;
    action::decode_list(&table, links)
}

/// What is asked of `RTM_GETACTION`: all actions of a kind.
pub(super) fn action_dump_request(kind: &str) -> Vec<u8> {
    /// `TCA_ROOT_FLAGS` with `TCA_ACT_FLAG_LARGE_DUMP_ON`.
    const FLAGS: u16 = 2;
    const LARGE_DUMP: u32 = 1;
    let (mut inside, mut table, mut put) = (Put::default(), Put::default(), Put(vec![0; ACTION_HEAD_LEN]));
    inside.text(KIND, kind);
    table.nest(1, &inside);
    let flags = [LARGE_DUMP, LARGE_DUMP].map(u32::to_ne_bytes).concat();
    put.nest(ACTION_TABLE, &table).bytes(FLAGS, &flags);
    put.0
}

/// What asks for one action, or makes it (`RTM_NEWACTION`).
pub(super) fn action_request(action: &BoundAction, links: &Links) -> Result<Vec<u8>, Lacking> {
    let table = action::encode_list(std::slice::from_ref(action), links)?;
    let mut put = Put(vec![0; ACTION_HEAD_LEN]);
    put.nest(ACTION_TABLE, &table);
    Ok(put.0)
}

/// What makes an `ingress` or `clsact` qdisc with its shared blocks, or a root qdisc without options (`RTM_NEWQDISC`).
///
/// # Errors
/// The device is not in `links`.
pub fn encode_qdisc(qdisc: &Qdisc, links: &Links) -> Result<Vec<u8>, Lacking> {
    let ifindex = links.ifindex(qdisc.device).ok_or_else(|| Lacking("a device of another namespace".to_owned()))?;
    let head = Head { ifindex, handle: qdisc.handle, parent: qdisc.parent, info: 0 };
    let mut put = Put(head.bytes());
    put.text(KIND, &qdisc.kind);
    for (attribute, block) in [INGRESS_BLOCK, EGRESS_BLOCK].into_iter().zip(qdisc.blocks).filter(|(_, b)| *b != 0) {
        put.u32(attribute, block);
    }
    Ok(put.0)
}

/// What makes a chain (`RTM_NEWCHAIN`).
///
/// # Errors
/// Its template is another than flower's or could not be decoded, or its device is not in `links`.
pub fn encode_chain(chain: &Chain, links: &Links) -> Result<Vec<u8>, Lacking> {
    let mut put = Put(chain_request((chain.device, chain.parent), chain.index, links)?);
    if let Some((kind, key)) = &chain.template {
        let key = key.as_ref().map_err(Clone::clone)?;
        put.text(KIND, kind).nest(OPTIONS, &flower::encode_template(key, links)?);
    }
    Ok(put.0)
}

/// What means a chain of a hook.
pub(super) fn chain_request((device, parent): (DeviceId, u32), chain: u32, links: &Links) -> Result<Vec<u8>, Lacking> {
    let ifindex = links.ifindex(device).ok_or_else(|| Lacking("a device of another namespace".to_owned()))?;
    let mut put = Put(Head { ifindex, handle: 0, parent, info: 0 }.bytes());
    put.u32(CHAIN, chain);
    Ok(put.0)
}

/// What makes a filter (`RTM_NEWTFILTER`).
///
/// # Errors
/// It holds what could not be decoded, or a device that is not in `links`.
pub fn encode_filter(filter: &Filter, links: &Links) -> Result<Vec<u8>, Lacking> {
    let place = &filter.place;
    let ifindex = links.ifindex(place.device).ok_or_else(|| Lacking("a device of another namespace".to_owned()))?;
    let options = match &filter.node {
        Node::Head => None,
        Node::U32Table(buckets) => Some(u32::encode_table(*buckets)),
        Node::U32(node) => Some(u32::encode(node, place.handle & 0xffff_f000, links)?),
        Node::Flower(flower) => Some(flower::encode(flower, links)?),
        Node::Matchall(common) => Some(matchall::encode(common, links)?),
        Node::Fw(fw) => Some(fw::encode(fw, links)?),
        Node::Basic(basic) => Some(basic::encode(basic, links)?),
        Node::Other(lacking) => return Err(lacking.clone()),
    };
    let mut put = Put(Head::of(place, ifindex).bytes());
    put.text(KIND, &place.kind);
    if place.chain != 0 {
        put.u32(CHAIN, place.chain);
    }
    if let Some(options) = &options {
        put.nest(OPTIONS, options);
    }
    Ok(put.0)
}

/// What asks for the filters of a prio of a hook, in all its chains or in one.
pub(super) fn prio_request(ifindex: u32, parent: u32, prio: u16, chain: Option<u32>) -> Vec<u8> {
    let mut put = Put(Head { ifindex, handle: 0, parent, info: u32::from(prio) << 16 }.bytes());
    if let Some(chain) = chain {
        put.u32(CHAIN, chain);
    }
    put.0
}

/// What asks for the filters of a hook (`RTM_GETTFILTER`), only those of a prio if one is given; or for its chains (`RTM_GETCHAIN`).
pub(super) fn filters_request(ifindex: u32, parent: u32, one: Option<&Place>) -> Vec<u8> {
    let head = one
        .map_or(Head { ifindex, handle: 0, parent, info: 0 }, |place| Head { handle: 0, ..Head::of(place, ifindex) });
    let mut put = Put(head.bytes());
    if let Some(place) = one {
        put.u32(CHAIN, place.chain);
    }
    put.0
}
