//! What `ip -details -json link show` prints (iproute2 6.1, shortened), and what is read from it.

use super::*;

fn link(json: &str) -> Option<Link> {
    parse(Some("ns"), &serde_json::from_str(json).unwrap())
}

const COMMON: &str = r#""mtu":1500,"operstate":"UP","link_type":"ether","num_tx_queues":4,"num_rx_queues":2"#;

#[test]
fn a_veth_whose_peer_is_in_another_namespace_has_its_number() {
    let text = format!(
        r#"{{"ifindex":2,"link_index":20,"ifname":"hx","flags":["BROADCAST","UP","LOWER_UP"],{COMMON},
           "address":"c2:f3:0b:f7:b3:cc","link_netnsid":0,"linkinfo":{{"info_kind":"veth"}}}}"#
    );
    let link = link(&text).unwrap();
    assert_eq!((link.key.to_string().as_str(), link.ifindex, link.kind.as_str()), ("ns/hx", 2, "veth"));
    assert_eq!((link.mac.to_string().as_str(), link.mtu), ("c2:f3:0b:f7:b3:cc", 1500));
    assert_eq!((link.up, link.carrier, link.noarp, link.rx_queues, link.tx_queues), (true, true, false, 2, 4));
    assert_eq!(link.peer, Some(Peer { ifindex: 20, key: None, mtu: None, tx_queues: None }));
}

#[test]
fn a_veth_whose_peer_is_in_the_same_namespace_has_its_name() {
    let text = format!(
        r#"{{"ifindex":3,"link":"ha","ifname":"hb","flags":["NOARP","M-DOWN"],{COMMON},"linkinfo":{{"info_kind":"veth"}}}}"#
    );
    let link = link(&text).unwrap();
    assert_eq!((link.up, link.carrier, link.noarp, link.mac), (false, false, true, MacAddr::zero()));
    assert_eq!(link.peer.unwrap().key, Some(DeviceKey::new(Some("ns"), "ha")));
}

#[test]
fn an_attached_xdp_program_is_seen_alone_and_among_several() {
    let with = |xdp: &str| {
        link(&format!(r#"{{"ifindex":4,"ifname":"e","flags":["UP"],{COMMON},"xdp":{xdp}}}"#)).unwrap().xdp_program
    };
    assert_eq!(with(r#"{"mode":2,"prog":{"id":3924},"attached":[{"mode":2,"prog":{"id":3924}}]}"#), Some(3924));
    // XDP_ATTACHED_MULTI, as with one in the driver and one on the card: no program stands out.
    assert_eq!(with(r#"{"mode":4,"attached":[{"mode":1,"prog":{"id":7}},{"mode":3,"prog":{"id":8}}]}"#), Some(7));
    assert_eq!(with("null"), None);
}

#[test]
fn a_nic_and_lo_have_no_kind_of_rtnetlink_and_no_peer() {
    let nic =
        link(&format!(r#"{{"ifindex":4,"ifname":"eth7","flags":["UP"],{COMMON},"parentbus":"virtio"}}"#)).unwrap();
    assert_eq!((nic.kind.as_str(), &nic.peer), ("", &None));
    let lo = link(r#"{"ifindex":1,"ifname":"lo","flags":["LOOPBACK"],"mtu":65536,"link_type":"loopback"}"#).unwrap();
    assert_eq!((lo.kind.as_str(), lo.rx_queues, device(&lo).kind), ("loopback", 1, DeviceKind::Loopback));
    // A VLAN device has a `link` too, which is no peer.
    let vlan =
        format!(r#"{{"ifindex":5,"link":"eth7","ifname":"v","flags":[],{COMMON},"linkinfo":{{"info_kind":"vlan"}}}}"#);
    assert_eq!(link(&vlan).unwrap().peer, None);
}

#[test]
fn what_is_no_link_is_left_out() {
    for text in ["{}", "null", r#"{"ifindex":-1,"ifname":"x","flags":[],"mtu":1}"#, r#"{"ifname":"x","flags":7}"#] {
        assert_eq!(link(text), None, "{text}");
    }
}

#[test]
fn the_nearest_names_come_first() {
    assert_eq!(
        [("", "abc"), ("abc", ""), ("eth0", "eth1"), ("kitten", "sitting")].map(|(a, b)| distance(a, b)),
        [3, 3, 1, 3]
    );
    assert_eq!(nearest("eht0", ["lo", "wlan0", "eth0"].map(str::to_owned).to_vec()), "eth0, lo, wlan0");
    assert_eq!(nearest("x", (0..10).map(|n| format!("v{n}")).collect()), "v0, v1, v2, v3, v4, v5, v6, v7 and 2 more");
}
