//! An array of entries of `u64` words that programs of all CPUs share. It only holds values.

use std::ffi::CStr;
use std::ptr;

use libbpf_sys as sys;

use super::{Error, Map};

/// `BPF_MAP_TYPE_ARRAY`, each value a fixed number of words. Programs that write the same entry on two CPUs at once must use atomic
/// instructions or lose counts.
#[derive(Debug)]
pub struct WordsMap {
    map: Map,
    words: usize,
    entries: u32,
}

impl WordsMap {
    /// All zero.
    ///
    /// # Errors
    /// What the kernel says; E2BIG or ENOMEM for too much.
    pub fn new(name: &CStr, words: usize, entries: u32) -> Result<Self, Error> {
        let map = Map::create(sys::BPF_MAP_TYPE_ARRAY, name, words as u32 * 8, entries)?;
        Ok(Self { map, words, entries })
    }

    /// For programs that refer to the map.
    #[must_use]
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// How many entries there are.
    #[must_use]
    pub const fn entries(&self) -> u32 {
        self.entries
    }

    /// One entry.
    ///
    /// # Errors
    /// What the kernel says: ENOENT beyond the last.
    pub fn get(&self, entry: u32) -> Result<Vec<u64>, Error> {
        let mut value = vec![0u64; self.words];
        // SAFETY: the key is a u32, and the value has the map's length.
        let code = unsafe {
            sys::bpf_map_lookup_elem(self.map.raw_fd(), (&raw const entry).cast(), value.as_mut_ptr().cast())
        };
        if code < 0 { Err(Error::from_code("read a BPF map", code, 0)) } else { Ok(value) }
    }

    /// Overwrites one entry.
    ///
    /// # Errors
    /// What the kernel says: E2BIG beyond the last.
    ///
    /// # Panics
    /// If `value` has not the map's number of words.
    pub fn set(&self, entry: u32, value: &[u64]) -> Result<(), Error> {
        assert_eq!(value.len(), self.words, "an entry has the map's number of words");
        // SAFETY: key and value are valid for the call, and the value has the map's length.
        let code = unsafe {
            sys::bpf_map_update_elem(self.map.raw_fd(), ptr::from_ref(&entry).cast(), value.as_ptr().cast(), 0)
        };
        if code < 0 { Err(Error::from_code("write a BPF map", code, 0)) } else { Ok(()) }
    }
}
