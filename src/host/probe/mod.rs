//! What this kernel and a device can do, tried for real where trying is harmless. What was made for it is gone afterwards.
//!
//! Programs are tried on a veth pair in a network namespace that has no name and ends with the thread that is in it.

mod device;
mod kernel;
mod machine;
mod tries;

pub use device::{Device, device};
pub use kernel::kernel;
pub use machine::{caller, machine};

use serde::Serialize;

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Answer {
    /// It works.
    Yes {
        /// How; often empty.
        detail: String,
    },
    /// It does not.
    No {
        /// What the kernel says.
        why: String,
    },
    /// Nobody knows.
    Untried {
        /// What stood against trying.
        why: String,
    },
    /// A value.
    Is {
        /// As it is written.
        value: String,
    },
}

impl Answer {
    /// It works, and there is nothing to add.
    #[must_use]
    pub const fn yes() -> Self {
        Self::Yes { detail: String::new() }
    }

    fn no(why: impl ToString) -> Self {
        Self::No { why: why.to_string() }
    }

    fn untried(why: impl ToString) -> Self {
        Self::Untried { why: why.to_string() }
    }

    fn is(value: impl ToString) -> Self {
        Self::Is { value: value.to_string() }
    }

    /// Of a try.
    fn of<E: ToString>(tried: Result<(), E>) -> Self {
        tried.map_or_else(Self::no, |()| Self::yes())
    }
}

/// One thing that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// What.
    pub name: String,
    /// The answer.
    #[serde(flatten)]
    pub answer: Answer,
    /// What to do about it, if it stands in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Item {
    fn new(name: impl Into<String>, answer: Answer) -> Self {
        Self { name: name.into(), answer, remedy: None }
    }

    fn but(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// Things that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Section {
    /// About what.
    pub title: String,
    /// The things.
    pub items: Vec<Item>,
}

impl Section {
    /// The answer to something that was asked.
    #[must_use]
    pub fn answer(&self, name: &str) -> Option<&Answer> {
        self.items.iter().find(|i| i.name == name).map(|i| &i.answer)
    }
}

/// Runs `f` in a network namespace of its own, where the loopback device is all there is.
///
/// # Errors
/// Why there can be none, in words.
fn in_scratch<T: Send>(f: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let inside = std::thread::Builder::new().spawn_scoped(scope, || {
            let made = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET);
            made.map_err(|e| format!("no network namespace to try it in ({e}; it takes CAP_SYS_ADMIN)"))?;
            Ok(f())
        });
        let inside = inside.map_err(|e| format!("no thread to try it in ({e})"))?;
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests;
