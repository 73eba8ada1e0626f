//! `viscum top`: looks at the forwarder again and again, on a screen or as plain text.

mod screen;
mod text;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::bail;

use crate::app::config::SOCKET_DEFAULT;
use crate::app::top::Looker;
use crate::cli::args::Top;
use screen::{Bell, Event, Screen};

/// Rules that are shown as plain text.
const RULES_DEFAULT: usize = 20;

pub fn top(args: Top) -> anyhow::Result<ExitCode> {
    let path = args.socket.socket.as_deref().unwrap_or(Path::new(SOCKET_DEFAULT));
    if !args.batch && !io::stdout().is_terminal() {
        bail!("standard output is no terminal that a screen could be drawn on; plain text is `viscum top -b`");
    }
    let mut looker = Looker::new(path)?;
    let bell = Bell::new()?;
    // What goes wrong is told on the terminal as it was.
    let mut screen = if args.batch { None } else { Some(Screen::open()?) };
    let mut shown = 0;
    let mut view = None;
    let mut due = Instant::now() + args.interval;
    if let Some(screen) = &mut screen {
        screen.draw("viscum top: the first rates come in a moment (q: quit)\n")?;
    }
    while args.count.is_none_or(|count| shown < count) {
        match bell.wait(due, screen.is_some())? {
            Event::End => break,
            Event::Due => {
                due = (due + args.interval).max(Instant::now());
                view = Some(looker.look()?);
                shown += 1;
            }
            Event::Resized => {}
        }
        let Some(view) = &view else { continue };
        let done = match &mut screen {
            Some(screen) => {
                let (columns, lines) = screen.size();
                screen.draw(&text::fit(&text::of(view, args.rules.unwrap_or(lines)), columns, lines))
            }
            None => {
                let text = text::of(view, args.rules.unwrap_or(RULES_DEFAULT));
                let mut out = io::stdout().lock();
                out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush())
            }
        };
        match done {
            // A reader that went away (`| head`) is no error.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => break,
            done => done?,
        }
    }
    Ok(ExitCode::SUCCESS)
}
