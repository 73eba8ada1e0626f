//! `nat`: parse, print.

use std::net::Ipv4Addr;

use serde_json::{Map, Value};

use super::super::args::Args;
use super::super::error::TcError;
use super::super::number::{Prefix, prefix};
use super::{ActionParams, control_or, gact, trailing_index};
use crate::rules::{Control, Nat};
use crate::types::NatRule;

const USAGE: &[&str] = &[
    "Usage: ... nat NAT",
    "NAT := DIRECTION OLD NEW",
    "DIRECTION := { ingress | egress }",
    "OLD := PREFIX",
    "NEW := ADDRESS",
];

/// `parse_nat()`, tc/m_nat.c: the current word is `nat`.
///
/// # Errors
/// What tc says.
pub fn parse(args: &mut Args<'_>) -> Result<(ActionParams, u32), TcError> {
    let start = args.position();
    let mut rule = None;
    while args.matches("nat") {
        let direction = args.next_word()?;
        let token = args.position();
        let Some(read) = translation(args)? else {
            return Err(explained(&format!("Illegal nat construct ({direction})"), token));
        };
        rule = Some(read);
    }
    if args.matches("help") {
        let mut error = TcError::usage(USAGE[0], args.position(), "write nat ingress OLD NEW");
        error.messages.extend(USAGE[1..].iter().map(|s| (*s).to_owned()));
        return Err(error);
    }
    let Some(rule) = rule else { return Err(explained("", start)) };
    let control = control_or(args, Control::Pass);
    let index = trailing_index(args, 10, "Nat: Illegal \"index\"")?.unwrap_or_default();
    Ok((ActionParams::Nat(Nat { rule, control }), index))
}

/// `parse_nat_args()`: direction, prefix, address; the current word is the direction. `None`: one of them is not right.
fn translation(args: &mut Args<'_>) -> Result<Option<NatRule>, TcError> {
    let egress = args.matches("egress");
    if !egress && !args.matches("ingress") {
        return Ok(None);
    }
    let Some((old, bits)) = address(args.next_word()?) else { return Ok(None) };
    let Some((new, _)) = address(args.next_word()?) else { return Ok(None) };
    args.skip();
    // Shifting 32 bits by 32 shifts by 0 on the machines that tc runs on: a prefix of no bits compares them all.
    let mask = u32::MAX.wrapping_shl(32 - bits);
    Ok(Some(NatRule { egress, old, new, mask }))
}

fn address(text: &str) -> Option<(u32, u32)> {
    match prefix(text, Some(false))? {
        Prefix::V4(address, bits) => Some((address.into(), bits)),
        Prefix::V6(..) | Prefix::Any => None,
    }
}

/// A message, if there is one, and the usage behind it.
fn explained(message: &str, token: usize) -> TcError {
    let hint = "write nat ingress OLD NEW (destination) or nat egress OLD NEW (source)";
    let mut error = TcError::parse(message, token, hint);
    error.messages.retain(|m| !m.is_empty());
    error.messages.extend(USAGE.iter().map(|s| (*s).to_owned()));
    error
}

const fn direction(rule: &NatRule) -> &'static str {
    if rule.egress { "egress" } else { "ingress" }
}

/// The old prefix as tc 6.1 prints it: it counts bits of the mask in the byte order of the machine, so most prefixes are /32.
fn old_text(rule: &NatRule) -> String {
    let bits = 32 - rule.mask.swap_bytes().trailing_zeros();
    format!("{}/{bits}", Ipv4Addr::from(rule.old))
}

/// What stands between `action order N: ` and the index.
#[must_use]
pub fn text(nat: &Nat) -> String {
    let (direction, old, new) = (direction(&nat.rule), old_text(&nat.rule), Ipv4Addr::from(nat.rule.new));
    format!(" nat {direction} {old} {new} {}\n\t ", gact::control_text(nat.control))
}

/// Its JSON, before the index.
pub fn json(nat: &Nat, out: &mut Map<String, Value>) {
    out.insert("type".to_owned(), "nat".into());
    out.insert("direction".to_owned(), direction(&nat.rule).into());
    out.insert("old_addr".to_owned(), old_text(&nat.rule).into());
    out.insert("new_addr".to_owned(), Ipv4Addr::from(nat.rule.new).to_string().into());
    out.insert("control_action".to_owned(), gact::control_json(nat.control));
}
