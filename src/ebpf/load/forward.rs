//! Forwarding programs into the kernel and onto devices, and their counts back. It decides nothing about frames.

use super::{Meaning, Tally, XdpMode, rules, stands_against_native};
use crate::ebpf::asm::{Asm, Insn, MapRef, Reg};
use crate::ebpf::count::BLOCK_WORDS;
use crate::ebpf::forward::work::WORKSPACE_LEN;
use crate::ebpf::forward::{DEVICES_MAX, ForwardObject, Stage};
use crate::sys::bpf::{
    ClsFilter, DeviceMap, Error, Kind, Link, Mode, PerCpuMap, Program, remove_leftover, wait_for_running_programs,
};
use crate::types::DeviceId;

const XDP_PASS: i32 = 2;

/// A forwarding program in the kernel with its maps.
#[derive(Debug)]
pub struct Forwarding {
    program: Program,
    counters: PerCpuMap,
    /// Kept for tests; programs hold on to their maps by themselves.
    workspace: PerCpuMap,
    devices: DeviceMap,
    object: ForwardObject,
    meaning: Meaning,
}

impl Forwarding {
    /// Loads it. No device is in its map yet: what it would redirect is dropped, see [`Forwarding::set_device`].
    ///
    /// # Errors
    /// See [`Program::load`]; what the kernel says of maps.
    pub fn load(object: ForwardObject) -> Result<Self, Error> {
        let counters = PerCpuMap::new(c"viscum_count", BLOCK_WORDS, object.counter_blocks())?;
        let workspace = PerCpuMap::new(c"viscum_work", WORKSPACE_LEN as usize / 8, 1)?;
        let devices = match object.stage {
            Stage::Xdp => DeviceMap::for_xdp(c"viscum_devices", DEVICES_MAX as u32)?,
            Stage::Tc(_) => DeviceMap::for_tc(c"viscum_devices", DEVICES_MAX as u32)?,
        };
        let rules = rules(&object.tables)?;
        let insns = object.text.raw(&|map| match map {
            MapRef::Counters => counters.map().raw_fd(),
            MapRef::Workspace => workspace.map().raw_fd(),
            MapRef::Devices => devices.map().raw_fd(),
            MapRef::Rules => rules.as_ref().expect("a program that looks rules up has some").map().raw_fd(),
            MapRef::Sockets => panic!("a forwarding program has no sockets"),
        });
        let kind = if object.stage == Stage::Xdp { Kind::Xdp } else { Kind::Classifier };
        let program = Program::load(kind, "forward", &insns)?;
        let looked_up = object.tables.looked_up.clone();
        let meaning = Meaning { slots: object.slots.clone(), nanoseconds: true, looked_up };
        Ok(Self { program, counters, workspace, devices, object, meaning })
    }

    /// What it was made from.
    #[must_use]
    pub fn object(&self) -> &ForwardObject {
        &self.object
    }

    /// From now on redirects to this device go to the one with this index in the calling thread's namespace; 0: it is down, or
    /// gone, and they are dropped and counted as overlimits.
    ///
    /// # Errors
    /// See [`DeviceMap::set`].
    pub fn set_device(&self, device: DeviceId, ifindex: u32) -> Result<(), Error> {
        let number = self.object.devices.iter().position(|d| *d == device);
        number.map_or(Ok(()), |number| self.devices.set(number as u32, ifindex))
    }

    /// The program, for test runs.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The workspace, for tests.
    #[must_use]
    pub fn workspace(&self) -> &PerCpuMap {
        &self.workspace
    }

    /// Adds what was counted so far.
    ///
    /// # Errors
    /// What the kernel says; not expected.
    pub fn read_into(&self, tally: &mut Tally) -> Result<(), Error> {
        tally.read_from(&self.counters, &self.meaning)
    }
}

/// How a [`Forwarder`] hangs on its device.
#[derive(Debug)]
enum Hanger {
    Xdp(Link, Mode),
    Tcx(Link),
    Cls(ClsFilter),
}

/// A forwarding program on a device, until this is dropped. On a link it also ends with the process.
#[derive(Debug)]
pub struct Forwarder {
    hanger: Hanger,
    active: Forwarding,
    /// Replaced programs that some CPU may still be in.
    finishing: Vec<Forwarding>,
    not_native: Option<Error>,
    retired: Tally,
}

impl Forwarder {
    /// Attaches an XDP program. `ifindex` is of the calling thread's network namespace.
    ///
    /// # Errors
    /// See [`Link::xdp`]. In [`XdpMode::Auto`] what stands against native mode is not an error: see [`Forwarder::not_native`].
    ///
    /// # Panics
    /// If the program is for tc.
    pub fn attach_xdp(program: Forwarding, ifindex: u32, mode: XdpMode) -> Result<Self, Error> {
        assert_eq!(program.object.stage, Stage::Xdp, "an XDP program");
        let first = if mode == XdpMode::Generic { Mode::Generic } else { Mode::Native };
        let (hanger, not_native) = match Link::xdp(&program.program, ifindex, first) {
            Ok(link) => (Hanger::Xdp(link, first), None),
            Err(error) if mode == XdpMode::Auto && stands_against_native(&error) => {
                let link = Link::xdp(&program.program, ifindex, Mode::Generic)?;
                (Hanger::Xdp(link, Mode::Generic), Some(error))
            }
            Err(error) => return Err(error),
        };
        Ok(Self { hanger, active: program, finishing: Vec::new(), not_native, retired: Tally::default() })
    }

