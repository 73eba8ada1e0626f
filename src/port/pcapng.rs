//! pcapng: blocks of packets with interfaces, directions and comments, written as they come. Reading is `pcapng_read`'s.
//!
//! <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html>; times are in nanoseconds.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};

/// `if_tsresol`: 10^-9 seconds.
const NANOSECONDS: u8 = 9;
/// `epb_flags`, bits 0 and 1: received, transmitted.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// Writes one section.
pub struct PcapngWriter<W: Write> {
    inner: PcapNgWriter<W>,
    interfaces: u32,
}

/// A frame to write.
#[derive(Clone, Copy, Debug)]
pub struct PcapngPacket<'a> {
    /// As [`PcapngWriter::interface`] numbered it.
    pub interface: u32,
    /// Since 1970.
    pub time: Duration,
    /// Its length on the wire, in bytes.
    pub len: usize,
    /// As much of it as is kept.
    pub bytes: &'a [u8],
    /// Transmitted; else received.
    pub outgoing: bool,
    /// What to say of it.
    pub comment: Option<&'a str>,
}

impl<W: Write> PcapngWriter<W> {
    /// Writes the section's header; `application` and `comment` say who wrote it, and what the reader should know.
    ///
    /// # Errors
    /// The writer's.
    pub fn new(out: W, application: &str, comment: &str) -> io::Result<Self> {
        let options = vec![
            SectionHeaderOption::UserApplication(Cow::Owned(application.to_owned())),
            SectionHeaderOption::Comment(Cow::Owned(comment.to_owned())),
        ];
        let section = SectionHeaderBlock { options, ..SectionHeaderBlock::default() };
        let inner = PcapNgWriter::with_section_header(out, section).map_err(io_of)?;
        Ok(Self { inner, interfaces: 0 })
    }

    /// Adds an Ethernet interface and returns its number.
    ///
    /// # Errors
    /// The writer's.
    pub fn interface(&mut self, name: &str, description: &str, snaplen: u32) -> io::Result<u32> {
        let mut block = InterfaceDescriptionBlock::new(DataLink::ETHERNET, snaplen);
        block.options = vec![
            InterfaceDescriptionOption::IfName(Cow::Owned(name.to_owned())),
            InterfaceDescriptionOption::IfDescription(Cow::Owned(description.to_owned())),
            InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
        ];
        self.inner.write_pcapng_block(block).map_err(io_of)?;
        self.interfaces += 1;
        Ok(self.interfaces - 1)
    }

    /// Writes a frame.
    ///
    /// # Errors
    /// The writer's, or a frame of an interface that was not added.
    pub fn packet(&mut self, packet: &PcapngPacket<'_>) -> io::Result<()> {
        let mut options = vec![EnhancedPacketOption::Flags(if packet.outgoing { OUTBOUND } else { INBOUND })];
        options.extend(packet.comment.map(|comment| EnhancedPacketOption::Comment(Cow::Borrowed(comment))));
        let block = EnhancedPacketBlock {
            interface_id: packet.interface,
            timestamp: packet.time,
            original_len: packet.len as u32,
            data: Cow::Borrowed(packet.bytes),
            options,
        };
        self.inner.write_pcapng_block(block).map(|_bytes| ()).map_err(io_of)
    }

    /// Says at the end of an interface how many of its frames were lost.
    ///
    /// # Errors
    /// As [`PcapngWriter::packet`].
    pub fn statistics(&mut self, interface: u32, time: Duration, seen: u64, lost: u64) -> io::Result<()> {
        // The two words of a time are written as the library takes them: one number of 64 bits, the high word first.
        let nanos = time.as_nanos() as u64;
        let timestamp = if cfg!(target_endian = "little") { nanos.rotate_left(32) } else { nanos };
        let options =
            vec![InterfaceStatisticsOption::IsbIfRecv(seen + lost), InterfaceStatisticsOption::IsbIfDrop(lost)];
        let block = InterfaceStatisticsBlock { interface_id: interface, timestamp, options };
        self.inner.write_pcapng_block(block).map(|_bytes| ()).map_err(io_of)
    }

    /// Where it writes to.
    pub fn get_mut(&mut self) -> &mut W {
        self.inner.get_mut()
    }
}

fn io_of(error: pcap_file::PcapError) -> io::Error {
    match error {
        pcap_file::PcapError::IoError(source) => source,
        other => io::Error::other(other),
    }
}
