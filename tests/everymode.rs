//! Every golden case, live, in every mode that can do it: the same frames leave and the same counters are told as offline, and so (see
//! `golden`) as in a real kernel.
//!
//! Of each case those lines run that the mode takes, one after the other; what it does not take is written down in
//! `tests/rules/everymode.txt`, line counts by reason, so that no mode loses a rule silently. Frames that a veth of the mode's MTU cannot
//! carry, or that are shorter than an Ethernet header, are left out. What reaches the host's stack is not looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use viscum::app::config::Mode;
use viscum::app::forward::can_run;
use viscum::app::replay::{self, Form, Options, Time};
use viscum::app::rules::Runnable;
use viscum::port::pcap::{PcapReader, PcapWriter};
use viscum::tc::{AnyDevice, Store, parse_script};

use crate::support::bed::Bed;
use crate::support::forwarder::{Forwarder, project, text};
use crate::support::testbed::turn;

/// The namespace that some cases' rules name.
const INNER: &str = "imagedetection";
/// As many cases run at once: each mostly waits.
const AT_ONCE: usize = 4;
const PATIENCE: Duration = Duration::from_secs(3);

/// What refusals are called in the list, by words of their message.
const REASONS: &[(&str, &str)] = &[
    ("a frame that is left to the kernel cannot be changed", "rewrite-then-pass"),
    ("which would not see it", "mark-then-pass"),
    ("AF_XDP cannot hand a frame back", "copy-then-pass"),
    ("which the program in the kernel does not look for", "flower-key"),
    ("police decides by what came before", "police-then-pass"),
    ("gact random", "random"),
    ("basic asks", "basic-key"),
    ("mirred ingress", "mirred-ingress"),
    ("is a kind of filter that this program does not know", "kind-of-filter"),
    ("decides by chance or by what came before", "police-or-random"),
    ("mirred mirror copies a frame, which an XDP program cannot", "mirror"),
    ("changes the Ethernet header and then leaves the frame", "ethernet-then-pass"),
    ("then goes on to other filters", "tags-then-filters"),
    ("makes a frame without or with a second Ethernet header", "push-pop-eth"),
    ("csum sctp", "csum-sctp"),
    ("XDP knows no egress hook", "past-egress-rules"),
    ("in another network namespace", "other-namespace"),
    ("indev at egress", "indev-at-egress"),
    ("more than", "far-key"),
    ("instructions; the kernel takes", "too-long"),
    (LOOPBACK, LOOPBACK),
];
/// What AF_XDP cannot transmit by.
const LOOPBACK: &str = "loopback";

/// Where one program for all rules of the case is more than the kernel's verifier looks at: in so many parts.
const PARTS: &[(Mode, &str, usize)] = &[(Mode::TcBpf, "pedit", 4)];
/// A redirect at tc's hook is done when the program has ended: that a rule at the egress drops the frame is no overlimit of the action.
const NO_OVERLIMITS: &[(Mode, &str)] =
    &[(Mode::TcBpf, "egress"), (Mode::TcBpf, "egress_clsact"), (Mode::TcBpf, "shared_blocks")];
/// How far before a frame the kernel lets a key begin depends on the driver's headroom.
const OTHER_HEADROOM: &[(Mode, &str)] = &[(Mode::Tc, "u32_mac")];

struct Case {
    name: String,
    dir: PathBuf,
    topology: replay::Case,
    /// What the kernel's tc accepted and what is no listing, in order.
    lines: Vec<String>,
}

impl Case {
    fn read(dir: &Path) -> Self {
        let topology = replay::Case::read(&dir.join("case.toml")).unwrap();
        let log = std::fs::read_to_string(dir.join("out/tc.log")).unwrap();
        let accepted = log.lines().filter_map(|l| l.strip_prefix('[')?.split_once("] rc=0 ")).map(|(_, line)| line);
        let mut lines = Vec::new();
        for line in accepted {
            let mut line = line.to_owned();
            for (name, value) in topology.variables() {
                line = line.replace(&format!("${name}"), &value);
            }
            let shows = |word| ["show", "list", "ls", "lst", "get"].contains(&word);
            if !line.split_whitespace().take(6).any(shows) {
                lines.push(line);
            }
        }
        let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
        Self { name, dir: dir.to_owned(), topology, lines }
    }

