//! `viscum tc …`: commands in tc's own words for a running forwarder, with tc's answers and exit codes. What they change is in
//! force when they return; a batch is put in force as a whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::forward::Running;
use super::rules::HostDevices;
use crate::host::netns::{self, Identity};
use crate::tc::error::exit;
use crate::tc::{Command, Line, Operation, Store, TcError, Token, command, parse_script};
use crate::worker::monotonic_ms;

/// What a client asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// The words after `tc`; of a batch the options before it.
    pub words: Vec<String>,
    /// A batch: name and text of the file.
    pub batch: Option<(String, String)>,
    /// `-force`: a batch goes on after a bad line.
    pub force: bool,
    /// The network namespace of the client: device names are meant there.
    pub netns: Option<Identity>,
}

/// What tc would have printed, and its exit code.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Exit code: 0, 1, 2, 255.
    pub code: u8,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Answer {
    fn failed(&mut self, error: &TcError) {
        self.code = error.exit_code;
        for message in &error.messages {
            self.stderr.push_str(message);
            self.stderr.push('\n');
        }
    }

    fn refused(&mut self, text: &str) {
        self.failed(&TcError::kernel(text.trim_end_matches('.'), ""));
    }
}

/// Runs the commands on the forwarder's state and puts what they changed in force. If that fails, nothing changed.
pub fn tc(running: &mut Running, request: &Request) -> Answer {
    let mut answer = Answer::default();
    // A client that cannot say where it is counts as being here.
    let own = request.netns.map_or(Some(None), netns::name_of);
    let mut store = running.rules.store.clone();
    store.set_now_ms(monotonic_ms());
    let devices = running.devices();
    let lines = match &request.batch {
        None => vec![line_of(&request.words)],
        Some((_, text)) => batch_lines(&request.words, text),
    };
    let mut changed = false;
    let mut failed_lines = false;
    for line in &lines {
        let line = Line { command: line.command.clone().and_then(|c| in_namespace(c, own.as_ref())), ..line.clone() };
        match one(&mut store, running, &line, &devices, &mut answer) {
            Ok(change) => changed |= change,
            Err(error) => {
                answer.failed(&error);
                let Some((name, _)) = &request.batch else { return answer };
                failed_lines = true;
                if error.exit_code == exit::USAGE {
                    break;
                }
                answer.stderr.push_str(&format!("Command failed {name}:{}\n", line.number));
                answer.code = exit::PARSE;
                if !request.force {
                    break;
                }
            }
        }
    }
    // Lines before a bad one of a batch stay, as with tc.
    if changed {
        if let Err(error) = running.change(store) {
            answer.refused(&format!("viscum: {error}"));
        }
    }
    if !failed_lines && request.batch.is_some() && answer.stderr.is_empty() {
        answer.code = 0;
    }
    answer
}

/// Applies one command to the store; whether it may have changed it.
fn one(
    store: &mut Store,
    running: &Running,
    line: &Line,
    devices: &HostDevices,
    answer: &mut Answer,
) -> Result<bool, TcError> {
    let command = line.command.as_ref().map_err(Clone::clone)?;
    let changes = match command.operation {
        Operation::Qdisc(_) | Operation::Filter(_) | Operation::Chain(_) => true,
        Operation::QdiscShow(_) | Operation::FilterShow(_) | Operation::ChainShow(_) | Operation::Print(_) => false,
    };
    let applied = if changes {
        store.apply_line(line, devices)?
    } else {
        store.apply_with(command, devices, &running.counters())?
    };
    answer.stdout.push_str(&applied.stdout);
    for text in applied.stderr.into_iter().chain(applied.notes.into_iter().map(|n| format!("viscum: note: {n}"))) {
        answer.stderr.push_str(&text);
        answer.stderr.push('\n');
    }
    Ok(changes)
}

/// The words of a command line, as a line of a script.
fn line_of(words: &[String]) -> Line {
    let mut column = 1;
    let mut tokens = Vec::with_capacity(words.len() + 1);
    for text in std::iter::once("tc").chain(words.iter().map(String::as_str)) {
        let len = text.chars().count();
        tokens.push(Token { text: text.to_owned(), line: 1, column, len });
        column += len + 1;
    }
    let command = command::parse(&tokens);
    Line { number: 1, text: format!("tc {}", words.join(" ")), tokens, command }
}

/// The lines of a batch file: each is what would stand after `tc`, with the options that were given before `-batch`.
fn batch_lines(options: &[String], text: &str) -> Vec<Line> {
    let script = parse_script(text, "batch", &BTreeMap::new());
    let mut lines = script.lines;
    for line in &mut lines {
        let words = options.iter().map(String::as_str).chain(line.tokens.iter().map(|t| t.text.as_str()));
        let words: Vec<String> = words.map(str::to_owned).collect();
        *line = Line { number: line.number, ..line_of(&words) };
    }
    lines
}

/// Names of devices are meant in the client's namespace; one that is the forwarder's own needs no name.
fn in_namespace(mut command: Command, own: Option<&Option<String>>) -> Result<Command, TcError> {
    command.netns = match (command.netns, own) {
        (Some(name), _) if netns::is_own(&name) => None,
        (Some(name), _) => Some(name),
        (None, Some(own)) => own.clone(),
        (None, None) if matches!(command.operation, Operation::Print(_)) => None,
        (None, None) => {
            let text = "viscum: the forwarder is in another network namespace than this command, which has no name there; \
                        say which is meant with tc -n NETNS, or use ip netns exec NETNS";
            return Err(TcError::kernel(text, ""));
        }
    };
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_the_options_before_it_and_its_own_line_numbers() {
        let lines = batch_lines(&["-n".to_owned(), "x".to_owned()], "# one\nqdisc add dev a ingress\n\nnonsense\n");
        assert_eq!(lines.iter().map(|l| l.number).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(lines[0].command.as_ref().unwrap().netns.as_deref(), Some("x"));
        assert!(lines[1].command.is_err());
    }
}
