//! A netlink socket of the calling thread's namespace: requests, dumps, and what the kernel says to them. It reads no attribute.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkBuffer,
};
use netlink_sys::{SocketAddr, protocols::NETLINK_ROUTE};

use super::attr::Attrs;

/// Types of messages, include/uapi/linux/rtnetlink.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Message {
    NewQdisc = 36,
    DeleteQdisc = 37,
    GetQdisc = 38,
    NewFilter = 44,
    DeleteFilter = 45,
    GetFilter = 46,
    NewAction = 48,
    GetAction = 50,
    NewChain = 100,
    GetChain = 102,
}

const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Length of a message's header, in bytes.
const HEADER_LEN: usize = 16;
/// More than the kernel puts into one answer of a dump (32 KiB).
const ANSWER_LEN_MAX: usize = 1 << 16;
/// `NLMSGERR_ATTR_MSG`.
const SAID: u16 = 1;

/// Why the kernel did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket itself.
    #[error("{what}: {source}; a netlink socket takes a kernel with rtnetlink, and no more than the usual rights")]
    Socket {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The kernel's answer.
    #[error("the kernel refused {what}: {source}{}", .said.as_ref().map(|s| format!(" ({s})")).unwrap_or_default())]
    Refused {
        /// What was asked.
        what: String,
        /// Its number.
        source: io::Error,
        /// Its words, if it said any.
        said: Option<String>,
    },
    /// What cannot be put into a message, or cannot be understood in one.
    #[error(transparent)]
    Lacking(#[from] super::Lacking),
    /// The namespace.
    #[error(transparent)]
    Host(#[from] crate::host::HostError),
    /// It changed again and again while it was read.
    #[error("the kernel's tc state of {what} changes while it is read; stop what changes it, and try again")]
    Unsteady {
        /// Whose state.
        what: String,
    },
}

impl NetlinkError {
    /// The kernel's number for it, as in errno(3).
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } | Self::Socket { source, .. } => source.raw_os_error(),
            Self::Lacking(_) | Self::Host(_) | Self::Unsteady { .. } => None,
        }
    }

    /// The kernel's words for it.
    #[must_use]
    pub fn said(&self) -> Option<&str> {
        match self {
            Self::Refused { said, .. } => said.as_deref(),
            Self::Socket { .. } | Self::Lacking(_) | Self::Host(_) | Self::Unsteady { .. } => None,
        }
    }
}

/// A socket that speaks rtnetlink.
#[derive(Debug)]
pub struct Socket {
    inner: netlink_sys::Socket,
    sequence: u32,
}

impl Socket {
    /// A socket of the calling thread's network namespace.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`].
    pub fn new() -> Result<Self, NetlinkError> {
        let failed = |what| move |source| NetlinkError::Socket { what, source };
        let mut inner = netlink_sys::Socket::new(NETLINK_ROUTE).map_err(failed("opening a netlink socket"))?;
        inner.bind_auto().map_err(failed("binding a netlink socket"))?;
        inner.connect(&SocketAddr::new(0, 0)).map_err(failed("connecting a netlink socket"))?;
        // The kernel's words, and not the request again.
        inner.set_ext_ack(true).map_err(failed("asking for the kernel's words"))?;
        inner.set_cap_ack(true).map_err(failed("asking for short answers"))?;
        Ok(Self { inner, sequence: 0 })
    }

    /// All answers to a question, without their headers.
    pub(super) fn dump(&mut self, kind: Message, payload: &[u8], what: &str) -> Result<Vec<Vec<u8>>, NetlinkError> {
        self.send(kind, NLM_F_DUMP, payload)?;
        let mut answers = Vec::new();
        while self.receive(what, &mut answers)? {}
        Ok(answers)
    }

    /// The same, and false if the kernel did not come to the end of its list (`EMSGSIZE`).
    pub(super) fn dump_some(
        &mut self,
        kind: Message,
        payload: &[u8],
        what: &str,
    ) -> Result<(Vec<Vec<u8>>, bool), NetlinkError> {
        self.send(kind, NLM_F_DUMP, payload)?;
        let mut answers = Vec::new();
        loop {
            match self.receive(what, &mut answers) {
                Ok(true) => {}
                Ok(false) => return Ok((answers, true)),
                Err(error) if error.errno() == Some(nix::libc::EMSGSIZE) => return Ok((answers, false)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks for one change, and waits until it is done. With `create` it must not be there yet.
    pub(super) fn change(
        &mut self,
        kind: Message,
        create: bool,
        payload: &[u8],
        what: &str,
    ) -> Result<(), NetlinkError> {
        let flags = if create { NLM_F_CREATE | NLM_F_EXCL } else { 0 };
        self.send(kind, flags | NLM_F_ACK, payload)?;
        while self.receive(what, &mut Vec::new())? {}
        Ok(())
    }

    fn send(&mut self, kind: Message, flags: u16, payload: &[u8]) -> Result<(), NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = vec![0; HEADER_LEN + payload.len()];
        let mut message = NetlinkBuffer::new(&mut bytes[..]);
        message.set_length((HEADER_LEN + payload.len()) as u32);
        message.set_message_type(kind as u16);
        message.set_flags(NLM_F_REQUEST | flags);
        message.set_sequence_number(self.sequence);
        message.payload_mut().copy_from_slice(payload);
        let failed = |source| NetlinkError::Socket { what: "sending to the kernel", source };
        self.inner.send(&bytes, 0).map(drop).map_err(failed)
    }

    /// One datagram; false: it was the last.
    fn receive(&mut self, what: &str, answers: &mut Vec<Vec<u8>>) -> Result<bool, NetlinkError> {
        let mut bytes = Vec::with_capacity(ANSWER_LEN_MAX);
        let failed = |source| NetlinkError::Socket { what: "hearing from the kernel", source };
        self.inner.recv(&mut bytes, 0).map_err(failed)?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let cut = |e| super::Lacking(format!("the kernel's answer to {what} is cut: {e}"));
            let message = NetlinkBuffer::new_checked(rest).map_err(cut)?;
            let (kind, flags, sequence) = (message.message_type(), message.flags(), message.sequence_number());
            let payload = message.payload();
            rest = rest.get((message.length() as usize).next_multiple_of(4)..).unwrap_or_default();
            // What is left of an earlier question that failed in the middle.
            if sequence != self.sequence {
                continue;
            }
            match kind {
                ERROR | DONE => return verdict(payload, kind, flags, what).map(|()| false),
                _ => answers.push(payload.to_vec()),
            }
        }
        Ok(true)
    }
}

/// What the end of an answer says: a number, 0 or negative, and maybe words.
fn verdict(payload: &[u8], kind: u16, flags: u16, what: &str) -> Result<(), NetlinkError> {
    let number = payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if number == 0 {
        return Ok(());
    }
    // An error repeats the header of the request, the end of a dump does not.
    let head = if kind == ERROR { 4 + HEADER_LEN } else { 4 };
    let told = payload.get(head..).filter(|_| flags & NLM_F_ACK_TLVS != 0);
    let said = told.and_then(|bytes| Attrs::parse(bytes, "an error").ok()).and_then(|attrs| attrs.text(SAID));
    let source = io::Error::from_raw_os_error(number.saturating_neg());
    Err(NetlinkError::Refused { what: what.to_owned(), source, said })
}
