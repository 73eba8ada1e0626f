//! `flower`: the words after it. Values are read in `values`, the kernel's side of it is `attributes`. It changes no state.

mod attributes;
mod print;
mod template;
mod usage;
mod values;

pub use print::{classid_words, json, text};
pub use template::fits_template;

use super::super::action;
use super::super::args::Args;
use super::super::command::{Parent, Word};
use super::super::error::TcError;
use super::super::number::{get_u8, get_u16, get_u32, matches, unsigned};
use super::super::proto;
use super::{Common, number_handle, parse_classid};
use crate::rules::FlowerKey;
use crate::rules::flower::{FlowerMpls, behind_ppp};
use crate::types::{ethertype, is_tag};
use attributes::{Attributes, Lse};

/// A flower filter as written.
#[derive(Clone, Debug, Default)]
pub struct FlowerSpec {
    /// `handle N`; 0: none given.
    pub handle: u32,
    /// What it compares, as written: values may have bits outside their masks. Without `indev`.
    pub key: FlowerKey,
    /// `indev D`, which the kernel looks up.
    pub indev: Option<Word>,
    /// What the kernel refuses about the keys.
    pub refused: Option<Box<TcError>>,
    /// `classid`, actions, flags.
    pub common: Common,
}

/// How a word is told from others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum As {
    /// By a prefix (`matches()`).
    Prefix,
    /// In full (`strcmp()`).
    Whole,
}

/// Words in the order in which tc tries them (tc/f_flower.c).
const WORDS: &[(&str, As)] = &[
    ("classid", As::Prefix),
    ("flowid", As::Prefix),
    ("hw_tc", As::Prefix),
    ("ip_flags", As::Prefix),
    ("verbose", As::Prefix),
    ("skip_hw", As::Prefix),
    ("skip_sw", As::Prefix),
    ("ct_state", As::Prefix),
    ("ct_zone", As::Prefix),
    ("ct_mark", As::Prefix),
    ("ct_label", As::Prefix),
    ("indev", As::Prefix),
    ("num_of_vlans", As::Whole),
    ("vlan_id", As::Prefix),
    ("vlan_prio", As::Prefix),
    ("vlan_ethtype", As::Prefix),
    ("cvlan_id", As::Prefix),
    ("cvlan_prio", As::Prefix),
    ("cvlan_ethtype", As::Prefix),
    ("mpls", As::Prefix),
    ("mpls_label", As::Prefix),
    ("mpls_tc", As::Prefix),
    ("mpls_bos", As::Prefix),
    ("mpls_ttl", As::Prefix),
    ("dst_mac", As::Prefix),
    ("src_mac", As::Prefix),
    ("ip_proto", As::Prefix),
    ("ip_tos", As::Prefix),
    ("ip_ttl", As::Prefix),
    ("dst_ip", As::Prefix),
    ("src_ip", As::Prefix),
    ("dst_port", As::Prefix),
    ("src_port", As::Prefix),
    ("tcp_flags", As::Prefix),
    ("type", As::Prefix),
    ("code", As::Prefix),
    ("arp_tip", As::Prefix),
    ("arp_sip", As::Prefix),
    ("arp_op", As::Prefix),
    ("arp_tha", As::Prefix),
    ("arp_sha", As::Prefix),
    ("pppoe_sid", As::Whole),
    ("ppp_proto", As::Whole),
    ("enc_dst_ip", As::Prefix),
    ("enc_src_ip", As::Prefix),
    ("enc_key_id", As::Prefix),
    ("enc_dst_port", As::Prefix),
    ("enc_tos", As::Prefix),
    ("enc_ttl", As::Prefix),
    ("geneve_opts", As::Prefix),
    ("vxlan_opts", As::Prefix),
    ("erspan_opts", As::Prefix),
    ("gtp_opts", As::Whole),
    ("action", As::Prefix),
];

