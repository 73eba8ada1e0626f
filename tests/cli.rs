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
