//! What an AF_PACKET port is opened with. Data only.

/// How to open an [`super::afpacket::AfPacket`].
#[derive(Clone, Debug)]
pub struct PacketConfig {
    /// Name of the device, for messages.
    pub device: String,
    /// Its index in the calling thread's network namespace.
    pub ifindex: u32,
    /// Its MTU, in bytes without MAC header and outer tag.
    pub mtu: u32,
    /// Frames of the receive ring; 0: transmit only. At most 64 MiB are used (32,768 frames).
    pub rx_ring_len: u32,
    /// Frames of the transmit ring; 0: receive only.
    pub tx_ring_len: u32,
    /// Fanout group, shared by flow hash with the other sockets of the group.
    pub fanout: Option<u16>,
    /// Past the queueing discipline: faster, but the driver drops what it has no room for.
    pub qdisc_bypass: bool,
    /// Frames of one TCP flow in a row leave as one super-frame.
    pub merge: bool,
}
