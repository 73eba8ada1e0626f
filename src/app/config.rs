//! What the user wants, checked: defaults, the TOML file and the command line become one [`Config`]. It opens no device.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::limits::{QUEUES_MAX, RING_LEN_DEFAULT, RING_LEN_MAX, RING_LEN_MIN};
use crate::types::DeviceKey;

/// Where the control socket is unless `--socket` says otherwise.
pub const SOCKET_DEFAULT: &str = "/run/viscum/control.sock";

/// How frames of a device are received and sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// AF_XDP where the device can, otherwise AF_PACKET; if neither can do the rules, the first of tc-bpf, xdp, tc that can. Reasons are printed.
    #[default]
    Auto,
    /// AF_XDP, or an error.
    AfXdp,
    /// AF_PACKET, by rings in shared memory.
    AfPacket,
    /// A plain packet socket, a system call or two per frame: the portable baseline.
    Raw,
    /// The rules as an XDP program: the kernel forwards by itself.
    Xdp,
    /// The rules as a program at tc's hooks: the kernel forwards by itself.
    TcBpf,
    /// The rules in the kernel's own tc, if it has all that they use.
    Tc,
}

impl Mode {
    /// As it is written on the command line and in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::AfXdp => "af-xdp",
            Self::AfPacket => "af-packet",
            Self::Raw => "raw",
            Self::Xdp => "xdp",
            Self::TcBpf => "tc-bpf",
            Self::Tc => "tc",
        }
    }

    /// The modes that forward, each by one way.
    pub const FORWARDING: &[Self] = &[Self::AfXdp, Self::AfPacket, Self::Raw, Self::Xdp, Self::TcBpf, Self::Tc];

    /// Whether worker threads forward.
    #[must_use]
    pub const fn has_workers(self) -> bool {
        match self {
            Self::Auto | Self::AfXdp | Self::AfPacket | Self::Raw => true,
            Self::Xdp | Self::TcBpf | Self::Tc => false,
        }
    }

    /// Whether devices get no XDP program of ours, which on a veth would turn NAPI on.
    #[must_use]
    pub const fn needs_napi(self) -> bool {
        match self {
            Self::AfPacket | Self::Raw | Self::TcBpf | Self::Tc => true,
            Self::Auto | Self::AfXdp | Self::Xdp => false,
        }
    }
}

/// How the XDP program is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Xdp {
    /// In the driver.
    #[default]
    Native,
    /// In the stack's generic hook: every driver, slower.
    Generic,
}

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Poll {
    /// Spins for a moment, then sleeps in poll(2) until a frame comes.
    #[default]
    Adaptive,
    /// Always spins: the least latency, and a whole core.
    Busy,
}

/// How frames get into the namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Deliver {
    /// Through the veth pair that the rules name.
    #[default]
    Veth,
    /// Through a tap inside the namespace, in place of the pair's host end.
    Tap,
}

/// Lengths of the rings in frames, powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rings {
    /// Receive.
    pub rx: u32,
    /// Transmit.
    pub tx: u32,
    /// Free buffers handed to the kernel (AF_XDP).
    pub fill: u32,
    /// Buffers that come back from transmission (AF_XDP).
    pub completion: u32,
}

impl Default for Rings {
    fn default() -> Self {
        Self { rx: RING_LEN_DEFAULT, tx: RING_LEN_DEFAULT, fill: RING_LEN_DEFAULT, completion: RING_LEN_DEFAULT }
    }
}

/// What the TOML file says of the workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workers {
    /// Cores that workers are pinned to, in order; empty: the last ones that the process may use.
    pub cores: Vec<usize>,
    /// See [`Poll`].
    pub poll: Poll,
}

/// What the TOML file says of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeviceConfig {
    /// See [`Mode`]; absent: that of the command line.
    pub mode: Option<Mode>,
    /// See [`Xdp`].
    pub xdp: Xdp,
    /// How many of its queues are served; absent: all.
    pub queues: Option<usize>,
    /// `NETNS/NAME` of the tap that stands in for it.
    pub tap: Option<String>,
}

/// The TOML file as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    control_group: Option<String>,
    worker: Workers,
    ring: Rings,
    device: BTreeMap<String, DeviceConfig>,
}

