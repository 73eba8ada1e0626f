//! Other people's forwarders, where they are installed: how each is started on a bed. None of them is changed or installed here.

use std::path::Path as FilePath;
use std::time::Duration;

use super::MeasureError;
use super::bed::{Bed, IN, OUT};
use super::lane::Path;
use crate::lab::process::Process;

/// How long DPDK may take to be ready.
const READY_MAX: Duration = Duration::from_secs(30);
/// Memory for DPDK, in MiB, of 2 MiB pages.
const TESTPMD_MEMORY_MIB: u32 = 256;

/// Why testpmd cannot run here; `None`: it can.
#[must_use]
pub fn testpmd_missing() -> Option<String> {
    if !in_path("dpdk-testpmd") {
        return Some("dpdk-testpmd is not installed (Debian: dpdk-dev)".to_owned());
    }
    let free = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").unwrap_or_default();
    let free: u32 = free.trim().parse().unwrap_or(0);
    let wanted = TESTPMD_MEMORY_MIB / 2;
    let mounted = std::fs::read_to_string("/proc/mounts").is_ok_and(|m| m.lines().any(|l| l.contains(" hugetlbfs ")));
    (free < wanted || !mounted).then(|| {
        format!(
            "testpmd wants {wanted} free huge pages of 2 MiB and hugetlbfs ({free} free): \
             echo 512 > /proc/sys/vm/nr_hugepages; mount -t hugetlbfs none /dev/hugepages"
        )
    })
}

/// Whether a program can be found.
#[must_use]
pub fn in_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// Starts testpmd, which carries every frame from one device to the other, on the last core.
///
/// # Errors
/// [`MeasureError::Lab`] with what it said.
pub fn testpmd(path: Path, bed: &Bed, name: &str) -> Result<Process, MeasureError> {
    if let Some(reason) = testpmd_missing() {
        return Err(MeasureError::LeftOut(reason));
    }
    let devices = match path {
        Path::TestpmdAfPacket => [IN, OUT].map(|d| format!("net_af_packet_{d},iface={d},qdisc_bypass=1")),
        _ => [IN, OUT].map(|d| format!("net_af_xdp_{d},iface={d}")),
    };
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let last = cores.iter().map(|c| c.id).max().unwrap_or(0);
    let first = cores.iter().map(|c| c.id).min().unwrap_or(0);
    let (list, main) = (format!("{first},{last}"), first.to_string());
    let prefix = format!("--file-prefix={name}");
    let memory = TESTPMD_MEMORY_MIB.to_string();
    let mut args = vec!["-l", &list, "--main-lcore", &main, "-m", &memory, "--no-pci", &prefix];
    for device in &devices {
        args.extend(["--vdev", device]);
    }
    args.extend(["--", "--forward-mode=io", "--nb-cores=1", "--total-num-mbufs=16384", "-a"]);
    let mut process = Process::start_listening(name, bed.netns(), FilePath::new("dpdk-testpmd"), &args)?;
    process.wait_for("Press enter to exit", READY_MAX)?;
    Ok(process)
}
