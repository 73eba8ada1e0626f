//! `viscum top`: its totals are what was sent, its rates are of the time that it says, and a terminal is afterwards as it was.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use viscum::lab::net::{APPLICATION, CAMERA, CLOUD_ADDRESS, MEC};

use crate::forward::{NUMBERS_PORT, WAYS};
use crate::support::forwarder::{Forwarder, VISCUM, command, project, text, viscum};
use crate::support::testbed::Testbed;
use crate::support::traffic::{Counter, send_numbers};

/// The words of the first line of the last block that begins so.
fn last_line<'a>(said: &'a str, start: &str) -> Vec<&'a str> {
    let line = said.lines().rfind(|line| line.starts_with(start));
    line.unwrap_or_else(|| panic!("no line begins with {start:?}:\n{said}")).split_whitespace().collect()
}

/// `1.25k` as a number.
fn speed(word: &str) -> f64 {
    let (number, unit) = word.split_at(word.trim_end_matches(['k', 'M', 'G', 'T']).len());
    let power = ["", "k", "M", "G", "T"].iter().position(|u| *u == unit).unwrap();
    number.parse::<f64>().unwrap() * 1000_f64.powi(power as i32)
}

/// What was counted between blocks, by their own rates and times: a block's rate times its seconds.
fn sum_of_rates(said: &str, start: &str, column: usize) -> f64 {
    let blocks = said.split("viscum top: ").skip(1);
    let frames = |block: &str| {
        let (head, _) = block.split_once(" s between").unwrap();
        let seconds: f64 = head.rsplit(' ').next().unwrap().parse().unwrap();
        let line = block.lines().find(|line| line.starts_with(start));
        line.map_or(0.0, |line| speed(line.split_whitespace().nth(column).unwrap()) * seconds)
    };
    blocks.map(frames).sum()
}

