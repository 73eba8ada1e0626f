//! The testbed's network: camera, edge router, MEC box, cloud and the application's namespace, and its removal. It starts no program.
//!
//! ```text
//!  viscum-camera          viscum-router                    viscum-mec                 imagedetection
//!  eth0 198.18.0.2 ─── cam 198.18.0.1                  ┌── eth0 198.18.1.2
//!                      mec 198.18.1.1 ─────────────────┘   IMAGE_HOST_VETH ───────── IMAGE_CONT_VETH
//!                      cloud 198.51.100.1 ─┐               150.0.0.2                 150.0.0.1
//!  viscum-cloud                            │
//!  eth0 198.51.100.10 ─────────────────────┘
//! ```
//!
//! The router sends what the camera sends to the MEC box; what no rule takes there comes back and goes on to the cloud.

use super::shell::{LabError, run, try_run};
use crate::app::config::Deliver;

/// The camera's namespace.
pub const CAMERA: &str = "viscum-camera";
/// The router's namespace.
pub const ROUTER: &str = "viscum-router";
/// The MEC box's namespace: the forwarder runs here.
pub const MEC: &str = "viscum-mec";
/// The cloud's namespace.
pub const CLOUD: &str = "viscum-cloud";
/// The hosted application's namespace, named as in the rules.
pub const APPLICATION: &str = "imagedetection";
/// The address that the camera talks to.
pub const CLOUD_ADDRESS: &str = "198.51.100.10";
/// The cloud's other address: the speed test's service. One service, one address, as the paper's rules have it.
pub const SPEEDTEST_ADDRESS: &str = "198.51.100.20";
/// The MEC box's address on the router's link.
pub const MEC_ADDRESS: &str = "198.18.1.2";
/// The camera's address.
pub const CAMERA_ADDRESS: &str = "198.18.0.2";

const NAMESPACES: [&str; 5] = [CAMERA, ROUTER, MEC, CLOUD, APPLICATION];

/// What to try on the testbed, for people.
pub const HOW_TO_USE: &str = "\
the testbed is up: viscum-camera, viscum-router, viscum-mec, viscum-cloud, imagedetection; try

    ip netns exec imagedetection viscum lab plate-server &
    ip netns exec viscum-cloud   viscum lab plate-server &
    ip netns exec viscum-mec     viscum run configs/alpr.tc &
    ip netns exec viscum-camera  viscum lab camera --to 198.51.100.10:12345 PICTURE.jpg
    viscum show -s
    viscum lab down
";

/// How the testbed is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetOptions {
    /// By veth pair, or by tap in the namespace.
    pub deliver: Deliver,
    /// MTU of the pair (or tap) in bytes; the scenario's is 32768, too much for native XDP.
    pub veth_mtu: u32,
    /// MTU of the MEC box's eth0 and the router's end.
    pub eth0_mtu: u32,
}

impl Default for NetOptions {
    fn default() -> Self {
        Self { deliver: Deliver::Veth, veth_mtu: 32768, eth0_mtu: 1500 }
    }
}

/// Builds the testbed; what an earlier one left is removed first. Returns what had to be left out on this kernel.
///
/// # Errors
/// [`LabError`]; what was built so far is removed again.
pub fn up(options: &NetOptions) -> Result<Vec<String>, LabError> {
    down()?;
    let built = build(options);
    if built.is_err() {
        // The first error is the one to tell.
        let _second = down();
    }
    built
}

/// Removes the testbed's namespaces, and with them all devices in them. Not an error if there is none.
///
/// # Errors
/// [`LabError`].
pub fn down() -> Result<(), LabError> {
    let present = run(None, "ip netns list")?;
    for netns in NAMESPACES {
        if present.lines().any(|l| l.split_whitespace().next() == Some(netns)) {
            run(None, &format!("ip netns del {netns}"))?;
        }
    }
    Ok(())
}

/// Whether the testbed is there.
#[must_use]
pub fn is_up() -> bool {
    run(None, "ip netns list")
        .is_ok_and(|list| NAMESPACES.iter().all(|n| list.lines().any(|l| l.split_whitespace().next() == Some(*n))))
}

fn build(options: &NetOptions) -> Result<Vec<String>, LabError> {
    for netns in NAMESPACES {
        run(None, &format!("ip netns add {netns}"))?;
        run(None, &format!("ip -n {netns} link set lo up"))?;
        sysctl(netns, "net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")?;
        sysctl(netns, "net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0")?;
        sysctl(netns, "net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0")?;
        sysctl(netns, "net.ipv4.conf.all.accept_redirects=0 net.ipv4.conf.default.accept_redirects=0")?;
    }
    links(options)?;
    routes()?;
    let notes = application(options)?;
    Ok(notes)
}

fn sysctl(netns: &str, settings: &str) -> Result<(), LabError> {
    run(Some(netns), &format!("sysctl -qw {settings}")).map(drop)
}

