//! What a UMEM needs besides its bytes: its sockets, and which of them its own descriptor stands for. No chunk changes hands here.

use xsk_rs::umem::Umem;
use xsk_rs::umem::frame::FrameDesc;

/// What a UMEM needs besides the bytes.
#[derive(Debug)]
pub struct Shared {
    pub umem: Umem,
    /// The descriptors as the UMEM made them: payload from its first byte.
    pub origin: Vec<FrameDesc>,
    /// The descriptor of the frame that is in the chunk now.
    pub descs: Vec<FrameDesc>,
    pub fill_len: u32,
    pub completion_len: u32,
    /// The UMEM's own descriptor, which is its first socket's too.
    pub umem_fd: Option<i32>,
    /// The socket that [`Shared::umem_fd`] stands for now: later sockets share the memory through it.
    pub anchor: u16,
    /// Sockets open now: number and descriptor.
    pub sockets: Vec<(u16, i32)>,
    /// Sockets opened so far; numbers them.
    pub opened: u16,
}

impl Shared {
    /// Socket `number` is about to be closed. libxdp closes the UMEM's own descriptor with the UMEM only, so a queue that is bound
    /// through it would stay bound: another socket takes the descriptor over. False: there is no other.
    pub fn let_go(&mut self, number: u16) -> bool {
        self.sockets.retain(|(other, _)| *other != number);
        let (Some(umem_fd), true) = (self.umem_fd, self.anchor == number) else { return true };
        let Some((next, fd)) = self.sockets.first().copied() else { return false };
        let moved = nix::unistd::dup3(fd, umem_fd, nix::fcntl::OFlag::O_CLOEXEC).is_ok();
        if moved {
            self.anchor = next;
        }
        moved
    }
}
