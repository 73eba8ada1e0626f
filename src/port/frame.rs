//! A worker's frame memory and the tokens that own its chunks. It knows no sockets and does not look into frames.

use std::num::NonZeroU32;
use std::ops::Range;

use super::PortError;
use crate::limits::{CHUNK_LEN_XDP, FRAME_LEN_MAX, RING_LEN_DEFAULT};
use crate::sys::umem::{Chunk, Region};
use crate::sys::xsk::Closed;
use crate::types::DropReason;

/// Bytes that one pool may have: far more than any worker needs, and far less than an address can say.
const POOL_LEN_MAX: usize = 1 << 36;

/// The memory that a worker asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Chunks. A worker with AF_XDP ports needs fill, rx and tx ring lengths of all its ports together, and some bursts more.
    pub chunk_count: u32,
    /// Bytes of each: [`CHUNK_LEN_XDP`] if `umem`, else what the longest frame takes.
    pub chunk_len: usize,
    /// Whether AF_XDP sockets will share it.
    pub umem: bool,
}

/// A frame: the move-only right to one chunk of a [`FramePool`]. Give it to a port or back to the pool.
#[must_use = "a frame that is neither sent nor freed is lost until its pool goes"]
#[derive(Debug)]
pub struct Frame(pub(super) Chunk);

impl Frame {
    /// Its length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One memory region of a worker, in chunks of one frame each.
///
/// Using a frame with another pool than its own is a fault of the program, and panics.
#[derive(Debug)]
pub struct FramePool {
    pub(super) region: Region,
    config: PoolConfig,
}

impl FramePool {
    /// Allocates the memory, all chunks free.
    /// With `umem` the calling thread must be in the namespace of the devices: the socket that registers the memory is the first port's.
    ///
    /// # Errors
    /// Lengths that make no sense; no memory; the kernel takes no UMEM (no AF_XDP, no right to).
    pub fn new(config: PoolConfig) -> Result<Self, PortError> {
        let region = new_region(config, RING_LEN_DEFAULT, RING_LEN_DEFAULT)?;
        Ok(Self { region, config })
    }

    /// Makes the UMEM anew with these ring lengths (all sockets on a UMEM have the same), if that disturbs nobody.
    pub(super) fn with_rings(&mut self, fill_len: u32, completion_len: u32) -> Result<bool, PortError> {
        if self.region.is_new_with(fill_len, completion_len) {
            return Ok(true);
        }
        if self.region.held() > 0 || !self.region.is_unused() {
            return Ok(self.region.has_rings(fill_len, completion_len));
        }
        self.region = new_region(self.config, fill_len, completion_len)?;
        Ok(true)
    }

    /// A socket that shared this memory is closed now: the chunks that it was to receive into are free again.
    ///
    /// # Panics
    /// The socket was another pool's.
    pub fn closed(&mut self, socket: Closed) {
        self.region.closed(socket);
    }

    /// A free chunk as a frame of length 0.
    #[must_use = "a frame that is neither sent nor freed is lost until its pool goes"]
    pub fn alloc(&mut self) -> Option<Frame> {
        self.region.take().map(Frame)
    }

    /// A new frame with these bytes.
    ///
    /// # Errors
    /// [`DropReason::TooLong`] for a chunk, or [`DropReason::NoBuffer`] is free. Nothing is counted here.
    pub fn alloc_copy(&mut self, bytes: &[u8]) -> Result<Frame, DropReason> {
        if bytes.len() > self.chunk_len() {
            return Err(DropReason::TooLong);
        }
        let mut frame = self.alloc().ok_or(DropReason::NoBuffer)?;
        self.set_len(&mut frame, bytes.len());
        self.data_mut(&mut frame).copy_from_slice(bytes);
        Ok(frame)
    }

    /// Takes a frame back.
    pub fn free(&mut self, frame: Frame) {
        self.region.give(frame.0);
    }

    /// The frame's bytes.
    #[must_use]
    pub fn data<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        self.region.bytes(&frame.0)
    }

    /// The frame's bytes, to rewrite.
    #[must_use]
    pub fn data_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        self.region.bytes_mut(&mut frame.0)
    }

    /// The frame's bytes and the room behind them, to fill before [`FramePool::set_len`].
    #[must_use]
    pub fn buffer_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        self.region.room_mut(&mut frame.0)
    }

    /// Sets a frame's length; new bytes are whatever was there before. More than the room is cut to the room.
    pub fn set_len(&mut self, frame: &mut Frame, len: usize) {
        self.region.set_len(&mut frame.0, len);
    }

    /// The frame is at `at` of its [`FramePool::buffer_mut`] from now on. In memory that AF_XDP shares it is moved to the buffer's
    /// start if it is not there: a descriptor is sent with the address that it came with.
    ///
    /// # Panics
    /// If `at` does not lie in the buffer.
    pub fn set_window(&mut self, frame: &mut Frame, at: Range<usize>) {
        self.region.set_window(&mut frame.0, at);
    }

    /// The longest frame that fits, in bytes: the chunk, less the kernel's headroom if it is shared.
    #[must_use]
    pub const fn chunk_len(&self) -> usize {
        self.region.payload_len()
    }

    /// Frames that somebody holds: chunks that are neither free nor in a kernel ring.
    #[must_use]
    pub const fn outstanding(&self) -> usize {
        self.region.held()
    }

    /// Chunks free to be taken.
    #[must_use]
    pub fn free_count(&self) -> usize {
        self.region.free_count()
    }
}

fn new_region(config: PoolConfig, fill_len: u32, completion_len: u32) -> Result<Region, PortError> {
    let PoolConfig { chunk_count, chunk_len, umem } = config;
    let wrong = |reason| PortError::Pool { chunk_count, chunk_len, reason };
    let count = NonZeroU32::new(chunk_count).ok_or_else(|| wrong("ask for one chunk at least"))?;
    if chunk_len == 0 || chunk_len > FRAME_LEN_MAX.next_multiple_of(CHUNK_LEN_XDP) {
        return Err(wrong("a chunk has 1 byte to what the longest frame takes"));
    }
    if (chunk_count as usize).saturating_mul(chunk_len) > POOL_LEN_MAX {
        return Err(wrong("that is more than 64 GiB; ask for fewer chunks"));
    }
    if !umem {
        return Ok(Region::private(chunk_count, chunk_len));
    }
    if chunk_len != CHUNK_LEN_XDP {
        return Err(wrong("memory for AF_XDP has chunks of 4096 bytes"));
    }
    Region::umem(count, CHUNK_LEN_XDP as u32, fill_len, completion_len).map_err(|source| {
        let next = next_for_umem(&source);
        PortError::Memory { chunk_count, chunk_len, source, next }
    })
}

/// `xdp_umem_reg()`, `xdp_umem_account_pages()` (net/xdp/xdp_umem.c); `xsk_create()` (net/xdp/xsk.c).
fn next_for_umem(error: &std::io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "AF_XDP needs CAP_NET_RAW and CAP_NET_ADMIN: run as root, or use AF_PACKET",
        Some(libc::EAFNOSUPPORT) => "this kernel has no AF_XDP (CONFIG_XDP_SOCKETS): use AF_PACKET",
        Some(libc::ENOBUFS) => "the locked memory limit is too low: grant CAP_IPC_LOCK or raise `ulimit -l`",
        Some(libc::ENOMEM) => "ask for fewer chunks",
        Some(_) | None => "try AF_PACKET",
    }
}
