//! Random expressions for tests, with values taken from a frame so that they hold now and then. It checks nothing.

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use super::{
    Ematch, EmatchAsk, EmatchCmp, EmatchLayer, EmatchMeta, EmatchNbyte, EmatchOperand, EmatchTerm, EmatchThen,
    EmatchU32, EmatchWidth, MetaField, MetaObject,
};

/// Where a frame's IP payload mostly is.
const TRANSPORT: usize = 34;

fn pick<T: Clone>(rng: &mut SmallRng, from: &[T]) -> T {
    from.choose(rng).unwrap().clone()
}

/// An expression about frames like `sample`, which has no outer tag.
pub fn terms(rng: &mut SmallRng, sample: &[u8]) -> Vec<EmatchTerm> {
    sequence(rng, sample, 0)
}

fn sequence(rng: &mut SmallRng, sample: &[u8], depth: usize) -> Vec<EmatchTerm> {
    let count = pick(rng, &[1, 1, 1, 2, 2, 3]);
    let mut terms: Vec<EmatchTerm> = (0..count)
        .map(|_| EmatchTerm {
            inverted: rng.gen_bool(0.3),
            ask: if depth < 3 && rng.gen_bool(0.2) {
                EmatchAsk::Group(sequence(rng, sample, depth + 1))
            } else {
                EmatchAsk::One(one(rng, sample))
            },
            then: pick(rng, &[EmatchThen::And, EmatchThen::Or]),
        })
        .collect();
    terms[count - 1].then = EmatchThen::End;
    terms
}

fn one(rng: &mut SmallRng, sample: &[u8]) -> Ematch {
    match rng.gen_range(0..8) {
        0..=2 => Ematch::Cmp(cmp(rng, sample)),
        3 | 4 => {
            let offset = pick(rng, &[0, 4, 8, 12, 16, 20, 24, -4, -12, -14, -16, 6, 33, 60, i32::MAX, i32::MIN]);
            let offset = if rng.gen_bool(0.8) { offset } else { rng.gen_range(-20..70) };
            let mask = pick(rng, &[u32::MAX, 0xff, 0xffff_0000, 0x00ff_0000, 0]);
            let byte = |at: i64| usize::try_from(at).ok().and_then(|at| sample.get(at)).copied().unwrap_or(0);
            let value = u32::from_be_bytes([14, 15, 16, 17].map(|at| byte(i64::from(offset) + at))) & mask;
            Ematch::U32(EmatchU32 { value, mask, offset, next_header: rng.gen_bool(0.2) })
        }
        5 => {
            let (layer, start) = layer(rng);
            let offset = rng.gen_range(0..30);
            let len = rng.gen_range(1..8);
            let mut needle = sample.get(start + offset..).unwrap_or(&[]).iter().take(len).copied().collect::<Vec<_>>();
            needle.resize(len, 0);
            Ematch::Nbyte(EmatchNbyte { needle, offset: offset as u16, layer })
        }
        _ => Ematch::Meta(meta(rng, sample)),
    }
}

fn layer(rng: &mut SmallRng) -> (EmatchLayer, usize) {
    pick(
        rng,
        &[
            (EmatchLayer::Link, 0),
            (EmatchLayer::Network, 14),
            (EmatchLayer::Network, 14),
            (EmatchLayer::Transport, TRANSPORT),
        ],
    )
}

fn cmp(rng: &mut SmallRng, sample: &[u8]) -> EmatchCmp {
    let width = pick(rng, &[EmatchWidth::U8, EmatchWidth::U16, EmatchWidth::U32]);
    let (layer, start) = layer(rng);
    let offset = if rng.gen_bool(0.9) { rng.gen_range(0..30) } else { rng.gen_range(0..=u16::MAX) };
    let bytes = sample.get(start + usize::from(offset)..).unwrap_or(&[]);
    let value = bytes.iter().take(width as usize).fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
    let mask = pick(rng, &[0, 0, u32::MAX, 0xff, 0xff00, 0x0f0f]);
    let (trans, operand) = (rng.gen_bool(0.1), operand(rng));
    let value = if mask == 0 { value } else { value & mask };
    let value = if rng.gen_bool(0.8) { value } else { pick(rng, &[0, 1, 100, value.wrapping_add(1), u32::MAX]) };
    EmatchCmp { width, offset, layer, mask, trans, operand, value }
}

fn operand(rng: &mut SmallRng) -> EmatchOperand {
    pick(rng, &[EmatchOperand::Eq, EmatchOperand::Eq, EmatchOperand::Gt, EmatchOperand::Lt])
}

fn meta(rng: &mut SmallRng, sample: &[u8]) -> EmatchMeta {
    if rng.gen_bool(0.2) {
        return EmatchMeta { left: text(rng), operand: operand(rng), right: text(rng) };
    }
    let (left, right) = (number(rng, sample), number(rng, sample));
    EmatchMeta { left, operand: operand(rng), right }
}

fn text(rng: &mut SmallRng) -> MetaObject {
    if rng.gen_bool(0.5) {
        return MetaObject::Device { shift: pick(rng, &[0, 0, 1, 4, 9]) };
    }
    MetaObject::Text(pick(rng, &["eth0", "eth", "eth1", "veth-h", "v0", "x"]).as_bytes().to_vec())
}

fn number(rng: &mut SmallRng, sample: &[u8]) -> MetaObject {
    use MetaField::{MacLen, Mark, PacketLen, PacketType, Priority, Protocol, Random, Vlan};
    if rng.gen_bool(0.45) {
        let len = sample.len().saturating_sub(14) as u32;
        return MetaObject::Number(pick(rng, &[0, 1, 3, 5, 8, 14, 40, len, 129, u32::MAX]));
    }
    MetaObject::Field {
        field: pick(rng, &[PacketLen, PacketLen, Protocol, Mark, Mark, Priority, MacLen, PacketType, Vlan, Random]),
        shift: pick(rng, &[0, 0, 0, 1, 3, 33, 64, 255]),
        mask: pick(rng, &[0, 0, 0xff, 0xf, u32::MAX]),
    }
}