    fn all() -> Vec<Self> {
        let entries = std::fs::read_dir(project("tests/golden")).unwrap();
        let mut dirs: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
        dirs.sort();
        dirs.iter().map(|dir| Self::read(dir)).collect()
    }

    fn frames(&self) -> Vec<Vec<u8>> {
        frames(&self.dir.join("in.pcap"))
    }
}

fn frames(path: &Path) -> Vec<Vec<u8>> {
    let mut list = Vec::new();
    if path.exists() {
        let mut reader = PcapReader::open(path).unwrap();
        while let Some((_, frame)) = reader.next().unwrap() {
            list.push(frame.to_vec());
        }
    }
    list
}

/// The lines of a case that a mode takes.
struct Reach {
    rules: String,
    taken: usize,
    filters: bool,
    /// How many lines it does not take, by reason.
    refused: BTreeMap<String, usize>,
}

/// Takes line after line of one part of the filters, as long as the mode can do all of them together.
fn reach(job: &Job<'_>) -> Reach {
    let Job { mode, case, part, parts } = *job;
    let mut store = Store::new();
    store.set_now_ms(1);
    let mut reach = Reach { rules: String::new(), taken: 0, filters: false, refused: BTreeMap::new() };
    let in_part = |(number, line): (usize, &&String)| number % parts == part || !line.starts_with("tc filter ");
    for (_, line) in case.lines.iter().enumerate().filter(|(number, line)| in_part((*number, line))) {
        match with(&store, line, mode) {
            Ok(next) => {
                store = next;
                reach.taken += 1;
                reach.rules += &format!("{line}\n");
            }
            Err(why) => *reach.refused.entry(reason(&why, mode)).or_default() += 1,
        }
    }
    reach.filters = store.ruleset().filters().next().is_some();
    reach
}

fn with(store: &Store, line: &str, mode: Mode) -> Result<Store, String> {
    if mode == Mode::AfXdp && line.ends_with("dev lo") {
        return Err(LOOPBACK.to_owned());
    }
    let mut next = store.clone();
    for line in &parse_script(line, "line", &BTreeMap::new()).lines {
        // It belongs to a line that was refused.
        next.apply_line(line, &AnyDevice).map_err(|_| "follows".to_owned())?;
    }
    let rules = Runnable::new(next.clone(), BTreeSet::new(), true).map_err(|e| e.to_string())?;
    rules.compile().map_err(|e| e.to_string())?;
    can_run(&rules.ruleset, mode)?;
    Ok(next)
}

fn reason(why: &str, mode: Mode) -> String {
    if why == "follows" || mode == Mode::Tc {
        return if why == "follows" { why } else { "not-in-this-kernel" }.to_owned();
    }
    let known = REASONS.iter().find(|(words, _)| why.contains(words));
    known.unwrap_or_else(|| panic!("{why}: give this refusal a name")).1.to_owned()
}

