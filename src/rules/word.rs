//! What u32 compares: four bytes at a place in the frame, or, as the kernel reads them, partly or wholly before it.

use super::U32Key;

/// How far before a frame the kernel can read in any case: `NET_SKB_PAD`, include/linux/skbuff.h, is at least this.
pub const HEADROOM_LEN: i64 = 64;

/// Four bytes as `skb_header_pointer()` gives them. What is before the frame is there, and nobody knows what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameWord {
    /// In network order; 0 where it is not known.
    pub word: u32,
    /// The bits that are in the frame.
    pub known: u32,
}

impl FrameWord {
    /// Those from `at` bytes behind the frame's start; `None`: not all of them can be read.
    #[must_use]
    pub fn at(data: &[u8], at: i64) -> Option<Self> {
        if let Ok(at) = usize::try_from(at) {
            let bytes = data.get(at..at.checked_add(4)?)?.first_chunk::<4>()?;
            return Some(Self { word: u32::from_be_bytes(*bytes), known: u32::MAX });
        }
        if at < -HEADROOM_LEN {
            return None;
        }
        let missing = at.unsigned_abs() as usize;
        let (mut word, mut known) = ([0; 4], [0; 4]);
        let there = data.get(..4usize.saturating_sub(missing))?;
        word[4 - there.len()..].copy_from_slice(there);
        known[4 - there.len()..].fill(0xff);
        Some(Self { word: u32::from_be_bytes(word), known: u32::from_be_bytes(known) })
    }

    /// Whether the masked word is the value. It is not where something is compared that is not known.
    #[must_use]
    pub const fn holds(self, value: u32, mask: u32) -> bool {
        mask & !self.known == 0 && (self.word ^ value) & mask == 0
    }
}

/// A key that counts from a fixed place, as far as it is about the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFrame {
    /// Compares this. A key of mask 0 at the frame's start always holds.
    Key(U32Key),
    /// Compares what is before the frame: never holds.
    Never,
    /// Too far before the frame: cannot be read.
    Unreadable,
}

impl U32Key {
    /// What it compares if it counts from `base` bytes behind the frame's start.
    #[must_use]
    pub fn in_frame(&self, base: i32) -> InFrame {
        let missing = -i64::from(base) - i64::from(self.offset);
        if missing <= 0 {
            return InFrame::Key(*self);
        }
        if missing > HEADROOM_LEN {
            return InFrame::Unreadable;
        }
        let bits = missing as u32 * 8;
        if self.mask.leading_zeros() < bits.min(32) {
            return InFrame::Never;
        }
        let moved = |word: u32| word.checked_shl(bits).unwrap_or(0);
        InFrame::Key(Self { value: moved(self.value), mask: moved(self.mask), offset: -base, ..*self })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::U32Base;

    proptest! {
        #[test]
        fn a_key_before_the_frame_is_what_is_in_it(
            data in proptest::collection::vec(any::<u8>(), 14..20),
            offset in -90i32..-8,
            mask in prop_oneof![Just(0u32), Just(0xff), Just(0xffff), Just(0xff_ffff), any::<u32>()],
            fits in any::<bool>(),
            value in any::<u32>(),
        ) {
            let word = FrameWord::at(&data, i64::from(offset) + 14);
            let value = word.filter(|_| fits).map_or(value, |w| w.word) & mask;
            let key = U32Key { value, mask, offset, base: U32Base::Network };
            let in_frame = match key.in_frame(14) {
                InFrame::Key(key) => {
                    prop_assert!(key.offset >= -14);
                    FrameWord::at(&data, i64::from(key.offset) + 14).map(|word| word.holds(key.value, key.mask))
                }
                InFrame::Never => Some(false),
                InFrame::Unreadable => None,
            };
            prop_assert_eq!(in_frame, word.map(|w| w.holds(value, mask)));
        }
    }
}
