//! What a device takes, and what to try if its socket cannot be opened. It opens nothing.

use std::io;

use super::PortError;
use crate::limits::{ETHERNET_LEN, VLAN_TAG_LEN};
use crate::sys::packet::SetupError;
use crate::types::{DropReason, ethertype};

/// Whether a device with this MTU takes the frame: with a `virtio_net_hdr` the kernel does not check (`tpacket_snd`).
pub(super) fn fits_device(frame: &[u8], mtu: usize) -> Result<(), DropReason> {
    if frame.len() < ETHERNET_LEN {
        return Err(DropReason::Malformed);
    }
    let tpid = u16::from_be_bytes([frame[12], frame[13]]);
    let tag_len = if tpid == ethertype::VLAN || tpid == ethertype::QINQ { VLAN_TAG_LEN } else { 0 };
    if frame.len() > mtu + ETHERNET_LEN + tag_len { Err(DropReason::TooLong) } else { Ok(()) }
}

/// Why the kernel did not take a frame: `packet_snd` (net/packet/af_packet.c), `tun_get_user` (drivers/net/tun.c), where EIO is a device
/// that is down and EBADFD one that was deleted.
pub(super) fn refusal(error: &io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV | libc::EIO | libc::EBADFD) => DropReason::TargetDown,
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR) => DropReason::TxFull,
        Some(libc::EMSGSIZE) => DropReason::TooLong,
        Some(_) | None => DropReason::TxError,
    }
}

/// What to try when a packet socket cannot be opened.
pub(super) fn explain(device: &str, error: SetupError) -> PortError {
    let next = match error.source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "CAP_NET_RAW is needed: run as root or give the program this capability",
        Some(libc::ENODEV | libc::ENXIO) => {
            "the device is gone from this network namespace; `ip link` lists those that are there"
        }
        Some(libc::ENETDOWN) => "the device is down: `ip link set dev NAME up`",
        Some(libc::EAFNOSUPPORT) => "this kernel has no AF_PACKET (CONFIG_PACKET); use AF_XDP or a tap",
        Some(libc::ENOMEM | libc::ENOBUFS) => "the kernel has no memory for the rings; ask for shorter ones",
        Some(libc::EEXIST | libc::EALREADY | libc::EINVAL) if error.step == "PACKET_FANOUT" => {
            "another program uses this fanout group in another way; choose another number"
        }
        Some(_) | None => "the kernel may be too old for this option (5.0 or later is needed)",
    };
    PortError::Open { device: device.to_owned(), queue: None, what: error.step, source: error.source, next }
}
