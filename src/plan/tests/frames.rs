//! Random frames that look like those of the domain, whole, cut and mangled.

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

/// Addresses that rules and frames share, so that they meet.
pub const MACS: [[u8; 6]; 6] = [
    [0x5c, 0xb9, 0x01, 0xc3, 0xd9, 0x38],
    [0x70, 0x11, 0, 0, 0, 0],
    [0x70, 0, 0, 0, 0, 0],
    [0xe4, 0xd3, 0xf1, 0xb1, 0xb4, 0x83],
    [0xff; 6],
    [0x01, 0, 0x5e, 0, 0, 1],
];
const PORTS: [u16; 6] = [12345, 57, 313, 80, 443, 0];
pub const ADDRESSES: [[u8; 4]; 4] = [[198, 18, 0, 1], [203, 0, 113, 7], [150, 0, 0, 1], [198, 51, 100, 9]];

pub fn pick<T: Copy>(rng: &mut SmallRng, from: &[T]) -> T {
    *from.choose(rng).unwrap()
}

/// A whole frame without a VLAN tag (three in four), or with up to three.
pub fn whole(rng: &mut SmallRng) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(pick(rng, &MACS));
    frame.extend(pick(rng, &MACS));
    if rng.gen_bool(0.25) {
        for _ in 0..rng.gen_range(1..=3) {
            frame.extend(pick(rng, &[0x8100u16, 0x8100, 0x88a8, 0x9100]).to_be_bytes());
            frame.extend(pick(rng, &[0u16, 100, 0x6064]).to_be_bytes());
        }
    }
    match rng.gen_range(0..20) {
        0..=11 => {
            frame.extend([0x08, 0x00]);
            ipv4(rng, &mut frame);
        }
        12..=15 => {
            frame.extend([0x86, 0xdd]);
            ipv6(rng, &mut frame);
        }
        16 if rng.gen_bool(0.5) => arp(rng, &mut frame),
        16 => nested(rng, &mut frame),
        17 => {
            frame.extend(rng.gen_range(0u16..0x600).to_be_bytes());
            frame.extend(pick(rng, &[[0xff, 0xff], [0x42, 0x42], [0xaa, 0xaa]]));
            payload(rng, &mut frame, 30);
        }
        18 => {
            frame.extend(rng.r#gen::<u16>().to_be_bytes());
            payload(rng, &mut frame, 40);
        }
        _ => {
            // Zeros look like a chain of IPv6 options, among others.
            frame.extend(pick(rng, &[[0x08, 0x00], [0x86, 0xdd]]));
            frame.resize(frame.len() + rng.gen_range(0..220), 0);
        }
    }
    frame
}

fn arp(rng: &mut SmallRng, frame: &mut Vec<u8>) {
    frame.extend(pick(rng, &[[0x08, 0x06], [0x80, 0x35]]));
    frame.extend(pick(rng, &[[0, 1, 8, 0, 6, 4], [0, 1, 8, 0, 6, 4], [0, 6, 8, 0, 6, 4], [0, 1, 8, 0, 6, 16]]));
    frame.extend([pick(rng, &[0, 0, 0, 1]), rng.gen_range(0..4)]);
    for _ in 0..2 {
        frame.extend(pick(rng, &MACS));
        frame.extend(pick(rng, &ADDRESSES));
    }
}

/// Headers that the dissector looks behind: MPLS, PPPoE, HSR, batman-adv.
fn nested(rng: &mut SmallRng, frame: &mut Vec<u8>) {
    match rng.gen_range(0..6) {
        0..=2 => {
            frame.extend(pick(rng, &[[0x88, 0x47], [0x88, 0x47], [0x88, 0x48]]));
            labels(rng, frame);
        }
        3 => {
            frame.extend([0x88, 0x64, pick(rng, &[0x11, 0x11, 0x11, 0x21]), pick(rng, &[0, 0, 0, 7]), 0]);
            frame.extend([rng.gen_range(5..7), 0, 40]);
            let proto = pick(rng, &[0x0021u16, 0x0021, 0x0057, 0x0281, 0xc021, 0x0020]);
            frame.extend(proto.to_be_bytes());
            match proto {
                0x0021 => ipv4(rng, frame),
                0x0057 => ipv6(rng, frame),
                _ => labels(rng, frame),
            }
        }
        4 => {
            frame.extend(pick(rng, &[[0x89, 0x2f], [0x88, 0xfb]]));
            frame.extend([0, 16, 0, 1]);
            inner(rng, frame);
        }
        _ => {
            frame.extend([0x43, 0x05, 0x40, pick(rng, &[15, 15, 14]), 50, 1, 0, 0, 0, 0, 0, 0]);
            frame.extend(pick(rng, &MACS));
            frame.extend(pick(rng, &MACS));
            inner(rng, frame);
        }
    }
}

/// A type and what is behind it: IP, or a tag and IP.
fn inner(rng: &mut SmallRng, frame: &mut Vec<u8>) {
    if rng.gen_bool(0.3) {
        frame.extend([0x81, 0, 0, 100]);
    }
    frame.extend([0x08, 0x00]);
    ipv4(rng, frame);
}

