//! The testbed for one test: taken in turns, removed on failure too.

use std::fs::File;

use nix::fcntl::{Flock, FlockArg};
use viscum::app::config::Deliver;
use viscum::lab::{self, NetOptions, shell};

/// The testbed as long as it lives.
pub struct Testbed {
    _turn: Flock<File>,
}

impl Testbed {
    /// `None` without root, which is told; with `CI` set it must not be missing.
    pub fn up(deliver: Deliver, veth_mtu: u32) -> Option<Self> {
        let turn = turn()?;
        let bed = Self { _turn: turn };
        lab::up(&NetOptions { deliver, veth_mtu, ..NetOptions::default() }).unwrap();
        Some(bed)
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if let Err(e) = lab::down() {
            eprintln!("the testbed is left: {e}");
        }
    }
}

/// Whether this process may make namespaces and attach programs.
pub fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "tests with real devices need root");
    if !root {
        eprintln!("SKIPPED: tests with real devices need root");
    }
    root
}

/// Tests with real devices take turns, in whichever process they run: namespaces have fixed names, and there may be few cores.
pub fn turn() -> Option<Flock<File>> {
    if !is_root() {
        return None;
    }
    let file = File::create(std::env::temp_dir().join("viscum-lab-test.lock")).unwrap();
    Some(Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap())
}

/// Runs a command in a namespace and returns what it printed.
pub fn sh(netns: &str, line: &str) -> String {
    shell::run(Some(netns), line).unwrap_or_else(|e| panic!("{e}"))
}

/// Namespaces of a test's own, removed with what is in them.
pub struct Namespaces(pub &'static [&'static str]);

impl Namespaces {
    pub fn new(names: &'static [&'static str]) -> Self {
        let made = Self(names);
        made.remove();
        for name in names {
            shell::run(None, &format!("ip netns add {name}")).unwrap();
            sh(name, "ip link set lo up");
            sh(name, "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
        }
        made
    }

    fn remove(&self) {
        for name in self.0 {
            let _there_is_none = shell::try_run(None, &format!("ip netns del {name}"));
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.remove();
    }
}
