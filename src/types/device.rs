//! Network devices as rules name them, and what evaluation must know of each. It never asks the host.

use super::MacAddr;

/// A device as a rule names it: `tc -n NETNS … dev NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceKey {
    /// The network namespace (`-n`); `None` is the one that the program runs in.
    pub netns: Option<String>,
    /// The interface's name.
    pub name: String,
}

impl DeviceKey {
    /// A device of the program's own namespace.
    #[must_use]
    pub fn local(name: &str) -> Self {
        Self { netns: None, name: name.to_owned() }
    }

    /// A device of namespace `netns`, or of the program's own one.
    #[must_use]
    pub fn new(netns: Option<&str>, name: &str) -> Self {
        Self { netns: netns.map(str::to_owned), name: name.to_owned() }
    }
}

/// `NAME`, or `NETNS/NAME` for a device of another namespace.
impl std::fmt::Display for DeviceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.netns {
            Some(netns) => write!(f, "{netns}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Position of a device in [`Topology::devices`] (and of the same device in a `Ruleset`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(pub u32);

impl DeviceId {
    /// As an index into a slice of devices.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Which way a frame crosses a device: the two hooks of clsact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Received by the device.
    Ingress,
    /// Transmitted by the device.
    Egress,
}

impl Direction {
    /// tc's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// What kind of device it is, as far as the way of a frame depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// What it transmits leaves the machine (a NIC, a tap).
    Wire,
    /// What it transmits arrives on its peer, if that is known.
    Veth {
        /// The other end, when it is in the same [`Topology`].
        peer: Option<DeviceId>,
    },
    /// What it transmits comes back as received (`lo`).
    Loopback,
}

/// What evaluation must know of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name and namespace.
    pub key: DeviceKey,
    /// Its hardware address; decides whether a received frame is for this host.
    pub mac: MacAddr,
    /// Its MTU in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Up and with a carrier: mirred drops what goes to a device that is not.
    pub up: bool,
    /// See [`DeviceKind`].
    pub kind: DeviceKind,
}

impl Device {
    /// A device of which only the name is known: up, MTU 1500, no address.
    #[must_use]
    pub fn assumed(key: DeviceKey) -> Self {
        let kind = if key.name == "lo" { DeviceKind::Loopback } else { DeviceKind::Wire };
        Self { key, mac: MacAddr::zero(), mtu: 1500, up: true, kind }
    }
}

/// The devices that rules can name, in the order of their [`DeviceId`]s.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// All devices; `DeviceId(n)` is the n-th.
    pub devices: Vec<Device>,
}

impl Topology {
    /// The id of a device, if it is known.
    #[must_use]
    pub fn find(&self, key: &DeviceKey) -> Option<DeviceId> {
        self.devices.iter().position(|d| d.key == *key).map(|i| DeviceId(i as u32))
    }

    /// The id of a device; one that is not known yet is added as [`Device::assumed`].
    pub fn find_or_assume(&mut self, key: &DeviceKey) -> DeviceId {
        self.find(key).unwrap_or_else(|| {
            self.devices.push(Device::assumed(key.clone()));
            DeviceId(self.devices.len() as u32 - 1)
        })
    }

    /// The device with this id.
    ///
    /// # Panics
    /// If the id is of another topology.
    #[must_use]
    pub fn device(&self, id: DeviceId) -> &Device {
        &self.devices[id.index()]
    }
}
