//! Where one path is measured: a sender's, a forwarder's and a receiver's network namespace, joined by veth pairs. Each path has a
//! bed of its own, so that all stand at once and their trials can take turns.
//!
//! ```text
//!  viscum-bench-N-from             viscum-bench-N                     viscum-bench-N-to
//!  gen0 198.18.0.1 ─────────────── eth0      BENCH_VETH ───────────── sink0 198.18.0.2
//! ```

use std::sync::Arc;

use super::frames::Ends;
use super::programs::load;
use super::{MeasureError, code};
use crate::host;
use crate::host::netns::in_namespace;
use crate::lab::shell::{run, try_run};
use crate::sys::bpf::{Kind, Link, Mode, Program};
use crate::types::{DeviceKey, MacAddr};

/// Names of all our namespaces start with this.
const PREFIX: &str = "viscum-bench-";
/// The forwarder's device towards the sender.
pub const IN: &str = "eth0";
/// The forwarder's device towards the receiver.
pub const OUT: &str = "BENCH_VETH";
/// The sender's device.
pub const GENERATOR: &str = "gen0";
/// The receiver's device.
pub const SINK: &str = "sink0";
/// The sender's address.
pub const FROM: [u8; 4] = [198, 18, 0, 1];
/// The receiver's address.
pub const TO: [u8; 4] = [198, 18, 0, 2];

/// Three namespaces with two veth pairs; they go when this is dropped.
#[derive(Debug)]
pub struct Bed {
    name: String,
    /// `eth0`, in its namespace.
    pub in_ifindex: u32,
    /// `BENCH_VETH`.
    pub out_ifindex: u32,
    /// `gen0`.
    pub generator_ifindex: u32,
    /// `sink0`.
    pub sink_ifindex: u32,
    /// MACs and addresses of sender and receiver.
    pub ends: Ends,
    /// A program at the far end in whose place sinks come and go.
    pub seat: Option<Arc<Seat>>,
}

/// A link at the far end with a program that passes everything. A veth takes redirected frames only if there is a program at its other end:
/// a forwarder in XDP would put one there itself, and a sink in XDP found no place.
#[derive(Debug)]
pub struct Seat {
    pub(super) link: Link,
    pub(super) pass: Program,
}

impl Bed {
    /// Puts a program at the far end, to be replaced by sinks.
    ///
    /// # Errors
    /// [`MeasureError::Program`].
    pub fn take_seat(&mut self) -> Result<(), MeasureError> {
        let pass = load(Kind::Xdp, "pass", &code::pass(), &[])?;
        let link = in_namespace(Some(&self.to()), || Link::xdp(&pass, self.sink_ifindex, Mode::Native))??;
        self.seat = Some(Arc::new(Seat { link, pass }));
        Ok(())
    }

    /// Makes the bed of path number `number`; what an earlier one of this number left is removed first.
    ///
    /// # Errors
    /// [`MeasureError::Lab`] if `ip` fails.
    pub fn make(number: usize, mtu: u32) -> Result<Self, MeasureError> {
        let name = format!("{PREFIX}{number}");
        remove(&name);
        let mac = |n: usize| MacAddr::new(2, 0, 0x18, number as u8, 0, n as u8);
        let [generator, input, output, sink] = [1, 2, 3, 4].map(mac);
        let [from, to] = [format!("{name}-from"), format!("{name}-to")];
        let mut bed = Self {
            name: name.clone(),
            in_ifindex: 0,
            out_ifindex: 0,
            generator_ifindex: 0,
            sink_ifindex: 0,
            seat: None,
            ends: Ends { from: generator, to: sink, source: FROM, destination: TO },
        };
        for netns in [&name, &from, &to] {
            run(None, &format!("ip netns add {netns}"))?;
            run(Some(netns), "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")?;
            run(None, &format!("ip -n {netns} link set lo up"))?;
        }
        for (netns, far, far_mac, near, near_mac) in
            [(&from, GENERATOR, generator, IN, input), (&to, SINK, sink, OUT, output)]
        {
            run(
                None,
                &format!(
                    "ip -n {netns} link add {far} address {far_mac} type veth peer name {near} address {near_mac} netns {name}"
                ),
            )?;
            run(None, &format!("ip -n {netns} link set {far} mtu {mtu} arp off up"))?;
            run(None, &format!("ip -n {name} link set {near} mtu {mtu} arp off up"))?;
        }
        bed.addresses(&from, &to)?;
        bed.in_ifindex = ifindex(&name, IN)?;
        bed.out_ifindex = ifindex(&name, OUT)?;
        bed.generator_ifindex = ifindex(&from, GENERATOR)?;
        bed.sink_ifindex = ifindex(&to, SINK)?;
        Ok(bed)
    }

    /// Sender and receiver believe that they are on one link: no rule has to write an address.
    fn addresses(&self, from: &str, to: &str) -> Result<(), MeasureError> {
        let text = |a: [u8; 4]| std::net::Ipv4Addr::from(a).to_string();
        for (netns, device, own, peer, mac) in
            [(from, GENERATOR, FROM, TO, self.ends.to), (to, SINK, TO, FROM, self.ends.from)]
        {
            run(None, &format!("ip -n {netns} addr add {}/24 dev {device}", text(own)))?;
            run(None, &format!("ip -n {netns} neigh add {} lladdr {mac} dev {device} nud permanent", text(peer)))?;
        }
        Ok(())
    }

    /// The forwarder's namespace.
    #[must_use]
    pub fn netns(&self) -> &str {
        &self.name
    }

    /// The sender's namespace.
    #[must_use]
    pub fn from(&self) -> String {
        format!("{}-from", self.name)
    }

    /// The receiver's namespace.
    #[must_use]
    pub fn to(&self) -> String {
        format!("{}-to", self.name)
    }

    /// Lets a device of the forwarder's take frames that a program redirects to its peer (a veth does so only with NAPI, which GRO
    /// turns on), or leaves it as it was made.
    ///
    /// # Errors
    /// [`MeasureError::Lab`] if ethtool fails.
    pub fn receive_by_napi(&self, on: bool) -> Result<(), MeasureError> {
        let word = if on { "on" } else { "off" };
        run(Some(&self.name), &format!("ethtool -K {IN} gro {word}"))?;
        Ok(())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

fn remove(name: &str) {
    for netns in [name.to_owned(), format!("{name}-from"), format!("{name}-to")] {
        if host::netns::exists(&netns) {
            let _gone_meanwhile = try_run(None, &format!("ip netns del {netns}"));
        }
    }
}

/// Removes what an earlier run left.
pub fn remove_all() {
    let left = host::netns::names().into_iter().filter(|n| n.starts_with(PREFIX));
    left.for_each(|netns| {
        let _gone_meanwhile = try_run(None, &format!("ip netns del {netns}"));
    });
}

fn ifindex(netns: &str, device: &str) -> Result<u32, MeasureError> {
    Ok(host::link::find(&DeviceKey::new(Some(netns), device))?.ifindex)
}
