//! Copies of frames for whoever wants to see them: taken by a worker only while somebody does, into buffers that are there already. A
//! worker never waits for a reader: what finds no room is counted as lost. Nothing is explained or written here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use crossbeam::queue::ArrayQueue;

use super::clock::monotonic_ns;
use super::timing::{Timer, Timing};
use crate::limits::{TAP_BYTES_MAX, TAP_LEN_MAX, TAP_LEN_MIN, TAPS_MAX};
use crate::types::{DeviceId, DropReason, Offload};
use crate::wire::{Filter, checksum};

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Received: the rules sent it to this device (of the rules of [`Record::generation`]). Transmitted: the port took it.
    Sent(Option<DeviceId>),
    /// The kernel has it as well, and handles it (AF_PACKET).
    LeftToKernel,
    /// It ended here.
    Dropped(DropReason),
}

/// One frame, as a worker saw it.
#[derive(Debug)]
pub struct Record {
    /// The device, as the watch numbers them.
    pub interface: usize,
    /// Whether it was to be transmitted there; else it was received.
    pub outgoing: bool,
    /// When, in ns on [`super::monotonic_ns`]'s clock: received, or handed to the port.
    pub time_ns: i64,
    /// When its worker was done with it, on the same clock.
    pub ended_ns: i64,
    /// See [`Fate`].
    pub fate: Fate,
    /// The rules that decided; 0 for an outgoing frame.
    pub generation: u64,
    /// Its length on the wire, in bytes.
    pub len: usize,
    bytes: Box<[u8]>,
    kept: usize,
}

impl Record {
    /// Its bytes, as many as the watch keeps: as received before any rule, or as transmitted.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        &self.bytes[..self.kept]
    }
}

/// What somebody wants to see. Workers put records in, one reader takes them out.
#[derive(Debug)]
pub struct Watch {
    filter: Filter,
    /// Frames that devices transmit too.
    outgoing: bool,
    free: ArrayQueue<Box<[u8]>>,
    waiting: ArrayQueue<Record>,
    /// By interface, received and transmitted.
    lost: Box<[[AtomicU64; 2]]>,
    ended: AtomicBool,
}

impl Watch {
    /// Frames that `filter` holds of, of this many devices; the first `kept_max` bytes of each. All memory is taken now.
    #[must_use]
    pub fn new(filter: Filter, outgoing: bool, interfaces: usize, kept_max: usize) -> Self {
        let count = (TAP_BYTES_MAX / kept_max.max(1)).clamp(TAP_LEN_MIN, TAP_LEN_MAX);
        let free = ArrayQueue::new(count);
        for _ in 0..count {
            let fits = free.push(vec![0; kept_max].into_boxed_slice());
            assert!(fits.is_ok(), "the queue has room for as many buffers as it was made for");
        }
        let lost = (0..interfaces).map(|_| Default::default()).collect();
        Self { filter, outgoing, free, waiting: ArrayQueue::new(count), lost, ended: AtomicBool::new(false) }
    }

    /// Takes the oldest record out; give it back with [`Watch::done`].
    #[must_use]
    pub fn next(&self) -> Option<Record> {
        self.waiting.pop()
    }

    /// Gives a record's buffer back.
    pub fn done(&self, record: Record) {
        let fits = self.free.push(record.bytes);
        debug_assert!(fits.is_ok(), "a buffer came back that was not taken");
    }

    /// Frames that should have been copied and found no room: received and transmitted, by interface.
    #[must_use]
    pub fn lost(&self) -> Vec<[u64; 2]> {
        self.lost.iter().map(|l| [l[0].load(Ordering::Relaxed), l[1].load(Ordering::Relaxed)]).collect()
    }

