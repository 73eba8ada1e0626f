//! Running the system's own commands (`ip`, `sysctl`, `tc`) with errors that say what was run. No testbed knowledge here.

use std::process::{Command, Output, Stdio};

/// Why a command of the testbed failed.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The program is not there.
    #[error("cannot run `{command}`: {source}; install Debian's package {package}")]
    Missing {
        /// The command line.
        command: String,
        /// The system's answer.
        source: std::io::Error,
        /// Where the program is from.
        package: &'static str,
    },
    /// It ran and failed.
    #[error("`{command}` failed: {message}{hint}")]
    Failed {
        /// The command line.
        command: String,
        /// What it said.
        message: String,
        /// What to try, with a line break before it; may be empty.
        hint: &'static str,
    },
    /// A file of the testbed cannot be read or written.
    #[error("{what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Something in the testbed did not come up or answer.
    #[error("{0}")]
    Unready(String),
}

/// Debian's package of a program.
fn package(program: &str) -> &'static str {
    match program {
        "ip" | "tc" => "iproute2",
        "sysctl" => "procps",
        "ethtool" => "ethtool",
        "iperf3" => "iperf3",
        "tesseract" => "tesseract-ocr",
        "ping" => "iputils-ping",
        _ => "that has it (apt-file search)",
    }
}

/// A command from one line, split at blanks; in a namespace if one is given.
#[must_use]
pub fn command(netns: Option<&str>, line: &str) -> Command {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut command = match netns {
        None => Command::new(words[0]),
        Some(netns) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", netns, words[0]]);
            command
        }
    };
    command.args(&words[1..]).stdin(Stdio::null());
    command
}

/// Runs a command to its end and returns what it printed.
///
/// # Errors
/// [`LabError::Missing`] and [`LabError::Failed`].
pub fn run(netns: Option<&str>, line: &str) -> Result<String, LabError> {
    let output = output(netns, line)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let hint = if message.contains("Operation not permitted") { "\nrun it as root (sudo)" } else { "" };
    Err(LabError::Failed { command: shown(netns, line), message, hint })
}

/// Runs a command and says whether it succeeded; for what may already be so.
#[must_use]
pub fn try_run(netns: Option<&str>, line: &str) -> bool {
    output(netns, line).is_ok_and(|o| o.status.success())
}

fn output(netns: Option<&str>, line: &str) -> Result<Output, LabError> {
    let program = line.split_whitespace().next().unwrap_or_default();
    command(netns, line).output().map_err(|source| LabError::Missing {
        command: shown(netns, line),
        source,
        package: package(if netns.is_some() { "ip" } else { program }),
    })
}

fn shown(netns: Option<&str>, line: &str) -> String {
    netns.map_or_else(|| line.to_owned(), |netns| format!("ip netns exec {netns} {line}"))
}
