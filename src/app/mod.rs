//! The control plane: from a configuration to a running forwarder, and from a capture to what the rules make of it. It sees every layer.

pub mod config;
pub mod control;
pub mod replay;
pub mod rules;
