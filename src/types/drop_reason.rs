//! Why a frame was not forwarded: one value per reason, each with a counter. Nothing is lost without one of these.

/// Why a frame that a rule took did not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum DropReason {
    /// A rule says drop (`shot`), or an action failed in a way that drops.
    Rule,
    /// A rule consumed the frame without sending it anywhere (`stolen`, `queued`, `trap`).
    Consumed,
    /// Classification started again too often (`reclassify`, `goto chain`).
    ReclassifyLoop,
    /// mirred redirected to itself too often.
    MirredLoop,
    /// The device it goes to is down or gone.
    TargetDown,
    /// A tagged frame that is too short to hold its tag.
    Malformed,
    /// Longer than the buffer, or than what the outgoing device takes.
    TooLong,
    /// The outgoing device's ring or queue was full.
    TxFull,
    /// The kernel refused the frame on transmission.
    TxError,
    /// The receive ring overflowed: the kernel had no free buffer of ours.
    RxFull,
    /// The worker had no free buffer to copy it to.
    NoBuffer,
    /// The queue to the worker that owns the outgoing port was full.
    CrossingFull,
    /// No rule took it, and the device has no stack behind it that could (a tap instead of a veth pair).
    NoStack,
    /// It was taken under rules that were replaced before it was looked at.
    Stranded,
    /// It was still in a ring when the forwarder ended.
    Shutdown,
}

impl DropReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::Rule,
        Self::Consumed,
        Self::ReclassifyLoop,
        Self::MirredLoop,
        Self::TargetDown,
        Self::Malformed,
        Self::TooLong,
        Self::TxFull,
        Self::TxError,
        Self::RxFull,
        Self::NoBuffer,
        Self::CrossingFull,
        Self::NoStack,
        Self::Stranded,
        Self::Shutdown,
    ];

    /// Its name in listings and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Consumed => "consumed",
            Self::ReclassifyLoop => "reclassify_loop",
            Self::MirredLoop => "mirred_loop",
            Self::TargetDown => "target_down",
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
            Self::TxFull => "tx_full",
            Self::TxError => "tx_error",
            Self::RxFull => "rx_full",
            Self::NoBuffer => "no_buffer",
            Self::CrossingFull => "crossing_full",
            Self::NoStack => "no_stack",
            Self::Stranded => "stranded",
            Self::Shutdown => "shutdown",
        }
    }

    /// Its position in [`DropReason::ALL`], for arrays of counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::DropReason;

    #[test]
    fn every_reason_is_at_its_own_index() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index, "{}", reason.as_str());
        }
    }
}
