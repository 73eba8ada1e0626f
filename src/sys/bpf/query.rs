//! What XDP program is attached to a device, and whether it is one of ours. It changes nothing.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libbpf_sys as sys;

use super::{Error, NAME_PREFIX};

/// How an XDP program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the network core, on any device.
    Generic,
    /// In the device.
    Offloaded,
}

impl Mode {
    /// Its name in messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Offloaded => "offloaded",
        }
    }
}

/// An XDP program that is attached to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The program's id, as `bpftool prog` shows it.
    pub id: u32,
    /// Its name; empty if it has none or it cannot be read.
    pub name: String,
    /// How it is attached.
    pub mode: Mode,
}

impl Attached {
    /// Whether a viscum attached it (another instance: its links end with it).
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.name.starts_with(NAME_PREFIX)
    }
}

impl std::fmt::Display for Attached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let owner = if self.is_ours() { ", of another running viscum" } else { "" };
        write!(f, "XDP program {} (id {}, {}{owner})", self.name, self.id, self.mode.as_str())
    }
}

/// The XDP program of a device, if there is one.
///
/// # Errors
/// [`Error::NoDevice`], or what netlink says.
pub fn xdp_attached(ifindex: u32) -> Result<Option<Attached>, Error> {
    let mut options = sys::bpf_xdp_query_opts { sz: size_of::<sys::bpf_xdp_query_opts>() as u64, ..Default::default() };
    // SAFETY: the options are valid for the call.
    let code = unsafe { sys::bpf_xdp_query(ifindex as i32, 0, &raw mut options) };
    if code < 0 {
        return Err(match -code {
            libc::ENODEV | libc::ENOENT | libc::ENXIO => Error::NoDevice { what: "look for XDP programs", ifindex },
            errno => {
                let source = std::io::Error::from_raw_os_error(errno);
                Error::Kernel { what: "look for XDP programs", source }
            }
        });
    }
    let modes = [
        (options.drv_prog_id, Mode::Native),
        (options.skb_prog_id, Mode::Generic),
        (options.hw_prog_id, Mode::Offloaded),
    ];
    let single = match u32::from(options.attach_mode) {
        sys::XDP_ATTACHED_DRV => (options.prog_id, Mode::Native),
        sys::XDP_ATTACHED_SKB => (options.prog_id, Mode::Generic),
        sys::XDP_ATTACHED_HW => (options.prog_id, Mode::Offloaded),
        _ => (0, Mode::Native),
    };
    let found = modes.into_iter().chain([single]).find(|(id, _)| *id != 0);
    Ok(found.map(|(id, mode)| Attached { id, name: program_name(id).unwrap_or_default(), mode }))
}

/// What a driver says that it can do with XDP (`enum netdev_xdp_act`, include/uapi/linux/netdev.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpFeatures(u64);

impl XdpFeatures {
    /// AF_XDP without copying.
    #[must_use]
    pub const fn zero_copy(self) -> bool {
        self.0 & 8 != 0
    }

    /// It receives frames in several buffers.
    #[must_use]
    pub const fn multi_buffer(self) -> bool {
        self.0 & 32 != 0
    }
}

/// What the driver of a device says of XDP; `None` if neither it nor the kernel (before 6.3) tells.
#[must_use]
pub fn xdp_features(ifindex: u32) -> Option<XdpFeatures> {
    super::quiet();
    let mut options = sys::bpf_xdp_query_opts { sz: size_of::<sys::bpf_xdp_query_opts>() as u64, ..Default::default() };
    // SAFETY: the options are valid for the call.
    let code = unsafe { sys::bpf_xdp_query(ifindex as i32, 0, &raw mut options) };
    (code >= 0 && options.feature_flags != 0).then_some(XdpFeatures(options.feature_flags))
}

/// The name of the program with this id.
pub(super) fn program_name(id: u32) -> Option<String> {
    // SAFETY: it takes a number.
    let fd = unsafe { sys::bpf_prog_get_fd_by_id(id) };
    if fd < 0 {
        return None;
    }
    // SAFETY: the call returned a new descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: bpf_prog_info is plain numbers; zero asks for no further buffers.
    let mut info: sys::bpf_prog_info = unsafe { std::mem::zeroed() };
    let mut len = size_of::<sys::bpf_prog_info>() as u32;
    // SAFETY: info and its length are valid for the call.
    let code = unsafe { sys::bpf_prog_get_info_by_fd(fd.as_raw_fd(), &raw mut info, &raw mut len) };
    if code < 0 {
        return None;
    }
    // SAFETY: the kernel terminates the name within its 16 bytes (BPF_OBJ_NAME_LEN).
    let name = unsafe { CStr::from_ptr(info.name.as_ptr()) };
    Some(name.to_string_lossy().into_owned())
}