/// What `flower_parse_opt()` knows on its way through the words.
struct Parser<'a, 'w> {
    args: &'a mut Args<'w>,
    /// The filter's protocol.
    protocol: u16,
    /// What later keys are about: the protocol, or what `vlan_ethtype`, `cvlan_ethtype` and `ppp_proto` made of it.
    eth_type: u16,
    vlan_eth_type: u16,
    mpls_new: bool,
    mpls_old: bool,
    attributes: Attributes,
}

/// Parses the words after `flower` (`flower_parse_opt()`, tc/f_flower.c). `protocol` and `parent` are the filter's.
///
/// # Errors
/// What tc says; keys that viscum lacks are refused by name.
pub fn parse(args: &mut Args<'_>, handle: Option<&Word>, protocol: u16, parent: Parent) -> Result<FlowerSpec, TcError> {
    let mut spec = FlowerSpec { handle: number_handle(handle)?, ..FlowerSpec::default() };
    let attributes = Attributes::default();
    let mut parser =
        Parser { args, protocol, eth_type: protocol, vlan_eth_type: 0, mpls_new: false, mpls_old: false, attributes };
    while let Some(word) = parser.args.word() {
        let name = WORDS.iter().find(|(w, how)| if *how == As::Whole { word == *w } else { matches(word, w) });
        match name.map(|(name, _)| *name) {
            Some("classid" | "flowid") => {
                spec.common.classid = parse_classid(parser.args)?;
                continue;
            }
            Some("action") => {
                parser.args.next_word()?;
                spec.common.actions.extend(action::parse_list(parser.args)?);
                continue;
            }
            Some("hw_tc") => spec.common.classid = Some(hw_tc(parser.args, parent)?),
            Some("verbose") => spec.common.verbose = true,
            Some("skip_hw") => spec.common.skip_hw = true,
            Some("skip_sw") => spec.common.skip_sw = true,
            Some("indev") => spec.indev = Some(indev(parser.args)?),
            Some("mpls") => {
                parser.mpls()?;
                continue;
            }
            Some(name) => parser.key(name)?,
            None => return Err(usage::what_is(word, parser.args.position())),
        }
        parser.args.skip();
    }
    let both = spec.common.skip_hw && spec.common.skip_sw;
    if protocol != ethertype::ALL {
        parser.attributes.eth_type = Some(protocol);
    }
    match parser.attributes.key() {
        Ok(key) => spec.key = key,
        Err(refusal) => spec.refused = Some(Box::new(refusal)),
    }
    if both {
        let hint = "with both skip_hw and skip_sw nothing would look at the filter";
        spec.refused = Some(Box::new(TcError::errno("Invalid argument", hint)));
    }
    Ok(spec)
}

/// `hw_tc N`: class `ffe0 + N` of the parent.
fn hw_tc(args: &mut Args<'_>, parent: Parent) -> Result<u32, TcError> {
    let text = args.next_word()?;
    let hint = "a traffic class is a number from 0 to 15";
    let tc = unsigned(text, 0).ok_or_else(|| TcError::parse("Illegal TC index", args.position(), hint))?;
    if tc >= 16 {
        return Err(TcError::parse("TC index exceeds max range", args.position(), hint));
    }
    Ok(parent.0 & 0xffff_0000 | (tc as u32 + print::HW_TC_FIRST))
}

/// `check_ifname()`, lib/utils.c: up to 15 characters, no `/` and no space.
fn indev(args: &mut Args<'_>) -> Result<Word, TcError> {
    let text = args.next_word()?;
    if text.is_empty() || text.len() > 15 || text.contains(|c: char| c == '/' || c.is_ascii_whitespace()) {
        let hint = "name a device: indev DEVICE";
        return Err(TcError::invalid_argument("\"indev\" not a valid ifname", text, args.position(), hint));
    }
    Ok(Word { text: text.to_owned(), token: args.position() })
}

