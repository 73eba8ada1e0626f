//! Where one program in the kernel ends and the next begins, by the clock of the frames, so that a frame that a tap saw goes by the rules
//! by which the kernel dropped or kept it. It decides nothing about a frame.

use std::sync::atomic::{AtomicI64, Ordering};

use super::clock::real_ns;

/// Not yet.
const AHEAD: i64 = i64::MAX;
/// How long after a tap has stamped a frame the program behind it may run, in ns. Both are in one softirq, one after the other; other taps
/// are in between.
const REACH_NS: i64 = 50_000;

/// When a device's program was replaced: between two instants, in ns since 1970, as taps stamp frames.
#[derive(Debug)]
pub struct Seam {
    from: AtomicI64,
    until: AtomicI64,
}

/// By which rules the kernel decided about the frames of a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decided {
    /// By those before.
    Before,
    /// By either.
    Between,
    /// By those in force.
    Now,
}

impl Seam {
    /// All frames go by the new rules: there were none before.
    #[must_use]
    pub const fn long_ago() -> Self {
        Self { from: AtomicI64::new(i64::MIN), until: AtomicI64::new(i64::MIN) }
    }

    /// The program will be replaced.
    #[must_use]
    pub const fn ahead() -> Self {
        Self { from: AtomicI64::new(AHEAD), until: AtomicI64::new(AHEAD) }
    }

    /// Whether the program will be replaced.
    #[must_use]
    pub fn is_ahead(&self) -> bool {
        self.from.load(Ordering::SeqCst) == AHEAD
    }

    /// To be called before the program is replaced.
    pub fn begin(&self) {
        self.from.store(real_ns() - REACH_NS, Ordering::SeqCst);
    }

    /// To be called after it.
    pub fn end(&self) {
        self.until.store(real_ns(), Ordering::SeqCst);
    }

    /// When it ended, in ns since 1970; long ago if there never was another program, or none at all.
    pub fn ended(&self) -> i64 {
        self.until.load(Ordering::SeqCst)
    }

    /// Up to which stamp frames can be taken, and by which rules they go; in this order. The last ends where nothing is known yet.
    pub(super) fn stretches(&self) -> impl Iterator<Item = (i64, Decided)> {
        // The clock first: if the change has not begun now, what was stamped until here is decided by the rules before.
        let certain = real_ns() - REACH_NS;
        let (from, until) = (self.from.load(Ordering::SeqCst), self.until.load(Ordering::SeqCst));
        let count = if from == AHEAD || until == AHEAD { 1 } else { 3 };
        let all = [(from.min(certain), Decided::Before), (until, Decided::Between), (i64::MAX, Decided::Now)];
        all.into_iter().take(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_change_grows_and_never_shrinks() {
        let seam = Seam::ahead();
        let stretches = |seam: &Seam| seam.stretches().collect::<Vec<_>>();
        let before = stretches(&seam);
        assert!(matches!(before[..], [(until, Decided::Before)] if until < real_ns()));
        seam.begin();
        let began = stretches(&seam);
        assert!(matches!(began[..], [(until, Decided::Before)] if until >= before[0].0));
        assert_eq!(stretches(&seam), began, "nothing more is certain until it has ended");
        seam.end();
        let ended = stretches(&seam);
        assert_eq!(ended[0], began[0]);
        assert!(ended[1].0 > ended[0].0 && ended[1].1 == Decided::Between);
        assert_eq!(ended[2], (i64::MAX, Decided::Now));
        let long_ago = stretches(&Seam::long_ago());
        assert_eq!(long_ago.iter().map(|s| s.0).collect::<Vec<_>>(), [i64::MIN, i64::MIN, i64::MAX]);
    }
}
