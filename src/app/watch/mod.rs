//! `viscum trace`, `viscum capture` and `viscum latency`: frames of a running forwarder for a client, as workers copied or timed them. The forwarder's threads do
//! not wait for it; what comes faster than it is read is lost, counted and told.

mod capture;
mod client;
mod latency;
mod trace;

use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::control::write_line;
use super::forward::{InForce, Running};
use crate::limits::TAP_LEN_MAX;
use crate::types::DeviceKey;
use crate::wire::Filter;
use crate::worker::{Record, Sight, Watch, monotonic_ns};
use capture::Capture;
pub use client::{Heard, WatchError, ask_watch};
use trace::Trace;

/// How often it looks for new frames: the queue takes far more in that time than comes.
const LOOK_MS: u16 = 2;
/// Records that are put in order and told at once.
const TOGETHER: usize = TAP_LEN_MAX;

/// What a client wants to see.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// The device; `any` of a capture is all.
    pub device: String,
    /// Its namespace.
    pub netns: Option<String>,
    /// tcpdump's words; empty for all frames.
    pub filter: String,
    /// How many frames; `None`: until the client ends it.
    pub count: Option<u64>,
    /// In which form.
    pub form: Form,
}

/// How frames are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Explained.
    Trace {
        /// As JSON.
        json: bool,
    },
    /// As pcapng.
    Capture {
        /// Bytes of each frame to keep; `None`: all.
        snaplen: Option<u32>,
    },
    /// Only how long they stay in the forwarder.
    Latency {
        /// How often it is told.
        interval_ms: u64,
        /// As JSON.
        json: bool,
    },
}

/// A piece of the answer. The last one is `End`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Piece {
    /// For standard output.
    Text(String),
    /// As many bytes of pcapng follow the line.
    Bytes(usize),
    /// For standard error.
    Note(String),
    /// Nothing more comes.
    End {
        /// Whether it did what was asked.
        ok: bool,
        /// For standard error.
        text: String,
    },
}

type Shared = Mutex<Option<Running>>;

fn with_running<T>(running: &Shared, ask: impl FnOnce(&mut Running) -> Result<T, String>) -> Result<T, String> {
    let mut guard = running.lock().unwrap_or_else(PoisonError::into_inner);
    guard.as_mut().map_or_else(|| Err("the forwarder is ending".to_owned()), ask)
}

/// Answers a client until it goes, has what it wanted, or the forwarder ends.
///
/// # Errors
/// The client's socket.
pub fn watch(running: &Shared, request: &Request, client: &UnixStream) -> io::Result<()> {
    // Whoever reads slowly holds up nobody but himself.
    client.set_write_timeout(None)?;
    let mut out = BufWriter::new(client);
    if let Form::Latency { interval_ms, json } = request.form {
        let done = latency::watch(running, request, (Duration::from_millis(interval_ms), json), client, &mut out)?;
        return end(&mut out, &done);
    }
    let session = match Session::open(running, request) {
        Ok(session) => session,
        Err(text) => return end(&mut out, &Piece::End { ok: false, text }),
    };
    let done = session.run(client, &mut out);
    // Whatever happened to the client, the workers need not copy for it any more.
    let _the_forwarder_is_ending = with_running(running, |running| {
        running.end_watch(&Sight::Frames(Arc::clone(&session.watch)));
        Ok(())
    });
    // A forwarder that ends waits for the session to be dropped, so the last piece goes first.
    end(&mut out, &done?)
}

fn end(out: &mut impl Write, piece: &Piece) -> io::Result<()> {
    write_line(&mut *out, piece)?;
    out.flush()
}

/// One client's view.
struct Session<'a> {
    running: &'a Shared,
    request: &'a Request,
    watch: Arc<Watch>,
    devices: Vec<Seen>,
}

/// A device that is watched.
struct Seen {
    key: DeviceKey,
    mode: &'static str,
    note: Option<&'static str>,
}

impl<'a> Session<'a> {
    fn open(running: &'a Shared, request: &'a Request) -> Result<Self, String> {
        let filter: Filter = request.filter.parse().map_err(|e: crate::wire::FilterError| e.to_string())?;
        with_running(running, |forwarder| {
            let keys = forwarder.watchable(&request.device, request.netns.as_deref())?;
            let frame_len_max = forwarder.frame_len_max();
            let (outgoing, kept) = match request.form {
                Form::Trace { .. } | Form::Latency { .. } => (false, frame_len_max),
                Form::Capture { snaplen } => (true, snaplen.map_or(frame_len_max, |s| frame_len_max.min(s as usize))),
            };
            let seen = |key: &DeviceKey| {
                let (mode, note) = forwarder.how_served(key);
                Seen { key: key.clone(), mode, note }
            };
            let devices = keys.iter().map(seen).collect();
            let watch = Arc::new(Watch::new(filter, outgoing, keys.len(), kept));
            forwarder.begin_watch(Sight::Frames(Arc::clone(&watch)), keys)?;
            Ok(Self { running, request, watch, devices })
        })
    }

