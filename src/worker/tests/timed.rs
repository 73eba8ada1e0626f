//! What a round allocates, also while somebody wants to know how long frames stay, and what those times are.

use super::*;
use crate::sys::counted::allocations;
use crate::worker::{Sight, Tap, Taps, Timing};

/// Times of what comes in by `a`.
fn timed() -> (Bench, Arc<Timing>) {
    let mut bench = Bench::new(TAKE_7_AND_8, &["a", "b"], OnPass::KernelHasIt);
    let (taps, timing) = (Taps::default(), Arc::new(Timing::new(2)));
    taps.set(vec![Tap { sight: Sight::Times(Arc::clone(&timing)), interfaces: Box::new([Some(0), None]) }]);
    assert!(bench.engine.taps.look(&taps));
    bench.engine.batch.keep_stamps(true);
    (bench, timing)
}

#[test]
fn only_frames_that_were_sent_on_have_a_time_and_it_begins_with_their_stamp() {
    let (mut bench, timing) = timed();
    bench.mem("a").push_stamped(real_ns() - 5_000_000_000, &udp(7));
    bench.mem("a").push(&udp(9));
    bench.mem("a").push(&udp(8));
    bench.mem("b").push(&udp(7));
    bench.engine.step(&bench.rules);
    let times: Vec<u64> = std::iter::from_fn(|| timing.next()).collect();
    assert!(matches!(times[..], [old, new] if old >= 5_000_000_000 && (1..5_000_000_000).contains(&new)), "{times:?}");
    bench.balance();
}

#[test]
fn a_timed_round_allocates_nothing() {
    let (mut bench, timing) = timed();
    let mut allocated = Vec::new();
    for _ in 0..3 {
        for _ in 0..64 {
            bench.mem("a").push(&udp(7));
            bench.mem("b").push(&udp(9));
        }
        allocated.push(allocations(|| assert!(bench.engine.step(&bench.rules))));
        assert_eq!(std::iter::from_fn(|| bench.mem("b").pop()).count(), 64);
    }
    // In the first round a port in memory makes its buffers.
    assert_eq!(allocated, [64, 0, 0]);
    assert_eq!(std::iter::from_fn(|| timing.next()).count(), 192);
}

#[test]
fn a_round_allocates_nothing() {
    let mut bench = Bench::new(TAKE_7, &["a", "b"], OnPass::KernelHasIt);
    let mut allocated = Vec::new();
    for _ in 0..3 {
        for n in 0..64 {
            let port = if n % 2 == 0 { 7 } else { 9 };
            bench.mem("a").push(&udp(port));
            bench.mem("b").push(&udp(port));
        }
        allocated.push(allocations(|| assert!(bench.engine.step(&bench.rules))));
        assert_eq!(std::iter::from_fn(|| bench.mem("b").pop()).count(), 32);
        bench.balance();
    }
    // In the first round a port in memory makes its buffers.
    assert_eq!(allocated, [32, 0, 0]);
}
