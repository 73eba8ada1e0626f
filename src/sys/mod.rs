//! Placeholder of the layer `sys`.
#![allow(unsafe_code)]

pub mod bpf;
