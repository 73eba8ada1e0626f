//! Memory for frames in equal chunks, private or shared with the kernel (UMEM), and the tokens that own them. No sockets here.
//!
//! A [`Chunk`] is the only way to a chunk's bytes and cannot be copied or made elsewhere; while a kernel ring has a chunk, no token of
//! it exists. So no two owners ever see the same bytes.
//!
//! ```text
//! UMEM chunk (4096)   | 256: headroom, left to the kernel (XDP_PACKET_HEADROOM) | payload: 3840                 |
//!                                                                     Chunk:     | start | len: the frame |     |
//! ```

mod lend;

use std::io;
use std::num::NonZeroU32;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};
use xsk_rs::umem::Umem;

use super::shared::Shared;

/// What the kernel leaves free before a received frame, in bytes: `XDP_PACKET_HEADROOM`, include/uapi/linux/bpf.h.
pub const HEADROOM_LEN: usize = 256;

/// Tells regions apart, so that a token cannot be used on memory that it does not belong to.
static NEXT_REGION: AtomicU32 = AtomicU32::new(1);

/// The right to one chunk of a [`Region`]: move-only.
#[must_use = "a chunk that is not given back is lost until its region goes"]
#[derive(Debug)]
pub struct Chunk {
    region: u32,
    index: u32,
    start: u32,
    len: u32,
}

impl Chunk {
    /// Length of the frame in it, in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether the frame in it has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Who may touch a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nobody: it is in the free list.
    Free,
    /// The holder of its token.
    Held,
    /// The kernel, to receive by the socket of this number: in its fill or rx ring.
    Fill(u16),
    /// The kernel, to transmit by the socket of this number: in its tx or completion ring.
    Transmit(u16),
    /// The kernel may touch it until the region goes: its socket was closed in a way that leaves that open.
    Lost,
}

/// One piece of memory in chunks.
#[derive(Debug)]
pub struct Region {
    id: u32,
    payload_len: usize,
    /// Where each chunk's payload begins.
    payloads: Vec<NonNull<u8>>,
    free: Vec<u32>,
    places: Vec<Place>,
    held: usize,
    pub(super) shared: Option<Shared>,
    /// Keeps the bytes of a private region; `shared` keeps those of a UMEM.
    _private: Option<Box<[u8]>>,
}

// SAFETY: the pointers go to memory that the region owns (`_private` or `shared.umem`, both Send) and are used through `&self` and
// `&mut self` only; the descriptors are plain numbers.
unsafe impl Send for Region {}

impl Region {
    /// Memory that the kernel does not know: `chunk_count` chunks of `chunk_len` bytes, all payload.
    ///
    /// # Panics
    /// The product does not fit into an address.
    #[must_use]
    pub fn private(chunk_count: u32, chunk_len: usize) -> Self {
        let len = (chunk_count as usize).checked_mul(chunk_len).expect("the caller bounds the pool's length");
        let mut bytes = vec![0_u8; len].into_boxed_slice();
        // Derived once from the whole, so that no later borrow of the box takes the pointers' right away.
        let base = NonNull::from(&mut *bytes).cast::<u8>();
        let payloads = (0..chunk_count as usize)
            // SAFETY: index < chunk_count, so the offset is within the `len` bytes (or is 0 of an empty allocation).
            .map(|index| unsafe { base.add(index * chunk_len) })
            .collect();
        Self::new(chunk_len, payloads, None, Some(bytes))
    }

    /// Memory registered as UMEM with chunks of `chunk_len` (2048 or 4096), and the lengths of the fill and completion rings that every
    /// socket on it will have.
    ///
    /// # Errors
    /// What mmap(2), socket(2) or `XDP_UMEM_REG` say; `InvalidInput` for lengths that are no powers of two.
    pub fn umem(chunk_count: NonZeroU32, chunk_len: u32, fill_len: u32, completion_len: u32) -> io::Result<Self> {
        let config = UmemConfig::builder()
            .frame_size(FrameSize::new(chunk_len).map_err(invalid)?)
            .fill_queue_size(QueueSize::new(fill_len).map_err(invalid)?)
            .comp_queue_size(QueueSize::new(completion_len).map_err(invalid)?)
            .build()
            .map_err(invalid)?;
        let (umem, mut origin) = Umem::new(config, chunk_count, false).map_err(os_error)?;
        let mut payloads = Vec::with_capacity(origin.len());
        for desc in &mut origin {
            // SAFETY: the descriptor is of this UMEM, no socket exists yet, and the borrow ends before the next one begins.
            let mut data = unsafe { umem.data_mut(desc) };
            let payload_len = data.cursor().buf_len();
            data.cursor().set_pos(payload_len);
            payloads.push(NonNull::from(data.contents_mut()).cast::<u8>());
            data.cursor().set_pos(0);
        }
        let payload_len = chunk_len as usize - HEADROOM_LEN;
        let descs = origin.clone();
        let shared = Shared {
            umem,
            origin,
            descs,
            fill_len,
            completion_len,
            umem_fd: None,
            anchor: 0,
            sockets: Vec::new(),
            opened: 0,
        };
        Ok(Self::new(payload_len, payloads, Some(shared), None))
    }

