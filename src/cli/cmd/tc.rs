//! `viscum tc …`: everything after it is tc's.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use crate::app::config::SOCKET_DEFAULT;
use crate::app::control::ask_tc;
use crate::app::tc::{self, Piece};
use crate::cli::args::Tc;
use crate::host::netns;

/// Where the forwarder is, since tc has no option for it.
const SOCKET_VARIABLE: &str = "VISCUM_SOCKET";

pub fn tc(args: Tc) -> anyhow::Result<ExitCode> {
    let path = std::env::var_os(SOCKET_VARIABLE).map_or_else(|| Path::new(SOCKET_DEFAULT).to_owned(), PathBuf::from);
    let (request, batch) = request(args.words)?;
    let code = ask_tc(&path, request, batch, &mut |piece| match piece {
        Piece::Stdout(text) => super::print(&text),
        Piece::Stderr(text) => eprint!("{text}"),
        Piece::Code(_) => {}
    });
    let code = code.with_context(|| {
        format!("{SOCKET_VARIABLE} names another socket, and `viscum run --state-only` keeps state without forwarding")
    });
    Ok(ExitCode::from(code.map_err(|e| anyhow::anyhow!("{e:#}"))?))
}

type Batch = Box<dyn Read + Send>;

/// `-batch FILE` and `-force` are the client's: the file is opened here.
fn request(words: Vec<String>) -> anyhow::Result<(tc::Request, Option<Batch>)> {
    let mut rest = Vec::new();
    let (mut batch, mut force) = (None, false);
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next_if(|w| w.starts_with('-')) {
        // `-b` and longer; tc's own `-br[ief]` is not it.
        if word.len() >= 2 && "-batch".starts_with(&word) {
            batch = Some(words.next_if(|w| w == "-" || !w.starts_with('-')).unwrap_or_else(|| "-".to_owned()));
        } else if word.len() >= 3 && "-force".starts_with(&word) {
            force = true;
        } else {
            let takes_value = word.len() >= 2 && "-netns".starts_with(&word);
            rest.push(word);
            rest.extend(takes_value.then(|| words.next()).flatten());
        }
    }
    rest.extend(words);
    let text = batch.as_deref().map(open).transpose()?;
    Ok((tc::Request { words: rest, batch, force, netns: netns::own() }, text))
}

fn open(name: &str) -> anyhow::Result<Batch> {
    if name == "-" {
        return Ok(Box::new(std::io::stdin()));
    }
    let file = std::fs::File::open(name).with_context(|| format!("Cannot open file \"{name}\" for reading"))?;
    Ok(Box::new(file))
}
