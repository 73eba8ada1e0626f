//! One device: driver, queues, rings, MTU, offloads that get in the way, busy polling; XDP and AF_XDP tried on it, if nobody uses it.

use super::{Answer, Item, Section, tries};
use crate::host::link::{self, Link};
use crate::host::{HostError, lock, netns, output};
use crate::sys::bpf::{Mode, XdpFeatures, xdp_attached, xdp_features};
use crate::sys::ethtool::{Ethtool, Feature};
use crate::types::DeviceKey;

/// What was found out of a device.
#[derive(Clone, Debug)]
pub struct Device {
    /// The device itself.
    pub link: Link,
    /// What there is to tell.
    pub section: Section,
}

/// Looks at a device. Unless `passive`, XDP is tried on it: a driver may stop traffic for a moment when a program comes or goes.
/// It is not tried where a program is attached, or where another viscum forwards.
///
/// # Errors
/// [`HostError::NoDevice`], [`HostError::NoNamespace`], [`HostError::Enter`].
pub fn device(key: &DeviceKey, passive: bool) -> Result<Device, HostError> {
    let link = link::find(key)?;
    let mut items = about(&link);
    let inside = netns::in_namespace(key.netns.as_deref(), || {
        let mut items = Vec::new();
        driver(&link, &mut items);
        items
    })?;
    items.extend(inside);
    items.extend(settings(key));
    let tried = match passive {
        true => Err("--passive: nothing is attached".to_owned()),
        // Held while it is tried, so that no forwarder starts meanwhile.
        false => lock::device(key).map_err(|e| e.to_string()),
    };
    let (tried, _lock) = match tried {
        Ok(lock) => (Ok(()), Some(lock)),
        Err(why) => (Err(why), None),
    };
    items.extend(netns::in_namespace(key.netns.as_deref(), || try_all(&link, tried))?);
    Ok(Device { section: Section { title: key.to_string(), items }, link })
}

fn about(link: &Link) -> Vec<Item> {
    let mut items = Vec::new();
    let up = match (link.up, link.carrier) {
        (true, true) => Item::new("up", Answer::yes()),
        (true, false) => Item::new("up", Answer::no("no carrier")).but("check the cable, or the other end of the pair"),
        (false, _) => Item::new("up", Answer::no("it is down")).but(format!("ip link set {} up", link.key.name)),
    };
    items.push(up);
    let limits =
        link::json("ip", link.key.netns.as_deref(), &["-details", "-json", "link", "show", "dev", &link.key.name]);
    let limit = limits.ok().and_then(|l| l.first().and_then(|v| v["max_mtu"].as_u64())).filter(|max| *max > 0);
    let limit = limit.map_or(String::new(), |max| format!(" (at most {max})"));
    items.push(Item::new("MTU", Answer::is(format!("{}{limit}", link.mtu))));
    if let Some(peer) = &link.peer {
        let name = peer.key.as_ref().map_or_else(|| "in a namespace without a name".to_owned(), ToString::to_string);
        let mtu = peer.mtu.map_or(String::new(), |mtu| format!(", MTU {mtu}"));
        items.push(Item::new("other end", Answer::is(format!("{name}{mtu}"))));
    }
    items
}

fn driver(link: &Link, items: &mut Vec<Item>) {
    let ethtool = match Ethtool::open(&link.key.name) {
        Ok(ethtool) => ethtool,
        Err(e) => {
            items.push(Item::new("driver", Answer::untried(e)));
            return;
        }
    };
    items.push(Item::new("driver", ethtool.driver().map_or_else(Answer::untried, Answer::is)));
    items.push(Item::new(
        "queues",
        match ethtool.channels() {
            Ok(c) => Answer::is(format!(
                "{} to receive (at most {}), {} to send (at most {})",
                c.rx, c.rx_max, c.tx, c.tx_max
            )),
            Err(_) => Answer::is(format!("{} to receive, {} to send", link.rx_queues, link.tx_queues)),
        },
    ));
    items.push(match ethtool.rings() {
        Ok(r) => {
            let item = Item::new(
                "rings",
                Answer::is(format!(
                    "{} frames to receive (at most {}), {} to send (at most {})",
                    r.rx, r.rx_max, r.tx, r.tx_max
                )),
            );
            match r.rx < r.rx_max {
                true => item.but(format!("ethtool -G {} rx {}: more room for bursts", link.key.name, r.rx_max)),
                false => item,
            }
        }
        Err(e) => Item::new("rings", Answer::untried(format!("the driver does not tell ({e})"))),
    });
    match ethtool.features() {
        Ok(features) => items.extend(offloads(link, &features)),
        Err(e) => items.push(Item::new("offloads", Answer::untried(e))),
    }
}

