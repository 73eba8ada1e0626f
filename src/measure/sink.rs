//! The sink: a program at the far end that counts what arrives, in which order and how old, and drops it.

use std::sync::Arc;

use hdrhistogram::Histogram;

use super::MeasureError;
use super::bed::{Bed, Seat};
use super::code::{self, COUNT_ENTRIES, DUPLICATES, FLOW_WORDS, FRAMES, LATE, REORDERED, TIMES};
use super::programs::load;
use super::times::{BUCKETS, histogram, middle};
use crate::host::netns::in_namespace;
use crate::sys::bpf::{Kind, Link, Mode, WordsMap};

/// Where frames end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SinkKind {
    /// In XDP at the far end: it costs next to nothing where frames come as such, and a copy where they come as packets of the stack.
    #[default]
    Xdp,
    /// At the far end's ingress hook: every path's frames have become packets of the stack by then, as they would for a server.
    Stack,
}

/// What arrived.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// Frames in all.
    pub frames: u64,
    /// Frames that came behind a later one of their flow.
    pub reordered: u64,
    /// Frames that had come before.
    pub duplicates: u64,
    /// Frames more than 64 numbers late: reordered or duplicates.
    pub late: u64,
    /// Ages of measured frames in ns.
    pub ages: Histogram<u64>,
}

/// A sink of one bed; it goes when this is dropped.
#[derive(Debug)]
pub struct Sink {
    counts: WordsMap,
    _flows: WordsMap,
    _place: Place,
}

/// How it hangs at the far end; it goes when this is dropped.
#[derive(Debug)]
enum Place {
    Own(#[expect(dead_code, reason = "held until the sink goes")] Link),
    Seat(Arc<Seat>),
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Self::Seat(seat) = self {
            // If that fails the device is gone, and with it everything there.
            let _gone = seat.link.update(&seat.pass);
        }
    }
}

impl Sink {
    /// Attaches a sink whose counts are zero; one in XDP takes the [`Seat`] of the bed, if it has one.
    ///
    /// # Errors
    /// [`MeasureError::Program`].
    pub fn attach(bed: &Bed, kind: SinkKind, flows: u32) -> Result<Self, MeasureError> {
        let counts = WordsMap::new(c"viscum_arrived", 1, COUNT_ENTRIES)?;
        let memory = WordsMap::new(c"viscum_flows", FLOW_WORDS, flows)?;
        let program_kind = match kind {
            SinkKind::Xdp => Kind::Xdp,
            SinkKind::Stack => Kind::Classifier,
        };
        let text = code::sink(program_kind, flows);
        let maps = [(code::COUNTS, counts.map()), (code::FLOWS, memory.map())];
        let program = load(program_kind, "sink", &text, &maps)?;
        let place = match (kind, &bed.seat) {
            (SinkKind::Xdp, Some(seat)) => {
                seat.link.update(&program)?;
                Place::Seat(Arc::clone(seat))
            }
            (SinkKind::Xdp | SinkKind::Stack, _) => Place::Own(in_namespace(Some(&bed.to()), || match kind {
                SinkKind::Xdp => Link::xdp(&program, bed.sink_ifindex, Mode::Native),
                SinkKind::Stack => Link::tcx_ingress(&program, bed.sink_ifindex),
            })??),
        };
        Ok(Self { counts, _flows: memory, _place: place })
    }

    /// Frames so far.
    ///
    /// # Errors
    /// [`MeasureError::Program`]; not expected.
    pub fn frames(&self) -> Result<u64, MeasureError> {
        Ok(self.counts.get(FRAMES)?[0])
    }

    /// All that it counted.
    ///
    /// # Errors
    /// [`MeasureError::Program`]; not expected.
    pub fn arrived(&self) -> Result<Arrived, MeasureError> {
        let get = |entry| self.counts.get(entry).map(|words| words[0]);
        let mut ages = histogram();
        for bucket in 0..BUCKETS {
            let count = get(TIMES + bucket)?;
            if count > 0 {
                ages.saturating_record_n(middle(bucket).max(1), count);
            }
        }
        let (frames, reordered, duplicates, late) = (get(FRAMES)?, get(REORDERED)?, get(DUPLICATES)?, get(LATE)?);
        Ok(Arrived { frames, reordered, duplicates, late, ages })
    }
}
