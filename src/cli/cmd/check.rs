//! `viscum check`.

use std::process::ExitCode;

use serde_json::json;

use crate::app::check::check as look;
use crate::app::rules::read;
use crate::cli::args::Check;

pub fn check(args: &Check) -> anyhow::Result<ExitCode> {
    let mut any = false;
    let mut bad = Vec::new();
    let mut found = Vec::new();
    for file in read(&args.rules)? {
        let name = &file.0;
        let checked = match look(&file, args.topology.as_deref()) {
            Ok(checked) => checked,
            // All bad files are told, not only the first.
            Err(error) => {
                bad.push(error.to_string());
                continue;
            }
        };
        any |= !checked.warnings.is_empty();
        if args.json {
            found.extend(checked.warnings.iter().map(|w| {
                json!({ "file": name, "line": w.line, "code": w.code, "place": w.place, "text": w.text, "hint": w.hint })
            }));
            continue;
        }
        for note in &checked.notes {
            super::print(&format!("note: {}\n  --> {name}:{}\n", note.text, note.line));
        }
        for warning in &checked.warnings {
            let text = warning.to_string().replacen("--> line ", &format!("--> {name}:"), 1);
            super::print(&format!("{text}\n\n"));
        }
        let count = checked.warnings.len();
        super::print(&format!(
            "{name}: {} filter{}, {}\n",
            checked.filters,
            if checked.filters == 1 { "" } else { "s" },
            match count {
                0 => "nothing to warn about".to_owned(),
                1 => "1 warning".to_owned(),
                _ => format!("{count} warnings"),
            }
        ));
    }
    if args.json {
        super::print(&format!("{}\n", serde_json::to_string_pretty(&found)?));
    }
    if !bad.is_empty() {
        anyhow::bail!("{}", bad.join("\n"));
    }
    Ok(if any && args.strict { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
