//! Frames of an existing tap device, one system call each. It creates no device and does not parse frames.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use super::afpacket::fits_device;
use super::{Batch, Frame, FramePool, PortError, PortStats};
use crate::limits::BURST_LEN;
use crate::sys::tap;
use crate::types::DropReason;

/// How to open a [`Tap`].
#[derive(Clone, Debug)]
pub struct TapConfig {
    /// Name of the device in the calling thread's network namespace.
    pub name: String,
    /// Its MTU, in bytes without MAC header and outer tag.
    pub mtu: u32,
}

/// A port on a tap.
#[derive(Debug)]
pub struct Tap {
    file: File,
    mtu: usize,
    stats: PortStats,
    open: bool,
}

impl Tap {
    /// Attaches to the tap in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`PortError::Open`] with the reason and what to try.
    pub fn open(config: &TapConfig) -> Result<Self, PortError> {
        // Asking for an unknown name would make a new tap, which vanishes with us.
        let found = nix::net::if_::if_nametoindex(config.name.as_str());
        found.map_err(|errno| explain(&config.name, "looking for the tap", errno.into()))?;
        let file = tap::attach(&config.name).map_err(|error| explain(&config.name, "attaching to the tap", error))?;
        Ok(Self { file, mtu: config.mtu as usize, stats: PortStats::default(), open: true })
    }

    /// As `Port::receive`.
    pub fn receive(&mut self, pool: &mut FramePool, into: &mut Batch) {
        for _ in 0..BURST_LEN {
            if into.is_full() || !self.open {
                return;
            }
            // Without a chunk the frame stays in the tap's queue.
            let Some(mut chunk) = pool.alloc() else { return };
            let read = self.file.read(pool.buffer_mut(&mut chunk));
            match read {
                Ok(len) => {
                    pool.set_len(&mut chunk, len);
                    if let Err(chunk) = into.push(chunk) {
                        self.stats.drop_one(DropReason::NoBuffer);
                        pool.free(chunk);
                        return;
                    }
                    self.stats.rx_frames += 1;
                    self.stats.rx_bytes += len as u64;
                }
                Err(error) => {
                    pool.free(chunk);
                    match error.raw_os_error() {
                        // Longer than the chunk: the kernel has dropped it (`tun_put_user` could not copy all).
                        Some(libc::EFAULT) => self.stats.drop_one(DropReason::TooLong),
                        Some(libc::EINTR) => {}
                        // Empty, or down (EIO, EBADFD): there is no frame that could be lost.
                        Some(_) | None => return,
                    }
                }
            }
        }
    }

    /// As `Port::transmit`: written at once, and freed.
    ///
    /// # Errors
    /// `TooLong`, `Malformed` as AF_PACKET's; `TargetDown`, `TxFull`, `TxError` by the kernel's answer.
    pub fn transmit(&mut self, pool: &mut FramePool, frame: Frame) -> Result<(), DropReason> {
        let len = frame.len() as u64;
        let result = self.put(pool.data(&frame));
        pool.free(frame);
        match result {
            Ok(()) => {
                self.stats.tx_frames += 1;
                self.stats.tx_bytes += len;
            }
            Err(reason) => self.stats.drop_one(reason),
        }
        result
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), DropReason> {
        if !self.open {
            return Err(DropReason::Shutdown);
        }
        fits_device(bytes, self.mtu)?;
        self.stats.tx_wakeups += 1;
        match self.file.write(bytes) {
            Ok(written) if written == bytes.len() => Ok(()),
            Ok(_part) => Err(DropReason::TxError),
            Err(error) => Err(match error.raw_os_error() {
                // `tun_get_user`: EIO if the device is down; EBADFD if it was deleted.
                Some(libc::EIO | libc::EBADFD | libc::ENETDOWN) => DropReason::TargetDown,
                Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => DropReason::TxFull,
                Some(libc::EMSGSIZE) => DropReason::TooLong,
                Some(_) | None => DropReason::TxError,
            }),
        }
    }

    /// Readable when frames are there; none after [`Tap::drain`].
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.open.then(|| self.file.as_fd())
    }

    /// As `Port::stats`. The kernel counts what it had no room for at the device (`tx_dropped`), not here.
    pub fn stats(&mut self) -> PortStats {
        self.stats.clone()
    }

    /// As `Port::drain`: nothing is under way, since every write was taken at once. What waits in the device stays there.
    pub fn drain(&mut self) {
        self.open = false;
    }
}

fn explain(name: &str, what: &'static str, source: io::Error) -> PortError {
    let next = match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "CAP_NET_ADMIN is needed: run as root or give the program this capability",
        Some(libc::ENODEV | libc::ENXIO) => "no device has this name here: `ip tuntap add dev NAME mode tap`",
        Some(libc::EINVAL) => "the device is no tap: name one made with `ip tuntap add dev NAME mode tap`",
        Some(libc::EBUSY) => "another program has the tap: end that first",
        Some(libc::ENOENT) => "/dev/net/tun is missing: `modprobe tun`",
        Some(_) | None => "`ip -details link show dev NAME` tells what it is",
    };
    PortError::Open { device: name.to_owned(), queue: None, what, source, next }
}
