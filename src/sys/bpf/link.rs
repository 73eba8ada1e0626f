//! bpf_link: an attachment that ends with its descriptor, and so with the process.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libbpf_sys as sys;

use super::query::{Mode, xdp_attached};
use super::{Error, Program};
use crate::types::Direction;

/// A program attached to a device until this is dropped.
#[derive(Debug)]
pub struct Link {
    fd: OwnedFd,
}

impl Link {
    /// Attaches an XDP program; a program that is there already is never removed.
    ///
    /// # Errors
    /// [`Error::Busy`] with what is attached, [`Error::MtuTooLarge`], [`Error::NoSpace`] (too few queues),
    /// [`Error::Unsupported`] (no native XDP), [`Error::NoDevice`], [`Error::Permission`].
    pub fn xdp(program: &Program, ifindex: u32, mode: Mode) -> Result<Self, Error> {
        let (what, flags) = match mode {
            Mode::Native => ("attach an XDP program in native mode", sys::XDP_FLAGS_DRV_MODE),
            Mode::Generic => ("attach an XDP program in generic mode", sys::XDP_FLAGS_SKB_MODE),
            Mode::Offloaded => ("attach an XDP program in offloaded mode", sys::XDP_FLAGS_HW_MODE),
        };
        if let Ok(Some(attached)) = xdp_attached(ifindex) {
            return Err(Error::Busy { what, attached: Some(attached) });
        }
        Self::create(program, ifindex, sys::BPF_XDP, flags, what)
    }

    /// Attaches a classifier to the device's ingress, before all others there: what we drop, nobody else may pass.
    ///
    /// # Errors
    /// As [`Link::tcx`].
    pub fn tcx_ingress(program: &Program, ifindex: u32) -> Result<Self, Error> {
        Self::tcx(program, ifindex, Direction::Ingress)
    }

    /// Attaches a classifier to one of the device's hooks, before all others there.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on kernels without tcx (before 6.6); else as [`Link::xdp`].
    pub fn tcx(program: &Program, ifindex: u32, direction: Direction) -> Result<Self, Error> {
        const WHAT: &str = "attach a tcx program";
        let kind = match direction {
            Direction::Ingress => sys::BPF_TCX_INGRESS,
            Direction::Egress => sys::BPF_TCX_EGRESS,
        };
        match Self::create(program, ifindex, kind, sys::BPF_F_BEFORE, WHAT) {
            // The attach type is not known.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Err(Error::Unsupported { what: WHAT }),
            result => result,
        }
    }

    fn create(program: &Program, ifindex: u32, kind: u32, flags: u32, what: &'static str) -> Result<Self, Error> {
        let options = sys::bpf_link_create_opts {
            sz: size_of::<sys::bpf_link_create_opts>() as u64,
            flags,
            ..Default::default()
        };
        // SAFETY: the options are valid for the call; the rest are numbers.
        let fd = unsafe { sys::bpf_link_create(program.raw_fd(), ifindex as i32, kind, &raw const options) };
        if fd < 0 {
            return Err(Error::from_code(what, fd, ifindex));
        }
        // SAFETY: the call returned a new descriptor that nobody else owns.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Whether it is still attached: the device is there, and nobody has detached it. Of XDP and tcx links; true if the kernel does not tell.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        let mut info = sys::bpf_link_info::default();
        let mut len = size_of::<sys::bpf_link_info>() as u32;
        // SAFETY: info and its length are valid for the call.
        let code = unsafe { sys::bpf_link_get_info_by_fd(self.fd.as_raw_fd(), &raw mut info, &raw mut len) };
        // SAFETY: the link is of one of these kinds, and both begin with the ifindex, which is 0 without a device; it is a plain number.
        code < 0 || unsafe { info.__bindgen_anon_1.xdp.ifindex } != 0
    }

    /// Replaces the program: each frame sees either the old or the new one, none sees neither.
    ///
    /// # Errors
    /// What the kernel says; the old program stays then. ENOLINK: the device is gone.
    pub fn update(&self, program: &Program) -> Result<(), Error> {
        // SAFETY: both descriptors are open; null options are allowed.
        let code = unsafe { sys::bpf_link_update(self.fd.as_raw_fd(), program.raw_fd(), std::ptr::null()) };
        if code < 0 { Err(Error::from_code("replace a BPF program", code, 0)) } else { Ok(()) }
    }
}