/// Runs what is within reach; what differs, one line each. `None`: `--mode tc` says by name what it does not take.
fn run(job: &Job<'_>, reach: &Reach, netns: &str) -> Option<Vec<String>> {
    let (case, mode) = (job.case, job.mode);
    let dir = tempfile::tempdir().unwrap();
    let inner = format!("{netns}-in");
    let rules = dir.path().join("run.tc");
    std::fs::write(&rules, reach.rules.replace(INNER, &inner)).unwrap();
    let bed = Bed::new(netns, &inner, &case.topology, mode);
    let words = ["--mode", mode.name()];
    let forwarder = match Forwarder::try_start(netns, &[&rules.display().to_string()], "", &words) {
        Ok(forwarder) => forwarder,
        Err(said) if mode == Mode::Tc && said.contains("use --mode auto for these rules") => return None,
        Err(said) => return Some(vec![format!("does not start: {said}")]),
    };
    bed.settle();
    let frames: Vec<Vec<u8>> = case.frames().into_iter().filter(|f| bed.fits(f)).collect();
    let want = expected(case, &reach.rules, &frames, dir.path());
    // A worker's policers go by the time at which its round began.
    let gap = if reach.rules.contains(" police ") { Duration::from_micros(300) } else { Duration::ZERO };
    bed.send(&frames, gap);
    let listing = |text: &str| comparable(text, job);
    let deadline = Instant::now() + PATIENCE;
    let told = loop {
        let told = told(&forwarder, netns, &inner, &want);
        if listing(&told) == listing(&want) || Instant::now() > deadline {
            break told;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut differences = line_difference(&listing(&want), &listing(&told));
    let (good, rest, errors) = forwarder.end();
    if !good || !rest.ends_with("every received frame is accounted for\n") {
        differences.push(format!("it ended with {errors}{rest}"));
    }
    for (device, came) in bed.came(|device| expected_frames(dir.path(), device).len()) {
        differences.extend(frame_difference(&device, &expected_frames(dir.path(), &device), &came));
    }
    Some(differences)
}

fn expected_frames(dir: &Path, device: &str) -> Vec<Vec<u8>> {
    frames(&dir.join("out").join(format!("{device}.pcap")))
}

/// Replays the same rules and frames: the listing.
fn expected(case: &Case, rules: &str, frames: &[Vec<u8>], dir: &Path) -> String {
    let (script, input, out) = (dir.join("replay.tc"), dir.join("in.pcap"), dir.join("out"));
    std::fs::write(&script, rules).unwrap();
    let mut writer = PcapWriter::create(&input).unwrap();
    frames.iter().for_each(|frame| writer.write(0, 0, frame).unwrap());
    writer.finish().unwrap();
    let options = Options {
        rules: script,
        input,
        device: None,
        topology: Some(case.dir.join("case.toml")),
        out: out.clone(),
        form: Form::Eval,
        time: Time::Replay,
    };
    replay::replay(&options, &mut |_| {}).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    std::fs::read_to_string(out.join("filters.txt")).unwrap()
}

/// What the forwarder answers to the commands of a listing.
fn told(forwarder: &Forwarder, netns: &str, inner: &str, like: &str) -> String {
    let mut told = String::new();
    for line in like.lines().filter(|l| l.starts_with("# ")) {
        let command = line[2..].replace(INNER, inner);
        let words: Vec<&str> = command.split_whitespace().collect();
        let output = forwarder.ask_from(netns, &words);
        writeln!(told, "{line}\n{}{}", text(&output.stdout).trim_end(), text(&output.stderr).trim_end()).unwrap();
    }
    told
}

/// A listing without times, without what a mode counts in another way (see the README), and without empty lines.
fn comparable(listing: &str, job: &Job<'_>) -> String {
    let mode = job.mode;
    let mut out = String::new();
    for line in listing.lines().map(str::trim_end).filter(|l| !l.is_empty()) {
        let mut words: Vec<&str> = line.split(' ').collect();
        for at in 1..words.len() {
            let other = match words[at - 1] {
                "installed" | "used" | "firstused" => true,
                // Rules that are looked up count single keys only where all of them match.
                "(success" => matches!(mode, Mode::Xdp | Mode::TcBpf | Mode::Tc),
                // Kernels without CONFIG_CLS_U32_PERF count neither.
                "hit" | "success" => mode == Mode::Tc,
                "overlimits" => NO_OVERLIMITS.contains(&(mode, &job.case.name)),
                _ => false,
            };
            if other {
                words[at] = "N";
            }
        }
        let line = words.join(" ");
        // The kernel's listing by netlink has no such time before the first frame, and ours of it never.
        out += if mode == Mode::Tc { line.strip_suffix(" firstused N sec").unwrap_or(&line) } else { &line };
        out.push('\n');
    }
    out
}

fn line_difference(want: &str, have: &str) -> Vec<String> {
    if want == have {
        return Vec::new();
    }
    let (want, have): (Vec<&str>, Vec<&str>) = (want.lines().collect(), have.lines().collect());
    let length = (want.len() != have.len()).then(|| format!("{} lines, not {}", have.len(), want.len()));
    let pairs = want.iter().zip(&have).filter(|(w, h)| w != h);
    length.into_iter().chain(pairs.map(|(w, h)| format!("want {w}\n      have {h}"))).collect()
}

fn frame_difference(device: &str, want: &[Vec<u8>], have: &[Vec<u8>]) -> Option<String> {
    if want == have {
        return None;
    }
    let at = want.iter().zip(have).position(|(w, h)| w != h).unwrap_or(want.len().min(have.len()));
    let mut sorted = [want.to_vec(), have.to_vec()];
    sorted.iter_mut().for_each(|list| list.sort());
    let order = if sorted[0] == sorted[1] { " in another order" } else { "" };
    let hex = |list: &[Vec<u8>]| {
        list.get(at)
            .map_or("none".to_owned(), |f| f.iter().take(64).fold(String::new(), |t, b| t + &format!("{b:02x}")))
    };
    let (w, h) = (hex(want), hex(have));
    Some(format!(
        "{device} sent {} frames{order}, not {}; number {at}:\n      want {w}\n      have {h}",
        have.len(),
        want.len()
    ))
}

/// One case in one mode, or one part of its filters.
struct Job<'a> {
    mode: Mode,
    case: &'a Case,
    part: usize,
    parts: usize,
}

impl<'a> Job<'a> {
    fn all(cases: &'a [Case]) -> Vec<Self> {
        let mut jobs = Vec::new();
        for mode in Mode::FORWARDING.iter().copied() {
            for case in cases.iter().filter(|case| !OTHER_HEADROOM.contains(&(mode, &case.name))) {
                let split = PARTS.iter().find(|(m, name, _)| (*m, *name) == (mode, &case.name));
                let parts = split.map_or(1, |(_, _, parts)| *parts);
                jobs.extend((0..parts).map(|part| Self { mode, case, part, parts }));
            }
        }
        jobs
    }

    fn name(&self) -> String {
        let part = if self.parts > 1 { format!(" part {}", self.part + 1) } else { String::new() };
        format!("{}{part}", self.case.name)
    }
}

/// What came of a job.
struct Done {
    /// Its line of the list.
    listed: String,
    ran: bool,
    differences: Vec<String>,
}

fn work(job: &Job<'_>, netns: &str) -> Done {
    let reach = reach(job);
    let refused: Vec<String> = reach.refused.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    let refused = if refused.is_empty() { String::new() } else { format!("  not: {}", refused.join(", ")) };
    let listed = format!("{:10}{:20}{:3} lines{refused}", job.mode.name(), job.name(), reach.taken);
    let differences = if reach.filters { run(job, &reach, netns) } else { None };
    Done { listed, ran: differences.is_some(), differences: differences.unwrap_or_default() }
}

/// All jobs, several at once, in their order.
fn work_all(jobs: &[Job<'_>]) -> Vec<Done> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for worker in 0..AT_ONCE {
            let (next, done) = (&next, &done);
            scope.spawn(move || {
                let netns = format!("viscum-every-{worker}");
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(number) else { return };
                    let result = work(job, &netns);
                    done.lock().unwrap().insert(number, result);
                }
            });
        }
    });
    done.into_inner().unwrap().into_values().collect()
}

