//! Tests of pool, batch, memory port and captures, without privilege.

use std::path::Path;

use super::pcap::{PcapReader, PcapWriter};
use super::*;
use crate::limits::BURST_LEN;

pub(super) fn heap(chunk_count: u32) -> FramePool {
    FramePool::new(PoolConfig { chunk_count, chunk_len: 2048, umem: false }).unwrap()
}

#[test]
fn a_pool_counts_every_frame() {
    let mut pool = heap(2);
    let mut a = pool.alloc_copy(b"abc").unwrap();
    let b = pool.copy_of(&a).unwrap();
    assert_eq!(pool.outstanding(), 2);
    assert_eq!(pool.alloc_copy(b"x").unwrap_err(), DropReason::NoBuffer);
    assert_eq!(pool.alloc_copy(&[0; 2049]).unwrap_err(), DropReason::TooLong);
    pool.data_mut(&mut a)[0] = b'x';
    assert_eq!((pool.data(&a), pool.data(&b)), (&b"xbc"[..], &b"abc"[..]));
    pool.free(a);
    pool.free(b);
    assert_eq!(pool.outstanding(), 0);
}

#[test]
#[should_panic(expected = "the pool that it came from")]
fn a_frame_of_another_pool_is_refused() {
    let frame = heap(1).alloc().unwrap();
    heap(1).free(frame);
}

#[test]
fn a_pool_that_cannot_be_is_refused() {
    for (chunk_count, chunk_len, umem) in [(0, 2048, false), (1, 1, false), (1, 1 << 20, false), (1, 2048, true)] {
        let made = FramePool::new(PoolConfig { chunk_count, chunk_len, umem });
        assert!(matches!(made, Err(PortError::Pool { .. })), "{chunk_count} {chunk_len} {umem}");
    }
    assert!(error::ring("receive", 100).unwrap_err().to_string().contains("try 128"));
}

#[test]
fn a_batch_is_first_in_first_out_and_bounded() {
    let mut pool = heap(BURST_LEN as u32 + 1);
    let mut batch = Batch::new();
    for round in 0..3_u8 {
        for n in 0..BURST_LEN as u8 {
            batch.push(pool.alloc_copy(&[round, n]).unwrap()).unwrap();
        }
        let more = pool.alloc().unwrap();
        pool.free(batch.push(more).unwrap_err());
        for n in 0..BURST_LEN as u8 {
            let frame = batch.pop().unwrap();
            assert_eq!(pool.data(&frame), [round, n]);
            pool.free(frame);
        }
        assert!(batch.is_empty() && batch.pop().is_none());
    }
    assert_eq!(pool.outstanding(), 0);
}

#[test]
fn a_memory_port_gives_and_takes() {
    let mem = Mem::new();
    let (mut pool, mut batch, mut port) = (heap(8), Batch::new(), Port::Mem(mem.clone()));
    mem.push(b"in");
    mem.push(&[0; 4000]);
    port.receive(&mut pool, &mut batch);
    let frame = batch.pop().unwrap();
    port.transmit(&mut pool, frame).unwrap();
    port.flush(&mut pool);
    assert_eq!(mem.pop().unwrap(), b"in");
    let stats = port.stats();
    assert_eq!((stats.rx_frames, stats.tx_frames, stats.dropped(DropReason::TooLong)), (1, 1, 1));
    port.drain(&mut pool);
    assert_eq!(pool.outstanding(), 0);
}

#[test]
fn a_capture_is_written_as_it_was_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/matchall/in.pcap");
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy.pcap");
    let mut reader = PcapReader::open(&golden).unwrap();
    let mut writer = PcapWriter::create(&copy).unwrap();
    while let Some((time, frame)) = reader.next().unwrap() {
        writer.write(time.as_secs() as u32, time.subsec_micros(), frame).unwrap();
    }
    writer.finish().unwrap();
    assert_eq!(std::fs::read(&golden).unwrap(), std::fs::read(&copy).unwrap());
}

/// A capture's header and one record of 4 bytes at 1.5 s, in the byte order and unit that `magic` says.
fn capture(big: bool, magic: u32, link: u32, fraction: u32, len: u32) -> Vec<u8> {
    let word = |w: u32| if big { w.to_be_bytes() } else { w.to_le_bytes() };
    let version = if big { word(0x0002_0004) } else { word(0x0004_0002) };
    let mut bytes = [word(magic), version].concat();
    for w in [0, 0, 65535, link, 1, fraction, len, len] {
        bytes.extend(word(w));
    }
    bytes.extend([1, 2, 3, 4]);
    bytes
}

#[test]
fn captures_of_all_kinds_are_read_and_others_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pcap");
    for big in [false, true] {
        for (magic, fraction) in [(0xa1b2_c3d4, 500_000), (0xa1b2_3c4d, 500_000_000)] {
            std::fs::write(&path, capture(big, magic, 1, fraction, 4)).unwrap();
            let mut reader = PcapReader::open(&path).unwrap();
            let (time, frame) = reader.next().unwrap().unwrap();
            assert_eq!((time.as_millis(), frame), (1500, &[1, 2, 3, 4][..]));
            assert!(reader.next().unwrap().is_none());
        }
    }
    std::fs::write(&path, capture(false, 0xa1b2_c3d4, 113, 0, 4)).unwrap();
    assert!(PcapReader::open(&path).is_err());
    std::fs::write(&path, capture(false, 0x0a0d_0d0a, 1, 0, 4)).unwrap();
    assert!(PcapReader::open(&path).is_err());
    for len in [5, u32::MAX] {
        std::fs::write(&path, capture(false, 0xa1b2_c3d4, 1, 0, len)).unwrap();
        assert!(PcapReader::open(&path).unwrap().next().is_err());
    }
    assert!(PcapReader::open(&dir.path().join("none")).is_err());
}
