//! Programs into the kernel and onto devices, and their counts back. It decides nothing about frames.

pub mod forward;
mod tally;

use tally::Meaning;
pub use tally::Tally;

use std::os::fd::BorrowedFd;

use super::asm::{Asm, MapRef, Reg};
use super::count::BLOCK_WORDS;
use super::forward::lookup::Tables;
use super::forward::work::WORKSPACE_LEN;
use super::steer::{Object, TCX_NEXT, Target};
use crate::limits::QUEUES_MAX;
use crate::sys::bpf::{
    ClsFilter, Error, Kind, Link, Mode, PerCpuMap, Program, SocketMap, WordMap, remove_leftover,
    wait_for_running_programs,
};

/// Where an XDP program is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver, or not at all.
    Native,
    /// In the network core.
    Generic,
    /// In the driver if that is possible, else in the network core.
    Auto,
}

/// A program in the kernel with its counters.
#[derive(Debug)]
pub(super) struct Loaded {
    pub program: Program,
    counters: PerCpuMap,
    meaning: Meaning,
}

impl Loaded {
    pub fn new(object: &Object, kind: Kind, suffix: &str, sockets: Option<&SocketMap>) -> Result<Self, Error> {
        let counters = PerCpuMap::new(c"viscum_count", BLOCK_WORDS, object.counter_blocks())?;
        let workspace = PerCpuMap::new(c"viscum_work", WORKSPACE_LEN as usize / 8, 1)?;
        let rules = rules(&object.tables)?;
        let insns = object.text.raw(&|map| match map {
            MapRef::Counters => counters.map().raw_fd(),
            MapRef::Sockets => sockets.expect("an XDP program comes with a socket map").map().raw_fd(),
            MapRef::Workspace => workspace.map().raw_fd(),
            MapRef::Rules => rules.as_ref().expect("a program that looks rules up has some").map().raw_fd(),
            MapRef::Devices => panic!("steering sends nothing to a device"),
        });
        let program = Program::load(kind, suffix, &insns)?;
        let (slots, nanoseconds) = (object.counter_words.clone(), object.nanoseconds);
        let meaning = Meaning { slots, nanoseconds, looked_up: object.tables.looked_up.clone() };
        Ok(Self { program, counters, meaning })
    }

    /// Adds what was counted so far.
    pub fn read_into(&self, tally: &mut Tally) -> Result<(), Error> {
        tally.read_from(&self.counters, &self.meaning)
    }
}

/// The map of the rules that a program looks up.
fn rules(tables: &Tables) -> Result<Option<WordMap>, Error> {
    if tables.entries.is_empty() {
        return Ok(None);
    }
    let map = WordMap::new(c"viscum_rules", tables.key_words, tables.entries.len() as u32)?;
    for (key, value) in &tables.entries {
        let mut key = key.clone();
        key.resize(tables.key_words, 0);
        map.set(&key, value)?;
    }
    Ok(Some(map))
}

/// An XDP program on a device, until this is dropped or the process ends.
#[derive(Debug)]
pub struct Steering {
    link: Link,
    loaded: Loaded,
    /// Replaced programs that some CPU may still be in.
    finishing: Vec<Loaded>,
    sockets: SocketMap,
    mode: Mode,
    not_native: Option<Error>,
    retired: Tally,
}

impl Steering {
    /// Loads and attaches. `ifindex` is of the calling thread's network namespace.
    ///
    /// # Errors
    /// See [`Link::xdp`] and [`Program::load`]. In [`XdpMode::Auto`] what stands against native mode is not an error:
    /// see [`Steering::not_native`].
    ///
    /// # Panics
    /// If the object is for another target.
    pub fn attach(object: &Object, ifindex: u32, mode: XdpMode) -> Result<Self, Error> {
        assert_eq!(object.target, Target::Xdp, "an XDP program");
        let sockets = SocketMap::new(c"viscum_sockets", QUEUES_MAX as u32)?;
        let loaded = Loaded::new(object, Kind::Xdp, "steer", Some(&sockets))?;
        let (first, second) = match mode {
            XdpMode::Native => (Mode::Native, None),
            XdpMode::Generic => (Mode::Generic, None),
            XdpMode::Auto => (Mode::Native, Some(Mode::Generic)),
        };
        let (link, mode, not_native) = match (Link::xdp(&loaded.program, ifindex, first), second) {
            (Ok(link), _) => (link, first, None),
            (Err(error), Some(second)) if stands_against_native(&error) => {
                (Link::xdp(&loaded.program, ifindex, second)?, second, Some(error))
            }
            (Err(error), _) => return Err(error),
        };
        Ok(Self { link, loaded, finishing: Vec::new(), sockets, mode, not_native, retired: Tally::default() })
    }

