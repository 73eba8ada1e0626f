//! Tests of the front end against golden cases: exit codes, messages, listings, JSON; and that no text makes it panic.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod ematch;
mod golden;
mod hostile;
mod named;
