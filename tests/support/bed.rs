//! The devices of a golden case as veth pairs in namespaces of its own: the far ends send and see whole frames. No test here.

use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use viscum::app::config::Mode;
use viscum::app::forward::NATIVE_XDP_MTU_MAX;
use viscum::app::replay::Case;
use viscum::host::netns::in_namespace;
use viscum::lab::shell;
use viscum::sys::packet_abi as abi;
use viscum::sys::socket;

const RX_QUEUE_BYTES: i32 = 16 << 20;
const ETHERNET_LEN: usize = 14;
const TAG_LEN: usize = 4;
const FRAME_LEN_MAX: usize = 70_000;

/// A device of the case, and the socket at its far end.
struct Wire {
    device: String,
    netns: String,
    far: OwnedFd,
    mtu: usize,
    goes_down: bool,
}

/// Removed when dropped, with what is in it.
pub struct Bed {
    outer: String,
    inner: String,
    wires: Vec<Wire>,
    ingress: usize,
}

impl Bed {
    /// Native XDP bounds the MTU; what the case has down goes down with [`Bed::settle`].
    pub fn new(outer: &str, inner: &str, case: &Case, mode: Mode) -> Self {
        let mut bed = Self { outer: outer.to_owned(), inner: inner.to_owned(), wires: Vec::new(), ingress: 0 };
        bed.remove();
        for netns in [outer, inner] {
            shell::run(None, &format!("ip netns add {netns}")).unwrap();
            let quiet = || {
                for scope in ["all", "default"] {
                    // A kernel without IPv6 has no such file.
                    let _quiet = std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "1");
                }
            };
            in_namespace(Some(netns), quiet).unwrap();
        }
        let limit = if matches!(mode, Mode::AfXdp | Mode::Xdp) { NATIVE_XDP_MTU_MAX } else { 65535 };
        // A tap transmits what is longer than its MTU and a veth does not: all get the largest.
        let mtu = case.device.iter().map(|d| d.mtu.unwrap_or(1500)).max().unwrap().min(limit);
        let (mut here, mut there, mut fars) = ("link set lo up\n".to_owned(), String::new(), Vec::new());
        for (number, device) in case.device.iter().enumerate() {
            let name = &device.name;
            let mac = device.mac.clone().unwrap_or_else(|| format!("02:00:00:00:00:{:02x}", number + 1));
            // The peer of a veth that is a device of the case as well has been made with it.
            let peer = case.device.iter().position(|other| device.peer.as_ref() == Some(&other.name));
            let (far, far_mac) = match peer {
                Some(peer) => (case.device[peer].name.clone(), case.device[peer].mac.clone().unwrap()),
                None => (format!("far{number}"), format!("02:fe:00:00:00:{number:02x}")),
            };
            let (netns, far_netns) = match (&device.netns, peer.map(|p| &case.device[p].netns)) {
                (None, Some(Some(_))) => (outer, inner),
                (None, _) => (outer, outer),
                (Some(_), Some(None)) => (inner, outer),
                (Some(_), _) => (inner, inner),
            };
            fars.push((name.clone(), netns, far.clone(), far_netns, mtu, device.up == Some(false)));
            if peer.is_some_and(|peer| peer < number) {
                continue;
            }
            let lines = if netns == outer { &mut here } else { &mut there };
            *lines += &format!(
                "link add {name} address {mac} mtu {mtu} type veth peer name {far} address {far_mac} mtu {mtu}\n\
                 link set {name} arp off up\n"
            );
            if far_netns == netns {
                *lines += &format!("link set {far} arp off up\n");
            } else {
                *lines += &format!("link set {far} netns {far_netns}\n");
                there += &format!("link set {far} arp off up\n");
            }
        }
        batch(outer, &here);
        batch(inner, &there);
        bed.wires = fars
            .into_iter()
            .map(|(device, netns, far, far_netns, mtu, goes_down)| {
                let far = in_namespace(Some(far_netns), || open(&far)).unwrap();
                Wire { device, netns: netns.to_owned(), far, mtu: mtu as usize, goes_down }
            })
            .collect();
        bed.ingress = bed.wires.iter().position(|w| Some(&w.device) == case.ingress.as_ref()).unwrap();
        bed
    }

    /// To be called when the forwarder has the devices.
    pub fn settle(&self) {
        for wire in self.wires.iter().filter(|w| w.goes_down) {
            batch(&wire.netns, &format!("link set {} down\n", wire.device));
            // That long a program may go by the old state.
            std::thread::sleep(Duration::from_millis(600));
        }
        for netns in [&self.outer, &self.inner] {
            let names = || viscum::host::link::local().into_iter().map(|(name, _)| name).filter(|n| n != "lo");
            let gro_off = || {
                for name in names() {
                    // An XDP program at a veth brings GRO with it.
                    let _other = Command::new("ethtool").args(["-K", &name, "gro", "off"]).output().unwrap();
                }
            };
            in_namespace(Some(netns), gro_off).unwrap();
        }
    }

    /// Whether the frame can be sent to the device that receives.
    pub fn fits(&self, frame: &[u8]) -> bool {
        let tag = if frame.get(12..14) == Some(&[0x81, 0]) { TAG_LEN } else { 0 };
        frame.len() >= ETHERNET_LEN && frame.len() <= self.wires[self.ingress].mtu + ETHERNET_LEN + tag
    }

    /// Sends frames to the device that receives, in order.
    pub fn send(&self, frames: &[Vec<u8>], gap: Duration) {
        for frame in frames {
            std::thread::sleep(gap);
            let deadline = Instant::now() + Duration::from_secs(5);
            while let Err(error) = socket::send(&self.wires[self.ingress].far, frame) {
                let full = matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS));
                assert!(full && Instant::now() < deadline, "a frame of {} bytes: {error}", frame.len());
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// What came out of each device: waits a moment if that is less than `expected`.
    pub fn came(&self, expected: impl Fn(&str) -> usize) -> Vec<(String, Vec<Vec<u8>>)> {
        let deadline = Instant::now() + Duration::from_millis(500);
        let one = |wire: &Wire| {
            let mut list = Vec::new();
            loop {
                match receive(&wire.far) {
                    Some(frame) => list.push(frame),
                    None if list.len() >= expected(&wire.device) || Instant::now() > deadline => break,
                    None => std::thread::sleep(Duration::from_millis(2)),
                }
            }
            (wire.device.clone(), list)
        };
        self.wires.iter().map(one).collect()
    }

    fn remove(&self) {
        for netns in [&self.outer, &self.inner] {
            let _there_is_none = shell::try_run(None, &format!("ip netns del {netns}"));
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.remove();
    }
}

fn batch(netns: &str, lines: &str) {
    let mut command = Command::new("ip");
    let mut child = command.args(["-n", netns, "-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{netns}: {lines}");
}

/// A socket that sends, and sees what the device receives, with its tags.
fn open(device: &str) -> OwnedFd {
    let far = socket::packet_socket().unwrap();
    socket::set_option(&far, abi::SOL_PACKET, abi::PACKET_AUXDATA, 1i32).unwrap();
    socket::set_option(&far, abi::SOL_PACKET, abi::PACKET_IGNORE_OUTGOING, 1i32).unwrap();
    socket::set_option(&far, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RX_QUEUE_BYTES).unwrap();
    socket::set_option(&far, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, RX_QUEUE_BYTES).unwrap();
    let index = nix::net::if_::if_nametoindex(device).unwrap();
    socket::bind_packet(&far, index, abi::ETH_P_ALL).unwrap();
    far
}

fn receive(far: &OwnedFd) -> Option<Vec<u8>> {
    let seen = loop {
        match socket::peek_packet(far) {
            Ok(seen) => break seen,
            // Told once of a device that went down.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
            Err(_) => return None,
        }
    };
    let mut frame = vec![0; FRAME_LEN_MAX];
    let len = nix::sys::socket::recv(far.as_raw_fd(), &mut frame, nix::sys::socket::MsgFlags::MSG_DONTWAIT).unwrap();
    frame.truncate(len);
    if let Some(tag) = seen.tag {
        frame.splice(12..12, [tag.tpid.to_be_bytes(), tag.tci.to_be_bytes()].concat());
    }
    Some(frame)
}
