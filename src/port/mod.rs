//! Frames in, frames out.
pub mod pcap;
