//! Why the kernel's filters are not taken over, or not given back.

use crate::host::tc::NetlinkError;

/// Why the kernel's filters are not taken over, or not given back.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// Reading them.
    #[error(transparent)]
    Kernel(#[from] NetlinkError),
    /// There are none.
    #[error("--take-over: the kernel has no filters at ingress or egress of {whose}; {next}")]
    Nothing {
        /// Of which devices.
        whose: String,
        /// What to do.
        next: String,
    },
    /// What viscum cannot do in the kernel's place.
    #[error(
        "--take-over: nothing was taken, the kernel's filters are as they were. In the way:\n  {}\n\
         name the devices that are to be taken over with --dev, or delete from the kernel what is not needed",
        .reasons.join("\n  ")
    )]
    Refused {
        /// Each with its place.
        reasons: Vec<String>,
    },
    /// Filters of an earlier time are nowhere but in the file.
    #[error(
        "--take-over: {file} holds the filters that an earlier viscum took from the kernel and did not give back; \
         `sh {file}` gives them to the kernel, `viscum run {file}` forwards by them. Remove the file when you have done either"
    )]
    Saved {
        /// The file.
        file: String,
    },
    /// They cannot be saved.
    #[error(
        "--take-over: cannot save the kernel's filters in {file}, so they stay: {source}; choose another place with --socket"
    )]
    Save {
        /// The file.
        file: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// They are not those that were read.
    #[error("--take-over: the kernel's filters of {whose} changed meanwhile, so they stay; start again")]
    Changed {
        /// Of which devices.
        whose: String,
    },
    /// Some could not be deleted.
    #[error("--take-over: {source}; {back}")]
    Delete {
        /// The kernel's answer.
        source: NetlinkError,
        /// What became of those that were deleted before.
        back: String,
    },
    /// Some could not be made again.
    #[error(
        "--give-back: the kernel has not all of its filters again:\n  {}\n{file} has all of them: `sh {file}` makes those that are missing",
        .failures.join("\n  ")
    )]
    NotBack {
        /// Each with the kernel's answer.
        failures: Vec<String>,
        /// The file.
        file: String,
    },
}
