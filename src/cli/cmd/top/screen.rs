//! A terminal as a screen: what is drawn, keys and signals, and that it is afterwards as it was. It knows nothing of what is drawn.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};

/// Alternate screen, cursor hidden, lines that are too long are cut; and back.
const OPEN: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const CLOSE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// The terminal until it is dropped.
pub(super) struct Screen {
    /// As it was; none: the input is no terminal, and there are no keys.
    before: Option<Termios>,
}

impl Screen {
    pub fn open() -> anyhow::Result<Self> {
        let input = io::stdin();
        let before = tcgetattr(&input).ok();
        if let Some(before) = &before {
            let mut keys = before.clone();
            // A key comes at once and is not shown. Ctrl-C stays a signal; Ctrl-Z would leave the screen as it is to the shell.
            keys.local_flags &= !(LocalFlags::ICANON | LocalFlags::ECHO);
            keys.control_chars[SpecialCharacterIndices::VSUSP as usize] = 0;
            keys.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
            keys.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
            tcsetattr(&input, SetArg::TCSANOW, &keys).context("the terminal cannot be set up; use `viscum top -b`")?;
        }
        let screen = Self { before };
        put(OPEN)?;
        Ok(screen)
    }

    /// Columns and lines.
    pub fn size(&self) -> (usize, usize) {
        let (columns, lines) = terminal_size::terminal_size().map_or((80, 24), |(w, h)| (w.0, h.0));
        (usize::from(columns.max(20)), usize::from(lines.max(5)))
    }

    /// Puts a text in the place of the one before.
    pub fn draw(&mut self, text: &str) -> io::Result<()> {
        // Line by line over the old one, so that nothing flickers.
        let lines: Vec<String> = text.lines().map(|line| format!("{line}\x1b[K")).collect();
        put(&format!("\x1b[H{}\x1b[J", lines.join("\r\n")))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _the_terminal_is_gone = put(CLOSE);
        if let Some(before) = &self.before {
            let _the_terminal_is_gone = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

fn put(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// What ends a wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The time has come.
    Due,
    /// The terminal has another size.
    Resized,
    /// q, SIGINT, SIGTERM or SIGHUP; or nobody is at the keys any more.
    End,
}

/// Signals and keys.
pub(super) struct Bell {
    end: UnixStream,
    resized: UnixStream,
}

impl Bell {
    pub fn new() -> anyhow::Result<Self> {
        let (end, ring_end) = UnixStream::pair().context("cannot make a pipe for signals")?;
        let (resized, ring_resized) = UnixStream::pair().context("cannot make a pipe for signals")?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let ring = ring_end.try_clone().context("cannot make a pipe for signals")?;
            signal_hook::low_level::pipe::register(signal, ring).context("cannot catch a signal")?;
        }
        signal_hook::low_level::pipe::register(SIGWINCH, ring_resized).context("cannot catch SIGWINCH")?;
        Ok(Self { end, resized })
    }

    /// Waits for what comes first; for keys only if `keys`.
    pub fn wait(&self, due: Instant, keys: bool) -> anyhow::Result<Event> {
        let input = io::stdin();
        loop {
            let left = due.saturating_duration_since(Instant::now());
            // A millisecond more than what is left of the last one: it is not waited for in a circle.
            let timeout =
                PollTimeout::try_from(left.as_millis() + u128::from(!left.is_zero())).unwrap_or(PollTimeout::MAX);
            let on = |fd| PollFd::new(fd, PollFlags::POLLIN);
            let mut polled = [on(self.end.as_fd()), on(self.resized.as_fd()), on(input.as_fd())];
            let polled = if keys { &mut polled[..] } else { &mut polled[..2] };
            match poll(polled, timeout) {
                Ok(0) => return Ok(Event::Due),
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(e) => return Err(e).context("cannot wait for keys and signals"),
            }
            let rung = |at: usize| polled.get(at).and_then(|fd| fd.any()).unwrap_or(false);
            if rung(0) {
                return Ok(Event::End);
            }
            if rung(1) {
                let _rung_once = (&self.resized).read(&mut [0; 64]).context("cannot hear of signals")?;
                return Ok(Event::Resized);
            }
            let mut typed = [0; 64];
            // Not by the buffer of `stdin`: what it holds would not be seen by poll.
            match nix::unistd::read(std::os::fd::AsRawFd::as_raw_fd(&input), &mut typed) {
                Ok(0) => return Ok(Event::End),
                Ok(count) if typed[..count].iter().any(|key| matches!(key, b'q' | b'Q')) => return Ok(Event::End),
                Ok(_) | Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => {}
                Err(_) => return Ok(Event::End),
            }
        }
    }
}
