//! The demo: the whole scenario step by step, judged by what each server saw. It runs the forwarder by its commands, as a user does.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::camera::{self, Times};
use super::net::{APPLICATION, CAMERA, CLOUD, CLOUD_ADDRESS, MEC, NetOptions, SPEEDTEST_ADDRESS};
use super::process::{self, Process};
use super::shell::LabError;
use super::{plate, server, speed};
use crate::app::config::{Deliver, Mode};
use crate::host::netns::in_namespace;

/// The plate service's port, as in the rules.
const PLATE_PORT: u16 = 12345;
/// How long the forwarder may take to attach.
const READY_MAX: Duration = Duration::from_secs(20);
/// Pictures that are sent while bypassed, and after it.
const SWITCHED_COUNT: usize = 2;
const ALPR_RULES: &str = include_str!("../../configs/alpr.tc");
const SPEEDTEST_RULES: &str = include_str!("../../configs/speedtest.tc");

/// What the demo does.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// The user's own pictures; empty: the project's.
    pub images: Vec<PathBuf>,
    /// How many of the project's pictures.
    pub count: usize,
    /// The forwarder's `--mode`.
    pub mode: Mode,
    /// The forwarder's `--deliver`.
    pub deliver: Deliver,
    /// MTUs; its `deliver` is overruled.
    pub net: NetOptions,
    /// Leave the testbed standing at the end.
    pub keep: bool,
}

impl Default for DemoOptions {
    fn default() -> Self {
        let net = NetOptions::default();
        Self { images: Vec::new(), count: 6, mode: Mode::Auto, deliver: Deliver::Veth, net, keep: false }
    }
}

/// What was not as it should be; empty if the demo went right.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// One sentence each.
    pub wrong: Vec<String>,
}

impl Outcome {
    /// Nothing was wrong.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.wrong.is_empty()
    }
}

/// A picture and what should come back, if that is known.
struct Shot {
    name: String,
    jpeg: Vec<u8>,
    text: Option<String>,
}

/// Who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Edge,
    Cloud,
}

impl Place {
    const fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Cloud => "cloud",
        }
    }

    const fn netns(self) -> &'static str {
        match self {
            Self::Edge => APPLICATION,
            Self::Cloud => CLOUD,
        }
    }

    fn log(self) -> PathBuf {
        process::output_path(&format!("{}-plates", self.name()), "log")
    }
}

/// Runs it, printing each step, and removes everything at the end (unless `keep`).
///
/// # Errors
/// [`LabError`] if a step cannot be done; wrong answers are no error but in the [`Outcome`].
pub fn demo(options: &DemoOptions) -> Result<Outcome, LabError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|e| LabError::Unready(format!("signal {signal} cannot be caught: {e}")))?;
    }
    let mut demo = Demo { options, stop, outcome: Outcome::default() };
    let done = demo.run();
    if options.keep {
        println!("\nThe testbed is left standing; `viscum lab down` removes it.");
    } else {
        super::down()?;
        println!("\nThe testbed is removed.");
    }
    done?;
    for wrong in &demo.outcome.wrong {
        println!("WRONG: {wrong}");
    }
    Ok(demo.outcome)
}

struct Demo<'a> {
    options: &'a DemoOptions,
    stop: Arc<AtomicBool>,
    outcome: Outcome,
}