#[test]
fn the_golden_cases_come_out_the_same_in_every_mode() {
    let Some(_turn) = turn() else { return };
    let cases = Case::all();
    let jobs = Job::all(&cases);
    let done = work_all(&jobs);
    let mut wrong = Vec::new();
    let mut have = String::new();
    for mode in Mode::FORWARDING {
        let of_mode: Vec<(&Job, &Done)> = jobs.iter().zip(&done).filter(|(job, _)| job.mode == *mode).collect();
        let ran = of_mode.iter().filter(|(_, d)| d.ran).count();
        let equal = of_mode.iter().filter(|(_, d)| d.ran && d.differences.is_empty()).count();
        eprintln!("{}: {ran} of {} ran, {equal} equal", mode.name(), of_mode.len());
        for (job, done) in of_mode {
            // What the kernel's own tc has is the kernel's matter.
            if *mode != Mode::Tc {
                have += &format!("{}\n", done.listed);
            }
            if !done.differences.is_empty() {
                let shown: Vec<&str> = done.differences.iter().take(6).map(String::as_str).collect();
                let (name, count) = (job.name(), done.differences.len());
                wrong.push(format!("{} {name}: {count} differences\n    {}", mode.name(), shown.join("\n    ")));
            }
        }
    }
    let want = std::fs::read_to_string(project("tests/rules/everymode.txt")).unwrap_or_default();
    if have != want {
        let file = std::env::temp_dir().join("viscum-everymode.txt");
        std::fs::write(&file, &have).unwrap();
        wrong.push(format!("tests/rules/everymode.txt says that other lines are within reach than {}", file.display()));
        wrong.extend(line_difference(&want, &have).into_iter().take(20));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
