//! Loading the programs of `code`: descriptors of maps put in, nothing else.

use crate::ebpf::asm::{MapRef, Text};
use crate::sys::bpf::{Error, Kind, Map, Program};

/// Loads a program whose map references are all in `maps`.
///
/// # Errors
/// What the kernel says.
///
/// # Panics
/// If a map is missing.
pub fn load(kind: Kind, suffix: &str, text: &Text, maps: &[(MapRef, &Map)]) -> Result<Program, Error> {
    let descriptor = |wanted: MapRef| {
        let map = maps.iter().find(|(name, _)| *name == wanted).expect("every map of the program is given");
        map.1.raw_fd()
    };
    Program::load(kind, suffix, &text.raw(&descriptor))
}
