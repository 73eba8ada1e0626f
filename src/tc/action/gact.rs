//! `gact` and the control words (`pass`, `drop`, `goto chain N` …) that all actions share: parse, print.

use serde_json::{Map, Value, json};

use super::super::args::Args;
use super::super::error::TcError;
use super::super::number::{get_u16, get_u32, matches};
use super::ActionParams;
use crate::rules::{Control, Gact, Random, RandomKind};

/// Highest chain and jump count: `TC_ACT_EXT_VAL_MASK`.
const VALUE_MAX: u32 = 0x0fff_ffff;
/// Highest `val` of `random`.
const RANDOM_VAL_MAX: u16 = 10_000;

const USAGE: &[&str] = &[
    "Usage: ... gact <ACTION> [RAND] [INDEX]",
    "Where: \tACTION := reclassify | drop | continue | pass | pipe |",
    "       \t          goto chain <CHAIN_INDEX> | jump <JUMP_COUNT>",
    "\tRAND := random <RANDTYPE> <ACTION> <VAL>",
    "\tRANDTYPE := netrand | determ",
    "\tVAL : = value not exceeding 10000",
    "\tJUMP_COUNT := Absolute jump from start of action list",
    "\tINDEX := index value used",
    "",
];

/// `action_a2n()` (tc/tc_util.c): a prefix of a control word. `goto` and `jump` still lack their number.
#[must_use]
pub fn control_word(word: &str) -> Option<Control> {
    let words = [
        ("continue", Control::Continue),
        ("drop", Control::Shot),
        ("shot", Control::Shot),
        ("pass", Control::Pass),
        ("ok", Control::Pass),
        ("reclassify", Control::Reclassify),
        ("pipe", Control::Pipe),
        ("goto", Control::GotoChain(0)),
        ("jump", Control::Jump(0)),
        ("trap", Control::Trap),
    ];
    words.into_iter().find(|(name, _)| matches(word, name)).map(|(_, control)| control)
}

/// A control with its number (`parse_action_control()`).
///
/// # Errors
/// What tc says, with exit code 1.
pub fn parse_control(args: &mut Args<'_>) -> Result<Control, TcError> {
    let word = args.word().ok_or_else(|| TcError::incomplete(args.position()))?;
    let hint =
        "an action is pass, drop, continue, pipe, reclassify, goto chain N, jump N, trap, mirred, skbedit or skbmod";
    let mut control =
        control_word(word).ok_or_else(|| TcError::parse(format!("Bad action type {word}"), args.position(), hint))?;
    if let Control::GotoChain(chain) = &mut control {
        if !matches(args.next_word()?, "chain") {
            return Err(TcError::parse("\"chain index\" expected", args.position(), "write goto chain N"));
        }
        let text = args.next_word()?;
        *chain = get_u32(text, 10)
            .filter(|n| *n <= VALUE_MAX)
            .ok_or_else(|| TcError::parse("Illegal \"chain index\"", args.position(), "a chain is a number"))?;
    }
    if let Control::Jump(count) = &mut control {
        let text = args.next_word()?;
        *count = get_u32(text, 10).filter(|n| *n <= VALUE_MAX).ok_or_else(|| {
            TcError::parse(
                format!("Invalid \"jump count\" ({text})"),
                args.position(),
                "jump takes a number of actions",
            )
        })?;
    }
    args.skip();
    Ok(control)
}

/// A control; a bad one ends tc with its usage text.
fn control_or_usage(args: &mut Args<'_>) -> Result<Control, TcError> {
    parse_control(args).map_err(|error| match error.exit_code {
        super::super::error::exit::PARSE => {
            let token = error.token.unwrap_or_default();
            let mut usage = TcError::usage(error.messages[0].clone(), token, error.hint);
            usage.messages.extend(USAGE.iter().map(|s| (*s).to_owned()));
            usage
        }
        _ => error,
    })
}