    /// Nothing more will come: the forwarder ends.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Whether nothing more will come.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// A copy, if the frame is wanted and there is room.
    fn record(&self, interface: usize, outgoing: bool, frame: &[u8], offload: Offload) -> Option<Record> {
        if (outgoing && !self.outgoing) || !self.filter.matches(frame) {
            return None;
        }
        let Some(mut bytes) = self.free.pop() else {
            self.lost[interface][usize::from(outgoing)].fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let kept = frame.len().min(bytes.len());
        bytes[..kept].copy_from_slice(&frame[..kept]);
        complete(&mut bytes[..kept], frame.len(), offload);
        let time_ns = monotonic_ns();
        let fate = Fate::Sent(None);
        Some(Record {
            interface,
            outgoing,
            time_ns,
            ended_ns: time_ns,
            fate,
            generation: 0,
            len: frame.len(),
            bytes,
            kept,
        })
    }

    fn give(&self, record: Record) {
        let (interface, outgoing) = (record.interface, record.outgoing);
        if let Err(record) = self.waiting.push(record) {
            self.lost[interface][usize::from(outgoing)].fetch_add(1, Ordering::Relaxed);
            self.done(record);
        }
    }
}

/// What somebody wants to see.
#[derive(Clone, Debug)]
pub enum Sight {
    /// Copies of frames.
    Frames(Arc<Watch>),
    /// Only how long received frames stay here.
    Times(Arc<Timing>),
}

impl Sight {
    /// Whether it is the same one.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Frames(one), Self::Frames(other)) => Arc::ptr_eq(one, other),
            (Self::Times(one), Self::Times(other)) => Arc::ptr_eq(one, other),
            (Self::Frames(_) | Self::Times(_), _) => false,
        }
    }

    /// Nothing more will come: the forwarder ends.
    pub fn end(&self) {
        match self {
            Self::Frames(watch) => watch.end(),
            Self::Times(timing) => timing.end(),
        }
    }

    /// Whether nobody else has it.
    #[must_use]
    pub fn is_last(&self) -> bool {
        match self {
            Self::Frames(watch) => Arc::strong_count(watch) == 1,
            Self::Times(timing) => Arc::strong_count(timing) == 1,
        }
    }
}

/// A watch on the ports of one worker.
#[derive(Clone, Debug)]
pub struct Tap {
    /// What is wanted.
    pub sight: Sight,
    /// By port of the worker: the device as the watch numbers it, if it is one of those that are watched.
    pub interfaces: Box<[Option<usize>]>,
}

/// The taps on one worker, as others set them.
#[derive(Debug, Default)]
pub struct Taps {
    list: ArcSwap<Vec<Tap>>,
    /// Raised after `list` was replaced: the worker looks at the list only then.
    version: AtomicU64,
}

