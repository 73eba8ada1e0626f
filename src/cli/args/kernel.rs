//! What `viscum run` is to do with the kernel's own filters.

use clap::Args;

/// Flags of `viscum run`.
#[derive(Debug, Args)]
pub struct Kernel {
    /// Take the kernel's own filters over: forward by them, and once that is so, delete them from the kernel
    #[arg(long, conflicts_with = "state_only")]
    pub take_over: bool,
    /// Take over only the filters of this device, NETNS/NAME in another namespace [all of this namespace that have filters]
    #[arg(long = "dev", value_name = "DEV", requires = "take_over")]
    pub devices: Vec<String>,
    /// At the end, give the filters that were taken over back to the kernel
    #[arg(long, requires = "take_over")]
    pub give_back: bool,
}