    /// Why it is not in native mode, if [`XdpMode::Auto`] tried.
    #[must_use]
    pub fn not_native(&self) -> Option<&Error> {
        self.not_native.as_ref()
    }

    /// The mode in use.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether it is still on its device: somebody may have taken it off, or the device is gone.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.link.is_attached()
    }

    /// The sockets that taken frames go to; it stays the same over updates.
    #[must_use]
    pub fn xskmap(&self) -> &SocketMap {
        &self.sockets
    }

    /// Hands frames of a queue to an AF_XDP socket.
    ///
    /// # Errors
    /// See [`SocketMap::set`].
    pub fn serve(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), Error> {
        self.sockets.set(queue, socket)
    }

    /// Puts a new program in the place of the old one, atomically; returns when the old one has finished its last frame.
    /// What the old one counted is kept.
    ///
    /// # Errors
    /// See [`Program::load`] and [`Link::update`]; the old program stays then.
    pub fn update(&mut self, object: &Object) -> Result<(), Error> {
        let new = self.prepare(object)?;
        self.commit(new)?;
        self.finish()
    }

    /// The first step of an update: loads the new program; the old one stays in force.
    ///
    /// # Errors
    /// See [`Program::load`].
    ///
    /// # Panics
    /// If the object is for another target.
    pub fn prepare(&self, object: &Object) -> Result<Prepared, Error> {
        assert_eq!(object.target, Target::Xdp, "an XDP program");
        Ok(Prepared(Loaded::new(object, Kind::Xdp, "steer", Some(&self.sockets))?))
    }

    /// The second step: puts it in the old one's place, atomically. Some CPU may still be in the old one.
    ///
    /// # Errors
    /// See [`Link::update`]; the old program stays then.
    pub fn commit(&mut self, new: Prepared) -> Result<(), Error> {
        self.link.update(&new.0.program)?;
        self.finishing.push(std::mem::replace(&mut self.loaded, new.0));
        Ok(())
    }

    /// The last step: waits until the old program has finished its last frame, and keeps what it counted.
    ///
    /// # Errors
    /// What the kernel says; not expected.
    pub fn finish(&mut self) -> Result<(), Error> {
        finish(&mut self.finishing, &mut self.retired)
    }

    /// Forgets what programs before the present one counted: their words meant other rules.
    pub fn forget(&mut self) {
        self.finishing.clear();
        self.retired = Tally::default();
    }

    /// Detaches it, and waits until it has finished its last frame. All that it counted.
    ///
    /// # Errors
    /// What the kernel says; not expected.
    pub fn end(self) -> Result<Tally, Error> {
        let Self { link, loaded, finishing, retired: mut tally, .. } = self;
        drop(link);
        wait_for_running_programs();
        finishing.iter().chain([&loaded]).try_for_each(|loaded| loaded.read_into(&mut tally))?;
        Ok(tally)
    }

    /// All that was counted since [`Steering::attach`].
    ///
    /// # Errors
    /// What the kernel says; not expected.
    pub fn counters(&self) -> Result<Tally, Error> {
        let mut tally = self.retired.clone();
        for loaded in self.finishing.iter().chain([&self.loaded]) {
            loaded.read_into(&mut tally)?;
        }
        Ok(tally)
    }
}

/// A program that is loaded and not yet in force.
#[derive(Debug)]
pub struct Prepared(Loaded);

fn finish(finishing: &mut Vec<Loaded>, retired: &mut Tally) -> Result<(), Error> {
    if finishing.is_empty() {
        return Ok(());
    }
    wait_for_running_programs();
    finishing.drain(..).try_for_each(|old| old.read_into(retired))
}

/// A classifier that leaves every frame to what comes next.
fn quiet() -> Result<Program, Error> {
    let mut asm = Asm::default();
    asm.mov_imm(Reg::R0, TCX_NEXT);
    asm.exit();
    let text = asm.finish().expect("two instructions without a jump");
    let insns: Vec<u64> = text.insns.into_iter().map(super::asm::Insn::raw).collect();
    Program::load(Kind::Classifier, "quiet", &insns)
}

/// Errors after which generic mode may still work.
fn stands_against_native(error: &Error) -> bool {
    matches!(error, Error::Unsupported { .. } | Error::MtuTooLarge { .. } | Error::NoSpace { .. })
}

