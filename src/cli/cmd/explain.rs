//! `viscum explain`.

use std::io::Read;
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::hexdump;
use crate::app::explain::{Frames, Options, Told, explain as run};
use crate::cli::args::Explain;

/// The longest text that `--frame -` reads, in bytes: a dump of the longest frame is far shorter.
const DUMP_LEN_MAX: u64 = 1 << 20;

pub fn explain(args: Explain) -> anyhow::Result<ExitCode> {
    let frames = match (args.input, args.frame) {
        (Some(path), None) => Frames::Capture { path, from: args.from, count: args.count },
        (None, Some(text)) if text == "-" => {
            let mut text = String::new();
            std::io::stdin()
                .take(DUMP_LEN_MAX)
                .read_to_string(&mut text)
                .context("--frame -: cannot read stdin as text")?;
            Frames::One(hexdump::frame(&text)?)
        }
        (None, Some(text)) => Frames::One(hexdump::frame(&text)?),
        (Some(_), Some(_)) | (None, None) => bail!("say which frames: --in X.pcap, or --frame HEX"),
    };
    let json = args.json;
    let options = Options { rules: args.rules, device: args.dev, topology: args.topology, frames, json };
    let explained = run(&options, &mut |told| match told {
        // What is printed as JSON is JSON throughout.
        Told::Note(note) if json => eprint!("{}", note.trim_end_matches('\n').to_owned() + "\n"),
        Told::Note(text) | Told::Frame(text) => super::print(&text),
    })?;
    if explained == 0 {
        bail!("the capture has no frame {}; it counts from 1", args.from);
    }
    Ok(ExitCode::SUCCESS)
}
