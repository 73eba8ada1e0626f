//! What the action `nat` does. Plain data.

/// A stateless translation: `struct tc_nat`, include/uapi/linux/tc_act/tc_nat.h. Addresses in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatRule {
    /// The source address is translated (`egress`), not the destination.
    pub egress: bool,
    /// Addresses that are like this under the mask are translated.
    pub old: u32,
    /// What the masked part becomes.
    pub new: u32,
    /// The part of an address that is compared and replaced.
    pub mask: u32,
}

impl NatRule {
    /// What an address becomes, if it is one to translate.
    #[must_use]
    pub const fn translate(&self, address: u32) -> Option<u32> {
        if (self.old ^ address) & self.mask == 0 { Some(self.new & self.mask | address & !self.mask) } else { None }
    }
}
