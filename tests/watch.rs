//! `viscum trace` and `viscum capture` on the testbed: every frame is there once, as it was, and what is said of it is what happened.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use viscum::lab::net::{APPLICATION, CAMERA, CLOUD_ADDRESS};

use crate::forward::{NUMBERS_PORT, WAYS, Way};
use crate::support::forwarder::{Forwarder, command, project, text, viscum};
use crate::support::traffic::{Counter, Tshark, read_capture, send_numbers};

/// A running `trace` or `capture`.
pub struct Watcher {
    child: Child,
    errors: Receiver<String>,
}

impl Watcher {
    /// Starts it and waits until it watches.
    pub fn start(forwarder: &Forwarder, words: &[&str], out: impl Into<Stdio>) -> Self {
        let mut all = vec![words[0], "--socket"];
        let socket = forwarder.socket();
        all.push(&socket);
        all.extend(&words[1..]);
        let mut child = command(None, &all).stdout(out).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (tell, errors) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let watcher = Self { child, errors };
        let first = watcher.errors.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(first.starts_with("watching "), "{first}");
        // The workers look at it in their next round.
        std::thread::sleep(Duration::from_millis(50));
        watcher
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, after a SIGINT if `interrupt`; what it said at last.
    pub fn end(mut self, interrupt: bool) -> String {
        if interrupt {
            kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGINT).unwrap();
        }
        let last = self.errors.iter().last().unwrap_or_default();
        assert!(self.child.wait().unwrap().success(), "{last}");
        last
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn start(way: Way) -> Forwarder {
    let drops = project("tests/rules/drops.tc");
    way.start(&[&drops])
}

/// In AF_XDP, AF_PACKET and tap: 2000 numbered datagrams forwarded, 100 dropped by a rule, 50 by a policer.
#[test]
fn a_capture_has_every_frame_once_as_the_far_end_saw_it() {
    for way in WAYS {
        let Some(_testbed) = way.testbed() else { return };
        let forwarder = start(way);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out.pcapng");
        let name = file.display().to_string();
        let watcher = Watcher::start(
            &forwarder,
            &["capture", "any", "-w", &name, "udp", "and", "portrange", "5001-5003"],
            Stdio::null(),
        );
        let far = Tshark::start(APPLICATION, "IMAGE_CONT_VETH", &format!("udp port {NUMBERS_PORT}"));
        let near = Tshark::start(CAMERA, "eth0", "udp and portrange 5001-5003");
        let at_edge = Counter::start(APPLICATION, NUMBERS_PORT);
        send_numbers(CAMERA, CLOUD_ADDRESS, NUMBERS_PORT, 2000, 4, 1);
        send_numbers(CAMERA, CLOUD_ADDRESS, 5002, 100, 4, 1);
        send_numbers(CAMERA, CLOUD_ADDRESS, 5003, 50, 4, 1);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(at_edge.end().len(), 2000);
        let said = watcher.end(true);
        // Not udp.checksum: what a veth hands over may still be without it, and a capture has it completed.
        let fields = ["udp.payload", "eth.src", "eth.dst", "ip.id", "ip.ttl", "ip.checksum", "frame.len"];
        let far = far.end("udp", &fields);
        let read = |display: &str, fields: &[&str]| read_capture(&file, display, fields);
        let out = read(r#"frame.interface_name == "IMAGE_HOST_VETH out" and udp.dstport == 5001"#, &fields);
        let differs = out.iter().zip(&far).find(|(out, far)| out != far);
        assert!(out == far && out.len() == 2000, "{} went out, {} were seen; {differs:?}", out.len(), far.len());
        // What came in is what was sent, but for the addresses of the last hop.
        let came = read(r#"frame.interface_name == "eth0 in""#, &["udp.payload", "ip.src", "ip.id"]);
        let sent = near.end("udp", &["udp.payload", "ip.src", "ip.id"]);
        assert!(came == sent && came.len() == 2150, "{} frames came in, {} were sent", came.len(), sent.len());
        // The policer lets one packet by each second.
        let count = |port: u16, comment: &str| {
            let all =
                read(&format!(r#"udp.dstport == {port} and frame.interface_name == "eth0 in""#), &["frame.comment"]);
            all.iter().filter(|c| c.starts_with(comment)).count()
        };
        let conforming = count(5003, "sent on by IMAGE_HOST_VETH");
        assert!((1..10).contains(&conforming), "{conforming}");
        assert_eq!(count(5003, "dropped: rule"), 50 - conforming);
        assert_eq!(count(5002, "dropped: rule (eth0 ingress pref 3 u32 802::800, action 1 gact: drop)"), 100);
        assert_eq!(count(5001, "sent on by IMAGE_HOST_VETH"), 2000);
        let ways = read("udp", &["frame.packet_flags", "frame.interface_name"]);
        assert_eq!(said, format!("{} frames captured, none lost", ways.len()));
        assert_eq!(ways.iter().filter(|w| *w == "0x00000001\teth0 in").count(), 2150);
        assert_eq!(ways.iter().filter(|w| *w == "0x00000002\tIMAGE_HOST_VETH out").count(), 2000 + conforming);
        forwarder.stop();
    }
}

/// A capture on stdout is what tshark reads, cut where asked; a trace says what happened, and a second one is not disturbed.
#[test]
fn a_trace_explains_what_happened_and_a_pipe_can_be_read() {
    let way = WAYS[2];
    let Some(_testbed) = way.testbed() else { return };
    let forwarder = start(way);
    let text_out = tempfile::NamedTempFile::new().unwrap();
    let json_out = tempfile::NamedTempFile::new().unwrap();
    let pipe_out = tempfile::NamedTempFile::new().unwrap();
    let open = |file: &tempfile::NamedTempFile| file.reopen().unwrap();
    let traced = Watcher::start(
        &forwarder,
        &["trace", "eth0", "-c", "5", "udp dst port 5001 and src net 198.18"],
        open(&text_out),
    );
    let json = Watcher::start(
        &forwarder,
        &["trace", "eth0", "-j", "port 5002 or 5003 or (icmp and not port 1)"],
        open(&json_out),
    );
    let piped =
        Watcher::start(&forwarder, &["capture", "eth0", "-w", "-", "-s", "60", "-c", "40", "udp"], open(&pipe_out));
    send_numbers(CAMERA, CLOUD_ADDRESS, NUMBERS_PORT, 20, 4, 1);
    send_numbers(CAMERA, CLOUD_ADDRESS, 5002, 20, 4, 1);
    send_numbers(CAMERA, CLOUD_ADDRESS, 5003, 20, 4, 1);
    assert_eq!(traced.end(false), "5 frames explained, none lost");
    assert_eq!(piped.end(false), "40 frames captured, none lost");
    let said = std::fs::read_to_string(text_out.path()).unwrap();
    assert_eq!(said.matches("\nforwarder: sent on by IMAGE_HOST_VETH, ").count(), 5, "{said}");
    for part in [
        "frame 5: 106 bytes received by eth0\n  eth0 ingress: 106 bytes, protocol 0x0800, host\n",
        "801::800 match 00001389/0000ffff at 20: the frame has",
        "bytes 0..6: 5c b9 01 c3 d9 38 -> 70 00 00 00 00 00",
        "why: eth0 ingress pref 2 u32 801::800, action 4 mirred: sent on\n",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    crate::support::testbed::sh(CAMERA, &format!("ping -c 2 -i 0.05 -W 2 {CLOUD_ADDRESS}"));
    std::thread::sleep(Duration::from_millis(200));
    assert!(json.end(true).ends_with(" frames explained, none lost"));
    let said = std::fs::read_to_string(json_out.path()).unwrap();
    let frames: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let did = |text: &str| frames.iter().filter(|f| f["forwarder"]["did"] == text).count();
    let (dropped, sent, left) = (did("dropped: rule"), did("sent on by IMAGE_HOST_VETH"), did("left to the kernel"));
    assert!(dropped + sent == 40 && sent < 5 && left >= 2 && dropped + sent + left == frames.len(), "{said}");
    let policed: Vec<&Value> = frames.iter().filter(|f| f["steps"].to_string().contains("\"police\"")).collect();
    let steps = policed[0]["steps"].as_array().unwrap();
    let police = steps.iter().find(|s| s["kind"] == "police").unwrap();
    let otherwise =
        policed.iter().filter(|f| f["forwarder"]["remark"].to_string().contains("otherwise than explained")).count();
    assert_eq!(otherwise, 20 - sent, "what the policer dropped was not foreseen, and that is said");
    assert!(police["unsure"].as_str().unwrap().contains("tokens"), "{police}");
    let cut = read_capture(pipe_out.path(), "frame", &["frame.cap_len", "frame.len"]);
    assert_eq!(cut.iter().filter(|c| *c == "60\t106").count(), 40, "{cut:?}");
    forwarder.stop();
}

/// The forwarder ends before those who watch it: they have what came, and are told.
#[test]
fn a_watcher_survives_a_reload_and_the_end_of_the_forwarder() {
    let way = WAYS[0];
    let Some(_testbed) = way.testbed() else { return };
    let forwarder = start(way);
    let mut trace = Watcher::start(&forwarder, &["trace", "eth0", "udp"], Stdio::piped());
    let mut out = trace.child.stdout.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut said = String::new();
        out.read_to_string(&mut said).unwrap();
        said
    });
    send_numbers(CAMERA, CLOUD_ADDRESS, NUMBERS_PORT, 10, 4, 1);
    std::thread::sleep(Duration::from_millis(100));
    let changed = project("configs/alpr.tc");
    let numbers = project("tests/rules/numbers.tc");
    let moved = std::fs::read_to_string(&numbers).unwrap().replace("prio 2 ", "prio 7 ");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), moved).unwrap();
    forwarder.ask(&["reload", &changed, &file.path().display().to_string()]);
    send_numbers(CAMERA, CLOUD_ADDRESS, NUMBERS_PORT, 10, 4, 1);
    std::thread::sleep(Duration::from_millis(100));
    forwarder.stop();
    assert_eq!(trace.end(false), "20 frames explained, none lost");
    let said = reading.join().unwrap();
    for pref in ["why: eth0 ingress pref 2 u32", "why: eth0 ingress pref 7 u32"] {
        assert_eq!(said.matches(pref).count(), 10, "{said}");
    }
}

/// What cannot be done is told with what to do; none of it needs privilege.
#[test]
fn what_cannot_be_watched_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock").display().to_string();
    let mut forwarder =
        command(None, &["run", "--state-only", "--socket", &socket]).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(forwarder.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    for (words, part) in [
        (&["trace", "eth0", "tcp", "and", "hots", "1.2.3.4"][..], "\n  tcp and hots 1.2.3.4\n          ^^^^"),
        (&["trace", "eth0"], "eth0: this forwarder does not serve the device; it serves: none"),
        (&["capture", "any", "-w", "/no/such/place"], "choose a place that can be written"),
        (&["capture", "any", "-w", "-"], "any: this forwarder does not serve the device"),
        (&["latency", "eth0"], "eth0: this forwarder does not serve the device; it serves: none"),
        (&["latency", "eth0", "-i", "0"], "0.1 to 3600 seconds can be had"),
        (&["top"], "plain text is `viscum top -b`"),
        (&["capture", "any"], "--write"),
    ] {
        let output = viscum(None, &[&words[..1], &["--socket", &socket], &words[1..]].concat());
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains(part), "{words:?}: {}", text(&output.stderr));
    }
    forwarder.kill().unwrap();
    forwarder.wait().unwrap();
}
