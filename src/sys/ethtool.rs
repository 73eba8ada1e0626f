//! What a driver says of its device by `SIOCETHTOOL`: name, rings, queues, offloads. It changes nothing.
//!
//! Layouts: <https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/include/uapi/linux/ethtool.h?h=v6.18>. All of them
//! are made of 32-bit words (and texts of whole words), so a question is a slice of words with the command first.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const GDRVINFO: u32 = 0x03;
const GRINGPARAM: u32 = 0x10;
const GSTRINGS: u32 = 0x1b;
const GSSET_INFO: u32 = 0x37;
const GFEATURES: u32 = 0x3a;
const GCHANNELS: u32 = 0x3c;
/// `ETH_SS_FEATURES`.
const STRINGS_OF_FEATURES: u32 = 4;
/// `ETH_GSTRING_LEN`, in words.
const STRING_WORDS: usize = 8;
/// Features that a kernel could have at most, for a bound.
const FEATURES_MAX: usize = 512;
/// `struct ethtool_drvinfo`, in words.
const DRVINFO_WORDS: usize = 49;

/// Ring lengths in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rings {
    /// The longest receive ring.
    pub rx_max: u32,
    /// The longest transmit ring.
    pub tx_max: u32,
    /// The receive ring now.
    pub rx: u32,
    /// The transmit ring now.
    pub tx: u32,
}

/// Queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// Receive queues at most, alone and combined ones together.
    pub rx_max: u32,
    /// Transmit queues at most.
    pub tx_max: u32,
    /// Receive queues now.
    pub rx: u32,
    /// Transmit queues now.
    pub tx: u32,
}

/// An offload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The kernel's name of it, e.g. `rx-gro`.
    pub name: String,
    /// Whether it is in force.
    pub on: bool,
    /// Whether nobody can change it.
    pub fixed: bool,
}

/// A device that can be asked.
#[derive(Debug)]
pub struct Ethtool {
    socket: OwnedFd,
    name: [libc::c_char; libc::IFNAMSIZ],
}

impl Ethtool {
    /// Of a device of the calling thread's network namespace.
    ///
    /// # Errors
    /// What socket(2) says; `InvalidInput` for a name that no device can have.
    pub fn open(device: &str) -> io::Result<Self> {
        let mut name = [0; libc::IFNAMSIZ];
        if device.len() >= name.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (to, from) in name.iter_mut().zip(device.bytes()) {
            *to = from as libc::c_char;
        }
        // SAFETY: takes integers only.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and nobody else knows it.
        Ok(Self { socket: unsafe { OwnedFd::from_raw_fd(fd) }, name })
    }

    /// The driver's name.
    ///
    /// # Errors
    /// EOPNOTSUPP: it has none. ENODEV.
    pub fn driver(&self) -> io::Result<String> {
        let mut words = [0u32; DRVINFO_WORDS];
        words[0] = GDRVINFO;
        self.ask(&mut words)?;
        Ok(text(&words[1..=STRING_WORDS]))
    }

    /// Its rings.
    ///
    /// # Errors
    /// EOPNOTSUPP: the driver has none to tell of.
    pub fn rings(&self) -> io::Result<Rings> {
        let mut words = [0u32; 9];
        words[0] = GRINGPARAM;
        self.ask(&mut words)?;
        Ok(Rings { rx_max: words[1], tx_max: words[4], rx: words[5], tx: words[8] })
    }

    /// Its queues.
    ///
    /// # Errors
    /// EOPNOTSUPP: the driver does not tell.
    pub fn channels(&self) -> io::Result<Channels> {
        let mut words = [0u32; 9];
        words[0] = GCHANNELS;
        self.ask(&mut words)?;
        let [_, rx_max, tx_max, _, combined_max, rx, tx, _, combined] = words;
        Ok(Channels {
            rx_max: rx_max.max(combined_max),
            tx_max: tx_max.max(combined_max),
            rx: rx + combined,
            tx: tx + combined,
        })
    }

    /// Its offloads, by the kernel's names.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn features(&self) -> io::Result<Vec<Feature>> {
        // struct ethtool_sset_info: cmd, reserved, a 64-bit mask, the counts.
        let mut info = [GSSET_INFO, 0, 0, 0, 0];
        let mask = (1u64 << STRINGS_OF_FEATURES).to_ne_bytes();
        info[2] = u32::from_ne_bytes([mask[0], mask[1], mask[2], mask[3]]);
        info[3] = u32::from_ne_bytes([mask[4], mask[5], mask[6], mask[7]]);
        self.ask(&mut info)?;
        // The number of features is fixed when a kernel is made: the lists below are as long as this.
        let count = info[4] as usize;
        if count > FEATURES_MAX {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut names = vec![0u32; 3 + count * STRING_WORDS];
        names[..3].copy_from_slice(&[GSTRINGS, STRINGS_OF_FEATURES, count as u32]);
        self.ask(&mut names)?;
        let blocks = count.div_ceil(32);
        let mut states = vec![0u32; 2 + blocks * 4];
        states[..2].copy_from_slice(&[GFEATURES, blocks as u32]);
        self.ask(&mut states)?;
        let one = |n: usize| {
            let block = &states[2 + n / 32 * 4..][..4];
            let bit = |word: u32| word >> (n % 32) & 1 == 1;
            let name = text(&names[3 + n * STRING_WORDS..][..STRING_WORDS]);
            // available, requested, active, never_changed
            Feature { name, on: bit(block[2]), fixed: bit(block[3]) || !bit(block[0]) }
        };
        Ok((0..count).map(one).filter(|f| !f.name.is_empty()).collect())
    }

    /// Every caller's slice is as long as the command in its first word writes, which for the lists is told by their counts in it.
    fn ask(&self, words: &mut [u32]) -> io::Result<()> {
        // SAFETY: all zeroes is a valid ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        request.ifr_name = self.name;
        request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
        // SAFETY: the request lives through the call, and its data is a slice with room for what the command writes (see above).
        let code = unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Bytes up to the first zero.
fn text(words: &[u32]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).take_while(|b| *b != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_tells_its_offloads_and_has_no_rings() {
        let lo = Ethtool::open("lo").unwrap();
        let features = lo.features().unwrap();
        assert!(features.iter().any(|f| f.name == "rx-gro"), "{features:?}");
        assert!(lo.rings().is_err());
        assert!(Ethtool::open("a-name-that-is-too-long").is_err());
        assert!(Ethtool::open("none0").unwrap().driver().is_err());
    }
}
