//! Socket calls that the libraries have no safe form for. Each does one system call; none knows what it is for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use super::packet_abi as abi;
use crate::types::{VlanTag, ethertype};

/// What may be given to `setsockopt` as it lies in memory.
///
/// # Safety
/// `repr(C)` without padding and pointers, valid for every bit pattern.
pub unsafe trait PlainOption: Copy + Default {}
// SAFETY: an integer has no padding and every pattern is valid.
unsafe impl PlainOption for i32 {}
// SAFETY: as above.
unsafe impl PlainOption for u32 {}
// SAFETY: arrays of integers are as plain as these.
unsafe impl PlainOption for [u32; 2] {}
// SAFETY: as above.
unsafe impl PlainOption for [u32; 4] {}

/// A new non-blocking, close-on-exec packet socket without a protocol: it receives nothing until it is bound.
///
/// # Errors
/// EPERM without CAP_NET_RAW, EAFNOSUPPORT from a kernel without AF_PACKET.
pub fn packet_socket() -> io::Result<OwnedFd> {
    // SAFETY: takes integers only.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether the kernel knows AF_XDP at all (CONFIG_XDP_SOCKETS): a socket of that family can be asked for without binding it.
/// Missing privilege does not count as missing support.
#[must_use]
pub fn kernel_has_af_xdp() -> bool {
    // SAFETY: takes integers only.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return io::Error::last_os_error().raw_os_error() != Some(libc::EAFNOSUPPORT);
    }
    // SAFETY: `fd` was just opened and nobody else knows it; it is closed at once.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    true
}

/// Binds a packet socket to a device and a protocol (EtherType, host order; 0 receives nothing).
///
/// # Errors
/// ENODEV if no device has this index, ENETDOWN if it is down.
pub fn bind_packet(socket: impl AsFd, ifindex: u32, protocol: u16) -> io::Result<()> {
    // SAFETY: all zeroes is a valid address.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = i32::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: `address` lives through the call and `len` is its length.
    check(unsafe { libc::bind(socket.as_fd().as_raw_fd(), (&raw const address).cast(), len) })
}

