//! BPF programs: load (with the verifier's log if it does not), run on one frame for tests.

use std::ffi::{CString, c_char};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libbpf_sys as sys;

use super::{Error, NAME_PREFIX};

/// Type of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// XDP on a bpf_link.
    Xdp,
    /// tc classifier: on a tcx link, or as cls_bpf in direct-action mode.
    Classifier,
}

/// A loaded program. It goes when this and all links to it are gone.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
}

/// Room for the verifier's log, in bytes; it keeps the end of a longer one.
const LOG_LEN: usize = 256 << 10;
const RETRIES: i32 = 5;

impl Program {
    /// Loads instructions (`struct bpf_insn`, one u64 each). The name is `viscum_` and `suffix`, at most 15 bytes together.
    ///
    /// # Errors
    /// [`Error::Permission`], or [`Error::Rejected`] with the verifier's log.
    pub fn load(kind: Kind, suffix: &str, insns: &[u64]) -> Result<Self, Error> {
        Self::load_as(kind, format!("{NAME_PREFIX}{suffix}"), insns)
    }

    /// As [`Program::load`], of an XDP program that takes frames in several buffers (`xdp.frags`, since Linux 5.18).
    ///
    /// # Errors
    /// As [`Program::load`].
    pub fn load_frags(suffix: &str, insns: &[u64]) -> Result<Self, Error> {
        Self::load_with(Kind::Xdp, format!("{NAME_PREFIX}{suffix}"), insns, sys::BPF_F_XDP_HAS_FRAGS)
    }

    /// As [`Program::load`], with a name that need not be one of ours.
    pub(crate) fn load_as(kind: Kind, name: String, insns: &[u64]) -> Result<Self, Error> {
        Self::load_with(kind, name, insns, 0)
    }

    fn load_with(kind: Kind, name: String, insns: &[u64], prog_flags: u32) -> Result<Self, Error> {
        let c_name = CString::new(name.clone()).expect("program names have no zero byte");
        let (prog_type, attach_type) = match kind {
            Kind::Xdp => (sys::BPF_PROG_TYPE_XDP, sys::BPF_XDP),
            Kind::Classifier => (sys::BPF_PROG_TYPE_SCHED_CLS, 0),
        };
        let load = |log: Option<&mut Vec<u8>>| {
            let mut options = sys::bpf_prog_load_opts {
                sz: size_of::<sys::bpf_prog_load_opts>() as u64,
                attempts: RETRIES,
                prog_flags,
                expected_attach_type: attach_type,
                ..Default::default()
            };
            if let Some(log) = log {
                options.log_level = 1;
                options.log_size = log.len() as u32;
                options.log_buf = log.as_mut_ptr().cast::<c_char>();
            }
            // SAFETY: strings, instructions and the log buffer are valid for the call; bpf_insn is 8 bytes, aligned to 4.
            unsafe {
                sys::bpf_prog_load(
                    prog_type,
                    c_name.as_ptr(),
                    c"MIT".as_ptr(),
                    insns.as_ptr().cast(),
                    insns.len() as u64,
                    &raw mut options,
                )
            }
        };
        let fd = load(None);
        if fd >= 0 {
            // SAFETY: the call returned a new descriptor that nobody else owns.
            return Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } });
        }
        if -fd == libc::EPERM {
            return Err(Error::from_code("load a BPF program", fd, 0));
        }
        // Again, for the log: the first time without it is faster and needs no memory.
        let mut log = vec![0u8; LOG_LEN];
        let again = load(Some(&mut log));
        if again >= 0 {
            // SAFETY: as above.
            return Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(again) } });
        }
        let end = log.iter().position(|b| *b == 0).unwrap_or(log.len());
        let log = String::from_utf8_lossy(&log[..end]).into_owned();
        Err(Error::Rejected { name, log, source: io::Error::from_raw_os_error(-fd) })
    }

    pub(super) fn raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// Runs the program once on a frame (`BPF_PROG_TEST_RUN`): its return value.
    ///
    /// # Errors
    /// EINVAL for frames shorter than 14 bytes, or longer than the kernel tests with.
    pub fn test_run(&self, frame: &[u8]) -> Result<u32, Error> {
        let mut options = sys::bpf_test_run_opts {
            sz: size_of::<sys::bpf_test_run_opts>() as u64,
            data_in: frame.as_ptr().cast(),
            data_size_in: frame.len() as u32,
            repeat: 1,
            ..Default::default()
        };
        // SAFETY: the frame is valid for the call; no output buffer is given.
        let code = unsafe { sys::bpf_prog_test_run_opts(self.raw_fd(), &raw mut options) };
        if code < 0 { Err(Error::from_code("run a BPF program", code, 0)) } else { Ok(options.retval) }
    }

    /// As [`Program::test_run`], so many times on one frame, with what came out.
    ///
    /// # Errors
    /// As [`Program::test_run`].
    pub fn test_run_repeated(&self, frame: &[u8], repeat: i32) -> Result<TestRun, Error> {
        let mut out = vec![0u8; frame.len() + 512];
        let mut options = sys::bpf_test_run_opts {
            sz: size_of::<sys::bpf_test_run_opts>() as u64,
            data_in: frame.as_ptr().cast(),
            data_size_in: frame.len() as u32,
            data_out: out.as_mut_ptr().cast(),
            data_size_out: out.len() as u32,
            repeat,
            ..Default::default()
        };
        // SAFETY: the frame and the output buffer are valid for the call, with the lengths that are given.
        let code = unsafe { sys::bpf_prog_test_run_opts(self.raw_fd(), &raw mut options) };
        if code < 0 {
            return Err(Error::from_code("run a BPF program", code, 0));
        }
        out.truncate(options.data_size_out as usize);
        Ok(TestRun { code: options.retval, frame: out, nanoseconds: options.duration })
    }
}

/// What a program did to a frame in a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRun {
    /// What it returned.
    pub code: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// How long one run took on average.
    pub nanoseconds: u32,
}
