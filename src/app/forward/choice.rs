//! Which devices the rules need, and how each is served: decided from facts, with the reason. Nothing is opened here.

use std::collections::BTreeMap;

use crate::app::config::{Config, Deliver, Mode};
use crate::host::link::Link;
use crate::rules::{Action, Ruleset};
use crate::types::{DeviceId, DeviceKey, Direction};

/// The largest MTU of a veth's peer with which native XDP works on x86 (`veth_xdp_set()`, drivers/net/veth.c: what is
/// left of a page behind headroom and `skb_shared_info`). Other drivers have limits near it.
pub const NATIVE_XDP_MTU_MAX: u32 = 3506;

/// What the rules want of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The device.
    pub key: DeviceKey,
    /// Its id in the ruleset.
    pub id: DeviceId,
    /// Rules stand at its ingress.
    pub receive: bool,
    /// Rules send frames out by it.
    pub transmit: bool,
    /// Rules stand at its egress.
    pub egress_rules: bool,
}

/// The devices that rules stand on or send to, in the order of their ids.
///
/// `alone`: whether a device is wanted that has rules only at its egress, which is so where they run at tc's own hook.
#[must_use]
pub fn wanted(ruleset: &Ruleset, alone: &dyn Fn(&DeviceKey) -> bool) -> Vec<Wanted> {
    let mut all: BTreeMap<DeviceId, Wanted> = BTreeMap::new();
    let mut entry = |id: DeviceId, change: &dyn Fn(&mut Wanted)| {
        let key = ruleset.devices[id.index()].clone();
        change(all.entry(id).or_insert(Wanted { key, id, receive: false, transmit: false, egress_rules: false }));
    };
    for (hook, _, filter) in ruleset.filters() {
        match hook.direction {
            Direction::Ingress => entry(hook.device, &|w| w.receive = true),
            Direction::Egress => entry(hook.device, &|w| w.egress_rules = true),
        }
        for id in ruleset.filter_actions(filter) {
            if let Action::Mirred(mirred) = &ruleset.action(id).action {
                entry(mirred.device, &|w| w.transmit = true);
            }
        }
    }
    all.retain(|_, w| w.receive || w.transmit || (w.egress_rules && alone(&w.key)));
    all.into_values().collect()
}

/// How a device is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// AF_XDP; in auto mode what stands against it turns it into [`Way::AfPacket`].
    AfXdp {
        /// Whether AF_PACKET may take its place.
        may_fall_back: bool,
    },
    /// AF_PACKET, and a program that drops behind the tap.
    AfPacket,
    /// A plain packet socket, and a program that drops behind it.
    Raw,
    /// A tap in place of the device.
    Tap(DeviceKey),
    /// The rules as an XDP program.
    Xdp,
    /// The rules as a program at tc's hooks.
    TcBpf,
    /// The rules in the kernel's own tc.
    Tc,
}

impl Way {
    /// The kernel does it, without a worker.
    #[must_use]
    pub const fn is_in_kernel(&self) -> bool {
        match self {
            Self::Xdp | Self::TcBpf | Self::Tc => true,
            Self::AfXdp { .. } | Self::AfPacket | Self::Raw | Self::Tap(_) => false,
        }
    }

    /// It taps: the kernel gets every frame too, and a program must drop behind it what is taken.
    #[must_use]
    pub const fn taps(&self) -> bool {
        match self {
            Self::AfPacket | Self::Raw => true,
            Self::AfXdp { .. } | Self::Tap(_) | Self::Xdp | Self::TcBpf | Self::Tc => false,
        }
    }
}

/// A way and why it was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// See [`Way`].
    pub way: Way,
    /// For people.
    pub reason: String,
}

