//! What can be asked of a served device: how it is served, what its programs counted. It opens nothing.

use super::attach::{Hold, Served};
use super::choice::Way;
use crate::ebpf::load::Tally;
use crate::sys::bpf;

impl Served {
    /// `af-xdp (native)`, `af-packet (drops behind by tcx)`, …
    #[must_use]
    pub fn mode_in_use(&self) -> String {
        match (&self.way, &self.hold) {
            (Way::AfXdp { .. }, Hold::Steering(steering)) => {
                let how = match steering.mode() {
                    bpf::Mode::Native => "native",
                    bpf::Mode::Generic => "generic",
                    bpf::Mode::Offloaded => "offloaded",
                };
                format!("af-xdp ({how} XDP, copy)")
            }
            (Way::AfXdp { .. }, _) => "af-xdp (transmit only, copy)".to_owned(),
            (Way::AfPacket, Hold::Behind(behind)) => format!("af-packet (drops behind it by {})", behind.mode()),
            (Way::AfPacket, _) if self.wanted.receive => "af-packet (the kernel keeps every frame)".to_owned(),
            (Way::AfPacket, _) => "af-packet (transmit only)".to_owned(),
            (Way::Tap(tap), _) => format!("tap {tap}"),
            (Way::Xdp | Way::TcBpf, Hold::InKernel(programs)) => programs.mode(),
            (Way::Xdp | Way::TcBpf, _) => "in the kernel (transmit only)".to_owned(),
        }
    }

    /// Takes the program off the device: the kernel has all frames again. What it counted of those that it left to the kernel.
    pub fn detach(&mut self) -> Vec<Tally> {
        match std::mem::replace(&mut self.hold, Hold::Nothing) {
            Hold::Steering(steering) => steering.end().into_iter().collect(),
            Hold::InKernel(programs) => programs.end(),
            Hold::Behind(_) | Hold::Nothing => Vec::new(),
        }
    }

    /// What its programs counted of frames that they did not hand to a worker.
    #[must_use]
    pub fn tallies(&self) -> Vec<Tally> {
        match &self.hold {
            Hold::Steering(steering) => steering.counters().into_iter().collect(),
            Hold::InKernel(programs) => programs.tallies(),
            Hold::Behind(_) | Hold::Nothing => Vec::new(),
        }
    }

    /// Whether its hooks run its rules, or what it sends crosses them.
    #[must_use]
    pub fn has_hooks(&self) -> bool {
        self.wanted.receive || (self.way == Way::TcBpf && self.wanted.egress_rules)
    }
}
