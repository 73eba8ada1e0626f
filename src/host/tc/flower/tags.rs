//! What a flower key says of types and tags: `fl_set_key()` and `fl_dump_key()`. A request gives the type of each layer; the kernel
//! tells the type at the end of all layers, and of those before it what is compared.

use super::super::Lacking;
use super::super::attr::{Attrs, Put};
use crate::rules::FlowerKey;
use crate::rules::flower::{FlowerPppoe, FlowerVlan, behind_ppp};
use crate::types::{VLAN_ID_MASK, ethertype, is_tag};

const ETH_TYPE: u16 = 8;
/// Id, prio and the type behind: of the outer and of the next tag.
const TAGS: [[u16; 3]; 2] = [[23, 24, 25], [77, 78, 79]];
const NUM_OF_VLANS: u16 = 102;
const PPPOE_SID: u16 = 103;
const PPP_PROTO: u16 = 104;
const PRIO_MASK: u8 = 7;

/// Layers as they are told.
struct Told {
    eth_type: Option<u16>,
    count: Option<u8>,
    tags: [FlowerVlan; 2],
    pppoe: FlowerPppoe,
}

impl Told {
    fn read(attrs: &Attrs<'_>) -> Result<Self, Lacking> {
        let tag = |[id, prio, behind]: [u16; 3]| {
            Ok(FlowerVlan {
                id: attrs.u16(id)?.map(|id| id & VLAN_ID_MASK),
                prio: attrs.u8(prio)?.map(|prio| prio & PRIO_MASK),
                tpid: None,
                eth_type: attrs.be16(behind)?,
            })
        };
        Ok(Self {
            eth_type: attrs.be16(ETH_TYPE)?,
            count: attrs.u8(NUM_OF_VLANS)?,
            tags: [tag(TAGS[0])?, tag(TAGS[1])?],
            pppoe: FlowerPppoe { sid: attrs.be16(PPPOE_SID)?, proto: attrs.be16(PPP_PROTO)? },
        })
    }

    /// Whether so many tags are said to be there that a layer is one whatever its type.
    fn counts(&self, index: usize) -> bool {
        usize::from(self.count.unwrap_or(0)) > index
    }

    /// The type of the first layer, which is the filter's protocol. Of a template the kernel does not tell it.
    fn first(&self, protocol: Option<u16>) -> Option<u16> {
        let has_tags = self.tags.iter().any(|tag| *tag != FlowerVlan::default());
        let has_ppp = self.pppoe != FlowerPppoe::default();
        let has_layers = has_tags || has_ppp || self.counts(0);
        match protocol {
            None if has_tags => Some(ethertype::VLAN),
            None if has_ppp => Some(ethertype::PPP_SES),
            None => self.eth_type,
            Some(ethertype::ALL) => self.eth_type.filter(|_| !has_layers),
            // Another program can have given another type than the protocol.
            Some(tag) if is_tag(tag) && !has_layers => Some(self.eth_type.unwrap_or(tag)),
            Some(layer) if is_tag(layer) || layer == ethertype::PPP_SES || self.counts(0) => Some(layer),
            Some(_) => self.eth_type,
        }
    }
}

/// # Errors
/// A length is wrong.
pub(super) fn decode(attrs: &Attrs<'_>, protocol: Option<u16>, key: &mut FlowerKey) -> Result<(), Lacking> {
    let told = Told::read(attrs)?;
    let mut eth_type = told.first(protocol);
    let more = key.more_mut();
    more.num_of_vlans = told.count;
    let mut last = None;
    for (index, tag) in told.tags.iter().enumerate() {
        // `is_vlan_key()`
        if !told.counts(index) && !eth_type.is_some_and(is_tag) {
            break;
        }
        more.vlan[index] = FlowerVlan { tpid: eth_type.filter(|t| *t != 0), ..*tag };
        eth_type = tag.eth_type;
        last = Some(index);
    }
    // Only another program than tc can have made such.
    if told.tags.iter().skip(last.map_or(0, |index| index + 1)).any(|tag| *tag != FlowerVlan::default()) {
        return Err(Lacking("a flower filter with keys of VLAN tags and another protocol".to_owned()));
    }
    // Behind the tags the kernel tells what is behind PPP too.
    if told.pppoe != FlowerPppoe::default() && eth_type != Some(ethertype::PPP_SES) {
        eth_type = Some(ethertype::PPP_SES);
        if let Some(index) = last {
            more.vlan[index].eth_type = eth_type;
        }
    }
    if eth_type == Some(ethertype::PPP_SES) {
        more.pppoe = Some(told.pppoe);
        eth_type = told.pppoe.proto.map(|proto| behind_ppp(proto).unwrap_or(ethertype::PPP_SES));
    }
    key.eth_type = eth_type;
    Ok(())
}

pub(super) fn encode(key: &FlowerKey, put: &mut Put) {
    if let Some(eth_type) = key.protocol() {
        put.be16(ETH_TYPE, eth_type);
    }
    let Some(more) = &key.more else { return };
    if let Some(count) = more.num_of_vlans {
        put.u8(NUM_OF_VLANS, count);
    }
    for (tag, [id, prio, behind]) in more.vlan.iter().zip(TAGS) {
        if let Some(value) = tag.id {
            put.u16(id, value);
        }
        if let Some(value) = tag.prio {
            put.u8(prio, value);
        }
        if let Some(value) = tag.eth_type {
            put.be16(behind, value);
        }
    }
    let FlowerPppoe { sid, proto } = more.pppoe.unwrap_or_default();
    if let Some(value) = sid {
        put.be16(PPPOE_SID, value);
    }
    if let Some(value) = proto {
        put.be16(PPP_PROTO, value);
    }
}
