//! From a ruleset to eBPF programs: which frames of a device's ingress the rules take. Only [`load`] touches the kernel.
//!
//! Two programs come from the same classification ([`Target`]):
//!
//! ```text
//! Xdp         taken: to the AF_XDP socket of the queue   passed: counted as the kernel would, XDP_PASS
//! DropBehind  taken: dropped, a tap has its copy         passed: to the next program and the kernel's own filters
//! ```

pub mod asm;
mod classify;
mod count;
mod dissect;
mod ematch;
pub mod forward;
mod frame;
mod insn;
mod layout;
pub mod load;
mod refusal;
mod steer;
mod verdict;

#[cfg(test)]
mod tests;

pub use count::{BLOCK_WORDS, CounterSlot, SlotKind, Total};
pub use refusal::{Reason, Refusal};
pub use steer::{Object, Target, steer};
pub use verdict::takes;
