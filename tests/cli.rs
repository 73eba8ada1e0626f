//! The commands that need no device: `check` and `replay`, as the program itself runs.

use std::process::Command;

use serde_json::Value;

use crate::golden::{cases, differences};
use crate::support::forwarder::{VISCUM, project, text, viscum};

/// The warnings of a rules file by name, on the devices of the lab's MEC box.
fn warnings(rules: &str) -> Vec<(String, u64)> {
    let output = viscum(None, &["check", "-j", &project(rules)]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    list.as_array()
        .unwrap()
        .iter()
        .map(|w| (w["code"].as_str().unwrap().to_owned(), w["line"].as_u64().unwrap()))
        .filter(|(name, _)| name != "no-device")
        .collect()
}

#[test]
fn check_finds_what_is_wrong_with_the_printed_rules() {
    let found = warnings("configs/alpr-as-printed.tc");
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    for name in ["port-mask", "impossible-flags", "source-port", "shadowed", "port-offset"] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    let shown: Vec<String> = warnings("configs/alpr-as-shown.tc").into_iter().map(|(name, _)| name).collect();
    assert!(shown.iter().any(|n| n == "port-mask") && !shown.iter().any(|n| n == "impossible-flags"), "{shown:?}");
    for good in ["configs/alpr.tc", "configs/speedtest.tc"] {
        assert_eq!(warnings(good), [], "{good}");
    }
}

#[test]
fn check_says_which_other_ports_match_and_can_be_strict() {
    let rules = project("configs/alpr-as-shown.tc");
    let said = text(&viscum(None, &["check", &rules]).stdout);
    assert!(said.contains("57, 313") && said.contains("12345"), "{said}");
    assert_eq!(viscum(None, &["check", "--strict", &rules]).status.code(), Some(1));
}

#[test]
fn replay_writes_what_the_kernel_did() {
    let mut wrong = Vec::new();
    for case in cases() {
        for engine in ["plan", "eval"] {
            let dir = tempfile::tempdir().unwrap();
            let path = |name: &str| case.join(name).display().to_string();
            let (rules, input, topology) = (path("rules.tc"), path("in.pcap"), path("case.toml"));
            let out = dir.path().display().to_string();
            let words = [
                "replay",
                "--rules",
                &rules,
                "--in",
                &input,
                "--topology",
                &topology,
                "--out",
                &out,
                "--engine",
                engine,
            ];
            let output = viscum(None, &words);
            assert!(output.status.success(), "{}: {}", case.display(), text(&output.stderr));
            wrong.extend(
                differences(&case, dir.path()).into_iter().map(|d| format!("{} {engine}: {d}", case.display())),
            );
            let listing = std::fs::read(dir.path().join("filters.json")).unwrap();
            assert!(serde_json::from_slice::<Value>(&listing).unwrap().is_object(), "{}", case.display());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A capture of 400 MB goes through 100 MB of memory, without a capability, and tells how far it is.
#[test]
fn replay_streams() {
    use std::io::Write;
    const FRAMES: u32 = 300_000;
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("long.pcap");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&input).unwrap());
    // Magic, version 2.4, zone, accuracy, snap length, Ethernet.
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 1] {
        file.write_all(&word.to_ne_bytes()).unwrap();
    }
    let mut frame = vec![0_u8; 1400];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&1386_u16.to_be_bytes());
    frame[23] = 6;
    frame[36..38].copy_from_slice(&12345_u16.to_be_bytes());
    for number in 0..FRAMES {
        for word in [number / 1000, number % 1000, 1400, 1400] {
            file.write_all(&word.to_ne_bytes()).unwrap();
        }
        file.write_all(&frame).unwrap();
    }
    file.into_inner().unwrap().sync_data().unwrap();
    let out = dir.path().join("out");
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-all", "--inh-caps", "-all", "prlimit", "--data=100000000", VISCUM, "replay"]);
    command.args(["--rules", &project("configs/alpr.tc"), "--dev", "eth0", "--in"]).arg(&input).arg("--out").arg(&out);
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("frames"), "no progress was told: {said}");
    let sent = std::fs::metadata(out.join("IMAGE_HOST_VETH.pcap")).unwrap().len();
    assert_eq!(sent, 24 + u64::from(FRAMES) * 1416, "each frame left by the veth");
    let frames = std::fs::read_to_string(out.join("frames.jsonl")).unwrap();
    assert_eq!(frames.lines().count(), FRAMES as usize);
}

/// What `explain` says of each frame of each case is what the kernel did with it.
#[test]
fn explain_ends_as_the_kernel_did() {
    for case in cases() {
        let path = |name: &str| case.join(name).display().to_string();
        let (rules, input, topology) = (path("rules.tc"), path("in.pcap"), path("case.toml"));
        let words = ["explain", "--rules", &rules, "--in", &input, "--topology", &topology, "-c", "100000"];
        let output = viscum(None, &words);
        assert!(output.status.success(), "{}: {}", case.display(), text(&output.stderr));
        let said = format!("\n{}", text(&output.stdout));
        let said: Vec<&str> = said.split("\nframe ").skip(1).collect();
        let frames = std::fs::read_to_string(case.join("out/frames.jsonl")).unwrap();
        let mut checked = 0;
        for (said, line) in said.iter().zip(frames.lines()) {
            let frame: Value = serde_json::from_str(line).unwrap();
            let sent = frame["tx"].as_array().unwrap();
            let mut want: Vec<String> =
                sent.iter().map(|t| format!("{} transmits {} bytes", t["dev"].as_str().unwrap(), t["len"])).collect();
            let has_end = |l: &&str| l.starts_with("=> ") && l.contains(" transmits ");
            let mut have: Vec<String> = said.lines().filter(has_end).map(|l| l[3..].to_owned()).collect();
            want.sort();
            have.sort();
            // Devices of other namespaces are named with them; the kernel's record has taps only.
            have.retain(|l| !l.contains('/'));
            if want.iter().all(|w| have.contains(w)) {
                checked += 1;
                continue;
            }
            panic!("{} frame {}: the kernel {want:?}, explain {have:?}:\n{said}", case.display(), frame["n"]);
        }
        assert_eq!(checked, said.len(), "{}", case.display());
    }
}

