//! What is fuzzed: each function takes any bytes and panics only if viscum is wrong. libFuzzer's targets and the ordinary tests call them.

#![allow(dead_code, reason = "each fuzz target calls one of them")]

mod choices;
mod config;
mod control;
mod frames;
mod grammar;
mod pcap;
mod state;
mod words;

/// A target's name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("script", script),
    ("commands", commands),
    ("frames", frames),
    ("ebpf", ebpf),
    ("config", config),
    ("control", control),
    ("pcap", pcap),
];

/// Raw text as a tc script: parsed, applied, listed, checked, compiled.
pub fn script(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        state::script(text);
    }
}

/// A sequence of tc commands that the bytes choose from tc's grammar, on one state; then everything is deleted again.
pub fn commands(data: &[u8]) {
    state::commands(data);
}

/// Rules that the bytes choose, and frames: the plan and the interpreter agree on every event and counter.
pub fn frames(data: &[u8]) {
    frames::frames(data);
}

/// Rules that the bytes choose: the compiler to eBPF refuses or emits.
pub fn ebpf(data: &[u8]) {
    frames::ebpf(data);
}

/// Text as the configuration file and as a topology file.
pub fn config(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        config::config(text);
    }
}

/// Bytes on the control socket of a forwarder.
pub fn control(data: &[u8]) {
    control::control(data);
}

/// Bytes as a capture.
pub fn pcap(data: &[u8]) {
    pcap::pcap(data);
}
