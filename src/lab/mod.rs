//! The mobile-edge testbed in network namespaces, and the demo on it. It uses the forwarder as anybody would: by its commands.

pub mod camera;
pub mod demo;
pub mod net;
pub mod ocr;
pub mod plate;
pub mod process;
pub mod server;
pub mod shell;
pub mod speed;

pub use demo::{DemoOptions, Outcome, demo};
pub use net::NetOptions;
pub use shell::LabError;

/// Builds the testbed; what an earlier one left is removed first, its programs included. Returns what had to be left out on this
/// kernel, one line each.
///
/// # Errors
/// [`LabError`]; what was built so far is removed again.
pub fn up(options: &NetOptions) -> Result<Vec<String>, LabError> {
    down()?;
    net::up(options)
}

/// Removes everything: the testbed's programs that still run (also those of a crashed demo), namespaces, files. Not an error if
/// there is nothing.
///
/// # Errors
/// [`LabError`].
pub fn down() -> Result<(), LabError> {
    process::stop_all()?;
    net::down()
}

#[cfg(test)]
mod tests;
