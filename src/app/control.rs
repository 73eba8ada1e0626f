//! The control socket: one request per connection, a line of JSON, and one answer, a line too; `tc` is answered in pieces. It decides
//! nothing; [`super::running`] does.

use std::fs;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::RULES_FILE_LEN_MAX;
use crate::types::Direction;

/// The longest request, in bytes: a rules file may be in it, with its quotes and ends of lines escaped.
const REQUEST_LEN_MAX: u64 = 2 * RULES_FILE_LEN_MAX;
/// How long a client may take over its request.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

/// What can be asked of the running forwarder.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// Filters, as `tc filter show`.
    Show {
        /// Only this device.
        device: Option<String>,
        /// Its namespace.
        netns: Option<String>,
        /// Only this hook.
        ingress: Option<bool>,
        /// With counters.
        statistics: bool,
        /// As JSON.
        json: bool,
    },
    /// Devices, modes, workers, drops.
    Status {
        /// As JSON.
        json: bool,
    },
    /// Take away or put back the filters of a device's ingress.
    Bypass {
        /// The device.
        device: String,
        /// Its namespace.
        netns: Option<String>,
        /// Take away, or put back.
        on: bool,
    },
    /// Replace all rules.
    Reload {
        /// Name and text of each rules file.
        files: Vec<(String, String)>,
    },
    /// A command, or a batch of them, in tc's words. The answer is a line of JSON for each [`super::tc::Piece`].
    Tc(super::tc::Request),
    /// Frames, as they come. The answer is a line of JSON for each [`super::watch::Piece`], until either side ends it.
    Watch(super::watch::Request),
}

/// Which hook a `show` is about.
impl Request {
    /// The direction that was asked for, if one was.
    #[must_use]
    pub fn direction(ingress: Option<bool>) -> Option<Direction> {
        ingress.map(|i| if i { Direction::Ingress } else { Direction::Egress })
    }
}

/// The forwarder's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Response {
    /// Whether it was done.
    pub ok: bool,
    /// What to print, or why not.
    pub text: String,
}

impl Response {
    /// It was done; what to print.
    #[must_use]
    pub fn done(text: String) -> Self {
        Self { ok: true, text }
    }

    /// It was not; why.
    #[must_use]
    pub fn failed(text: String) -> Self {
        Self { ok: false, text }
    }
}

