//! AF_PACKET sockets with TPACKET_V2 rings as safe types. They move bytes and what the kernel says of them, and complete nothing.

mod rx;
mod tx;

pub use rx::{RxRing, Slot, VnetHeader};
pub use tx::{Queued, Sent, TxRing};

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::AtomicU32;

use super::call::{check, set_option};

/// `struct tpacket2_hdr`, include/uapi/linux/if_packet.h: what every slot begins with.
const HEADER_LEN: usize = size_of::<libc::tpacket2_hdr>();
const _: () = assert!(HEADER_LEN == 32);
const _: () = assert!(std::mem::offset_of!(libc::tpacket2_hdr, tp_status) == 0);

/// A raw packet socket, not bound yet: no frame reaches it before its rings are there.
fn socket() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd =
        check(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Binds to a device; `protocol` 0 receives nothing.
fn bind(fd: BorrowedFd<'_>, ifindex: u32, protocol: u16) -> io::Result<()> {
    // SAFETY: all zeros are a value of this C struct of integers.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = ifindex as libc::c_int;
    // SAFETY: the pointer and the length describe `address`; the kernel only reads it.
    let ret = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            std::ptr::from_ref(&address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    check(ret).map(drop)
}

/// Where the slots of a ring are: `slots_per_block` in each block, the rest of a block unused.
#[derive(Clone, Copy, Debug)]
struct Layout {
    slot_len: usize,
    block_len: usize,
    slots_per_block: usize,
    slot_count: usize,
}

impl Layout {
    /// For at least `slots` slots of `slot_len` bytes (a multiple of 16) in blocks of `block_len` bytes (a power of two of pages).
    fn new(slots: usize, slot_len: usize, block_len: usize) -> Self {
        let slots_per_block = block_len / slot_len;
        let block_count = slots.div_ceil(slots_per_block).max(1);
        Self { slot_len, block_len, slots_per_block, slot_count: block_count * slots_per_block }
    }

    fn len(&self) -> usize {
        self.slot_count / self.slots_per_block * self.block_len
    }

    fn offset(&self, slot: usize) -> usize {
        slot / self.slots_per_block * self.block_len + slot % self.slots_per_block * self.slot_len
    }

    /// Asks the kernel for the ring.
    fn set(&self, fd: BorrowedFd<'_>, which: libc::c_int) -> io::Result<()> {
        set_option(fd, libc::SOL_PACKET, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V2 as libc::c_int))?;
        let request = libc::tpacket_req {
            tp_block_size: self.block_len as libc::c_uint,
            tp_block_nr: (self.slot_count / self.slots_per_block) as libc::c_uint,
            tp_frame_size: self.slot_len as libc::c_uint,
            tp_frame_nr: self.slot_count as libc::c_uint,
        };
        set_option(fd, libc::SOL_PACKET, which, &request)
    }
}

/// The status word of a slot, which both sides write.
///
/// # Safety
/// `slot` points to a mapped slot that lives as long as `'a`.
unsafe fn status<'a>(slot: *mut u8) -> &'a AtomicU32 {
    // SAFETY: the caller's; slots are aligned to 16 bytes, and the word is only ever accessed atomically by us.
    unsafe { AtomicU32::from_ptr(slot.cast()) }
}
