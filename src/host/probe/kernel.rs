//! The kernel: its release, XDP and AF_XDP on a veth pair of a scratch namespace, and every classifier and action of tc.

use super::{Answer, Item, Section, in_scratch, tries};
use crate::host::{output, tc};
use crate::sys::bpf::Mode;
use crate::sys::socket::kernel_has_af_xdp;

/// The pair's near end in the scratch namespace.
const NEAR: &str = "probe0";

/// The kernel's section, and tc's.
#[must_use]
pub fn kernel() -> [Section; 2] {
    let mut items = vec![
        Item::new("release", super::machine::file("/proc/sys/kernel/osrelease")),
        Item::new("architecture", Answer::is(std::env::consts::ARCH)),
        jit(),
    ];
    items.push(match kernel_has_af_xdp() {
        true => Item::new("AF_XDP sockets", Answer::yes()),
        false => Item::new("AF_XDP sockets", Answer::no("this kernel has none (CONFIG_XDP_SOCKETS)")),
    });
    items.push(Item::new("AF_PACKET sockets", privileged(tries::af_packet())));
    items.push(match std::fs::File::open("/dev/net/tun") {
        Ok(_) => Item::new("taps", Answer::yes()),
        Err(e) => Item::new("taps", Answer::no(format!("/dev/net/tun: {e}"))).but("modprobe tun"),
    });
    items.push(Item::new("SO_PREFER_BUSY_POLL", privileged(tries::prefer_busy_poll())));
    items.extend(on_a_pair());
    [Section { title: "kernel".to_owned(), items }, Section { title: "tc".to_owned(), items: kinds() }]
}

fn jit() -> Item {
    let set = super::machine::text("/proc/sys/net/core/bpf_jit_enable");
    match set.as_deref() {
        // Where the kernel always compiles, or only root may look.
        None => Item::new("BPF compiled (JIT)", Answer::untried("net.core.bpf_jit_enable cannot be read")),
        Some("0") => Item::new("BPF compiled (JIT)", Answer::no("net.core.bpf_jit_enable is 0"))
            .but("sysctl -w net.core.bpf_jit_enable=1"),
        Some(_) => Item::new("BPF compiled (JIT)", Answer::yes()),
    }
}

/// Missing privilege says nothing of the kernel.
fn privileged(tried: std::io::Result<()>) -> Answer {
    match tried {
        Err(e) if matches!(e.raw_os_error(), Some(nix::libc::EPERM | nix::libc::EACCES)) => {
            Answer::untried(format!("{e}; run as root"))
        }
        other => Answer::of(other),
    }
}

/// What is tried on a veth pair.
type OnPair = (&'static str, fn(u32) -> Result<(), String>);

const ON_PAIR: &[OnPair] = &[
    ("XDP native on veth", |near| tries::xdp(near, Mode::Native).map_err(|e| e.to_string())),
    ("XDP generic", |near| tries::xdp(near, Mode::Generic).map_err(|e| e.to_string())),
    ("XDP multi-buffer on veth", |near| tries::xdp_frags(near).map_err(|e| e.to_string())),
    ("AF_XDP by copy", |near| tries::af_xdp(NEAR, near, false)),
    ("AF_XDP without copy on veth", |near| tries::af_xdp(NEAR, near, true)),
    ("program at tc's hooks (tcx)", |near| tries::tcx(near).map_err(|e| e.to_string())),
    ("program as cls_bpf", |near| tries::cls_bpf(near).map_err(|e| e.to_string())),
];

fn on_a_pair() -> Vec<Item> {
    let tried = in_scratch(|| {
        output("ip", &["link", "add", NEAR, "type", "veth", "peer", "name", "probe1"]).map_err(|e| e.to_string())?;
        for end in [NEAR, "probe1"] {
            output("ip", &["link", "set", end, "up"]).map_err(|e| e.to_string())?;
        }
        let near = nix::net::if_::if_nametoindex(NEAR).map_err(|e| e.to_string())?;
        Ok(ON_PAIR.iter().map(|(name, try_it)| Item::new(*name, Answer::of(try_it(near)))).collect())
    });
    match tried.and_then(|tried: Result<Vec<Item>, String>| tried) {
        Ok(items) => items,
        Err(why) => ON_PAIR.iter().map(|(name, _)| Item::new(*name, Answer::untried(&why))).collect(),
    }
}

fn kinds() -> Vec<Item> {
    let name = |what: &str, kind: &str| format!("{what} {kind}");
    match tc::probe_kinds() {
        Ok(found) => found
            .iter()
            .map(|s| {
                let answer = if s.present { Answer::yes() } else { Answer::no(&s.said) };
                Item::new(name(s.what, s.kind), answer)
            })
            .collect(),
        Err(error) => {
            tc::all_kinds().map(|(what, kind)| Item::new(name(what, kind), Answer::untried(&error))).collect()
        }
    }
}
