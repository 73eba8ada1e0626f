//! The sink: a program at the far end that counts what arrives, in which order and how old, and drops it.

use hdrhistogram::Histogram;

use super::MeasureError;
use super::bed::Bed;
use super::code::{self, COUNT_ENTRIES, DUPLICATES, FLOW_WORDS, FRAMES, LATE, REORDERED, TIMES};
use super::programs::load;
use super::times::{BUCKETS, histogram, middle};
use crate::host::netns::in_namespace;
use crate::sys::bpf::{Error, Kind, Link, Mode, WordsMap};

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
    _link: Link,
}

impl Sink {
    /// Attaches a sink whose counts are zero. Where the path has a program of its own at the far end already (`--mode xdp` puts one
    /// there that passes everything), a sink in XDP goes behind it, to the ingress hook.
    ///
    /// # Errors
    /// [`MeasureError::Program`].
    pub fn attach(bed: &Bed, kind: SinkKind, flows: u32) -> Result<Self, MeasureError> {
        match (Self::attach_at(bed, kind, flows), kind) {
            (Err(MeasureError::Program(Error::Busy { .. })), SinkKind::Xdp) => {
                Self::attach_at(bed, SinkKind::Stack, flows)
            }
            (result, _) => result,
        }
    }

    fn attach_at(bed: &Bed, kind: SinkKind, flows: u32) -> Result<Self, MeasureError> {
        let counts = WordsMap::new(c"viscum_arrived", 1, COUNT_ENTRIES)?;
        let memory = WordsMap::new(c"viscum_flows", FLOW_WORDS, flows)?;
        let program_kind = match kind {
            SinkKind::Xdp => Kind::Xdp,
            SinkKind::Stack => Kind::Classifier,
        };
        let text = code::sink(program_kind, flows);
        let maps = [(code::COUNTS, counts.map()), (code::FLOWS, memory.map())];
        let program = load(program_kind, "sink", &text, &maps)?;
        let link = in_namespace(Some(&bed.to()), || match kind {
            SinkKind::Xdp => Link::xdp(&program, bed.sink_ifindex, Mode::Native),
            SinkKind::Stack => Link::tcx_ingress(&program, bed.sink_ifindex),
        })??;
        Ok(Self { counts, _flows: memory, _link: link })
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