impl Demo<'_> {
    fn run(&mut self) -> Result<(), LabError> {
        let shots = shots(self.options)?;
        self.step("The testbed: camera → edge router → MEC box → imagedetection; the cloud is behind the router")?;
        for note in super::up(&NetOptions { deliver: self.options.deliver, ..self.options.net })? {
            println!("   note: {note}");
        }
        self.step("Plate servers in imagedetection (edge) and in the cloud; both know nothing of the forwarder")?;
        let _plates = [start_plates(Place::Edge)?, start_plates(Place::Cloud)?];
        let switched = &shots[..shots.len().min(SWITCHED_COUNT)];
        self.step("Without the forwarder: the cloud answers")?;
        self.shoot(switched, Place::Cloud)?;
        self.plates(&shots, switched)?;
        self.speed_test()
    }

    fn plates(&mut self, shots: &[Shot], switched: &[Shot]) -> Result<(), LabError> {
        self.step("The forwarder on the MEC box, with configs/alpr.tc")?;
        let mut forwarder = self.forwarder("alpr", ALPR_RULES)?;
        self.step(&format!("{} pictures to the cloud's address {CLOUD_ADDRESS}:{PLATE_PORT}", shots.len()))?;
        self.shoot(shots, Place::Edge)?;
        self.step("Counters: viscum show -s")?;
        print!("{}", viscum(&["show", "-s"])?);
        self.step("viscum bypass eth0: the same camera is answered by the cloud")?;
        print!("{}", viscum(&["bypass", "eth0"])?);
        self.shoot(switched, Place::Cloud)?;
        self.step("viscum nobypass eth0: the edge again")?;
        print!("{}", viscum(&["nobypass", "eth0"])?);
        self.shoot(switched, Place::Edge)?;
        self.end(&mut forwarder)
    }

    fn speed_test(&mut self) -> Result<(), LabError> {
        self.step("The second service: unmodified iperf3 servers, the forwarder with configs/speedtest.tc")?;
        let servers = speed::Servers::start()?;
        let mut forwarder = self.forwarder("speedtest", SPEEDTEST_RULES)?;
        let measured = servers.measure()?;
        let seen = match (measured.edge_saw_it, measured.cloud_saw_it) {
            (true, false) => "served by the edge",
            (false, true) => "served by the cloud",
            (true, true) => "seen by both servers",
            (false, false) => "seen by no server",
        };
        println!("   {:.1} Mbit/s to {SPEEDTEST_ADDRESS}, {seen}", measured.bits_per_second / 1e6);
        if !measured.edge_saw_it || measured.cloud_saw_it {
            self.outcome.wrong.push(format!("the speed test was {seen}"));
        }
        print!("{}", viscum(&["show", "-s"])?);
        self.end(&mut forwarder)
    }

    fn step(&self, title: &str) -> Result<(), LabError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(LabError::Unready("interrupted".to_owned()));
        }
        println!("\n== {title}");
        Ok(())
    }

    fn forwarder(&self, name: &str, rules: &str) -> Result<Process, LabError> {
        let path = process::directory()?.join(format!("{name}.tc"));
        let file = path.display().to_string();
        std::fs::write(&path, rules).map_err(|source| LabError::File {
            what: "cannot write",
            path: file.clone(),
            source,
        })?;
        let (socket, mode, deliver) = (socket(), value_name(&self.options.mode), value_name(&self.options.deliver));
        let mut args = vec!["run", &file, "--socket", &socket, "--mode", &mode, "--deliver", &deliver];
        if self.options.deliver == Deliver::Tap {
            // Rules without `-n imagedetection` do not say which tap takes the place of the pair.
            args.extend(["--tap", "IMAGE_HOST_VETH=imagedetection/IMAGE_CONT_VETH"]);
        }
        let mut forwarder = Process::start(&format!("forwarder-{name}"), MEC, &executable()?, &args)?;
        forwarder.wait_for("ready", READY_MAX)?;
        for line in forwarder.output().lines() {
            println!("   {line}");
        }
        Ok(forwarder)
    }

    fn end(&mut self, forwarder: &mut Process) -> Result<(), LabError> {
        let before = forwarder.output().lines().count();
        let status = forwarder.stop();
        for line in forwarder.output().lines().skip(before) {
            println!("   {line}");
        }
        if !status.is_some_and(|s| s.success()) {
            let status = status.map_or_else(|| "unknown".to_owned(), |s| s.to_string());
            self.outcome.wrong.push(format!("the forwarder ended badly ({status}){}", forwarder.complaint()));
        }
        Ok(())
    }

    /// Sends each picture, prints who answered what, and compares.
    fn shoot(&mut self, shots: &[Shot], expected: Place) -> Result<(), LabError> {
        let to = SocketAddr::new(CLOUD_ADDRESS.parse().expect("the constant is an address"), PLATE_PORT);
        let mut times = Times::default();
        for shot in shots {
            self.interrupted()?;
            let sent = in_namespace(Some(CAMERA), || camera::send(to, &shot.jpeg));
            let answer = match sent.map_err(|e| LabError::Unready(e.to_string()))? {
                Ok(answer) => answer,
                Err(e) => {
                    println!("   {:<14} no answer: {e}", shot.name);
                    self.outcome.wrong.push(format!("{}: no answer: {e}", shot.name));
                    continue;
                }
            };
            times.add(answer.elapsed);
            let right = shot.text.as_ref().is_none_or(|t| *t == answer.text);
            let place = witness(answer.local, shot.jpeg.len() as u64);
            let by = place.map_or("no one place", Place::name);
            let ms = answer.elapsed.as_secs_f64() * 1000.0;
            let written = shot.text.as_deref().unwrap_or("?");
            println!("   {:<14} plate {written:<9} read {:<9} by the {by}, {ms:.1} ms", shot.name, answer.text);
            if !right {
                self.outcome.wrong.push(format!("{}: {written} was read as {}", shot.name, answer.text));
            }
            if place != Some(expected) {
                self.outcome.wrong.push(format!("{}: answered by {by}, not by the {}", shot.name, expected.name()));
            }
        }
        println!("   {times}");
        Ok(())
    }

    fn interrupted(&self) -> Result<(), LabError> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(LabError::Unready("interrupted".to_owned())),
            false => Ok(()),
        }
    }
}