impl Parser<'_, '_> {
    /// One key with its value; the current word is its name, and on success its value.
    fn key(&mut self, name: &'static str) -> Result<(), TcError> {
        if let Some(hint) = usage::instead_of(name) {
            let mut error = TcError::unsupported(&format!("the flower key {name}"), self.args.position());
            error.hint = hint.to_owned();
            return Err(error);
        }
        let text = self.args.next_word()?;
        match name {
            "num_of_vlans" | "vlan_id" | "vlan_prio" | "vlan_ethtype" | "cvlan_id" | "cvlan_prio" | "cvlan_ethtype" => {
                self.vlan(name, text)
            }
            "mpls_label" | "mpls_tc" | "mpls_bos" | "mpls_ttl" => self.mpls_part(name, text),
            "arp_tip" | "arp_sip" | "arp_op" | "arp_tha" | "arp_sha" => self.arp(name, text),
            "pppoe_sid" | "ppp_proto" => self.pppoe(name, text),
            _ => self.ip(name, text),
        }
    }

    /// `Illegal "name"`.
    fn illegal(&self, name: &str) -> TcError {
        let message = match name {
            "type" | "code" => format!("Illegal \"icmp {name}\""),
            _ => format!("Illegal \"{name}\""),
        };
        TcError::parse(message, self.args.position(), usage::hint(name))
    }

    fn read<T>(&self, name: &str, value: Option<T>) -> Result<T, TcError> {
        value.ok_or_else(|| self.illegal(name))
    }

    fn cannot(&self, message: String, hint: &str) -> TcError {
        TcError::parse(message, self.args.position(), hint)
    }

    fn vlan(&mut self, name: &'static str, text: &str) -> Result<(), TcError> {
        if name == "num_of_vlans" {
            self.attributes.num_of_vlans = Some(self.read(name, get_u8(text, 10))?);
            return Ok(());
        }
        let (inner, part) = name.strip_prefix('c').map_or((0, name), |part| (1, part));
        let count = self.attributes.num_of_vlans.unwrap_or(0);
        // Of the outer tag id and prio go by the filter's protocol, the type by what is behind the tags so far.
        let (wanted, enough) = match (inner, part) {
            (0, "vlan_ethtype") => (self.eth_type, count > 0),
            (0, _) => (self.protocol, count > 0),
            _ => (self.vlan_eth_type, count > 1),
        };
        if !is_tag(wanted) && !enough {
            let why = match (inner, part) {
                (0, "vlan_ethtype") => "ethertype isn't 802.1Q or 802.1AD and num_of_vlans is 0",
                (0, _) => "ethertype isn't 802.1Q or 802.1AD and num_of_vlans is 0",
                (_, "vlan_ethtype") => "ethertype isn't 802.1Q or 802.1AD and num_of_vlans less than 2",
                _ => "inner vlan ethertype isn't 802.1Q or 802.1AD and num_of_vlans is less than 2",
            };
            let hint = match inner {
                0 => "write protocol 802.1Q before flower, or num_of_vlans 1 before this key",
                _ => "write vlan_ethtype 802.1Q before this key, or num_of_vlans 2",
            };
            return Err(self.cannot(format!("Can't set \"{name}\" if {why}"), hint));
        }
        match part {
            "vlan_id" => {
                let id = self.read(name, get_u16(text, 10).filter(|id| *id <= 0xfff))?;
                self.attributes.vlan[inner].id = Some(id);
            }
            "vlan_prio" => {
                let prio = self.read(name, get_u8(text, 10).filter(|prio| *prio <= 7))?;
                self.attributes.vlan[inner].prio = Some(prio);
            }
            _ => {
                let hint = "use ip, ipv6, arp, 802.1Q, or a number";
                let eth_type = proto::link_number(text).ok_or_else(|| {
                    TcError::invalid_argument("invalid vlan_ethtype", text, self.args.position(), hint)
                })?;
                self.attributes.vlan[inner].eth_type = Some(eth_type);
                self.eth_type = eth_type;
                if inner == 0 {
                    self.vlan_eth_type = eth_type;
                }
            }
        }
        Ok(())
    }

    fn needs_mpls(&self, name: &str) -> Result<(), TcError> {
        if matches!(self.eth_type, ethertype::MPLS_UC | ethertype::MPLS_MC) {
            return Ok(());
        }
        let hint = "write protocol mpls_uc before flower";
        Err(self.cannot(format!("Can't set \"{name}\" if ethertype isn't MPLS"), hint))
    }

