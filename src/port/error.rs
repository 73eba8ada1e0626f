//! Why a port could not be opened: what, why, and what to try. What happens to frames is counted, not an error.

use std::io;

use crate::limits::{RING_LEN_MAX, RING_LEN_MIN};

/// See the file's head.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// A ring's length that the kernel or we do not take.
    #[error("{ring} ring of {len}: must be a power of two from {RING_LEN_MIN} to {RING_LEN_MAX}; try {near}", near = near(*len))]
    Ring {
        /// Which one.
        ring: &'static str,
        /// The length asked for.
        len: u32,
    },
    /// A pool that cannot be.
    #[error(
        "frame memory of {chunk_count} chunks of {chunk_len} bytes: use 64 to 69632 bytes (4096 with AF_XDP) and at most 4 GiB in all"
    )]
    Pool {
        /// Chunks.
        chunk_count: u32,
        /// Bytes of each.
        chunk_len: usize,
    },
    /// A capability is missing.
    #[error("{object}: {action} needs {capability}; run as root or `setcap {setcap}+ep` the program", setcap = capability.to_lowercase())]
    NotPermitted {
        /// Device.
        object: String,
        /// What was tried.
        action: &'static str,
        /// `CAP_…`.
        capability: &'static str,
    },
    /// No such device in this namespace.
    #[error("{object}: no such device in this network namespace; `ip link` lists those that there are")]
    NoDevice {
        /// Device.
        object: String,
    },
    /// The device is down.
    #[error("{object}: the device is down; try `ip link set {object} up`")]
    Down {
        /// Device.
        object: String,
    },
    /// The kernel lacks AF_XDP.
    #[error("{object}: this kernel has no AF_XDP (CONFIG_XDP_SOCKETS); use --mode af-packet")]
    NoAfXdp {
        /// Device.
        object: String,
    },
    /// Somebody else has the queue or the tap.
    #[error(
        "{object}: {action}: another program holds it already; stop it (a second instance of this one?), or use another queue"
    )]
    Busy {
        /// Device.
        object: String,
        /// What was tried.
        action: &'static str,
    },
    /// The driver cannot.
    #[error("{object}: {action} is not supported by its driver; use copy mode (zero_copy = false) or --mode af-packet")]
    NotSupported {
        /// Device.
        object: String,
        /// What was tried.
        action: &'static str,
    },
    /// Anything else.
    #[error("{object}: {action}: {source}; check the device with `ip -d link show {object}`")]
    System {
        /// Device.
        object: String,
        /// What was tried.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

impl PortError {
    pub(super) fn system(object: &str, action: &'static str, source: io::Error) -> Self {
        let object = object.to_owned();
        let is_tap = action == "tap";
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                let capability = if is_tap { "CAP_NET_ADMIN" } else { "CAP_NET_RAW" };
                Self::NotPermitted { object, action, capability }
            }
            Some(libc::ENODEV | libc::ENXIO) => Self::NoDevice { object },
            Some(libc::ENETDOWN) => Self::Down { object },
            Some(libc::EAFNOSUPPORT) => Self::NoAfXdp { object },
            Some(libc::EBUSY) => Self::Busy { object, action },
            Some(libc::EOPNOTSUPP) => Self::NotSupported { object, action },
            Some(_) | None => Self::System { object, action, source },
        }
    }
}

/// Checks a ring's length.
pub(super) fn ring(ring: &'static str, len: u32) -> Result<(), PortError> {
    if len.is_power_of_two() && (RING_LEN_MIN..=RING_LEN_MAX).contains(&len) {
        Ok(())
    } else {
        Err(PortError::Ring { ring, len })
    }
}

fn near(len: u32) -> u32 {
    len.clamp(RING_LEN_MIN, RING_LEN_MAX).next_power_of_two()
}
