//! One command for one thing of the kernel's. What cannot be said is told with its reason.

use std::fmt::Write as _;

use crate::host::tc::{
    BoundAction, Chain, Common, Filter, Fw, Links, Node, PARENT_EGRESS, PARENT_INGRESS, Place, Qdisc, SHARED_BLOCK, U32,
};
use crate::rules::FlowerKey;
use crate::tc::action::Extras;
use crate::tc::number::classid_text;
use crate::tc::words::{self, Unsayable};
use crate::types::{DeviceId, ethertype};

/// Why something is left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Why {
    #[error("import does not read {0}")]
    Lacking(#[from] crate::host::tc::Lacking),
    #[error("it has {0}")]
    Unsayable(#[from] Unsayable),
    #[error("{0}")]
    Other(&'static str),
}

/// Writes commands about things of one namespace.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a> {
    pub(super) links: &'a Links,
}

impl Lines<'_> {
    fn device(&self, device: DeviceId) -> Result<String, Unsayable> {
        words::quoted(&self.links.key(device).name)
    }

    /// `dev D ingress`, or `block N`.
    pub(super) fn hook(&self, device: DeviceId, parent: u32) -> Result<String, Unsayable> {
        if device == SHARED_BLOCK {
            return Ok(format!("block {parent}"));
        }
        let device = self.device(device)?;
        Ok(match parent {
            PARENT_INGRESS => format!("dev {device} ingress"),
            PARENT_EGRESS => format!("dev {device} egress"),
            other => format!("dev {device} parent {}", classid_text(other)),
        })
    }

    pub(super) fn qdisc(&self, qdisc: &Qdisc) -> Result<String, Unsayable> {
        let device = self.device(qdisc.device)?;
        let mut blocks = String::new();
        for (name, block) in [("ingress_block", 0), ("egress_block", 1)].map(|(name, at)| (name, qdisc.blocks[at])) {
            if block != 0 {
                let _ = write!(blocks, " {name} {block}");
            }
        }
        Ok(match qdisc.kind.as_str() {
            kind @ ("ingress" | "clsact") => format!("qdisc add dev {device}{blocks} {kind}"),
            kind => format!("qdisc add dev {device} root handle {} {kind}", classid_text(qdisc.handle)),
        })
    }

    pub(super) fn chain(&self, chain: &Chain) -> Result<String, Why> {
        let mut out = format!("chain add {} chain {}", self.hook(chain.device, chain.parent)?, chain.index);
        if let Some((kind, key)) = &chain.template {
            let key = key.as_ref().map_err(Clone::clone)?;
            let protocol = key.protocol().unwrap_or(ethertype::ALL);
            let _ = write!(out, " protocol {} {kind}{}", words::protocol(protocol), self.flower(key, protocol)?);
        }
        Ok(out)
    }

    fn flower(&self, key: &FlowerKey, protocol: u16) -> Result<String, Unsayable> {
        let indev = key.more.as_ref().and_then(|more| more.indev).map(|device| self.links.key(device).name.as_str());
        words::flower(key, protocol, indev)
    }

    /// `tc actions add action …`.
    pub(super) fn free_action(&self, action: &BoundAction) -> Result<String, Why> {
        Ok(format!("actions add action {}{}", self.action(action)?, words::extras(&extras(action)?)))
    }

    fn action(&self, bound: &BoundAction) -> Result<String, Why> {
        let name = |device| self.links.key(device).name.clone();
        Ok(words::action(bound.what.as_ref().map_err(Clone::clone)?, bound.index, &name)?)
    }

    /// `filter add …` up to the kind.
    fn start(&self, place: &Place) -> Result<String, Unsayable> {
        let hook = self.hook(place.device, place.parent)?;
        let chain = chain_words(place.chain);
        Ok(format!("filter add {hook} protocol {} pref {}{chain}", words::protocol(place.protocol), place.prio))
    }

    /// A prio with nothing in it: u32 with its root table, or the old method of fw.
    pub(super) fn head(&self, place: &Place) -> Result<String, Unsayable> {
        Ok(format!("{} {}", self.start(place)?, place.kind))
    }

    pub(super) fn table(&self, place: &Place, buckets: u32) -> Result<String, Unsayable> {
        Ok(format!("{} handle {:x}: u32 divisor {buckets}", self.start(place)?, place.handle >> 20))
    }

    pub(super) fn drop_prio(&self, place: &Place) -> Result<String, Unsayable> {
        let chain = chain_words(place.chain);
        Ok(format!("filter del {} pref {}{chain}", self.hook(place.device, place.parent)?, place.prio))
    }

    /// A filter; `root`: its table is the root of its prio. With notes about what the words do not say.
    pub(super) fn filter(&self, filter: &Filter, root: bool, notes: &mut Vec<String>) -> Result<String, Why> {
        let place = &filter.place;
        let start = self.start(place)?;
        match &filter.node {
            Node::U32(node) => {
                let mut out = format!("{start} handle ::{:x} u32", place.handle & 0xfff);
                if !root {
                    let _ = write!(out, " ht {:x}:{:x}:", place.handle >> 20, place.handle >> 12 & 0xff);
                }
                out.push_str(&u32_words(node)?);
                Ok(out + &self.common(&node.common, place, notes)?)
            }
            Node::Flower(flower) => {
                let keys = self.flower(&flower.key, place.protocol)?;
                let rest = self.common(&flower.common, place, notes)?;
                Ok(format!("{start} handle {:#x} flower{keys}{rest}", place.handle))
            }
            Node::Matchall(common) => {
                let rest = self.common(common, place, notes)?;
                Ok(format!("{start} handle {:#x} matchall{rest}", place.handle))
            }
            Node::Fw(Fw { mask, indev, common }) => {
                let mut out = format!("{start} handle {:#x}", place.handle);
                if *mask != u32::MAX {
                    let _ = write!(out, "/{mask:#x}");
                }
                out.push_str(" fw");
                if let Some(indev) = indev {
                    let _ = write!(out, " indev {}", words::quoted(indev)?);
                }
                Ok(out + &self.common(common, place, notes)?)
            }
            Node::Basic(basic) => {
                let mut keys = words::ematches(&basic.ematches)?;
                keys.push_str(&self.common(&basic.common, place, notes)?);
                // Without any word the kernel refuses it; class 0 is none.
                let keys = if keys.is_empty() { " classid 0:0" } else { keys.as_str() };
                Ok(format!("{start} handle {:#x} basic{keys}", place.handle))
            }
            Node::Other(lacking) => Err(lacking.clone().into()),
            Node::Head | Node::U32Table(_) => Err(Why::Other("it is no filter")),
        }
    }

    /// Classid, flags and actions, with a space before each.
    fn common(&self, common: &Common, place: &Place, notes: &mut Vec<String>) -> Result<String, Why> {
        if common.skip_sw {
            return Err(Why::Other("it has skip_sw: only hardware looks at it"));
        }
        let mut out = String::new();
        if let Some(classid) = common.classid {
            let _ = write!(out, " classid {}", classid_text(classid));
        }
        out.push_str(if common.skip_hw { " skip_hw" } else { "" });
        if common.old_police {
            let [police] = common.actions.as_slice() else { return Err(Why::Other("it has an old police of several")) };
            return Ok(format!("{out} {}", self.action(police)?));
        }
        // tc gives a cookie also to the actions behind it: they can be said only if all of those have one.
        let first = common.actions.iter().position(|a| a.cookie.is_some()).unwrap_or(common.actions.len());
        let sayable = common.actions[first..].iter().all(|a| a.cookie.is_some());
        if !sayable {
            let place = self.start(place)?.replacen("filter add ", "", 1);
            notes.push(format!("{place}: without cookies, which tc would give to the actions behind as well"));
        }
        for action in &common.actions {
            let mut extras = extras(action)?;
            // It comes from the filter.
            extras.skip_hw &= !common.skip_hw;
            extras.cookie = extras.cookie.filter(|_| sayable);
            let _ = write!(out, " action {}{}", self.action(action)?, words::extras(&extras));
        }
        Ok(out)
    }
}

