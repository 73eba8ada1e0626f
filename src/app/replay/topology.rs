//! The topology file of a replay: devices, namespaces, variables (`case.toml`). It describes; it makes no device.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::types::{Device, DeviceId, DeviceKey, DeviceKind, MacAddr, Topology};

/// A `case.toml`, as written. Keys that only matter to a real kernel are read and ignored.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Case {
    /// The device that the frames arrive on.
    pub ingress: Option<String>,
    /// Devices whose filters are listed; absent: all that have any.
    pub show: Option<Vec<String>>,
    /// Devices whose deliveries to the stack are recorded; absent: all.
    pub stack: Option<Vec<String>>,
    /// Whether `frames.jsonl` says which counters each frame moved; absent: yes.
    pub per_frame: Option<bool>,
    /// Quiet time in ms; a real kernel needs it.
    pub settle_ms: Option<u64>,
    /// Whether a real kernel speaks IPv6 itself.
    pub ipv6: bool,
    /// Extra namespaces.
    pub netns: Vec<String>,
    /// Variables of the rules; `TC=tc` is always there.
    pub env: BTreeMap<String, String>,
    /// The devices.
    pub device: Vec<CaseDevice>,
}

/// One `[[device]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseDevice {
    /// Its name.
    pub name: String,
    /// `tap` (default), `veth`, `dummy`, `other`, …
    #[serde(default = "tap")]
    pub kind: String,
    /// The other end of a veth.
    pub peer: Option<String>,
    /// Where the other end is moved to.
    pub peer_netns: Option<String>,
    /// Hardware address; default 02:00:00:00:00:NN, NN its number from 1.
    pub mac: Option<String>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Whether it is up; default yes.
    pub up: Option<bool>,
    /// Where it is moved to.
    pub netns: Option<String>,
}

fn tap() -> String {
    "tap".to_owned()
}

/// Why a topology file is no good.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// It cannot be read.
    #[error("cannot read the topology {path}: {source}; check --topology")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// It is not TOML of this form.
    #[error("{path}: {message}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// Position and reason.
        message: String,
    },
    /// A hardware address that is none.
    #[error("{path}: device {device}: mac {mac:?} is no hardware address; write it as 02:00:00:00:00:01")]
    Mac {
        /// The file.
        path: PathBuf,
        /// The device.
        device: String,
        /// As given.
        mac: String,
    },
}

impl Case {
    /// Reads a file.
    ///
    /// # Errors
    /// See [`TopologyError`].
    pub fn read(path: &Path) -> Result<Self, TopologyError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| TopologyError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// The text of a file; `path` is for messages.
    ///
    /// # Errors
    /// [`TopologyError::Toml`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, TopologyError> {
        toml::from_str(text).map_err(|e| TopologyError::Toml { path: path.to_owned(), message: e.to_string() })
    }

    /// The devices; `path` is for messages.
    ///
    /// # Errors
    /// [`TopologyError::Mac`].
    pub fn topology(&self, path: &Path) -> Result<Topology, TopologyError> {
        let mut devices = Vec::new();
        for (number, device) in self.device.iter().enumerate() {
            let mac = match &device.mac {
                None => MacAddr::new(2, 0, 0, 0, 0, number as u8 + 1),
                Some(text) => text.parse().map_err(|_| TopologyError::Mac {
                    path: path.to_owned(),
                    device: device.name.clone(),
                    mac: text.clone(),
                })?,
            };
            devices.push(Device {
                key: DeviceKey::new(device.netns.as_deref(), &device.name),
                mac,
                mtu: device.mtu.unwrap_or(1500),
                up: device.up.unwrap_or(true),
                kind: DeviceKind::Wire,
            });
        }
        for (number, device) in self.device.iter().enumerate() {
            if device.kind == "veth" {
                let peer = device.peer.as_ref().and_then(|peer| devices.iter().position(|d| d.key.name == *peer));
                devices[number].kind = DeviceKind::Veth { peer: peer.map(|p| DeviceId(p as u32)) };
            }
        }
        Ok(Topology { devices })
    }

    /// The variables of the rules.
    #[must_use]
    pub fn variables(&self) -> BTreeMap<String, String> {
        let mut env = self.env.clone();
        env.entry("TC".to_owned()).or_insert_with(|| "tc".to_owned());
        env
    }

    /// Whether deliveries of this device to the stack are recorded.
    #[must_use]
    pub fn records_stack(&self, name: &str) -> bool {
        self.stack.as_ref().is_none_or(|names| names.iter().any(|n| n == name))
    }

    /// Whether this device's filters are listed.
    #[must_use]
    pub fn shows(&self, name: &str) -> bool {
        self.show.as_ref().is_none_or(|names| names.iter().any(|n| n == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_veth_finds_its_peer_and_defaults_are_as_documented() {
        let case: Case = toml::from_str(
            "ingress = \"a\"\n[[device]]\nname = \"a\"\n[[device]]\nname = \"h\"\nkind = \"veth\"\npeer = \"c\"\n\
             [[device]]\nname = \"c\"\nkind = \"veth\"\npeer = \"h\"\nnetns = \"n\"\nup = false\n",
        )
        .unwrap();
        let topology = case.topology(Path::new("case.toml")).unwrap();
        assert_eq!(topology.devices[0].mac, MacAddr::new(2, 0, 0, 0, 0, 1));
        assert_eq!(topology.devices[1].kind, DeviceKind::Veth { peer: Some(DeviceId(2)) });
        assert_eq!(topology.devices[2].kind, DeviceKind::Veth { peer: Some(DeviceId(1)) });
        assert_eq!(topology.devices[2].key.to_string(), "n/c");
        assert!(!topology.devices[2].up);
        assert_eq!(case.variables()["TC"], "tc");
    }

    #[test]
    fn a_bad_address_is_named() {
        let case: Case = toml::from_str("[[device]]\nname = \"a\"\nmac = \"zz\"\n").unwrap();
        let error = case.topology(Path::new("t.toml")).unwrap_err().to_string();
        assert!(error.contains("device a") && error.contains("zz"), "{error}");
    }
}
