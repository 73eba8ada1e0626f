//! `viscum tc …`: everything after it is tc's.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use crate::app::config::SOCKET_DEFAULT;
use crate::app::control::{Request, ask};
use crate::app::tc;
use crate::cli::args::Tc;
use crate::host::netns;

/// Where the forwarder is, since tc has no option for it.
const SOCKET_VARIABLE: &str = "VISCUM_SOCKET";

pub fn tc(args: Tc) -> anyhow::Result<ExitCode> {
    let path = std::env::var_os(SOCKET_VARIABLE).map_or_else(|| Path::new(SOCKET_DEFAULT).to_owned(), PathBuf::from);
    let request = request(args.words)?;
    let response = ask(&path, &Request::Tc(request)).with_context(|| {
        format!("{SOCKET_VARIABLE} names another socket, and `viscum run --state-only` keeps state without forwarding")
    });
    let response = response.map_err(|e| anyhow::anyhow!("{e:#}"))?;
    let Some(answer) = response.tc else { anyhow::bail!("{}", response.text) };
    super::print(&answer.stdout);
    eprint!("{}", answer.stderr);
    Ok(ExitCode::from(answer.code))
}

/// `-batch FILE` and `-force` are the client's: the file is read here.
fn request(words: Vec<String>) -> anyhow::Result<tc::Request> {
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
    let batch = batch.map(|name| read(&name).map(|text| (name, text))).transpose()?;
    Ok(tc::Request { words: rest, batch, force, netns: netns::own() })
}

fn read(name: &str) -> anyhow::Result<String> {
    if name == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read the batch from standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(name).with_context(|| format!("Cannot open file \"{name}\" for reading"))
}
