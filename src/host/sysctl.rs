//! Kernel settings below /proc/sys, put back when dropped. It knows no particular setting.

use super::{HostError, netns};

/// A changed setting; dropping it restores the old value. A SIGKILL prevents that: use it for what may stay changed then.
#[derive(Debug)]
pub struct Sysctl {
    netns: Option<String>,
    path: String,
    before: Option<String>,
}

/// The value of a setting, e.g. `net/ipv4/ip_forward`, without the newline.
///
/// # Errors
/// [`HostError::Io`] with the setting's path.
pub fn get(netns: Option<&str>, name: &str) -> Result<String, HostError> {
    let path = file(name);
    netns::in_namespace(netns, || std::fs::read_to_string(&path))?
        .map(|text| text.trim_end().to_owned())
        .map_err(HostError::io(path))
}

/// Sets it for good.
///
/// # Errors
/// [`HostError::Io`] with the setting's path.
pub fn set(netns: Option<&str>, name: &str, value: &str) -> Result<(), HostError> {
    let path = file(name);
    netns::in_namespace(netns, || std::fs::write(&path, value))?
        .map_err(HostError::io(format!("writing {value} to {path}")))
}

/// Sets it until the returned value is dropped.
///
/// # Errors
/// As [`get`] and [`set`].
pub fn set_while(netns: Option<&str>, name: &str, value: &str) -> Result<Sysctl, HostError> {
    let before = get(netns, name)?;
    let changed = before != value;
    if changed {
        set(netns, name, value)?;
    }
    Ok(Sysctl { netns: netns.map(str::to_owned), path: name.to_owned(), before: changed.then_some(before) })
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // The namespace or device may be gone by now, and the setting with it.
            let _ = set(self.netns.as_deref(), &self.path, before);
        }
    }
}

/// Slashes separate, as device names may hold dots.
fn file(name: &str) -> String {
    format!("/proc/sys/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_does_not_exist_is_named() {
        let error = set_while(None, "net/ipv4/no_such_thing", "1").unwrap_err().to_string();
        assert!(error.contains("/proc/sys/net/ipv4/no_such_thing"), "{error}");
    }
}