/// The kernel's name of an offload, ethtool's short one, whether only a veth's other end notices, and what it does to a forwarder.
const OFFLOADS: &[(&str, &str, bool, &str)] = &[
    ("rx-lro", "lro", false, "joins frames for good: what is sent on is not what came. Native XDP turns it off"),
    ("rx-gro-hw", "rx-gro-hw", false, "the card joins frames; most drivers turn it off for native XDP"),
    (
        "rx-gro",
        "gro",
        false,
        "frames of a flow arrive joined by AF_PACKET (whole from port to port; `raw` cannot say where they were joined)",
    ),
    (
        "tx-tcp-segmentation",
        "tso",
        true,
        "the other end receives super-frames of this end; XDP there gets them one by one",
    ),
    ("tx-checksum-ip-generic", "tx", true, "the other end receives frames without checksum: viscum completes them"),
    (
        "rx-vlan-hw-parse",
        "rxvlan",
        false,
        "tags are taken out of the frame before XDP sees it: rules for `protocol 802.1q` do not match there",
    ),
    ("tx-vlan-hw-insert", "txvlan", true, "the other end receives tags beside the frame, where XDP does not see them"),
];

fn offloads<'a>(link: &'a Link, features: &'a [Feature]) -> impl Iterator<Item = Item> + 'a {
    OFFLOADS.iter().filter_map(move |(name, short, of_veth, what)| {
        if *of_veth && link.kind != "veth" {
            return None;
        }
        let feature = features.iter().find(|f| f.name == *name)?;
        let title = format!("offload {name}");
        if !feature.on {
            return Some(Item::new(title, Answer::is("off")));
        }
        let fixed = if feature.fixed { ", fixed" } else { "" };
        let item = Item::new(title, Answer::is(format!("on{fixed}: {what}")));
        Some(if feature.fixed { item } else { item.but(format!("ethtool -K {} {short} off", link.key.name)) })
    })
}

/// Settings below /sys, which shows the devices of the namespace that it was mounted in.
fn settings(key: &DeviceKey) -> Vec<Item> {
    let read = |name: &str| {
        let path = format!("/sys/class/net/{}/{name}", key.name);
        match &key.netns {
            None => super::machine::text(&path),
            Some(netns) => output("ip", &["netns", "exec", netns, "cat", &path]).ok().map(|t| t.trim().to_owned()),
        }
    };
    let one = |name: &str| {
        let answer = read(name).map_or_else(|| Answer::untried("this kernel does not tell"), Answer::is);
        let off = matches!(&answer, Answer::Is { value } if value == "0");
        let item = Item::new(name, answer);
        match off {
            true => item.but(format!(
                "for busy polling: echo {} > /sys/class/net/{}/{name}",
                if name == "gro_flush_timeout" { "200000" } else { "2" },
                key.name
            )),
            false => item,
        }
    };
    ["napi_defer_hard_irqs", "gro_flush_timeout"].map(one).to_vec()
}

const NATIVE: &str = "XDP native";
const GENERIC: &str = "XDP generic";
const MULTI_BUFFER: &str = "XDP multi-buffer";
const COPY: &str = "AF_XDP by copy";
const ZERO_COPY: &str = "AF_XDP without copy";

fn try_all(link: &Link, allowed: Result<(), String>) -> Vec<Item> {
    let ifindex = link.ifindex;
    let features = xdp_features(ifindex);
    let free = allowed.and_then(|()| match xdp_attached(ifindex) {
        Ok(Some(attached)) => Err(format!("{attached} is there")),
        Ok(None) => Ok(()),
        Err(e) => Err(e.to_string()),
    });
    if let Err(why) = free {
        let untried = |name| Item::new(name, Answer::untried(format!("{why}{}", announced(name, features))));
        return [NATIVE, GENERIC, MULTI_BUFFER, COPY, ZERO_COPY].map(untried).to_vec();
    }
    let native = tries::xdp(ifindex, Mode::Native);
    let native_item = match &native {
        Err(crate::sys::bpf::Error::MtuTooLarge { .. }) => {
            Item::new(NATIVE, Answer::of(native)).but(format!("ip link set {} mtu 1500", smaller(link)))
        }
        _ => Item::new(NATIVE, Answer::of(native)),
    };
    let zero_copy = match features {
        Some(f) if !f.zero_copy() => Answer::no("the driver does not announce it"),
        Some(_) | None => Answer::of(tries::af_xdp(&link.key.name, ifindex, true)),
    };
    vec![
        native_item,
        Item::new(GENERIC, Answer::of(tries::xdp(ifindex, Mode::Generic))),
        Item::new(MULTI_BUFFER, Answer::of(tries::xdp_frags(ifindex))),
        Item::new(COPY, Answer::of(tries::af_xdp(&link.key.name, ifindex, false))),
        Item::new(ZERO_COPY, zero_copy),
    ]
}

/// What a driver says of what was not tried.
fn announced(name: &str, features: Option<XdpFeatures>) -> &'static str {
    let says = |it: bool| if it { "; the driver announces it" } else { "; the driver does not announce it" };
    match (name, features) {
        (ZERO_COPY, Some(f)) => says(f.zero_copy()),
        (MULTI_BUFFER, Some(f)) => says(f.multi_buffer()),
        _ => "",
    }
}

/// The device whose MTU limits native XDP.
fn smaller(link: &Link) -> String {
    link.peer.as_ref().and_then(|p| p.key.as_ref()).map_or_else(|| link.key.name.clone(), |k| k.name.clone())
}
