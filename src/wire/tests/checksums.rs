//! Checksums: full, incremental, and completed where a stack left them partial.

use proptest::prelude::*;

use super::{Shape, verified};
use crate::types::Checksums;
use crate::wire::checksum::{Sum, checksum, complete_at, complete_partial, pseudo_header, update};
use crate::wire::headers::Transport;
use crate::wire::{be16, csum};

/// RFC 1071, word by word.
fn dumb(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Where the L4 checksum of a frame is.
fn field(frame: &[u8], shape: Shape) -> usize {
    Transport::find(frame).unwrap().l4.start + if shape.tcp { 16 } else { 6 }
}

/// As a local stack hands it to a device that promised to do the sum.
fn made_partial(shape: Shape, payload: &[u8]) -> Vec<u8> {
    let mut frame = shape.frame(payload);
    let packet = Transport::find(&frame).unwrap();
    let pseudo = pseudo_header(&frame[packet.addresses.clone()], packet.ip_proto, packet.l4.len()).fold();
    let at = field(&frame, shape);
    frame[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
    frame
}

proptest! {
    #[test]
    fn the_sum_is_that_of_the_words(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(checksum(&bytes), dumb(&bytes));
    }

    #[test]
    fn an_update_is_a_new_sum(mut bytes in proptest::collection::vec(any::<u8>(), 20..60), at in 0usize..10, new: u16) {
        bytes[18] = 1;
        let (before, old) = (checksum(&bytes), be16(&bytes, at & !1));
        bytes[at & !1..][..2].copy_from_slice(&new.to_be_bytes());
        prop_assert_eq!(update(before, old, new), checksum(&bytes));
    }

    #[test]
    fn partial_is_completed_and_the_rest_untouched(
        bits in 0u8..32,
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        padding in 0usize..20,
    ) {
        let shape = Shape::new(bits);
        let right = shape.frame(&payload);
        let mut frame = made_partial(shape, &payload);
        frame.resize(frame.len() + padding, 0xee);
        prop_assert!(complete_partial(&mut frame));
        verified(&frame[..right.len()]);
        let at = field(&right, shape);
        prop_assert_eq!(&frame[..at], &right[..at]);
        prop_assert_eq!(&frame[at + 2..right.len()], &right[at + 2..]);
        prop_assert!(frame[right.len()..].iter().all(|b| *b == 0xee));

        let mut by_header = made_partial(shape, &payload);
        let l4 = Transport::find(&by_header).unwrap().l4.start;
        let completed = complete_at(&mut by_header, l4 as u16, if shape.tcp { 16 } else { 6 });
        prop_assert!(completed);
        verified(&by_header);
    }

    #[test]
    fn a_right_checksum_stays(bits in 0u8..32, payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        let right = Shape::new(bits).frame(&payload);
        let mut frame = right.clone();
        complete_partial(&mut frame);
        prop_assert_eq!(frame, right);
    }

    #[test]
    fn no_bytes_panic(mut frame in proptest::collection::vec(any::<u8>(), 0..120), start: u16, offset: u16) {
        complete_partial(&mut frame);
        complete_at(&mut frame, start, offset);
        complete_at(&mut frame, start % 128, offset % 128);
    }

    #[test]
    fn mangled_frames_do_not_panic(bits in 0u8..32, at in 0usize..80, byte: u8, keep in 0usize..140) {
        let mut frame = made_partial(Shape::new(bits), &[3; 80]);
        frame[at] = byte;
        frame.truncate(keep);
        complete_partial(&mut frame);
    }
}

#[test]
fn a_udp_sum_of_zero_is_sent_as_ffff() {
    let shape = Shape::new(0);
    let frame = shape.frame(&[0, 0]);
    let at = field(&frame, shape);
    // The payload that makes the sum 0xffff, so that its complement is 0.
    let rest = be16(&frame, at);
    let mut partial = made_partial(shape, &rest.to_be_bytes());
    assert!(complete_partial(&mut partial));
    assert_eq!(be16(&partial, at), 0xffff);
}

#[test]
fn fragments_and_wrong_sums_are_left_alone() {
    let mut fragment = made_partial(Shape::new(1), &[1; 64]);
    fragment[20] = 0x20;
    let before = fragment.clone();
    assert!(!complete_partial(&mut fragment));
    assert_eq!(fragment, before);
    let mut wrong = Shape::new(1).frame(&[1; 64]);
    wrong[60] ^= 1;
    let before = wrong.clone();
    assert!(!complete_partial(&mut wrong));
    assert_eq!(wrong, before);
}

#[test]
fn the_largest_sum_folds() {
    let sum = Sum::default().bytes(&[0xff; 65_536]);
    assert_eq!(sum.fold(), 0xffff);
    assert_eq!(sum.word(1).fold(), 1);
}

proptest! {
    /// The action `csum` restores what etherparse computed, behind any tags, and nothing else.
    #[test]
    fn mended_checksums_are_those_of_etherparse(
        bits in 0u8..128,
        payload in proptest::collection::vec(any::<u8>(), 0..80),
        junk in any::<[u8; 2]>(),
    ) {
        let shape = Shape::new(bits);
        // The outer tag is taken off before tc sees a frame.
        let mut frame = shape.frame(&payload);
        let _tag = crate::wire::vlan::take_off(&mut frame).unwrap();
        let start = if shape.tags > 0 { 4 } else { 0 };
        let right = frame.split_off(start);
        let mut damaged = right.clone();
        let at = right.len() - payload.len() - if shape.tcp { 4 + usize::from(shape.tcp_options) * options_len(shape) } else { 2 };
        damaged[at..at + 2].copy_from_slice(&if shape.tcp { junk } else { junk.map(|b| b | 1) });
        let mut meta = crate::wire::vlan::receive(&mut damaged.clone(), crate::types::MacAddr::zero()).unwrap().meta;
        meta.tag = None;
        meta.protocol = be16(&damaged, 12);
        prop_assert!(csum::mend(&mut damaged, &mut meta, 14, Checksums(0x7f)));
        prop_assert_eq!(damaged, right);
    }
}

/// What TCP options of a shape take, in bytes.
fn options_len(shape: Shape) -> usize {
    let with = Shape { tcp_options: true, ..shape }.frame(&[]).len();
    with - Shape { tcp_options: false, ..shape }.frame(&[]).len()
}