fn while_numbers_flow(forwarder: &Forwarder, and: impl FnOnce()) -> String {
    let mut watching = command(None, &["top", "-b", "-i", "0.3", "--socket", &forwarder.socket()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(watching.stdout.take().unwrap());
    let mut said = String::new();
    out.read_line(&mut said).unwrap();
    let reading = std::thread::spawn(move || out.read_to_string(&mut said).map(|_| said).unwrap());
    and();
    // The statistics of a port are published within 200 ms.
    std::thread::sleep(Duration::from_millis(1500));
    kill(Pid::from_raw(i32::try_from(watching.id()).unwrap()), Signal::SIGINT).unwrap();
    let output = watching.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    reading.join().unwrap()
}

#[test]
fn totals_and_rates_are_those_of_a_stream_that_was_sent() {
    for way in [WAYS[0], WAYS[2]] {
        let Some(_testbed) = way.testbed() else { return };
        let drops = project("tests/rules/drops.tc");
        let forwarder = way.start(&[&drops]);
        let at_edge = Counter::start(APPLICATION, NUMBERS_PORT);
        let said = while_numbers_flow(&forwarder, || {
            send_numbers(CAMERA, CLOUD_ADDRESS, NUMBERS_PORT, 3000, 4, 1);
            send_numbers(CAMERA, CLOUD_ADDRESS, 5002, 100, 4, 1);
        });
        assert_eq!(at_edge.end().len(), 3000);
        let rule = "eth0 ingress pref 2 u32 801::800";
        let words = last_line(&said, rule);
        assert_eq!((words[8], words[9]), ("3000", "skbmod,"), "{said}");
        let first = said.split("\n\n").find(|table| table.starts_with("RULE") && table.contains(" 3000 ")).unwrap();
        assert!(first.lines().nth(1).unwrap().starts_with(rule), "the busiest rule is the first: {first}");
        assert_eq!(*last_line(&said, "eth0 rule ").last().unwrap(), "100", "{said}");
        // Other frames (ARP, with AF_PACKET) may be among those of a device.
        let received: u64 = last_line(&said, "eth0  ")[8].parse().unwrap();
        let sent: u64 = last_line(&said, "IMAGE_HOST_VETH  ")[9].parse().unwrap();
        assert!((3100..3200).contains(&received) && (3000..3100).contains(&sent), "{said}");
        assert_eq!(last_line(&said, "0 eth0")[7], received.to_string(), "one queue has it all: {said}");
        // Rates have three digits.
        for (start, column, frames) in [(rule, 6, 3000.0), ("0 eth0", 2, received as f64)] {
            let sum = sum_of_rates(&said, start, column);
            assert!((sum - frames).abs() < 0.05 * frames, "{start}: the rates add up to {sum}, not {frames}:\n{said}");
        }
        let busy: f64 = last_line(&said, "     0 ")[2].parse().unwrap();
        assert!((0.0..=100.0).contains(&busy), "{said}");
        forwarder.stop();
    }
}

#[test]
fn without_a_worker_it_shows_what_the_kernel_counts() {
    let copied = tempfile::NamedTempFile::new().unwrap();
    // The kernel's own tc does not have every action everywhere.
    let copy = format!(
        "tc qdisc add dev eth0 ingress\ntc filter add dev eth0 parent ffff: prio 2 protocol ip \
         u32 match ip protocol 17 0xff match ip dport {NUMBERS_PORT} 0xffff action mirred egress redirect dev IMAGE_HOST_VETH\n"
    );
    std::fs::write(copied.path(), copy).unwrap();
    let copied = [copied.path().display().to_string()];
    let usual = [project("configs/alpr.tc"), project("tests/rules/numbers.tc")];
    for (mode, rules, taken, rule) in [
        ("xdp", &usual[..], "500", "eth0 ingress pref 2 u32 801::800"),
        ("tc-bpf", &usual[..], "500", "eth0 ingress pref 2 u32 801::800"),
        ("tc", &copied[..], "-", "eth0 ingress pref 2 u32 800::800"),
    ] {
        let Some(_testbed) = Testbed::up(WAYS[0].deliver, 1500) else { return };
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        let forwarder = Forwarder::start(MEC, &rules, "", &["--mode", mode]);
        let said = while_numbers_flow(&forwarder, || send_numbers(CAMERA, CLOUD_ADDRESS, NUMBERS_PORT, 500, 1, 1));
        assert_eq!(last_line(&said, rule)[8], "500", "{mode}: {said}");
        let device = last_line(&said, "eth0  ");
        assert_eq!((device[1], device[8], device[10]), ("-", "-", taken), "{mode}: {said}");
        assert!(!said.contains("QUEUE") && !said.contains("WORKER"), "{mode}: {said}");
        forwarder.stop();
    }
}

/// On a terminal of `script`: q and SIGINT end it, and the screen and the keys are given back.
#[test]
fn a_terminal_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock").display().to_string();
    let mut forwarder =
        command(None, &["run", "--state-only", "--socket", &socket]).stdout(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !viscum(None, &["status", "--socket", &socket]).status.success() {
        assert!(Instant::now() < deadline, "the forwarder does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    let top = format!("{VISCUM} top -i 0.2 --socket {socket}");
    for ending in ["q", "signal", "count"] {
        let line = match ending {
            "q" => format!("stty -a > {0}/before; {top}; echo code $?; stty -a > {0}/after", dir.path().display()),
            "signal" => format!("timeout --foreground -s INT 1 {top}; echo code $?"),
            _ => format!("{top} -n 2; echo code $?"),
        };
        let mut script = Command::new("script")
            .args(["-q", "-e", "-c", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut keys = script.stdin.take().unwrap();
        if ending == "q" {
            std::thread::sleep(Duration::from_millis(1000));
            std::io::Write::write_all(&mut keys, b"q").unwrap();
        }
        let output = script.wait_with_output().unwrap();
        drop(keys);
        let said = text(&output.stdout);
        let shown = said.find("viscum top: pid ").unwrap_or_else(|| panic!("{ending}: nothing was drawn: {said:?}"));
        let opened = said.find("\x1b[?1049h").unwrap();
        let closed = said.rfind("\x1b[?1049l").unwrap_or_else(|| panic!("{ending}: {said:?}"));
        assert!(opened < shown && shown < closed && said[closed..].contains("code "), "{ending}: {said:?}");
    }
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(read("before"), read("after"));
    forwarder.kill().unwrap();
    forwarder.wait().unwrap();
    let output = viscum(None, &["top", "-b", "--socket", &socket]);
    assert!(!output.status.success() && text(&output.stderr).contains("start one with `viscum run`"));
}