/// How a [`DropBehind`] hangs on its device.
#[derive(Debug)]
enum Hanger {
    Tcx(Link),
    Cls(ClsFilter),
}

/// A classifier that drops behind a tap, until this is dropped. With tcx it also ends with the process.
#[derive(Debug)]
pub struct DropBehind {
    hanger: Hanger,
    loaded: Loaded,
    /// Replaced programs that some CPU may still be in.
    finishing: Vec<Loaded>,
    retired: Tally,
}

impl DropBehind {
    /// Loads and attaches at ingress: on a tcx link, or as cls_bpf where the kernel has no tcx. A cls_bpf filter of ours that
    /// a killed process left is removed first.
    ///
    /// # Errors
    /// See [`Link::tcx_ingress`], [`ClsFilter::attach`] and [`Program::load`].
    ///
    /// # Panics
    /// If the object is for another target.
    pub fn attach(object: &Object, ifindex: u32) -> Result<Self, Error> {
        assert_eq!(object.target, Target::DropBehind, "a classifier");
        remove_leftover(ifindex);
        let loaded = Loaded::new(object, Kind::Classifier, "behind", None)?;
        // A link takes milliseconds to make, and no time to get another program: until that, nothing is dropped.
        match Link::tcx_ingress(&quiet()?, ifindex) {
            Ok(link) => {
                link.update(&loaded.program)?;
                Ok(Self { hanger: Hanger::Tcx(link), loaded, finishing: Vec::new(), retired: Tally::default() })
            }
            Err(Error::Unsupported { .. }) => Self::attach_cls(object, ifindex),
            Err(error) => Err(error),
        }
    }

    /// As [`DropBehind::attach`], without trying tcx.
    ///
    /// # Errors
    /// See [`ClsFilter::attach`] and [`Program::load`].
    pub fn attach_cls(object: &Object, ifindex: u32) -> Result<Self, Error> {
        let loaded = Loaded::new(object, Kind::Classifier, "behind", None)?;
        let hanger = Hanger::Cls(ClsFilter::attach(&loaded.program, ifindex)?);
        Ok(Self { hanger, loaded, finishing: Vec::new(), retired: Tally::default() })
    }

    /// How it is attached: `tcx`, or `cls_bpf`.
    #[must_use]
    pub fn mode(&self) -> &'static str {
        match self.hanger {
            Hanger::Tcx(_) => "tcx",
            Hanger::Cls(_) => "cls_bpf",
        }
    }

    /// As [`Steering::is_attached`]; with cls_bpf it is not known, and true.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        match &self.hanger {
            Hanger::Tcx(link) => link.is_attached(),
            Hanger::Cls(_) => true,
        }
    }

    /// As [`Steering::update`].
    ///
    /// # Errors
    /// See [`Program::load`] and [`Link::update`]; the old program stays then.
    pub fn update(&mut self, object: &Object) -> Result<(), Error> {
        let new = self.prepare(object)?;
        self.commit(new)?;
        self.finish()
    }

    /// As [`Steering::prepare`].
    ///
    /// # Errors
    /// See [`Program::load`].
    ///
    /// # Panics
    /// If the object is for another target.
    pub fn prepare(&self, object: &Object) -> Result<Prepared, Error> {
        assert_eq!(object.target, Target::DropBehind, "a classifier");
        Ok(Prepared(Loaded::new(object, Kind::Classifier, "behind", None)?))
    }

    /// As [`Steering::commit`].
    ///
    /// # Errors
    /// See [`Link::update`] and [`ClsFilter::update`]; the old program stays then.
    pub fn commit(&mut self, new: Prepared) -> Result<(), Error> {
        match &self.hanger {
            Hanger::Tcx(link) => link.update(&new.0.program)?,
            Hanger::Cls(filter) => filter.update(&new.0.program)?,
        }
        self.finishing.push(std::mem::replace(&mut self.loaded, new.0));
        Ok(())
    }

    /// As [`Steering::finish`].
    ///
    /// # Errors
    /// What the kernel says; not expected.
    pub fn finish(&mut self) -> Result<(), Error> {
        finish(&mut self.finishing, &mut self.retired)
    }

    /// Totals since [`DropBehind::attach`]; it counts no words, the tap's owner does.
    ///
    /// # Errors
    /// What the kernel says; not expected.
    pub fn counters(&self) -> Result<Tally, Error> {
        let mut tally = self.retired.clone();
        for loaded in self.finishing.iter().chain([&self.loaded]) {
            loaded.read_into(&mut tally)?;
        }
        Ok(tally)
    }
}
