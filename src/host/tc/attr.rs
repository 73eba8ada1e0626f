//! Netlink attributes and C structures as bytes: reading them without trust, writing them. It knows no attribute by name.

use netlink_packet_core::{NLA_F_NESTED, NLA_HEADER_SIZE, NlasIterator};

use super::Lacking;

/// Attributes of one level, in the order in which they came. Numbers are in the machine's byte order unless said otherwise.
#[derive(Clone, Debug, Default)]
pub(super) struct Attrs<'a> {
    list: Vec<(u16, &'a [u8])>,
    /// Whose attributes they are, for messages.
    what: &'static str,
}

impl<'a> Attrs<'a> {
    /// # Errors
    /// The lengths do not fit into each other.
    pub(super) fn parse(bytes: &'a [u8], what: &'static str) -> Result<Self, Lacking> {
        let mut list = Vec::new();
        let mut rest = bytes;
        // The iterator's items borrow from it, and not from the bytes: its lengths are used, and the bytes are cut here.
        for attribute in NlasIterator::new(bytes) {
            let attribute = attribute.map_err(|e| Lacking(format!("the kernel's answer about {what} is cut: {e}")))?;
            let len = usize::from(attribute.length());
            list.push((attribute.kind(), &rest[NLA_HEADER_SIZE..len]));
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(Self { list, what })
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, &'a [u8])> + '_ {
        self.list.iter().copied()
    }

    /// The value of an attribute; the last one counts, as with `nla_parse()`.
    pub(super) fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.list.iter().rev().find(|(k, _)| *k == kind).map(|(_, value)| *value)
    }

    /// An attribute that must be there.
    pub(super) fn need(&self, kind: u16) -> Result<&'a [u8], Lacking> {
        self.get(kind)
            .ok_or_else(|| Lacking(format!("the kernel's answer about {} has no attribute {kind}", self.what)))
    }

    /// The attributes inside of one, none if it is not there.
    pub(super) fn nest(&self, kind: u16) -> Result<Self, Lacking> {
        self.get(kind).map_or(Ok(Self { list: Vec::new(), what: self.what }), |bytes| Self::parse(bytes, self.what))
    }

    /// An attribute of exactly so many bytes.
    pub(super) fn array<const N: usize>(&self, kind: u16) -> Result<Option<[u8; N]>, Lacking> {
        let Some(value) = self.get(kind) else { return Ok(None) };
        let wrong = |_| Lacking(format!("attribute {kind} of {} has {} bytes, not {N}", self.what, value.len()));
        value.try_into().map(Some).map_err(wrong)
    }

    pub(super) fn u8(&self, kind: u16) -> Result<Option<u8>, Lacking> {
        Ok(self.array::<1>(kind)?.map(|[byte]| byte))
    }

    pub(super) fn u16(&self, kind: u16) -> Result<Option<u16>, Lacking> {
        Ok(self.array(kind)?.map(u16::from_ne_bytes))
    }

    /// In network order.
    pub(super) fn be16(&self, kind: u16) -> Result<Option<u16>, Lacking> {
        Ok(self.array(kind)?.map(u16::from_be_bytes))
    }

    pub(super) fn u32(&self, kind: u16) -> Result<Option<u32>, Lacking> {
        Ok(self.array(kind)?.map(u32::from_ne_bytes))
    }

    pub(super) fn u64(&self, kind: u16) -> Result<Option<u64>, Lacking> {
        Ok(self.array(kind)?.map(u64::from_ne_bytes))
    }

    /// A text up to its terminating zero.
    pub(super) fn text(&self, kind: u16) -> Option<String> {
        self.get(kind).map(text)
    }
}

/// A text up to its terminating zero; what is not UTF-8 is replaced.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// A C structure, read from its start on.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    what: &'static str,
}

impl<'a> Fields<'a> {
    pub(super) const fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { bytes, what }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Lacking> {
        let short = || Lacking(format!("the kernel's structure for {} is shorter than expected", self.what));
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or_else(short)?;
        self.bytes = rest;
        Ok(*head)
    }

    /// What was not read yet.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn u8(&mut self) -> Result<u8, Lacking> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Lacking> {
        self.array().map(u16::from_ne_bytes)
    }

    pub(super) fn i16(&mut self) -> Result<i16, Lacking> {
        self.array().map(i16::from_ne_bytes)
    }

    pub(super) fn be16(&mut self) -> Result<u16, Lacking> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Lacking> {
        self.array().map(u32::from_ne_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Lacking> {
        self.array().map(i32::from_ne_bytes)
    }

    pub(super) fn be32(&mut self) -> Result<u32, Lacking> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Lacking> {
        self.array().map(u64::from_ne_bytes)
    }
}

/// Attributes being written.
#[derive(Clone, Debug, Default)]
pub(super) struct Put(pub(super) Vec<u8>);

impl Put {
    /// # Panics
    /// If the value is longer than an attribute can be: values here are bounded by the limits of what they describe.
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let len = u16::try_from(value.len() + NLA_HEADER_SIZE).expect("an attribute has less than 64 KiB");
        self.0.extend(len.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    pub(super) fn u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// In network order.
    pub(super) fn be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(super) fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    pub(super) fn u64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// With its terminating zero.
    pub(super) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    pub(super) fn nest(&mut self, kind: u16, inside: &Self) -> &mut Self {
        self.bytes(kind | NLA_F_NESTED, &inside.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_cut_is_told() {
        let mut inside = Put::default();
        inside.u8(1, 7).be16(2, 0x1234);
        let mut put = Put::default();
        put.text(5, "gact").nest(6, &inside).u32(7, 9);
        let attrs = Attrs::parse(&put.0, "a test").unwrap();
        assert_eq!((attrs.text(5).as_deref(), attrs.u32(7).unwrap()), (Some("gact"), Some(9)));
        let nested = attrs.nest(6).unwrap();
        assert_eq!(
            (nested.u8(1).unwrap(), nested.be16(2).unwrap(), nested.u32(3).unwrap()),
            (Some(7), Some(0x1234), None)
        );
        assert!(nested.u32(1).unwrap_err().0.contains("1 bytes, not 4"));
        for len in 1..put.0.len() {
            // No length panics; what is cut inside an attribute is told.
            let _told = Attrs::parse(&put.0[..len], "a test").map(|a| a.iter().count());
        }
        assert!(Attrs::parse(&[9, 0, 1, 0, 1], "a test").unwrap_err().0.contains("a test is cut"));
        assert!(Fields::new(&[1, 2], "a test").u32().unwrap_err().0.contains("shorter"));
    }
}
