//! Devices as the kernel knows them, asked through `ip -json` (which can ask any namespace without entering it). It changes none.

use serde_json::Value;

use super::{HostError, netns, output, peer};
use crate::types::{Device, DeviceKey, DeviceKind, MacAddr, Topology};

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Name and namespace.
    pub key: DeviceKey,
    /// The kernel's number of it, unique in its namespace.
    pub ifindex: u32,
    /// Hardware address; zero if it has none.
    pub mac: MacAddr,
    /// In bytes, without the Ethernet header.
    pub mtu: u32,
    /// `ip link set … up` was done.
    pub up: bool,
    /// It has a carrier (IFF_LOWER_UP).
    pub carrier: bool,
    /// Without ARP.
    pub noarp: bool,
    /// rtnetlink's kind (`veth`, `tun`, …); empty for a NIC, `loopback` for lo.
    pub kind: String,
    /// The other end of a veth pair.
    pub peer: Option<Peer>,
    /// Receive queues that the driver made room for.
    pub rx_queues: u32,
    /// Transmit queues that the driver made room for.
    pub tx_queues: u32,
    /// Id of an attached XDP program, whoever's it is.
    pub xdp_program: Option<u32>,
}

/// The other end of a veth pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its number, in its own namespace.
    pub ifindex: u32,
    /// Its name and namespace, if the namespace is this one or has a name.
    pub key: Option<DeviceKey>,
    /// Its MTU in bytes, if it could be asked: it limits native XDP (`veth_xdp_set`, drivers/net/veth.c).
    pub mtu: Option<u32>,
    /// Its transmit queues, if it could be asked: native XDP needs as many receive queues (same function).
    pub tx_queues: Option<u32>,
}

/// How many receive queues are in use: what the driver made room for may be more. 1 if it cannot be seen.
/// /sys shows the devices of the namespace that it was mounted in, so `ip netns exec`, which mounts its own, looks elsewhere.
#[must_use]
pub fn active_queues(link: &Link) -> usize {
    let Some(netns) = &link.key.netns else { return queues_of(&link.key.name) };
    let path = format!("/sys/class/net/{}/queues", link.key.name);
    let list = output("ip", &["netns", "exec", netns, "ls", &path]).unwrap_or_default();
    list.split_whitespace().filter(|name| name.starts_with("rx-")).count().max(1)
}

/// As [`active_queues`], of a device of the own namespace.
#[must_use]
pub fn queues_of(name: &str) -> usize {
    let Ok(entries) = std::fs::read_dir(format!("/sys/class/net/{name}/queues")) else { return 1 };
    entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with("rx-")).count().max(1)
}

/// Names and addresses of the devices of the caller's namespace.
#[must_use]
pub fn local() -> Vec<(String, Option<MacAddr>)> {
    pnet::datalink::interfaces().into_iter().map(|i| (i.name, i.mac)).collect()
}

/// All devices of a namespace.
///
/// # Errors
/// [`HostError::NoNamespace`]; [`HostError::Command`] if `ip` fails or speaks no JSON.
pub fn all(netns: Option<&str>) -> Result<Vec<Link>, HostError> {
    let values = json("ip", netns, &["-details", "-json", "link", "show"])?;
    Ok(values.iter().filter_map(|v| parse(netns, v)).collect())
}

/// One device, its veth peer included.
///
/// # Errors
/// [`HostError::NoDevice`] names those that exist; else as [`all`].
pub fn find(key: &DeviceKey) -> Result<Link, HostError> {
    let mut links = all(key.netns.as_deref())?;
    let Some(at) = links.iter().position(|l| l.key.name == key.name) else {
        let names: Vec<String> = match &key.netns {
            None => local().into_iter().map(|(name, _)| name).collect(),
            Some(_) => links.into_iter().map(|l| l.key.name).collect(),
        };
        return Err(HostError::NoDevice { key: key.clone(), others: nearest(&key.name, names) });
    };
    let mut link = links.swap_remove(at);
    peer::complete(&mut link);
    Ok(link)
}

/// Whether a device exists; a namespace that does not exist has none.
///
/// # Errors
/// [`HostError::Command`] if `ip` fails.
pub fn exists(key: &DeviceKey) -> Result<bool, HostError> {
    match all(key.netns.as_deref()) {
        Ok(links) => Ok(links.iter().any(|l| l.key.name == key.name)),
        Err(HostError::NoNamespace { .. }) => Ok(false),
        Err(e) => Err(e),
    }
}

/// A device itself, whatever its name: its namespace and its index there.
pub type Identity = (Option<netns::Identity>, u32);

/// Which device has this name now; `None`: none has.
#[must_use]
pub fn identity(key: &DeviceKey) -> Option<Identity> {
    let ask = || nix::net::if_::if_nametoindex(key.name.as_str()).ok().map(|index| (netns::own(), index));
    netns::in_namespace(key.netns.as_deref(), ask).ok().flatten()
}

