//! What machine a measurement was made on, from /proc and /sys. It changes nothing.

use super::report::Machine;

fn read(path: &str) -> String {
    std::fs::read_to_string(path).map(|t| t.trim().to_owned()).unwrap_or_default()
}

/// What can be found out of this machine; what cannot is empty.
#[must_use]
pub fn describe() -> Machine {
    let info = read("/proc/cpuinfo");
    let field = |name: &str| {
        info.lines().find(|l| l.starts_with(name)).and_then(|l| l.split_once(": ")).map_or("", |(_, v)| v).to_owned()
    };
    let kib = |line: &str| line.split_whitespace().nth(1).and_then(|w| w.parse::<u64>().ok());
    let memory = read("/proc/meminfo").lines().find(|l| l.starts_with("MemTotal")).and_then(kib).unwrap_or(0) * 1024;
    let kernel = nix::sys::utsname::uname().map_or_else(
        |_| String::new(),
        |u| [u.sysname(), u.release(), u.machine()].map(|w| w.to_string_lossy().into_owned()).join(" "),
    );
    let virtual_machine = field("flags").split_whitespace().any(|f| f == "hypervisor");
    Machine {
        kernel,
        cpu: field("model name"),
        cores: core_affinity::get_core_ids().map_or(0, |c| c.len()),
        memory,
        isolated: read("/sys/devices/system/cpu/isolated"),
        governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        hypervisor: if virtual_machine { "virtual machine".to_owned() } else { String::new() },
    }
}
