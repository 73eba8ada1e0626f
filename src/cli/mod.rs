//! The command line: what was typed becomes calls of `app` and `lab`, and what they say becomes text. No forwarding here.

mod args;
mod cmd;
mod render;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

/// Runs the program. Exit codes: 0 done, 1 an error or a failed check, 2 wrong usage,
/// 3 imported with something left out.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => cmd::run::run(args),
        Command::Show(args) => cmd::control::show(args),
        Command::Status(args) => cmd::control::status(args),
        Command::Bypass(args) => cmd::control::bypass(args, true),
        Command::Nobypass(args) => cmd::control::bypass(args, false),
        Command::Reload(args) => cmd::control::reload(args),
        Command::Tc(args) => cmd::tc::tc(args),
        Command::Import(args) => cmd::import::import(&args),
        Command::Probe(args) => cmd::probe::probe(&args),
        Command::Check(args) => cmd::check::check(&args),
        Command::Explain(args) => cmd::explain::explain(args),
        Command::Trace(args) => cmd::watch::trace(args),
        Command::Capture(args) => cmd::watch::capture(args),
        Command::Latency(args) => cmd::watch::latency(args),
        Command::Top(args) => cmd::top::top(args),
        Command::Replay(args) => cmd::replay::replay(args),
        Command::Bench(args) => cmd::bench::bench(args),
        Command::Lab(args) => cmd::lab::lab(args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("viscum: {error}");
            ExitCode::FAILURE
        }
    }
}
