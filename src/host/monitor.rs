//! The links of a namespace and their changes, by rtnetlink (rtnetlink(7), include/uapi/linux/rtnetlink.h). It changes none.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
};
use nix::sys::time::TimeVal;

use super::{HostError, netns};

/// `RTMGRP_LINK`.
const GROUP_LINK: u32 = 1;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const REQUEST_DUMP: u16 = 0x301;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
/// Lengths of `struct nlmsghdr` and `struct ifinfomsg`.
const HEADER_LEN: usize = 16;
const INFO_LEN: usize = 16;
/// `IFF_UP` and `IFF_RUNNING` (include/uapi/linux/if.h): up, and with a carrier.
const UP_AND_RUNNING: u32 = 0x1 | 0x40;
/// The kernel sends a dump in pieces of at most this many bytes (`netlink_dump()`, net/netlink/af_netlink.c).
const PIECE_LEN_MAX: usize = 64 << 10;
/// Pieces of one dump that are read at most.
const PIECES_MAX: usize = 1024;

/// What changes of a link while it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Its number.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// In bytes, without the Ethernet header.
    pub mtu: u32,
    /// Up, and with a carrier.
    pub up: bool,
}

/// Two netlink sockets of a namespace: one hears of changes, one asks. They keep the namespace alive, so it must be looked whether it
/// still has its name: see [`Monitor::has_name`].
#[derive(Debug)]
pub struct Monitor {
    netns: Option<String>,
    identity: Option<netns::Identity>,
    events: OwnedFd,
    asks: OwnedFd,
}

impl Monitor {
    /// Hears of changes from now on.
    ///
    /// # Errors
    /// [`HostError::NoNamespace`], [`HostError::Enter`], [`HostError::Io`].
    pub fn open(netns: Option<&str>) -> Result<Self, HostError> {
        let (events, asks, identity) = netns::in_namespace(netns, || {
            let what = || HostError::io("a netlink socket, to watch links");
            let events = netlink(GROUP_LINK, SockFlag::SOCK_NONBLOCK).map_err(what())?;
            let asks = netlink(0, SockFlag::empty()).map_err(what())?;
            Ok::<_, HostError>((events, asks, netns::own()))
        })??;
        Ok(Self { netns: netns.map(str::to_owned), identity, events, asks })
    }

    /// The namespace's name.
    #[must_use]
    pub fn netns(&self) -> Option<&str> {
        self.netns.as_deref()
    }

    /// Which namespace it is, whatever its name.
    #[must_use]
    pub fn identity(&self) -> Option<netns::Identity> {
        self.identity
    }

    /// Whether the namespace is still the one of this name: `ip netns del` takes the name away, and the namespace goes when nothing of ours
    /// is in it any more.
    #[must_use]
    pub fn has_name(&self) -> bool {
        self.netns.as_deref().is_none_or(|name| netns::of_name(name) == self.identity)
    }

    /// Readable when something changed.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Reads what changed since the last time; true if anything did. What exactly, [`Monitor::links`] tells.
    pub fn has_changed(&self) -> bool {
        let mut changed = false;
        let mut buffer = [0; 4096];
        // An overrun (ENOBUFS) means that there was more than could be kept: a change as well.
        for _ in 0..PIECES_MAX {
            match recv(self.events.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
                Ok(_) | Err(nix::Error::ENOBUFS) => changed = true,
                Err(_) => break,
            }
        }
        changed
    }

