//! A path under test: a bed with a forwarder on it. It decides no load and reads no counter of frames.

use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use super::MeasureError;
use super::bed::{Bed, IN, OUT};
use super::code;
use super::frames::PORT;
use super::peers;
use super::programs::load;
use crate::app::config::Mode;
use crate::host::netns::in_namespace;
use crate::lab::process::{Process, directory};
use crate::lab::shell::run;
use crate::sys::bpf::{self, Kind, Link};

/// How long a forwarder may take to be ready.
const READY_MAX: Duration = Duration::from_secs(20);

/// A way from one device to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// The kernel's own tc, set up by its own command: u32 and mirred.
    Tc,
    /// The kernel's tc with a program of a few instructions, written by hand.
    ClsBpf,
    /// A redirect in XDP, written by hand: the limit.
    XdpByHand,
    /// `viscum run --mode …`.
    Viscum(Mode, Poll),
    /// dpdk-testpmd on AF_XDP sockets.
    TestpmdAfXdp,
    /// dpdk-testpmd on AF_PACKET sockets.
    TestpmdAfPacket,
}

/// How viscum's workers wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// They sleep when there is nothing to do.
    Adaptive,
    /// They never sleep.
    Busy,
}

impl Path {
    /// Its name in tables.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Tc => "kernel tc (u32+mirred)".to_owned(),
            Self::ClsBpf => "kernel cls_bpf by hand".to_owned(),
            Self::XdpByHand => "XDP redirect by hand".to_owned(),
            Self::Viscum(mode, poll) => {
                let busy = if *poll == Poll::Busy { " busy" } else { "" };
                format!("viscum {}{busy}", mode.name())
            }
            Self::TestpmdAfXdp => "testpmd net_af_xdp".to_owned(),
            Self::TestpmdAfPacket => "testpmd net_af_packet".to_owned(),
        }
    }

    /// Whether it takes core time when there is nothing to do.
    #[must_use]
    pub fn spins(&self) -> bool {
        match self {
            Self::Viscum(_, poll) => *poll == Poll::Busy,
            Self::TestpmdAfXdp | Self::TestpmdAfPacket => true,
            Self::Tc | Self::ClsBpf | Self::XdpByHand => false,
        }
    }
}

/// The rules of a measurement: the scenario's one port to the other device, and back. `filters` more stand before them that no
/// frame matches.
#[must_use]
pub fn rules(filters: usize) -> String {
    let mut text = String::with_capacity(160 * (filters + 4));
    text.push_str(&format!("tc qdisc add dev {IN} ingress\ntc qdisc add dev {OUT} ingress\n"));
    for n in 0..filters {
        // Hosts of 10.0.0.0/8, which nobody here has.
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + n as u32);
        text.push_str(&format!(
            "tc filter add dev {IN} parent ffff: prio 1 protocol ip u32 match ip src {address}/32 action mirred egress redirect dev {OUT}\n"
        ));
    }
    for (device, word, other) in [(IN, "dport", OUT), (OUT, "sport", IN)] {
        text.push_str(&format!(
            "tc filter add dev {device} parent ffff: prio 2 protocol ip u32 match ip protocol 6 0xff match ip {word} {PORT} 0xffff \
             action mirred egress redirect dev {other}\n"
        ));
    }
    text
}

#[derive(Debug)]
enum Forwarder {
    /// The kernel's own rules: they go with the namespace.
    Kernel,
    /// Programs: they go with their links.
    Programs(#[expect(dead_code, reason = "held until the lane goes")] Vec<Link>),
    /// A process.
    Process(Process),
}

/// A path that stands.
#[derive(Debug)]
pub struct Lane {
    /// Which one.
    pub path: Path,
    /// Where.
    pub bed: Bed,
    // Before the bed in `Drop`: a program ends before its devices go.
    forwarder: Option<Forwarder>,
}

impl Lane {
    /// Makes the bed and starts the forwarder; one that spins is paused until [`Lane::go`].
    ///
    /// # Errors
    /// [`MeasureError`]: the path cannot run here, and why.
    pub fn start(path: Path, number: usize, mtu: u32, filters: usize) -> Result<Self, MeasureError> {
        let mut bed = Bed::make(number, mtu)?;
        if matches!(path, Path::Viscum(Mode::Xdp, _)) {
            bed.take_seat()?;
        }
        let mut lane = Self { path, bed, forwarder: None };
        lane.forwarder = Some(lane.forwarder(number, filters)?);
        lane.go(false);
        Ok(lane)
    }

