//! Numbers and layouts of AF_PACKET's rings, pinned to the kernel's headers (Linux 6.18). No behaviour.
//!
//! <https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/include/uapi/linux/if_packet.h?h=v6.18>
//!
//! ```text
//! rx slot:  0 tpacket2_hdr 32 sockaddr_ll 52 …gap… tp_mac−10 virtio_net_hdr tp_mac frame …
//! tx slot:  0 tpacket2_hdr 32 virtio_net_hdr 42 frame …        (tpacket_parse_header: tp_hdrlen − sizeof(sockaddr_ll))
//! ```

use std::mem::offset_of;

/// Level of the options below.
pub const SOL_PACKET: i32 = 263;
/// Asks for a receive ring; takes a `tpacket_req`.
pub const PACKET_RX_RING: i32 = 5;
/// `tpacket_stats`, reset by reading.
pub const PACKET_STATISTICS: i32 = 6;
/// Frames that are too long for a receive slot are put into the socket's queue as well, whatever the number.
pub const PACKET_COPY_THRESH: i32 = 7;
/// What is known of a received frame comes with it, as control data.
pub const PACKET_AUXDATA: i32 = 8;
/// Layout of ring slots.
pub const PACKET_VERSION: i32 = 10;
/// Asks for a transmit ring.
pub const PACKET_TX_RING: i32 = 13;
/// A frame that the kernel refuses is skipped, instead of blocking the ring.
pub const PACKET_LOSS: i32 = 14;
/// A `virtio_net_hdr` stands before each frame.
pub const PACKET_VNET_HDR: i32 = 15;
/// Shares a device's frames among the sockets of a group.
pub const PACKET_FANOUT: i32 = 18;
/// Transmits past the device's queueing discipline.
pub const PACKET_QDISC_BYPASS: i32 = 20;
/// Own transmissions are not received.
pub const PACKET_IGNORE_OUTGOING: i32 = 23;
/// The layout that is used here: V3's block timeout costs latency when forwarding.
pub const TPACKET_V2: i32 = 1;
/// Fanout by flow hash: keeps the order within a flow.
pub const PACKET_FANOUT_HASH: u32 = 0;
/// `sll_pkttype` of a frame that this host sends.
pub const PACKET_OUTGOING: u8 = 4;
/// All protocols.
pub const ETH_P_ALL: u16 = 3;

/// Receive slot: ours.
pub const TP_STATUS_USER: u32 = 1;
/// Receive slot: the frame is too long for it and waits in the socket's queue (`PACKET_COPY_THRESH`).
pub const TP_STATUS_COPY: u32 = 1 << 1;
/// Received: the checksum is only begun.
pub const TP_STATUS_CSUMNOTREADY: u32 = 1 << 3;
/// Received: a super-frame of TCP; older kernels do not tell.
pub const TP_STATUS_GSO_TCP: u32 = 1 << 8;
/// Receive slot: `tp_vlan_tci` is a tag that was taken off.
pub const TP_STATUS_VLAN_VALID: u32 = 1 << 4;
/// Receive slot: `tp_vlan_tpid` is valid too; else 0x8100.
pub const TP_STATUS_VLAN_TPID_VALID: u32 = 1 << 6;
/// Receive slot: the kernel's. Transmit slot: ours (`TP_STATUS_AVAILABLE`).
pub const TP_STATUS_KERNEL: u32 = 0;
/// Transmit slot: to be sent.
pub const TP_STATUS_SEND_REQUEST: u32 = 1;
/// Transmit slot: refused (only without PACKET_LOSS).
pub const TP_STATUS_WRONG_FORMAT: u32 = 4;
/// Transmit slot: who owns it, without the time stamp flags (bits 29 to 31).
pub const TP_STATUS_OWNER: u32 = 0x7;

/// Slots are aligned to this.
pub const TPACKET_ALIGNMENT: usize = 16;

