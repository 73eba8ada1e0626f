//! Hands libFuzzer's bytes to the body of the same name, and does nothing else.

#![no_main]

#[path = "../bodies/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::ebpf(data));