/// Why the socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another forwarder listens there.
    #[error("another viscum listens on {0}; stop it first, or give this one its own --socket")]
    InUse(PathBuf),
    /// It cannot be made.
    #[error("cannot listen on {path}: {source}; give a path that can be written with --socket")]
    Listen {
        /// The path.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The configured group does not exist.
    #[error("control_group {0:?}: no such group; see getent group")]
    Group(String),
    /// Nobody listens.
    #[error("no forwarder answers on {path}: {source}; start one with `viscum run`, or name its socket with --socket")]
    Connect {
        /// The path.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The answer broke off.
    #[error("the forwarder on {path} broke off: {reason}")]
    Broken {
        /// The path.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
}

/// A listening control socket; the file goes when it is dropped.
#[derive(Debug)]
pub struct Listener {
    path: PathBuf,
    socket: UnixListener,
}

impl Listener {
    /// Listens; a socket file that a killed forwarder left is replaced. Only root, and the group if one is given, can open it.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn bind(path: &Path, group: Option<&str>) -> Result<Self, ControlError> {
        let listen = |source| ControlError::Listen { path: path.to_owned(), source };
        let gid = match group {
            None => None,
            Some(name) => Some(
                nix::unistd::Group::from_name(name)
                    .ok()
                    .flatten()
                    .ok_or_else(|| ControlError::Group(name.to_owned()))?
                    .gid,
            ),
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(listen)?;
        }
        if UnixStream::connect(path).is_ok() {
            return Err(ControlError::InUse(path.to_owned()));
        }
        match fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(listen(e)),
            _ => {}
        }
        // Between bind and chmod nobody else may get in: the mask makes it ours from the start.
        let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(path);
        nix::sys::stat::umask(mask);
        let socket = bound.map_err(listen)?;
        if let Some(gid) = gid {
            nix::unistd::chown(path, None, Some(gid)).map_err(|e| listen(e.into()))?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(listen)?;
        }
        Ok(Self { path: path.to_owned(), socket })
    }

    /// Answers clients until the process ends; run it on a thread of its own. Who watches frames gets another one.
    pub fn serve(&self, handler: &dyn Handler) {
        std::thread::scope(|threads| {
            for stream in self.socket.incoming().flatten() {
                // A client that goes away or sends nonsense is its own problem.
                let _gone = Self::serve_one(stream, handler, threads);
            }
        });
    }

    /// Answers one client; one that watches frames by a thread of its own.
    ///
    /// # Errors
    /// The client went away or took too long.
    pub fn serve_one<'scope>(
        stream: UnixStream,
        handler: &'scope dyn Handler,
        threads: &'scope std::thread::Scope<'scope, '_>,
    ) -> std::io::Result<()> {
        stream.set_read_timeout(Some(CLIENT_TIMEOUT))?;
        stream.set_write_timeout(Some(CLIENT_TIMEOUT))?;
        let mut line = String::new();
        let mut input = BufReader::new((&stream).take(REQUEST_LEN_MAX));
        input.read_line(&mut line)?;
        let request = match serde_json::from_str(&line) {
            Ok(Request::Tc(request)) => return Self::tc(&stream, input, request, handler),
            Ok(Request::Watch(request)) => {
                let watching = std::thread::Builder::new().name("viscum-watching".to_owned());
                let spawned = watching.spawn_scoped(threads, move || handler.watch(&request, &stream));
                return spawned.map(drop);
            }
            Ok(request) => Ok(request),
            Err(e) => Err(Response::failed(format!("the request cannot be read: {e}; is this the same version?"))),
        };
        drop(line);
        write_line(&stream, &request.map_or_else(|refused| refused, |request| handler.answer(request)))
    }

    /// The text of a batch is read before anything is asked of the forwarder: a slow client keeps nobody waiting.
    fn tc(
        stream: &UnixStream,
        mut input: impl Read,
        request: super::tc::Request,
        handler: &dyn Handler,
    ) -> std::io::Result<()> {
        let mut text = String::new();
        if request.batch.is_some() {
            input.read_to_string(&mut text)?;
        }
        let mut out = BufWriter::new(stream);
        let code = handler.tc(&request, &text, &mut |piece| write_line(&mut out, &piece).is_ok());
        write_line(&mut out, &super::tc::Piece::Code(code))?;
        out.flush()
    }
}

pub(super) fn write_line(mut to: impl Write, what: &impl Serialize) -> std::io::Result<()> {
    let mut text = serde_json::to_string(what)?;
    text.push('\n');
    to.write_all(text.as_bytes())
}

/// Who answers.
pub trait Handler: Send + Sync {
    /// The answer to a request other than [`Request::Tc`] and [`Request::Watch`].
    fn answer(&self, request: Request) -> Response;

    /// Sends frames to the client until it, or the forwarder, ends.
    fn watch(&self, request: &super::watch::Request, client: &UnixStream);

