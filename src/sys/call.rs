//! The funnel for system calls: return codes to `io::Error`, socket options by type. It interprets nothing.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The result of a call that returns −1 and `errno` on failure.
pub(super) fn check(ret: libc::c_int) -> io::Result<libc::c_int> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

/// Types that are plain words to the kernel: any bytes are a value, and none of them is padding that matters.
///
/// # Safety
/// All bit patterns are valid, and the type is `repr(C)` or a primitive.
pub(super) unsafe trait Plain: Copy {}
// SAFETY: integers take any bits.
unsafe impl Plain for libc::c_int {}
// SAFETY: a C struct of integers.
unsafe impl Plain for libc::tpacket_req {}
// SAFETY: a C struct of integers.
unsafe impl Plain for libc::tpacket_stats {}
// SAFETY: a C struct of integers.
unsafe impl Plain for libc::xdp_options {}

/// `setsockopt(2)`.
pub(super) fn set_option<T: Plain>(fd: BorrowedFd<'_>, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which lives through the call; the kernel only reads it.
    let ret = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    check(ret).map(drop)
}

/// `getsockopt(2)`; what the kernel does not write stays as in `start`.
pub(super) fn get_option<T: Plain>(fd: BorrowedFd<'_>, level: i32, name: i32, start: T) -> io::Result<T> {
    let mut value = start;
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `value`, for which any bits are valid (`Plain`).
    let ret = unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, std::ptr::from_mut(&mut value).cast(), &mut len) };
    check(ret).map(|_| value)
}

/// `sendto(2)` without data: tells the kernel to look at the transmit ring.
pub(super) fn kick(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is passed.
    let ret = unsafe { libc::sendto(fd.as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0) };
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
