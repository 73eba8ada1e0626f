//! `viscum bench`.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::args::{Bench, BenchCommand, BenchRun, Part};
use crate::measure::lane::{Path, Poll};
use crate::measure::report::Report;
use crate::measure::run::{Parts, Plan, measure};
use crate::measure::trial::Conditions;
use crate::measure::{compare, tables};

use crate::app::config::Mode;

pub fn bench(args: Bench) -> anyhow::Result<ExitCode> {
    match args.command {
        Some(BenchCommand::Compare { before, after }) => {
            super::print(&compare::text(&Report::read(&before)?, &Report::read(&after)?));
        }
        None => run(&args.run)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run(args: &BenchRun) -> anyhow::Result<()> {
    let has = |part| args.parts.is_empty() || args.parts.contains(&part);
    let paths = if args.paths.is_empty() { all_paths() } else { named(&args.paths)? };
    let plan = Plan {
        paths,
        sizes: args.sizes.clone(),
        trial: Duration::from_millis(args.trial_ms),
        rounds: args.rounds,
        conditions: Conditions { flows: args.flows.next_power_of_two(), sink: args.sink, core: args.core },
        parts: Parts { latency: has(Part::Latency), tcp: has(Part::Tcp), scale: has(Part::Scale) },
        rules: args.rules.clone(),
        flows: args.flow_counts.iter().map(|f| f.next_power_of_two()).collect(),
    };
    let report = measure(&plan, &mut |line| {
        println!("{line}");
        let _gone = std::io::stdout().flush();
    })?;
    super::print(&format!("\n{}", tables::report(&report)));
    if let Some(out) = &args.out {
        report.write(out)?;
        super::print(&format!("written: {}, report.html beside it\n", out.join("report.json").display()));
    }
    Ok(())
}

/// All paths, the kernel's own first: it is what the others are compared with.
fn all_paths() -> Vec<Path> {
    let mut paths = vec![Path::Tc, Path::ClsBpf, Path::XdpByHand];
    for mode in Mode::FORWARDING {
        paths.push(Path::Viscum(*mode, Poll::Adaptive));
        if mode.has_workers() {
            paths.push(Path::Viscum(*mode, Poll::Busy));
        }
    }
    paths.extend([Path::TestpmdAfXdp, Path::TestpmdAfPacket]);
    paths
}

/// Paths by words that their names contain.
fn named(words: &[String]) -> anyhow::Result<Vec<Path>> {
    let all = all_paths();
    let mut found = Vec::new();
    for word in words {
        let before = found.len();
        let exact = all.iter().filter(|p| p.name().trim_start_matches("viscum ") == word);
        found.extend(exact.copied());
        if found.len() == before {
            found.extend(all.iter().filter(|p| p.name().contains(word.as_str())).copied());
        }
        if found.len() == before {
            let names: Vec<String> = all.iter().map(Path::name).collect();
            anyhow::bail!("no path is called {word:?}; the paths are: {}", names.join(", "));
        }
    }
    Ok(found)
}
