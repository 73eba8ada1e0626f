//! Bytes on the wire: headers, VLAN tags, checksums, segmentation. Works on slices only; it decides nothing about a frame's way.

pub mod checksum;
pub mod csum;
pub mod dissect;
pub mod filter;
pub mod headers;
pub mod merge;
pub mod nat;
pub mod pedit;
pub mod segment;
pub mod transport;
pub mod vlan;

pub use dissect::{Headers, SeenTag};
pub use filter::{Filter, FilterError};
pub use headers::{Fragment, IpVersion};

/// Two bytes at `offset` in network order.
///
/// # Panics
/// If they are not within `data`: callers have compared the length before.
#[inline]
#[must_use]
pub fn be16(data: &[u8], offset: usize) -> u16 {
    u16::from_be_bytes([data[offset], data[offset + 1]])
}

/// Four bytes at `offset` in network order.
///
/// # Panics
/// As [`be16`].
#[inline]
#[must_use]
pub fn be32(data: &[u8], offset: usize) -> u32 {
    let word: [u8; 4] = data[offset..offset + 4].try_into().expect("a slice of four bytes is an array of four");
    u32::from_be_bytes(word)
}

#[cfg(test)]
mod tests;
