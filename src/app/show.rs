//! `viscum show`: the running forwarder's filters, in tc's own words. It changes nothing.

use serde_json::{Map, Value};

use super::forward::Running;
use crate::tc::{Clock, ListOptions, Selection};
use crate::types::{DeviceKey, Direction};

/// The listing of one device's hook, or of all, each under the tc command that would print it.
///
/// # Errors
/// That the device has no filters, with those that have.
pub fn show(
    running: &Running,
    device: Option<&str>,
    netns: Option<&str>,
    direction: Option<Direction>,
    stats: bool,
    json: bool,
) -> Result<String, String> {
    let options = ListOptions { stats, json, ..ListOptions::default() };
    let counters = running.counters();
    let clock = Clock { now_ms: counters.now_ms };
    let store = &running.rules.store;
    let all = store.selections();
    let fits = |s: &&Selection| {
        device.is_none_or(|d| s.device.as_deref() == Some(d) && s.netns.as_deref() == netns)
            && direction.is_none_or(|wanted| wanted == direction_of(s))
    };
    let chosen: Vec<&Selection> = all.iter().filter(fits).collect();
    if let (Some(device), true) = (device, chosen.is_empty()) {
        let names: Vec<String> = all.iter().map(|s| s.command_line(&options)).collect();
        let key = DeviceKey::new(netns, device);
        return Err(format!("{key} has no filters; there are:\n  {}", names.join("\n  ")));
    }
    let one = device.is_some() && (direction.is_some() || chosen.len() == 1);
    let mut text = String::new();
    let mut object = Map::new();
    for selection in chosen {
        let gone = direction_of(selection) == Direction::Ingress && is_bypassed(running, selection);
        let listing = if gone { String::new() } else { store.list_filters(selection, &options, &counters, &clock) };
        if json {
            let value = serde_json::from_str(&listing).unwrap_or_else(|_| Value::Array(Vec::new()));
            object.insert(selection.command_line(&options), value);
        } else {
            if !one {
                let note = if gone { " (bypassed)" } else { "" };
                text.push_str(&format!("# {}{note}\n", selection.command_line(&options)));
            }
            text.push_str(&listing);
        }
    }
    if !json {
        return Ok(text);
    }
    let value = match (one, object.len()) {
        (true, 1) => object.into_iter().next().map_or(Value::Null, |(_, v)| v),
        _ => Value::Object(object),
    };
    Ok(value.to_string() + "\n")
}

fn direction_of(selection: &Selection) -> Direction {
    use crate::tc::Parent;
    match selection.parent {
        Some(parent) if parent == Parent::INGRESS || parent == Parent::INGRESS_QDISC => Direction::Ingress,
        _ => Direction::Egress,
    }
}

fn is_bypassed(running: &Running, selection: &Selection) -> bool {
    selection
        .device
        .as_deref()
        .is_some_and(|d| running.rules.bypassed.contains(&DeviceKey::new(selection.netns.as_deref(), d)))
}
