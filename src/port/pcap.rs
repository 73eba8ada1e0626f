//! Classic captures of Ethernet, read and written as a stream: memory does not grow with them. It is no [`super::Port`].

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapReader as Reader, PcapWriter as Writer, RawPcapPacket};
use pcap_file::{DataLink, Endianness, TsResolution};

use crate::limits::FRAME_LEN_MAX;

/// What tools write today (`MAXIMUM_SNAPLEN` of libpcap), and the golden cases.
const SNAPLEN: u32 = 262_144;

/// Why a capture cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PcapError {
    /// The file cannot be opened, read or written.
    #[error("{}: {source}; check the path and the free space", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It is no classic capture.
    #[error("{}: not a classic pcap file ({reason}); convert it with `editcap -F pcap IN OUT`", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It is one, of something else than Ethernet.
    #[error("{}: its link type is {link:?}; only Ethernet captures have MAC headers: capture on an Ethernet device", path.display())]
    Link {
        /// The file.
        path: PathBuf,
        /// Its link type.
        link: DataLink,
    },
    /// A record cannot be.
    #[error("{}: frame {number}: {reason}; the file may be cut off or damaged: rewrite it with `editcap`", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The frame's number, from 1.
        number: u64,
        /// What is wrong.
        reason: String,
    },
}

/// Reads a capture, one frame at a time: µs and ns, both byte orders.
#[derive(Debug)]
pub struct PcapReader {
    path: PathBuf,
    reader: Reader<File>,
    nanos_per_unit: u32,
    buffer: Vec<u8>,
    number: u64,
}

impl PcapReader {
    /// Opens a capture and checks its header.
    ///
    /// # Errors
    /// See [`PcapError`].
    pub fn open(path: &Path) -> Result<Self, PcapError> {
        let file = File::open(path).map_err(|source| PcapError::File { path: path.to_owned(), source })?;
        let reader = Reader::new(file).map_err(|e| PcapError::Format { path: path.to_owned(), reason: reason(&e) })?;
        let header = reader.header();
        if header.datalink != DataLink::ETHERNET {
            return Err(PcapError::Link { path: path.to_owned(), link: header.datalink });
        }
        let nanos_per_unit = match header.ts_resolution {
            TsResolution::MicroSecond => 1000,
            TsResolution::NanoSecond => 1,
        };
        let buffer = Vec::with_capacity(FRAME_LEN_MAX);
        Ok(Self { path: path.to_owned(), reader, nanos_per_unit, buffer, number: 0 })
    }

    /// The next frame, with its time since 1970; `None` at the end. A frame that was captured in part comes as captured.
    ///
    /// # Errors
    /// [`PcapError::Record`]; nothing can be read after it.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend its buffer")]
    pub fn next(&mut self) -> Result<Option<(Duration, &[u8])>, PcapError> {
        let Some(record) = self.reader.next_raw_packet() else { return Ok(None) };
        self.number += 1;
        let wrong = |reason| PcapError::Record { path: self.path.clone(), number: self.number, reason };
        let record = record.map_err(|e| wrong(reason(&e)))?;
        if record.data.len() > FRAME_LEN_MAX {
            return Err(wrong(format!("{} bytes are more than a frame has ({FRAME_LEN_MAX})", record.data.len())));
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(&record.data);
        let fraction = Duration::from_nanos(u64::from(record.ts_frac) * u64::from(self.nanos_per_unit));
        Ok(Some((Duration::from_secs(u64::from(record.ts_sec)) + fraction, &self.buffer)))
    }
}

fn reason(error: &pcap_file::PcapError) -> String {
    let source = std::error::Error::source(error).map_or_else(String::new, |s| format!(": {s}"));
    format!("{error}{source}")
}

/// Writes a capture: little-endian, µs, Ethernet.
#[derive(Debug)]
pub struct PcapWriter {
    path: PathBuf,
    writer: Writer<BufWriter<File>>,
}

impl PcapWriter {
    /// Creates the file (or empties it) and writes its header.
    ///
    /// # Errors
    /// [`PcapError::File`].
    pub fn create(path: &Path) -> Result<Self, PcapError> {
        let failed = |source| PcapError::File { path: path.to_owned(), source };
        let file = File::create(path).map_err(failed)?;
        let header = PcapHeader {
            snaplen: SNAPLEN,
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::MicroSecond,
            endianness: Endianness::Little,
            ..PcapHeader::default()
        };
        let writer = Writer::with_header(BufWriter::new(file), header).map_err(|e| failed(io::Error::other(e)))?;
        Ok(Self { path: path.to_owned(), writer })
    }

    /// Appends a frame with its time.
    ///
    /// # Errors
    /// [`PcapError::File`].
    pub fn write(&mut self, seconds: u32, micros: u32, frame: &[u8]) -> Result<(), PcapError> {
        let len = frame.len() as u32;
        let record =
            RawPcapPacket { ts_sec: seconds, ts_frac: micros, incl_len: len, orig_len: len, data: frame.into() };
        self.writer.write_raw_packet(&record).map(drop).map_err(|e| self.failed(io::Error::other(e)))
    }

    /// Writes what is buffered and closes the file. Without it an error of the last bytes would go unseen.
    ///
    /// # Errors
    /// [`PcapError::File`].
    pub fn finish(self) -> Result<(), PcapError> {
        let path = self.path;
        self.writer.into_writer().flush().map_err(|source| PcapError::File { path, source })
    }

    fn failed(&self, source: io::Error) -> PcapError {
        PcapError::File { path: self.path.clone(), source }
    }
}
