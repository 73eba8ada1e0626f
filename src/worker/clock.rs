//! The clock of all times in counters: the kernel's CLOCK_MONOTONIC, which eBPF programs count on as well.

/// Milliseconds, at least 1.
#[must_use]
pub fn monotonic_ms() -> u64 {
    (monotonic_ns() as u64 / 1_000_000).max(1)
}

/// Nanoseconds, at least 1.
#[must_use]
pub fn monotonic_ns() -> i64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    let now = now.expect("every Linux has CLOCK_MONOTONIC");
    (now.tv_sec() * 1_000_000_000 + now.tv_nsec()).max(1)
}

/// Nanoseconds since 1970, as the kernel stamps frames.
#[must_use]
pub(super) fn real_ns() -> i64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME).expect("every Linux has CLOCK_REALTIME");
    now.tv_sec() * 1_000_000_000 + now.tv_nsec()
}
