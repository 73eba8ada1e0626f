//! The asking side of `viscum trace`, `viscum capture` and `viscum latency`: sends the request and hands on what comes, until a signal. It prints nothing.

use std::io::{self, BufRead, BufReader, Read};
use std::net::Shutdown;
use std::path::Path;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Piece, Request};
use crate::app::control::{self, ControlError, connect, write_line};
use crate::wire::{Filter, FilterError};

/// Why frames could not be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The filter.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The forwarder is not there, or broke off.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// It refused, or what it wrote could not be taken.
    #[error("{0}")]
    Refused(String),
    /// Signals cannot be caught.
    #[error("cannot catch SIGINT and SIGTERM: {0}")]
    Signals(io::Error),
    /// What came cannot be written.
    #[error("cannot write what came: {0}; is the disk full, or the reader gone?")]
    Write(io::Error),
}

/// What is handed on.
#[derive(Debug)]
pub enum Heard<'a> {
    /// For standard output, or the file.
    Out(&'a [u8]),
    /// For standard error.
    Note(&'a str),
}

/// Asks the forwarder that listens on `path`, and hands on what comes until it ends or SIGINT or SIGTERM does; the forwarder's last words
/// are handed on then.
///
/// # Errors
/// [`WatchError`].
pub fn ask_watch(
    path: &Path,
    request: Request,
    hear: &mut dyn FnMut(Heard<'_>) -> io::Result<()>,
) -> Result<(), WatchError> {
    // Here as well: a wrong filter is told without a forwarder.
    let _fits: Filter = request.filter.parse()?;
    let broken = |reason: String| ControlError::Broken { path: path.to_owned(), reason };
    let stream = connect(path)?;
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(WatchError::Signals)?;
    write_line(&stream, &control::Request::Watch(request)).map_err(|e| broken(e.to_string()))?;
    let to = stream.try_clone().map_err(|e| broken(e.to_string()))?;
    let handle = signals.handle();
    let ending = std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            // The forwarder sees that nothing more is wanted, and sends what it has and the end.
            let _gone = to.shutdown(Shutdown::Write);
        }
    });
    let heard = hear_all(BufReader::new(&stream), hear, &broken);
    handle.close();
    let _it_cannot_panic = ending.join();
    heard
}

fn hear_all(
    mut input: BufReader<impl Read>,
    hear: &mut dyn FnMut(Heard<'_>) -> io::Result<()>,
    broken: &dyn Fn(String) -> ControlError,
) -> Result<(), WatchError> {
    let mut line = String::new();
    let mut bytes = Vec::new();
    loop {
        line.clear();
        let read = input.read_line(&mut line).map_err(|e| broken(e.to_string()))?;
        if read == 0 {
            return Err(broken("it ended before its answer did".to_owned()).into());
        }
        match serde_json::from_str(&line).map_err(|e| broken(format!("{e} in {line:?}")))? {
            Piece::Text(text) => hear(Heard::Out(text.as_bytes())).map_err(WatchError::Write)?,
            Piece::Note(text) => hear(Heard::Note(&text)).map_err(WatchError::Write)?,
            Piece::Bytes(len) => {
                bytes.clear();
                let copied =
                    (&mut input).take(len as u64).read_to_end(&mut bytes).map_err(|e| broken(e.to_string()))?;
                if copied < len {
                    return Err(broken("it ended within a frame".to_owned()).into());
                }
                hear(Heard::Out(&bytes)).map_err(WatchError::Write)?;
            }
            Piece::End { ok: true, text } => return hear(Heard::Note(&text)).map_err(WatchError::Write),
            Piece::End { ok: false, text } => return Err(WatchError::Refused(text)),
        }
    }
}
