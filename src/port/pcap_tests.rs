//! Captures there and back, of every form, and damaged ones.

use std::fs;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::{PcapError, PcapReader, PcapWriter};
use crate::port::{PcapngPacket, PcapngWriter};

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

/// Blocks of pcapng, built by hand.
struct Blocks {
    big: bool,
    bytes: Vec<u8>,
}

impl Blocks {
    fn new(big: bool) -> Self {
        let mut blocks = Self { big, bytes: Vec::new() };
        blocks.section();
        blocks
    }

    fn section(&mut self) {
        let version = if self.big { [0, 1, 0, 0] } else { [1, 0, 0, 0] };
        let body = [&self.word(0x1a2b_3c4d)[..], &version, &[0xff; 8]].concat();
        self.block(0x0a0d_0d0a, &body);
    }

    fn word(&self, n: u32) -> [u8; 4] {
        if self.big { n.to_be_bytes() } else { n.to_le_bytes() }
    }

    fn half(&self, n: u16) -> [u8; 2] {
        if self.big { n.to_be_bytes() } else { n.to_le_bytes() }
    }

    fn block(&mut self, kind: u32, body: &[u8]) {
        let len = self.word(12 + body.len() as u32);
        self.bytes.extend([&self.word(kind)[..], &len, body, &len].concat());
    }

    /// With options of one byte or eight, and no end of options: it may be left out.
    fn interface(&mut self, link_type: u16, options: &[(u16, &[u8])]) {
        let mut body = [&self.half(link_type)[..], &[0, 0], &self.word(2)].concat();
        for (code, value) in options {
            body.extend([&self.half(*code)[..], &self.half(value.len() as u16), value].concat());
            body.resize(body.len().next_multiple_of(4), 0);
        }
        self.block(1, &body);
    }

    fn packet(&mut self, interface: u32, time: u64, bytes: &[u8]) {
        let words =
            [interface, (time >> 32) as u32, time as u32, bytes.len() as u32, 99].map(|n| self.word(n)).concat();
        let mut body = [&words[..], bytes].concat();
        body.resize(body.len().next_multiple_of(4), 0xee);
        self.block(6, &body);
    }
}

#[test]
fn every_form_of_pcapng_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pcapng");
    for big in [false, true] {
        let mut blocks = Blocks::new(big);
        blocks.interface(1, &[]);
        blocks.interface(1, &[(2, b"eth0"), (9, &[9])]);
        let offset = if big { 100_u64.to_be_bytes() } else { 100_u64.to_le_bytes() };
        blocks.interface(1, &[(9, &[0x80 | 10]), (14, &offset)]);
        blocks.packet(0, (7 << 32) + 5, &[1, 2, 3]);
        blocks.block(0x0bad, b"what nobody knows   ");
        blocks.packet(1, 7_000_000_005, &[4]);
        blocks.packet(2, 7 * 1024 + 512, &[]);
        let simple = [&blocks.word(60)[..], &[8, 9, 0, 0]].concat();
        blocks.block(3, &simple);
        let old = [
            &blocks.half(1)[..],
            &[0, 0],
            &blocks.word(0),
            &blocks.word(9),
            &blocks.word(2),
            &blocks.word(2),
            &[6, 7, 0, 0],
        ];
        let old = old.concat();
        blocks.block(2, &old);
        blocks.section();
        blocks.interface(1, &[]);
        blocks.packet(0, 1_000_001, &[5; 5]);
        fs::write(&path, &blocks.bytes).unwrap();
        let expected = vec![
            (Duration::from_micros((7 << 32) + 5), vec![1, 2, 3]),
            (Duration::new(7, 5), vec![4]),
            (Duration::new(107, 500_000_000), vec![]),
            (Duration::ZERO, vec![8, 9]),
            (Duration::new(0, 9), vec![6, 7]),
            (Duration::new(1, 1000), vec![5; 5]),
        ];
        assert_eq!(read(&path).unwrap(), expected, "big: {big}");
        for len in 0..blocks.bytes.len() {
            fs::write(&path, &blocks.bytes[..len]).unwrap();
            let whole_blocks = read(&path).is_ok();
            assert!(!whole_blocks || len.is_multiple_of(4), "{len} bytes are no whole blocks");
        }
        blocks.interface(113, &[]);
        blocks.packet(1, 0, &[1]);
        fs::write(&path, &blocks.bytes).unwrap();
        assert!(matches!(read(&path), Err(PcapError::LinkType { link_type: 113, .. })));
    }
    let mut blocks = Blocks::new(false);
    blocks.packet(3, 0, &[1]);
    fs::write(&path, &blocks.bytes).unwrap();
    let error = read(&path).unwrap_err().to_string();
    assert!(error.contains("packet 1") && error.contains("interface 3 was not described"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn pcapng_is_read_as_it_was_written(
        packets in prop::collection::vec((any::<u32>(), 0..1_000_000_000u32, prop::collection::vec(any::<u8>(), 0..300), ".{0,9}"), 0..20)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pcapng");
        let mut writer = PcapngWriter::new(Vec::new(), "a test", "of packets").unwrap();
        let interfaces = [writer.interface("a in", "received by a", 0).unwrap(), writer.interface("a out", "", 0).unwrap()];
        for (n, (s, ns, bytes, comment)) in packets.iter().enumerate() {
            let (time, comment) = (Duration::new(u64::from(*s), *ns), (n % 3 > 0).then_some(comment.as_str()));
            let packet = PcapngPacket { interface: interfaces[n % 2], time, len: 400, bytes, outgoing: n % 2 > 0, comment };
            writer.packet(&packet).unwrap();
        }
        writer.statistics(interfaces[1], Duration::from_secs(1), 2, 3).unwrap();
        fs::write(&path, writer.get_mut()).unwrap();
        let packets: Packets = packets.into_iter().map(|(s, ns, bytes, _)| (Duration::new(u64::from(s), ns), bytes)).collect();
        prop_assert_eq!(read(&path).unwrap(), packets);
    }

    #[test]
    fn damage_of_pcapng_never_panics(at in prop::collection::vec((28..200usize, any::<u8>()), 0..8), big in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pcapng");
        let mut blocks = Blocks::new(big);
        blocks.interface(1, &[(9, &[6]), (14, &[0; 8])]);
        for n in 0..5 {
            blocks.packet(0, n, &[n as u8; 9]);
        }
        for (at, value) in at {
            blocks.bytes[at] = value;
        }
        fs::write(&path, &blocks.bytes).unwrap();
        let _any = read(&path);
    }

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
