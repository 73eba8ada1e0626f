//! One file per subcommand: from what was typed to a call, from its result to an exit code.

pub mod bench;
pub mod check;
pub mod control;
pub mod explain;
mod hexdump;
pub mod import;
pub mod lab;
pub mod probe;
pub mod replay;
pub mod run;
pub mod tc;
pub mod top;
pub mod watch;

use std::io::Write;

/// Prints to stdout; a reader that went away (`| head`) is no error.
fn print(text: &str) {
    let _gone = std::io::stdout().lock().write_all(text.as_bytes());
}
