//! One instance per device. The lock is an abstract Unix socket: it is per network namespace, as ifindexes are, and the kernel
//! removes it with the process however that ends. It guards against mistakes, not against a local user who means harm.

use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt::PeerCredentials,
};

use super::{HostError, link, netns};
use crate::types::DeviceKey;

/// Held as long as it lives.
#[derive(Debug)]
pub struct DeviceLock {
    _socket: UnixListener,
}

/// Takes the lock of a device.
///
/// # Errors
/// [`HostError::Locked`] with the holder's process id; [`HostError::NoDevice`], [`HostError::NoNamespace`].
pub fn device(key: &DeviceKey) -> Result<DeviceLock, HostError> {
    let ifindex = link::find(key)?.ifindex;
    netns::in_namespace(key.netns.as_deref(), || bind(key, ifindex))?
}

fn bind(key: &DeviceKey, ifindex: u32) -> Result<DeviceLock, HostError> {
    let failed = || HostError::io(format!("the lock of {key}"));
    let name = format!("viscum/device/{ifindex}");
    let address = SocketAddr::from_abstract_name(&name).map_err(failed())?;
    match UnixListener::bind_addr(&address) {
        Ok(socket) => Ok(DeviceLock { _socket: socket }),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
            let holder = holder(&name).map_or_else(String::new, |pid| format!(" (process {pid})"));
            Err(HostError::Locked { key: key.clone(), holder })
        }
        Err(e) => Err(failed()(e)),
    }
}

/// The process that listens: the kernel stamps a listener's credentials on what connects to it (unix(7), `SO_PEERCRED`).
/// Nobody accepts at a lock, so those who asked pile up there: it does not wait for room, and then tells nothing.
fn holder(name: &str) -> Option<i32> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let asks = socket(AddressFamily::Unix, SockType::Stream, flags, None).ok()?;
    connect(asks.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes()).ok()?).ok()?;
    getsockopt(&asks, PeerCredentials).ok().map(|c| c.pid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_who_holds_the_device() {
        let key = DeviceKey::local("test0");
        let held = bind(&key, 4_000_000_001).unwrap();
        let error = bind(&key, 4_000_000_001).unwrap_err().to_string();
        assert!(error.contains("test0") && error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(held);
        bind(&key, 4_000_000_001).unwrap();
    }
}