    /// Attaches a program to tc's hook: on a tcx link, or as cls_bpf at ingress where the kernel has no tcx.
    ///
    /// # Errors
    /// See [`Link::tcx`] and [`ClsFilter::attach`].
    ///
    /// # Panics
    /// If the program is for XDP.
    pub fn attach_tc(program: Forwarding, ifindex: u32) -> Result<Self, Error> {
        let Stage::Tc(direction) = program.object.stage else { panic!("a program for tc") };
        let hanger = match Link::tcx(&program.program, ifindex, direction) {
            Ok(link) => Hanger::Tcx(link),
            Err(Error::Unsupported { .. }) => {
                remove_leftover(ifindex);
                Hanger::Cls(ClsFilter::attach_at(&program.program, ifindex, direction)?)
            }
            Err(error) => return Err(error),
        };
        Ok(Self { hanger, active: program, finishing: Vec::new(), not_native: None, retired: Tally::default() })
    }

    /// Whether it is still on the device.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        match &self.hanger {
            Hanger::Xdp(link, _) | Hanger::Tcx(link) => link.is_attached(),
            // It is not known.
            Hanger::Cls(_) => true,
        }
    }

    /// How it is attached: `xdp native`, `xdp generic`, `tcx`, `cls_bpf`.
    #[must_use]
    pub fn mode(&self) -> &'static str {
        match &self.hanger {
            Hanger::Xdp(_, Mode::Native) => "xdp native",
            Hanger::Xdp(_, Mode::Generic) => "xdp generic",
            Hanger::Xdp(_, Mode::Offloaded) => "xdp offloaded",
            Hanger::Tcx(_) => "tcx",
            Hanger::Cls(_) => "cls_bpf",
        }
    }

    /// Why it is not in native mode, if [`XdpMode::Auto`] tried.
    #[must_use]
    pub fn not_native(&self) -> Option<&Error> {
        self.not_native.as_ref()
    }

    /// The program in force.
    #[must_use]
    pub fn active(&self) -> &Forwarding {
        &self.active
    }

    /// Puts another program in its place, atomically: each frame meets one or the other. Some CPU may still be in the old one, see
    /// [`Forwarder::finish`].
    ///
    /// # Errors
    /// See [`Link::update`] and [`ClsFilter::update`]; the old program stays then.
    pub fn replace(&mut self, program: Forwarding) -> Result<(), Error> {
        assert_eq!(program.object.stage, self.active.object.stage, "a program for the same hook");
        match &self.hanger {
            Hanger::Xdp(link, _) | Hanger::Tcx(link) => link.update(&program.program)?,
            Hanger::Cls(filter) => filter.update(&program.program)?,
        }
        self.finishing.push(std::mem::replace(&mut self.active, program));
        Ok(())
    }

    /// Waits until replaced programs have finished their last frame, and keeps what they counted.
    ///
    /// # Errors
    /// What the kernel says; not expected.
    pub fn finish(&mut self) -> Result<(), Error> {
        if self.finishing.is_empty() {
            return Ok(());
        }
        wait_for_running_programs();
        let retired = &mut self.retired;
        self.finishing.drain(..).try_for_each(|old| old.read_into(retired))
    }

    /// All that was counted since it was attached.
    ///
    /// # Errors
    /// What the kernel says; not expected.
    pub fn counters(&self) -> Result<Tally, Error> {
        let mut tally = self.retired.clone();
        for program in self.finishing.iter().chain([&self.active]) {
            program.read_into(&mut tally)?;
        }
        Ok(tally)
    }

    /// Detaches it, and waits until it has finished its last frame. All that it counted.
    ///
    /// # Errors
    /// What the kernel says; not expected.
    pub fn end(self) -> Result<Tally, Error> {
        let Self { hanger, active, finishing, retired: mut tally, .. } = self;
        drop(hanger);
        wait_for_running_programs();
        finishing.iter().chain([&active]).try_for_each(|program| program.read_into(&mut tally))?;
        Ok(tally)
    }

    /// Forgets what programs before the present one counted: their words meant other rules.
    pub fn forget(&mut self) {
        self.finishing.clear();
        self.retired = Tally::default();
    }
}

/// A program that passes everything, on the far end of a veth: with it that end takes redirected frames.
#[derive(Debug)]
pub struct Napi {
    _link: Link,
    _program: Program,
}

impl Napi {
    /// Attaches it in native mode; `None` if a program is there already, which does the same.
    ///
    /// # Errors
    /// See [`Link::xdp`].
    pub fn attach(ifindex: u32) -> Result<Option<Self>, Error> {
        let mut asm = Asm::new();
        asm.mov_imm(Reg::R0, XDP_PASS);
        asm.exit();
        let text = asm.finish().expect("two instructions need no jump");
        let insns: Vec<u64> = text.insns.into_iter().map(Insn::raw).collect();
        let program = Program::load(Kind::Xdp, "napi", &insns)?;
        match Link::xdp(&program, ifindex, Mode::Native) {
            Ok(link) => Ok(Some(Self { _link: link, _program: program })),
            Err(Error::Busy { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
