//! Frames of an existing tap device, one system call each, super-frames whole. It creates no device and does not parse frames.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::afpacket::LONG_PER_RECEIVE;
use super::afpacket_rx::make_whole;
use super::device::{fits_device, refusal};
use super::gro::Merger;
use super::{Batch, Frame, FramePool, PortError, PortStats, vnet};
use crate::limits::BURST_LEN;
use crate::sys::tap;
use crate::types::{DropReason, Offload};

/// How to open a [`Tap`].
#[derive(Clone, Debug)]
pub struct TapConfig {
    /// Name of the device in the calling thread's network namespace.
    pub name: String,
    /// Its MTU, in bytes without MAC header and outer tag.
    pub mtu: u32,
    /// Frames of one TCP flow in a row leave as one super-frame.
    pub merge: bool,
}

/// A port on a tap.
#[derive(Debug)]
pub struct Tap {
    file: tap::Attached,
    mtu: usize,
    merge: bool,
    merger: Merger,
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
        let (mtu, stats, merger) = (config.mtu as usize, PortStats::default(), Merger::new(config.merge));
        Ok(Self { file, mtu, merge: config.merge, merger, stats, open: true })
    }

    /// As `Port::receive`.
    pub fn receive(&mut self, pool: &mut FramePool, into: &mut Batch) {
        let mut long = 0;
        for _ in 0..BURST_LEN {
            if into.is_full() || long == LONG_PER_RECEIVE || !self.open {
                return;
            }
            // Nobody says before how long the next frame is. Without a chunk it stays in the tap's queue.
            let Some(mut frame) = pool.alloc_large().or_else(|| pool.alloc()) else { return };
            let mut header = vnet::Bytes::default();
            let read = self.file.receive(&mut header, pool.buffer_mut(&mut frame));
            match read {
                Ok(len) => {
                    let taken = make_whole(frame, &header, None, len.saturating_sub(header.len()), pool);
                    let taken = taken.and_then(|frame| match frame.len() <= pool.chunk_len() {
                        true => pool.move_to_small(frame),
                        false => Ok(frame),
                    });
                    match taken {
                        Ok(frame) => {
                            long += usize::from(frame.len() > pool.chunk_len());
                            self.stats.hand_out(frame, pool, into);
                        }
                        Err(reason) => self.stats.drop_one(reason),
                    }
                }
                Err(error) => {
                    pool.free(frame);
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

    /// As `Port::transmit`: written at once or with the next flush, and freed.
    ///
    /// # Errors
    /// `TooLong`, `Malformed` as AF_PACKET's; `TargetDown`, `TxFull`, `TxError` by the kernel's answer.
    pub fn transmit(&mut self, pool: &mut FramePool, frame: Frame) -> Result<(), DropReason> {
        let (bytes, offload) = (pool.data(&frame), frame.offload);
        let mut held = self.merge && self.open && self.merger.append(bytes, &offload);
        if self.merge && self.open && !held {
            self.send_held();
            held = self.merger.begin(bytes, &offload);
        }
        let sent = if held { Ok(()) } else { self.send(bytes, &offload, 1) };
        pool.free(frame);
        sent
    }

    fn send_held(&mut self) {
        if let Some(ready) = self.merger.take() {
            let _counted = self.send(&ready.buffer[..ready.len], &ready.offload, ready.count);
            self.merger.done(ready);
        }
    }

    /// As `Port::flush`: sends what was held to be merged with others.
    pub fn flush(&mut self) {
        self.send_held();
    }

    fn send(&mut self, bytes: &[u8], offload: &Offload, count: u32) -> Result<(), DropReason> {
        let len = bytes.len() as u64;
        let result = self.put(bytes, offload);
        match result {
            Ok(()) => {
                self.stats.tx_frames += u64::from(count);
                self.stats.tx_bytes += len;
            }
            Err(reason) => self.stats.drops[reason.index()] += u64::from(count),
        }
        result
    }

    fn put(&mut self, bytes: &[u8], offload: &Offload) -> Result<(), DropReason> {
        if !self.open {
            return Err(DropReason::Shutdown);
        }
        fits_device(bytes, if offload.gso.is_some() { usize::MAX / 2 } else { self.mtu })?;
        self.stats.tx_wakeups += 1;
        let header = vnet::write(offload, bytes);
        match self.file.send(&header, bytes) {
            Ok(written) if written == header.len() + bytes.len() => Ok(()),
            Ok(_part) => Err(DropReason::TxError),
            Err(error) => Err(refusal(&error)),
        }
    }

    /// Readable when frames are there; none after [`Tap::drain`].
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.open.then(|| self.file.as_fd())
    }

    pub(super) const fn stats_mut(&mut self) -> &mut PortStats {
        &mut self.stats
    }

    /// As `Port::stats`. The kernel counts what it had no room for at the device (`tx_dropped`), not here.
    pub fn stats(&mut self) -> PortStats {
        self.stats.clone()
    }

    /// As `Port::drain`: nothing is under way, since every write was taken at once. What waits in the device stays there.
    pub fn drain(&mut self) {
        self.flush();
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
