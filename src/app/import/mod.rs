//! The kernel's tc state as a rules file: commands that make the same state, and what import does not read as comments. It changes nothing.

mod line;
mod order;
mod prio;

use std::fmt::Write as _;

use crate::host;
use crate::host::tc::{Change, NetlinkError, Snapshot};

pub use order::plan;

/// One command: the change, and tc's words for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it changes.
    pub change: Change,
    /// The command, without `tc`.
    pub words: String,
}

/// The state of a namespace, as commands.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// The namespace; `None`: the caller's.
    pub netns: Option<String>,
    /// The commands, in order.
    pub steps: Vec<Step>,
    /// What is not in them: where it is, and what viscum lacks.
    pub left_out: Vec<String>,
    /// What else is to be said.
    pub notes: Vec<String>,
    /// How many filters are in the commands.
    pub filters: usize,
}

/// Reads the state of a namespace, or of one device of it.
///
/// # Errors
/// [`NetlinkError`].
pub fn import(netns: Option<&str>, device: Option<&str>) -> Result<(Import, Snapshot), NetlinkError> {
    let snapshot = host::tc::read(netns, device)?;
    Ok((plan(&snapshot), snapshot))
}

/// The namespaces that `--all-netns` means: the caller's own, and all with a name that are not that.
#[must_use]
pub fn all_namespaces() -> Vec<Option<String>> {
    let named = host::netns::names().into_iter().filter(|name| !host::netns::is_own(name)).map(Some);
    std::iter::once(None).chain(named).collect()
}

impl Import {
    /// The rules file.
    #[must_use]
    pub fn script(&self) -> String {
        let place = self.netns.as_deref().map_or_else(String::new, |name| format!(" of the namespace {name}"));
        let mut out = format!("# the kernel's tc{place}: {} filters", self.filters);
        let _ = match self.left_out.len() {
            0 => writeln!(out),
            count => writeln!(out, "; {count} left out"),
        };
        for line in &self.left_out {
            let _ = writeln!(out, "# left out: {line}");
        }
        for line in &self.notes {
            let _ = writeln!(out, "# note: {line}");
        }
        let tc = self.netns.as_deref().map_or_else(|| "tc".to_owned(), |name| format!("tc -n {name}"));
        for step in &self.steps {
            let _ = writeln!(out, "{tc} {}", step.words);
        }
        out
    }
}
