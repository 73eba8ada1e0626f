//! What can be typed. Nothing is looked at or opened here.

mod bench;
mod kernel;
mod live;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::app::config::{Deliver, Mode};

pub use bench::{Bench, BenchCommand, BenchRun, Part};
pub use kernel::Kernel;
pub use live::{Capture, Latency, Top, Trace};

/// Linux tc in userspace: takes the tc rules that you have and forwards frames by them, exactly as the kernel would.
#[derive(Debug, Parser)]
#[command(name = "viscum", version, max_term_width = 110, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Attach to the devices that the rules name, now or later, and forward until SIGINT or SIGTERM.
    Run(Run),
    /// Show filters and counters of the running forwarder, as `tc filter show` does.
    Show(Show),
    /// Show devices, modes, workers and drops of the running forwarder.
    Status(Status),
    /// Take the filters of a device's ingress away while running; they are kept for `nobypass`.
    Bypass(Switch),
    /// Put the filters of a device's ingress back.
    Nobypass(Switch),
    /// Replace all rules of the running forwarder without stopping it.
    Reload(Reload),
    /// A command in tc's own words for the running forwarder: TC="viscum tc" in front of a script. Its socket: VISCUM_SOCKET.
    #[command(disable_help_flag = true)]
    Tc(Tc),
    /// Write the kernel's own tc rules, as they are now, as a rules file.
    Import(Import),
    /// What this kernel and a device can do, tried for real, and which mode they allow for your rules. Nothing is left of it.
    Probe(Probe),
    /// Warn about what is legal and surely not meant.
    Check(Check),
    /// What rules do with a frame: each filter, key by key, and each action with what it changed.
    Explain(Explain),
    /// Explain frames that the running forwarder receives, as `explain` does, and what became of them.
    Trace(Trace),
    /// Write what the running forwarder receives, transmits and drops as pcapng: tcpdump does not see AF_XDP frames.
    Capture(Capture),
    /// How long frames stay in the running forwarder, as a histogram that goes on.
    Latency(Latency),
    /// A screen of the running forwarder: rates of devices, queues and rules, drops, how busy workers are.
    Top(Top),
    /// Run rules on a capture, offline: what every device would have transmitted, counted frame by frame.
    Replay(Replay),
    /// Measure every path side by side on this machine: the kernel's tc, viscum's modes, others that are installed.
    Bench(Bench),
    /// The mobile-edge testbed in network namespaces, and the demo on it.
    #[command(subcommand)]
    Lab(Lab),
}

/// Where the running forwarder is.
#[derive(Debug, Args)]
pub struct Socket {
    /// Control socket of the forwarder [default: /run/viscum/control.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// `viscum run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Files with tc commands, applied in order, - is the standard input; without any, `viscum tc` brings devices in
    #[arg(value_name = "RULES.tc")]
    pub rules: Vec<PathBuf>,
    /// Keep the state of tc for `viscum tc`, and touch no device
    #[arg(long)]
    pub state_only: bool,
    /// The kernel's own filters.
    #[command(flatten)]
    pub kernel: Kernel,
    /// Queues, cores, ring sizes, polling, modes per device (TOML)
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// How frames are received and sent
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,
    /// How frames get into the namespace
    #[arg(long, value_enum, default_value_t)]
    pub deliver: Deliver,
    /// Tap that stands in for a device of the rules; needed only where it cannot be told from the rules
    #[arg(long = "tap", value_name = "DEVICE=NETNS/NAME")]
    pub taps: Vec<String>,
    /// Never sleep: the least latency for a whole core
    #[arg(long)]
    pub busy: bool,
    /// Where to listen for `show`, `bypass`, …
    #[command(flatten)]
    pub socket: Socket,
}

