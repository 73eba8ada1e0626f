//! Which devices are up, and what becomes of them: a thread that hears of changes of links by netlink. It changes no device.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::host::monitor::{LinkState, Monitor};
use crate::host::netns::Identity;
use crate::types::DeviceKey;

/// The longest time between two looks at what nobody tells of: whether namespaces still have their names.
const LOOK_MS: u16 = 250;

/// See the file's head. It ends when it is dropped.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: EventFd,
    changed: AtomicBool,
    stop: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    keys: Vec<DeviceKey>,
    up: Arc<[AtomicBool]>,
    /// Taps stand in for these: they need no link.
    stand_ins: BTreeSet<DeviceKey>,
    /// By namespace.
    links: BTreeMap<Option<String>, Links>,
    /// The device that a name was last seen on: if it has another name now, it is still the one that rules mean.
    numbers: BTreeMap<DeviceKey, u32>,
}

/// The links of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Links {
    /// Which namespace has the name; none: none has.
    identity: Option<Identity>,
    list: Vec<LinkState>,
}

impl State {
    fn refresh(&mut self) {
        for (key, up) in self.keys.iter().zip(self.up.iter()) {
            let Some(links) = self.links.get(&key.netns) else { continue };
            let named = links.list.iter().find(|link| link.name == key.name);
            if let Some(link) = named {
                self.numbers.insert(key.clone(), link.ifindex);
            }
            let number = self.numbers.get(key);
            let link = named.or_else(|| links.list.iter().find(|link| Some(&link.ifindex) == number));
            let is_up = link.is_some_and(|link| link.up) || self.stand_ins.contains(key);
            up.store(is_up, Ordering::Relaxed);
        }
    }

    fn namespaces(&self) -> BTreeSet<Option<String>> {
        self.keys.iter().map(|key| key.netns.clone()).collect()
    }
}

/// What became of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing is known of its namespace yet.
    Unknown,
    /// Its namespace is gone, or has another name.
    NoNamespace,
    /// There is no such device any more.
    Gone,
    /// It is there.
    There(LinkState),
}

impl Watch {
    /// Watches nothing until it is told what.
    ///
    /// # Errors
    /// The system refuses a descriptor or a thread.
    pub fn start() -> std::io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake,
            changed: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("viscum-watch".to_owned()).spawn(move || of_thread.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The flags of these devices from now on, in their order: whether each is up. Those of which nothing is known yet count as up.
    #[must_use]
    pub fn set(&self, keys: &[DeviceKey], stand_ins: BTreeSet<DeviceKey>) -> Arc<[AtomicBool]> {
        let up: Arc<[AtomicBool]> = keys.iter().map(|_| AtomicBool::new(true)).collect();
        let mut state = self.shared.lock();
        state.keys = keys.to_vec();
        state.up = Arc::clone(&up);
        state.stand_ins = stand_ins;
        state.numbers.retain(|key, _| keys.contains(key));
        state.refresh();
        drop(state);
        self.shared.wake();
        up
    }

    /// Whether anything changed since the last call.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.shared.changed.swap(false, Ordering::AcqRel)
    }

    /// What became of the device of this number, in the namespace of this identity that had its name.
    #[must_use]
    pub fn find(&self, netns: Option<&str>, identity: Option<Identity>, ifindex: u32) -> Found {
        match self.shared.lock().links.get(&netns.map(str::to_owned)) {
            None => Found::Unknown,
            Some(links) if links.identity != identity => Found::NoNamespace,
            Some(links) => links.found(|link| link.ifindex == ifindex),
        }
    }

    /// The device of this name.
    #[must_use]
    pub fn named(&self, key: &DeviceKey) -> Found {
        let state = self.shared.lock();
        state.links.get(&key.netns).map_or(Found::Unknown, |links| links.found(|link| link.name == key.name))
    }
}

impl Links {
    fn found(&self, is: impl Fn(&LinkState) -> bool) -> Found {
        self.list.iter().find(|link| is(link)).map_or(Found::Gone, |link| Found::There(link.clone()))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake();
        let _it_has_ended = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // An eventfd that cannot take one more is readable: the thread wakes up anyway.
        let _readable = self.wake.write(1);
    }

    fn run(&self) {
        let mut monitors: Vec<Monitor> = Vec::new();
        while !self.stop.load(Ordering::Acquire) {
            self.look(&mut monitors);
            let wake = PollFd::new(self.wake.as_fd(), PollFlags::POLLIN);
            let of_monitors = monitors.iter().map(|m| PollFd::new(m.fd(), PollFlags::POLLIN));
            let mut polled: Vec<PollFd<'_>> = std::iter::once(wake).chain(of_monitors).collect();
            // Interrupted or failed: the next look finds out what there is.
            let _woken = poll(&mut polled, PollTimeout::from(LOOK_MS));
            let _emptied = self.wake.read();
        }
    }

    /// Opens what is missing, closes what is not needed or gone, and asks where something changed.
    fn look(&self, monitors: &mut Vec<Monitor>) {
        let wanted = self.lock().namespaces();
        monitors.retain(|m| wanted.contains(&m.netns().map(str::to_owned)) && m.has_name());
        let mut new: BTreeMap<Option<String>, Links> = BTreeMap::new();
        for netns in &wanted {
            let known = monitors.iter().find(|m| m.netns() == netns.as_deref());
            if known.is_some_and(|monitor| !monitor.has_changed()) {
                continue;
            }
            if known.is_none() {
                monitors.extend(Monitor::open(netns.as_deref()).ok());
            }
            match monitors.iter().position(|m| m.netns() == netns.as_deref()) {
                Some(at) => match monitors[at].links() {
                    Ok(list) => drop(new.insert(netns.clone(), Links { identity: monitors[at].identity(), list })),
                    // Asked anew at the next look.
                    Err(_) => drop(monitors.swap_remove(at)),
                },
                // No such namespace. The own one is always there: nothing is known of it then.
                None if netns.is_some() => drop(new.insert(netns.clone(), Links { identity: None, list: Vec::new() })),
                None => {}
            }
        }
        let mut state = self.lock();
        state.links.retain(|netns, _| wanted.contains(netns));
        let before = new.iter().all(|(netns, links)| state.links.get(netns) == Some(links));
        if !before {
            state.links.extend(new);
            state.refresh();
            drop(state);
            self.changed.store(true, Ordering::Release);
        }
    }
}
