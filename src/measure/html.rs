//! A report as one HTML page that needs no other file: tables, and plots in SVG. It measures nothing.

use std::fmt::Write;

use super::report::{Report, Throughput};
use super::tables;

/// Colours of the paths, in order; readable by people who do not see red and green (Okabe and Ito).
const COLOURS: [&str; 8] = ["#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999933"];
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 40.0;

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn colour(report: &Report, path: &str) -> &'static str {
    let index = report.paths.iter().position(|p| p == path).unwrap_or(0);
    COLOURS[index % COLOURS.len()]
}

/// The page.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut body = String::new();
    let mut add = |text: &str| body.push_str(text);
    add("<h1>viscum bench</h1>");
    add(&head(report));
    add(&legend(report));
    if !report.throughput.is_empty() {
        add(
            "<h2>Throughput</h2><p>Frames per second that arrive when more is offered than the path carries; the whisker is the 95 % \
             interval, the line in the bar the rate without loss (NDR).</p>",
        );
        add(&bars(report));
        add(&pre(report.throughput.iter().map(tables::throughput_line)));
    }
    if !report.latency.is_empty() {
        add(
            "<h2>Latency, one way</h2><p>From when a frame was due to be sent until it arrived, by share of frames; both axes \
             logarithmic. A path's own load is a share of its PDR.</p>",
        );
        let loads: Vec<&str> = report.latency.iter().map(|l| l.load.as_str()).fold(Vec::new(), |mut all, load| {
            if !all.contains(&load) {
                all.push(load);
            }
            all
        });
        for load in loads {
            add(&format!("<h3>{}</h3>", escape(load)));
            add(&percentile_curves(report, load));
        }
        add(&pre(report.latency.iter().map(tables::latency_line)));
        add(&pre(report.round_trip.iter().map(tables::round_trip_line)));
    }
    if !report.tcp.is_empty() {
        add("<h2>TCP</h2>");
        add(&pre(report.tcp.iter().map(tables::tcp_line)));
    }
    for of in ["rules", "flows"] {
        if report.scale.iter().any(|s| s.of == of) {
            add(&format!(
                "<h2>Cost over {of}</h2><p>CPU time of the whole machine for each frame, in ns; both axes logarithmic.</p>"
            ));
            add(&scale_curves(report, of));
            add(&pre(report.scale.iter().filter(|s| s.of == of).map(tables::scale_line)));
        }
    }
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>viscum bench {}</title><style>\
         body{{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222;background:#fff}}\
         pre{{overflow-x:auto;background:#f6f6f4;padding:.7em;font-size:12px}}svg text{{font:12px system-ui,sans-serif}}\
         .noise{{background:#fff3cd;padding:.6em}}td,th{{padding:.1em .8em .1em 0;text-align:left;vertical-align:top}}\
         .key{{display:inline-block;width:.9em;height:.9em;margin:0 .3em 0 1em}}</style></head><body>{body}</body></html>",
        escape(&report.started)
    )
}

fn pre(lines: impl Iterator<Item = String>) -> String {
    let text: Vec<String> = lines.map(|l| escape(&l)).collect();
    if text.is_empty() { String::new() } else { format!("<pre>{}</pre>", text.join("\n")) }
}

fn head(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = String::from("<table>");
    let mut row = |name: &str, value: &str| {
        if !value.is_empty() {
            let _infallible = write!(text, "<tr><th>{}</th><td>{}</td></tr>", escape(name), escape(value));
        }
    };
    row("when", &format!("{}, {:.0} s", report.started, report.seconds));
    row("viscum", &report.program);
    row("kernel", &machine.kernel);
    row("CPU", &format!("{}, {} cores", machine.cpu, machine.cores));
    row("isolated cores", if machine.isolated.is_empty() { "none" } else { &machine.isolated });
    row("governor", &machine.governor);
    row("machine", &machine.hypervisor);
    for (name, value) in &report.settings {
        row(name, value);
    }
    for (path, why) in &report.left_out {
        row("left out", &format!("{path}: {why}"));
    }
    for (path, bytes) in &report.memory {
        row("memory", &format!("{path}: {} MiB", bytes >> 20));
    }
    text.push_str("</table>");
    let verdict = report.noise.verdict();
    let class = if verdict.is_some() { " class=\"noise\"" } else { "" };
    let words = verdict.unwrap_or_else(|| tables::winner(report));
    let _infallible = write!(text, "<p{class}>{}</p>", escape(&words));
    text
}

fn legend(report: &Report) -> String {
    let keys = report.paths.iter().map(|path| {
        format!("<span class=\"key\" style=\"background:{}\"></span>{}", colour(report, path), escape(path))
    });
    format!("<p>{}</p>", keys.collect::<String>())
}

fn svg(content: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"100%\" role=\"img\">{content}</svg>")
}

fn line(x: f64, y: f64, x2: f64, y2: f64, stroke: &str) -> String {
    format!("<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{stroke}\"/>")
}

fn label(x: f64, y: f64, anchor: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escape(text))
}

/// Bars by frame size, one for each path.
fn bars(report: &Report) -> String {
    let sizes: Vec<&String> = report.throughput.iter().map(|t| &t.size).fold(Vec::new(), |mut all, size| {
        if !all.contains(&size) {
            all.push(size);
        }
        all
    });
    let top = report.throughput.iter().map(|t| t.overload.high).fold(1.0, f64::max);
    let y = |rate: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * rate / top;
    let mut content = String::new();
    for part in 0..=4 {
        let rate = top * f64::from(part) / 4.0;
        content.push_str(&line(LEFT, y(rate), WIDTH - RIGHT, y(rate), "#ddd"));
        content.push_str(&label(LEFT - 6.0, y(rate) + 4.0, "end", &tables::rate(rate)));
    }
    let group = (WIDTH - LEFT - RIGHT) / sizes.len().max(1) as f64;
    let width = group * 0.85 / report.paths.len().max(1) as f64;
    for (g, size) in sizes.iter().enumerate() {
        let left = LEFT + group * g as f64;
        content.push_str(&label(left + group / 2.0, HEIGHT - BOTTOM + 18.0, "middle", &format!("{size} B")));
        let rows = report.throughput.iter().filter(|t| t.size == **size);
        for row in rows {
            let index = report.paths.iter().position(|p| *p == row.path).unwrap_or(0);
            let x = left + group * 0.075 + width * index as f64;
            content.push_str(&bar(row, x, width, colour(report, &row.path), &y));
        }
    }
    svg(&content)
}

fn bar(row: &Throughput, x: f64, width: f64, colour: &str, y: &dyn Fn(f64) -> f64) -> String {
    let (top, bottom) = (y(row.overload.median), y(0.0));
    let middle = x + width / 2.0;
    let title = escape(&tables::throughput_line(row));
    let mut text = format!(
        "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\" opacity=\".8\"><title>{title}</title></rect>",
        width * 0.9,
        bottom - top
    );
    text.push_str(&line(middle, y(row.overload.low), middle, y(row.overload.high), "#333"));
    text.push_str(&line(x, y(row.ndr.rate), x + width * 0.9, y(row.ndr.rate), "#fff"));
    text
}

/// Points of one path.
struct Curve {
    path: String,
    points: Vec<(f64, f64)>,
}

/// Curves on two logarithmic axes; `ticks` of x with their names.
fn curves(report: &Report, all: &[Curve], ticks: &[(f64, String)], y_name: &dyn Fn(f64) -> String) -> String {
    let points = || all.iter().flat_map(|c| &c.points).filter(|p| p.1 > 0.0);
    let low = points().map(|p| p.1).fold(f64::INFINITY, f64::min).max(1e-9);
    let high = points().map(|p| p.1).fold(low * 10.0, f64::max);
    let [x_low, x_high] = [ticks.first(), ticks.last()].map(|t| t.map_or(1.0, |t| t.0));
    let share = |v: f64, low: f64, high: f64| (v / low).ln() / (high / low).ln().max(1e-9);
    let x = |v: f64| LEFT + (WIDTH - LEFT - RIGHT) * share(v, x_low, x_high);
    let y = |v: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share(v, low, high);
    let mut content = String::new();
    let mut decade = 10f64.powf(low.log10().ceil());
    while decade <= high {
        content.push_str(&line(LEFT, y(decade), WIDTH - RIGHT, y(decade), "#ddd"));
        content.push_str(&label(LEFT - 6.0, y(decade) + 4.0, "end", &y_name(decade)));
        decade *= 10.0;
    }
    for (value, name) in ticks {
        content.push_str(&line(x(*value), TOP, x(*value), HEIGHT - BOTTOM, "#eee"));
        content.push_str(&label(x(*value), HEIGHT - BOTTOM + 18.0, "middle", name));
    }
    for curve in all {
        let path: Vec<String> = curve
            .points
            .iter()
            .filter(|p| p.1 > 0.0)
            .map(|(px, py)| format!("{:.1},{:.1}", x(px.clamp(x_low, x_high)), y(*py)))
            .collect();
        let _infallible = write!(
            content,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"><title>{}</title></polyline>",
            path.join(" "),
            colour(report, &curve.path),
            escape(&curve.path)
        );
    }
    svg(&content)
}

fn percentile_curves(report: &Report, load: &str) -> String {
    // 50 % is at 2, 99 % at 100, …
    let at = |quantile: f64| 1.0 / (1.0 - quantile).max(1e-5);
    let all: Vec<Curve> = report
        .latency
        .iter()
        .filter(|l| l.load == load)
        .map(|l| Curve {
            path: l.path.clone(),
            points: l.one_way.curve.iter().map(|(q, ns)| (at(*q), *ns as f64)).collect(),
        })
        .collect();
    let ticks = [(0.0, "0"), (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %")];
    curves(report, &all, &ticks.map(|(q, name)| (at(q), name.to_owned())), &|ns| tables::time(ns as u64))
}

fn scale_curves(report: &Report, of: &str) -> String {
    let rows = || report.scale.iter().filter(|s| s.of == of);
    let all: Vec<Curve> = report
        .paths
        .iter()
        .map(|path| Curve {
            path: path.clone(),
            points: rows().filter(|s| s.path == *path).map(|s| (s.count as f64, s.cpu_ns)).collect(),
        })
        .collect();
    let mut counts: Vec<u64> = rows().map(|s| s.count).collect();
    counts.sort_unstable();
    counts.dedup();
    let ticks: Vec<(f64, String)> = counts.iter().map(|c| (*c as f64, c.to_string())).collect();
    curves(report, &all, &ticks, &|ns| format!("{ns:.0} ns"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_paths_say_cannot_leave_the_page() {
        let mut report = Report { paths: vec!["<script>".to_owned()], ..Report::default() };
        report.left_out.insert("a&b".to_owned(), "\"<x>".to_owned());
        let page = page(&report);
        assert!(!page.contains("<script>") && !page.contains("<x>") && page.contains("a&amp;b"), "{page}");
        assert!(!page.contains("http"), "nothing is fetched from elsewhere");
    }
}
