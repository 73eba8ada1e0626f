//! What a program of ours cannot do, by name, with what to use instead. Values only.

use crate::types::Direction;

/// A rule (or a whole hook) that cannot become an eBPF program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{device} {}{place}: {reason}", .direction.as_str())]
pub struct Refusal {
    /// The device, as the rules name it.
    pub device: String,
    /// Which of its hooks.
    pub direction: Direction,
    /// ` chain C prio P handle H`, or nothing when it is the hook as a whole.
    pub place: String,
    /// Why, and what to do.
    pub reason: Reason,
}

/// Why a rule is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// skbmod, csum, pedit, vlan or nat, and the frame is not taken.
    #[error(
        "{action} rewrites a frame and then leaves it to the kernel (`{control}`); a frame that is left to the kernel cannot \
         be changed. Redirect or drop it after the rewrite, or let the kernel's own tc do this rule"
    )]
    RewriteThenPass {
        /// Its kind.
        action: &'static str,
        /// How the action list ends.
        control: String,
    },
    /// skbedit of mark, priority or queue, and the frame is not taken.
    #[error(
        "skbedit sets {what} and then leaves the frame to the kernel (`{control}`), which would not see it. \
         Redirect or drop the frame in the same rule, or let the kernel's own tc do this rule"
    )]
    EditThenPass {
        /// The field.
        what: &'static str,
        /// How the action list ends.
        control: String,
    },
    /// A copy of a frame that is not taken.
    #[error(
        "mirred mirror copies a frame that then goes on (`{control}`); AF_XDP cannot hand a frame back to the kernel. \
         Use `--mode af-packet` for this device, or redirect the frame after the copy"
    )]
    MirrorThenPass {
        /// How the action list ends.
        control: String,
    },
    /// A flower key that the program in the kernel does not find.
    #[error(
        "flower compares {key}, which the program in the kernel does not look for (it finds MAC addresses, addresses, ports, \
         ip_proto and tcp_flags). Write this rule with u32 (`match u16 … at 0` of protocol 802.1Q is the inner tag or IP), or let \
         the kernel's own tc do this device"
    )]
    FlowerKey {
        /// tc's name of the key.
        key: String,
    },
    /// police that does not end in a drop or a redirect either way.
    #[error(
        "police decides by what came before, which the program cannot know; it can only take all frames of a rule. Let what exceeds \
         be dropped and what conforms be redirected (`police … conform-exceed drop/pipe action mirred egress redirect …`), or let \
         the kernel's own tc do this rule"
    )]
    Police,
    /// A match of a basic filter that a program has no answer to.
    #[error(
        "basic asks {what}, which the program does not know. Use cmp, u32 or nbyte with layer link or network, or flower for ports and \
         tags; or let the kernel's own tc do this rule"
    )]
    Ematch {
        /// What it asks.
        what: &'static str,
    },
    /// gact random.
    #[error("gact random decides anew each time; the program and the forwarder would not agree. Use a fixed control")]
    Random,
    /// mirred ingress.
    #[error(
        "mirred ingress {mode} lets the frame in by another device, which is possible only inside the kernel. \
         Use `mirred egress {mode}` to the peer of that device"
    )]
    MirredIngress {
        /// `redirect` or `mirror`.
        mode: &'static str,
    },
    /// A key far behind any header.
    #[error("a key at {offset} lies more than {limit} bytes into the frame. Match nearer to its start")]
    OffsetTooFar {
        /// The key's offset.
        offset: i32,
        /// The farthest that is possible.
        limit: u32,
    },
    /// Too many different key offsets.
    #[error(
        "the rules of this hook look at {count} different words of the frame; a program can hold {limit}. Use fewer"
    )]
    TooManyWords {
        /// How many.
        count: usize,
        /// How many fit.
        limit: usize,
    },
    /// Too many rules.
    #[error(
        "the rules of this hook make a program of {count} instructions; the kernel takes {limit}. Use fewer rules on this device"
    )]
    TooLarge {
        /// How many.
        count: usize,
        /// How many the kernel takes.
        limit: usize,
    },
    /// A kind of filter that forwarding programs (and such with u32 hash tables) do not know.
    #[error(
        "{kind} is a kind of filter that this program does not know. Write the rule with u32, flower or matchall, or use a mode with \
         workers (and no u32 hash tables on this device)"
    )]
    Kind {
        /// tc's name of the kind.
        kind: &'static str,
    },
    /// gact random or police in a forwarding program.
    #[error(
        "{action} decides by chance or by what came before, which a program on each CPU by itself cannot do as the kernel does. \
         Use `--mode af-xdp` or `--mode af-packet`, or let the kernel's own tc do this rule"
    )]
    NotByItself {
        /// Its kind.
        action: &'static str,
    },
    /// A mirror in XDP.
    #[error(
        "mirred mirror copies a frame, which an XDP program cannot do. Use `--mode tc-bpf`, or a mode with workers"
    )]
    MirrorInXdp,
    /// The Ethernet header changed in XDP, and the frame is not taken.
    #[error(
        "{action} changes the Ethernet header and then leaves the frame to the kernel (`{control}`), which reads it behind XDP and \
         before tc: it would be another frame. Redirect or drop it after the rewrite (new addresses may also be followed by \
         `skbedit ptype host`), or use `--mode tc-bpf`"
    )]
    LinkThenPass {
        /// Its kind.
        action: &'static str,
        /// How the action list ends.
        control: String,
    },
    /// Tags changed, and other filters come.
    #[error(
        "vlan {op} changes tags and then goes on to other filters (`{control}`), which a program compares at fixed places. \
         End with a redirect, a drop or pass, or use a mode with workers"
    )]
    TagsThenFilters {
        /// `push`, `pop`, `modify`.
        op: &'static str,
        /// How the action list ends.
        control: String,
    },
    /// pop_eth or push_eth.
    #[error(
        "vlan {op} makes a frame without or with a second Ethernet header, which no program can. Use a mode with workers"
    )]
    NoEthernet {
        /// Which.
        op: &'static str,
    },
    /// csum sctp.
    #[error("csum sctp needs a CRC-32c, which no program can compute. Leave `sctp` away, or use a mode with workers")]
    Sctp,
    /// Egress rules on the device that XDP redirects to.
    #[error(
        "redirect to {device} would go past the rules at the egress of {device}: XDP knows no egress hook. Use `--mode tc-bpf`, \
         or move those rules to an ingress"
    )]
    PastEgress {
        /// The outgoing device.
        device: String,
    },
    /// A device of another namespace at tc's hook.
    #[error("{device} is in another network namespace, where a program at tc's hook cannot send to. Use `--mode xdp`")]
    OtherNamespace {
        /// The outgoing device.
        device: String,
    },
    /// indev at egress.
    #[error(
        "indev at egress asks where a frame came in, which the program is not told. Match it at the ingress of that device"
    )]
    IndevAtEgress,
    /// Too many outgoing devices.
    #[error("the rules of this hook send to {count} devices; a program can hold {limit}. Use fewer")]
    TooManyDevices {
        /// How many.
        count: usize,
        /// How many fit.
        limit: usize,
    },
    /// Too many counters.
    #[error("the rules of this hook need {count} counters; a program can hold {limit}. Use fewer rules on this device")]
    TooManyCounters {
        /// How many.
        count: usize,
        /// How many fit.
        limit: usize,
    },
}
