//! `csum`: parse, print.

use serde_json::{Map, Value};

use super::super::args::Args;
use super::super::error::TcError;
use super::{ActionParams, control_or, gact, trailing_index};
use crate::rules::{Control, Csum};
use crate::types::Checksums;

/// Words in the order in which tc tries prefixes of them (tc/m_csum.c).
const WORDS: [(&str, Checksums); 12] = [
    ("iph", Checksums::IPV4_HEADER),
    ("ip4h", Checksums::IPV4_HEADER),
    ("ipv4h", Checksums::IPV4_HEADER),
    ("icmp", Checksums::ICMP),
    ("igmp", Checksums::IGMP),
    ("tcp", Checksums::TCP),
    ("udp", Checksums::UDP),
    ("udplite", Checksums::UDPLITE),
    ("sctp", Checksums::SCTP),
    ("and", Checksums(0)),
    ("or", Checksums(0)),
    ("+", Checksums(0)),
];

/// `parse_csum()`: the current word is `csum`.
///
/// # Errors
/// What tc says.
pub fn parse(args: &mut Args<'_>) -> Result<(ActionParams, u32), TcError> {
    let start = args.position();
    let mut update = Checksums::default();
    while args.matches("csum") {
        args.next_word()?;
        while let Some((_, more)) = WORDS.iter().find(|(word, _)| args.matches(word)) {
            update = update.with(*more);
            args.skip();
        }
    }
    let control = control_or(args, Control::Pass);
    let mut ahead = args.clone();
    ahead.skip();
    let index = trailing_index(args, 10, &format!("Illegal \"index\" ({}) <csum>", ahead.word().unwrap_or_default()))?;
    if update == Checksums::default() {
        let hint = "say which checksums: iph, icmp, igmp, tcp, udp, udplite, sctp";
        return Err(TcError::parse("Illegal csum construct, empty <UPDATE> list", start, hint));
    }
    Ok((ActionParams::Csum(Csum { update, control }), index.unwrap_or_default()))
}

fn names(update: Checksums) -> String {
    let names: Vec<&str> = Checksums::NAMES.iter().filter(|(one, _)| update.has(*one)).map(|(_, name)| *name).collect();
    if names.is_empty() { "?empty".to_owned() } else { names.join(", ") }
}

/// What stands between `action order N: ` and the index.
#[must_use]
pub fn text(csum: &Csum) -> String {
    format!("csum ({}) action {}\n\t", names(csum.update), gact::control_text(csum.control))
}

/// Its JSON, before the index.
pub fn json(csum: &Csum, out: &mut Map<String, Value>) {
    out.insert("csum".to_owned(), names(csum.update).into());
    out.insert("control_action".to_owned(), gact::control_json(csum.control));
}
