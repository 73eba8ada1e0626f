//! Captures: a streaming reader and writer of classic pcap with Ethernet frames. They interpret no frame.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader as Reader, PcapWriter as Writer};
use pcap_file::{DataLink, Endianness, TsResolution};

/// Why a capture cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PcapError {
    /// The file cannot be opened.
    #[error("cannot open the capture {path}: {source}; check the path")]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// It is no classic pcap, or broken.
    #[error("{path}: packet {number}: {reason}; convert it with `editcap -F pcap` if it is another format")]
    Format {
        /// The file.
        path: PathBuf,
        /// The packet, from 1; 0 for the file's header.
        number: u64,
        /// What is wrong.
        reason: String,
    },
    /// Not Ethernet.
    #[error("{path}: the link type is {link:?}; only Ethernet captures can be replayed")]
    Link {
        /// The file.
        path: PathBuf,
        /// What it is.
        link: DataLink,
    },
    /// It cannot be written.
    #[error("cannot write the capture {path}: {reason}; choose a directory that can be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Reads frames one by one; memory does not grow with the capture.
pub struct PcapReader {
    path: PathBuf,
    reader: Reader<BufReader<File>>,
    number: u64,
}

impl PcapReader {
    /// Opens a capture: microseconds or nanoseconds, either byte order.
    ///
    /// # Errors
    /// [`PcapError`].
    pub fn open(path: &Path) -> Result<Self, PcapError> {
        let file = File::open(path).map_err(|source| PcapError::Open { path: path.to_owned(), source })?;
        let reader = Reader::new(BufReader::new(file)).map_err(|e| PcapError::Format {
            path: path.to_owned(),
            number: 0,
            reason: e.to_string(),
        })?;
        let link = reader.header().datalink;
        if link != DataLink::ETHERNET {
            return Err(PcapError::Link { path: path.to_owned(), link });
        }
        Ok(Self { path: path.to_owned(), reader, number: 0 })
    }

    /// The next frame with its time since the epoch; `None` at the end.
    ///
    /// # Errors
    /// [`PcapError::Format`] names the packet where the file is broken.
    pub fn next_frame(&mut self) -> Result<Option<(Duration, Vec<u8>)>, PcapError> {
        self.number += 1;
        match self.reader.next_packet() {
            None => Ok(None),
            Some(Ok(packet)) => Ok(Some((packet.timestamp, packet.data.into_owned()))),
            Some(Err(e)) => {
                Err(PcapError::Format { path: self.path.clone(), number: self.number, reason: e.to_string() })
            }
        }
    }
}

/// Writes frames: little endian, microseconds, Ethernet.
pub struct PcapWriter {
    path: PathBuf,
    writer: Writer<BufWriter<File>>,
}

/// The longest frame that a capture of ours may hold, as its header says.
const SNAPLEN: u32 = 262_144;

impl PcapWriter {
    /// Creates the file.
    ///
    /// # Errors
    /// [`PcapError::Write`].
    pub fn create(path: &Path) -> Result<Self, PcapError> {
        let failed = |reason: String| PcapError::Write { path: path.to_owned(), reason };
        let file = File::create(path).map_err(|e| failed(e.to_string()))?;
        let header = PcapHeader {
            snaplen: SNAPLEN,
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::MicroSecond,
            endianness: Endianness::Little,
            ..PcapHeader::default()
        };
        let writer = Writer::with_header(BufWriter::new(file), header).map_err(|e| failed(e.to_string()))?;
        Ok(Self { path: path.to_owned(), writer })
    }

    /// Writes a frame with a time stamp.
    ///
    /// # Errors
    /// [`PcapError::Write`].
    pub fn write(&mut self, seconds: u32, micros: u32, frame: &[u8]) -> Result<(), PcapError> {
        let time = Duration::new(u64::from(seconds), micros * 1000);
        self.writer
            .write_packet(&PcapPacket::new(time, frame.len() as u32, frame))
            .map(drop)
            .map_err(|e| PcapError::Write { path: self.path.clone(), reason: e.to_string() })
    }

    /// Flushes and closes it.
    ///
    /// # Errors
    /// [`PcapError::Write`].
    pub fn finish(self) -> Result<(), PcapError> {
        self.writer
            .into_writer()
            .flush()
            .map_err(|e| PcapError::Write { path: self.path.clone(), reason: e.to_string() })
    }
}
