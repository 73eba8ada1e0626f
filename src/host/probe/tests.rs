//! The probe on a pair of its own: right answers, and nothing left. Needs root.

use super::*;
use crate::host::output;
use crate::types::DeviceKey;

struct Netns(String);

impl Drop for Netns {
    fn drop(&mut self) {
        let _gone = output("ip", &["netns", "del", &self.0]);
    }
}

fn state(netns: &str) -> String {
    let words = [vec!["-d", "link", "show"], vec!["netns", "list"]];
    let mut all: Vec<String> =
        words.iter().map(|w| output("ip", &[&["-n", netns], w.as_slice()].concat()).unwrap()).collect();
    all.push(output("tc", &["-n", netns, "qdisc", "show"]).unwrap());
    all.push(output("ip", &["netns", "exec", netns, "ethtool", "-k", "left"]).unwrap());
    all.join("\n")
}

#[test]
fn a_veth_is_tried_and_left_as_it_was() {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var("CI").is_err(), "the tests of real devices need root");
        return;
    }
    let netns = Netns(format!("viscum-probe-{}", std::process::id()));
    output("ip", &["netns", "add", &netns.0]).unwrap();
    let add = "link add left mtu 1500 type veth peer name right mtu 1500";
    output("ip", &[&["-n", netns.0.as_str()], add.split(' ').collect::<Vec<_>>().as_slice()].concat()).unwrap();
    let key = DeviceKey::new(Some(&netns.0), "left");
    let before = state(&netns.0);
    let found = device(&key, false).unwrap().section;
    assert_eq!(state(&netns.0), before);
    for name in ["XDP native", "XDP generic", "XDP multi-buffer", "AF_XDP by copy"] {
        assert_eq!(found.answer(name), Some(&Answer::yes()), "{name}");
    }
    assert!(matches!(found.answer("AF_XDP without copy"), Some(Answer::No { .. })), "{found:?}");
    assert_eq!(found.answer("driver"), Some(&Answer::is("veth")));
    let gro = found.items.iter().find(|i| i.name == "offload tx-tcp-segmentation").unwrap();
    assert_eq!(gro.remedy.as_deref(), Some("ethtool -K left tso off"));

    // An MTU of the other end that is too large is told with what to do.
    output("ip", &["-n", &netns.0, "link", "set", "right", "mtu", "9000"]).unwrap();
    let found = device(&key, false).unwrap().section;
    let native = found.items.iter().find(|i| i.name == "XDP native").unwrap();
    assert!(matches!(native.answer, Answer::No { .. }), "{native:?}");
    assert_eq!(native.remedy.as_deref(), Some("ip link set right mtu 1500"));
    assert_eq!(found.answer("XDP multi-buffer"), Some(&Answer::yes()));

    // A device that another viscum serves is not touched, nor one that must only be looked at.
    let held = crate::host::lock::device(&key).unwrap();
    let served = device(&key, false).unwrap().section;
    assert!(matches!(served.answer("XDP native"), Some(Answer::Untried { why }) if why.contains("already served")));
    drop(held);
    let passive = device(&key, true).unwrap().section;
    assert!(matches!(passive.answer("XDP generic"), Some(Answer::Untried { why }) if why.contains("--passive")));
    let unknown = device(&DeviceKey::new(Some(&netns.0), "lef"), true).unwrap_err().to_string();
    assert!(unknown.contains("lef") && unknown.contains("left"), "{unknown}");
}

#[test]
fn the_kernel_answers_everything() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let [kernel, tc] = kernel();
    assert!(matches!(kernel.answer("release"), Some(Answer::Is { .. })));
    let untried: Vec<&Item> =
        kernel.items.iter().chain(&tc.items).filter(|i| matches!(i.answer, Answer::Untried { .. })).collect();
    assert_eq!(untried, Vec::<&Item>::new());
    assert_eq!(tc.answer("classifier u32"), Some(&Answer::yes()));
}
