//! `viscum trace`, `viscum capture` and `viscum latency`.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{anyhow, bail};

use crate::app::config::SOCKET_DEFAULT;
use crate::app::watch::{Form, Heard, Request, WatchError, ask_watch};
use crate::cli::args::{Capture, Latency, Trace};

pub fn trace(args: Trace) -> anyhow::Result<ExitCode> {
    let form = Form::Trace { json: args.json };
    let request =
        Request { device: args.device, netns: args.netns, filter: args.filter.join(" "), count: args.count, form };
    run(args.socket.socket, request, &mut io::stdout())
}

pub fn capture(args: Capture) -> anyhow::Result<ExitCode> {
    let form = Form::Capture { snaplen: args.snaplen };
    let request =
        Request { device: args.device, netns: args.netns, filter: args.filter.join(" "), count: args.count, form };
    if args.write.as_os_str() == "-" {
        if io::stdout().is_terminal() {
            bail!("-w -: a terminal shows no pcapng; give a file, or a reader: viscum capture … -w - | tshark -r -");
        }
        return run(args.socket.socket, request, &mut io::stdout());
    }
    run(args.socket.socket, request, &mut Target::open(&args.write)?)
}

pub fn latency(args: Latency) -> anyhow::Result<ExitCode> {
    let interval_ms = args.interval.as_millis() as u64;
    let form = Form::Latency { interval_ms, json: args.json };
    let request = Request { device: args.device, netns: args.netns, filter: String::new(), count: args.count, form };
    if io::stdout().is_terminal() && !args.json {
        return run(args.socket.socket, request, &mut InPlace { lines: 0 });
    }
    run(args.socket.socket, request, &mut io::stdout())
}

/// A terminal on which each text takes the place of the one before.
struct InPlace {
    lines: usize,
}

impl Write for InPlace {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let mut out = io::stdout().lock();
        if self.lines > 0 {
            write!(out, "\x1b[{}A\r\x1b[J", self.lines)?;
        }
        self.lines = text.iter().filter(|byte| **byte == b'\n').count();
        out.write_all(text).map(|()| text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

/// The file that is written to. What was in it before goes when the first bytes come: a command that failed has taken nothing away.
struct Target {
    file: File,
    begun: bool,
}

impl Target {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::options().write(true).create(true).truncate(false).open(path);
        let file = file
            .map_err(|e| anyhow!("cannot write {}: {e}; choose a place that can be written with -w", path.display()))?;
        Ok(Self { file, begun: false })
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A pipe with a name has no length to set.
        if !self.begun && self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.begun = true;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes what comes; a reader that went away (`| head`) is no error.
fn run(socket: Option<PathBuf>, request: Request, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let path = socket.unwrap_or_else(|| Path::new(SOCKET_DEFAULT).to_owned());
    let done = ask_watch(&path, request, &mut |heard| match heard {
        Heard::Out(bytes) => out.write_all(bytes).and_then(|()| out.flush()),
        Heard::Note(text) => io::stderr().write_all(text.as_bytes()),
    });
    match done {
        Err(WatchError::Write(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        done => Ok(done.map(|()| ExitCode::SUCCESS)?),
    }
}
