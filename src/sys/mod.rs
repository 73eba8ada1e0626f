//! The kernel's boundary: the only place with `unsafe`, each behind a type that cannot be misused. No frame is looked into here.
#![allow(unsafe_code)]

pub mod bpf;
#[cfg(test)]
pub mod counted;
pub mod ethtool;
pub mod mmap;
pub mod packet;
pub mod packet_abi;
mod shared;
pub mod socket;
pub mod tap;
pub mod umem;
pub mod xsk;