/// The kernel's own filters become the forwarder's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakeOver {
    /// Those of these devices; empty: of all of the own namespace.
    pub devices: Vec<DeviceKey>,
    /// At the end the kernel gets them back.
    pub give_back: bool,
}

/// All that `viscum run` must know, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Rules files, applied in order.
    pub rules: Vec<PathBuf>,
    /// Mode of the devices that the file says nothing of.
    pub mode: Mode,
    /// Why `auto` took that mode, where it is one without workers.
    pub auto_took: Option<String>,
    /// See [`Deliver`].
    pub deliver: Deliver,
    /// Taps given as `DEVICE=NETNS/NAME`.
    pub taps: BTreeMap<String, DeviceKey>,
    /// The control socket.
    pub socket: PathBuf,
    /// Group that may open the socket besides root.
    pub control_group: Option<String>,
    /// See [`Workers`].
    pub workers: Workers,
    /// See [`Rings`].
    pub rings: Rings,
    /// Devices by name (`NETNS/NAME` for one of another namespace).
    pub devices: BTreeMap<String, DeviceConfig>,
    /// Keep the state of tc, and touch no device.
    pub state_only: bool,
    /// See [`TakeOver`].
    pub take_over: Option<TakeOver>,
}

/// Why a configuration is no good.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}; check the path given with --config")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file is not TOML, or has a key that does not exist.
    #[error("{path}: {message}\nconfigs/viscum.toml shows every key with its meaning")]
    Toml {
        /// The file.
        path: PathBuf,
        /// Position and reason.
        message: String,
    },
    /// A ring length that no ring can have.
    #[error(
        "ring.{name} = {value}: a ring's length is a power of two from {RING_LEN_MIN} to {RING_LEN_MAX}; try {nearest}"
    )]
    Ring {
        /// Which ring.
        name: &'static str,
        /// As given.
        value: u32,
        /// The nearest length that works.
        nearest: u32,
    },
    /// A tap that is not `NETNS/NAME`.
    #[error(
        "{what}: {text:?} names no tap; write DEVICE=NETNS/NAME, e.g. IMAGE_HOST_VETH=imagedetection/IMAGE_CONT_VETH"
    )]
    Tap {
        /// Where it was given.
        what: String,
        /// As given.
        text: String,
    },
    /// A number of queues that cannot be served.
    #[error("device.{device}.queues = {value}: 1 to {QUEUES_MAX} queues can be served")]
    Queues {
        /// The device.
        device: String,
        /// As given.
        value: usize,
    },
    /// A core that the process may not run on.
    #[error("worker.cores: core {core} is not one that this process may use ({allowed:?}); see taskset -p")]
    Core {
        /// As given.
        core: usize,
        /// What may be used.
        allowed: Vec<usize>,
    },
}

/// What the command line says beside the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Rules files.
    pub rules: Vec<PathBuf>,
    /// `--mode`.
    pub mode: Mode,
    /// `--deliver`.
    pub deliver: Deliver,
    /// `--tap DEVICE=NETNS/NAME`.
    pub taps: Vec<String>,
    /// `--socket`.
    pub socket: Option<PathBuf>,
    /// `--busy`.
    pub busy: bool,
    /// `--state-only`.
    pub state_only: bool,
    /// `--take-over`, `--dev`, `--give-back`.
    pub take_over: Option<TakeOver>,
}

