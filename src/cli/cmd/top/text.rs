//! The text of `viscum top`: tables of rates, and totals beside them. No terminal is known here.

use std::fmt::Write as _;

use crate::app::top::{QueueRates, Rate, View};

/// All of it, with this many rules.
pub(super) fn of(view: &View, rules_max: usize) -> String {
    let mut text = format!(
        "viscum top: pid {}, up {:.1} s, {:.2} s between",
        view.pid,
        view.uptime.as_secs_f64(),
        view.between.as_secs_f64()
    );
    if view.watching > 0 {
        text += &format!(", watched by {}", view.watching);
    }
    text.push('\n');
    devices(&mut text, view);
    queues(&mut text, view);
    workers(&mut text, view);
    for (device, reason) in &view.absent {
        push(&mut text, format_args!("\nNOT SERVED  {device}: {reason}"));
    }
    drops(&mut text, view);
    // Last, for there may be more of them than a screen has room for.
    rules(&mut text, view, rules_max);
    text
}

/// What a screen has room for: the text, cut below and at the right.
pub(super) fn fit(text: &str, columns: usize, lines: usize) -> String {
    let all = text.lines().count();
    let mut kept: Vec<String> = text.lines().take(lines).map(|line| line.chars().take(columns).collect()).collect();
    if all > lines {
        kept.truncate(lines - 1);
        kept.push(format!("({} lines more have no room)", all - lines + 1).chars().take(columns).collect());
    }
    kept.join("\n")
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _infallible = writeln!(text, "{line}");
}

/// A column for names, wide enough for all of them.
fn width<'a>(head: &str, names: impl Iterator<Item = &'a str>) -> usize {
    names.map(|name| name.chars().count()).max().unwrap_or(0).max(head.len())
}

const TRAFFIC: [&str; 5] = ["IN f/s", "IN bit/s", "OUT f/s", "OUT bit/s", "DROP f/s"];

fn traffic(queue: &QueueRates) -> [String; 5] {
    [
        speed(queue.rx_frames.per_second),
        speed(queue.rx_bytes.per_second * 8.0),
        speed(queue.tx_frames.per_second),
        speed(queue.tx_bytes.per_second * 8.0),
        speed(queue.dropped.per_second),
    ]
}

fn columns<T: std::fmt::Display>(cells: &[T], width: usize) -> String {
    cells.iter().map(|cell| format!(" {cell:>width$}")).collect()
}

fn devices(text: &mut String, view: &View) {
    let wide = width("DEVICE", view.devices.iter().map(|d| d.device.as_str()));
    let heads =
        [columns(&TRAFFIC, 9), columns(&["TAKEN f/s", "LEFT f/s"], 9), columns(&["IN", "OUT", "TAKEN", "LEFT"], 12)];
    push(text, format_args!("\n{:wide$}{}  MODE", "DEVICE", heads.concat()));
    let dash = || "-".to_owned();
    for device in &view.devices {
        let ports = device.ports.as_ref();
        let speeds = ports.map_or_else(|| [(); 5].map(|()| dash()), traffic);
        let program = [device.taken, device.left];
        let program_speeds = program.map(|rate| rate.map_or_else(dash, |rate| speed(rate.per_second)));
        let total = |rate: Option<Rate>| rate.map_or_else(dash, |rate| rate.total.to_string());
        let totals = [ports.map(|p| p.rx_frames), ports.map(|p| p.tx_frames), device.taken, device.left].map(total);
        let down = if device.up { "" } else { ", DOWN" };
        let bypassed = if device.bypassed { ", bypassed" } else { "" };
        push(
            text,
            format_args!(
                "{:wide$}{}{}{}  {}{down}{bypassed}",
                device.device,
                columns(&speeds, 9),
                columns(&program_speeds, 9),
                columns(&totals, 12),
                device.mode
            ),
        );
    }
}

fn queues(text: &mut String, view: &View) {
    if view.queues.is_empty() {
        return;
    }
    let names: Vec<String> = view.queues.iter().map(|q| format!("{} {}", q.worker, q.device)).collect();
    let wide = width("QUEUE", names.iter().map(String::as_str));
    push(text, format_args!("\n{:wide$}{}{}", "QUEUE", columns(&TRAFFIC, 9), columns(&["IN", "OUT", "DROPPED"], 12)));
    for (name, queue) in names.iter().zip(&view.queues) {
        let totals = [queue.rx_frames, queue.tx_frames, queue.dropped].map(|rate| rate.total);
        push(text, format_args!("{name:wide$}{}{}", columns(&traffic(queue), 9), columns(&totals, 12)));
    }
}

