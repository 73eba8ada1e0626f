//! Captures: a streaming reader of classic pcap files and a writer. Ethernet only; timing and rules are not its business.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcap::{self, PcapHeader, RawPcapPacket};
use pcap_file::{DataLink, Endianness, TsResolution};

/// `snaplen` of what is written, and the most that a record may claim: tcpdump's `MAXIMUM_SNAPLEN`.
pub const SNAPLEN: u32 = 262_144;

/// Why a capture cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PcapError {
    /// The file cannot be opened or made.
    #[error("{}: {source}; check the path and its permissions", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file header is none.
    #[error("{}: not a pcap file ({reason}); convert other formats with `editcap -F pcap IN OUT`", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Frames of another kind.
    #[error("{}: link type {link_type} is not Ethernet (1); capture on an Ethernet device, not on `any`", path.display())]
    LinkType {
        /// The file.
        path: PathBuf,
        /// Its link type (<https://www.tcpdump.org/linktypes.html>).
        link_type: u32,
    },
    /// The file ends within a packet.
    #[error("{}: ends within packet {packet}; the capture was cut off: the {} before it are whole", path.display(), packet - 1)]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        packet: u64,
    },
    /// A record that cannot be.
    #[error("{}: packet {packet}: {reason}; the file is damaged from here on", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        packet: u64,
        /// What is wrong.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("{}: packet {packet}: {source}; is the disk full or gone?", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        packet: u64,
        /// The system's answer.
        source: io::Error,
    },
}

/// Reads one packet after the other; memory use does not depend on the file's length.
#[derive(Debug)]
pub struct PcapReader<R: Read = File> {
    path: PathBuf,
    inner: pcap::PcapReader<R>,
    packet: u64,
    failed: bool,
    bytes: Vec<u8>,
}

impl PcapReader {
    /// Opens a capture with times in microseconds or nanoseconds, of either byte order.
    ///
    /// # Errors
    /// `Open`, `Header`, `LinkType`.
    pub fn open(path: &Path) -> Result<Self, PcapError> {
        let file = File::open(path).map_err(|source| PcapError::Open { path: path.to_owned(), source })?;
        Self::from_reader(file, path)
    }
}

impl<R: Read> PcapReader<R> {
    /// The same from any source of bytes; `path` is for messages.
    ///
    /// # Errors
    /// `Open`, `Header`, `LinkType`.
    pub fn from_reader(source: R, path: &Path) -> Result<Self, PcapError> {
        let inner = pcap::PcapReader::new(source).map_err(|error| match error {
            pcap_file::PcapError::IoError(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
                PcapError::Open { path: path.to_owned(), source }
            }
            pcap_file::PcapError::IoError(_) => {
                PcapError::Header { path: path.to_owned(), reason: "shorter than a file header".to_owned() }
            }
            other => PcapError::Header { path: path.to_owned(), reason: other.to_string() },
        })?;
        let datalink = inner.header().datalink;
        if datalink != DataLink::ETHERNET {
            return Err(PcapError::LinkType { path: path.to_owned(), link_type: datalink.into() });
        }
        Ok(Self { path: path.to_owned(), inner, packet: 0, failed: false, bytes: Vec::new() })
    }

    /// The next packet, with its time since 1970, from the MAC header on (as much of it as was captured). `None` at the end, and
    /// after an error.
    ///
    /// # Errors
    /// `Truncated`, `Record`, `Io`, with the packet's number.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend its buffer")]
    pub fn next(&mut self) -> Result<Option<(Duration, &[u8])>, PcapError> {
        if self.failed {
            return Ok(None);
        }
        let resolution = self.inner.header().ts_resolution;
        let Some(result) = self.inner.next_raw_packet() else { return Ok(None) };
        self.packet += 1;
        let (path, packet) = (self.path.clone(), self.packet);
        let reason = match result {
            Ok(raw) if raw.incl_len > SNAPLEN => format!("a length of {} bytes is more than {SNAPLEN}", raw.incl_len),
            Ok(raw) => {
                let nanos = match resolution {
                    TsResolution::MicroSecond => u64::from(raw.ts_frac) * 1000,
                    TsResolution::NanoSecond => u64::from(raw.ts_frac),
                };
                let time = Duration::from_secs(u64::from(raw.ts_sec)) + Duration::from_nanos(nanos);
                self.bytes.clear();
                self.bytes.extend_from_slice(&raw.data);
                return Ok(Some((time, &self.bytes)));
            }
            Err(pcap_file::PcapError::IoError(source)) => {
                self.failed = true;
                return Err(if source.kind() == io::ErrorKind::UnexpectedEof {
                    PcapError::Truncated { path, packet }
                } else {
                    PcapError::Io { path, packet, source }
                });
            }
            Err(other) => other.to_string(),
        };
        self.failed = true;
        Err(PcapError::Record { path, packet, reason })
    }
}

/// Writes a little-endian capture with times in microseconds, as tcpdump does.
#[derive(Debug)]
pub struct PcapWriter {
    path: PathBuf,
    inner: pcap::PcapWriter<BufWriter<File>>,
    packet: u64,
}

impl PcapWriter {
    /// Makes the file (an old one is overwritten) with its header.
    ///
    /// # Errors
    /// `Open`.
    pub fn create(path: &Path) -> Result<Self, PcapError> {
        let open = |source| PcapError::Open { path: path.to_owned(), source };
        let header = PcapHeader {
            snaplen: SNAPLEN,
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::MicroSecond,
            endianness: Endianness::Little,
            ..PcapHeader::default()
        };
        let file = BufWriter::new(File::create(path).map_err(open)?);
        let inner = pcap::PcapWriter::with_header(file, header).map_err(|error| open(io_of(error)))?;
        Ok(Self { path: path.to_owned(), inner, packet: 0 })
    }

    /// Appends a frame with its time (`micros` under 1,000,000).
    ///
    /// # Errors
    /// `Record` for one longer than [`SNAPLEN`], `Io`.
    pub fn write(&mut self, seconds: u32, micros: u32, frame: &[u8]) -> Result<(), PcapError> {
        self.packet += 1;
        let len = u32::try_from(frame.len()).ok().filter(|len| *len <= SNAPLEN).ok_or_else(|| PcapError::Record {
            path: self.path.clone(),
            packet: self.packet,
            reason: format!("{} bytes are more than {SNAPLEN}", frame.len()),
        })?;
        let raw = RawPcapPacket { ts_sec: seconds, ts_frac: micros, incl_len: len, orig_len: len, data: frame.into() };
        let written = self.inner.write_raw_packet(&raw);
        written.map(|_bytes| ()).map_err(|error| self.io(io_of(error)))
    }

    /// Writes what is still in memory and closes the file. Without it the last packets may be lost without a word.
    ///
    /// # Errors
    /// `Io`.
    pub fn finish(self) -> Result<(), PcapError> {
        let Self { path, inner, packet } = self;
        inner.into_writer().flush().map_err(|source| PcapError::Io { path, packet, source })
    }

    fn io(&self, source: io::Error) -> PcapError {
        PcapError::Io { path: self.path.clone(), packet: self.packet, source }
    }
}

fn io_of(error: pcap_file::PcapError) -> io::Error {
    match error {
        pcap_file::PcapError::IoError(source) => source,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
#[path = "pcap_tests.rs"]
mod tests;
