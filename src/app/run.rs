//! `viscum run` from start to end: start, answer questions, end on a signal. What it says goes to the given printer.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::config::Config;
use super::control::{ControlError, Handler, Listener, Request, Response};
use super::forward::{ForwardError, Running, Stopped};
use super::rules::{RulesError, read};
use super::show::show;
use super::takeover::{Found, TakeOverError, Taken};
use super::tc::{Piece, Tell, tc};
use super::watch::watch;
use crate::host::caps;
use crate::tc::error::exit;
use crate::types::DeviceKey;

/// How long a signal may wait.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(50);

/// Why `viscum run` failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Rules, devices, workers.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// Rules files.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The kernel's filters.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// Signals cannot be caught.
    #[error("cannot catch SIGINT and SIGTERM: {0}")]
    Signals(std::io::Error),
}

/// What is told while it runs; printing is the command line's.
pub trait Printer: Send + Sync {
    /// The forwarder forwards.
    fn ready(&self, running: &Running, config: &Config);
    /// Rules or devices were changed; `what` says how.
    fn changed(&self, what: &str);
    /// How `status` is shown.
    fn status(&self, running: &Running, json: bool) -> String;
}

/// How it ended.
pub struct Ended {
    /// What is left of the forwarder.
    pub stopped: Stopped,
    /// Filters that the kernel was to get back and has not.
    pub not_given_back: Option<TakeOverError>,
}

/// Forwards until SIGINT or SIGTERM.
///
/// # Errors
/// [`RunError`]; nothing is left attached.
pub fn run(config: &Config, printer: &Arc<dyn Printer>) -> Result<Ended, RunError> {
    let mut files = read(&config.rules)?;
    // Before the socket: without privilege that would fail too, and say less.
    if !config.state_only {
        caps::require(&[caps::Capability::NetAdmin, caps::Capability::NetRaw, caps::Capability::Bpf])
            .map_err(ForwardError::from)?;
    }
    // Before anything is attached: a signal that comes early must not leave half of it, and a used socket is an error at once.
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(RunError::Signals)?;
    let listener = Listener::bind(&config.socket, config.control_group.as_deref())?;
    let found = config.take_over.as_ref().map(|wanted| Found::read(wanted, config)).transpose()?;
    if let Some(found) = &found {
        found.notes().for_each(|note| printer.changed(&format!("note: {note}")));
        files.splice(0..0, found.files());
    }
    let running = Running::start(&files, config)?;
    // Only now: until here the kernel had the frames, and from here on its filters see none of them.
    let (running, taken) = take_over(running, found)?;
    if let Some(taken) = &taken {
        printer.changed(&taken.told());
    }
    let at_first = running.store();
    let running = Arc::new(Mutex::new(Some(running)));
    if let Some(running) = lock(&running).as_ref() {
        printer.ready(running, config);
    }
    let (asked, told) = (Arc::clone(&running), Arc::clone(printer));
    let listener = Arc::new(listener);
    let serving = Arc::clone(&listener);
    let spawned = std::thread::Builder::new()
        .name("viscum-control".to_owned())
        .spawn(move || serving.serve(&Answers { running: asked, printer: told }));
    if let Err(source) = spawned {
        let not_back = taken.and_then(|taken| taken.give_back().err());
        stop(&running);
        let failed = ControlError::Listen { path: config.socket.clone(), source };
        return Err(not_back.map_or_else(|| failed.into(), RunError::from));
    }
    // A worker that panicked ends the forwarder as well: its frames would wait for ever.
    while signals.pending().next().is_none() && lock(&running).as_ref().is_some_and(Running::is_whole) {
        std::thread::sleep(PATIENCE);
        if let Some(running) = lock(&running).as_mut() {
            tend(running, printer);
        }
    }
    listener.remove();
    // Before the forwarder lets go of the frames.
    let not_given_back = taken.and_then(|taken| {
        let same = lock(&running).as_ref().is_none_or(|running| Arc::ptr_eq(&at_first, &running.store()));
        give_back(&taken, config, same, printer).err()
    });
    match stop(&running) {
        Some(stopped) => {
            stopped.let_watchers_end();
            Ok(Ended { stopped, not_given_back })
        }
        None => unreachable!("only this function takes the forwarder out"),
    }
}