/// Sets one option.
///
/// # Errors
/// What `setsockopt` says.
pub fn set_option<T: PlainOption>(socket: impl AsFd, level: i32, name: i32, value: T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` lives through the call, `len` is its length, and it is plain.
    check(unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw const value).cast(), len) })
}

/// Reads one option.
///
/// # Errors
/// What `getsockopt` says.
pub fn get_option<T: PlainOption>(socket: impl AsFd, level: i32, name: i32) -> io::Result<T> {
    let mut value = T::default();
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into `value`, which every pattern is valid for.
    check(unsafe { libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) })?;
    Ok(value)
}

/// The pending error of a socket, which is cleared by reading it: until then `poll` reports it and never sleeps.
///
/// # Errors
/// The pending error.
pub fn take_error(socket: impl AsFd) -> io::Result<()> {
    match get_option::<i32>(socket, libc::SOL_SOCKET, libc::SO_ERROR)? {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Receives one datagram into two buffers, one after the other, without waiting. Returns its whole length, also if not all of it
/// had room.
///
/// # Errors
/// What `recvmsg` says; EAGAIN if there is none.
pub fn receive_parts(socket: impl AsFd, [first, second]: [&mut [u8]; 2]) -> io::Result<usize> {
    let mut parts =
        [&mut *first, second].map(|part| libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() });
    let mut message = message(&mut parts);
    // SAFETY: the parts are two slices that are borrowed mutably through the call, and the message has no other pointers.
    let got =
        unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT | libc::MSG_TRUNC) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

/// Sends two buffers as one datagram, without waiting. Returns the bytes that were taken.
///
/// # Errors
/// What `sendmsg` says.
pub fn send_parts(socket: impl AsFd, parts: [&[u8]; 2]) -> io::Result<usize> {
    let mut parts = parts.map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
    let message = message(&mut parts);
    // SAFETY: the kernel only reads the parts, which are borrowed through the call; the message has no other pointers.
    let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, libc::MSG_DONTWAIT) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// What is known of the oldest frame in a packet socket's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peeked {
    /// Its length in bytes, without the tag.
    pub len: usize,
    /// The tag that was taken off.
    pub tag: Option<VlanTag>,
    /// Its checksum is only begun.
    pub partial: bool,
    /// It is a super-frame of TCP; older kernels do not tell.
    pub gso_tcp: bool,
    /// When it came in, in nanoseconds since 1970.
    pub stamp_ns: i64,
}

/// Looks at the oldest frame in the queue of a packet socket with `PACKET_AUXDATA` and `SO_TIMESTAMPNS`, and leaves it there; without
/// waiting.
///
/// # Errors
/// EAGAIN if there is none; ENETDOWN once after the device went down.
pub fn peek_packet(socket: impl AsFd) -> io::Result<Peeked> {
    /// Room for both pieces of control data with their headers, 32 and 40 bytes, and to spare.
    #[repr(C, align(8))]
    struct Control([u8; 128]);
    let mut control = Control([0; 128]);
    // SAFETY: all zeroes is a valid message: no address, no parts.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    let flags = libc::MSG_PEEK | libc::MSG_TRUNC | libc::MSG_DONTWAIT;
    // SAFETY: no data is asked for, and the control data has a buffer of the length that is given, which lives through the call.
    let len = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, flags) };
    let mut seen = Peeked { len: usize::try_from(len).map_err(|_| io::Error::last_os_error())?, ..Peeked::default() };
    // SAFETY: the kernel has filled the message; its control buffer is alive and aligned for `cmsghdr`.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give null or a whole header within the buffer.
        let (level, kind) = unsafe { ((*header).cmsg_level, (*header).cmsg_type) };
        match (level, kind) {
            (abi::SOL_PACKET, abi::PACKET_AUXDATA) => {
                // SAFETY: the kernel puts a whole `struct tpacket_auxdata` behind such a header (packet_recvmsg); bytes have no alignment.
                let data = unsafe { libc::CMSG_DATA(header).cast::<Auxdata>().read() };
                seen.note(data);
            }
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                // SAFETY: the kernel puts a `struct timespec` behind such a header (put_cmsg_scm_timestampns).
                let at = unsafe { libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned() };
                seen.stamp_ns = at.tv_sec * 1_000_000_000 + at.tv_nsec;
            }
            _ => {}
        }
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Ok(seen)
}

/// `struct tpacket_auxdata`: status, len, snaplen (32 bits each), mac, net, vlan_tci, vlan_tpid (16 bits each).
type Auxdata = [u8; 20];

impl Peeked {
    fn note(&mut self, data: Auxdata) {
        let word = |at: usize| u16::from_ne_bytes([data[at], data[at + 1]]);
        let status = u32::from_ne_bytes([data[0], data[1], data[2], data[3]]);
        self.partial = status & abi::TP_STATUS_CSUMNOTREADY != 0;
        self.gso_tcp = status & abi::TP_STATUS_GSO_TCP != 0;
        if status & abi::TP_STATUS_VLAN_VALID != 0 {
            let tpid = if status & abi::TP_STATUS_VLAN_TPID_VALID != 0 { word(18) } else { ethertype::VLAN };
            self.tag = Some(VlanTag { tpid, tci: word(16) });
        }
    }
}

fn message(parts: &mut [libc::iovec; 2]) -> libc::msghdr {
    // SAFETY: all zeroes is a valid message: no address, no parts, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts.as_mut_ptr();
    message.msg_iovlen = parts.len();
    message
}

/// Sends one frame by a bound packet socket, without waiting.
///
/// # Errors
/// What `send` says; ENOBUFS or EAGAIN: there is no room now.
pub fn send(socket: impl AsFd, frame: &[u8]) -> io::Result<()> {
    // SAFETY: the frame is valid for the call.
    let sent =
        unsafe { libc::send(socket.as_fd().as_raw_fd(), frame.as_ptr().cast(), frame.len(), libc::MSG_DONTWAIT) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Tells the kernel to look at a transmit ring, without waiting (`sendto` of nothing). Returns the bytes that it took.
///
/// # Errors
/// What `sendto` says.
pub fn kick(socket: impl AsFd) -> io::Result<usize> {
    // SAFETY: no buffer and no address.
    let sent = unsafe {
        libc::sendto(socket.as_fd().as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
