//! VLAN tags that rules put on and take off, between real devices: what leaves is what the rules say, byte for byte.

use pnet::datalink;
use viscum::host::netns::in_namespace;

use crate::support::forwarder::{Forwarder, project};
use crate::support::testbed::{Namespaces, sh, turn};
use crate::support::traffic::Tshark;

const TARGET: [u8; 6] = [2, 0, 0, 0, 0, 0x0b];

/// A UDP datagram to a port, behind these tags, with a payload of `payload` bytes.
fn frame(tags: &[(u16, u16)], port: u16, payload: usize) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 0x0a], TARGET)
        .ipv4([198, 18, 5, 1], [198, 18, 5, 2], 64)
        .udp(1000, port);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &vec![0x5a; payload]).unwrap();
    for (tpid, tci) in tags.iter().rev() {
        bytes.splice(12..12, [tpid.to_be_bytes(), tci.to_be_bytes()].concat());
    }
    bytes
}

fn send(netns: &str, device: &str, frames: &[Vec<u8>]) {
    in_namespace(Some(netns), || {
        let interface = datalink::interfaces().into_iter().find(|i| i.name == device).unwrap();
        let channel = datalink::channel(&interface, datalink::Config::default()).unwrap();
        let datalink::Channel::Ethernet(mut sender, _) = channel else { panic!("veth is an Ethernet device") };
        for frame in frames {
            sender.send_to(frame, None).unwrap().unwrap();
        }
    })
    .unwrap();
}

#[test]
fn tags_come_and_go_between_devices() {
    let Some(_turn) = turn() else { return };
    let (left, middle, right) = ("viscum-test-l", "viscum-test-m", "viscum-test-r");
    for mode in ["af-xdp", "af-packet"] {
        let _made = Namespaces::new(&["viscum-test-l", "viscum-test-m", "viscum-test-r"]);
        sh(middle, &format!("ip link add in0 type veth peer name a0 netns {left}"));
        sh(middle, &format!("ip link add out0 type veth peer name b0 address 02:00:00:00:00:0b netns {right}"));
        for (netns, device) in [(middle, "in0"), (middle, "out0"), (left, "a0"), (right, "b0")] {
            sh(netns, &format!("ip link set {device} up"));
        }
        let forwarder = Forwarder::start(middle, &[&project("tests/rules/vlan.tc")], "", &["--mode", mode]);
        assert!(forwarder.started.contains(&format!("in0: {mode}")), "{}", forwarder.started);
        let capture = Tshark::start(right, "b0", "ether src 02:00:00:00:00:0a");
        let (dot1q, dot1ad) = (0x8100, 0x88a8);
        let sent = [
            frame(&[], 1, 10),
            frame(&[], 1, 1472),
            frame(&[], 2, 20),
            frame(&[], 3, 30),
            frame(&[(dot1q, 0x2064)], 4, 40),
            frame(&[(dot1q, 0x2064)], 5, 50),
            frame(&[(dot1q, 0x2064)], 6, 60),
            frame(&[(dot1ad, 200), (dot1q, 100)], 7, 70),
        ];
        send(left, "a0", &sent);
        std::thread::sleep(std::time::Duration::from_millis(200));
        let seen = capture.end("udp", &["udp.dstport", "vlan.id", "vlan.priority", "udp.length", "frame.len"]);
        let expected = [
            "1\t100\t3\t18\t56",
            "1\t100\t3\t1480\t1518",
            "2\t200,100\t0,0\t28\t70",
            "3\t5\t0\t38\t76",
            "3\t6\t0\t38\t76",
            "4\t\t\t48\t82",
            "5\t9\t1\t58\t96",
            "6\t7,100\t0,1\t68\t110",
            "7\t\t\t78\t112",
        ];
        let (mut seen, mut expected) = (seen, expected.map(str::to_owned).to_vec());
        // A copy leaves before the frame that it is of, or behind it: ports keep their own order.
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected, "{mode}");
        forwarder.stop();
    }
}
