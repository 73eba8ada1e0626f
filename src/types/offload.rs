//! What the sender of a frame left to the device that transmits it: its checksum, and to cut a super-frame. Plain data.

/// How a super-frame is to be cut: `gso_type` of `virtio_net_hdr` without its ECN bit (include/uapi/linux/virtio_net.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GsoKind {
    /// `VIRTIO_NET_HDR_GSO_TCPV4`.
    TcpV4,
    /// `VIRTIO_NET_HDR_GSO_TCPV6`.
    TcpV6,
    /// `VIRTIO_NET_HDR_GSO_UDP_L4`: a datagram for each segment.
    UdpL4,
}

/// What `virtio_net_hdr` says of a super-frame. Its `hdr_len` is left out on purpose: it is a hint, and AF_PACKET puts the length
/// of the linear part there, not of the headers (`virtio_net_hdr_from_skb`, include/linux/virtio_net.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    /// See [`GsoKind`].
    pub kind: GsoKind,
    /// Payload bytes of each segment but the last.
    pub size: u16,
    /// The sender uses ECN: CWR stays with the first segment only (`VIRTIO_NET_HDR_GSO_ECN`).
    pub ecn: bool,
}

/// A checksum that is still to be computed (`CHECKSUM_PARTIAL`): its field holds the pseudo header's sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialChecksum {
    /// How much of the frame's end it covers, in bytes: what is put before a frame or taken off there does not change it.
    pub covers: u32,
    /// Where its field is, in bytes from the first that it covers.
    pub field: u16,
}

/// What is left to the device; by default nothing: the frame is as it goes on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// See [`PartialChecksum`].
    pub checksum: Option<PartialChecksum>,
    /// Set for a super-frame. Its checksum is then a partial one, too.
    pub gso: Option<Gso>,
}

impl Offload {
    /// The frame is as it goes on the wire.
    pub const NONE: Self = Self { checksum: None, gso: None };

    /// Whether nothing is left to the device.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.checksum.is_none() && self.gso.is_none()
    }

    /// The sizes that the kernel counts a super-frame by; none for an ordinary frame, or one whose headers are cut.
    #[must_use]
    pub fn segments(&self, frame: &[u8]) -> Option<Segments> {
        const TCP_DATA_OFFSET: usize = 12;
        let (gso, checksum) = (self.gso?, self.checksum?);
        let l4 = frame.len().checked_sub(checksum.covers as usize)?;
        let l4_len = match gso.kind {
            GsoKind::TcpV4 | GsoKind::TcpV6 => usize::from(*frame.get(l4 + TCP_DATA_OFFSET)? >> 4) * 4,
            GsoKind::UdpL4 => 8,
        };
        let header_len = l4 + l4_len;
        let payload_len = frame.len().checked_sub(header_len)?;
        let size = usize::from(gso.size.max(1));
        Some(Segments { header_len, size, count: payload_len.div_ceil(size).max(1) })
    }
}

/// See [`Offload::segments`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// Bytes of MAC, network and transport header.
    pub header_len: usize,
    /// Payload bytes of each segment but the last.
    pub size: usize,
    /// `gso_segs`: how many there are.
    pub count: usize,
}
