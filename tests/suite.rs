//! All integration tests: one binary, one harness.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod forward;
mod golden;
mod support;
mod tidy;
