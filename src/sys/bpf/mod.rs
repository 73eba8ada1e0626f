//! bpf(2) behind safe types: maps, programs, links, and what is attached to a device. It knows no rules.
//!
//! Nothing is pinned: maps and programs live while a descriptor or a link holds them, links while their descriptor is open.
//! Device indexes are those of the calling thread's network namespace.

mod cls;
mod link;
mod live;
mod map;
mod program;
mod query;
mod words;

pub use cls::{ClsFilter, remove_leftover};
pub use link::Link;
pub use map::{DeviceMap, Map, PerCpuMap, SocketMap, WordMap};
pub use program::{Kind, Program, TestRun};
pub use query::{Attached, Mode, XdpFeatures, xdp_attached, xdp_features};
pub use words::WordsMap;

use std::io;

/// Names of all our programs start with this.
pub const NAME_PREFIX: &str = "viscum_";

/// Why the kernel did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// EPERM or EACCES.
    #[error("no permission to {what}: {capability} is needed (run as root)")]
    Permission {
        /// What was tried.
        what: &'static str,
        /// Which capabilities it takes.
        capability: &'static str,
    },
    /// ENODEV.
    #[error("cannot {what}: there is no device with index {ifindex} in this network namespace")]
    NoDevice {
        /// What was tried.
        what: &'static str,
        /// The index.
        ifindex: u32,
    },
    /// EOPNOTSUPP.
    #[error("cannot {what}: the kernel or the device's driver does not support it; generic XDP works on every device")]
    Unsupported {
        /// What was tried.
        what: &'static str,
    },
    /// ERANGE of a native attach.
    #[error(
        "cannot {what}: the MTU of the device (or of its veth peer) is too large for native XDP; lower it, or use generic XDP"
    )]
    MtuTooLarge {
        /// What was tried.
        what: &'static str,
    },
    /// ENOSPC.
    #[error(
        "cannot {what}: not enough receive queues (a veth needs at least as many as its peer has transmit queues) or no memory"
    )]
    NoSpace {
        /// What was tried.
        what: &'static str,
    },
    /// EBUSY, EEXIST: something else is attached.
    #[error("cannot {what}: {} is attached already; detach it, or choose another device", .attached.as_ref().map_or("another program".to_owned(), ToString::to_string))]
    Busy {
        /// What was tried.
        what: &'static str,
        /// What is there, if that could be found out.
        attached: Option<Attached>,
    },
    /// The verifier does not accept the program.
    #[error("the kernel's verifier rejects program {name} ({source}): {}", last_lines(.log))]
    Rejected {
        /// The program.
        name: String,
        /// What the verifier said.
        log: String,
        /// EINVAL, EACCES, E2BIG, …
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot {what}: {source}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// The error.
        source: io::Error,
    },
}

impl Error {
    /// From a negative errno as libbpf returns it.
    fn from_code(what: &'static str, code: i32, ifindex: u32) -> Self {
        match -code {
            // Links say EINVAL for a device that is not there (bpf_xdp_link_attach).
            libc::EINVAL if ifindex != 0 && !device_exists(ifindex) => Self::NoDevice { what, ifindex },
            libc::EPERM | libc::EACCES => Self::Permission { what, capability: "CAP_BPF and CAP_NET_ADMIN" },
            libc::ENODEV => Self::NoDevice { what, ifindex },
            libc::EOPNOTSUPP => Self::Unsupported { what },
            libc::ERANGE => Self::MtuTooLarge { what },
            libc::ENOSPC => Self::NoSpace { what },
            libc::EBUSY | libc::EEXIST => Self::Busy { what, attached: query::xdp_attached(ifindex).ok().flatten() },
            errno => Self::Kernel { what, source: io::Error::from_raw_os_error(errno) },
        }
    }

    /// The errno, where it is an uncommon one.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Rejected { source, .. } | Self::Kernel { source, .. } => source.raw_os_error(),
            Self::Permission { .. } => Some(libc::EPERM),
            Self::NoDevice { .. } => Some(libc::ENODEV),
            Self::Unsupported { .. } => Some(libc::EOPNOTSUPP),
            Self::MtuTooLarge { .. } => Some(libc::ERANGE),
            Self::NoSpace { .. } => Some(libc::ENOSPC),
            Self::Busy { .. } => Some(libc::EBUSY),
        }
    }
}

fn device_exists(ifindex: u32) -> bool {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the IF_NAMESIZE bytes that the call may write.
    unsafe { !libc::if_indextoname(ifindex, name.as_mut_ptr()).is_null() }
}

/// libbpf prints to stderr what it also returns; errors are ours to print.
fn quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: no callback is set, so none can be called.
        unsafe { libbpf_sys::libbpf_set_print(None) };
    });
}

/// The end of a verifier log says what was wrong.
fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(4)..].join(" / ")
}

/// Waits until every program that was attached before has finished its present packet: programs run inside RCU read
/// sections, and `MEMBARRIER_CMD_GLOBAL` is `synchronize_rcu()` (kernel/sched/membarrier.c).
pub fn wait_for_running_programs() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_long = 1;
    // SAFETY: membarrier takes plain numbers and touches no memory of ours.
    let code = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if code != 0 {
        // Not available (nohz_full machines): a packet takes microseconds.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