    fn new(len: usize, payloads: Vec<NonNull<u8>>, shared: Option<Shared>, private: Option<Box<[u8]>>) -> Self {
        let count = payloads.len();
        Self {
            id: NEXT_REGION.fetch_add(1, Ordering::Relaxed),
            payload_len: len,
            payloads,
            // The last is taken first: low chunks, which are the warm ones, are used again and again.
            free: (0..count as u32).rev().collect(),
            places: vec![Place::Free; count],
            held: 0,
            shared,
            _private: private,
        }
    }

    /// What tells it from other regions.
    pub(super) const fn id(&self) -> u32 {
        self.id
    }

    /// The most that a frame may have, in bytes.
    #[must_use]
    pub const fn payload_len(&self) -> usize {
        self.payload_len
    }

    /// Chunks in it.
    #[must_use]
    pub fn chunk_count(&self) -> usize {
        self.places.len()
    }

    /// Tokens that exist.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.held
    }

    /// Chunks in the free list.
    #[must_use]
    pub fn free_count(&self) -> usize {
        self.free.len()
    }

    /// Whether the kernel was given this memory.
    #[must_use]
    pub const fn is_umem(&self) -> bool {
        self.shared.is_some()
    }

    /// Whether no socket is open, so that the region may be replaced.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| shared.sockets.is_empty())
    }

    /// Whether sockets get rings of these lengths.
    #[must_use]
    pub fn has_rings(&self, fill_len: u32, completion_len: u32) -> bool {
        self.shared
            .as_ref()
            .is_some_and(|shared| (shared.fill_len, shared.completion_len) == (fill_len, completion_len))
    }

    /// As [`Region::has_rings`], and no socket was ever opened.
    #[must_use]
    pub fn is_new_with(&self, fill_len: u32, completion_len: u32) -> bool {
        self.has_rings(fill_len, completion_len) && self.shared.as_ref().is_some_and(|shared| shared.opened == 0)
    }

    /// Takes a free chunk.
    pub fn take(&mut self) -> Option<Chunk> {
        let index = self.free.pop()?;
        self.places[index as usize] = Place::Held;
        self.held += 1;
        if let Some(shared) = &mut self.shared {
            shared.descs[index as usize] = shared.origin[index as usize];
        }
        Some(Chunk { region: self.id, index, start: 0, len: 0 })
    }

    /// Gives a chunk back.
    pub fn give(&mut self, chunk: Chunk) {
        self.check(&chunk);
        self.held -= 1;
        self.release(chunk.index as usize);
    }

    /// The frame.
    #[must_use]
    pub fn bytes<'a>(&'a self, chunk: &'a Chunk) -> &'a [u8] {
        self.check(chunk);
        let payload = self.payloads[chunk.index as usize];
        // SAFETY: `start + len <= payload_len` (kept by `set_len` and `received`), so the bytes are within the chunk, which is
        // initialised (zeroed when made). The token is the only right to them and is borrowed, so nobody writes; the kernel has none.
        unsafe { std::slice::from_raw_parts(payload.add(chunk.start as usize).as_ptr(), chunk.len as usize) }
    }

    /// The frame, to rewrite.
    #[must_use]
    pub fn bytes_mut<'a>(&'a mut self, chunk: &'a mut Chunk) -> &'a mut [u8] {
        let len = chunk.len as usize;
        &mut self.room_mut(chunk)[..len]
    }

    /// The frame and all that may be appended to it.
    #[must_use]
    pub fn room_mut<'a>(&'a mut self, chunk: &'a mut Chunk) -> &'a mut [u8] {
        self.check(chunk);
        let start = chunk.start as usize;
        let payload = self.payloads[chunk.index as usize];
        // SAFETY: as in `bytes`; `start <= payload_len`, and token and region are borrowed mutably, so this is the only borrow.
        unsafe { std::slice::from_raw_parts_mut(payload.add(start).as_ptr(), self.payload_len - start) }
    }

    /// All of a private chunk, and where the frame is in it. A UMEM's descriptor keeps its address, so there the room begins with
    /// the frame.
    #[must_use]
    pub fn whole_mut<'a>(&'a mut self, chunk: &'a mut Chunk) -> (&'a mut [u8], Range<usize>) {
        self.check(chunk);
        let (start, end) = (chunk.start as usize, (chunk.start + chunk.len) as usize);
        if self.is_umem() {
            return (self.room_mut(chunk), 0..end - start);
        }
        let payload = self.payloads[chunk.index as usize];
        // SAFETY: as in `room_mut`, from the payload's start: the chunk has `payload_len` bytes, and this is their only borrow.
        (unsafe { std::slice::from_raw_parts_mut(payload.as_ptr(), self.payload_len) }, start..end)
    }

    /// The frame is at `at` of [`Region::whole_mut`] from now on.
    ///
    /// # Panics
    /// `at` is not in it.
    pub fn set_place(&mut self, chunk: &mut Chunk, at: Range<usize>) {
        if self.is_umem() {
            return self.set_window(chunk, at);
        }
        self.check(chunk);
        assert!(at.start <= at.end && at.end <= self.payload_len, "a frame lies in its chunk");
        (chunk.start, chunk.len) = (at.start as u32, at.len() as u32);
    }

    /// One frame to read and another chunk's room to write, at the same time.
    #[must_use]
    pub fn pair_mut<'a>(&'a mut self, from: &'a Chunk, to: &'a mut Chunk) -> (&'a [u8], &'a mut [u8]) {
        self.check(from);
        self.check(to);
        assert!(from.index != to.index, "two tokens are of two chunks");
        let (source, target) = (self.payloads[from.index as usize], self.payloads[to.index as usize]);
        let (at, room) = (to.start as usize, self.payload_len - to.start as usize);
        // SAFETY: both ranges are within their chunks (as in `bytes` and `room_mut`), the chunks are different ones, and both tokens
        // and the region are borrowed for as long as the slices live.
        unsafe {
            (
                std::slice::from_raw_parts(source.add(from.start as usize).as_ptr(), from.len as usize),
                std::slice::from_raw_parts_mut(target.add(at).as_ptr(), room),
            )
        }
    }

    /// Whether the token is of this region.
    pub(crate) const fn owns(&self, chunk: &Chunk) -> bool {
        chunk.region == self.id
    }

    /// Sets the frame's length; what does not fit is cut off.
    pub fn set_len(&self, chunk: &mut Chunk, len: usize) {
        self.check(chunk);
        chunk.len = len.min(self.payload_len - chunk.start as usize) as u32;
    }

    /// The frame is at `at` of the room from now on. A UMEM's descriptor keeps its address, so there the bytes move.
    ///
    /// # Panics
    /// `at` is not in the room.
    pub fn set_window(&mut self, chunk: &mut Chunk, at: Range<usize>) {
        let is_umem = self.is_umem();
        let room = self.room_mut(chunk);
        assert!(at.start <= at.end && at.end <= room.len(), "a frame lies in its room");
        if is_umem && at.start > 0 {
            room.copy_within(at.clone(), 0);
        }
        chunk.len = at.len() as u32;
        if !is_umem {
            chunk.start += at.start as u32;
        }
    }

    /// # Panics
    /// The token is of another region: a fault of the program that must not become a wild access.
    fn check(&self, chunk: &Chunk) {
        assert!(chunk.region == self.id, "a frame was used with a pool that it is not from");
    }

    fn release(&mut self, index: usize) {
        self.places[index] = Place::Free;
        self.free.push(index as u32);
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

/// The error number that xsk-rs keeps as the source of its own errors.
pub(super) fn os_error(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    let number = error.source().and_then(|source| source.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error);
    number.map_or_else(|| io::Error::other(error), io::Error::from_raw_os_error)
}