/// Why no way can be chosen.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// `--deliver tap` does not say which tap.
    #[error(
        "--deliver tap: which tap stands in for which device cannot be told from the rules ({found}); \
         say it with --tap DEVICE=NETNS/NAME"
    )]
    WhichTap {
        /// What was found.
        found: String,
    },
    /// Some devices by workers, others in the kernel.
    #[error(
        "{device} would be served {one}, and {other} {two}; frames cannot go from one to the other. Use the same --mode for all devices"
    )]
    Mixed {
        /// A device.
        device: String,
        /// `in the kernel` or `by workers`.
        one: &'static str,
        /// A device that is served.
        other: String,
        /// The other of the two, or another kind of program.
        two: &'static str,
    },
    /// AF_XDP was asked for and the kernel has none.
    #[error(
        "{device}: this kernel has no AF_XDP (CONFIG_XDP_SOCKETS); use --mode af-packet, or auto, which takes it by itself"
    )]
    NoAfXdp {
        /// The device.
        device: DeviceKey,
    },
    /// AF_XDP was asked for and the device's peer has too large an MTU.
    #[error(
        "{device}: MTU {mtu} of {whose} is too large for native XDP (at most {NATIVE_XDP_MTU_MAX} bytes); \
         `ip link set {name} mtu 1500`, or --mode auto, which takes AF_PACKET here"
    )]
    Mtu {
        /// The device.
        device: DeviceKey,
        /// The MTU in the way, in bytes.
        mtu: u32,
        /// Whose it is.
        whose: String,
        /// Its plain name.
        name: String,
    },
}

/// Chooses the way of a device that has a link, on a kernel that has AF_XDP or not.
///
/// # Errors
/// [`ChoiceError::Mtu`] and [`ChoiceError::NoAfXdp`] if AF_XDP was asked for and cannot be.
pub fn choose(link: &Link, config: &Config, af_xdp: bool) -> Result<Choice, ChoiceError> {
    let own = config.device(&link.key);
    let asked = config.mode_of(&link.key);
    let told = |way| Choice { way, reason: config.auto_took.clone().unwrap_or_else(|| "asked for".to_owned()) };
    match asked {
        Mode::Xdp => return Ok(told(Way::Xdp)),
        Mode::TcBpf => return Ok(told(Way::TcBpf)),
        Mode::Tc => return Ok(told(Way::Tc)),
        Mode::Raw => return Ok(told(Way::Raw)),
        Mode::Auto | Mode::AfXdp | Mode::AfPacket => {}
    }
    if link.key.netns.is_some() && own.mode != Some(Mode::AfXdp) {
        let reason = "in a namespace of its own: an XDP program there would make the kernel copy every frame";
        return Ok(Choice { way: Way::AfPacket, reason: reason.to_owned() });
    }
    if asked == Mode::AfPacket {
        return Ok(Choice { way: Way::AfPacket, reason: "asked for".to_owned() });
    }
    if !af_xdp {
        if asked == Mode::AfXdp {
            return Err(ChoiceError::NoAfXdp { device: link.key.clone() });
        }
        return Ok(Choice { way: Way::AfPacket, reason: "this kernel has no AF_XDP (CONFIG_XDP_SOCKETS)".to_owned() });
    }
    let limit = (own.xdp == crate::app::config::Xdp::Native).then(|| too_large(link)).flatten();
    match (asked, limit) {
        (Mode::AfXdp, Some((mtu, whose, name))) => Err(ChoiceError::Mtu { device: link.key.clone(), mtu, whose, name }),
        (Mode::AfXdp, None) => Ok(Choice { way: Way::AfXdp { may_fall_back: false }, reason: "asked for".to_owned() }),
        (_, Some((mtu, whose, _))) => Ok(Choice {
            way: Way::AfPacket,
            reason: format!(
                "MTU {mtu} of {whose} is too large for native XDP, which takes {NATIVE_XDP_MTU_MAX} at most"
            ),
        }),
        (_, None) => {
            Ok(Choice { way: Way::AfXdp { may_fall_back: true }, reason: "the best that this device can".to_owned() })
        }
    }
}

/// The MTU that is too large for native XDP: its value, whose it is, and that device's name.
fn too_large(link: &Link) -> Option<(u32, String, String)> {
    match &link.peer {
        Some(peer) => {
            let mtu = peer.mtu.unwrap_or(link.mtu);
            let name = peer.key.as_ref().map_or_else(|| "the veth peer".to_owned(), ToString::to_string);
            let plain = peer.key.as_ref().map_or_else(|| link.key.name.clone(), |k| k.name.clone());
            (mtu > NATIVE_XDP_MTU_MAX).then(|| (mtu, format!("its peer {name}"), plain))
        }
        None => (link.mtu > NATIVE_XDP_MTU_MAX).then(|| (link.mtu, "the device".to_owned(), link.key.name.clone())),
    }
}