    /// All links, as they are now.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn links(&self) -> io::Result<Vec<LinkState>> {
        let mut request = Vec::with_capacity(HEADER_LEN + INFO_LEN);
        request.extend(((HEADER_LEN + INFO_LEN) as u32).to_ne_bytes());
        request.extend(RTM_GETLINK.to_ne_bytes());
        request.extend(REQUEST_DUMP.to_ne_bytes());
        // Sequence, port, and an ifinfomsg of AF_UNSPEC.
        request.resize(HEADER_LEN + INFO_LEN, 0);
        send(self.asks.as_raw_fd(), &request, MsgFlags::empty())?;
        let mut links = Vec::new();
        let mut piece = vec![0; PIECE_LEN_MAX];
        for _ in 0..PIECES_MAX {
            let len = recv(self.asks.as_raw_fd(), &mut piece, MsgFlags::empty())?;
            if read_piece(&piece[..len], &mut links)? {
                return Ok(links);
            }
        }
        Err(io::Error::other("the list of links does not end"))
    }
}

fn netlink(groups: u32, flags: SockFlag) -> io::Result<OwnedFd> {
    let flags = flags | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(1, 0))?;
    Ok(socket)
}

/// The links in one piece of an answer; true if it is the last one.
fn read_piece(mut piece: &[u8], links: &mut Vec<LinkState>) -> io::Result<bool> {
    while piece.len() >= HEADER_LEN {
        let len = (word(piece, 0) as usize).clamp(HEADER_LEN, piece.len());
        let (message, kind) = (&piece[HEADER_LEN..len], half(piece, 4));
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR if message.len() >= 4 => {
                return Err(io::Error::from_raw_os_error((word(message, 0) as i32).wrapping_neg()));
            }
            RTM_NEWLINK => links.extend(link(message)),
            _other => {}
        }
        piece = &piece[len.next_multiple_of(4).min(piece.len())..];
    }
    Ok(false)
}

/// `struct ifinfomsg` and its attributes.
fn link(message: &[u8]) -> Option<LinkState> {
    if message.len() < INFO_LEN {
        return None;
    }
    let (ifindex, flags) = (word(message, 4), word(message, 8));
    let (mut name, mut mtu) = (None, 0);
    let mut rest = &message[INFO_LEN..];
    while rest.len() >= 4 {
        let len = usize::from(half(rest, 0)).clamp(4, rest.len());
        let value = &rest[4..len];
        match half(rest, 2) {
            IFLA_IFNAME => {
                let text = value.split(|b| *b == 0).next().unwrap_or_default();
                name = Some(String::from_utf8_lossy(text).into_owned());
            }
            IFLA_MTU if value.len() >= 4 => mtu = word(value, 0),
            _other => {}
        }
        rest = &rest[len.next_multiple_of(4).min(rest.len())..];
    }
    Some(LinkState { ifindex, name: name?, mtu, up: flags & UP_AND_RUNNING == UP_AND_RUNNING })
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_links_of_this_namespace_are_listed_as_the_system_lists_them() {
        let monitor = Monitor::open(None).unwrap();
        assert!(monitor.has_name() && monitor.netns().is_none());
        let mut links: Vec<(u32, String)> = monitor.links().unwrap().into_iter().map(|l| (l.ifindex, l.name)).collect();
        let mut system: Vec<(u32, String)> =
            pnet::datalink::interfaces().into_iter().map(|i| (i.index, i.name)).collect();
        links.sort();
        system.sort();
        assert_eq!(links, system);
        assert!(monitor.links().unwrap().iter().any(|l| l.name == "lo" && l.mtu > 0));
    }

    #[test]
    fn cut_and_odd_messages_are_left_out_and_end_nowhere() {
        let mut links = Vec::new();
        for text in [&[][..], &[0; 15], &[0; 16], &[0xff; 40], &[1, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]] {
            let _refused = read_piece(text, &mut links);
        }
        assert_eq!(links, []);
        let mut message = vec![0; INFO_LEN];
        message[4] = 7;
        message[8] = 0x41;
        message.extend([6, 0, IFLA_IFNAME as u8, 0, b'x', 0, 0, 0, 8, 0, IFLA_MTU as u8, 0, 0xdc, 5, 0, 0, 0xff, 0xff]);
        let expected = LinkState { ifindex: 7, name: "x".to_owned(), mtu: 1500, up: true };
        assert_eq!(link(&message), Some(expected));
    }
}
