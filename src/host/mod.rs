//! What this machine has and can do: links, capabilities, namespaces, locks, sysctls. It never sees a frame.

pub mod caps;
pub mod link;
pub mod lock;
pub mod monitor;
pub mod netns;
mod peer;
pub mod probe;
pub mod sysctl;
pub mod tc;

#[cfg(test)]
mod tests;

pub use link::{Link, Peer, topology};

use crate::types::DeviceKey;

/// Why the machine cannot be asked, or is not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A named namespace that does not exist.
    #[error(
        "no such network namespace: {name}; create it with `ip netns add {name}`, `ip netns list` shows those that exist"
    )]
    NoNamespace {
        /// As given.
        name: String,
    },
    /// The namespace exists and cannot be entered.
    #[error("cannot enter the network namespace {name}: {source}; it takes CAP_SYS_ADMIN, try sudo")]
    Enter {
        /// Its name.
        name: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A device that does not exist.
    #[error("no such device: {key}; the devices there are: {others}")]
    NoDevice {
        /// As the rules name it.
        key: DeviceKey,
        /// Names of those that exist.
        others: String,
    },
    /// A program that is needed is missing, or says no.
    #[error("`{command}` failed: {reason}")]
    Command {
        /// The command line.
        command: String,
        /// Its message, and what to install if it is missing.
        reason: String,
    },
    /// Another instance forwards on the device.
    #[error("{key} is already served by another viscum{holder}; stop that one first, `viscum show` tells what it does")]
    Locked {
        /// The device.
        key: DeviceKey,
        /// ` (process N)` if the kernel tells.
        holder: String,
    },
    /// Privileges are missing.
    #[error("missing {names}: {reason}\ntry `sudo viscum …`, or once `sudo setcap {setcap} {executable}`")]
    Capability {
        /// `CAP_NET_ADMIN, CAP_BPF`.
        names: String,
        /// What it is needed for.
        reason: &'static str,
        /// setcap's argument.
        setcap: String,
        /// This program's file.
        executable: String,
    },
    /// A file of /proc or a socket does not do what it should.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl HostError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Runs a command to its end and gives its standard output.
///
/// # Errors
/// [`HostError::Command`] with what it wrote to standard error, or the package to install.
pub(crate) fn output(program: &str, args: &[&str]) -> Result<String, HostError> {
    let command = || format!("{program} {}", args.join(" "));
    let done =
        std::process::Command::new(program).args(args).stdin(std::process::Stdio::null()).output().map_err(|e| {
            HostError::Command { command: command(), reason: format!("{e}; is Debian's iproute2 installed?") }
        })?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(HostError::Command { command: command(), reason: String::from_utf8_lossy(&done.stderr).trim().to_owned() })
}
