//! A frame on its way, with the room before and behind it: it grows and shrinks at its head in place. It allocates nothing.

use std::ops::Range;

use crate::limits::{FRAME_HEADROOM, NETWORK_OFFSET_MAX};
use crate::types::PacketMeta;

/// A frame on its way.
///
/// ```text
/// room   | headroom | frame: destination MAC … | tailroom |
///        0          start                      end
/// ```
#[derive(Debug)]
pub struct Packet<'a> {
    room: &'a mut [u8],
    start: usize,
    end: usize,
    /// What travels beside it.
    pub meta: PacketMeta,
}

impl<'a> Packet<'a> {
    /// A frame at `frame` in its room: from the destination MAC on, without the outer VLAN tag (see `wire::vlan::receive`).
    ///
    /// # Panics
    /// If it does not lie in the room, or is shorter than `meta.network` says.
    #[must_use]
    pub fn new(room: &'a mut [u8], frame: Range<usize>, meta: PacketMeta) -> Self {
        assert!(frame.start <= frame.end && frame.end <= room.len(), "a frame lies in its room");
        assert!(frame.len() >= usize::from(meta.network), "a frame reaches to its network header");
        Self { room, start: frame.start, end: frame.end, meta }
    }

    /// The frame.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.room[self.start..self.end]
    }

    /// The frame, to rewrite.
    #[must_use]
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.room[self.start..self.end]
    }

    /// The frame and what travels beside it.
    #[must_use]
    pub fn parts_mut(&mut self) -> (&mut [u8], &mut PacketMeta) {
        (&mut self.room[self.start..self.end], &mut self.meta)
    }

    /// Where the frame is in its room now.
    #[must_use]
    pub const fn frame(&self) -> Range<usize> {
        self.start..self.end
    }

    /// Puts `count` bytes before the frame, which are whatever was there, and moves the network header with them. Without headroom
    /// the frame moves into its tailroom: that costs a copy of it, once for several pushes. False: there is no room, or the network
    /// header would be beyond [`NETWORK_OFFSET_MAX`]; nothing changed.
    #[must_use]
    pub(super) fn grow(&mut self, count: usize) -> bool {
        let network = usize::from(self.meta.network) + count;
        if network > NETWORK_OFFSET_MAX || self.start < count && !self.move_back(count - self.start) {
            return false;
        }
        self.start -= count;
        self.meta.network = network as u16;
        true
    }

    /// Moves the frame by at least `count` bytes, for the pushes to come by more.
    fn move_back(&mut self, count: usize) -> bool {
        let by = (self.room.len() - self.end).min(FRAME_HEADROOM);
        if by < count {
            return false;
        }
        self.room.copy_within(self.start..self.end, self.start + by);
        self.start += by;
        self.end += by;
        true
    }

    /// Takes `count` bytes off the frame's head; the network header stays where it is.
    pub(super) fn shrink(&mut self, count: usize) {
        self.start += count;
        self.meta.network = self.meta.network.saturating_sub(count as u16);
    }
}