    /// Runs tc's words, with the text of a batch; returns tc's exit code.
    fn tc(&self, request: &super::tc::Request, text: &str, tell: super::tc::Tell<'_>) -> u8;
}

impl Listener {
    /// Removes the file: nobody new can ask.
    pub fn remove(&self) {
        let _already_gone = fs::remove_file(&self.path);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Asks the forwarder that listens on `path`.
///
/// # Errors
/// See [`ControlError`].
pub fn ask(path: &Path, request: &Request) -> Result<Response, ControlError> {
    let broken = |reason: String| ControlError::Broken { path: path.to_owned(), reason };
    let stream = connect(path)?;
    write_line(&stream, request).map_err(|e| broken(e.to_string()))?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(|e| broken(e.to_string()))?;
    serde_json::from_str(&answer).map_err(|e| broken(format!("{e} in {answer:?}")))
}

pub(super) fn connect(path: &Path) -> Result<UnixStream, ControlError> {
    UnixStream::connect(path).map_err(|source| ControlError::Connect { path: path.to_owned(), source })
}

/// Asks the forwarder for what tc would do, with the text of a batch; `tell` gets the answer as it comes. Returns tc's exit code.
///
/// # Errors
/// See [`ControlError`].
pub fn ask_tc(
    path: &Path,
    request: super::tc::Request,
    batch: Option<Box<dyn Read + Send>>,
    tell: &mut dyn FnMut(super::tc::Piece),
) -> Result<u8, ControlError> {
    let broken = |reason: String| ControlError::Broken { path: path.to_owned(), reason };
    let stream = connect(path)?;
    write_line(&stream, &Request::Tc(request)).map_err(|e| broken(e.to_string()))?;
    // What is sent and what comes back must not wait for each other, nor the forwarder for whoever reads what is printed.
    let to = stream.try_clone().map_err(|e| broken(e.to_string()))?;
    let sending = std::thread::spawn(move || {
        let sent = batch.map_or(Ok(0), |mut text| std::io::copy(&mut text, &mut &to));
        to.shutdown(std::net::Shutdown::Write).and(sent)
    });
    let (send, pieces) = crossbeam::channel::unbounded();
    let reading = std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let piece = line.map_err(|e| e.to_string());
            let piece = piece.and_then(|l| serde_json::from_str::<super::tc::Piece>(&l).map_err(|e| e.to_string()));
            if send.send(piece).is_err() {
                break;
            }
        }
    });
    let mut code = None;
    for piece in pieces {
        match piece.map_err(broken)? {
            super::tc::Piece::Code(end) => code = Some(end),
            piece @ (super::tc::Piece::Stdout(_) | super::tc::Piece::Stderr(_)) => tell(piece),
        }
    }
    let _it_has_ended = reading.join();
    let sent = sending.join().map_err(|_| broken("the sender panicked".to_owned()))?;
    match (code, sent) {
        (Some(code), _) => Ok(code),
        (None, Err(e)) => Err(broken(format!("the batch could not be sent: {e}"))),
        (None, Ok(_)) => Err(broken("it ended before its answer did".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::tc::Piece;

    struct Echo;

    impl Handler for Echo {
        fn answer(&self, request: Request) -> Response {
            Response::done(format!("{request:?}"))
        }

        fn watch(&self, _request: &crate::app::watch::Request, client: &UnixStream) {
            write_line(client, &crate::app::watch::Piece::End { ok: true, text: "seen".to_owned() }).unwrap();
        }

        fn tc(&self, request: &crate::app::tc::Request, text: &str, tell: crate::app::tc::Tell<'_>) -> u8 {
            tell(Piece::Stdout(format!("{} {} bytes", request.words.join(" "), text.len())));
            7
        }
    }

    #[test]
    fn a_question_is_answered_and_a_stale_socket_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a dropped std listener leaves its file, as a killed process does");
        let listener = Listener::bind(&path, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::thread::spawn(move || {
            listener.serve(&Echo);
        });
        assert!(matches!(Listener::bind(&path, None), Err(ControlError::InUse(_))));
        let answer = ask(&path, &Request::Status { json: true }).unwrap();
        assert!(answer.ok && answer.text.contains("Status"), "{answer:?}");
        let tc = crate::app::tc::Request {
            words: vec!["-n".to_owned(), "x".to_owned()],
            batch: Some("-".to_owned()),
            force: false,
            netns: None,
        };
        let mut told = Vec::new();
        let text = "qdisc show\n".repeat(100_000);
        let code = ask_tc(&path, tc, Some(Box::new(std::io::Cursor::new(text))), &mut |p| told.push(p)).unwrap();
        assert_eq!((code, told), (7, vec![Piece::Stdout("-n x 1100000 bytes".to_owned())]));
        let mut nonsense = UnixStream::connect(&path).unwrap();
        nonsense.write_all(b"{}\n").unwrap();
        let mut line = String::new();
        BufReader::new(nonsense).read_line(&mut line).unwrap();
        assert!(line.contains("cannot be read"), "{line}");
    }

    #[test]
    fn nobody_there_and_no_such_group_are_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("none.sock");
        let error = ask(&path, &Request::Status { json: false }).unwrap_err().to_string();
        assert!(error.contains("viscum run"), "{error}");
        assert!(matches!(Listener::bind(&path, Some("no-such-group-here")), Err(ControlError::Group(_))));
    }
}
