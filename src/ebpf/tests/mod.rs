//! Programs against the interpreter, in the kernel's own test run, and on real devices of a fresh namespace.

mod agree;
mod attach;
mod forward;
mod generate;
mod lookup;
mod refuse;
mod rich;

/// Whether the kernel lets us; says so loudly if not. In CI that is an error.
fn privileged() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "these tests must run as root in CI");
    eprintln!("SKIPPED: needs root");
    false
}
