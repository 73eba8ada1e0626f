//! Network namespaces by name: run something inside one, list them. It creates and removes none.

use std::fs::File;
use std::path::PathBuf;

use super::HostError;

/// Where iproute2 keeps its named namespaces.
pub const DIRECTORY: &str = "/run/netns";

/// The file that stands for a namespace.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(DIRECTORY).join(name)
}

/// Names of all named namespaces, sorted; none if iproute2 never made one.
#[must_use]
pub fn names() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(DIRECTORY) else { return Vec::new() };
    let mut names: Vec<String> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Runs `f` inside a namespace, on a thread of its own so that the caller's thread stays where it is; `None` runs it in place.
/// Sockets that `f` opens belong to the namespace for good. `/proc/sys/net` is the namespace's there, `/sys/class/net` is not.
///
/// # Errors
/// [`HostError::NoNamespace`] and [`HostError::Enter`]; [`HostError::Io`] if there can be no more threads.
///
/// # Panics
/// If `f` does.
pub fn in_namespace<T: Send>(name: Option<&str>, f: impl FnOnce() -> T + Send) -> Result<T, HostError> {
    let Some(name) = name else { return Ok(f()) };
    let file = open(name)?;
    std::thread::scope(|scope| {
        let inside = std::thread::Builder::new().spawn_scoped(scope, move || {
            nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET)
                .map_err(|e| HostError::Enter { name: name.to_owned(), source: e.into() })?;
            Ok(f())
        });
        let inside = inside.map_err(HostError::io(format!("a thread inside the network namespace {name}")))?;
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A namespace itself, whatever its name: device and inode number of its file.
pub type Identity = (u64, u64);

/// The namespace of the calling thread; `None` without /proc.
#[must_use]
pub fn own() -> Option<Identity> {
    identity(std::path::Path::new("/proc/thread-self/ns/net"))
}

/// The name of a namespace: `Some(None)` for the calling thread's own, which needs none; `None` if it has none.
#[must_use]
pub fn name_of(wanted: Identity) -> Option<Option<String>> {
    if own() == Some(wanted) {
        return Some(None);
    }
    names().into_iter().find(|name| identity(&path(name)) == Some(wanted)).map(Some)
}

/// Which namespace has this name; `None` if none has.
#[must_use]
pub fn of_name(name: &str) -> Option<Identity> {
    identity(&path(name))
}

/// Whether this name is that of the calling thread's own namespace.
#[must_use]
pub fn is_own(name: &str) -> bool {
    exists(name) && own().is_some() && own() == identity(&path(name))
}

fn identity(path: &std::path::Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// Whether there is a namespace of this name. A path is no name.
#[must_use]
pub fn exists(name: &str) -> bool {
    let plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
    plain && path(name).exists()
}

fn open(name: &str) -> Result<File, HostError> {
    if !exists(name) {
        return Err(HostError::NoNamespace { name: name.to_owned() });
    }
    File::open(path(name)).map_err(|source| HostError::Enter { name: name.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_does_not_exist_is_named() {
        for name in ["viscum-none-such", "", "..", "a/b"] {
            let error = in_namespace(Some(name), || ()).unwrap_err().to_string();
            assert!(error.contains("no such network namespace") && error.contains(name), "{error}");
        }
        assert_eq!(in_namespace(None, || 7).unwrap(), 7);
    }
}