fn workers(text: &mut String, view: &View) {
    if view.workers.is_empty() {
        return;
    }
    let heads = ["BUSY", "ROUNDS/s", "SLEEPS/s"];
    push(text, format_args!("\nWORKER {:>5}{}", "CORE", columns(&heads, 9)));
    for worker in &view.workers {
        let core = worker.core.map_or("-".to_owned(), |core| core.to_string());
        let cells = [
            format!("{:.1} %", worker.busy() * 100.0),
            speed(worker.rounds.per_second),
            speed(worker.sleeps.per_second),
        ];
        push(text, format_args!("{:6} {core:>5}{}", worker.worker, columns(&cells, 9)));
    }
}

fn rules(text: &mut String, view: &View, rules_max: usize) {
    let shown = &view.rules[..view.rules.len().min(rules_max)];
    if shown.is_empty() {
        return;
    }
    let wide = width("RULE", shown.iter().map(|r| r.name.as_str()));
    let old = match view.rules_age.as_secs() {
        0..=1 => String::new(),
        seconds => format!("  (as of {seconds} s ago: there are many)"),
    };
    let heads = [columns(&["f/s", "bit/s"], 9), columns(&["FRAMES"], 12)].concat();
    push(text, format_args!("\n{:wide$}{heads}  ACTIONS{old}", "RULE"));
    for rule in shown {
        let speeds = [speed(rule.frames.per_second), speed(rule.bytes.per_second * 8.0)];
        let line =
            format!("{:wide$}{}{}  {}", rule.name, columns(&speeds, 9), columns(&[rule.frames.total], 12), rule.does);
        push(text, format_args!("{}", line.trim_end()));
    }
    let rest = &view.rules[shown.len()..];
    if !rest.is_empty() {
        let frames: u64 = rest.iter().map(|rule| rule.frames.total).sum();
        push(text, format_args!("({} rules more, {frames} frames)", rest.len()));
    }
}

fn drops(text: &mut String, view: &View) {
    if view.drops.is_empty() {
        return;
    }
    let names: Vec<String> = view.drops.iter().map(|d| format!("{} {}", d.device, d.reason)).collect();
    let wide = width("DROPPED", names.iter().map(String::as_str));
    push(text, format_args!("\n{:wide$}{}{}", "DROPPED", columns(&["f/s"], 9), columns(&["FRAMES"], 12)));
    for (name, drop) in names.iter().zip(&view.drops) {
        push(
            text,
            format_args!(
                "{name:wide$}{}{}",
                columns(&[speed(drop.frames.per_second)], 9),
                columns(&[drop.frames.total], 12)
            ),
        );
    }
}

/// Three or four digits, with a unit of thousands.
fn speed(value: f64) -> String {
    const UNITS: [&str; 5] = ["", "k", "M", "G", "T"];
    let mut value = value;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        v if v == 0.0 || v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::top::{DeviceRates, RuleRate};

    #[test]
    fn speeds_have_three_digits_and_a_unit() {
        let text = [0.0, 0.4, 7.0, 42.0, 999.4, 999.6, 12_345.0, 1.5e6, 9.9e12].map(speed);
        assert_eq!(text, ["0", "0.40", "7.00", "42.0", "999", "1.00k", "12.3k", "1.50M", "9.90T"]);
    }

    #[test]
    fn a_screen_has_what_fits_and_says_what_does_not() {
        assert_eq!(fit("abc\ndef\n", 2, 5), "ab\nde");
        assert_eq!(fit("a\nb\nc\nd\n", 40, 3), "a\nb\n(2 lines more have no room)");
    }

    #[test]
    fn totals_are_whole_numbers_and_what_is_not_known_is_a_dash() {
        let rate = |total| Rate { per_second: 0.0, total };
        let rule = |name: &str, frames| RuleRate {
            name: name.into(),
            does: "drop".into(),
            frames: rate(frames),
            bytes: rate(0),
        };
        let device = DeviceRates {
            device: "eth0".into(),
            mode: "xdp".into(),
            taken: Some(rate(1_234_567)),
            ..DeviceRates::default()
        };
        let view = View { devices: vec![device], rules: vec![rule("a", 5), rule("b", 6)], ..View::default() };
        let text = of(&view, 1);
        let line = text.lines().find(|line| line.starts_with("eth0")).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["eth0", "-", "-", "-", "-", "-", "0", "-", "-", "-", "1234567", "-", "xdp,", "DOWN"]);
        assert!(text.ends_with("  drop\n(1 rules more, 6 frames)\n") && !text.contains("QUEUE"), "{text}");
    }
}