impl Taps {
    /// Replaces the list; the worker sees it in its next round. More than [`TAPS_MAX`] are not looked at.
    pub fn set(&self, taps: Vec<Tap>) {
        self.list.store(Arc::new(taps));
        // Pairs with the load in `Tapping::look`: who sees the new version sees the new list, or one that is newer still.
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// The worker's own end of its taps.
#[derive(Debug)]
pub(super) struct Tapping {
    version: u64,
    taps: Arc<Vec<Tap>>,
    /// The frame that is being handled: by tap, until its fate is known.
    received: Vec<(usize, Record)>,
    /// The frame that is being handed to a port.
    outgoing: Vec<(usize, Record)>,
    /// How long frames stay.
    pub timer: Timer,
}

impl Tapping {
    pub fn new() -> Self {
        let open = || Vec::with_capacity(TAPS_MAX);
        Self { version: 0, taps: Arc::default(), received: open(), outgoing: open(), timer: Timer::new() }
    }

    /// Between bursts: takes over what was changed. Whether anything was.
    pub fn look(&mut self, shared: &Taps) -> bool {
        let version = shared.version.load(Ordering::Acquire);
        let changed = version != self.version;
        if changed {
            self.version = version;
            self.taps = shared.list.load_full();
            self.timer.set(self.taps.iter().take(TAPS_MAX));
        }
        changed
    }

    /// Whether nobody wants to see anything: asked once per burst.
    pub fn is_empty(&self) -> bool {
        self.taps.is_empty()
    }

    /// A frame came in; [`Tapping::end`] must follow.
    pub fn receive(&mut self, port: usize, frame: &[u8], offload: Offload) {
        open(&self.taps, &mut self.received, (port, false), frame, offload);
    }

    /// What became of the frame that came in.
    pub fn end(&mut self, fate: Fate, generation: u64) {
        close(&self.taps, &mut self.received, fate, generation);
    }

    /// A frame is handed to a port; [`Tapping::sent`] must follow.
    pub fn send(&mut self, port: usize, frame: &[u8], offload: Offload) {
        open(&self.taps, &mut self.outgoing, (port, true), frame, offload);
    }

    /// Whether the port took it.
    pub fn sent(&mut self, result: Result<(), DropReason>) {
        let fate = result.map_or_else(Fate::Dropped, |()| Fate::Sent(None));
        close(&self.taps, &mut self.outgoing, fate, 0);
    }
}

/// A checksum that is left to the device is completed in the copy, as it is on the wire. That of a super-frame, and one of a frame that
/// is not kept whole, stays as it is.
fn complete(copy: &mut [u8], len: usize, offload: Offload) {
    let Offload { checksum: Some(partial), gso: None } = offload else { return };
    if copy.len() == len {
        if let Some(start) = len.checked_sub(partial.covers as usize) {
            let _completed = checksum::complete_at(copy, start as u16, partial.field);
        }
    }
}

fn open(
    taps: &[Tap],
    list: &mut Vec<(usize, Record)>,
    (port, outgoing): (usize, bool),
    frame: &[u8],
    offload: Offload,
) {
    for (index, tap) in taps.iter().take(TAPS_MAX).enumerate() {
        let Sight::Frames(watch) = &tap.sight else { continue };
        if let Some(interface) = tap.interfaces.get(port).copied().flatten() {
            list.extend(watch.record(interface, outgoing, frame, offload).map(|record| (index, record)));
        }
    }
}

fn close(taps: &[Tap], list: &mut Vec<(usize, Record)>, fate: Fate, generation: u64) {
    if list.is_empty() {
        return;
    }
    let ended_ns = monotonic_ns();
    for (index, record) in list.drain(..) {
        if let Sight::Frames(watch) = &taps[index].sight {
            watch.give(Record { fate, generation, ended_ns, ..record });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_and_a_reader_makes_room() {
        let watch = Arc::new(Watch::new("greater 3".parse().unwrap(), false, 1, 4));
        let taps = Taps::default();
        let mut tapping = Tapping::new();
        tapping.look(&taps);
        assert!(tapping.is_empty());
        taps.set(vec![Tap { sight: Sight::Frames(Arc::clone(&watch)), interfaces: Box::new([None, Some(0)]) }]);
        tapping.look(&taps);
        let mut frame = |port, bytes: &[u8]| {
            tapping.receive(port, bytes, Offload::NONE);
            tapping.end(Fate::LeftToKernel, 7);
            tapping.send(port, bytes, Offload::NONE);
            tapping.sent(Err(DropReason::TxFull));
        };
        frame(0, &[9; 9]);
        frame(1, &[9; 2]);
        let room = TAP_LEN_MAX as u64;
        for n in 0..room + 5 {
            frame(1, &n.to_be_bytes());
        }
        assert_eq!(watch.lost(), [[5, 0]]);
        let first = watch.next().unwrap();
        assert_eq!((first.frame(), first.len, first.generation), (&[0; 4][..], 8, 7));
        assert_eq!(first.fate, Fate::LeftToKernel);
        watch.done(first);
        frame(1, &[1; 8]);
        let rest: Vec<Record> = std::iter::from_fn(|| watch.next()).collect();
        assert_eq!((rest.len() as u64, rest.last().unwrap().frame()), (room, &[1; 4][..]));
        assert_eq!(watch.lost(), [[5, 0]], "frames of other ports, and those that were not wanted, are not missed");
    }
}
