//! The kernel's edge: the only `unsafe` of the program, behind types that cannot be misused. It knows no rule and no frame's meaning.
#![allow(unsafe_code)]

pub mod bpf;
mod call;
pub mod cpu;
pub mod device;
pub mod frames;
mod mmap;
pub mod netns;
pub mod packet;
pub mod tap;
pub mod xdp;
