//! Memory that a kernel object shares with us. It knows no layout: the ring types over it say who owns which bytes when.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

/// A shared, writable mapping of a file descriptor, from its beginning. Unmapped when dropped.
#[derive(Debug)]
pub struct SharedMap {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread; `SharedMap` is its only owner and `&mut` guards all plain access.
unsafe impl Send for SharedMap {}

impl SharedMap {
    /// Maps `len` bytes (at least 1). The pages are touched at once, so that no fault comes with the first frames.
    ///
    /// # Errors
    /// What `mmap` says.
    pub fn new(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory of ours; `fd` is open for the call.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                fd.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start =
            NonNull::new(start.cast::<u8>()).expect("a successful mmap without MAP_FIXED is never at address 0");
        Ok(Self { start, len })
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a mapping has at least one byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A word that both sides read and write.
    ///
    /// # Panics
    /// If it is not within the mapping, or not aligned to four bytes.
    #[inline]
    #[must_use]
    pub fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(
            offset.is_multiple_of(4) && offset.checked_add(4).is_some_and(|end| end <= self.len),
            "a word of the mapping"
        );
        // SAFETY: in bounds and aligned (asserted; mappings begin at a page); an atomic allows for another writer, and lives as
        // long as `self`, which unmaps only when dropped.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(offset).cast::<u32>()) }
    }

    /// Bytes that are ours for as long as the result lives.
    ///
    /// # Safety
    /// The kernel must not write to them meanwhile, by the protocol of the ring that is mapped (an ownership flag seen with
    /// Acquire). No word that is used through [`SharedMap::word`] may be among them.
    ///
    /// # Panics
    /// If they are not within the mapping.
    #[inline]
    #[must_use]
    pub unsafe fn bytes_mut(&mut self, offset: usize, len: usize) -> &mut [u8] {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len), "bytes of the mapping");
        // SAFETY: in bounds (asserted); the caller upholds that the kernel leaves them alone; `&mut self` excludes other slices.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(offset), len) }
    }
}

impl Drop for SharedMap {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; no slice or word of it outlives `self`.
        let failed = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) } != 0;
        debug_assert!(!failed, "unmapping what was mapped cannot fail");
    }
}
