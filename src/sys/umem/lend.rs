//! Chunks on their way through a socket's rings: lent to the kernel and taken back. It makes no token that nobody gave up.

use xsk_rs::umem::frame::FrameDesc;

use super::super::xsk::Closed;
use super::{Chunk, HEADROOM_LEN, Place, Region};

/// What sockets do with chunks.
impl Region {
    /// Takes a free chunk's descriptor for the fill ring of socket `number`.
    pub(in crate::sys) fn lend_to_fill(&mut self, number: u16) -> Option<FrameDesc> {
        let index = *self.free.last()? as usize;
        let desc = self.shared.as_ref()?.origin[index];
        self.free.pop();
        self.places[index] = Place::Fill(number);
        Some(desc)
    }

    /// Turns a token into a descriptor for the tx ring of socket `number`; the token comes back if this memory is no UMEM.
    pub(in crate::sys) fn lend_to_transmit(&mut self, chunk: Chunk, number: u16) -> Result<FrameDesc, Chunk> {
        self.check(&chunk);
        let index = chunk.index as usize;
        let Some(shared) = &mut self.shared else { return Err(chunk) };
        let mut desc = shared.descs[index];
        // SAFETY: the descriptor is of this UMEM; the token, which is the only right to the chunk, is owned here.
        unsafe { shared.umem.data_mut(&mut desc) }.cursor().set_pos(chunk.len as usize);
        self.places[index] = Place::Transmit(number);
        self.held -= 1;
        Ok(desc)
    }

    /// The token of a frame that socket `number` received, or nothing if the descriptor makes no sense (then its chunk stays the
    /// kernel's, or is free again if only the frame in it makes no sense).
    pub(in crate::sys) fn received(&mut self, desc: FrameDesc, number: u16) -> Option<Chunk> {
        let (index, start) = self.locate(desc)?;
        if self.places[index] != Place::Fill(number) {
            return None;
        }
        let len = desc.lengths().data();
        let start = start.filter(|start| start + len <= self.payload_len);
        let (Some(start), Some(shared)) = (start, &mut self.shared) else {
            self.release(index);
            return None;
        };
        shared.descs[index] = desc;
        self.places[index] = Place::Held;
        self.held += 1;
        Some(Chunk { region: self.id, index: index as u32, start: start as u32, len: len as u32 })
    }

    /// Frees the chunk of a frame that socket `number` has transmitted. False: it was not one.
    pub(in crate::sys) fn transmitted(&mut self, desc: FrameDesc, number: u16) -> bool {
        match self.locate(desc) {
            Some((index, _)) if self.places[index] == Place::Transmit(number) => {
                self.release(index);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Socket `number` is about to be closed. True: then the kernel forgets it; false: only when the region goes.
    pub(in crate::sys) fn let_go(&mut self, number: u16) -> bool {
        self.shared.as_mut().is_none_or(|shared| shared.let_go(number))
    }

    /// A socket is closed. If the kernel has surely forgotten it, chunks to receive into are free again; those that it may still be
    /// transmitting from never are.
    pub fn closed(&mut self, socket: Closed) {
        assert!(socket.region == self.id, "a socket is closed with the region that it was opened on");
        let Closed { number, forgotten, .. } = socket;
        for index in 0..self.places.len() {
            if self.places[index] == Place::Transmit(number) {
                self.places[index] = Place::Lost;
            } else if self.places[index] == Place::Fill(number) {
                if forgotten {
                    self.release(index);
                } else {
                    self.places[index] = Place::Lost;
                }
            }
        }
    }

    /// Chunk and offset into its payload (none: before the payload's start) that a descriptor points to.
    fn locate(&self, desc: FrameDesc) -> Option<(usize, Option<usize>)> {
        let chunk_len = self.payload_len + HEADROOM_LEN;
        let index = desc.addr() / chunk_len;
        (index < self.places.len()).then(|| (index, (desc.addr() % chunk_len).checked_sub(HEADROOM_LEN)))
    }
}
