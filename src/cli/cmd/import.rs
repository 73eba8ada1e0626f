//! `viscum import`.

use std::process::ExitCode;

use crate::app::import::{all_namespaces, import as read};
use crate::cli::args::Import;

/// What is in the kernel and not in the commands is told at the end, for those who do not read comments.
const LEFT_OUT: u8 = 3;

pub fn import(args: &Import) -> anyhow::Result<ExitCode> {
    let namespaces = if args.all_netns { all_namespaces() } else { vec![args.netns.clone()] };
    let mut left_out = 0;
    for netns in namespaces {
        let (import, _) = read(netns.as_deref(), args.dev.as_deref())?;
        if args.all_netns && import.steps.is_empty() && import.left_out.is_empty() {
            continue;
        }
        left_out += import.left_out.len();
        super::print(&import.script());
    }
    if left_out == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "viscum: {left_out} left out: see the lines that begin with \"# left out\", and keep the kernel's rules for them"
    );
    Ok(ExitCode::from(LEFT_OUT))
}
