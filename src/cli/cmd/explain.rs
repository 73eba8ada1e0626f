//! `viscum explain`.

use std::process::ExitCode;

use anyhow::bail;

use crate::app::explain::{Frames, Options, explain as run};
use crate::cli::args::Explain;

pub fn explain(args: Explain) -> anyhow::Result<ExitCode> {
    let frames = match (args.input, args.frame) {
        (Some(path), None) => Frames::Capture { path, from: args.from, count: args.count },
        (None, Some(text)) => Frames::One(bytes(&text)?),
        (Some(_), Some(_)) | (None, None) => bail!("say which frames: --in X.pcap, or --frame HEX"),
    };
    let options = Options { rules: args.rules, device: args.dev, topology: args.topology, frames };
    let explained = run(&options, &mut super::print)?;
    if explained == 0 {
        bail!("the capture has no frame {}; it counts from 1", args.from);
    }
    Ok(ExitCode::SUCCESS)
}

/// Hex digits, with anything that people put between them.
fn bytes(text: &str) -> anyhow::Result<Vec<u8>> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace() && !matches!(c, ':' | '-' | ',')).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).ok();
    let whole = digits.len().is_multiple_of(2) && digits.iter().all(char::is_ascii_hexdigit);
    let bytes: Option<Vec<u8>> = if whole { digits.chunks(2).map(byte).collect() } else { None };
    match bytes {
        Some(bytes) if bytes.len() >= crate::limits::ETHERNET_LEN => Ok(bytes),
        _ => bail!(
            "--frame takes a whole frame from the destination MAC on, in hex: at least 14 bytes, like 020000000001…"
        ),
    }
}
