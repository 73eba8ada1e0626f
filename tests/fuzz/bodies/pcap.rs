//! Bytes as a capture: the reader gives frames or says what is wrong, within the bound of a frame's length.

use std::io::Write;

use viscum::port::pcap::{PcapReader, SNAPLEN};

pub fn pcap(data: &[u8]) {
    let mut file = tempfile::NamedTempFile::new_in("/dev/shm").expect("a file in memory");
    file.write_all(data).expect("written to memory");
    let mut reader = match PcapReader::open(file.path()) {
        Ok(reader) => reader,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let mut packets = 0;
    loop {
        match reader.next() {
            Ok(Some((_, frame))) => assert!(frame.len() <= SNAPLEN as usize && frame.len() <= data.len()),
            Ok(None) => break,
            Err(error) => assert!(error.to_string().contains("packet")),
        }
        packets += 1;
        assert!(packets <= data.len(), "more packets than bytes");
    }
    assert!(matches!(reader.next(), Ok(None)), "after the end there is nothing");
}
