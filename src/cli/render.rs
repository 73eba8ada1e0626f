//! What `app` knows as text for people. No decision is made here.

use std::fmt::Write as _;
use std::path::Path;

use crate::app::forward::{PortStatus, Running, Status, Stopped, WorkerStatus};
use crate::app::replay::Summary;
use crate::types::DropReason;

/// The lines that `viscum run` begins with: notes on the rules, then each device and queue.
pub fn started(running: &Running) -> String {
    let mut text = String::new();
    for (file, note) in &running.notes {
        push(&mut text, format_args!("note: {file}:{}: {}", note.line, note.text));
    }
    for note in running.own_notes() {
        push(&mut text, format_args!("note: {note}"));
    }
    let status = running.status();
    for device in &status.devices {
        push(&mut text, format_args!("{}: {}", device.device, device.mode));
        push(&mut text, format_args!("    why: {}", device.reason));
        for worker in &status.workers {
            if device.workers.contains(&worker.worker) {
                push(
                    &mut text,
                    format_args!(
                        "    queue {0}: worker {0}, thread {1}, {2}",
                        worker.worker,
                        worker.thread_id,
                        core(worker)
                    ),
                );
            }
        }
    }
    text
}

fn core(worker: &WorkerStatus) -> String {
    if worker.pinned {
        format!("pinned to core {}", worker.core)
    } else {
        format!("could not be pinned to core {}", worker.core)
    }
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _infallible = writeln!(text, "{line}");
}

/// `viscum status`.
pub fn status(status: &Status, json: bool) -> String {
    if json {
        return serde_json::to_string_pretty(status).unwrap_or_default() + "\n";
    }
    let mut text = String::new();
    push(&mut text, format_args!("pid {}, up {:.1} s", status.pid, status.uptime_ms as f64 / 1000.0));
    if status.watching > 0 {
        push(&mut text, format_args!("watched by {} (trace, capture, latency)", status.watching));
    }
    for device in &status.devices {
        let down = if device.up { "" } else { ", DOWN" };
        push(&mut text, format_args!("{}: {}, {} queue(s){down}", device.device, device.mode, device.queues));
        push(&mut text, format_args!("    why: {}", device.reason));
        if let (Some(taken), Some(passed)) = (device.program_taken, device.program_passed) {
            let unserved = device.program_unserved.filter(|n| *n > 0);
            let unserved =
                unserved.map_or(String::new(), |n| format!(", {n} of a queue without a socket went to the kernel"));
            push(&mut text, format_args!("    program: took {taken} frames, left {passed} to the kernel{unserved}"));
        }
        if status.bypassed.contains(&device.device) {
            push(&mut text, format_args!("    bypassed: its ingress filters are taken away"));
        }
    }
    for absent in &status.absent {
        push(&mut text, format_args!("{}: NOT SERVED: {}; it is tried again", absent.device, absent.reason));
    }
    for worker in &status.workers {
        push(
            &mut text,
            format_args!(
                "worker {}: thread {}, {}; {} rounds, {} with frames, slept {} times",
                worker.worker,
                worker.thread_id,
                core(worker),
                worker.rounds,
                worker.busy_rounds,
                worker.sleeps
            ),
        );
        ports(&mut text, &worker.ports);
    }
    text
}

fn ports(text: &mut String, ports: &[PortStatus]) {
    for port in ports {
        push(
            text,
            format_args!(
                "    {}: received {} frames {} bytes, forwarded {}, left to the kernel {}, transmitted {} frames {} bytes",
                port.device, port.rx_frames, port.rx_bytes, port.handed, port.passed, port.tx_frames, port.tx_bytes
            ),
        );
        if port.mirrored + port.crossed_in + port.crossed_out > 0 {
            push(
                text,
                format_args!(
                    "        mirrored {}, to other workers {}, from other workers {}",
                    port.mirrored, port.crossed_out, port.crossed_in
                ),
            );
        }
        if !port.drops.is_empty() {
            let drops: Vec<String> = port.drops.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            push(text, format_args!("        dropped: {}", drops.join(", ")));
        }
    }
}

/// The last lines of `viscum run`: what every worker did, and whether every frame is accounted for.
pub fn stopped(stopped: &Stopped) -> String {
    let workers = &stopped.workers;
    let mut text = String::from("ended; programs are detached, the kernel has all frames again\n");
    for worker in workers {
        push(&mut text, format_args!("worker {}:", worker.worker));
        ports(&mut text, &worker.ports);
    }
    let missing: i64 = workers.iter().flat_map(|w| &w.ports).map(PortStatus::missing).sum();
    match stopped.outstanding {
        Some(0) if missing == 0 => text.push_str("every received frame is accounted for\n"),
        Some(frames) => {
            push(&mut text, format_args!("FAULT: {frames} buffers and {missing} frames are not accounted for"))
        }
        None => text.push_str("FAULT: a worker panicked; its frames are not accounted for\n"),
    }
    text
}

/// The last line of `viscum replay`.
pub fn replayed(summary: &Summary, out: &Path) -> String {
    let mut text =
        format!("{} frames: {} transmitted, {} to a stack", summary.frames, summary.transmitted, summary.delivered);
    for reason in DropReason::ALL {
        let count = summary.dropped[reason.index()];
        if count > 0 {
            text.push_str(&format!(", {count} dropped ({})", reason.as_str()));
        }
    }
    if summary.refused_lines > 0 {
        text.push_str(&format!("; {} lines of the rules were refused, see tc.log", summary.refused_lines));
    }
    text + &format!("; results in {}\n", out.display())
}
