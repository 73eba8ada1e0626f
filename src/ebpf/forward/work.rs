//! The memory that a forwarding program works on, one copy per CPU: the frame's head, and what travels with it. No code here.
//!
//! ```text
//! R9 →   0  the fields of [`field`]              136 ..  224  room for tags and headers before the network header
//!      224  network header, as the frame came    ..  head_end  as much of the frame as the rules can reach at once
//!      512 .. 2560  chunks of the frame on their way to a checksum
//! ```
//!
//! The frame is without its outer VLAN tag, as tc sees it. A *position* counts from R9; what lies behind `head_end` is only in
//! the packet. All of it is map memory: the verifier does not follow values there, so paths do not multiply.

use crate::limits::{ETHERNET_LEN, VLAN_TAG_LEN};

/// Fields of the workspace, by their offset from R9. Numbers are in host byte order unless said otherwise.
pub(in crate::ebpf) mod field {
    /// u64: nanoseconds of CLOCK_MONOTONIC.
    pub const NOW_NS: i16 = 0;
    /// u32: what actions count as bytes.
    pub const BYTES: i16 = 8;
    /// u32: position of the frame's end.
    pub const END: i16 = 12;
    /// u32: position of the frame's start.
    pub const START: i16 = 16;
    /// u32: position of the network header.
    pub const NETWORK: i16 = 20;
    /// u32: the position that is offset 0 of the packet as it is.
    pub const ORIGIN: i16 = 24;
    /// u32: how much of the head differs from the packet, see [`super::dirty`].
    pub const DIRTY: i16 = 28;
    /// u16: TPID of the tag beside the frame; 0: none.
    pub const TPID: i16 = 32;
    /// u16: its TCI.
    pub const TCI: i16 = 34;
    /// u16: `skb->protocol` of the frame without tag.
    pub const PROTOCOL: i16 = 36;
    /// u16: what filters compare with their protocol.
    pub const SEEN: i16 = 38;
    /// u32: number of the outgoing device in the program.
    pub const DEVICE: i16 = 40;
    /// u32: slot of the redirect's overlimits.
    pub const OVERLIMITS: i16 = 44;
    /// u32: position of a partial checksum's field; 0: none.
    pub const PARTIAL: i16 = 48;
    /// u32: position where the sum of a partial checksum starts.
    pub const PARTIAL_FROM: i16 = 52;
    /// u32: position where it ends.
    pub const PARTIAL_TO: i16 = 56;
    /// u32: `off2` of u32: how far the next header is behind the base.
    pub const NEXT_HEADER: i16 = 60;
    /// u32 each: bases of u32 tables, by depth.
    pub const BASES: i16 = 64;
    /// u32: the best rule that was looked up: its order.
    pub const BEST: i16 = 100;
    /// u32: the code that runs it.
    pub const BEST_CODE: i16 = 104;
    /// u32: its first counter slot.
    pub const BEST_SLOT: i16 = 108;
    /// u16 each: what flower's dissector found.
    pub const IP_PROTO: i16 = 112;
    /// See [`crate::ebpf::dissect`].
    pub const FOUND: i16 = 114;
    pub const SRC_PORT: i16 = 116;
    pub const DST_PORT: i16 = 118;
    pub const TCP_FLAGS: i16 = 120;
    /// u16: the type that it ended at.
    pub const ETH_TYPE: i16 = 122;
    /// u32: anything, for a short while.
    pub const SCRATCH: i16 = 124;
    /// u32: `skb->mark` (XDP, where no other has it).
    pub const MARK: i16 = 128;
}

/// Values of [`field::DIRTY`].
pub(super) mod dirty {
    /// Bytes before the network header, or tags.
    pub const LINK: i32 = 1;
    /// All of the head.
    pub const HEAD: i32 = 2;
}

/// Stack offsets: the stack holds only what helpers read and write.
pub(super) mod stack {
    /// u32: key of an array map.
    pub const MAP_KEY: i16 = -4;
    /// A register that is put away.
    pub const SAVED: i16 = -24;
    /// Key of the map of rules; it ends here and begins before.
    pub const RULE_KEY_END: i16 = -24;
}

/// Position of the network header when the frame comes in.
pub(super) const NETWORK: i32 = 224;
/// Position of the frame's start then.
pub(super) const START: i32 = NETWORK - ETHERNET_LEN as i32;
/// The same of a packet with its tag in it.
pub(super) const START_TAGGED: i32 = START - VLAN_TAG_LEN as i32;
/// The most of a frame that the workspace holds, from its start without tag.
pub(super) const HEAD_END_MAX: i32 = 508;
/// The least: what 64 bytes of a frame without tag fill, to a multiple of four from the network header.
pub(super) const HEAD_END_MIN: i32 = 272;
/// Where chunks are.
pub(super) const CHUNK: i32 = 512;
/// Bytes in a chunk.
pub(super) const CHUNK_LEN: i32 = 2048;
/// Bytes that are summed up at once: the most that `bpf_csum_diff()` takes (`MAX_BPF_STACK`).
pub(super) const PIECE_LEN: i32 = 512;
/// Length of the workspace in bytes; a word more than chunks, for what pads them.
pub const WORKSPACE_LEN: u32 = 2568;

/// What is before is not the frame's, whatever an edit says.
pub(super) const ROOM: i32 = 136;

const _: () = assert!(field::MARK as i32 + 4 <= ROOM);
const _: () = assert!(NETWORK - crate::limits::NETWORK_OFFSET_MAX as i32 >= ROOM + 8);
const _: () =
    assert!((CHUNK + CHUNK_LEN) as u32 + 8 == WORKSPACE_LEN && HEAD_END_MAX + 4 <= CHUNK && CHUNK_LEN % PIECE_LEN == 0);
const _: () = assert!((HEAD_END_MIN - NETWORK) % 4 == 0 && (HEAD_END_MAX - NETWORK) % 4 == 0);
