//! What a thread used of the CPU. It changes nothing.

use std::time::Duration;

/// CPU time of the calling thread, user and system (`CLOCK_THREAD_CPUTIME_ID`).
#[must_use]
pub fn thread_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Lets another thread of this core run.
pub fn yield_now() {
    std::thread::yield_now();
}
