//! `viscum tc …`: commands in tc's own words for a running forwarder, with tc's answers and exit codes. What they change is in
//! force when they return; a batch is put in force as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::forward::Running;
use super::rules::HostDevices;
use crate::host::netns::{self, Identity};
use crate::tc::actions::ActionsCommand;
use crate::tc::error::exit;
use crate::tc::{Command, Line, Operation, Store, TcError, Token, command, split};
use crate::worker::monotonic_ms;

/// What a client asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// The words after `tc`; of a batch the options before it.
    pub words: Vec<String>,
    /// A batch: the name of the file. Its text follows the request, to the end of what the client sends.
    pub batch: Option<String>,
    /// `-force`: a batch goes on after a bad line.
    pub force: bool,
    /// The network namespace of the client: device names are meant there.
    pub netns: Option<Identity>,
}

/// A piece of the answer, as it comes. The last one is `Code`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Piece {
    /// For standard output.
    Stdout(String),
    /// For standard error.
    Stderr(String),
    /// tc's exit code: 0, 1, 2, 255.
    Code(u8),
}

/// Takes pieces of an answer; false: nobody wants any more.
pub type Tell<'a> = &'a mut dyn FnMut(Piece) -> bool;

fn failed(error: &TcError, tell: Tell<'_>) -> u8 {
    tell(Piece::Stderr(error.messages.iter().map(|m| format!("{m}\n")).collect()));
    error.exit_code
}

/// Runs the commands on the forwarder's state and puts what they changed in force. If that fails, nothing changed. `text` is that of
/// the batch, if it is one. Returns tc's exit code.
pub fn tc(running: &mut Running, request: &Request, text: &str, tell: Tell<'_>) -> u8 {
    // Without forwarding nothing can be refused when it is put in force, so the state is changed where it is: it may be large.
    let mut state =
        State { store: if running.state_only { running.take_store() } else { running.store() }, changed: false };
    if running.forget_gone(&mut state.store) {
        state.changed = true;
    }
    let code = match &request.batch {
        None => single(&mut state, running, request, tell),
        Some(name) => batch(&mut state, running, request, (name, text), tell),
    };
    // Which devices the commands were about is remembered.
    running.forget_gone(&mut state.store);
    if running.state_only {
        running.put_store(state.store);
        return code;
    }
    // Lines before a bad one of a batch stay, as with tc.
    if state.changed {
        if let Err(error) = running.change(state.store) {
            return failed(&TcError::kernel(format!("viscum: {error}").trim_end_matches('.'), ""), tell);
        }
    }
    code
}

/// The state that commands are for: the forwarder's own until one changes it, then a copy.
struct State {
    store: Arc<Store>,
    changed: bool,
}

impl State {
    /// To be changed, or asked for what needs the time.
    fn own(&mut self) -> &mut Store {
        let store = Arc::make_mut(&mut self.store);
        store.set_now_ms(monotonic_ms());
        store
    }
}

fn single(state: &mut State, running: &Running, request: &Request, tell: Tell<'_>) -> u8 {
    // A client that cannot say where it is counts as being here.
    let own = request.netns.map_or(Some(None), netns::name_of);
    let mut line = line_of(&request.words);
    line.command = line.command.and_then(|c| in_namespace(c, own.as_ref()));
    one(state, running, &line, &running.devices(), tell).map_or_else(|error| failed(&error, tell), |()| 0)
}

fn batch(state: &mut State, running: &Running, request: &Request, file: (&str, &str), tell: Tell<'_>) -> u8 {
    let own = request.netns.map_or(Some(None), netns::name_of);
    let devices = running.devices();
    let mut code = 0;
    let env = BTreeMap::new();
    for words in split(file.1, &env) {
        let number = words.number;
        let options = request.words.iter().map(String::as_str);
        let tokens = with_program(options, words.tokens);
        let command = match words.error {
            Some(error) => Err(error),
            None => command::parse(&tokens),
        };
        let command = command.and_then(|c| in_namespace(c, own.as_ref()));
        let line = Line { number, text: words.text, tokens, command };
        match one(state, running, &line, &devices, tell) {
            Ok(()) => {}
            Err(error) => {
                failed(&error, tell);
                if error.exit_code == exit::USAGE {
                    return exit::USAGE;
                }
                code = exit::PARSE;
                let wanted = tell(Piece::Stderr(format!("Command failed {}:{number}\n", file.0)));
                if !request.force || !wanted {
                    break;
                }
            }
        }
    }
    code
}

/// The tokens of a command with `tc` and its options in front.
fn with_program<'a>(options: impl Iterator<Item = &'a str>, tokens: Vec<Token>) -> Vec<Token> {
    let token = |text: &str| Token { text: text.to_owned(), line: 1, column: 1, len: text.chars().count() };
    let mut all: Vec<Token> = std::iter::once("tc").chain(options).map(token).collect();
    all.extend(tokens);
    all
}

/// Applies one command to the state.
fn one(
    state: &mut State,
    running: &Running,
    line: &Line,
    devices: &HostDevices,
    tell: Tell<'_>,
) -> Result<(), TcError> {
    let command = line.command.as_ref().map_err(Clone::clone)?;
    let changes = match command.operation {
        Operation::Qdisc(_) | Operation::Filter(_) | Operation::Chain(_) => true,
        Operation::Actions(ref commands, _) => commands.iter().any(|c| match c {
            ActionsCommand::Put { .. } | ActionsCommand::Delete(_) | ActionsCommand::Flush(_) => true,
            ActionsCommand::Get(_) | ActionsCommand::List { .. } => false,
        }),
        Operation::QdiscShow(_)
        | Operation::FilterShow(_)
        | Operation::FilterGet(..)
        | Operation::ChainShow(_)
        | Operation::Print(_) => false,
    };
    if let Operation::FilterShow(show) = &command.operation {
        let listed = |tell: Tell<'_>| {
            let (netns, now_ms) = (command.netns.as_deref(), monotonic_ms());
            state.store.show_filters(show, netns, devices, &running.counters(), now_ms, &mut |piece| {
                tell(Piece::Stdout(std::mem::take(piece)))
            })
        };
        return listed(tell);
    }
    let store = state.own();
    let applied = if changes && !matches!(command.operation, Operation::Actions(..)) {
        store.apply_line(line, devices)?
    } else {
        store.apply_with(command, devices, &running.counters())?
    };
    if !applied.stdout.is_empty() {
        tell(Piece::Stdout(applied.stdout));
    }
    for text in applied.stderr.into_iter().chain(applied.notes.into_iter().map(|n| format!("viscum: note: {n}"))) {
        tell(Piece::Stderr(text + "\n"));
    }
    state.changed |= changes;
    Ok(())
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