fn chain_words(chain: u32) -> String {
    if chain == 0 { String::new() } else { format!(" chain {chain}") }
}

fn u32_words(node: &U32) -> Result<String, Why> {
    let mut out = words::u32_keys(&node.keys)?;
    if let Some(mark) = node.mark {
        out.push_str(&words::u32_mark(mark));
    }
    if out.is_empty() {
        return Err(Unsayable("a u32 node without keys".to_owned()).into());
    }
    let says_so = node.common.classid.is_some() || node.indev.is_some() || !node.common.actions.is_empty();
    if node.terminal != says_so {
        return Err(Unsayable("a u32 node that is final without action, or not final with one".to_owned()).into());
    }
    if let Some(link) = node.link {
        let _ = write!(out, " link {:x}:", link >> 20);
    }
    out.push_str(&words::u32_descent(&node.descent)?);
    if let Some(indev) = &node.indev {
        let _ = write!(out, " indev {}", words::quoted(indev)?);
    }
    Ok(out)
}

/// `TCA_ACT_HW_STATS_*` and `TCA_ACT_FLAGS_*` as tc's words.
fn extras(action: &BoundAction) -> Result<Extras, Why> {
    let hw_stats = match action.hw_stats {
        None => None,
        Some(0) => Some("disabled"),
        Some(1) => Some("immediate"),
        Some(2) => Some("delayed"),
        Some(other) => return Err(Unsayable(format!("an action's hw_stats {other}")).into()),
    };
    if action.flags & !7 != 0 {
        return Err(Unsayable(format!("an action's flags {:#x}", action.flags)).into());
    }
    Ok(Extras {
        cookie: action.cookie.clone(),
        hw_stats,
        no_percpu: action.flags & 1 != 0,
        skip_hw: action.flags & 2 != 0,
        skip_sw: action.flags & 4 != 0,
    })
}
