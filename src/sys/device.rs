//! What an interface is, asked by name in the calling thread's network namespace. It changes nothing.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::call::check;

/// Index, MTU and state of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number in its namespace.
    pub index: u32,
    /// In bytes, without the Ethernet header.
    pub mtu: u32,
    /// Up and with a carrier (`IFF_UP` and `IFF_RUNNING`).
    pub up: bool,
}

/// Looks an interface up (netdevice(7)).
///
/// # Errors
/// `ENODEV`: there is none of this name here. `InvalidInput`: the name is too long or has a zero byte.
pub fn interface(name: &str) -> io::Result<Interface> {
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut request = request(name)?;
    let mut ask = |what: libc::c_ulong| -> io::Result<libc::ifreq> {
        // SAFETY: these ioctls read the name and write one member of the union; `request` lives through the call.
        check(unsafe { libc::ioctl(socket.as_raw_fd(), what as libc::Ioctl, &mut request) })?;
        Ok(request)
    };
    // SAFETY: SIOCGIFINDEX wrote this member of the union (net/core/dev_ioctl.c, dev_ifsioc_locked).
    let index = unsafe { ask(libc::SIOCGIFINDEX as libc::c_ulong)?.ifr_ifru.ifru_ifindex };
    // SAFETY: SIOCGIFMTU wrote this member.
    let mtu = unsafe { ask(libc::SIOCGIFMTU as libc::c_ulong)?.ifr_ifru.ifru_mtu };
    // SAFETY: SIOCGIFFLAGS wrote this member.
    let flags = i32::from(unsafe { ask(libc::SIOCGIFFLAGS as libc::c_ulong)?.ifr_ifru.ifru_flags });
    let up = libc::IFF_UP | libc::IFF_RUNNING;
    Ok(Interface { index: index as u32, mtu: mtu as u32, up: flags & up == up })
}

/// An `ifreq` with this name and zeros.
pub(super) fn request(name: &str) -> io::Result<libc::ifreq> {
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no name of an interface")));
    }
    // SAFETY: all zeros are a value of this C struct of integers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}