impl Config {
    /// Reads the file, if any, and puts the command line over it.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(file: Option<&Path>, over: Overrides) -> Result<Self, ConfigError> {
        let Some(path) = file else { return Self::check(File::default(), over) };
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path, over)
    }

    /// The text of a file, with the command line put over it; `path` is for messages.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(text: &str, path: &Path, over: Overrides) -> Result<Self, ConfigError> {
        let file =
            toml::from_str(text).map_err(|e| ConfigError::Toml { path: path.to_owned(), message: e.to_string() })?;
        Self::check(file, over)
    }

    fn check(file: File, over: Overrides) -> Result<Self, ConfigError> {
        let rings = file.ring;
        for (name, value) in
            [("rx", rings.rx), ("tx", rings.tx), ("fill", rings.fill), ("completion", rings.completion)]
        {
            if !value.is_power_of_two() || !(RING_LEN_MIN..=RING_LEN_MAX).contains(&value) {
                let nearest = value.clamp(RING_LEN_MIN, RING_LEN_MAX).next_power_of_two();
                return Err(ConfigError::Ring { name, value, nearest });
            }
        }
        let mut taps = BTreeMap::new();
        for (device, config) in &file.device {
            if let Some(value) = config.queues.filter(|q| !(1..=QUEUES_MAX).contains(q)) {
                return Err(ConfigError::Queues { device: device.clone(), value });
            }
            if let Some(text) = &config.tap {
                let key = tap_key(text)
                    .ok_or_else(|| ConfigError::Tap { what: format!("device.{device}.tap"), text: text.clone() })?;
                taps.insert(device.clone(), key);
            }
        }
        for text in &over.taps {
            let bad = || ConfigError::Tap { what: "--tap".to_owned(), text: text.clone() };
            let (device, tap) = text.split_once('=').ok_or_else(bad)?;
            taps.insert(device.to_owned(), tap_key(tap).ok_or_else(bad)?);
        }
        let allowed: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|c| c.id).collect();
        if let Some(core) = file.worker.cores.iter().find(|c| !allowed.contains(c)) {
            return Err(ConfigError::Core { core: *core, allowed });
        }
        let mut workers = file.worker;
        if over.busy {
            workers.poll = Poll::Busy;
        }
        let deliver = if taps.is_empty() { over.deliver } else { Deliver::Tap };
        Ok(Self {
            rules: over.rules,
            mode: over.mode,
            auto_took: None,
            deliver,
            taps,
            socket: over.socket.unwrap_or_else(|| PathBuf::from(SOCKET_DEFAULT)),
            control_group: file.control_group,
            workers,
            rings,
            devices: file.device,
            state_only: over.state_only,
            take_over: over.take_over,
        })
    }

    /// The mode of a device: its own, that of all, or what `auto` took for all.
    #[must_use]
    pub fn mode_of(&self, key: &DeviceKey) -> Mode {
        let own = self.device(key).mode.filter(|own| *own != Mode::Auto || self.auto_took.is_none());
        own.unwrap_or(self.mode)
    }

    /// What is configured for a device, or the defaults.
    #[must_use]
    pub fn device(&self, key: &DeviceKey) -> DeviceConfig {
        self.devices.get(&key.to_string()).cloned().unwrap_or_default()
    }
}

fn tap_key(text: &str) -> Option<DeviceKey> {
    let (netns, name) = text.split_once('/')?;
    (!netns.is_empty() && !name.is_empty()).then(|| DeviceKey::new(Some(netns), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        Config::check(toml::from_str(text).expect("test TOML"), Overrides::default())
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let config = load("").unwrap();
        assert_eq!(config.rings, Rings::default());
        assert_eq!(config.workers.poll, Poll::Adaptive);
        assert_eq!(config.socket, PathBuf::from(SOCKET_DEFAULT));
    }

    #[test]
    fn a_ring_that_is_no_power_of_two_is_refused_with_the_nearest_that_is() {
        let error = load("[ring]\nrx = 1000").unwrap_err().to_string();
        assert!(error.contains("ring.rx = 1000") && error.contains("try 1024"), "{error}");
        assert!(load("[ring]\ntx = 32").is_err() && load("[ring]\nfill = 131072").is_err());
    }

    #[test]
    fn taps_come_from_the_file_and_the_command_line() {
        let config = load("[device.IMAGE_HOST_VETH]\ntap = \"imagedetection/IMAGE_CONT_VETH\"").unwrap();
        assert_eq!(config.taps["IMAGE_HOST_VETH"], DeviceKey::new(Some("imagedetection"), "IMAGE_CONT_VETH"));
        assert_eq!(config.deliver, Deliver::Tap);
        let over = Overrides { taps: vec!["nonsense".to_owned()], ..Overrides::default() };
        assert!(Config::check(File::default(), over).unwrap_err().to_string().contains("nonsense"));
    }

    #[test]
    fn a_key_that_does_not_exist_is_named() {
        let error = toml::from_str::<File>("[ring]\nrxx = 64").unwrap_err().to_string();
        assert!(error.contains("rxx"), "{error}");
    }

    #[test]
    fn queues_and_cores_are_checked() {
        assert!(load("[device.eth0]\nqueues = 0").is_err());
        let error = load("[worker]\ncores = [99999]").unwrap_err().to_string();
        assert!(error.contains("99999"), "{error}");
    }
}