    fn forwarder(&self, number: usize, filters: usize) -> Result<Forwarder, MeasureError> {
        let bed = &self.bed;
        match self.path {
            Path::Tc => {
                bed.receive_by_napi(true)?;
                let file = self.rules_file(number, filters, true)?;
                run(Some(bed.netns()), &format!("tc -b {}", file.display()))?;
                Ok(Forwarder::Kernel)
            }
            Path::ClsBpf => {
                bed.receive_by_napi(true)?;
                self.by_hand(Kind::Classifier)
            }
            Path::XdpByHand => self.by_hand(Kind::Xdp),
            Path::Viscum(mode, poll) => {
                // Without an XDP program of its own on the way in, a veth takes the generator's frames only so.
                if mode.needs_napi() {
                    bed.receive_by_napi(true)?;
                }
                self.viscum(mode, poll, number, filters)
            }
            Path::TestpmdAfXdp | Path::TestpmdAfPacket => {
                if self.path == Path::TestpmdAfPacket {
                    bed.receive_by_napi(true)?;
                }
                let name = format!("bench-{number}");
                Ok(Forwarder::Process(peers::testpmd(self.path, bed, &name)?))
            }
        }
    }

    fn by_hand(&self, kind: Kind) -> Result<Forwarder, MeasureError> {
        let bed = &self.bed;
        let programs = [(bed.in_ifindex, bed.out_ifindex), (bed.out_ifindex, bed.in_ifindex)].map(|(from, to)| {
            let program = load(kind, "by_hand", &code::by_hand(kind, to), &[])?;
            in_namespace(Some(bed.netns()), || match kind {
                Kind::Xdp => Link::xdp(&program, from, bpf::Mode::Native),
                Kind::Classifier => Link::tcx_ingress(&program, from),
            })?
            .map_err(MeasureError::from)
        });
        Ok(Forwarder::Programs(programs.into_iter().collect::<Result<_, _>>()?))
    }

    fn rules_file(&self, number: usize, filters: usize, batch: bool) -> Result<PathBuf, MeasureError> {
        let path = directory()?.join(format!("bench-{number}.tc"));
        let text = rules(filters);
        // A batch has the words behind `tc`.
        let text = if batch { text.replace("tc qdisc", "qdisc").replace("tc filter", "filter") } else { text };
        std::fs::write(&path, text).map_err(|source| crate::lab::LabError::File {
            what: "cannot write",
            path: path.display().to_string(),
            source,
        })?;
        Ok(path)
    }

    fn viscum(&self, mode: Mode, poll: Poll, number: usize, filters: usize) -> Result<Forwarder, MeasureError> {
        let file = self.rules_file(number, filters, false)?;
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("viscum"));
        let socket = directory()?.join(format!("bench-{number}.sock"));
        let (file, socket) = (file.display().to_string(), socket.display().to_string());
        let mut args = vec!["run", file.as_str(), "--mode", mode.name(), "--socket", socket.as_str()];
        if poll == Poll::Busy {
            args.push("--busy");
        }
        let name = format!("bench-{number}");
        let mut process = Process::start(&name, self.bed.netns(), FilePath::new(&program), &args)?;
        process.wait_for("ready", READY_MAX)?;
        Ok(Forwarder::Process(process))
    }

    /// Lets a forwarder that spins go on, or pauses it.
    pub fn go(&self, on: bool) {
        if let (Some(Forwarder::Process(process)), true) = (&self.forwarder, self.path.spins()) {
            process.pause(!on);
        }
    }

    /// Memory of its process in bytes; `None`: it has none.
    #[must_use]
    pub fn memory(&self) -> Option<u64> {
        match self.forwarder.as_ref()? {
            Forwarder::Process(process) => Some(process.memory()),
            Forwarder::Kernel | Forwarder::Programs(_) => None,
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.go(true);
        self.forwarder = None;
    }
}
