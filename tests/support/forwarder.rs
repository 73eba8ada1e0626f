//! The program as a user runs it: `viscum run` in a namespace, and the commands that ask it.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use viscum::host::netns::in_namespace;

/// The program under test.
pub const VISCUM: &str = env!("CARGO_BIN_EXE_viscum");

/// Runs `viscum` with these words, in a namespace if one is given, to its end.
pub fn viscum(netns: Option<&str>, words: &[&str]) -> Output {
    command(netns, words).output().unwrap()
}

pub fn command(netns: Option<&str>, words: &[&str]) -> Command {
    let mut command = match netns {
        None => Command::new(VISCUM),
        Some(netns) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", netns, VISCUM]);
            command
        }
    };
    command.args(words).stdin(Stdio::null());
    command
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file below the project's root.
pub fn project(path: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path).display().to_string()
}

/// A running forwarder; killed when dropped.
pub struct Forwarder {
    child: Child,
    dir: tempfile::TempDir,
    lines: Receiver<String>,
    /// What it printed up to `ready: …`.
    pub started: String,
}

impl Forwarder {
    /// Starts it and waits until it forwards. A TOML text becomes its `--config`.
    pub fn start(netns: &str, rules: &[&str], config: &str, words: &[&str]) -> Self {
        Self::try_start(netns, rules, config, words).unwrap_or_else(|said| panic!("{said}"))
    }

    /// As [`Forwarder::start`]; what it said if it is not ready.
    pub fn try_start(netns: &str, rules: &[&str], config: &str, words: &[&str]) -> Result<Self, String> {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock").display().to_string();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, config).unwrap();
        let file = file.display().to_string();
        let mut all = vec!["run"];
        all.extend(rules);
        all.extend(["--config", &file, "--socket", &socket]);
        all.extend(words);
        let errors = std::fs::File::create(dir.path().join("err")).unwrap();
        let mut child = command(Some(netns), &all).stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in std::io::BufRead::lines(std::io::BufReader::new(stdout)).map_while(Result::ok) {
                let _nobody_listens = tell.send(line);
            }
        });
        let mut forwarder = Self { child, dir, lines, started: String::new() };
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match forwarder.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    forwarder.started += &format!("{line}\n");
                    if line.starts_with("ready: ") {
                        return Ok(forwarder);
                    }
                }
                Err(e) => {
                    let errors = forwarder.errors();
                    return Err(format!("viscum {all:?} is not ready ({e}):\n{}{errors}", forwarder.started));
                }
            }
        }
    }

    pub fn errors(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("err")).unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn socket(&self) -> String {
        self.dir.path().join("control.sock").display().to_string()
    }

    /// A command that asks the forwarder; it must succeed.
    pub fn ask(&self, words: &[&str]) -> String {
        let output = command(None, words).args(["--socket", &self.socket()]).output().unwrap();
        assert!(output.status.success(), "viscum {words:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The same from a namespace, whatever the answer.
    pub fn ask_from(&self, netns: &str, words: &[&str]) -> Output {
        let socket = self.socket();
        let ask = || command(None, words).env("VISCUM_SOCKET", &socket).output().unwrap();
        in_namespace(Some(netns), ask).unwrap()
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.ask(&["status", "-j"])).unwrap()
    }

    /// Packets that all filters of a hook counted, by their last action.
    pub fn packets(&self, words: &[&str]) -> u64 {
        let listing = self.ask(&[&["show"], words, &["-s", "-j"]].concat());
        let filters: Value = serde_json::from_str(&listing).unwrap_or_else(|e| panic!("{e}: {listing}"));
        let actions = filters.as_array().unwrap().iter().filter_map(|f| f["options"]["actions"].as_array());
        actions.map(|a| a.last().unwrap()["stats"]["packets"].as_u64().unwrap()).sum()
    }

    /// CPU time that it has used, in clock ticks (user and system).
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let words: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        words[11].parse::<u64>().unwrap() + words[12].parse::<u64>().unwrap()
    }

    /// Ends it as a user does and gives the last lines that it printed; every frame must be accounted for.
    pub fn stop(self) -> String {
        let (success, rest, errors) = self.end();
        assert!(success, "it ended in failure:\n{rest}{errors}");
        assert!(rest.ends_with("every received frame is accounted for\n"), "{rest}");
        rest
    }

    /// Ends it by SIGTERM: whether it says that all is well, the last lines that it printed, and its errors.
    pub fn end(mut self) -> (bool, String, String) {
        self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(10);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end on SIGTERM");
            std::thread::sleep(Duration::from_millis(10));
        };
        let rest = self.lines.iter().map(|l| l + "\n").collect();
        (status.success(), rest, self.errors())
    }

    /// SIGKILL: it can clean up nothing.
    pub fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.pid()).unwrap()), signal).unwrap();
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
