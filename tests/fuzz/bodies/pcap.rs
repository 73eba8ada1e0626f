//! Bytes as a capture: the reader gives frames or says what is wrong, within the bound of a frame's length.

use std::io::Cursor;
use std::path::Path;

use viscum::port::pcap::{PcapReader, SNAPLEN};

pub fn pcap(data: &[u8]) {
    let mut reader = match PcapReader::from_reader(Cursor::new(data), Path::new("fuzz.pcap")) {
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
