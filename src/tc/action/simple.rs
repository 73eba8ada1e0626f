//! `simple`: parse, print.

use serde_json::{Map, Value};

use super::super::args::Args;
use super::super::error::TcError;
use super::{ActionParams, control_or, trailing_index};
use crate::rules::{Control, Simple};

/// `SIMP_MAX_DATA` with its terminating zero.
const DATA_LEN_MAX: usize = 31;

const USAGE: &[&str] = &[
    "Usage:... simple [sdata STRING] [index INDEX] [CONTROL]",
    "\tSTRING being an arbitrary string",
    "\tINDEX := optional index value used",
    "\tCONTROL := reclassify|pipe|drop|continue|ok",
];

/// `simple` as written.
#[derive(Clone, Debug)]
pub struct SimpleSpec {
    /// `sdata`; `None`: it can only bind an action that exists.
    pub data: Option<String>,
    /// How to go on.
    pub control: Control,
}

/// `parse_simple()`, tc/m_simple.c: the current word is `simple`.
///
/// # Errors
/// What tc says.
pub fn parse(args: &mut Args<'_>) -> Result<(ActionParams, u32), TcError> {
    let start = args.position();
    let mut data = None;
    loop {
        if args.matches("simple") {
            args.next_word()?;
        } else if args.matches("sdata") {
            data = Some((args.next_word()?.to_owned(), args.position()));
            args.skip();
        } else {
            break;
        }
    }
    if args.matches("help") {
        let mut error = TcError::usage(USAGE[0], args.position(), "write simple sdata TEXT");
        error.messages.extend(USAGE[1..].iter().map(|s| (*s).to_owned()));
        return Err(error);
    }
    let control = control_or(args, Control::Pipe);
    let mut ahead = args.clone();
    ahead.skip();
    let illegal = format!("simple: Illegal \"index\" ({})", ahead.word().unwrap_or_default());
    let index = trailing_index(args, 10, &illegal)?;
    if data.is_none() && index.is_none() {
        let mut error = TcError::parse(USAGE[0], start, "write simple sdata TEXT");
        error.messages.extend(USAGE[1..].iter().map(|s| (*s).to_owned()));
        return Err(error);
    }
    if let Some((text, token)) = data.as_ref().filter(|(text, _)| text.len() > DATA_LEN_MAX) {
        let message = format!("simple: Illegal string len {} <{text}>", text.len());
        return Err(TcError::parse(message, *token, format!("use at most {DATA_LEN_MAX} bytes")));
    }
    let data = data.map(|(text, _)| text);
    Ok((ActionParams::Simple(SimpleSpec { data, control }), index.unwrap_or_default()))
}

/// What stands between `action order N: ` and the index.
#[must_use]
pub fn text(simple: &Simple) -> String {
    format!("Simple <{}>\n\t ", simple.data)
}

/// Its JSON, before the index: as newer versions of tc print it, since 6.1 prints none that is valid.
pub fn json(simple: &Simple, out: &mut Map<String, Value>) {
    out.insert("simple".to_owned(), simple.data.clone().into());
}
