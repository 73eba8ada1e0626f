//! Captures: a streaming reader of pcap and pcapng files, and a writer of pcap. Ethernet only; timing and rules are not its business.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcap::{self, PcapHeader, RawPcapPacket};
use pcap_file::{DataLink, Endianness, TsResolution};

use super::pcapng_read::{self, Failure};

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
    #[error("{}: neither pcap nor pcapng ({reason}); convert other formats with `editcap IN OUT.pcapng`", path.display())]
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
    inner: Form<R>,
    packet: u64,
    failed: bool,
    bytes: Vec<u8>,
}

#[derive(Debug)]
enum Form<R: Read> {
    Classic(pcap::PcapReader<R>),
    Ng(pcapng_read::Reader<BufReader<R>>),
}

impl PcapReader {
    /// Opens a capture: pcap with times in microseconds or nanoseconds, or pcapng, of either byte order.
    ///
    /// # Errors
    /// `Open`, `Header`, `LinkType`.
    pub fn open(path: &Path) -> Result<Self, PcapError> {
        let file = File::open(path).map_err(|source| PcapError::Open { path: path.to_owned(), source })?;
        Self::from_reader(file, path)
    }
}

impl<R: Read + Seek> PcapReader<R> {
    /// The same from any source of bytes; `path` is for messages.
    ///
    /// # Errors
    /// `Open`, `Header`, `LinkType`.
    pub fn from_reader(source: R, path: &Path) -> Result<Self, PcapError> {
        let inner = Form::open(source, path)?;
        Ok(Self { path: path.to_owned(), inner, packet: 0, failed: false, bytes: Vec::new() })
    }

    /// The next packet, with its time since 1970, from the MAC header on (as much of it as was captured). `None` at the end, and
    /// after an error.
    ///
    /// # Errors
    /// `Truncated`, `Record`, `Io`, with the packet's number; `LinkType` for a packet of a pcapng interface that is not Ethernet.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend its buffer")]
    pub fn next(&mut self) -> Result<Option<(Duration, &[u8])>, PcapError> {
        if self.failed {
            return Ok(None);
        }
        let found = match &mut self.inner {
            Form::Classic(reader) => next_classic(reader, &mut self.bytes),
            Form::Ng(reader) => reader.next().map(|found| {
                found.map(|(time, at)| {
                    self.bytes.clear();
                    self.bytes.extend_from_slice(&reader.bytes()[at]);
                    time
                })
            }),
        };
        self.packet += 1;
        let (path, packet) = (self.path.clone(), self.packet);
        match found {
            Ok(Some(_)) if self.bytes.len() > SNAPLEN as usize => {
                self.failed = true;
                let reason = format!("a length of {} bytes is more than {SNAPLEN}", self.bytes.len());
                Err(PcapError::Record { path, packet, reason })
            }
            Ok(Some(time)) => Ok(Some((time, &self.bytes))),
            Ok(None) => Ok(None),
            Err(failure) => {
                self.failed = true;
                Err(match failure {
                    Failure::Cut => PcapError::Truncated { path, packet },
                    Failure::Io(source) => PcapError::Io { path, packet, source },
                    Failure::LinkType(link_type) => PcapError::LinkType { path, link_type: link_type.into() },
                    Failure::Damaged(reason) => PcapError::Record { path, packet, reason },
                })
            }
        }
    }
}

impl<R: Read + Seek> Form<R> {
    fn open(mut file: R, path: &Path) -> Result<Self, PcapError> {
        let open = |source| PcapError::Open { path: path.to_owned(), source };
        let header = |reason| PcapError::Header { path: path.to_owned(), reason };
        let mut magic = [0; 4];
        match file.read_exact(&mut magic) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(header("shorter than a file header".to_owned()));
            }
            Err(e) => return Err(open(e)),
        }
        file.rewind().map_err(open)?;
        if u32::from_be_bytes(magic) == pcapng_read::SECTION_HEADER {
            return Ok(Self::Ng(pcapng_read::Reader::new(BufReader::new(file))));
        }
        let reader = pcap::PcapReader::new(file).map_err(|error| match error {
            pcap_file::PcapError::IoError(source) if source.kind() != io::ErrorKind::UnexpectedEof => open(source),
            pcap_file::PcapError::IoError(_) => header("shorter than a file header".to_owned()),
            other => header(other.to_string()),
        })?;
        let datalink = reader.header().datalink;
        if datalink != DataLink::ETHERNET {
            return Err(PcapError::LinkType { path: path.to_owned(), link_type: datalink.into() });
        }
        Ok(Self::Classic(reader))
    }
}

fn next_classic<R: Read>(reader: &mut pcap::PcapReader<R>, bytes: &mut Vec<u8>) -> Result<Option<Duration>, Failure> {
    let resolution = reader.header().ts_resolution;
    match reader.next_raw_packet() {
        None => Ok(None),
        Some(Ok(raw)) if raw.incl_len > SNAPLEN => {
            Err(Failure::Damaged(format!("a length of {} bytes is more than {SNAPLEN}", raw.incl_len)))
        }
        Some(Ok(raw)) => {
            let nanos = match resolution {
                TsResolution::MicroSecond => u64::from(raw.ts_frac) * 1000,
                TsResolution::NanoSecond => u64::from(raw.ts_frac),
            };
            bytes.clear();
            bytes.extend_from_slice(&raw.data);
            Ok(Some(Duration::from_secs(u64::from(raw.ts_sec)) + Duration::from_nanos(nanos)))
        }
        Some(Err(pcap_file::PcapError::IoError(source))) => Err(Failure::from(source)),
        Some(Err(other)) => Err(Failure::Damaged(other.to_string())),
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
