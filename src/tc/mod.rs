//! The tc front end: scripts and commands in tc's language, the state that the kernel would keep, listings, lint.
//!
//! It opens no device and runs no frame; what it makes is a [`crate::rules::Ruleset`].
//!
//! ```text
//! text ──script──▶ lines of tokens ──command──▶ Command ──store──▶ Store ──▶ Ruleset
//!                                                            ├──listing──▶ text, JSON
//!                                                            └──lint──▶ warnings
//! ```

pub mod action;
pub mod actions;
pub mod args;
pub mod command;
pub mod error;
pub mod filter;
pub mod lint;
pub mod listing;
pub mod load;
pub mod number;
pub mod proto;
pub mod qdisc;
pub mod script;
pub mod store;
pub mod words;

pub use command::{Command, Operation, Parent};
pub use error::{Diagnostics, Problem, TcError};
pub use lint::{Facts, Warning, lint};
pub use listing::{Clock, ListOptions, Selection};
pub use load::{Note, load, load_into};
pub use script::{Line, Script, Token, parse_script, split};
pub use store::{AnyDevice, Applied, Devices, Store};

#[cfg(test)]
mod tests;
