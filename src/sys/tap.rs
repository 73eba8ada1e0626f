//! Attaching to a tap device. It creates none on purpose: callers have checked that the device exists.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::packet_abi::VNET_HDR_LEN;

/// `_IOW('T', 202, int)`: <https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/include/uapi/linux/if_tun.h?h=v6.18>
const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
/// `_IOW('T', 208, unsigned int)`, same header.
const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54d0;
/// `_IOW('T', 216, int)`, same header.
const TUNSETVNETHDRSZ: libc::Ioctl = 0x4004_54d8;
/// `TUN_F_CSUM`, `TUN_F_TSO4`, `TUN_F_TSO6`, `TUN_F_TSO_ECN`: what a reader takes.
const OFFLOADS: libc::c_ulong = 0x01 | 0x02 | 0x04 | 0x08;
/// `TUN_F_USO4`, `TUN_F_USO6`: since Linux 6.2.
const OFFLOADS_UDP: libc::c_ulong = 0x20 | 0x40;

/// A tap with a `virtio_net_hdr` before each frame. What it leaves to its reader is taken back when this goes, since the next
/// reader of the device may not want it.
#[derive(Debug)]
pub struct Attached(File);

impl Attached {
    /// Reads one frame, without waiting: its header, then as much of it as there is room for. Returns the length of both together.
    ///
    /// # Errors
    /// EAGAIN: there is none; EFAULT or a full `frame`: it was longer, and is lost.
    pub fn receive(&self, header: &mut [u8], frame: &mut [u8]) -> io::Result<usize> {
        (&self.0).read_vectored(&mut [IoSliceMut::new(header), IoSliceMut::new(frame)])
    }

    /// Writes one frame. Returns the bytes that were taken, with the header.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn send(&self, header: &[u8], frame: &[u8]) -> io::Result<usize> {
        (&self.0).write_vectored(&[IoSlice::new(header), IoSlice::new(frame)])
    }
}

impl AsFd for Attached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // The device may be gone; then there is nothing to take back.
        let _gone = set_offloads(&self.0, 0);
    }
}

/// Attaches to the tap `name`: one frame and its `virtio_net_hdr` per read and write, partial checksums and super-frames in both
/// directions, non-blocking.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN, EINVAL if the device is no tap, EBUSY if another program has it, ENOENT without /dev/net/tun.
pub fn attach(name: &str) -> io::Result<Attached> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")?;
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    match set_interface(&file, name, flags) {
        // One that was made with `multi_queue` wants the flag again.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            set_interface(&file, name, flags | libc::IFF_MULTI_QUEUE)?;
        }
        Err(error) => return Err(error),
        Ok(()) => {}
    }
    let len = VNET_HDR_LEN as libc::c_int;
    // SAFETY: this request reads an int, which lives through the call.
    if unsafe { libc::ioctl(file.as_raw_fd(), TUNSETVNETHDRSZ, &raw const len) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let all = set_offloads(&file, OFFLOADS | OFFLOADS_UDP);
    all.or_else(|_| set_offloads(&file, OFFLOADS))?;
    Ok(Attached(file))
}

fn set_offloads(file: &File, offloads: libc::c_ulong) -> io::Result<()> {
    // SAFETY: this request takes a number, not a pointer.
    if unsafe { libc::ioctl(file.as_raw_fd(), TUNSETOFFLOAD, offloads) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn set_interface(file: &File, name: &str, flags: i32) -> io::Result<()> {
    // SAFETY: all zeroes is a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: `request` is an ifreq that lives through the call, with a name that ends in zero (its length was checked).
    if unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

const _: () = assert!(size_of::<libc::ifreq>() == 40);
