//! BPF maps: arrays, per-CPU blocks of counters, AF_XDP socket maps. They only hold values.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use libbpf_sys as sys;

use super::Error;

/// A map's descriptor; the map lives as long as this or a program that uses it.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
}

impl Map {
    pub(super) fn create(kind: u32, name: &CStr, value_len: u32, entries: u32) -> Result<Self, Error> {
        Self::create_keyed(kind, name, 4, value_len, entries)
    }

    fn create_keyed(kind: u32, name: &CStr, key_len: u32, value_len: u32, entries: u32) -> Result<Self, Error> {
        super::quiet();
        // SAFETY: the name is a terminated string that outlives the call; null options are allowed.
        let fd = unsafe { sys::bpf_map_create(kind, name.as_ptr(), key_len, value_len, entries, ptr::null()) };
        if fd < 0 {
            return Err(Error::from_code("create a BPF map", fd, 0));
        }
        // SAFETY: the call returned a new descriptor that nobody else owns.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// An array of `u64`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn array(name: &CStr, entries: u32) -> Result<Self, Error> {
        Self::create(sys::BPF_MAP_TYPE_ARRAY, name, 8, entries)
    }

    /// The descriptor, for programs that refer to the map.
    #[must_use]
    pub fn raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    fn update<T>(&self, key: u32, value: &T) -> i32 {
        // SAFETY: key and value are valid for the call; each caller's T has the map's value length.
        unsafe { sys::bpf_map_update_elem(self.raw_fd(), (&raw const key).cast(), ptr::from_ref(value).cast(), 0) }
    }
}

/// A per-CPU array: each entry is a block of `u64` words, one copy for each possible CPU.
#[derive(Debug)]
pub struct PerCpuMap {
    map: Map,
    block_words: usize,
    blocks: u32,
    cpus: usize,
}

impl PerCpuMap {
    /// All zero.
    ///
    /// # Errors
    /// What the kernel says; E2BIG or ENOMEM for too much.
    pub fn new(name: &CStr, block_words: usize, blocks: u32) -> Result<Self, Error> {
        // SAFETY: it reads a file of sysfs and returns a number.
        let cpus = unsafe { sys::libbpf_num_possible_cpus() };
        let cpus = usize::try_from(cpus).map_err(|_| Error::from_code("count the CPUs", cpus, 0))?;
        let map = Map::create(sys::BPF_MAP_TYPE_PERCPU_ARRAY, name, block_words as u32 * 8, blocks)?;
        Ok(Self { map, block_words, blocks, cpus })
    }

    /// For programs that refer to the map.
    #[must_use]
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// Calls `each` with (index of the word over all blocks, its value on one CPU), for every word and CPU.
    ///
    /// # Errors
    /// What the kernel says; not expected for an array.
    pub fn read(&self, each: &mut dyn FnMut(usize, u64)) -> Result<(), Error> {
        // Values of a per-CPU map are rounded up to 8 bytes each: they are u64 here.
        let mut values = vec![0u64; self.cpus * self.block_words];
        for block in 0..self.blocks {
            // SAFETY: key is a u32; values has room for one block of each possible CPU, as the kernel writes.
            let code = unsafe {
                sys::bpf_map_lookup_elem(self.map.raw_fd(), (&raw const block).cast(), values.as_mut_ptr().cast())
            };
            if code < 0 {
                return Err(Error::from_code("read a BPF map", code, 0));
            }
            for cpu in values.chunks_exact(self.block_words) {
                for (index, value) in cpu.iter().enumerate() {
                    each(block as usize * self.block_words + index, *value);
                }
            }
        }
        Ok(())
    }
}

/// AF_XDP sockets by queue number.
#[derive(Debug)]
pub struct SocketMap {
    map: Map,
}

impl SocketMap {
    /// No sockets yet, room for queues below `queues`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(name: &CStr, queues: u32) -> Result<Self, Error> {
        Ok(Self { map: Map::create(sys::BPF_MAP_TYPE_XSKMAP, name, 4, queues)? })
    }

    /// For programs that refer to the map.
    #[must_use]
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// From now on frames of this queue go to this socket, which must be bound to it.
    ///
    /// # Errors
    /// What the kernel says: no socket, no such queue.
    pub fn set(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), Error> {
        let code = self.map.update(queue, &socket.as_raw_fd());
        if code < 0 { Err(Error::from_code("put an AF_XDP socket into the map", code, 0)) } else { Ok(()) }
    }

    /// From now on frames of this queue pass to the kernel.
    pub fn clear(&self, queue: u32) {
        // SAFETY: the key is a u32 that outlives the call. An empty entry gives ENOENT: it is clear then.
        unsafe { sys::bpf_map_delete_elem(self.map.raw_fd(), (&raw const queue).cast()) };
    }
}

/// A hash map from words to four words.
#[derive(Debug)]
pub struct WordMap {
    map: Map,
    key_words: usize,
}

impl WordMap {
    /// Empty, with room for so many entries.
    ///
    /// # Errors
    /// What the kernel says; E2BIG or ENOMEM for too much.
    pub fn new(name: &CStr, key_words: usize, entries: u32) -> Result<Self, Error> {
        let map = Map::create_keyed(sys::BPF_MAP_TYPE_HASH, name, key_words as u32 * 4, 16, entries)?;
        Ok(Self { map, key_words })
    }

    /// For programs that refer to the map.
    #[must_use]
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// Puts an entry in, in the place of one with the same key.
    ///
    /// # Errors
    /// What the kernel says; E2BIG if it is full.
    ///
    /// # Panics
    /// If the key is not as long as the map's.
    pub fn set(&self, key: &[u32], value: &[u32; 4]) -> Result<(), Error> {
        assert_eq!(key.len(), self.key_words, "a key of this map");
        // SAFETY: key and value have the lengths of the map and are valid for the call.
        let code =
            unsafe { sys::bpf_map_update_elem(self.map.raw_fd(), key.as_ptr().cast(), value.as_ptr().cast(), 0) };
        if code < 0 { Err(Error::from_code("fill the map of rules", code, 0)) } else { Ok(()) }
    }
}

/// Devices that programs send to, by a number of the program.
#[derive(Debug)]
pub struct DeviceMap {
    map: Map,
    xdp: bool,
}

impl DeviceMap {
    /// For XDP: entries hold on to the device itself, in whatever namespace it is.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn for_xdp(name: &CStr, devices: u32) -> Result<Self, Error> {
        Ok(Self { map: Map::create(sys::BPF_MAP_TYPE_DEVMAP, name, 4, devices)?, xdp: true })
    }

    /// For tc: entries are numbers of devices.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn for_tc(name: &CStr, devices: u32) -> Result<Self, Error> {
        Ok(Self { map: Map::create(sys::BPF_MAP_TYPE_ARRAY, name, 4, devices)?, xdp: false })
    }

    /// For programs that refer to the map.
    #[must_use]
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// From now on this number is the device with this index of the calling thread's namespace; 0: none, it is down.
    ///
    /// # Errors
    /// What the kernel says; ENODEV without such a device.
    pub fn set(&self, number: u32, ifindex: u32) -> Result<(), Error> {
        if ifindex == 0 && self.xdp {
            // SAFETY: the key is a u32 that outlives the call. An empty entry gives ENOENT: it is clear then.
            unsafe { sys::bpf_map_delete_elem(self.map.raw_fd(), (&raw const number).cast()) };
            return Ok(());
        }
        let code = self.map.update(number, &ifindex);
        if code < 0 { Err(Error::from_code("put a device into the map", code, ifindex)) } else { Ok(()) }
    }
}
