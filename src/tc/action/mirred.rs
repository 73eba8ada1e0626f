//! `mirred`: parse, print.

use serde_json::{Map, Value};

use super::super::args::Args;
use super::super::command::Word;
use super::super::error::TcError;
use super::super::number::get_u32;
use super::{ActionParams, MirredSpec, control_or, gact, trailing_index};
use crate::rules::{Control, Mirred, MirredMode};
use crate::types::Direction;

/// What has been read of a mirred action.
#[derive(Default)]
struct Reading {
    direction: Option<Direction>,
    mode: Option<MirredMode>,
    device: Option<Word>,
    index: Option<u32>,
}

/// `parse_mirred()`: the current word is `mirred`.
///
/// # Errors
/// What tc says.
pub fn parse(args: &mut Args<'_>) -> Result<(ActionParams, u32), TcError> {
    let word = args.next_word()?;
    if !args.matches("egress") && !args.matches("ingress") && !args.matches("index") {
        let hint = "write mirred egress redirect dev D (or ingress, or mirror)";
        return Err(TcError::parse(format!("mirred option not supported {word}"), args.position(), hint));
    }
    let mut reading = Reading::default();
    read_direction(args, &mut reading)?;
    let mode = reading.mode.unwrap_or(MirredMode::Redirect);
    let control = match mode {
        MirredMode::Redirect => Control::Stolen,
        MirredMode::Mirror => control_or(args, Control::Pipe),
    };
    if reading.index.is_some() && args.matches("index") {
        return Err(TcError::parse("mirred: Illegal double index", args.position(), "give the index once"));
    }
    let trailing = trailing_index(args, 10, "mirred: Illegal \"index\"")?;
    let direction = reading.direction.unwrap_or(Direction::Egress);
    let spec = MirredSpec { direction, mode, device: reading.device, control };
    Ok((ActionParams::Mirred(spec), trailing.or(reading.index).unwrap_or_default()))
}

/// The loop of `parse_direction()`, up to and with `dev D`. Words that it does not know it passes over, as tc does.
fn read_direction(args: &mut Args<'_>, reading: &mut Reading) -> Result<(), TcError> {
    while args.word().is_some() {
        if args.matches("action") {
            args.next_word()?;
            return Ok(());
        }
        if let Some(direction) = direction_word(args) {
            if reading.direction.is_some_and(|d| d != direction) {
                let message = "Can't have both egress and ingress";
                return Err(TcError::parse(message, args.position(), "choose one direction"));
            }
            reading.direction = Some(direction);
            args.next_word()?;
            continue;
        }
        if args.matches("index") {
            let text = args.next_word()?;
            let illegal = || TcError::parse("Illegal \"index\"", args.position(), "an index is a number from 1");
            reading.index = Some(get_u32(text, 10).ok_or_else(illegal)?);
            if reading.direction.is_none() {
                args.skip();
                return Ok(());
            }
        } else if args.matches("mirror") {
            set_mode(args, reading, MirredMode::Mirror)?;
        } else if args.matches("redirect") {
            set_mode(args, reading, MirredMode::Redirect)?;
        } else if reading.mode.is_some() && args.matches("dev") {
            let text = args.next_word()?.to_owned();
            reading.device = Some(Word { text, token: args.position() });
            args.skip();
            return Ok(());
        }
        args.next_word()?;
    }
    Ok(())
}

fn direction_word(args: &Args<'_>) -> Option<Direction> {
    if args.matches("egress") { Some(Direction::Egress) } else { args.matches("ingress").then_some(Direction::Ingress) }
}

fn set_mode(args: &Args<'_>, reading: &mut Reading, mode: MirredMode) -> Result<(), TcError> {
    if reading.mode.is_some_and(|m| m != mode) {
        return Err(TcError::parse("Can't have both mirror and redir", args.position(), "choose mirror or redirect"));
    }
    reading.mode = Some(mode);
    Ok(())
}

/// What stands between `action order N: ` and the index.
#[must_use]
pub fn text(mirred: &Mirred, device: &str) -> String {
    let direction = match mirred.direction {
        Direction::Egress => "Egress",
        Direction::Ingress => "Ingress",
    };
    let mode = match mirred.mode {
        MirredMode::Redirect => "Redirect",
        MirredMode::Mirror => "Mirror",
    };
    format!("mirred ({direction} {mode} to device {device}) {}\n\t", gact::control_text(mirred.control))
}

/// Its JSON, before the index.
pub fn json(mirred: &Mirred, device: &str, out: &mut Map<String, Value>) {
    let mode = match mirred.mode {
        MirredMode::Redirect => "redirect",
        MirredMode::Mirror => "mirror",
    };
    out.insert("mirred_action".to_owned(), mode.into());
    out.insert("direction".to_owned(), mirred.direction.as_str().into());
    out.insert("to_dev".to_owned(), device.into());
    out.insert("control_action".to_owned(), gact::control_json(mirred.control));
}
