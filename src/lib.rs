//! viscum is Linux `tc` in userspace: it reads tc rules, keeps the state that the kernel would keep, and runs the rules on frames.
//!
//! Data flows one way; each module knows only those before it:
//!
//! ```text
//! tc text ──tc──▶ command ──tc::store──▶ Ruleset ──plan──▶ Plan ──▶ worker::step ──▶ port ──▶ sys ──▶ kernel
//!                                           ├──rules::eval   the slow, obvious interpreter: the definition of "right"
//!                                           └──ebpf──▶ XDP steering, tc drop-behind
//! ```

#![deny(unsafe_code)]

pub mod limits;
pub mod types;

pub mod wire;

pub mod rules;

pub mod tc;

pub mod plan;

pub mod sys;

pub mod ebpf;

pub mod port;

pub mod worker;

pub mod host;

pub mod app;

pub mod lab;

pub mod measure;

pub mod cli;
