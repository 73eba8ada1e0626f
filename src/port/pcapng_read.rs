//! Reads the packets of a pcapng file, block by block; memory does not grow with it. Only Ethernet. It writes nothing.
//!
//! <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html>. Blocks without packets are stepped over.

use std::io::{self, Read};
use std::time::Duration;

/// The longest block that is read, in bytes: a packet of the longest snapshot length with comments.
const BLOCK_LEN_MAX: u32 = 1 << 20;
/// The first block of a section, in either byte order.
pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const INTERFACE_DESCRIPTION: u32 = 1;
/// Obsolete, still found.
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
/// Options of an interface.
const IF_TSRESOL: u16 = 9;
const IF_TSOFFSET: u16 = 14;
/// `LINKTYPE_ETHERNET`.
const ETHERNET: u16 = 1;
/// Interfaces of one section: no program writes so many.
const INTERFACES_MAX: usize = 1 << 16;

/// Why no more can be read.
#[derive(Debug)]
pub(super) enum Failure {
    Io(io::Error),
    /// The file ends within a block.
    Cut,
    /// Frames of another kind.
    LinkType(u16),
    /// What cannot be.
    Damaged(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Cut } else { Self::Io(error) }
    }
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link_type: u16,
    snaplen: u32,
    /// Parts of a second that times count; a power of 10 or 2.
    per_second: u64,
    /// Seconds to add to a time.
    offset: i64,
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Reader<R> {
    input: R,
    big: bool,
    interfaces: Vec<Interface>,
    body: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// `input` stands at the file's beginning.
    pub fn new(input: R) -> Self {
        Self { input, big: false, interfaces: Vec::new(), body: Vec::new() }
    }

    /// The time since 1970 of the next packet (0 where none is recorded), and where its bytes are in [`Reader::bytes`].
    pub fn next(&mut self) -> Result<Option<(Duration, std::ops::Range<usize>)>, Failure> {
        while let Some(kind) = self.block()? {
            let body = &self.body;
            let found = match kind {
                INTERFACE_DESCRIPTION => {
                    let interface = self.interface()?;
                    self.interfaces.push(interface);
                    continue;
                }
                ENHANCED_PACKET => {
                    let time = u64::from(self.word(4)?) << 32 | u64::from(self.word(8)?);
                    (self.word(0)? as usize, Some(time), 20..20 + self.word(12)? as usize)
                }
                PACKET => {
                    let time = u64::from(self.word(4)?) << 32 | u64::from(self.word(8)?);
                    (usize::from(self.half(0)?), Some(time), 20..20 + self.word(12)? as usize)
                }
                SIMPLE_PACKET => {
                    let snaplen =
                        self.interfaces.first().map_or(0, |i| if i.snaplen == 0 { u32::MAX } else { i.snaplen });
                    (0, None, 4..4 + self.word(0)?.min(snaplen) as usize)
                }
                _ => continue,
            };
            let (interface, time, at) = found;
            if at.end > body.len() {
                let len = at.len();
                return Err(Failure::Damaged(format!("a packet of {len} bytes is in a block of {}", body.len())));
            }
            let Some(interface) = self.interfaces.get(interface).copied() else {
                return Err(Failure::Damaged(format!("interface {interface} was not described before its packets")));
            };
            if interface.link_type != ETHERNET {
                return Err(Failure::LinkType(interface.link_type));
            }
            return Ok(Some((time.map_or(Duration::ZERO, |time| interface.time(time)), at)));
        }
        Ok(None)
    }

    /// The present block's body.
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// Reads the next block; its type, `None` at the end of the file.
    fn block(&mut self) -> Result<Option<u32>, Failure> {
        let mut head = [0; 8];
        if read_some(&mut self.input, &mut head)? == 0 {
            return Ok(None);
        }
        let [a, b, c, d, len @ ..] = head;
        let mut kind = number([a, b, c, d], self.big);
        self.body.clear();
        if kind == SECTION_HEADER {
            let mut magic = [0; 4];
            self.input.read_exact(&mut magic)?;
            self.big = match (number(magic, true), number(magic, false)) {
                (BYTE_ORDER_MAGIC, _) => true,
                (_, BYTE_ORDER_MAGIC) => false,
                _ => return Err(Failure::Damaged("a section without the byte-order magic".to_owned())),
            };
            self.body.extend(magic);
            self.interfaces.clear();
            kind = SECTION_HEADER;
        }
        let len = number(len, self.big);
        let read = 8 + self.body.len() as u32;
        if len < read + 4 || !len.is_multiple_of(4) || len > BLOCK_LEN_MAX {
            return Err(Failure::Damaged(format!(
                "a block of {len} bytes; they are multiples of 4 up to {BLOCK_LEN_MAX}"
            )));
        }
        let rest = u64::from(len - read);
        let copied = (&mut self.input).take(rest).read_to_end(&mut self.body)?;
        if (copied as u64) < rest {
            return Err(Failure::Cut);
        }
        let end = self.body.len() - 4;
        if self.word(end)? != len {
            return Err(Failure::Damaged("a block's length is not repeated at its end".to_owned()));
        }
        self.body.truncate(end);
        Ok(Some(kind))
    }

    fn interface(&self) -> Result<Interface, Failure> {
        if self.interfaces.len() >= INTERFACES_MAX {
            return Err(Failure::Damaged(format!("more than {INTERFACES_MAX} interfaces")));
        }
        let mut interface =
            Interface { link_type: self.half(0)?, snaplen: self.word(4)?, per_second: 1_000_000, offset: 0 };
        let mut at = 8;
        // Options end with a zero, or with the block.
        while at + 4 <= self.body.len() {
            let (code, len) = (self.half(at)?, usize::from(self.half(at + 2)?));
            let Some(value) = self.body.get(at + 4..at + 4 + len) else { break };
            match (code, value) {
                (0, _) => break,
                (IF_TSRESOL, [resolution]) => interface.per_second = per_second(*resolution)?,
                (IF_TSOFFSET, [_, _, _, _, _, _, _, _]) => {
                    let (first, second) = (u64::from(self.word(at + 4)?), u64::from(self.word(at + 8)?));
                    interface.offset = if self.big { first << 32 | second } else { second << 32 | first } as i64;
                }
                _ => {}
            }
            at += 4 + len.next_multiple_of(4);
        }
        Ok(interface)
    }

    fn word(&self, at: usize) -> Result<u32, Failure> {
        let bytes = self.body.get(at..at + 4).and_then(|b| b.try_into().ok());
        bytes.map(|bytes| number(bytes, self.big)).ok_or_else(|| Failure::Damaged("a block is too short".to_owned()))
    }

    fn half(&self, at: usize) -> Result<u16, Failure> {
        let bytes = self.body.get(at..at + 2).and_then(|b| b.try_into().ok());
        let number = |bytes| if self.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) };
        bytes.map(number).ok_or_else(|| Failure::Damaged("a block is too short".to_owned()))
    }
}

