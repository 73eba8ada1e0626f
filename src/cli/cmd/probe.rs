//! `viscum probe`.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use crate::app::probe::{Modes, Report, Request, probe as ask};
use crate::app::rules::read;
use crate::cli::args::Probe;
use crate::host::probe::{Answer, Section};
use crate::types::DeviceKey;

pub fn probe(args: &Probe) -> anyhow::Result<ExitCode> {
    let device = args.device.as_ref().map(|name| DeviceKey::new(args.netns.as_deref(), name));
    if device.is_none() && args.netns.is_some() {
        anyhow::bail!("-n names the namespace of a device: `viscum probe DEV -n NETNS`");
    }
    let report = ask(&Request { device, rules: read(&args.rules)?, passive: args.passive })?;
    if args.json {
        super::print(&format!("{}\n", serde_json::to_string_pretty(&as_json(&report)?)?));
    } else {
        super::print(&as_text(&report));
    }
    Ok(ExitCode::SUCCESS)
}

/// An object per section, with an object per thing that was asked.
fn as_json(report: &Report) -> anyhow::Result<Value> {
    let mut all = Map::new();
    for section in &report.sections {
        let mut things = Map::new();
        for item in &section.items {
            let mut thing = serde_json::to_value(item)?;
            thing.as_object_mut().map(|t| t.remove("name"));
            things.insert(item.name.clone(), thing);
        }
        all.insert(section.title.clone(), Value::Object(things));
    }
    all.insert("modes".to_owned(), json!(report.modes));
    Ok(Value::Object(all))
}

fn as_text(report: &Report) -> String {
    let mut text = String::new();
    for section in &report.sections {
        table(section, &mut text);
    }
    modes(&report.modes, &mut text);
    text
}

fn answer(answer: &Answer) -> (&'static str, &str) {
    match answer {
        Answer::Yes { detail } => ("yes", detail),
        Answer::No { why } => ("no", why),
        Answer::Untried { why } => ("not tried", why),
        Answer::Is { value } => ("", value),
    }
}

fn line(name: &str, width: usize, answered: &Answer, text: &mut String) {
    let (word, rest) = answer(answered);
    let said = match (word, rest) {
        ("", value) => value.to_owned(),
        (word, "") => word.to_owned(),
        (word, rest) => format!("{word}: {rest}"),
    };
    text.push_str(&format!("  {name:width$}  {said}\n"));
}

fn table(section: &Section, text: &mut String) {
    text.push_str(&format!("{}\n", section.title));
    let width = section.items.iter().map(|i| i.name.len()).max().unwrap_or(0);
    for item in &section.items {
        line(&item.name, width, &item.answer, text);
        if let Some(remedy) = &item.remedy {
            text.push_str(&format!("  {:width$}    -> {remedy}\n", ""));
        }
    }
    text.push('\n');
}

fn modes(modes: &Modes, text: &mut String) {
    text.push_str("modes\n");
    let width = modes.each.iter().map(|m| m.mode.len()).max().unwrap_or(0);
    for mode in &modes.each {
        line(mode.mode, width, &mode.answer, text);
    }
    for choice in &modes.auto {
        let device = choice.device.as_ref().map_or_else(String::new, |d| format!(" for {d}"));
        let mode = choice.mode.unwrap_or("nothing");
        text.push_str(&format!("auto takes {mode}{device}: {}\n", choice.reason));
        for over in &choice.passed_over {
            text.push_str(&format!("  not {}: {}\n", over.mode, over.why));
        }
    }
}
