//! The testbed's long-running programs: started in a namespace, known by a file each, stopped by process id and never by name.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::shell::LabError;

/// Where the testbed keeps its programs' ids, outputs and logs.
pub const DIRECTORY: &str = "/run/viscum/lab";
/// How long a program may take to end after SIGTERM before SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a wait looks again.
const LOOK: Duration = Duration::from_millis(20);

/// A program of the testbed; dropping it stops it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

/// The testbed's directory, made if it is missing.
///
/// # Errors
/// [`LabError::File`].
pub fn directory() -> Result<&'static Path, LabError> {
    let failed = |source| LabError::File { what: "cannot create", path: DIRECTORY.to_owned(), source };
    std::fs::create_dir_all(DIRECTORY).map_err(failed)?;
    Ok(Path::new(DIRECTORY))
}

/// Where a program's standard output (`out`) or error (`err`) goes.
#[must_use]
pub fn output_path(name: &str, extension: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{name}.{extension}"))
}

impl Process {
    /// Starts `program` in a namespace under a name of its own.
    ///
    /// # Errors
    /// [`LabError::File`] for its files, [`LabError::Missing`] if it cannot be started.
    pub fn start(name: &str, netns: &str, program: &Path, args: &[&str]) -> Result<Self, LabError> {
        Self::start_with(name, netns, program, args, Stdio::null())
    }

    /// As [`Process::start`]; its standard input stays open and silent, for programs that end when theirs does.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start_listening(name: &str, netns: &str, program: &Path, args: &[&str]) -> Result<Self, LabError> {
        Self::start_with(name, netns, program, args, Stdio::piped())
    }

    fn start_with(name: &str, netns: &str, program: &Path, args: &[&str], input: Stdio) -> Result<Self, LabError> {
        directory()?;
        let create = |extension| {
            let path = output_path(name, extension);
            File::create(&path).map_err(|source| LabError::File {
                what: "cannot create",
                path: path.display().to_string(),
                source,
            })
        };
        // `ip netns exec` becomes the program (execvp), so the id is the program's own.
        let mut command = Command::new("ip");
        command.args(["netns", "exec", netns]).arg(program).args(args);
        command.stdin(input).stdout(create("out")?).stderr(create("err")?);
        let child = command.spawn().map_err(|source| LabError::Missing {
            command: format!("ip netns exec {netns} {} {}", program.display(), args.join(" ")),
            source,
            package: "iproute2",
        })?;
        let started = Self { name: name.to_owned(), child };
        started.write_pid_file()?;
        Ok(started)
    }

    fn write_pid_file(&self) -> Result<(), LabError> {
        let path = output_path(&self.name, "pid");
        let pid = self.child.id();
        let text = format!("{pid} {}\n", start_time(pid).unwrap_or_default());
        let failed = |source| LabError::File { what: "cannot write", path: path.display().to_string(), source };
        std::fs::write(&path, text).map_err(failed)
    }

    /// Waits until a line of its standard output starts with `mark`.
    ///
    /// # Errors
    /// [`LabError::Unready`] with what it said on standard error, if it ends or the time is over.
    pub fn wait_for(&mut self, mark: &str, timeout: Duration) -> Result<(), LabError> {
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            if self.output().lines().any(|l| l.starts_with(mark)) {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(LabError::Unready(format!("{} ended ({status}){}", self.name, self.complaint())));
            }
            std::thread::sleep(LOOK);
        }
        let seconds = timeout.as_secs();
        Err(LabError::Unready(format!("{} was not ready within {seconds} s{}", self.name, self.complaint())))
    }

    /// Stops it where it is (SIGSTOP), or lets it go on (SIGCONT): one that spins must not take the time of others.
    pub fn pause(&self, pause: bool) {
        signal(self.child.id(), if pause { Signal::SIGSTOP } else { Signal::SIGCONT });
    }

    /// Memory that it holds now, in bytes (`VmRSS` of proc_pid_status(5)); 0 if it is gone.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let status = read(Path::new(&format!("/proc/{}/status", self.child.id())));
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
    }

    /// Its standard output so far.
    #[must_use]
    pub fn output(&self) -> String {
        read(&output_path(&self.name, "out"))
    }

    /// Its standard error so far, as the end of a message.
    #[must_use]
    pub fn complaint(&self) -> String {
        let said = read(&output_path(&self.name, "err"));
        if said.trim().is_empty() { String::new() } else { format!("; it said:\n{}", said.trim_end()) }
    }

    /// Asks it to end (SIGTERM), waits, and ends it by force if it does not. `None` if it cannot be waited for.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        if let Ok(Some(status)) = self.child.try_wait() {
            self.forget();
            return Some(status);
        }
        signal(self.child.id(), Signal::SIGTERM);
        signal(self.child.id(), Signal::SIGCONT);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                self.forget();
                return Some(status);
            }
            std::thread::sleep(LOOK);
        }
        let _gone_meanwhile = self.child.kill();
        self.forget();
        self.child.wait().ok()
    }

    fn forget(&self) {
        let _already_gone = std::fs::remove_file(output_path(&self.name, "pid"));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Stops what a crashed run left, and removes the testbed's directory.
///
/// # Errors
/// [`LabError::Unready`] if a program does not end, [`LabError::File`] if the directory cannot be removed.
pub fn stop_all() -> Result<(), LabError> {
    let Ok(entries) = std::fs::read_dir(DIRECTORY) else { return Ok(()) };
    for path in entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "pid")) {
        if let Some((pid, started)) = parse_pid_file(&read(&path)) {
            stop_left_over(pid, started)?;
        }
    }
    let failed = |source| LabError::File { what: "cannot remove", path: DIRECTORY.to_owned(), source };
    std::fs::remove_dir_all(DIRECTORY).map_err(failed)
}

fn parse_pid_file(text: &str) -> Option<(u32, u64)> {
    let (pid, started) = text.trim().split_once(' ')?;
    Some((pid.parse().ok()?, started.parse().ok()?))
}

/// The id may be another program's by now: only one that started at the same time is ours.
fn stop_left_over(pid: u32, started: u64) -> Result<(), LabError> {
    for (asked, wait) in [(Signal::SIGTERM, STOP_TIMEOUT), (Signal::SIGKILL, Duration::from_secs(1))] {
        if start_time(pid) == Some(started) {
            signal(pid, asked);
        }
        let deadline = Instant::now() + wait;
        while start_time(pid) == Some(started) {
            if Instant::now() > deadline {
                break;
            }
            std::thread::sleep(LOOK);
        }
    }
    if start_time(pid) == Some(started) {
        return Err(LabError::Unready(format!("process {pid} of the testbed does not end; see `ps {pid}`")));
    }
    Ok(())
}

/// When a process started, in clock ticks since boot (proc_pid_stat(5), field 22); `None` if it is gone or a zombie.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold blanks; the state is the first word behind it.
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    if words.next()? == "Z" {
        return None;
    }
    words.nth(18)?.parse().ok()
}

fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        let _gone_meanwhile = kill(Pid::from_raw(pid), signal);
    }
}

fn read(path: &Path) -> String {
    std::fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
}
