//! Attaching to a tap device. It creates none on purpose: callers have checked that the device exists.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

/// `_IOW('T', 202, int)`: <https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/include/uapi/linux/if_tun.h?h=v6.18>
const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
/// `_IOW('T', 208, unsigned int)`, same header.
const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54d0;

/// Attaches to the tap `name`: one frame per read and write, whole checksums, no super-frames, non-blocking.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN, EINVAL if the device is no tap, EBUSY if another program has it, ENOENT without /dev/net/tun.
pub fn attach(name: &str) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")?;
    let single = set_interface(&file, name, libc::IFF_TAP | libc::IFF_NO_PI);
    match single {
        // One that was made with `multi_queue` wants the flag again.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            set_interface(&file, name, libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_MULTI_QUEUE)?;
        }
        Err(error) => return Err(error),
        Ok(()) => {}
    }
    // SAFETY: this request takes a number, not a pointer; 0 makes the kernel complete checksums and segment before we read.
    if unsafe { libc::ioctl(file.as_raw_fd(), TUNSETOFFLOAD, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
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
