//! Which classifiers and actions this kernel has, tried for real on the loopback device of a namespace that lives only for it.

use super::attr::Put;
use super::message::Head;
use super::socket::Message;
use super::{Links, NetlinkError, PARENT_INGRESS, PARENT_INGRESS_QDISC, Place, Qdisc, Socket, encode_qdisc};
use crate::host::HostError;
use crate::types::{DeviceId, DeviceKey};

/// Qdiscs with hooks.
const QDISCS: &[&str] = &["ingress", "clsact"];
/// Classifiers that Linux has had.
const CLASSIFIERS: &[&str] = &["u32", "flower", "matchall", "basic", "bpf", "fw", "flow", "route", "cgroup"];
/// Actions that Linux has had.
const ACTIONS: &[&str] = &[
    "gact",
    "mirred",
    "skbedit",
    "skbmod",
    "csum",
    "pedit",
    "vlan",
    "nat",
    "simple",
    "police",
    "sample",
    "bpf",
    "connmark",
    "ct",
    "ctinfo",
    "gate",
    "ife",
    "mpls",
    "tunnel_key",
];

/// What was found out about one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// `classifier`, `action` or `qdisc`.
    pub what: &'static str,
    /// Its name in tc.
    pub kind: &'static str,
    /// Whether this kernel has it.
    pub present: bool,
    /// The kernel's words when it has not.
    pub said: String,
}

/// What [`probe_kinds`] tries: `classifier`, `action` or `qdisc`, and its name in tc.
pub fn all_kinds() -> impl Iterator<Item = (&'static str, &'static str)> {
    let of = |what, kinds: &'static [&'static str]| kinds.iter().map(move |kind| (what, *kind));
    of("qdisc", QDISCS).chain(of("classifier", CLASSIFIERS)).chain(of("action", ACTIONS))
}

/// Tries every kind. Modules that the kernel can load for it are loaded by that, as with tc.
///
/// # Errors
/// [`NetlinkError`]: a namespace cannot be made (that takes CAP_SYS_ADMIN), or the kernel has no tc at all.
pub fn probe_kinds() -> Result<Vec<Support>, NetlinkError> {
    let inside = std::thread::Builder::new().spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).map_err(|e| NetlinkError::Socket {
            what: "making a network namespace to try things in (it takes CAP_SYS_ADMIN)",
            source: e.into(),
        })?;
        try_all()
    });
    let inside = inside.map_err(HostError::io("a thread for the probe"))?;
    inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn try_all() -> Result<Vec<Support>, NetlinkError> {
    /// The loopback device is always the first.
    const LOOPBACK: u32 = 1;
    let links = Links { list: vec![(LOOPBACK, DeviceKey::local("lo"))] };
    let mut socket = Socket::new()?;
    let mut found = Vec::new();
    for kind in QDISCS {
        let qdisc = Qdisc {
            device: DeviceId(0),
            handle: 0xffff_0000,
            parent: PARENT_INGRESS_QDISC,
            kind: (*kind).to_owned(),
            blocks: [0, 0],
        };
        let made = socket.change(Message::NewQdisc, true, &encode_qdisc(&qdisc, &links)?, "a qdisc for the probe");
        found.push(support("qdisc", kind, made)?);
        if *kind == "ingress" && found[0].present {
            socket.change(Message::DeleteQdisc, false, &encode_qdisc(&qdisc, &links)?, "to take it away again")?;
        }
    }
    for kind in CLASSIFIERS {
        let place = Place {
            device: DeviceId(0),
            parent: PARENT_INGRESS,
            chain: 0,
            prio: 1,
            protocol: 0x0800,
            kind: (*kind).to_owned(),
            handle: 0,
        };
        let mut put = Put(Head::of(&place, LOOPBACK).bytes());
        put.text(1, kind).nest(2, &Put::default());
        let tried = socket.change(Message::NewFilter, true, &put.0, "a filter for the probe");
        if tried.is_ok() {
            let clear = Head { info: 0, ..Head::of(&place, LOOPBACK) };
            socket.change(Message::DeleteFilter, false, &clear.bytes(), "to take it away again")?;
        }
        found.push(support("classifier", kind, tried)?);
    }
    for kind in ACTIONS {
        let (mut inside, mut table, mut put) = (Put::default(), Put::default(), Put(vec![0; 4]));
        inside.text(1, kind).nest(2, &Put::default());
        table.nest(1, &inside);
        put.nest(1, &table);
        let tried = socket.change(Message::NewAction, true, &put.0, "an action for the probe");
        found.push(support("action", kind, tried)?);
    }
    Ok(found)
}

/// A kind that is missing is "not found" (`tcf_proto_lookup_ops()`, `tc_action_load_ops()`, `qdisc_create()`); whatever else the kernel
/// says to a request that says nothing, it knows the kind.
fn support(what: &'static str, kind: &'static str, tried: Result<(), NetlinkError>) -> Result<Support, NetlinkError> {
    let error = match tried {
        Ok(()) => return Ok(Support { what, kind, present: true, said: String::new() }),
        Err(error @ NetlinkError::Refused { .. }) => error,
        Err(error) => return Err(error),
    };
    if error.errno() == Some(nix::libc::EPERM) {
        return Err(error);
    }
    let missing = error.errno() == Some(nix::libc::ENOENT);
    let said = if missing { error.said().unwrap_or("not found").to_owned() } else { String::new() };
    Ok(Support { what, kind, present: !missing, said })
}