/// A label stack, mostly with an end.
fn labels(rng: &mut SmallRng, frame: &mut Vec<u8>) {
    for _ in 0..pick(rng, &[0, 1, 2, 6, 20]) {
        frame.extend([0, 1, pick(rng, &[0, 2]), 64]);
    }
    frame.extend([0, 1, 1, pick(rng, &[1, 64])]);
    payload(rng, frame, 20);
}

/// A frame for a test: one of `samples` or a new one, whole or not.
pub fn frame(rng: &mut SmallRng, samples: &[Vec<u8>]) -> Vec<u8> {
    let mut frame = if rng.gen_bool(0.6) { samples.choose(rng).unwrap().clone() } else { whole(rng) };
    match rng.gen_range(0..10) {
        0 => frame.truncate(rng.gen_range(0..=frame.len())),
        1 => frame.truncate(rng.gen_range(10..=60)),
        2 => {
            for _ in 0..rng.gen_range(1..4) {
                let at = rng.gen_range(0..frame.len());
                frame[at] = rng.r#gen();
            }
        }
        3 => {
            let len = frame.len().max(60);
            frame.resize(len, 0);
        }
        _ => {}
    }
    frame
}

fn payload(rng: &mut SmallRng, frame: &mut Vec<u8>, len_max: usize) {
    for _ in 0..rng.gen_range(0..=len_max) {
        frame.push(rng.r#gen());
    }
}

fn ipv4(rng: &mut SmallRng, frame: &mut Vec<u8>) {
    let words = if rng.gen_bool(0.8) { 5 } else { rng.gen_range(3..=8) };
    let fragment: u16 = pick(rng, &[0, 0, 0x4000, 0x4000, 0x2000, 0x2010, 0x0010]);
    let proto = pick(rng, &[6u8, 6, 6, 17, 17, 1, 1, 4, 50, 51, 58, 132, 137, 0]);
    let start = frame.len();
    frame.extend([0x40 | words, rng.gen_range(0..8), 0, 0]);
    frame.extend(rng.r#gen::<u16>().to_be_bytes());
    frame.extend(fragment.to_be_bytes());
    frame.extend([pick(rng, &[64, 64, 1]), proto]);
    frame.extend(pick(rng, &[0u16, 0xffff, 0x1234, 4, 5]).to_be_bytes());
    frame.extend(pick(rng, &ADDRESSES));
    frame.extend(pick(rng, &ADDRESSES));
    for _ in 5..words {
        frame.extend([1, 1, 1, 0]);
    }
    transport(rng, frame, proto);
    let len = (frame.len() - start) as u16;
    frame[start + 2..start + 4].copy_from_slice(&len.to_be_bytes());
}

fn ipv6(rng: &mut SmallRng, frame: &mut Vec<u8>) {
    let proto = pick(rng, &[6u8, 6, 17, 58, 58, 51, 137]);
    let options: Vec<u8> =
        (0..pick(rng, &[0, 0, 0, 1, 2, 14, 15, 16, 17, 18])).map(|_| pick(rng, &[0, 43, 60, 60, 0, 44])).collect();
    frame.extend([0x60 | rng.gen_range(0..2), rng.r#gen(), 0, 0, 0, 60]);
    frame.extend([options.first().copied().unwrap_or(proto), 64]);
    for _ in 0..2 {
        frame.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, rng.gen_range(1..4)]);
    }
    for index in 0..options.len() {
        let next = options.get(index + 1).copied().unwrap_or(proto);
        let words = u8::from(options[index] != 44 && rng.gen_bool(0.1));
        frame.extend([next, words, 0, pick(rng, &[0, 1, 8]), 0, 0, 0, 0]);
        frame.resize(frame.len() + usize::from(words) * 8, 0);
    }
    transport(rng, frame, proto);
}

fn transport(rng: &mut SmallRng, frame: &mut Vec<u8>, proto: u8) {
    if matches!(proto, 1 | 58) {
        frame.extend([pick(rng, &[0, 8, 128, 3]), pick(rng, &[0, 1]), 0, 0, 0, 1]);
        return payload(rng, frame, 4);
    }
    if proto == 137 {
        return labels(rng, frame);
    }
    let (source, destination) = (pick(rng, &PORTS), pick(rng, &PORTS));
    frame.extend(source.to_be_bytes());
    frame.extend(destination.to_be_bytes());
    if proto == 6 {
        frame.extend([0, 0, 0, 1, 0, 0, 0, 2]);
        frame.extend([pick(rng, &[0x50, 0x50, 0x50, 0x80, 0x40, 0x51]), pick(rng, &[0x02, 0x10, 0x12, 0x18, 0x06])]);
        frame.extend([0x10, 0, 0, 0, 0, 0]);
    } else {
        frame.extend([0, 8, 0, 0]);
    }
    payload(rng, frame, 24);
}
