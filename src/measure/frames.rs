//! The frames that a measurement sends: TCP of the scenario's shape, with a number and a time stamp in fields that no rule changes.
//! It sends nothing.
//!
//! ```text
//! offset  14 IPv4   26 source address   30 destination address
//!         34 source port = flow   36 destination port   38 sequence number = number in its flow   42 acknowledgement = time stamp
//!         46 data offset, flags ACK   50 checksum (not the frame's: nobody on the way looks at it)   54 payload
//! ```

use crate::types::MacAddr;

/// Shortest frame, in bytes without the frame check sequence (64 on the wire).
pub const FRAME_LEN_MIN: usize = 60;
/// Bytes of a frame check sequence, which sizes as people name them include.
pub const FCS_LEN: usize = 4;
/// Where the source port is: the lower bits of a flow's number.
pub const FLOW_AT: i16 = 34;
/// Where the lower half of the source address is: the upper bits of a flow's number.
pub const FLOW_HIGH_AT: i16 = 28;
/// Where the number in the flow is: 4 bytes, this machine's order.
pub const NUMBER_AT: i16 = 38;
/// Where the time stamp is: the lower 32 bits of CLOCK_MONOTONIC in ns, this machine's order.
pub const STAMP_AT: i16 = 42;
/// Where the flags of TCP are.
pub const FLAGS_AT: i16 = 47;
/// Flags of a frame whose age is measured: ACK and PSH; the others have ACK alone.
pub const MEASURED_FLAGS: u8 = 0x18;
/// The scenario's port.
pub const PORT: u16 = 12345;
/// Source port of flow 0.
pub const PORT_FIRST: u16 = 1024;
/// Flows that differ in the source port alone; more differ in the source address.
pub const FLOWS_PER_ADDRESS: u32 = 32_768;

const IPV4_LEN: usize = 20;
const ETHERNET_LEN: usize = 14;

/// Who sends to whom.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Source MAC.
    pub from: MacAddr,
    /// Destination MAC.
    pub to: MacAddr,
    /// Source address; its lower half is overwritten by flows beyond [`FLOWS_PER_ADDRESS`].
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
}

/// One frame of flow 0, number 0. `wire_len` counts the frame check sequence, as sizes of measurements do (64, 1518).
///
/// # Panics
/// If it is below 64 or more than an IPv4 packet can have.
#[must_use]
pub fn frame(ends: &Ends, wire_len: usize) -> Vec<u8> {
    let len = wire_len.checked_sub(FCS_LEN).expect("a wire length counts the check sequence");
    assert!((FRAME_LEN_MIN..=ETHERNET_LEN + 0xffff).contains(&len), "a frame has 64 bytes or more on the wire");
    let mut frame = vec![0; len];
    frame[..6].copy_from_slice(&ends.to.octets());
    frame[6..12].copy_from_slice(&ends.from.octets());
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    let ip = &mut frame[ETHERNET_LEN..];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&((len - ETHERNET_LEN) as u16).to_be_bytes());
    ip[8] = 64;
    ip[9] = 6;
    ip[12..16].copy_from_slice(&ends.source);
    ip[16..20].copy_from_slice(&ends.destination);
    let sum = ipv4_checksum(&ip[..IPV4_LEN]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let tcp = &mut ip[IPV4_LEN..];
    tcp[0..2].copy_from_slice(&PORT_FIRST.to_be_bytes());
    tcp[2..4].copy_from_slice(&PORT.to_be_bytes());
    tcp[12] = 0x50;
    tcp[13] = 0x10;
    tcp[14..16].copy_from_slice(&0xffffu16.to_be_bytes());
    // Neither a checksum nor the sum of a pseudo header, which would look like one that is still to be completed.
    tcp[16..18].copy_from_slice(&[0x5a, 0x5a]);
    frame
}

/// Sizes on the wire of the simple IMIX: 7 of 64, 4 of 570, 1 of 1518.
pub const IMIX: [(usize, u32); 3] = [(64, 7), (570, 4), (1518, 1)];

fn ipv4_checksum(header: &[u8]) -> u16 {
    let sum: u32 = header.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    #[test]
    fn a_frame_is_what_a_parser_says_it_is() {
        let mac = |n| MacAddr::new(2, 0, 0, 0, 0, n);
        let ends = Ends { from: mac(1), to: mac(2), source: [198, 18, 0, 2], destination: [198, 51, 100, 10] };
        for wire_len in [64, 128, 570, 1518, 9018] {
            let frame = frame(&ends, wire_len);
            assert_eq!(frame.len() + FCS_LEN, wire_len);
            let packet = SlicedPacket::from_ethernet(&frame).expect("it is a frame");
            let Some(NetSlice::Ipv4(ip)) = packet.net else { panic!("{:?}", packet.net) };
            assert_eq!(ip.header().header_checksum(), ip.header().to_header().calc_header_checksum());
            let Some(TransportSlice::Tcp(tcp)) = packet.transport else { panic!("{:?}", packet.transport) };
            assert_eq!((tcp.source_port(), tcp.destination_port(), tcp.ack()), (PORT_FIRST, PORT, true));
        }
    }
}
