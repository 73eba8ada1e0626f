//! Each try by itself: a program attached and detached, a socket bound and closed. Devices are of the calling thread's namespace.

use std::ffi::CString;
use std::num::NonZeroU32;

use crate::sys::bpf::{ClsFilter, Error, Kind, Link, Mode, Program};
use crate::sys::socket::{packet_socket, set_option};
use crate::sys::umem::Region;
use crate::sys::xsk::{Options, Socket};
use crate::types::Direction;

/// `mov r0, imm; exit` (`struct bpf_insn`, one word each).
const fn returns(value: i32) -> [u64; 2] {
    [(value as u32 as u64) << 32 | 0xb7, 0x95]
}

/// `XDP_PASS`.
const XDP_PASS: i32 = 2;
/// `TCX_NEXT`: as if it were not there.
const TCX_NEXT: i32 = -1;
/// Ends of names of our programs, see [`Program::load`].
const NAME: &str = "probe";
/// Frames and ring places of a socket that moves nothing.
const FRAMES: u32 = 64;
/// How often a busy queue is tried again, and after what time.
const BUSY_STEPS: u32 = 15;
/// See [`BUSY_STEPS`].
const BUSY_STEP: std::time::Duration = std::time::Duration::from_millis(20);

/// An XDP program that passes everything.
pub(super) fn xdp(ifindex: u32, mode: Mode) -> Result<(), Error> {
    let program = Program::load(Kind::Xdp, NAME, &returns(XDP_PASS))?;
    Link::xdp(&program, ifindex, mode).map(drop)
}

/// The same, for frames in several buffers.
pub(super) fn xdp_frags(ifindex: u32) -> Result<(), Error> {
    let program = Program::load_frags(NAME, &returns(XDP_PASS))?;
    Link::xdp(&program, ifindex, Mode::Native).map(drop)
}

/// A program at tc's ingress hook by a link.
pub(super) fn tcx(ifindex: u32) -> Result<(), Error> {
    let program = Program::load(Kind::Classifier, NAME, &returns(TCX_NEXT))?;
    Link::tcx(&program, ifindex, Direction::Ingress).map(drop)
}

/// The same as a filter of clsact.
pub(super) fn cls_bpf(ifindex: u32) -> Result<(), Error> {
    let program = Program::load(Kind::Classifier, NAME, &returns(TCX_NEXT))?;
    ClsFilter::attach(&program, ifindex).map(drop)
}

/// An AF_XDP socket on queue 0, which nothing is steered to. With `zero_copy` an XDP program is there meanwhile: some drivers want one.
pub(super) fn af_xdp(device: &str, ifindex: u32, zero_copy: bool) -> Result<(), String> {
    let words = |what: &'static str| move |e: std::io::Error| format!("{what}: {e}");
    let name = CString::new(device).map_err(|e| e.to_string())?;
    let program = match zero_copy {
        true => {
            let program = Program::load(Kind::Xdp, NAME, &returns(XDP_PASS)).map_err(|e| e.to_string())?;
            Some(Link::xdp(&program, ifindex, Mode::Native).map_err(|e| e.to_string())?)
        }
        false => None,
    };
    let count = NonZeroU32::new(FRAMES).expect("a constant");
    let mut region = Region::umem(count, 4096, FRAMES, FRAMES).map_err(words("memory for frames"))?;
    let options = Options { queue: 0, rx_len: FRAMES, tx_len: FRAMES, zero_copy };
    let busy = |e: &std::io::Error| e.raw_os_error() == Some(nix::libc::EBUSY);
    for _ in 0..BUSY_STEPS {
        match Socket::open(&mut region, &name, options) {
            Ok(socket) => {
                socket.close(&mut region);
                drop(program);
                return Ok(());
            }
            // The kernel lets go of a queue a while after its socket was closed.
            Err(error) if busy(&error) => std::thread::sleep(BUSY_STEP),
            Err(error) => return Err(words("binding to queue 0")(error)),
        }
    }
    Err("binding to queue 0: another AF_XDP socket has it".to_owned())
}

/// A packet socket.
pub(super) fn af_packet() -> std::io::Result<()> {
    packet_socket().map(drop)
}

/// `SO_PREFER_BUSY_POLL` on a socket.
pub(super) fn prefer_busy_poll() -> std::io::Result<()> {
    /// asm-generic/socket.h.
    const SO_PREFER_BUSY_POLL: i32 = 69;
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))?;
    set_option(&socket, nix::libc::SOL_SOCKET, SO_PREFER_BUSY_POLL, 1i32)
}
