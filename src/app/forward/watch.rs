//! Which devices are up, kept true by a thread per namespace. It changes no device.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::host;
use crate::types::DeviceKey;

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(250);
/// `IFF_UP` and `IFF_RUNNING` (include/uapi/linux/if.h): up, and with a carrier.
const UP_AND_RUNNING: u32 = 0x1 | 0x40;

/// The flags of these devices, in their order, all true at first; they are kept true until `stop` says otherwise.
#[must_use]
pub fn watch(devices: &[DeviceKey], stop: &Arc<AtomicBool>) -> Arc<[AtomicBool]> {
    let up: Arc<[AtomicBool]> = devices.iter().map(|_| AtomicBool::new(true)).collect();
    let mut namespaces: Vec<Option<String>> = devices.iter().map(|d| d.netns.clone()).collect();
    namespaces.sort();
    namespaces.dedup();
    for netns in namespaces {
        let mine: Vec<(usize, String)> = devices
            .iter()
            .enumerate()
            .filter(|(_, d)| d.netns == netns)
            .map(|(index, d)| (index, d.name.clone()))
            .collect();
        let (up, stop) = (Arc::clone(&up), Arc::clone(stop));
        let name = "viscum-watch".to_owned();
        let spawned = std::thread::Builder::new().name(name).spawn(move || {
            // A namespace that is gone has no devices to watch; its ports notice by themselves.
            let _gone = host::netns::in_namespace(netns.as_deref(), || look_until(&mine, &up, &stop));
        });
        // Without the thread every device counts as up, and a failing transmission is counted where it fails.
        drop(spawned);
    }
    up
}

fn look_until(mine: &[(usize, String)], up: &[AtomicBool], stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let links = pnet::datalink::interfaces();
        for (index, name) in mine {
            // A device without a link is a tap that stands in for it: nothing to see here.
            if let Some(link) = links.iter().find(|l| l.name == *name) {
                up[*index].store(link.flags & UP_AND_RUNNING == UP_AND_RUNNING, Ordering::Relaxed);
            }
        }
        std::thread::sleep(PERIOD);
    }
}
