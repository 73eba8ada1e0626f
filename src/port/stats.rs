//! What a port counts. Plain data.

use crate::types::DropReason;

/// Counts since a port was opened.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct PortStats {
    /// Frames received and handed out.
    pub rx_frames: u64,
    /// Their bytes, as on the wire.
    pub rx_bytes: u64,
    /// Frames handed to the kernel.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Frames lost, by [`DropReason::index`].
    pub drops: [u64; DropReason::ALL.len()],
    /// System calls that made the kernel look at the receiving side.
    pub rx_wakeups: u64,
    /// System calls that made the kernel transmit.
    pub tx_wakeups: u64,
}

impl PortStats {
    pub(super) fn drop_many(&mut self, reason: DropReason, count: u64) {
        self.drops[reason.index()] += count;
    }

    /// How many frames were lost for this reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason.index()]
    }
}
