//! The machine beside its kernel's code: cores, huge pages, memory that may be locked; and who is asking.

use super::{Answer, Item, Section};
use crate::host::caps::{self, Capability};

/// A file's text without the newline; `None` if it cannot be read or is empty.
pub(super) fn text(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty())
}

/// A file's text as an answer.
pub(super) fn file(path: &str) -> Answer {
    text(path).map_or_else(|| Answer::untried(format!("{path} cannot be read")), Answer::is)
}

/// Cores, huge pages, memory.
#[must_use]
pub fn machine() -> Section {
    let list = |name: &str| text(&format!("/sys/devices/system/cpu/{name}"));
    let mut items = vec![
        Item::new("cores online", list("online").map_or_else(|| Answer::untried("not told"), Answer::is)),
        Item::new("cores of this process", allowed()),
    ];
    items.push(match list("isolated") {
        Some(cores) => Item::new("isolated cores", Answer::is(cores)),
        None => Item::new("isolated cores", Answer::is("none"))
            .but("isolcpus=LIST (and nohz_full=LIST) at boot keeps other work off a worker's core"),
    });
    items.push(Item::new("cores without tick (nohz_full)", Answer::is(nohz(list("nohz_full")))));
    items.push(huge_pages());
    let transparent = text("/sys/kernel/mm/transparent_hugepage/enabled");
    let chosen = transparent.and_then(|t| t.split(['[', ']']).nth(1).map(str::to_owned));
    items.push(Item::new(
        "transparent huge pages",
        chosen.map_or_else(|| Answer::no("this kernel has none"), Answer::is),
    ));
    items.push(locked());
    for name in ["busy_poll", "busy_read"] {
        items.push(Item::new(format!("net.core.{name}"), file(&format!("/proc/sys/net/core/{name}"))));
    }
    Section { title: "machine".to_owned(), items }
}

fn allowed() -> Answer {
    let status = text("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"));
    line.map_or_else(|| Answer::untried("not told"), |cores| Answer::is(cores.trim()))
}

/// The kernel writes `(null)` for an empty list.
fn nohz(list: Option<String>) -> String {
    list.filter(|l| l != "(null)").unwrap_or_else(|| "none".to_owned())
}

fn huge_pages() -> Item {
    let info = text("/proc/meminfo").unwrap_or_default();
    let value = |name: &str| info.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_owned());
    let (total, free, size) = (value("HugePages_Total:"), value("HugePages_Free:"), value("Hugepagesize:"));
    match (total, free, size) {
        (Some(total), Some(free), Some(size)) => {
            Item::new("huge pages", Answer::is(format!("{free} of {total} free, {size} each")))
        }
        _ => Item::new("huge pages", Answer::no("this kernel has none (CONFIG_HUGETLBFS)")),
    }
}

fn locked() -> Item {
    let limits = text("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|l| l.strip_prefix("Max locked memory"));
    let soft = line.and_then(|l| l.split_whitespace().next());
    Item::new(
        "memory that may be locked, in bytes",
        soft.map_or_else(|| Answer::untried("/proc/self/limits does not tell"), Answer::is),
    )
}

/// The capabilities of whoever asks.
#[must_use]
pub fn caller() -> Section {
    let one = |capability: Capability| match caps::has(capability) {
        true => Item::new(capability.name(), Answer::yes()),
        false => Item::new(capability.name(), Answer::no(capability.purpose()))
            .but("sudo, or setcap (see \"When it does not start\" in the README)"),
    };
    Section { title: "caller".to_owned(), items: Capability::ALL.map(one).to_vec() }
}
