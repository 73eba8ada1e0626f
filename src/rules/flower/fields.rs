//! A flower key as a list of fields, each a number with a mask: for whoever treats all of them alike. It compares nothing.

use super::{FlowerKey, FlowerMore, MaskedMac, PortMatch};

/// What can be compared. The number of a field is what is on the wire, in host byte order, or 0 where the frame has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FlowerField {
    /// `indev`: the `DeviceId`'s number.
    Indev,
    /// `num_of_vlans`.
    NumOfVlans,
    /// `vlan_id`; 0 is the outer tag, 1 the next.
    VlanId(u8),
    /// `vlan_prio`.
    VlanPrio(u8),
    /// The tag's own type.
    VlanTpid(u8),
    /// The type behind the tag.
    VlanEthType(u8),
    /// `dst_mac`.
    DstMac,
    /// `src_mac`.
    SrcMac,
    /// The type that the dissector ends at.
    EthType,
    /// `ip_proto`.
    IpProto,
    /// Which addresses were found: 4, 6, or 0 for none.
    Family,
    /// `ip_tos`.
    Tos,
    /// `ip_ttl`.
    Ttl,
    /// Which entries of the label stack are there: bit 0 is the outermost.
    MplsEntries,
    /// An entry of the label stack; 0 is the outermost.
    Mpls(u8),
    /// `dst_ip` of IPv4.
    DstIpv4,
    /// `src_ip` of IPv4.
    SrcIpv4,
    /// `dst_ip` of IPv6.
    DstIpv6,
    /// `src_ip` of IPv6.
    SrcIpv6,
    /// `dst_port`.
    DstPort,
    /// `src_port`.
    SrcPort,
    /// `dst_port` in a range: the value is `first << 16 | last`, the mask all ones.
    DstPortRange,
    /// `src_port` in a range.
    SrcPortRange,
    /// `tcp_flags`.
    TcpFlags,
    /// `type`.
    IcmpType,
    /// `code`.
    IcmpCode,
    /// `arp_sip`.
    ArpSip,
    /// `arp_tip`.
    ArpTip,
    /// `arp_op`.
    ArpOp,
    /// `arp_sha`.
    ArpSha,
    /// `arp_tha`.
    ArpTha,
    /// 0x8864 if a PPPoE session header is there.
    PppoeType,
    /// `pppoe_sid`.
    PppoeSid,
    /// `ppp_proto`.
    PppProto,
    /// `ip_flags`.
    IpFlags,
}

/// What an entry is called, the outermost first.
const MPLS_NAMES: [&str; super::MPLS_DEPTH_MAX] =
    ["mpls depth 1", "mpls depth 2", "mpls depth 3", "mpls depth 4", "mpls depth 5", "mpls depth 6", "mpls depth 7"];

/// A family of addresses that no frame has: see [`FlowerKey::no_address`].
pub const NEVER_FAMILY: u8 = 0xff;

impl FlowerField {
    /// tc's name of the key; of what is implied, the name of the key that implies it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Indev => "indev",
            Self::NumOfVlans => "num_of_vlans",
            Self::VlanId(0) => "vlan_id",
            Self::VlanId(_) => "cvlan_id",
            Self::VlanPrio(0) => "vlan_prio",
            Self::VlanPrio(_) => "cvlan_prio",
            Self::VlanTpid(0) => "type of the tag",
            Self::VlanTpid(_) => "type of the second tag",
            Self::VlanEthType(0) => "vlan_ethtype",
            Self::VlanEthType(_) => "cvlan_ethtype",
            Self::DstMac => "dst_mac",
            Self::SrcMac => "src_mac",
            Self::EthType => "eth_type",
            Self::IpProto => "ip_proto",
            Self::Family => "address family",
            Self::Tos => "ip_tos",
            Self::Ttl => "ip_ttl",
            Self::MplsEntries => "mpls entries",
            Self::Mpls(index) => MPLS_NAMES[index as usize % MPLS_NAMES.len()],
            Self::DstIpv4 | Self::DstIpv6 => "dst_ip",
            Self::SrcIpv4 | Self::SrcIpv6 => "src_ip",
            Self::DstPort | Self::DstPortRange => "dst_port",
            Self::SrcPort | Self::SrcPortRange => "src_port",
            Self::TcpFlags => "tcp_flags",
            Self::IcmpType => "type",
            Self::IcmpCode => "code",
            Self::ArpSip => "arp_sip",
            Self::ArpTip => "arp_tip",
            Self::ArpOp => "arp_op",
            Self::ArpSha => "arp_sha",
            Self::ArpTha => "arp_tha",
            Self::PppoeType => "pppoe",
            Self::PppoeSid => "pppoe_sid",
            Self::PppProto => "ppp_proto",
            Self::IpFlags => "ip_flags",
        }
    }

    /// Whether a number lies within a value (already masked) and its mask.
    #[must_use]
    pub const fn holds(self, have: u128, value: u128, mask: u128) -> bool {
        if matches!(self, Self::DstPortRange | Self::SrcPortRange) {
            return have >= value >> 16 && have <= value & 0xffff;
        }
        have & mask == value
    }
}

/// Whoever is shown field, value (masked) and mask; false ends the walk.
pub type Visit<'a> = &'a mut dyn FnMut(FlowerField, u128, u128) -> bool;

