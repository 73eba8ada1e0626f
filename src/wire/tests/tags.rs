//! Tags off and back, and what the kernel notes about a frame.

use proptest::prelude::*;

use crate::types::{DropReason, MacAddr, PacketType, VlanTag, ethertype};
use crate::wire::vlan::{put_back, receive};

const OWN: MacAddr = MacAddr(0x5c, 0xb9, 1, 0xc3, 0xd9, 0x38);

fn frame(destination: [u8; 6], rest: &[u8]) -> Vec<u8> {
    [&destination, &[2, 0, 0, 0, 0, 9][..], rest].concat()
}

proptest! {
    #[test]
    fn a_tag_taken_off_goes_back(mut bytes in proptest::collection::vec(any::<u8>(), 0..80), tpid in 0u8..3) {
        if bytes.len() >= 14 && tpid < 2 {
            bytes[12..14].copy_from_slice(&[[0x81, 0], [0x88, 0xa8]][usize::from(tpid)]);
        }
        let original = bytes.clone();
        match receive(&mut bytes, OWN) {
            Err(reason) => {
                prop_assert_eq!(reason, DropReason::Malformed);
                prop_assert!(original.len() < 14 || (tpid < 2 && original.len() < 20));
            }
            Ok(received) => {
                prop_assert_eq!(received.start == 4, received.meta.tag.is_some());
                prop_assert_eq!(&bytes[received.start + 12..], &original[received.start + 12..]);
                if let Some(tag) = received.meta.tag {
                    put_back(&mut bytes, tag);
                }
                prop_assert_eq!(bytes, original);
            }
        }
    }
}

#[test]
fn only_the_outer_tag_is_taken() {
    let mut qinq = frame(OWN.octets(), &[0x88, 0xa8, 0x20, 5, 0x81, 0, 0, 7, 8, 0, 0x45]);
    let received = receive(&mut qinq, OWN).unwrap();
    assert_eq!(received.meta.tag, Some(VlanTag { tpid: ethertype::QINQ, tci: 0x2005 }));
    assert_eq!(received.meta.protocol, ethertype::VLAN);
    assert_eq!(received.meta.classify_protocol(), ethertype::QINQ);
    assert_eq!(qinq[received.start..], frame(OWN.octets(), &[0x81, 0, 0, 7, 8, 0, 0x45]));
    let mut old = frame(OWN.octets(), &[0x91, 0, 0, 5, 8, 0, 0x45, 0]);
    let received = receive(&mut old, OWN).unwrap();
    assert_eq!((received.meta.tag, received.meta.protocol), (None, 0x9100));
}

#[test]
fn lengths_are_802_frames() {
    for (rest, protocol) in [
        (&[0x00, 0x10, 0xff, 0xff][..], ethertype::P_802_3),
        (&[0x05, 0xff, 0x42, 0x42], ethertype::P_802_2),
        (&[0x00, 0x10, 0xff], ethertype::P_802_2),
        (&[0x06, 0x00], 0x0600),
    ] {
        assert_eq!(receive(&mut frame(OWN.octets(), rest), OWN).unwrap().meta.protocol, protocol, "{rest:02x?}");
    }
}

#[test]
fn the_destination_says_whom_it_is_for() {
    for (destination, ptype) in [
        (OWN.octets(), PacketType::Host),
        ([0xff; 6], PacketType::Broadcast),
        ([0x33, 0x33, 0, 0, 0, 1], PacketType::Multicast),
        ([2, 0, 0, 0, 0, 1], PacketType::OtherHost),
    ] {
        assert_eq!(receive(&mut frame(destination, &[8, 0]), OWN).unwrap().meta.ptype, ptype);
    }
}