#[test]
fn explain_shows_bytes_beside_values_and_what_actions_changed() {
    let frame = "5cb901c3d938 e4d3f1b1b483 0800 45000028000140004006 0000 c6120002 c633640a 9c403039 \
                 00000001 00000000 5002ffff 00000000";
    let (alpr, speed) = (project("configs/alpr.tc"), project("configs/speedtest.tc"));
    let explain = |rules: &str| {
        let output = viscum(None, &["explain", "--rules", rules, "--dev", "eth0", "--frame", frame]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let said = explain(&alpr);
    for part in [
        "800::800 match 00003039/0000ffff at 20: the frame has 9c403039, masked 00003039: yes",
        "bytes 0..6: 5c b9 01 c3 d9 38 -> 70 00 00 00 00 00",
        "packet type otherhost -> host",
        "=> IMAGE_HOST_VETH transmits 54 bytes",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    let said = explain(&speed);
    assert!(said.contains("dst_ip 198.51.100.20/255.255.255.255: the frame has 198.51.100.10: no"), "{said}");
    assert!(said.contains("no filter decided, so it passes"), "{said}");
    let output = viscum(None, &["explain", "--rules", &alpr, "--dev", "eth0", "--frame", "xyz"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--frame takes a whole frame"), "{}", text(&output.stderr));
}

/// Linked tables, goto, flower and matchall: each step in text and in JSON, and a frame that is too short for a key.
#[test]
fn explain_follows_links_and_chains_and_says_what_a_short_frame_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("r.tc").display().to_string();
    let filter = "tc filter add dev a parent ffff:";
    let lines = [
        "tc qdisc add dev a ingress".to_owned(),
        format!("{filter} prio 1 protocol ip handle 1: u32 divisor 1"),
        format!("{filter} prio 1 protocol ip u32 ht 1: match u16 0x50 0xffff at nexthdr+2 action goto chain 7"),
        format!("{filter} prio 1 protocol ip u32 match ip protocol 6 0xff link 1: offset at 0 mask 0f00 shift 6"),
        format!("{filter} chain 7 prio 1 protocol ip flower ip_proto tcp dst_port 81 action drop"),
        format!("{filter} chain 7 prio 2 protocol all matchall action vlan push id 5 action drop"),
    ];
    std::fs::write(&rules, lines.join("\n") + "\n").unwrap();
    let frame = "020000000002 020000000001 0800 450000280001400040060000 c6120002 c633640a 9c400050 00000001 \
                 00000000 5002ffff 00000000";
    let explain = |frame: &str, more: &[&str]| {
        let output = viscum(None, &[&["explain", "--rules", &rules, "--dev", "a", "--frame", frame], more].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let said = explain(frame, &[]);
    for part in [
        "link 1:0: keys there count from 0, nexthdr+ from 20",
        "match 00000050/0000ffff at nexthdr+0: the frame has 9c400050, masked 00000050: yes",
        "goto chain 7",
        "    chain 7\n",
        "dst_port 81/0xffff: the frame has 80: no",
        "outer tag none -> VLAN 5 priority 0 (0x8100)",
        "=> it ends at a: rule",
        "why: a ingress pref 2 matchall 0x1, action 2 gact: drop",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    let json: Value = serde_json::from_str(&explain(frame, &["-j"])).unwrap();
    let mut steps: Vec<&str> = json["steps"].as_array().unwrap().iter().map(|s| s["step"].as_str().unwrap()).collect();
    let all = "enter chain filter key link key match action chain filter flower filter match action verdict";
    steps.dedup();
    assert_eq!(steps.join(" "), all, "{json:#}");
    assert_eq!(json["why"][0], "a ingress pref 2 matchall 0x1, action 2 gact: drop");
    let short: String = frame.split(' ').take(6).collect();
    let said = explain(&short, &[]);
    assert!(
        said.contains("cannot be read: the frame ends at 34, bytes 34..38 are needed, so the whole filter ends"),
        "{said}"
    );
    assert!(said.contains("why: a ingress: no filter matched (1 tried), so it passes"), "{said}");
    assert!(explain(&short, &["-j"]).contains("\"holds\":null"));
}

/// Every reason that a frame can be dropped for is explained in the README.
#[test]
fn the_readme_names_every_drop_reason() {
    let readme = std::fs::read_to_string(project("README.md")).unwrap();
    for reason in viscum::types::DropReason::ALL {
        assert!(readme.contains(&format!("`{}`", reason.as_str())), "{} is missing", reason.as_str());
    }
}