/// Links between camera, router, MEC box and cloud.
fn links(options: &NetOptions) -> Result<(), LabError> {
    let pairs = [
        (CAMERA, "eth0", "02:00:00:00:01:02", "cam", "02:00:00:00:01:01"),
        (MEC, "eth0", "5c:b9:01:c3:d9:38", "mec", "e4:d3:f1:b1:b4:83"),
        (CLOUD, "eth0", "02:00:00:00:03:02", "cloud", "02:00:00:00:03:01"),
    ];
    for (netns, near, near_mac, far, far_mac) in pairs {
        run(
            None,
            &format!(
                "ip -n {netns} link add {near} address {near_mac} type veth peer name {far} address {far_mac} netns {ROUTER}"
            ),
        )?;
        let mtu = options.eth0_mtu;
        run(None, &format!("ip -n {netns} link set {near} mtu {mtu} up"))?;
        run(None, &format!("ip -n {ROUTER} link set {far} mtu {mtu} up"))?;
    }
    Ok(())
}

fn routes() -> Result<(), LabError> {
    for line in [
        format!("ip -n {CAMERA} addr add {CAMERA_ADDRESS}/24 dev eth0"),
        format!("ip -n {CAMERA} route add default via 198.18.0.1"),
        format!("ip -n {ROUTER} addr add 198.18.0.1/24 dev cam"),
        format!("ip -n {ROUTER} addr add 198.18.1.1/24 dev mec"),
        format!("ip -n {ROUTER} addr add 198.51.100.1/24 dev cloud"),
        // What comes from the camera goes to the MEC box first; what comes from there goes where it is addressed to.
        format!("ip -n {ROUTER} rule add iif cam lookup 10"),
        format!("ip -n {ROUTER} route add default via {MEC_ADDRESS} dev mec table 10"),
        format!("ip -n {MEC} addr add {MEC_ADDRESS}/24 dev eth0"),
        format!("ip -n {MEC} route add default via 198.18.1.1"),
        format!("ip -n {CLOUD} addr add {CLOUD_ADDRESS}/24 dev eth0"),
        format!("ip -n {CLOUD} addr add {SPEEDTEST_ADDRESS}/24 dev eth0"),
        format!("ip -n {CLOUD} route add default via 198.51.100.1"),
    ] {
        run(None, &line)?;
    }
    for netns in [ROUTER, MEC] {
        sysctl(netns, "net.ipv4.ip_forward=1")?;
    }
    Ok(())
}

/// The application's namespace, as steps 2 and 3 of the scenario make it.
fn application(options: &NetOptions) -> Result<Vec<String>, LabError> {
    let mtu = options.veth_mtu;
    match options.deliver {
        Deliver::Veth => {
            for line in [
                format!(
                    "ip -n {MEC} link add IMAGE_HOST_VETH address 70:11:00:00:00:00 type veth \
                     peer name IMAGE_CONT_VETH address 70:00:00:00:00:00 netns {APPLICATION}"
                ),
                format!("ip -n {MEC} link set IMAGE_HOST_VETH mtu {mtu} arp off up"),
                format!("ip -n {MEC} addr add 150.0.0.2/16 dev IMAGE_HOST_VETH"),
            ] {
                run(None, &line)?;
            }
        }
        Deliver::Tap => {
            run(None, &format!("ip -n {APPLICATION} tuntap add dev IMAGE_CONT_VETH mode tap"))?;
            run(None, &format!("ip -n {APPLICATION} link set IMAGE_CONT_VETH address 70:00:00:00:00:00"))?;
        }
    }
    sysctl(APPLICATION, "net.ipv4.conf.IMAGE_CONT_VETH.rp_filter=0 net.ipv4.conf.all.rp_filter=0")?;
    sysctl(APPLICATION, "net.ipv4.tcp_fwmark_accept=1 net.ipv4.fwmark_reflect=1")?;
    for line in [
        format!("ip -n {APPLICATION} link set IMAGE_CONT_VETH mtu {mtu} arp off up"),
        format!("ip -n {APPLICATION} rule add iif IMAGE_CONT_VETH lookup 100"),
        format!("ip -n {APPLICATION} route add local 0.0.0.0/0 dev lo table 100"),
        // Accepting is not enough: TCP answers only from an address that table `local` knows (__ip_dev_find(),
        // net/ipv4/devinet.c), so each hosted service's own address has to be there.
        format!("ip -n {APPLICATION} route add local {CLOUD_ADDRESS}/32 dev lo"),
        format!("ip -n {APPLICATION} route add local {SPEEDTEST_ADDRESS}/32 dev lo"),
        format!("ip -n {APPLICATION} addr add 150.0.0.1/16 dev IMAGE_CONT_VETH"),
        format!("ip -n {APPLICATION} route add default via 150.0.0.2"),
    ] {
        run(None, &line)?;
    }
    let mut notes = Vec::new();
    if !try_run(None, &format!("ip -n {APPLICATION} -6 rule add iif IMAGE_CONT_VETH lookup 100")) {
        notes.push("no IPv6 rule for IMAGE_CONT_VETH: this kernel has no IPv6 policy routing".to_owned());
    }
    let mut fq = vec![(MEC, "eth0"), (APPLICATION, "IMAGE_CONT_VETH")];
    if options.deliver == Deliver::Veth {
        fq.push((MEC, "IMAGE_HOST_VETH"));
    }
    for (netns, device) in fq {
        if !try_run(None, &format!("tc -n {netns} qdisc add dev {device} root handle 1: fq")) {
            notes.push(format!("no fq on {device}: this kernel has no sch_fq; pacing does not matter here"));
        }
    }
    Ok(notes)
}
