//! Opening a tap device and moving one frame per call. It does not set the link up, nor any address.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::call::check;
use super::device;

/// One queue of a tap. Non-blocking.
#[derive(Debug)]
pub struct Tap {
    file: File,
}

impl Tap {
    /// Attaches to the tap `name` of the calling thread's namespace, or creates it (gone again when closed, if it was created).
    ///
    /// No `virtio_net_hdr`, no offloads: the kernel completes checksums and segments before it hands a frame over
    /// (`tun_set_offload`, drivers/net/tun.c).
    ///
    /// # Errors
    /// `EPERM` (CAP_NET_ADMIN), `EBUSY` (somebody is attached), `ENOENT` (no /dev/net/tun), `EINVAL` (a device that is no tap).
    pub fn open(name: &str, multi_queue: bool) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
        let mut request = device::request(name)?;
        let queues = if multi_queue { libc::IFF_MULTI_QUEUE } else { 0 };
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | queues) as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes an `ifreq`, which lives through the call.
        check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) })?;
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, 0 as libc::c_ulong) })?;
        Ok(Self { file })
    }

    /// Takes one frame; `buffer` is cut to at most its own length by the kernel without a sign.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }

    /// Hands one frame over.
    pub fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        self.file.write(frame)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