/// `viscum show`.
#[derive(Debug, Args)]
pub struct Show {
    /// Device [all that have filters], then `ingress` or `egress` [both]
    #[arg(value_name = "DEV [ingress|egress]", num_args = 0..=3)]
    pub what: Vec<String>,
    /// With counters
    #[arg(short = 's', long)]
    pub statistics: bool,
    /// As JSON
    #[arg(short = 'j', long)]
    pub json: bool,
    /// Network namespace of the device
    #[arg(short = 'n', long, value_name = "NETNS")]
    pub netns: Option<String>,
    /// The forwarder.
    #[command(flatten)]
    pub socket: Socket,
}

/// `viscum status`.
#[derive(Debug, Args)]
pub struct Status {
    /// As JSON
    #[arg(short = 'j', long)]
    pub json: bool,
    /// The forwarder.
    #[command(flatten)]
    pub socket: Socket,
}

/// `viscum bypass` and `viscum nobypass`.
#[derive(Debug, Args)]
pub struct Switch {
    /// The device whose ingress filters go or come back
    #[arg(value_name = "DEV")]
    pub device: String,
    /// Network namespace of the device
    #[arg(short = 'n', long, value_name = "NETNS")]
    pub netns: Option<String>,
    /// The forwarder.
    #[command(flatten)]
    pub socket: Socket,
}

/// `viscum reload`.
#[derive(Debug, Args)]
pub struct Reload {
    /// Files with tc commands, applied in order; - is the standard input
    #[arg(required = true, value_name = "RULES.tc")]
    pub rules: Vec<PathBuf>,
    /// The forwarder.
    #[command(flatten)]
    pub socket: Socket,
}

/// `viscum tc`.
#[derive(Debug, Args)]
pub struct Tc {
    /// As for tc: -s -d -j -p -n NETNS -b FILE -force, then qdisc, filter, chain
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORDS")]
    pub words: Vec<String>,
}

/// `viscum import`.
#[derive(Debug, Args)]
pub struct Import {
    /// Only this device [all]
    #[arg(long, value_name = "DEV")]
    pub dev: Option<String>,
    /// Network namespace of the rules
    #[arg(short = 'n', long, value_name = "NETNS")]
    pub netns: Option<String>,
    /// This namespace and all that have a name
    #[arg(long, conflicts_with_all = ["netns", "dev"])]
    pub all_netns: bool,
}

/// `viscum probe`.
#[derive(Debug, Args)]
pub struct Probe {
    /// A device to look at and to try XDP on: some drivers stop traffic for a moment when a program comes or goes [none]
    #[arg(value_name = "DEV")]
    pub device: Option<String>,
    /// Network namespace of the device
    #[arg(short = 'n', long, value_name = "NETNS")]
    pub netns: Option<String>,
    /// Rules to find a mode for; - is the standard input [modes in general]
    #[arg(long, value_name = "RULES.tc")]
    pub rules: Vec<PathBuf>,
    /// Only look at the device, attach nothing to it
    #[arg(long)]
    pub passive: bool,
    /// As JSON
    #[arg(short = 'j', long)]
    pub json: bool,
}

/// `viscum check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Files with tc commands; - is the standard input
    #[arg(required = true, value_name = "RULES.tc")]
    pub rules: Vec<PathBuf>,
    /// Devices of another machine (case.toml format); otherwise those of this one
    #[arg(long, value_name = "FILE.toml")]
    pub topology: Option<PathBuf>,
    /// Exit with 1 if there is any warning
    #[arg(long)]
    pub strict: bool,
    /// As JSON
    #[arg(short = 'j', long)]
    pub json: bool,
}