/// `parse_gact()`: the current word is `gact` or already the control.
///
/// # Errors
/// What tc says.
pub fn parse(args: &mut Args<'_>) -> Result<(ActionParams, u32), TcError> {
    const ILLEGAL: &str = "Illegal \"index\"";
    if args.matches("gact") {
        args.next_word()?;
    }
    if args.matches("index") {
        let index = super::trailing_index(args, 10, ILLEGAL)?.unwrap_or_default();
        return Ok((ActionParams::Gact(Gact { control: Control::Pass, random: None }), index));
    }
    let control = control_or_usage(args)?;
    let random = if args.matches("random") { Some(parse_random(args)?) } else { None };
    let index = super::trailing_index(args, 10, ILLEGAL)?.unwrap_or_default();
    Ok((ActionParams::Gact(Gact { control, random }), index))
}

fn parse_random(args: &mut Args<'_>) -> Result<Random, TcError> {
    let word = args.next_word()?;
    let kind = if matches(word, "netrand") {
        RandomKind::Netrand
    } else if matches(word, "determ") {
        RandomKind::Determ
    } else {
        return Err(TcError::parse("Illegal \"random type\"", args.position(), "use netrand or determ"));
    };
    args.next_word()?;
    let control = control_or_usage(args)?;
    let text = args.word().ok_or_else(|| TcError::incomplete(args.position()))?;
    let val = get_u16(text, 10).filter(|v| *v <= RANDOM_VAL_MAX).ok_or_else(|| {
        TcError::parse(format!("Illegal probability val {text}"), args.position(), "a number from 1 to 10000")
    })?;
    args.skip();
    // The kernel makes it at least 1 (tcf_gact_init()).
    Ok(Random { kind, control, val: val.max(1) })
}

/// How tc prints a control.
#[must_use]
pub fn control_text(control: Control) -> String {
    match control {
        Control::GotoChain(chain) => format!("goto chain {chain}"),
        Control::Jump(count) => format!("jump {count}"),
        Control::Pass
        | Control::Pipe
        | Control::Continue
        | Control::Reclassify
        | Control::Shot
        | Control::Stolen
        | Control::Queued
        | Control::Trap => control_name(control).to_owned(),
    }
}

fn control_name(control: Control) -> &'static str {
    match control {
        Control::Pass => "pass",
        Control::Pipe => "pipe",
        Control::Continue => "continue",
        Control::Reclassify => "reclassify",
        Control::Shot => "drop",
        Control::Stolen => "stolen",
        Control::Queued => "queued",
        Control::Trap => "trap",
        Control::Jump(_) => "jump",
        Control::GotoChain(_) => "goto",
    }
}

/// A control in JSON: `{"type": "goto", "chain": 5}`.
#[must_use]
pub fn control_json(control: Control) -> Value {
    let mut map = Map::new();
    map.insert("type".to_owned(), control_name(control).into());
    match control {
        Control::GotoChain(chain) => drop(map.insert("chain".to_owned(), chain.into())),
        Control::Jump(count) => drop(map.insert("jump".to_owned(), count.into())),
        Control::Pass
        | Control::Pipe
        | Control::Continue
        | Control::Reclassify
        | Control::Shot
        | Control::Stolen
        | Control::Queued
        | Control::Trap => {}
    }
    Value::Object(map)
}

fn random_parts(gact: &Gact) -> (&'static str, Control, u16) {
    match &gact.random {
        None => ("none", Control::Pass, 0),
        Some(Random { kind: RandomKind::Netrand, control, val }) => ("netrand", *control, *val),
        Some(Random { kind: RandomKind::Determ, control, val }) => ("determ", *control, *val),
    }
}

/// What stands between `action order N: ` and the index.
#[must_use]
pub fn text(gact: &Gact) -> String {
    let (kind, control, val) = random_parts(gact);
    let (decision, other) = (control_text(gact.control), control_text(control));
    format!("gact action {decision}\n\t random type {kind} {other} val {val}\n\t ")
}

/// Its JSON, before the index.
pub fn json(gact: &Gact, out: &mut Map<String, Value>) {
    let (kind, control, val) = random_parts(gact);
    out.insert("control_action".to_owned(), control_json(gact.control));
    out.insert("prob".to_owned(), json!({"random_type": kind, "control_action": control_json(control), "val": val}));
}
