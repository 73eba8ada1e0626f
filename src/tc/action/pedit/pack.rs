//! From a value to the 32-bit words that hold it: `pack_key8()` and its siblings of tc/m_pedit.c.

use super::fields::TRAFFIC_CLASS;
use crate::types::PeditKey;

/// `MAX_OFFS`.
pub(super) const KEYS_MAX: usize = 128;

/// All that is known of a key before its value.
pub(super) struct Template {
    pub(super) key: PeditKey,
    /// Bytes of the field.
    pub(super) len: usize,
    /// Bits that are changed.
    pub(super) retain: u32,
    pub(super) may_decrement: bool,
    pub(super) extended: bool,
}

impl Template {
    /// A number of 1, 2 or 4 bytes.
    pub(super) fn number(self, value: u32) -> Result<Vec<PeditKey>, String> {
        let Self { key, retain, .. } = self;
        match self.len {
            1 if key.offset == TRAFFIC_CLASS => {
                let whole = byte(PeditKey { offset: 0, ..key }, value, retain)?;
                Ok(vec![PeditKey { value: whole.value >> 4, mask: whole.mask.rotate_right(4), ..whole }])
            }
            1 => byte(key, value, retain).map(|k| vec![k]),
            2 => half(key, value, retain).map(|k| vec![k]),
            _ => word(key, value, retain).map(|k| vec![k]),
        }
    }

    /// `pack_mac()`: two words, the half first where it comes first.
    pub(super) fn mac(self, mac: [u8; 6]) -> Result<Vec<PeditKey>, String> {
        let key = self.key;
        let [a, b, c, d, e, f] = mac;
        let next = PeditKey { offset: key.offset.wrapping_add(4), ..key };
        if key.offset & 3 == 0 {
            let half = half(next, u16::from_be_bytes([e, f]).into(), u32::MAX)?;
            Ok(vec![word(key, u32::from_be_bytes([a, b, c, d]), u32::MAX)?, half])
        } else {
            let first = half(key, u16::from_be_bytes([a, b]).into(), u32::MAX)?;
            let next = PeditKey { offset: first.offset.wrapping_add(4), ..key };
            Ok(vec![first, word(next, u32::from_be_bytes([c, d, e, f]), u32::MAX)?])
        }
    }

    /// `pack_ipv6()`: four words.
    pub(super) fn ipv6(self, address: u128) -> Result<Vec<PeditKey>, String> {
        (0..4)
            .map(|i| {
                let key = PeditKey { offset: self.key.offset + 4 * i, ..self.key };
                word(key, (address >> (96 - 32 * i)) as u32, u32::MAX)
            })
            .collect()
    }
}

fn byte(key: PeditKey, value: u32, retain: u32) -> Result<PeditKey, String> {
    if value > 0xff || key.mask > 0xff {
        return Err(format!("pack_key8 bad value (val {value:x} mask {:x}", key.mask));
    }
    let index = key.offset.cast_unsigned() & 3;
    let stride = 8 * (3 - index);
    let others = !(0xff << stride);
    let mask = (key.mask | !retain) << stride | others;
    Ok(PeditKey { value: (value & retain) << stride, mask, offset: key.offset & !3, ..key })
}

fn half(key: PeditKey, value: u32, retain: u32) -> Result<PeditKey, String> {
    if value > 0xffff || key.mask > 0xffff {
        return Err("pack_key16 bad value".to_owned());
    }
    let index = key.offset.cast_unsigned() & 3;
    if index == 3 {
        return Err(format!("pack_key16 bad index value {index}"));
    }
    let stride = 8 * (2 - index);
    let others = !(0xffff << stride);
    let mask = (key.mask | !retain) << stride | others;
    Ok(PeditKey { value: (value & retain) << stride, mask, offset: key.offset & !3, ..key })
}

fn word(key: PeditKey, value: u32, retain: u32) -> Result<PeditKey, String> {
    if key.offset & 3 != 0 {
        return Err("pack_key32: 32 bit offsets must begin in 32bit boundaries".to_owned());
    }
    Ok(PeditKey { value: value & retain, mask: key.mask | !retain, ..key })
}
