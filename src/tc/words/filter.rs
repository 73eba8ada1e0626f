//! The keys of u32 as words. Actions and classids are the caller's.

use std::fmt::Write as _;

use super::Unsayable;
use crate::rules::{U32Base, U32Descent, U32Key, U32Mark};
use crate::tc::proto;

/// What stands after the word `protocol`.
#[must_use]
pub fn protocol(number: u16) -> String {
    let name = proto::link_name(number);
    if name.starts_with('[') { format!("{number:#06x}") } else { name }
}

/// `match u32 V M at N …`.
///
/// # Errors
/// Keys as tc never makes them: at an odd place, or two at one place.
pub fn u32_keys(keys: &[U32Key]) -> Result<String, Unsayable> {
    let mut out = String::new();
    for (number, key) in keys.iter().enumerate() {
        let same = |other: &U32Key| (other.offset, other.base) == (key.offset, key.base);
        if key.offset % 4 != 0 || keys[..number].iter().any(same) {
            return Err(Unsayable(format!("a u32 key at {}, which is odd, or the second one there", key.offset)));
        }
        let base = match key.base {
            U32Base::Network => "",
            U32Base::NextHeader => "nexthdr+",
        };
        let _ = write!(out, " match u32 {:#x} {:08x} at {base}{}", key.value, key.mask, key.offset);
    }
    Ok(out)
}

/// `match mark V M`.
#[must_use]
pub fn u32_mark(mark: U32Mark) -> String {
    format!(" match mark {:#x} {:#x}", mark.value, mark.mask)
}

/// `offset …` and `hashkey …`.
///
/// # Errors
/// Fields as tc never makes them.
pub fn u32_descent(descent: &U32Descent) -> Result<String, Unsayable> {
    let U32Descent { plus, variable, eat, hash_mask, hash_at } = *descent;
    let mut out = String::new();
    if plus.is_some() || variable.is_some() || eat {
        out.push_str(" offset");
    }
    if let Some(plus) = plus {
        let _ = write!(out, " plus {plus}");
    }
    if let Some(variable) = variable {
        if variable.at % 2 != 0 {
            return Err(Unsayable(format!("a u32 offset at the odd byte {}", variable.at)));
        }
        let _ = write!(out, " at {} mask {:x} shift {}", variable.at, variable.mask, variable.shift);
    }
    out.push_str(if eat { " eat" } else { "" });
    if hash_mask != 0 || hash_at != 0 {
        if hash_at % 4 != 0 {
            return Err(Unsayable(format!("a u32 hashkey at byte {hash_at}")));
        }
        let _ = write!(out, " hashkey mask {hash_mask:08x} at {hash_at}");
    }
    Ok(out)
}