/// Whether the device has an `ingress` or `clsact` qdisc (they exclude each other).
///
/// # Errors
/// [`HostError::Command`] if `tc` fails.
pub fn has_ingress_qdisc(key: &DeviceKey) -> Result<bool, HostError> {
    let qdiscs = json("tc", key.netns.as_deref(), &["-json", "qdisc", "show", "dev", &key.name])?;
    Ok(qdiscs.iter().any(|q| matches!(q["kind"].as_str(), Some("ingress" | "clsact"))))
}

/// The devices that exist among `keys`, veth peers among them joined; the second part lists those that do not exist.
///
/// # Errors
/// [`HostError::Command`] if `ip` fails.
pub fn topology(keys: &[DeviceKey]) -> Result<(Topology, Vec<DeviceKey>), HostError> {
    let mut links = Vec::new();
    let mut missing = Vec::new();
    for key in keys {
        match find(key) {
            Ok(link) => links.push(link),
            Err(HostError::NoDevice { .. } | HostError::NoNamespace { .. }) => missing.push(key.clone()),
            Err(e) => return Err(e),
        }
    }
    let mut topology = Topology { devices: links.iter().map(device).collect() };
    for (at, link) in links.iter().enumerate() {
        let peer_key = link.peer.as_ref().and_then(|p| p.key.as_ref());
        let found = peer_key.and_then(|k| topology.find(k));
        if let DeviceKind::Veth { peer } = &mut topology.devices[at].kind {
            *peer = found;
        }
    }
    Ok((topology, missing))
}

fn device(link: &Link) -> Device {
    let kind = match link.kind.as_str() {
        "veth" => DeviceKind::Veth { peer: None },
        "loopback" => DeviceKind::Loopback,
        _ => DeviceKind::Wire,
    };
    Device { key: link.key.clone(), mac: link.mac, mtu: link.mtu, up: link.up && link.carrier, kind }
}

pub(super) fn json(program: &str, netns: Option<&str>, args: &[&str]) -> Result<Vec<Value>, HostError> {
    let mut line: Vec<&str> = Vec::new();
    if let Some(name) = netns {
        if !netns::exists(name) {
            return Err(HostError::NoNamespace { name: name.to_owned() });
        }
        line.extend(["-netns", name]);
    }
    line.extend(args);
    let text = output(program, &line)?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&text).map_err(|e| HostError::Command {
        command: format!("{program} {}", line.join(" ")),
        reason: format!("no JSON: {e}; a newer iproute2 is needed"),
    })
}

fn parse(netns: Option<&str>, v: &Value) -> Option<Link> {
    let number = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    let flags: Vec<&str> = v["flags"].as_array()?.iter().filter_map(Value::as_str).collect();
    let kind = v["linkinfo"]["info_kind"].as_str().unwrap_or(match v["link_type"].as_str() {
        Some("loopback") => "loopback",
        _ => "",
    });
    let ifindex = number(&v["ifindex"])?;
    // In the same namespace `ip` gives the peer's name, in another one its number.
    let peer = if kind == "veth" {
        match (number(&v["link_index"]), v["link"].as_str()) {
            (Some(ifindex), _) => Some(Peer { ifindex, key: None, mtu: None, tx_queues: None }),
            (None, Some(name)) => {
                Some(Peer { ifindex: 0, key: Some(DeviceKey::new(netns, name)), mtu: None, tx_queues: None })
            }
            (None, None) => None,
        }
    } else {
        None
    };
    Some(Link {
        key: DeviceKey::new(netns, v["ifname"].as_str()?),
        ifindex,
        mac: v["address"].as_str().and_then(|a| a.parse().ok()).unwrap_or(MacAddr::zero()),
        mtu: number(&v["mtu"])?,
        up: flags.contains(&"UP"),
        carrier: flags.contains(&"LOWER_UP"),
        noarp: flags.contains(&"NOARP"),
        kind: kind.to_owned(),
        peer,
        rx_queues: number(&v["num_rx_queues"]).unwrap_or(1),
        tx_queues: number(&v["num_tx_queues"]).unwrap_or(1),
        // With several programs attached (XDP_ATTACHED_MULTI) there is only the list.
        xdp_program: number(&v["xdp"]["prog"]["id"]).or_else(|| number(&v["xdp"]["attached"][0]["prog"]["id"])),
    })
}

/// How many names a message about a missing device shows.
const NAMES_SHOWN: usize = 8;

/// Names for a message, the most similar to `wanted` first: what is missing is often a slip of the finger.
fn nearest(wanted: &str, mut names: Vec<String>) -> String {
    names.sort_by_cached_key(|name| (distance(wanted, name), name.clone()));
    let hidden = names.len().saturating_sub(NAMES_SHOWN);
    names.truncate(NAMES_SHOWN);
    let shown = names.join(", ");
    if hidden == 0 { shown } else { format!("{shown} and {hidden} more") }
}

/// Letters to insert, remove or replace to turn one name into the other (Levenshtein), one row of the table at a time.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