    fn mpls_part(&mut self, name: &'static str, text: &str) -> Result<(), TcError> {
        self.needs_mpls(name)?;
        if self.mpls_new {
            let hint = "say all of it in mpls lse depth 1 …";
            return Err(self.cannot(format!("Can't set \"{name}\" if \"mpls\" is set"), hint));
        }
        self.mpls_old = true;
        self.set_mpls(name, text, None)
    }

    /// A field of an entry: of the outermost one in the old form, or of `lse`.
    fn set_mpls(&mut self, name: &str, text: &str, lse: Option<&mut FlowerMpls>) -> Result<(), TcError> {
        let byte = |max: u8| get_u8(text, 10).filter(|n| *n <= max);
        let (part, label) = (name.trim_start_matches("mpls_"), get_u32(text, 10).filter(|l| *l <= 0xf_ffff));
        let number = match part {
            "label" => self.read(name, label)?,
            "tc" => self.read(name, byte(7))?.into(),
            "bos" => self.read(name, byte(1))?.into(),
            _ => self.read(name, byte(u8::MAX))?.into(),
        };
        let entry = lse.unwrap_or_else(|| {
            self.attributes.mpls_old.get_or_insert(FlowerMpls { depth: 1, ..FlowerMpls::default() })
        });
        match part {
            "label" => entry.label = Some(number),
            "tc" => entry.tc = Some(number as u8),
            "bos" => entry.bos = Some(number as u8),
            _ => entry.ttl = Some(number as u8),
        }
        Ok(())
    }

    /// `mpls lse depth N … lse …` (`flower_parse_mpls()`); leaves the first word that is not its own.
    fn mpls(&mut self) -> Result<(), TcError> {
        self.args.next_word()?;
        self.needs_mpls("mpls")?;
        if self.mpls_old {
            let message = "Can't set \"mpls\" if \"mpls_label\", \"mpls_tc\", \"mpls_bos\" or \"mpls_ttl\" is set";
            return Err(self.cannot(message.to_owned(), "say all of it in mpls lse depth 1 …"));
        }
        self.mpls_new = true;
        let mut entries = Vec::new();
        while self.args.matches("lse") {
            self.args.next_word()?;
            entries.push(self.lse()?);
        }
        self.attributes.mpls_new = Some(entries);
        Ok(())
    }

    fn lse(&mut self) -> Result<Lse, TcError> {
        let mut entry = FlowerMpls::default();
        while let Some(word) = self.args.word() {
            let parts = ["depth", "label", "tc", "bos", "ttl"];
            let Some(part) = parts.into_iter().find(|p| matches(word, p)) else { break };
            let text = self.args.next_word()?;
            if part == "depth" {
                entry.depth = self.read(part, get_u8(text, 10).filter(|depth| *depth > 0))?;
            } else {
                self.set_mpls(part, text, Some(&mut entry))?;
            }
            self.args.skip();
        }
        if entry.depth == 0 {
            let hint = "write mpls lse depth N …; 1 is the outermost label";
            return Err(TcError::usage("Error: argument \"depth\" is required", self.args.position(), hint));
        }
        Ok(Lse(entry))
    }

    fn pppoe(&mut self, name: &'static str, text: &str) -> Result<(), TcError> {
        if self.eth_type != ethertype::PPP_SES {
            let hint = "write protocol ppp_ses before flower";
            return Err(self.cannot(format!("Can't set \"{name}\" if ethertype isn't PPPoE session"), hint));
        }
        if name == "pppoe_sid" {
            self.attributes.pppoe.sid = Some(self.read(name, get_u16(text, 10))?);
            return Ok(());
        }
        let hint = "use ip, ipv6, mpls_uc, lcp, …, or a number";
        let number = proto::ppp_number(text)
            .ok_or_else(|| TcError::invalid_argument("invalid ppp_proto", text, self.args.position(), hint))?;
        self.attributes.pppoe.proto = Some(number);
        self.eth_type = behind_ppp(number).unwrap_or(self.eth_type);
        Ok(())
    }
}
