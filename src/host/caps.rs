//! Which capabilities this process has in effect. It changes none.

use super::HostError;

/// A capability that some part of the program needs; the value is its bit (include/uapi/linux/capability.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Devices, qdiscs, XDP programs.
    NetAdmin = 12,
    /// AF_PACKET and AF_XDP sockets.
    NetRaw = 13,
    /// Entering namespaces.
    SysAdmin = 21,
    /// Loading programs.
    Bpf = 39,
}

impl Capability {
    /// `CAP_…`, as in capabilities(7).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::Bpf => "CAP_BPF",
        }
    }

    /// Those that any part of the program needs.
    pub const ALL: [Self; 4] = [Self::NetAdmin, Self::NetRaw, Self::SysAdmin, Self::Bpf];

    /// What takes it.
    #[must_use]
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::NetAdmin => "attaching programs to devices takes it",
            Self::NetRaw => "raw frames take it",
            Self::SysAdmin => "devices of other network namespaces take it",
            Self::Bpf => "loading XDP and tc programs takes it",
        }
    }
}

/// The effective set as a bit mask; 0 if /proc does not tell.
#[must_use]
pub fn effective() -> u64 {
    std::fs::read_to_string("/proc/thread-self/status").ok().and_then(|text| parse(&text)).unwrap_or(0)
}

fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Whether a capability is in effect. `CAP_SYS_ADMIN` implies `CAP_BPF` (`bpf_capable()`, include/linux/capability.h).
#[must_use]
pub fn has(capability: Capability) -> bool {
    held(effective(), capability)
}

fn held(mask: u64, capability: Capability) -> bool {
    let bit = |c: Capability| mask & (1 << c as u64) != 0;
    bit(capability) || (capability == Capability::Bpf && bit(Capability::SysAdmin))
}

/// That all of `needed` are in effect.
///
/// # Errors
/// [`HostError::Capability`] names the missing ones and how to get them.
pub fn require(needed: &[Capability]) -> Result<(), HostError> {
    check(effective(), needed)
}

fn check(mask: u64, needed: &[Capability]) -> Result<(), HostError> {
    let missing: Vec<Capability> = needed.iter().copied().filter(|c| !held(mask, *c)).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let names: Vec<&str> = missing.iter().map(|c| c.name()).collect();
    let all: Vec<String> = needed.iter().map(|c| c.name().to_lowercase()).collect();
    Err(HostError::Capability {
        names: names.join(", "),
        reason: first.purpose(),
        setcap: format!("{}=ep", all.join(",")),
        executable: std::env::current_exe().map_or_else(|_| "viscum".to_owned(), |p| p.display().to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_ones_are_named_and_the_way_to_get_them() {
        let error = check(1 << 12, &[Capability::NetAdmin, Capability::NetRaw]).unwrap_err().to_string();
        assert!(error.starts_with("missing CAP_NET_RAW:"), "{error}");
        assert!(error.contains("setcap cap_net_admin,cap_net_raw=ep"), "{error}");
        assert!(check(1 << 21, &[Capability::Bpf]).is_ok());
    }

    #[test]
    fn the_mask_is_read_from_proc() {
        assert_eq!(parse("Name:\tx\nCapEff:\t0000003fffffffff\n"), Some(0x3f_ffff_ffff));
        assert_eq!(parse("CapEff:\tzz"), None);
    }
}
