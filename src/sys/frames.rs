//! A worker's frame memory: equal chunks, each with one owner at any time, named by move-only tokens. It knows no port.

use std::io;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

use xsk_rs::FrameDesc;
use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};
use xsk_rs::umem::Umem;

/// Bytes that the kernel keeps free before a frame in a UMEM chunk, include/uapi/linux/bpf.h.
const XDP_PACKET_HEADROOM: usize = 256;

/// Who has a chunk. Kernel rings are told apart by the number of their socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Free,
    Token,
    Kernel(u16),
}

/// The only handle of one chunk; give it back to the memory that it came from. Dropping it leaks the chunk, which
/// [`Memory::outstanding`] shows.
#[derive(Debug)]
#[must_use = "a frame that is dropped is lost to the pool: transmit or free it"]
pub struct Frame {
    memory: u32,
    chunk: u32,
    len: u32,
}

impl Frame {
    /// Bytes of the frame.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

enum Backing {
    Heap(Box<[u8]>),
    /// The descriptors, by chunk: the library lets nobody make one, so each chunk keeps its own, with the address and length that
    /// the kernel or the token gave it last.
    Umem {
        umem: Umem,
        descs: Box<[FrameDesc]>,
    },
}

/// See the file's head.
///
/// ```text
/// UMEM chunk:  |256 XDP headroom| frame …                       |     heap chunk: | frame …                |
///              |<--------------- chunk_len (4096) ------------->|                 |<------ chunk_len ----->|
/// ```
pub struct Memory {
    id: u32,
    backing: Backing,
    chunk_len: usize,
    owners: Box<[Owner]>,
    free: Vec<u32>,
    in_kernel: usize,
    sockets: u16,
}

static NEXT_ID: AtomicU32 = AtomicU32::new(0);

impl Memory {
    /// Ordinary memory, for ports that copy.
    #[must_use]
    pub fn heap(chunk_count: u32, chunk_len: usize) -> Self {
        let bytes = vec![0; chunk_count as usize * chunk_len].into_boxed_slice();
        Self::with(Backing::Heap(bytes), chunk_count, chunk_len)
    }

    /// Memory that AF_XDP sockets can share. The calling thread must be in the network namespace of the first device that will use
    /// it: the library binds the socket that registered the memory to that device.
    ///
    /// # Errors
    /// `EAFNOSUPPORT` (no AF_XDP), `EPERM` (CAP_NET_RAW), `ENOBUFS`/`ENOMEM`; `InvalidInput` for lengths that AF_XDP does not take.
    pub fn umem(chunk_count: u32, chunk_len: usize, fill_len: u32, completion_len: u32) -> io::Result<Self> {
        let wrong = |e: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidInput, e.to_string());
        let count = NonZeroU32::new(chunk_count).ok_or_else(|| wrong(&"no chunks"))?;
        let config = UmemConfig::builder()
            .frame_size(FrameSize::new(chunk_len as u32).map_err(|e| wrong(&e))?)
            .fill_queue_size(QueueSize::new(fill_len).map_err(|e| wrong(&e))?)
            .comp_queue_size(QueueSize::new(completion_len).map_err(|e| wrong(&e))?)
            .build()
            .map_err(|e| wrong(&e))?;
        let (umem, descs) = Umem::new(config, count, false).map_err(super::xdp::cause)?;
        Ok(Self::with(Backing::Umem { umem, descs: descs.into_boxed_slice() }, chunk_count, chunk_len))
    }

