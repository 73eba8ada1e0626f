//! cls_bpf at clsact ingress, for kernels without tcx. Unlike a link it outlives the process: see [`remove_leftover`].

use libbpf_sys as sys;

use super::query::program_name;
use super::{Error, NAME_PREFIX, Program};
use crate::types::Direction;

/// Handle of our filters; their prio is the first free one of these.
const HANDLE: u32 = 0x7669;
const PRIOS: std::ops::RangeInclusive<u32> = 1..=8;

/// A classifier attached to one of a device's hooks until this is dropped.
#[derive(Debug)]
pub struct ClsFilter {
    ifindex: u32,
    direction: Direction,
    prio: u32,
    made_qdisc: bool,
}

impl ClsFilter {
    /// Attaches in direct-action mode at the lowest free prio; makes the clsact qdisc if there is none.
    ///
    /// # Errors
    /// What the kernel says; ENOENT or EOPNOTSUPP without cls_bpf or clsact.
    pub fn attach(program: &Program, ifindex: u32) -> Result<Self, Error> {
        Self::attach_at(program, ifindex, Direction::Ingress)
    }

    /// As [`ClsFilter::attach`], at either hook.
    ///
    /// # Errors
    /// As [`ClsFilter::attach`].
    pub fn attach_at(program: &Program, ifindex: u32, direction: Direction) -> Result<Self, Error> {
        let made_qdisc = create_qdisc(ifindex)?;
        let mut code = 0;
        for prio in PRIOS {
            code = attach(program, ifindex, direction, prio, 0);
            if code == 0 {
                return Ok(Self { ifindex, direction, prio, made_qdisc });
            }
        }
        if made_qdisc {
            destroy_qdisc(ifindex);
        }
        Err(Error::from_code("attach a cls_bpf filter", code, ifindex))
    }

    /// Replaces the program.
    ///
    /// # Errors
    /// What the kernel says; the old program stays then.
    pub fn update(&self, program: &Program) -> Result<(), Error> {
        match attach(program, self.ifindex, self.direction, self.prio, sys::BPF_TC_F_REPLACE) {
            0 => Ok(()),
            code => Err(Error::from_code("replace a cls_bpf filter", code, self.ifindex)),
        }
    }
}

impl Drop for ClsFilter {
    fn drop(&mut self) {
        detach(self.ifindex, self.direction, self.prio);
        if self.made_qdisc {
            destroy_qdisc(self.ifindex);
        }
    }
}

/// Removes filters of ours that a killed process left on the device; how many there were. Filters of others stay, as does
/// the qdisc: nobody knows any more who made it.
pub fn remove_leftover(ifindex: u32) -> usize {
    super::quiet();
    let mut count = 0;
    let places = [Direction::Ingress, Direction::Egress].into_iter().flat_map(|d| PRIOS.map(move |prio| (d, prio)));
    for (direction, prio) in places {
        let (hook, mut options) = (hook(ifindex, direction), options(prio));
        // SAFETY: hook and options are valid for the call.
        let code = unsafe { sys::bpf_tc_query(&raw const hook, &raw mut options) };
        if code == 0 && program_name(options.prog_id).is_some_and(|name| name.starts_with(NAME_PREFIX)) {
            detach(ifindex, direction, prio);
            count += 1;
        }
    }
    count
}

fn hook(ifindex: u32, direction: Direction) -> sys::bpf_tc_hook {
    sys::bpf_tc_hook {
        sz: size_of::<sys::bpf_tc_hook>() as u64,
        ifindex: ifindex as i32,
        attach_point: match direction {
            Direction::Ingress => sys::BPF_TC_INGRESS,
            Direction::Egress => sys::BPF_TC_EGRESS,
        },
        ..Default::default()
    }
}

fn options(prio: u32) -> sys::bpf_tc_opts {
    sys::bpf_tc_opts { sz: size_of::<sys::bpf_tc_opts>() as u64, handle: HANDLE, priority: prio, ..Default::default() }
}

fn attach(program: &Program, ifindex: u32, direction: Direction, prio: u32, flags: u32) -> i32 {
    let (hook, mut options) = (hook(ifindex, direction), options(prio));
    options.prog_fd = program.raw_fd();
    options.flags = flags;
    // SAFETY: hook and options are valid for the call.
    unsafe { sys::bpf_tc_attach(&raw const hook, &raw mut options) }
}

fn detach(ifindex: u32, direction: Direction, prio: u32) {
    let (hook, options) = (hook(ifindex, direction), options(prio));
    // SAFETY: hook and options are valid for the call. If it fails, the filter or its device is gone already.
    unsafe { sys::bpf_tc_detach(&raw const hook, &raw const options) };
}

/// True if it was made, false if there was one.
fn create_qdisc(ifindex: u32) -> Result<bool, Error> {
    let mut hook = hook(ifindex, Direction::Ingress);
    // SAFETY: the hook is valid for the call.
    match unsafe { sys::bpf_tc_hook_create(&raw mut hook) } {
        0 => Ok(true),
        code if -code == libc::EEXIST => Ok(false),
        code => Err(Error::from_code("make a clsact qdisc", code, ifindex)),
    }
}

fn destroy_qdisc(ifindex: u32) {
    let mut hook = hook(ifindex, Direction::Ingress);
    // Both directions: that removes the qdisc itself, not only its filters.
    hook.attach_point = sys::BPF_TC_INGRESS | sys::BPF_TC_EGRESS;
    // SAFETY: the hook is valid for the call. If it fails, the device is gone already.
    unsafe { sys::bpf_tc_hook_destroy(&raw mut hook) };
}
