//! Captures there and back, of every form, and damaged ones.

use std::fs;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::{PcapError, PcapReader, PcapWriter};

type Packets = Vec<(Duration, Vec<u8>)>;

fn read(path: &Path) -> Result<Packets, PcapError> {
    let mut reader = PcapReader::open(path)?;
    let mut packets = Vec::new();
    while let Some((time, bytes)) = reader.next()? {
        packets.push((time, bytes.to_vec()));
    }
    Ok(packets)
}

fn write(path: &Path, packets: &Packets) {
    let mut writer = PcapWriter::create(path).unwrap();
    for (time, bytes) in packets {
        writer.write(time.as_secs() as u32, time.subsec_micros(), bytes).unwrap();
    }
    writer.finish().unwrap();
}

/// A capture of one packet `01 02 03` at 7.000005 (or 7.000000005) s, built by hand.
fn by_hand(magic: u32, big: bool, link_type: u32) -> Vec<u8> {
    let word = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
    let version = if big { [0, 2, 0, 4] } else { [2, 0, 4, 0] };
    let words = [0, 0, 65_535, link_type, 7, 5, 3, 3].map(word).concat();
    [&word(magic)[..], &version, &words, &[1, 2, 3]].concat()
}

#[test]
fn every_form_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pcap");
    for (magic, nanos) in [(0xa1b2_c3d4, 5000), (0xa1b2_3c4d, 5)] {
        for big in [false, true] {
            fs::write(&path, by_hand(magic, big, 1)).unwrap();
            assert_eq!(read(&path).unwrap(), [(Duration::new(7, nanos), vec![1, 2, 3])]);
        }
    }
}

#[test]
fn golden_captures_are_written_back_byte_for_byte() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy.pcap");
    let mut compared = 0;
    for case in fs::read_dir(golden).unwrap() {
        let Ok(files) = fs::read_dir(case.unwrap().path().join("out")) else { continue };
        for path in files.map(|f| f.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "pcap")) {
            write(&copy, &read(&path).unwrap());
            assert_eq!(fs::read(&copy).unwrap(), fs::read(&path).unwrap(), "{}", path.display());
            compared += 1;
        }
    }
    assert!(compared > 0, "no golden capture was found");
}

#[test]
fn errors_name_the_file_and_the_packet() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pcap");
    assert!(matches!(read(&path), Err(PcapError::Open { .. })));
    fs::write(&path, b"hello").unwrap();
    assert!(matches!(read(&path), Err(PcapError::Header { .. })));
    fs::write(&path, [0u8; 100]).unwrap();
    assert!(matches!(read(&path), Err(PcapError::Header { .. })));
    fs::write(&path, by_hand(0xa1b2_c3d4, false, 113)).unwrap();
    assert!(matches!(read(&path), Err(PcapError::LinkType { link_type: 113, .. })));

    let second = vec![(Duration::ZERO, vec![1; 60]), (Duration::ZERO, vec![2; 60])];
    write(&path, &second);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let error = read(&path).unwrap_err();
    assert!(matches!(error, PcapError::Truncated { packet: 2, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("a.pcap") && text.contains("packet 2") && text.contains("the 1 before"), "{text}");
}

#[test]
fn a_record_longer_than_any_frame_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pcap");
    let mut bytes = by_hand(0xa1b2_c3d4, false, 1);
    bytes[32..36].copy_from_slice(&300_000u32.to_le_bytes());
    bytes.resize(400_000, 0);
    fs::write(&path, bytes).unwrap();
    assert!(matches!(read(&path), Err(PcapError::Record { packet: 1, .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_written_is_read(
        packets in prop::collection::vec((any::<u32>(), 0..1_000_000u32, prop::collection::vec(any::<u8>(), 0..300)), 0..20)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pcap");
        let packets: Packets =
            packets.into_iter().map(|(s, us, bytes)| (Duration::new(u64::from(s), us * 1000), bytes)).collect();
        write(&path, &packets);
        prop_assert_eq!(read(&path).unwrap(), packets);
    }

    #[test]
    fn damage_never_panics(
        at in prop::collection::vec((0..300usize, any::<u8>()), 0..8), len in 0..300usize, big in any::<bool>()
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pcap");
        let mut bytes = by_hand(0xa1b2_c3d4, big, 1);
        bytes.resize(300, 0);
        for (at, value) in at {
            bytes[at] = value;
        }
        fs::write(&path, &bytes[..len]).unwrap();
        let _any = read(&path);
    }
}
