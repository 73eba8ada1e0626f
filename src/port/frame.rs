//! A worker's frame memory and the tokens that own its chunks. It knows no sockets and does not look into frames.

use std::num::NonZeroU32;
use std::ops::Range;

use super::PortError;
use crate::limits::{CHUNK_LEN_XDP, FRAME_HEADROOM, FRAME_LEN_MAX, RING_LEN_DEFAULT};
use crate::sys::umem::{Chunk, Region};
use crate::sys::xsk::Closed;
use crate::types::{DropReason, Offload};

/// Bytes that one pool may have: far more than any worker needs, and far less than an address can say.
const POOL_LEN_MAX: usize = 1 << 36;
/// A large chunk: the longest frame, and room before it for what actions put there.
const LARGE_CHUNK_LEN: usize = (FRAME_HEADROOM + FRAME_LEN_MAX).next_multiple_of(4096);

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
pub struct Frame {
    pub(super) chunk: Chunk,
    /// What is left to the device that transmits it. A port that cannot do that does it itself, see `port::finish`.
    pub offload: Offload,
}

impl Frame {
    /// Its length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.chunk.len()
    }

    /// Whether it has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.chunk.is_empty()
    }
}

/// The memory of a worker, in chunks of one frame each: small ones, and a few that hold a super-frame if it was asked for.
///
/// Using a frame with another pool than its own is a fault of the program, and panics.
#[derive(Debug)]
pub struct FramePool {
    pub(super) region: Region,
    large: Option<Region>,
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
        Ok(Self { region, large: None, config })
    }

    /// With `count` chunks more, each for a frame of [`FRAME_LEN_MAX`] with [`FRAME_HEADROOM`] before it. They are never a UMEM's.
    #[must_use]
    pub fn with_large(mut self, count: u32) -> Self {
        self.large = Some(Region::private(count, LARGE_CHUNK_LEN));
        self
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

    /// A free small chunk as a frame of length 0.
    #[must_use = "a frame that is neither sent nor freed is lost until its pool goes"]
    pub fn alloc(&mut self) -> Option<Frame> {
        self.region.take().map(|chunk| Frame { chunk, offload: Offload::NONE })
    }

    /// A free large chunk as a frame of length 0 behind its headroom.
    #[must_use = "a frame that is neither sent nor freed is lost until its pool goes"]
    pub fn alloc_large(&mut self) -> Option<Frame> {
        let large = self.large.as_mut()?;
        let mut chunk = large.take()?;
        large.set_place(&mut chunk, FRAME_HEADROOM..FRAME_HEADROOM);
        Some(Frame { chunk, offload: Offload::NONE })
    }

    /// A free chunk for a frame of `len` bytes.
    ///
    /// # Errors
    /// [`DropReason::TooLong`] for any chunk, or [`DropReason::NoBuffer`] is free. Nothing is counted here.
    pub fn alloc_for(&mut self, len: usize) -> Result<Frame, DropReason> {
        if len <= self.chunk_len() {
            return self.alloc().ok_or(DropReason::NoBuffer);
        }
        if len > self.frame_len_max() {
            return Err(DropReason::TooLong);
        }
        self.alloc_large().ok_or(DropReason::NoBuffer)
    }

    /// A new frame with these bytes.
    ///
    /// # Errors
    /// As [`FramePool::alloc_for`].
    pub fn alloc_copy(&mut self, bytes: &[u8]) -> Result<Frame, DropReason> {
        let mut frame = self.alloc_for(bytes.len())?;
        self.set_len(&mut frame, bytes.len());
        self.data_mut(&mut frame).copy_from_slice(bytes);
        Ok(frame)
    }

    /// A copy of one of its own frames, with what that leaves to the device.
    ///
    /// # Errors
    /// As [`FramePool::alloc_for`].
    pub fn alloc_duplicate(&mut self, frame: &Frame) -> Result<Frame, DropReason> {
        // By way of a buffer of its own: that happens only while rules change.
        let bytes = self.data(frame).to_vec();
        let mut copy = self.alloc_copy(&bytes)?;
        copy.offload = frame.offload;
        Ok(copy)
    }

    /// Whether the frame is in a large chunk.
    #[must_use]
    pub(super) fn is_large(&self, frame: &Frame) -> bool {
        self.large.as_ref().is_some_and(|large| large.owns(&frame.chunk))
    }

    /// The same frame in a small chunk.
    ///
    /// # Errors
    /// As [`FramePool::alloc_for`]; the frame is freed.
    pub(super) fn move_to_small(&mut self, frame: Frame) -> Result<Frame, DropReason> {
        if !self.is_large(&frame) {
            return Ok(frame);
        }
        let len = frame.len();
        let small =
            if len > self.chunk_len() { Err(DropReason::TooLong) } else { self.alloc().ok_or(DropReason::NoBuffer) };
        let small = small.map(|mut small| {
            let (from, to) = self.pair_mut(&frame, &mut small);
            to[..len].copy_from_slice(from);
            self.set_len(&mut small, len);
            small.offload = frame.offload;
            small
        });
        self.free(frame);
        small
    }

    /// Takes a frame back.
    pub fn free(&mut self, frame: Frame) {
        self.of_mut(&frame).give(frame.chunk);
    }

    /// The frame's bytes.
    #[must_use]
    pub fn data<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        self.of(frame).bytes(&frame.chunk)
    }

    /// The frame's bytes, to rewrite.
    #[must_use]
    pub fn data_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        self.of_mut(frame).bytes_mut(&mut frame.chunk)
    }

    /// The frame's bytes and the room behind them, to fill before [`FramePool::set_len`].
    #[must_use]
    pub fn buffer_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        self.of_mut(frame).room_mut(&mut frame.chunk)
    }

    /// The frame's bytes with the room before and behind them, and where the frame is in that.
    #[must_use]
    pub fn whole_mut<'a>(&'a mut self, frame: &'a mut Frame) -> (&'a mut [u8], Range<usize>) {
        self.of_mut(frame).whole_mut(&mut frame.chunk)
    }

    /// One frame to read and the room of another to fill.
    #[must_use]
    pub fn pair_mut<'a>(&'a mut self, from: &'a Frame, to: &'a mut Frame) -> (&'a [u8], &'a mut [u8]) {
        let Self { region, large, .. } = self;
        let Some(large) = large else { return region.pair_mut(&from.chunk, &mut to.chunk) };
        match (large.owns(&from.chunk), large.owns(&to.chunk)) {
            (true, true) => large.pair_mut(&from.chunk, &mut to.chunk),
            (true, false) => (large.bytes(&from.chunk), region.room_mut(&mut to.chunk)),
            (false, true) => (region.bytes(&from.chunk), large.room_mut(&mut to.chunk)),
            (false, false) => region.pair_mut(&from.chunk, &mut to.chunk),
        }
    }

    /// Sets a frame's length; new bytes are whatever was there before. More than the room is cut to the room.
    pub fn set_len(&mut self, frame: &mut Frame, len: usize) {
        self.of_mut(frame).set_len(&mut frame.chunk, len);
    }

    /// The frame is at `at` of its [`FramePool::whole_mut`] from now on. In memory that AF_XDP shares it is moved to the room's
    /// start if it is not there: a descriptor is sent with the address that it came with.
    ///
    /// # Panics
    /// If `at` does not lie in the room.
    pub fn set_place(&mut self, frame: &mut Frame, at: Range<usize>) {
        self.of_mut(frame).set_place(&mut frame.chunk, at);
    }

    /// The longest frame that fits into a small chunk, in bytes: the chunk, less the kernel's headroom if it is shared.
    #[must_use]
    pub const fn chunk_len(&self) -> usize {
        self.region.payload_len()
    }

    /// The longest frame that fits into any chunk, in bytes.
    #[must_use]
    pub fn frame_len_max(&self) -> usize {
        self.large.as_ref().map_or(self.chunk_len(), |_| FRAME_LEN_MAX.max(self.chunk_len()))
    }

    /// Frames that somebody holds: chunks that are neither free nor in a kernel ring.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.region.held() + self.large.as_ref().map_or(0, Region::held)
    }

    /// Small chunks free to be taken.
    #[must_use]
    pub fn free_count(&self) -> usize {
        self.region.free_count()
    }

    fn of(&self, frame: &Frame) -> &Region {
        match &self.large {
            Some(large) if large.owns(&frame.chunk) => large,
            Some(_) | None => &self.region,
        }
    }

    fn of_mut(&mut self, frame: &Frame) -> &mut Region {
        match &mut self.large {
            Some(large) if large.owns(&frame.chunk) => large,
            Some(_) | None => &mut self.region,
        }
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
