//! `tc filter get` (`tc_filter_get()`, tc/tc_filter.c): one filter by all that names it. It changes no state.

use super::{FilterCommand, kind, option};
use crate::tc::args::Args;
use crate::tc::command::{Parent, Verb};
use crate::tc::error::TcError;

/// Parses from the word after `get` on; the kind is always there.
///
/// # Errors
/// What tc says.
pub fn get(args: &mut Args<'_>) -> Result<FilterCommand, TcError> {
    let mut command = FilterCommand {
        verb: Verb::Change,
        device: None,
        block: None,
        parent: Parent::default(),
        protocol: 0,
        prio: 0,
        chain: None,
        kind: None,
        kind_token: args.position(),
    };
    let (mut handle, mut protocol_set) = (None, false);
    let mut name = None;
    while let Some(word) = args.word() {
        if !option(args, word, &mut command, &mut handle, &mut protocol_set)? {
            command.kind_token = args.position();
            name = Some(word);
            args.skip();
            break;
        }
        args.skip();
    }
    let hint = "name it like: tc filter get dev D parent ffff: protocol ip prio 1 handle 800::800 u32";
    let must = |what: &str| Err(TcError::usage(format!("Must specify {what}"), args.position(), hint));
    match name {
        _ if !protocol_set => return must("filter protocol"),
        _ if command.prio == 0 => return must("filter priority"),
        _ if command.parent == Parent::default() => return must("filter parent"),
        None => return must("filter type"),
        Some(_) if command.device.is_none() && command.block.is_none() => {
            return must("netdevice \"dev\" or block index \"block\"");
        }
        Some(name) => command.kind = Some(kind(args, name, &command, handle.as_ref())?),
    }
    if handle.is_none() {
        let what = "Must specify filter \"handle\"";
        return Err(TcError::usage(what, args.position(), "tc filter show lists the handles"));
    }
    Ok(command)
}