/// Takes the kernel's filters away, which the forwarder has been started with; on failure it is ended.
fn take_over(running: Running, found: Option<Found>) -> Result<(Running, Option<Taken>), RunError> {
    match found.map(|found| found.take(&running.served)).transpose() {
        Ok(taken) => Ok((running, taken)),
        Err(error) => {
            drop(running.stop());
            Err(error.into())
        }
    }
}

/// Gives the kernel its filters back, if that is wanted. `same`: the rules are those of the start.
fn give_back(taken: &Taken, config: &Config, same: bool, printer: &Arc<dyn Printer>) -> Result<(), TakeOverError> {
    let mut told = match &config.take_over {
        Some(wanted) if wanted.give_back => taken.give_back()?,
        Some(_) | None => taken.kept(),
    };
    if !same {
        told.push_str(". They are as they were taken: what was changed in viscum since then is not in them");
    }
    printer.changed(&told);
    Ok(())
}

/// Looks after the devices and says what happened to them.
fn tend(running: &mut Running, printer: &Arc<dyn Printer>) {
    running.tend().iter().for_each(|what| printer.changed(what));
}

/// A forwarder, until it is taken out to be stopped.
pub type Shared = Arc<Mutex<Option<Running>>>;

fn lock(running: &Shared) -> std::sync::MutexGuard<'_, Option<Running>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stop(running: &Shared) -> Option<Stopped> {
    lock(running).take().map(Running::stop)
}

/// What the control socket's thread answers with.
pub struct Answers {
    /// Who is asked.
    pub running: Shared,
    /// How it is shown.
    pub printer: Arc<dyn Printer>,
}

impl Handler for Answers {
    fn answer(&self, request: Request) -> Response {
        answer(&self.running, &self.printer, request)
    }

    fn watch(&self, request: &super::watch::Request, client: &UnixStream) {
        // A client that is gone needs no answer.
        let _gone = watch(&self.running, request, client);
    }

    fn tc(&self, request: &super::tc::Request, text: &str, tell: Tell<'_>) -> u8 {
        match lock(&self.running).as_mut() {
            Some(running) => {
                tend(running, &self.printer);
                tc(running, request, text, tell)
            }
            None => {
                tell(Piece::Stderr("viscum: the forwarder is ending\n".to_owned()));
                exit::KERNEL
            }
        }
    }
}

fn answer(running: &Shared, printer: &Arc<dyn Printer>, request: Request) -> Response {
    let mut guard = lock(running);
    let Some(running) = guard.as_mut() else {
        return Response::failed("the forwarder is ending".to_owned());
    };
    tend(running, printer);
    let failed = |error: ForwardError| Response::failed(error.to_string());
    let done = Response::done;
    match request {
        Request::Show { device, netns, ingress, statistics, json } => {
            let direction = Request::direction(ingress);
            match show(running, device.as_deref(), netns.as_deref(), direction, statistics, json) {
                Ok(text) => done(text),
                Err(text) => Response::failed(text),
            }
        }
        Request::Status { json } => done(printer.status(running, json)),
        Request::Bypass { device, netns, on } => {
            let key = DeviceKey::new(netns.as_deref(), &device);
            let words = if on { "are taken away" } else { "are back" };
            match running.bypass(&key, on) {
                Ok(()) => {
                    let text = format!("the ingress filters of {key} {words}\n");
                    printer.changed(text.trim_end());
                    done(text)
                }
                Err(error) => failed(error),
            }
        }
        Request::Tc(_) | Request::Watch(_) => Response::failed("this is answered in pieces".to_owned()),
        Request::Reload { files } => match running.reload(&files) {
            Ok(notes) => {
                let mut text: String =
                    notes.iter().map(|(file, note)| format!("{file}:{}: {}\n", note.line, note.text)).collect();
                text.push_str(&format!("{} filters are in force\n", running.rules.store.filter_count()));
                printer.changed("all rules were replaced");
                done(text)
            }
            Err(error) => failed(error),
        },
    }
}