impl FlowerKey {
    /// Shows each field that is compared, in tc's order. True: all were shown.
    pub fn all_fields(&self, visit: Visit<'_>) -> bool {
        use FlowerField as F;
        let none = FlowerMore::default();
        let more = self.more.as_deref().unwrap_or(&none);
        let ([src6, dst6], ipv4) = (self.addresses6(), self.src_ipv4.is_some() || self.dst_ipv4.is_some());
        let family = match (ipv4, src6.is_some() || dst6.is_some(), self.no_address) {
            (true, _, _) => Some(4),
            (_, true, _) => Some(6),
            (_, _, true) => Some(NEVER_FAMILY),
            (false, false, false) => None,
        };
        let mut show =
            |field: F, pair: Option<(u128, u128)>| pair.is_none_or(|(value, mask)| visit(field, value & mask, mask));
        show(F::Indev, more.indev.map(|d| exact(d.0, u32::MAX)))
            && show(F::NumOfVlans, more.num_of_vlans.map(|n| exact(n, u8::MAX)))
            && more.vlan.iter().zip(0..).all(|(tag, i)| {
                show(F::VlanId(i), tag.id.map(|id| exact(id, 0xfff_u16)))
                    && show(F::VlanPrio(i), tag.prio.map(|prio| exact(prio, 7_u8)))
                    && show(F::VlanTpid(i), tag.tpid.map(|t| exact(t, u16::MAX)))
                    && show(F::VlanEthType(i), tag.eth_type.map(|t| exact(t, u16::MAX)))
            })
            && show(F::DstMac, self.dst_mac.map(mac))
            && show(F::SrcMac, self.src_mac.map(mac))
            && show(F::EthType, self.eth_type.map(|t| exact(t, u16::MAX)))
            && show(F::IpProto, self.ip_proto.map(|p| exact(p, u8::MAX)))
            && show(F::Tos, more.ip_tos.map(pair))
            && show(F::Ttl, more.ip_ttl.map(pair))
            && show(F::MplsEntries, entries(more).map(|bits| exact(bits, bits)))
            && more.mpls.iter().all(|entry| {
                let (value, mask) = entry.word();
                mask == 0 || show(F::Mpls(entry.depth - 1), Some(exact(value, mask)))
            })
            && show(F::Family, family.map(|f: u8| exact(f, u8::MAX)))
            && show(F::DstIpv4, self.dst_ipv4.map(|(a, m)| exact(u32::from(a), u32::from(m))))
            && show(F::SrcIpv4, self.src_ipv4.map(|(a, m)| exact(u32::from(a), u32::from(m))))
            && show(F::DstIpv6, dst6.map(|(a, m)| (a.into(), m.into())))
            && show(F::SrcIpv6, src6.map(|(a, m)| (a.into(), m.into())))
            && self.dst_port.is_none_or(|p| port(F::DstPort, F::DstPortRange, p, &mut show))
            && self.src_port.is_none_or(|p| port(F::SrcPort, F::SrcPortRange, p, &mut show))
            && show(F::TcpFlags, self.tcp_flags.map(|(v, m)| exact(v, m)))
            && upper(more, &mut show)
    }

    /// The same as a list.
    #[must_use]
    pub fn fields(&self) -> Vec<(FlowerField, u128, u128)> {
        let mut list = Vec::new();
        self.all_fields(&mut |field, value, mask| {
            list.push((field, value, mask));
            true
        });
        list
    }

    /// Which bits are compared, by field: what makes two rules share a mask in the kernel (`struct fl_flow_mask`).
    #[must_use]
    pub fn mask(&self) -> Vec<(FlowerField, u128)> {
        self.fields().into_iter().map(|(field, _, mask)| (field, mask)).collect()
    }
}

type Show<'a> = &'a mut dyn FnMut(FlowerField, Option<(u128, u128)>) -> bool;

/// The fields of ICMP, ARP and PPPoE, and `ip_flags`.
fn upper(more: &FlowerMore, show: Show<'_>) -> bool {
    use FlowerField as F;
    let arp = &more.arp;
    show(F::IcmpType, more.icmp_type.map(pair))
        && show(F::IcmpCode, more.icmp_code.map(pair))
        && show(F::ArpSip, arp.sip.map(|(a, m)| exact(u32::from(a), u32::from(m))))
        && show(F::ArpTip, arp.tip.map(|(a, m)| exact(u32::from(a), u32::from(m))))
        && show(F::ArpOp, arp.op.map(pair))
        && show(F::ArpSha, arp.sha.map(mac))
        && show(F::ArpTha, arp.tha.map(mac))
        && show(F::PppoeType, more.pppoe.map(|_| exact(0x8864_u16, u16::MAX)))
        && show(F::PppoeSid, more.pppoe.and_then(|p| p.sid).map(|sid| exact(sid, u16::MAX)))
        && show(F::PppProto, more.pppoe.and_then(|p| p.proto).map(|p| exact(p, u16::MAX)))
        && show(F::IpFlags, more.ip_flags.map(pair))
}

fn port(exactly: FlowerField, range: FlowerField, port: PortMatch, show: Show<'_>) -> bool {
    match port {
        PortMatch::Masked(value, mask) => show(exactly, Some(exact(value, mask))),
        PortMatch::Range(from, to) => show(range, Some(exact(u32::from(from) << 16 | u32::from(to), u32::MAX))),
    }
}

fn exact<T: Into<u128>>(value: T, mask: T) -> (u128, u128) {
    (value.into(), mask.into())
}

fn pair((value, mask): (u8, u8)) -> (u128, u128) {
    exact(value, mask)
}

fn mac((value, mask): MaskedMac) -> (u128, u128) {
    let number = |bytes: [u8; 6]| bytes.iter().fold(0, |word, byte| word << 8 | u128::from(*byte));
    (number(value), number(mask))
}

/// The entries of the label stack that must be there, as bits.
fn entries(more: &FlowerMore) -> Option<u8> {
    let bits = more.mpls.iter().fold(0, |bits, entry| bits | 1 << (entry.depth - 1));
    (bits != 0).then_some(bits)
}