/// The place whose log has the connection with all its bytes; `None` if neither or both have.
fn witness(camera: SocketAddr, bytes: u64) -> Option<Place> {
    let saw = |place: Place| {
        let log = std::fs::read_to_string(place.log()).unwrap_or_default();
        server::logged_bytes(&log, camera) == Some(bytes)
    };
    match (saw(Place::Edge), saw(Place::Cloud)) {
        (true, false) => Some(Place::Edge),
        (false, true) => Some(Place::Cloud),
        (true, true) | (false, false) => None,
    }
}

fn shots(options: &DemoOptions) -> Result<Vec<Shot>, LabError> {
    if options.images.is_empty() {
        let numbers = 0..u32::try_from(options.count).unwrap_or(u32::MAX);
        return numbers
            .map(|number| {
                let plate = plate::render(number)?;
                Ok(Shot { name: format!("picture {number}"), jpeg: plate.jpeg, text: Some(plate.text) })
            })
            .collect();
    }
    let own = |path: &PathBuf| {
        let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        Ok(Shot { name, jpeg: camera::read_image(path)?, text: None })
    };
    options.images.iter().map(own).collect()
}

fn start_plates(place: Place) -> Result<Process, LabError> {
    let log = place.log().display().to_string();
    let listen = format!("0.0.0.0:{PLATE_PORT}");
    let args = ["lab", "plate-server", "--listen", &listen, "--log", &log];
    let mut server = Process::start(&format!("{}-plates", place.name()), place.netns(), &executable()?, &args)?;
    server.wait_for("ready", Duration::from_secs(5))?;
    Ok(server)
}

fn executable() -> Result<PathBuf, LabError> {
    std::env::current_exe().map_err(|source| LabError::File {
        what: "cannot find",
        path: "this program's own file".to_owned(),
        source,
    })
}

fn socket() -> String {
    Path::new(process::DIRECTORY).join("control.sock").display().to_string()
}

/// A command of the running forwarder; what it printed.
fn viscum(words: &[&str]) -> Result<String, LabError> {
    let executable = executable()?;
    let shown = format!("viscum {} --socket {}", words.join(" "), socket());
    let output = std::process::Command::new(&executable).args(words).args(["--socket", &socket()]).output();
    let output = output.map_err(|source| LabError::File {
        what: "cannot run",
        path: executable.display().to_string(),
        source,
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(LabError::Failed { command: shown, message, hint: "" })
}

/// An option's value as the command line spells it.
fn value_name(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned())
}
