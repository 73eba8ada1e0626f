//! All integration tests: one binary, one harness.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod bench;
mod cli;
mod differential;
mod errors;
mod everymode;
mod faults;
mod forward;
mod fuzz;
mod golden;
mod import;
mod import_live;
mod inkernel;
mod kernel_tc;
mod large;
mod latency;
mod lifecycle;
mod live;
mod probe;
mod support;
mod takeover;
mod tc;
mod tidy;
mod top;
mod vlan;
mod watch;
