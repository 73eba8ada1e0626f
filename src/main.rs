//! The `viscum` binary: all of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    viscum::cli::main()
}