/// `viscum explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// File with tc commands
    #[arg(long, value_name = "RULES.tc")]
    pub rules: PathBuf,
    /// Capture of what the device receives (pcap or pcapng, Ethernet)
    #[arg(long = "in", value_name = "X.pcap")]
    pub input: Option<PathBuf>,
    /// One frame, in hex, from the destination MAC on: bare, with spaces or colons, or a dump of xxd, hexdump -C, tcpdump -xx; - for stdin
    #[arg(long, value_name = "HEX")]
    pub frame: Option<String>,
    /// Device that receives it [the topology's `ingress`]
    #[arg(long, value_name = "DEV")]
    pub dev: Option<String>,
    /// Devices, namespaces and variables of the rules (case.toml format); otherwise assumed from the rules
    #[arg(long, value_name = "T.toml")]
    pub topology: Option<PathBuf>,
    /// The first frame of the capture to explain
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub from: u64,
    /// How many
    #[arg(short = 'c', long, default_value_t = 10, value_name = "N")]
    pub count: u64,
    /// As JSON, an object per frame on a line
    #[arg(short = 'j', long)]
    pub json: bool,
}

/// `viscum replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// File with tc commands
    #[arg(long, value_name = "RULES.tc")]
    pub rules: PathBuf,
    /// Capture of what the device receives (pcap or pcapng, Ethernet)
    #[arg(long = "in", value_name = "X.pcap")]
    pub input: PathBuf,
    /// Device that receives it [the topology's `ingress`]
    #[arg(long, value_name = "DEV")]
    pub dev: Option<String>,
    /// Devices, namespaces and variables of the rules (case.toml format); otherwise assumed from the rules
    #[arg(long, value_name = "T.toml")]
    pub topology: Option<PathBuf>,
    /// Directory for the results; created if missing
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Which form of the rules runs
    #[arg(long, value_enum, default_value_t)]
    pub engine: Engine,
    /// Let `police` go by the capture's times, not by that of the replay, which runs as fast as it can
    #[arg(long)]
    pub capture_time: bool,
}

/// Which form of the rules `replay` runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// The compiled plan, as the forwarder runs it.
    #[default]
    Plan,
    /// The slow interpreter.
    Eval,
}

/// `viscum lab`.
#[derive(Debug, Subcommand)]
pub enum Lab {
    /// Build the testbed: camera, edge router, MEC box, cloud, and the namespace `imagedetection`
    Up(LabNet),
    /// Remove the testbed and what runs in it, also after a crash
    Down,
    /// Run the whole scenario on the testbed: pictures in, plates out, bypass, speed test
    Demo(LabDemo),
    /// The plate reader: an ordinary TCP server that answers a JPEG with the plate's text
    PlateServer(PlateServer),
    /// The traffic camera: sends pictures and prints what comes back
    Camera(Camera),
}

/// How the testbed is built.
#[derive(Clone, Copy, Debug, Args)]
pub struct LabNet {
    /// By veth pair, or by tap in the namespace
    #[arg(long, value_enum, default_value_t)]
    pub deliver: Deliver,
    /// MTU of the veth pair or tap, in bytes; native XDP takes 3506 at most
    #[arg(long, default_value_t = 32768, value_name = "BYTES")]
    pub veth_mtu: u32,
}

/// `viscum lab demo`.
#[derive(Debug, Args)]
pub struct LabDemo {
    /// Your own pictures instead of the project's
    #[arg(long = "image", value_name = "FILE", num_args = 1..)]
    pub images: Vec<PathBuf>,
    /// How many of the project's pictures
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub count: u16,
    /// The forwarder's mode
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,
    /// How the testbed is built.
    #[command(flatten)]
    pub net: LabNet,
    /// Leave the testbed standing
    #[arg(long)]
    pub keep: bool,
}

/// `viscum lab plate-server`.
#[derive(Debug, Args)]
pub struct PlateServer {
    /// Where to listen
    #[arg(long, default_value = "0.0.0.0:12345", value_name = "ADDRESS:PORT")]
    pub listen: std::net::SocketAddr,
    /// A line per request goes here
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
}

/// `viscum lab camera`.
#[derive(Debug, Args)]
pub struct Camera {
    /// The server
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub to: std::net::SocketAddr,
    /// Pictures
    #[arg(required = true, value_name = "FILE")]
    pub images: Vec<PathBuf>,
}
