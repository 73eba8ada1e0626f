//! A rules file as a whole: all of it or nothing, and all bad lines at once. It reads no file.

use std::collections::BTreeMap;

use super::command::Operation;
use super::error::{Diagnostics, TcError};
use super::script::{Line, Script, parse_script};
use super::store::{Devices, Store};
use crate::limits::RULES_FILE_LEN_MAX;

/// What viscum has to say about a line that is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// 1-based line.
    pub line: usize,
    /// The note.
    pub text: String,
}

/// Parses and applies a rules file to a new store. A bad line does not keep later lines from being looked at.
///
/// # Errors
/// Every line that tc or the kernel would refuse, with its place; or that the file holds no filter, or is too long.
pub fn load(
    text: &str,
    file: &str,
    env: &BTreeMap<String, String>,
    devices: &dyn Devices,
) -> Result<(Store, Vec<Note>), Box<Diagnostics>> {
    let mut store = Store::new();
    let notes = load_into(&mut store, text, file, env, devices)?;
    Ok((store, notes))
}

/// As [`load`], on top of the rules that a store has already. After an error the store holds part of the file: throw it away.
///
/// # Errors
/// As [`load`].
pub fn load_into(
    store: &mut Store,
    text: &str,
    file: &str,
    env: &BTreeMap<String, String>,
    devices: &dyn Devices,
) -> Result<Vec<Note>, Box<Diagnostics>> {
    if text.len() as u64 > RULES_FILE_LEN_MAX {
        let message = format!("the rules file is {} bytes long; viscum takes {RULES_FILE_LEN_MAX}", text.len());
        return Err(Box::new(Diagnostics::whole_file(file, &message, "split it, or generate fewer rules")));
    }
    let script = parse_script(text, file, env);
    let mut notes = Vec::new();
    let mut bad: Vec<(&Line, TcError)> = Vec::new();
    for line in &script.lines {
        match store.apply_line(line, devices) {
            Ok(applied) => notes.extend(applied.notes.into_iter().map(|text| Note { line: line.number, text })),
            Err(error) if is_follow_up(line, &error, &bad) => {}
            Err(error) => bad.push((line, error)),
        }
    }
    if !bad.is_empty() {
        let problems = bad.iter().map(|(line, error)| script.problem(line, error)).collect();
        return Err(Box::new(Diagnostics { file: script.file, problems }));
    }
    if store.filter_count() == 0 || script.lines.is_empty() {
        return Err(Box::new(no_filter(&script)));
    }
    Ok(notes)
}

/// Without its qdisc every filter is refused; one message about the qdisc's line is enough then.
fn is_follow_up(line: &Line, error: &TcError, bad: &[(&Line, TcError)]) -> bool {
    let no_parent = error.messages.iter().any(|m| m.contains("Parent Qdisc doesn't exists"));
    let is_filter = matches!(&line.command, Ok(c) if matches!(c.operation, Operation::Filter(_)));
    let qdisc_failed = |l: &Line| l.tokens.iter().take(6).any(|t| t.text == "qdisc");
    no_parent && is_filter && bad.iter().any(|(l, _)| qdisc_failed(l))
}

fn no_filter(script: &Script) -> Diagnostics {
    if script.lines.is_empty() {
        let hint = "write tc commands into it, one a line; configs/ has examples";
        return Diagnostics::whole_file(&script.file, "the rules file is empty", hint);
    }
    let hint =
        "a filter is what forwards: tc filter add dev DEVICE parent ffff: protocol ip prio 1 u32 match … action …";
    Diagnostics::whole_file(&script.file, "the rules file adds no filter, so nothing would be forwarded", hint)
}