    /// Tells frames until the end; returns the last piece.
    fn run(&self, client: &UnixStream, out: &mut impl Write) -> io::Result<Piece> {
        let mut sink = match self.request.form {
            Form::Trace { json } | Form::Latency { json, .. } => Sink::Trace(Trace::new(json)),
            Form::Capture { snaplen } => Sink::Capture(Capture::new(&self.devices, snaplen)?),
        };
        for Seen { key, mode, note } in &self.devices {
            let note = note.map_or(String::new(), |note| format!("; {note}"));
            write_line(&mut *out, &Piece::Note(format!("watching {key} ({mode}){note}\n")))?;
        }
        let mut rules: Option<InForce> = None;
        let mut told = 0;
        let mut wanted = true;
        while wanted {
            // Asked before the queue is emptied: what came before the end is told.
            let ended = self.watch.has_ended();
            let mut records: Vec<Record> = std::iter::from_fn(|| self.watch.next()).take(TOGETHER).collect();
            let more = records.len() == TOGETHER;
            // Workers finish frames in another order than they came.
            records.sort_by_key(|record| record.time_ns);
            let clock = Clock::now();
            for record in records {
                if self.request.count.is_none_or(|count| told < count) {
                    told += 1;
                    self.refresh(&mut rules, record.generation);
                    sink.tell(&record, &self.devices, rules.as_ref(), &clock, self.lost(), out)?;
                }
                self.watch.done(record);
            }
            sink.flush(out)?;
            out.flush()?;
            let enough = self.request.count.is_some_and(|count| told >= count);
            wanted = !enough && (!ended || more) && !client_has_ended(client, if more { 0 } else { LOOK_MS });
        }
        let lost = self.watch.lost();
        sink.end(&lost, out)?;
        let lost: u64 = lost.iter().flatten().sum();
        let what = sink.what();
        let text = match lost {
            0 => format!("{told} frames {what}, none lost\n"),
            lost => format!(
                "{told} frames {what}, {lost} more came faster than they could be read and were lost here (they were forwarded)\n"
            ),
        };
        Ok(Piece::End { ok: true, text })
    }

    fn lost(&self) -> u64 {
        self.watch.lost().iter().flatten().sum()
    }

    /// The rules by which a frame was handled, or newer ones if those are gone.
    fn refresh(&self, rules: &mut Option<InForce>, generation: u64) {
        if generation != 0 && rules.as_ref().is_none_or(|rules| rules.generation < generation) {
            if let Ok(newer) = with_running(self.running, |running| Ok(running.in_force())) {
                *rules = Some(newer);
            }
        }
    }
}

enum Sink {
    Trace(Trace),
    Capture(Capture),
}

impl Sink {
    fn tell(
        &mut self,
        record: &Record,
        devices: &[Seen],
        rules: Option<&InForce>,
        clock: &Clock,
        lost: u64,
        out: &mut impl Write,
    ) -> io::Result<()> {
        match self {
            Self::Trace(trace) => write_line(out, &trace.tell(record, devices, rules, clock, lost)),
            Self::Capture(capture) => capture.tell(record, rules, clock),
        }
    }

    fn flush(&mut self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Trace(_) => Ok(()),
            Self::Capture(capture) => {
                let bytes = capture.take();
                if bytes.is_empty() {
                    return Ok(());
                }
                write_line(&mut *out, &Piece::Bytes(bytes.len()))?;
                out.write_all(&bytes)
            }
        }
    }

    fn end(&mut self, lost: &[[u64; 2]], out: &mut impl Write) -> io::Result<()> {
        if let Self::Capture(capture) = self {
            capture.end(lost, &Clock::now())?;
        }
        self.flush(out)
    }

    const fn what(&self) -> &'static str {
        match self {
            Self::Trace(_) => "explained",
            Self::Capture(_) => "captured",
        }
    }
}

/// From the workers' clock to the time of day.
struct Clock {
    monotonic_ns: i64,
    since_1970: Duration,
}

impl Clock {
    fn now() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { monotonic_ns: monotonic_ns(), since_1970 }
    }

    fn real(&self, monotonic_ns: i64) -> Duration {
        let ago = Duration::from_nanos(u64::try_from(self.monotonic_ns - monotonic_ns).unwrap_or(0));
        self.since_1970.saturating_sub(ago)
    }
}

/// Waits a little; true if the client wants no more: it has closed its end, or is gone.
fn client_has_ended(client: &UnixStream, wait_ms: u16) -> bool {
    let mut polled = [PollFd::new(client.as_fd(), PollFlags::POLLIN)];
    match poll(&mut polled, PollTimeout::from(wait_ms)) {
        Ok(0) | Err(nix::errno::Errno::EINTR) => false,
        // The client says nothing after its request: what can be read is its end.
        Ok(_) | Err(_) => true,
    }
}