/// Which tap stands in for which device.
///
/// Told by `--tap`; else by the rules: the one device that is no link here, and the one device of another namespace that has rules.
///
/// # Errors
/// [`ChoiceError::WhichTap`].
pub fn stand_ins(
    config: &Config,
    ruleset: &Ruleset,
    exists: &dyn Fn(&DeviceKey) -> bool,
) -> Result<BTreeMap<String, DeviceKey>, ChoiceError> {
    if config.deliver == Deliver::Veth || !config.taps.is_empty() {
        return Ok(config.taps.clone());
    }
    let here: Vec<&DeviceKey> = ruleset.devices.iter().filter(|k| k.netns.is_none() && !exists(k)).collect();
    let there: Vec<&DeviceKey> = ruleset.devices.iter().filter(|k| k.netns.is_some()).collect();
    match (here.as_slice(), there.as_slice()) {
        ([device], [tap]) => Ok(BTreeMap::from([(device.name.clone(), (*tap).clone())])),
        (here, there) => {
            let names = |keys: &[&DeviceKey]| keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let found = format!(
                "devices of the rules without a link: {}; devices in namespaces: {}",
                if here.is_empty() { "none".to_owned() } else { names(here) },
                if there.is_empty() { "none".to_owned() } else { names(there) },
            );
            Err(ChoiceError::WhichTap { found })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::config::Overrides;
    use crate::host::link::Peer;
    use crate::types::MacAddr;

    fn config(mode: Mode) -> Config {
        Config::load(None, Overrides { mode, ..Overrides::default() }).unwrap()
    }

    fn veth(netns: Option<&str>, peer_mtu: u32) -> Link {
        let key = |name: &str| DeviceKey::new(netns, name);
        let peer = Peer { ifindex: 3, key: Some(key("far")), mtu: Some(peer_mtu), tx_queues: Some(1) };
        Link {
            key: key("near"),
            ifindex: 2,
            mac: MacAddr::zero(),
            mtu: 1500,
            up: true,
            carrier: true,
            noarp: false,
            kind: "veth".to_owned(),
            peer: Some(peer),
            rx_queues: 1,
            tx_queues: 1,
            xdp_program: None,
        }
    }

    #[test]
    fn auto_takes_af_xdp_where_it_can_and_says_why_not_elsewhere() {
        let auto = config(Mode::Auto);
        let fall_back = Way::AfXdp { may_fall_back: true };
        assert_eq!(choose(&veth(None, 1500), &auto, true).unwrap().way, fall_back);
        assert_eq!(choose(&veth(None, NATIVE_XDP_MTU_MAX), &auto, true).unwrap().way, fall_back);
        for (link, af_xdp, word) in [
            (veth(None, 32768), true, "32768"),
            (veth(None, 1500), false, "CONFIG_XDP_SOCKETS"),
            (veth(Some("inner"), 1500), true, "namespace"),
        ] {
            let choice = choose(&link, &auto, af_xdp).unwrap();
            assert_eq!(choice.way, Way::AfPacket);
            assert!(choice.reason.contains(word), "{}", choice.reason);
        }
    }

    #[test]
    fn af_xdp_that_was_asked_for_is_given_or_refused_and_never_replaced() {
        let asked = config(Mode::AfXdp);
        assert_eq!(choose(&veth(None, 1500), &asked, true).unwrap().way, Way::AfXdp { may_fall_back: false });
        let too_large = choose(&veth(None, 9000), &asked, true).unwrap_err().to_string();
        assert!(
            too_large.contains("MTU 9000") && too_large.contains("far") && too_large.contains("--mode"),
            "{too_large}"
        );
        let no_kernel = choose(&veth(None, 1500), &asked, false).unwrap_err().to_string();
        assert!(no_kernel.contains("near") && no_kernel.contains("af-packet"), "{no_kernel}");
    }
}
