//! Tests of the front end against golden cases: exit codes, messages, listings, JSON; and that no text makes it panic.

mod golden;
mod hostile;
mod named;
