//! `viscum replay`.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use crate::app::replay::{Form, Options, Time, replay as run};
use crate::cli::args::{Engine, Replay};
use crate::cli::render;

pub fn replay(args: Replay) -> anyhow::Result<ExitCode> {
    let options = Options {
        rules: args.rules,
        input: args.input,
        device: args.dev,
        topology: args.topology,
        out: args.out,
        form: match args.engine {
            Engine::Plan => Form::Plan,
            Engine::Eval => Form::Eval,
        },
        time: if args.capture_time { Time::Capture } else { Time::Replay },
    };
    let terminal = std::io::stderr().is_terminal();
    let mut told = false;
    let summary = run(&options, &mut |frames| {
        told = true;
        let (start, end) = if terminal { ("\r", "") } else { ("", "\n") };
        eprint!("{start}{frames} frames{end}");
        let _gone = std::io::stderr().flush();
    })?;
    if told && terminal {
        eprintln!();
    }
    super::print(&render::replayed(&summary, &options.out));
    Ok(ExitCode::SUCCESS)
}