impl Interface {
    fn time(self, parts: u64) -> Duration {
        let nanos = u128::from(parts % self.per_second) * 1_000_000_000 / u128::from(self.per_second);
        let seconds = (parts / self.per_second).saturating_add_signed(self.offset);
        Duration::new(seconds, nanos as u32)
    }
}

/// `if_tsresol`: a negative power of 10, or of 2 with the highest bit.
fn per_second(resolution: u8) -> Result<u64, Failure> {
    let exponent = u32::from(resolution & 0x7f);
    let parts = if resolution & 0x80 == 0 { 10_u64.checked_pow(exponent) } else { 1_u64.checked_shl(exponent) };
    parts.ok_or_else(|| Failure::Damaged(format!("a time resolution of {resolution:#04x}")))
}

fn number(bytes: [u8; 4], big: bool) -> u32 {
    if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

/// Fills the buffer, or reads nothing at the end of the file.
fn read_some(input: &mut impl Read, into: &mut [u8]) -> Result<usize, Failure> {
    let mut read = 0;
    while read < into.len() {
        match input.read(&mut into[read..]) {
            Ok(0) if read == 0 => return Ok(0),
            Ok(0) => return Err(Failure::Cut),
            Ok(n) => read += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Failure::Io(e)),
        }
    }
    Ok(read)
}
