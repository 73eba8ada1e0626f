//! Where transport headers are found: always within the frame, whatever its bytes. What is found where is in the golden case `basic`.

use proptest::prelude::*;

use super::Shape;
use crate::wire::transport;

/// Types and protocol numbers that the dissector knows.
const KNOWN: &[u16] =
    &[0x0800, 0x86dd, 0x8100, 0x88a8, 0x8864, 0x88ca, 0x8847, 0x8906, 0x0806, 0x4305, 0x88f7, 0x88fb, 0x6558, 0x880b];

proptest! {
    #[test]
    fn it_is_never_outside_of_the_frame(
        mut frame in prop::collection::vec(any::<u8>(), 14..200),
        protocol in prop::sample::select(KNOWN),
        places in prop::collection::vec((0usize..200, prop::sample::select(KNOWN)), 0..6),
        tagged in any::<bool>(),
    ) {
        for (at, known) in places {
            if let Some(bytes) = frame.get_mut(at..at + 2) {
                bytes.copy_from_slice(&known.to_be_bytes());
            }
        }
        let at = transport::offset(&frame, protocol, 14, tagged);
        prop_assert!((10..=frame.len()).contains(&at));
    }
}

#[test]
fn behind_plain_ip_it_is_behind_the_header() {
    for bits in 0..32 {
        let shape = Shape::new(bits);
        let frame = shape.frame(b"data");
        let network = 14 + 4 * shape.tags;
        let protocol = u16::from_be_bytes([frame[network - 2], frame[network - 1]]);
        let ip_len = if shape.v6 { 40 } else { 20 };
        assert_eq!(transport::offset(&frame, protocol, network, shape.tags > 0), network + ip_len, "{shape:?}");
        // Tags that are still in the frame are looked behind.
        let outer = u16::from_be_bytes([frame[12], frame[13]]);
        assert_eq!(transport::offset(&frame, outer, 14, false), network + ip_len, "{shape:?}");
    }
}
