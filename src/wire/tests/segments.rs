//! Segmentation: reassembling the segments gives the super-frame again, and every segment is a right frame of its own.

use proptest::prelude::*;

use super::{Shape, verified};
use crate::wire::headers::Transport;
use crate::wire::segment::{Gso, GsoKind, SegmentError, segments};
use crate::wire::{be16, be32};

const fn kind(shape: Shape) -> GsoKind {
    match (shape.tcp, shape.v6) {
        (true, false) => GsoKind::TcpV4,
        (true, true) => GsoKind::TcpV6,
        (false, _) => GsoKind::UdpL4,
    }
}

fn cut(frame: &[u8], gso: Gso) -> Vec<Vec<u8>> {
    let mut segmenter = segments(frame, gso).unwrap();
    let mut buffer = vec![0xee; segmenter.segment_len_max()];
    let count = segmenter.remaining();
    let mut all = Vec::new();
    while let Some(len) = segmenter.next_into(&mut buffer) {
        all.push(buffer[..len].to_vec());
    }
    assert_eq!(all.len(), count);
    assert_eq!(segmenter.remaining(), 0);
    all
}

proptest! {
    #[test]
    fn reassembled_segments_are_the_payload(bits in 0u8..32, size in 1u16..3000, len in 0usize..20_000, byte: u8) {
        let shape = Shape::new(bits);
        let payload: Vec<u8> = (0..len).map(|i| (i as u8).wrapping_mul(31) ^ byte ^ (i >> 8) as u8).collect();
        let mut frame = shape.frame(&payload);
        let whole = Transport::find(&frame).unwrap();
        // What the sender left in the checksum field does not matter for TCP.
        if shape.tcp {
            frame[whole.l4.start + 16] ^= 0x5a;
        }
        let all = cut(&frame, Gso { kind: kind(shape), size, ecn: false });
        let mut joined = Vec::new();
        for (index, segment) in all.iter().enumerate() {
            let part = verified(segment);
            prop_assert!(part.len() == usize::from(size) || index + 1 == all.len());
            if shape.tcp {
                let l4 = Transport::find(segment).unwrap().l4.start;
                prop_assert_eq!(be32(segment, l4 + 4), 0xffff_f000u32.wrapping_add(joined.len() as u32));
                let (first, last) = (index == 0, index + 1 == all.len());
                let flags = segment[l4 + 13];
                prop_assert_eq!((flags & 0x80 != 0, flags & 0x09 == 0x09, flags & 0x10 != 0), (first, last, true));
                prop_assert!(last || flags & 0x09 == 0);
            }
            if !shape.v6 {
                let id = |f: &[u8]| be16(f, whole.network + 4);
                prop_assert_eq!(id(segment), id(&frame).wrapping_add(index as u16));
            }
            joined.extend(part);
        }
        prop_assert_eq!(joined, payload);
    }

    #[test]
    fn no_bytes_panic(frame in proptest::collection::vec(any::<u8>(), 0..200), size: u16, which in 0u8..3) {
        let kind = [GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::UdpL4][usize::from(which)];
        if let Ok(mut segmenter) = segments(&frame, Gso { kind, size, ecn: false }) {
            let mut out = [0; 300];
            while segmenter.next_into(&mut out).is_some() {}
        }
    }

    #[test]
    fn mangled_super_frames_do_not_panic(bits in 0u8..32, at in 0usize..100, byte: u8, keep in 0usize..400, size in 1u16..200) {
        let shape = Shape::new(bits);
        let mut frame = shape.frame(&[7; 300]);
        frame[at] = byte;
        frame.truncate(keep);
        if let Ok(mut segmenter) = segments(&frame, Gso { kind: kind(shape), size, ecn: false }) {
            let mut out = [0; 500];
            while segmenter.next_into(&mut out).is_some() {}
        }
    }
}

#[test]
fn a_frame_as_long_as_any_is_cut() {
    let shape = Shape::new(1);
    let frame = shape.frame(&vec![9; 65_535 - 40]);
    assert_eq!(frame.len(), 65_549);
    assert_eq!(cut(&frame, Gso { kind: GsoKind::TcpV4, size: 1460, ecn: false }).len(), 45);
}

#[test]
fn udp_without_checksum_stays_without() {
    let mut frame = Shape::new(0).frame(&[1; 100]);
    frame[40..42].fill(0);
    for segment in cut(&frame, Gso { kind: GsoKind::UdpL4, size: 30, ecn: false }) {
        assert_eq!(segment[40..42], [0, 0]);
    }
}

#[test]
fn a_buffer_that_is_too_short_loses_nothing() {
    let frame = Shape::new(1).frame(&[1; 100]);
    let mut segmenter = segments(&frame, Gso { kind: GsoKind::TcpV4, size: 60, ecn: false }).unwrap();
    assert_eq!(segmenter.next_into(&mut [0; 20]), None);
    assert_eq!(segmenter.remaining(), 2);
    assert_eq!(segmenter.next_into(&mut [0; 200]), Some(54 + 60));
}

#[test]
fn what_cannot_be_cut_is_refused() {
    let frame = Shape::new(1).frame(&[1; 100]);
    let gso = Gso { kind: GsoKind::TcpV4, size: 60, ecn: false };
    assert_eq!(segments(&frame, Gso { size: 0, ..gso }).unwrap_err(), SegmentError::NoSize);
    let wrong = Gso { kind: GsoKind::UdpL4, ..gso };
    assert_eq!(segments(&frame, wrong).unwrap_err(), SegmentError::Headers(GsoKind::UdpL4));
    assert_eq!(segments(&frame[..60], gso).unwrap_err(), SegmentError::Headers(GsoKind::TcpV4));
    assert_eq!(segments(&vec![0; 70_000], gso).unwrap_err(), SegmentError::TooLong(70_000));
}
