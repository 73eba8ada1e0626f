//! The control plane: from a configuration to a running forwarder, and from a capture to what the rules make of it. It sees every layer.

pub mod check;
pub mod config;
pub mod control;
pub mod explain;
pub mod forward;
pub mod import;
pub mod probe;
pub mod replay;
pub mod rules;
pub mod run;
pub mod show;
pub mod takeover;
pub mod tc;
pub mod top;
pub mod watch;
