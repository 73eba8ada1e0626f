//! What a program of ours cannot do, by name, with what to use instead. Values only.

/// A rule (or a whole hook) that cannot become an eBPF program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{device} ingress{place}: {reason}")]
pub struct Refusal {
    /// The device, as the rules name it.
    pub device: String,
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
    /// A u32 link.
    #[error(
        "u32 `link` leads to another hash table, and a program cannot follow it yet. Write the filters of the linked table \
         into this prio, with the keys of the link in each; or let the kernel's own tc do this device"
    )]
    Link,
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
    /// Too many counters.
    #[error("the rules of this hook need {count} counters; a program can hold {limit}. Use fewer rules on this device")]
    TooManyCounters {
        /// How many.
        count: usize,
        /// How many fit.
        limit: usize,
    },
}
