//! An action with its envelope: kind, index, cookie, flags. What a kind holds is in its own file, decode and encode side by side.

mod csum;
mod gact;
mod mirred;
mod nat;
mod pedit;
mod police;
mod simple;
mod skbedit;
mod skbmod;
mod vlan;

use super::attr::{Attrs, Fields, Put};
use super::{BoundAction, Lacking, Links, control};
use crate::rules::{Action, Control};

/// `TCA_ACT_*`, include/uapi/linux/pkt_cls.h.
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const COOKIE: u16 = 6;
const FLAGS: u16 = 7;
const HW_STATS: u16 = 8;

/// What every kind's structure begins with: `tc_gen`, include/uapi/linux/pkt_cls.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct General {
    index: u32,
    control: i32,
    refs: u32,
    binds: u32,
}

impl General {
    fn read(fields: &mut Fields<'_>) -> Result<Self, Lacking> {
        let (index, _capabilities, control) = (fields.u32()?, fields.u32()?, fields.i32()?);
        Ok(Self { index, control, refs: fields.u32()?, binds: fields.u32()? })
    }

    /// Without `refs` and `binds`: they are the kernel's to say.
    fn bytes(index: u32, how: Control) -> Vec<u8> {
        let words = [index, 0, control::encode(how).cast_unsigned(), 0, 0];
        words.iter().flat_map(|w| w.to_ne_bytes()).collect()
    }
}

/// All actions of a list (`TCA_*_ACT`), in order.
///
/// # Errors
/// The list itself cannot be read; what viscum lacks of an action is said in it.
pub(super) fn decode_list(attrs: &Attrs<'_>, links: &Links) -> Result<Vec<BoundAction>, Lacking> {
    let mut list: Vec<(u16, &[u8])> = attrs.iter().collect();
    list.sort_by_key(|(order, _)| *order);
    list.into_iter().map(|(_, bytes)| decode(&Attrs::parse(bytes, "an action")?, links)).collect()
}

/// One action with its envelope.
pub(super) fn decode(attrs: &Attrs<'_>, links: &Links) -> Result<BoundAction, Lacking> {
    let kind = super::attr::text(attrs.need(KIND)?);
    let options = attrs.nest(OPTIONS)?;
    let bitfield =
        |kind| attrs.array::<8>(kind).map(|value| value.map(|[a, b, c, d, ..]| u32::from_ne_bytes([a, b, c, d])));
    let (general, what) = options_of(&kind, &options, links);
    Ok(BoundAction {
        index: general.map_or(0, |g| g.index),
        refs: general.map_or(0, |g| g.refs),
        binds: general.map_or(0, |g| g.binds),
        cookie: attrs.get(COOKIE).map(<[u8]>::to_vec),
        hw_stats: bitfield(HW_STATS)?,
        flags: bitfield(FLAGS)?.unwrap_or(0),
        kind,
        what,
    })
}

/// The old form of a policer: its options stand where the list would.
pub(super) fn decode_old_police(attrs: &Attrs<'_>) -> BoundAction {
    let kind = "police".to_owned();
    let (general, what) = police::decode(attrs, true);
    let general = general.unwrap_or(General { index: 0, control: 0, refs: 0, binds: 0 });
    let (index, refs, binds) = (general.index, general.refs, general.binds);
    BoundAction { kind, index, refs, binds, cookie: None, hw_stats: None, flags: 0, what }
}

/// The structure's head, if it could be read, and what the action does.
type Options = (Option<General>, Result<Action, Lacking>);

fn options_of(kind: &str, attrs: &Attrs<'_>, links: &Links) -> Options {
    match kind {
        "gact" => gact::decode(attrs),
        "mirred" => mirred::decode(attrs, links),
        "skbedit" => skbedit::decode(attrs),
        "skbmod" => skbmod::decode(attrs),
        "csum" => csum::decode(attrs),
        "pedit" => pedit::decode(attrs),
        "vlan" => vlan::decode(attrs),
        "nat" => nat::decode(attrs),
        "simple" => simple::decode(attrs),
        "police" => police::decode(attrs, false),
        // Every kind's second attribute is its structure, and that begins alike.
        other => {
            let head = attrs.get(2).and_then(|bytes| General::read(&mut Fields::new(bytes, "an action")).ok());
            (head, Err(Lacking(format!("the action {other}"))))
        }
    }
}

/// Reads a kind's structure, then what `rest` makes of it.
fn structure<'a>(
    attrs: &Attrs<'a>,
    parameters: u16,
    what: &'static str,
    rest: impl FnOnce(Control, &mut Fields<'a>) -> Result<Action, Lacking>,
) -> Options {
    let bytes = match attrs.need(parameters) {
        Ok(bytes) => bytes,
        Err(error) => return (None, Err(error)),
    };
    let mut fields = Fields::new(bytes, what);
    match General::read(&mut fields) {
        Ok(general) => (Some(general), control::decode(general.control).and_then(|control| rest(control, &mut fields))),
        Err(error) => (None, Err(error)),
    }
}

/// What fits into an attribute (64 KiB) together with all else that a filter has.
const LIST_LEN_MAX: usize = 48 * 1024;

/// A list of actions as attributes numbered from 1.
pub(super) fn encode_list(actions: &[BoundAction], links: &Links) -> Result<Put, Lacking> {
    let mut list = Put::default();
    for (order, action) in (1..).zip(actions) {
        list.nest(order, &encode(action, links)?);
        if list.0.len() > LIST_LEN_MAX {
            let count = actions.len();
            return Err(Lacking(format!(
                "a list of {count} actions that is longer than a message to the kernel can be"
            )));
        }
    }
    Ok(list)
}

fn encode(bound: &BoundAction, links: &Links) -> Result<Put, Lacking> {
    let action = bound.what.as_ref().map_err(Clone::clone)?;
    let mut put = Put::default();
    put.text(KIND, action.kind()).nest(OPTIONS, &encode_options(action, bound.index, links)?);
    if let Some(cookie) = &bound.cookie {
        put.bytes(COOKIE, cookie);
    }
    let bitfield = |value: u32, selector: u32| [value.to_ne_bytes(), selector.to_ne_bytes()].concat();
    if bound.flags != 0 {
        put.bytes(FLAGS, &bitfield(bound.flags, bound.flags));
    }
    if let Some(hw_stats) = bound.hw_stats {
        // TCA_ACT_HW_STATS_ANY.
        put.bytes(HW_STATS, &bitfield(hw_stats, 3));
    }
    Ok(put)
}

/// What stands in an action's `TCA_ACT_OPTIONS`, and under the old word `police` by itself.
pub(super) fn encode_options(action: &Action, index: u32, links: &Links) -> Result<Put, Lacking> {
    let mut put = Put::default();
    match action {
        Action::Gact(a) => gact::encode(a, index, &mut put),
        Action::Mirred(a) => mirred::encode(a, index, links, &mut put)?,
        Action::Skbedit(a) => skbedit::encode(a, index, &mut put),
        Action::Skbmod(a) => skbmod::encode(a, index, &mut put),
        Action::Csum(a) => csum::encode(a, index, &mut put),
        Action::Pedit(a) => pedit::encode(a, index, &mut put),
        Action::Vlan(a) => vlan::encode(a, index, &mut put),
        Action::Nat(a) => nat::encode(a, index, &mut put),
        Action::Simple(a) => simple::encode(a, index, &mut put),
        Action::Police(a) => police::encode(a, index, &mut put),
    }
    Ok(put)
}
