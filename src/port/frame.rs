//! A worker's frame pool: the only place that frames come from and go back to. It moves no frame itself.

pub use crate::sys::frames::Frame;

use super::PortError;
use crate::limits::{CHUNK_LEN_XDP, FRAME_LEN_MAX, RING_LEN_DEFAULT};
use crate::sys::frames::Memory;
use crate::types::DropReason;

/// What a pool is made with.
#[derive(Clone, Copy, Debug)]
pub struct PoolConfig {
    /// Frames that may be under way at once: the fill and transmit rings of all ports, and bursts.
    pub chunk_count: u32,
    /// [`CHUNK_LEN_XDP`] if an AF_XDP socket will share it; else at least the longest frame.
    pub chunk_len: usize,
    /// To be shared with AF_XDP. The calling thread must then be in the namespace of the first device that will use it.
    pub umem: bool,
}

/// One memory region per worker.
pub struct FramePool {
    pub(super) memory: Memory,
}

impl FramePool {
    /// Takes all memory now. For AF_XDP, the first socket's fill and completion rings have [`RING_LEN_DEFAULT`] descriptors.
    ///
    /// # Errors
    /// A length out of bounds; for AF_XDP also a kernel without it, or no CAP_NET_RAW.
    pub fn new(config: PoolConfig) -> Result<Self, PortError> {
        Self::with_rings(config, RING_LEN_DEFAULT, RING_LEN_DEFAULT)
    }

    /// As [`FramePool::new`], with lengths of the fill and completion rings.
    ///
    /// # Errors
    /// As [`FramePool::new`].
    pub fn with_rings(config: PoolConfig, fill_len: u32, completion_len: u32) -> Result<Self, PortError> {
        let PoolConfig { chunk_count, chunk_len, umem } = config;
        // A pool beyond this is a slip in a configuration, and would take the machine's memory.
        let bytes = u64::from(chunk_count) * chunk_len as u64;
        if chunk_count == 0 || chunk_len < 64 || chunk_len > FRAME_LEN_MAX.next_multiple_of(4096) || bytes > 4 << 30 {
            return Err(PortError::Pool { chunk_count, chunk_len });
        }
        if !umem {
            return Ok(Self { memory: Memory::heap(chunk_count, chunk_len) });
        }
        if chunk_len != CHUNK_LEN_XDP {
            return Err(PortError::Pool { chunk_count, chunk_len });
        }
        super::error::ring("fill", fill_len)?;
        super::error::ring("completion", completion_len)?;
        let memory = Memory::umem(chunk_count, chunk_len, fill_len, completion_len)
            .map_err(|e| PortError::system("AF_XDP", "frame memory", e))?;
        Ok(Self { memory })
    }

    /// An empty frame.
    pub fn alloc(&mut self) -> Option<Frame> {
        self.memory.alloc()
    }

    /// A frame with these bytes.
    ///
    /// # Errors
    /// [`DropReason::TooLong`], [`DropReason::NoBuffer`]; the caller counts.
    pub fn alloc_copy(&mut self, bytes: &[u8]) -> Result<Frame, DropReason> {
        if bytes.len() > self.memory.capacity() {
            return Err(DropReason::TooLong);
        }
        let mut frame = self.memory.alloc().ok_or(DropReason::NoBuffer)?;
        self.memory.buffer_mut(&mut frame)[..bytes.len()].copy_from_slice(bytes);
        self.memory.set_len(&mut frame, bytes.len());
        Ok(frame)
    }

    /// A second frame with the same bytes.
    ///
    /// # Errors
    /// [`DropReason::NoBuffer`]; the caller counts.
    pub fn copy_of(&mut self, frame: &Frame) -> Result<Frame, DropReason> {
        let len = frame.len();
        let mut copy = self.memory.alloc().ok_or(DropReason::NoBuffer)?;
        self.memory.copy(frame, &mut copy);
        self.memory.set_len(&mut copy, len);
        Ok(copy)
    }

    /// Takes a frame's chunk back.
    pub fn free(&mut self, frame: Frame) {
        self.memory.free(frame);
    }

    /// Its bytes.
    #[must_use]
    pub fn data<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        self.memory.data(frame)
    }

    /// Its bytes, to change.
    pub fn data_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        self.memory.data_mut(frame)
    }

    /// All that it could hold, to fill; then [`FramePool::set_len`].
    pub fn buffer_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        self.memory.buffer_mut(frame)
    }

    /// Sets its length.
    ///
    /// # Panics
    /// If it does not fit into [`FramePool::buffer_mut`].
    pub fn set_len(&mut self, frame: &mut Frame, len: usize) {
        self.memory.set_len(frame, len);
    }

    /// The longest frame that it holds, in bytes: with AF_XDP less than the configured length, by the headroom of 256.
    #[must_use]
    pub fn chunk_len(&self) -> usize {
        self.memory.capacity()
    }

    /// Chunks neither free nor in a kernel ring: 0 at the end, or a frame was lost.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.memory.outstanding()
    }
}
