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
    let mut insns = text.insns.clone();
    for (at, wanted) in &text.maps {
        let map = maps.iter().find(|(name, _)| name == wanted).expect("every map of the program is given");
        insns[*at].imm = map.1.raw_fd();
    }
    let raw: Vec<u64> = insns.into_iter().map(crate::ebpf::asm::Insn::raw).collect();
    Program::load(kind, suffix, &raw)
}
