//! Named network namespaces: open one, run something inside it on a thread that is thrown away. The caller's thread never moves.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::sched::{CloneFlags, setns};

/// Where `ip netns` keeps its names.
const DIRECTORY: &str = "/run/netns";

/// Opens the namespace `name` as `ip netns` knows it.
///
/// # Errors
/// `NotFound` if there is none; `InvalidInput` if the name is a path.
pub fn open(name: &str) -> io::Result<File> {
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no name of a network namespace")));
    }
    File::open(Path::new(DIRECTORY).join(name))
}

/// Runs `work` in the namespace `name` (`None`: the caller's own, on the caller's thread) and returns its result.
///
/// Sockets keep the namespace that they were opened in, so what `work` opens can be used by any thread afterwards.
///
/// # Errors
/// As [`open`]; `EPERM` without CAP_SYS_ADMIN; what starting a thread fails with.
///
/// # Panics
/// If `work` does.
pub fn with_netns<T: Send>(name: Option<&str>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let Some(name) = name else { return Ok(work()) };
    let namespace = open(name)?;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, || {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