/// `struct tpacket2_hdr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Tpacket2Hdr {
    /// Owner and flags.
    pub status: u32,
    /// Length of the frame on the wire (rx), of virtio_net_hdr and frame (tx).
    pub len: u32,
    /// Bytes of it that are in the slot.
    pub snaplen: u32,
    /// Where the frame's MAC header is, in bytes from the slot's start.
    pub mac: u16,
    /// Where its network header is.
    pub net: u16,
    /// Time of receipt.
    pub sec: u32,
    /// See `sec`.
    pub nsec: u32,
    /// Tag control information of the tag that was taken off.
    pub vlan_tci: u16,
    /// Its TPID.
    pub vlan_tpid: u16,
    /// Unused.
    pub padding: [u8; 4],
}

impl Tpacket2Hdr {
    /// Time of receipt, in ns since 1970.
    #[must_use]
    pub const fn stamp_ns(&self) -> i64 {
        self.sec as i64 * 1_000_000_000 + self.nsec as i64
    }
}

/// Where `sll_pkttype` stands in a receive slot: `sockaddr_ll` follows the header, `TPACKET_ALIGN(sizeof(struct tpacket2_hdr))`.
pub const PKTTYPE_OFFSET: usize = size_of::<Tpacket2Hdr>() + offset_of!(libc::sockaddr_ll, sll_pkttype);
/// `TPACKET2_HDRLEN`.
pub const TPACKET2_HDRLEN: usize = size_of::<Tpacket2Hdr>() + size_of::<libc::sockaddr_ll>();
/// Length of `struct virtio_net_hdr` (include/uapi/linux/virtio_net.h), which af_packet uses without `num_buffers`.
pub const VNET_HDR_LEN: usize = 10;
/// Where virtio_net_hdr and frame begin in a transmit slot: `tpacket_parse_header`, net/packet/af_packet.c.
pub const TX_OFFSET: usize = TPACKET2_HDRLEN - size_of::<libc::sockaddr_ll>();
/// The most bytes before a frame with a 14-byte MAC header in a receive slot: `tpacket_rcv` aligns
/// `tp_hdrlen + 16` to 16, adds the virtio_net_hdr and goes back by the length of the MAC header.
pub const RX_OFFSET_MAX: usize = (TPACKET2_HDRLEN + 16).next_multiple_of(TPACKET_ALIGNMENT) + VNET_HDR_LEN;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
pub const VNET_NEEDS_CSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_NONE`.
pub const VNET_GSO_NONE: u8 = 0;
/// `VIRTIO_NET_HDR_GSO_TCPV4`.
pub const VNET_GSO_TCPV4: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_TCPV6`.
pub const VNET_GSO_TCPV6: u8 = 4;
/// `VIRTIO_NET_HDR_GSO_UDP_L4`.
pub const VNET_GSO_UDP_L4: u8 = 5;
/// `VIRTIO_NET_HDR_GSO_ECN`, a flag beside the kinds.
pub const VNET_GSO_ECN: u8 = 0x80;

const _: () = assert!(size_of::<Tpacket2Hdr>() == 32 && size_of::<Tpacket2Hdr>().is_multiple_of(TPACKET_ALIGNMENT));
const _: () = assert!(offset_of!(Tpacket2Hdr, status) == 0 && offset_of!(Tpacket2Hdr, len) == 4);
const _: () = assert!(offset_of!(Tpacket2Hdr, snaplen) == 8 && offset_of!(Tpacket2Hdr, mac) == 12);
const _: () = assert!(offset_of!(Tpacket2Hdr, net) == 14 && offset_of!(Tpacket2Hdr, vlan_tci) == 24);
const _: () = assert!(offset_of!(Tpacket2Hdr, vlan_tpid) == 26 && offset_of!(Tpacket2Hdr, padding) == 28);
const _: () = assert!(size_of::<libc::sockaddr_ll>() == 20 && PKTTYPE_OFFSET == 42);
const _: () = assert!(TPACKET2_HDRLEN == 52 && TX_OFFSET == 32 && RX_OFFSET_MAX == 90);
