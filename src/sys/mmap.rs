//! A shared mapping of a file descriptor that unmaps itself. It hands out pointers within its bounds only.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

/// A mapping; whoever writes to it through [`Map::at`] keeps the rules of what is mapped.
#[derive(Debug)]
pub(super) struct Map {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread; access goes through `&mut` of its owner.
unsafe impl Send for Map {}

impl Map {
    /// Maps `len` bytes of `fd` from its start, shared, readable and writable.
    pub fn shared(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).expect("mmap succeeded, so it is not null");
        Ok(Self { base, len })
    }

    /// A pointer to `len` bytes at `offset`.
    ///
    /// # Panics
    /// If they are not within the mapping.
    pub fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len), "an offset within the mapping");
        // SAFETY: just compared with the mapping's length.
        unsafe { self.base.as_ptr().add(offset) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped; nobody can hold a pointer, as those live no longer than a borrow of the owner.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