    fn with(backing: Backing, chunk_count: u32, chunk_len: usize) -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            backing,
            chunk_len,
            owners: vec![Owner::Free; chunk_count as usize].into_boxed_slice(),
            free: (0..chunk_count).rev().collect(),
            in_kernel: 0,
            sockets: 0,
        }
    }

    /// The longest frame that a chunk holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        match &self.backing {
            Backing::Heap(_) => self.chunk_len,
            Backing::Umem { .. } => self.chunk_len - XDP_PACKET_HEADROOM,
        }
    }

    /// Chunks that are free.
    #[must_use]
    pub fn free_count(&self) -> usize {
        self.free.len()
    }

    /// Chunks whose token somebody holds, or lost.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.owners.len() - self.free.len() - self.in_kernel
    }

    /// An empty frame, if a chunk is free.
    pub fn alloc(&mut self) -> Option<Frame> {
        let chunk = self.free.pop()?;
        self.owners[chunk as usize] = Owner::Token;
        let mut frame = Frame { memory: self.id, chunk, len: 0 };
        self.set_len(&mut frame, 0);
        Some(frame)
    }

    /// Takes a chunk back.
    pub fn free(&mut self, frame: Frame) {
        self.check(&frame);
        self.owners[frame.chunk as usize] = Owner::Free;
        self.free.push(frame.chunk);
    }

    /// The frame's bytes.
    #[must_use]
    pub fn data<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        self.check(frame);
        match &self.backing {
            Backing::Heap(bytes) => &bytes[frame.chunk as usize * self.chunk_len..][..frame.len()],
            Backing::Umem { umem, descs } => {
                // SAFETY: the descriptor is this memory's; `frame` is the chunk's only token, so neither the kernel nor another
                // slice has it. Its length was given by the kernel or checked by `set_len`. The slice outlives the temporary
                // `Data`, but not the borrow of the memory that `Data` itself points to.
                unsafe {
                    let data = umem.data(&descs[frame.chunk as usize]);
                    std::slice::from_raw_parts(data.contents().as_ptr(), frame.len())
                }
            }
        }
    }

    /// The frame's bytes, to change.
    pub fn data_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        let len = frame.len();
        &mut self.buffer_mut(frame)[..len]
    }

    /// All bytes from the frame's start to the chunk's end, to fill; then [`Memory::set_len`].
    pub fn buffer_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        self.check(frame);
        match &mut self.backing {
            Backing::Heap(bytes) => &mut bytes[frame.chunk as usize * self.chunk_len..][..self.chunk_len],
            Backing::Umem { umem, descs } => {
                let desc = &mut descs[frame.chunk as usize];
                // SAFETY: as in `data`, and both borrows are exclusive. The length is set to the whole buffer for a moment to
                // get a slice of it, and put back.
                unsafe {
                    let len = desc.lengths().data();
                    let mut data = umem.data_mut(desc);
                    let capacity = data.cursor().buf_len();
                    data.cursor().set_pos(capacity);
                    let start = data.contents_mut().as_mut_ptr();
                    data.cursor().set_pos(len);
                    std::slice::from_raw_parts_mut(start, capacity)
                }
            }
        }
    }

    /// Sets the frame's length.
    ///
    /// # Panics
    /// If the chunk does not hold it.
    pub fn set_len(&mut self, frame: &mut Frame, len: usize) {
        assert!(len <= self.buffer_mut(frame).len(), "a frame fits into its chunk");
        frame.len = len as u32;
        if let Backing::Umem { umem, descs } = &mut self.backing {
            // SAFETY: as in `buffer_mut`; no byte is touched.
            unsafe { umem.data_mut(&mut descs[frame.chunk as usize]).cursor().set_pos(len) };
        }
    }

    /// Copies a frame's bytes to the start of another chunk's.
    pub fn copy(&mut self, from: &Frame, to: &mut Frame) {
        assert_ne!(from.chunk, to.chunk, "two tokens name two chunks");
        let source = std::ptr::from_ref(self.data(from));
        // SAFETY: different chunks do not overlap, and `from` is borrowed, so its chunk stays where it is meanwhile.
        let source = unsafe { &*source };
        let target = self.buffer_mut(to);
        assert!(source.len() <= target.len(), "a frame fits into its chunk");
        target[..source.len()].copy_from_slice(source);
    }

    fn check(&self, frame: &Frame) {
        assert_eq!(frame.memory, self.id, "a frame is used with the pool that it came from");
        debug_assert_eq!(self.owners[frame.chunk as usize], Owner::Token);
    }

    /// A number for a new socket's chunks.
    pub(super) fn new_socket(&mut self) -> u16 {
        self.sockets += 1;
        self.sockets
    }

    pub(super) fn shared(&self) -> Option<&Umem> {
        match &self.backing {
            Backing::Heap(_) => None,
            Backing::Umem { umem, .. } => Some(umem),
        }
    }

    /// The descriptor of a frame that goes to a kernel ring of `socket`.
    pub(super) fn give(&mut self, frame: &Frame, socket: u16) -> FrameDesc {
        self.check(frame);
        self.owners[frame.chunk as usize] = Owner::Kernel(socket);
        self.in_kernel += 1;
        self.desc(frame.chunk)
    }

    /// A chunk that the kernel handed back, as a token with the descriptor's length. `None`: it is not one that `socket` had.
    pub(super) fn take(&mut self, desc: FrameDesc, socket: u16) -> Option<Frame> {
        let chunk = desc.addr() / self.chunk_len;
        if self.owners.get(chunk) != Some(&Owner::Kernel(socket))
            || desc.lengths().data() > self.chunk_len - desc.addr() % self.chunk_len
        {
            return None;
        }
        self.owners[chunk] = Owner::Token;
        self.in_kernel -= 1;
        if let Backing::Umem { descs, .. } = &mut self.backing {
            descs[chunk] = desc;
        }
        Some(Frame { memory: self.id, chunk: chunk as u32, len: desc.lengths().data() as u32 })
    }

    /// Frees all chunks that a closed socket had; returns how many.
    pub(super) fn reclaim(&mut self, socket: u16) -> usize {
        let mut count = 0;
        for (chunk, owner) in self.owners.iter_mut().enumerate() {
            if *owner == Owner::Kernel(socket) {
                *owner = Owner::Free;
                self.free.push(chunk as u32);
                count += 1;
            }
        }
        self.in_kernel -= count;
        count
    }

    fn desc(&self, chunk: u32) -> FrameDesc {
        match &self.backing {
            Backing::Heap(_) => unreachable!("only memory that is shared is given to a kernel ring"),
            Backing::Umem { descs, .. } => descs[chunk as usize],
        }
    }
}
