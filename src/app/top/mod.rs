//! What a running forwarder has counted, as its control socket tells it, and what it does between two such looks. It draws nothing.

mod rates;
mod rules;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::control::{ControlError, Request, ask};
pub use rates::{DeviceRates, DropRate, QueueRates, Rate, RuleRate, View, WorkerRates};
use rules::{RuleCount, read_rules};

/// Why there is nothing to see.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// The forwarder is not there, or broke off.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// It refused.
    #[error("{0}")]
    Refused(String),
    /// What it said is not understood.
    #[error("the forwarder's answer cannot be read: {0}; is this the same version?")]
    Answer(#[from] serde_json::Error),
}

/// `viscum status -j`, as far as it is used here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    pid: u32,
    uptime_ms: u64,
    devices: Vec<Device>,
    workers: Vec<Worker>,
    absent: Vec<Absent>,
    bypassed: Vec<String>,
    watching: usize,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Device {
    device: String,
    mode: String,
    up: bool,
    program_passed: Option<u64>,
    program_taken: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Worker {
    worker: usize,
    core: usize,
    pinned: bool,
    rounds: u64,
    busy_rounds: u64,
    sleeps: u64,
    ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Port {
    device: String,
    rx_frames: u64,
    rx_bytes: u64,
    tx_frames: u64,
    tx_bytes: u64,
    drops: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Absent {
    device: String,
    reason: String,
}

/// One look.
#[derive(Clone, Debug)]
struct Look {
    at: Instant,
    status: Status,
    rules: (Instant, Vec<RuleCount>),
}

/// Looks at a forwarder again and again.
#[derive(Debug)]
pub struct Looker {
    path: PathBuf,
    last: Look,
    /// The rules before those of `last`: what they do now is what has changed since.
    rules_before: (Instant, Vec<RuleCount>),
    /// How long the listing of the rules took: long ones are asked for less often, for the forwarder's own work waits meanwhile.
    listing: Duration,
}

impl Looker {
    /// The first look.
    ///
    /// # Errors
    /// [`TopError`].
    pub fn new(path: &Path) -> Result<Self, TopError> {
        let status = ask_status(path)?;
        let (at, rules, listing) = ask_rules(path)?;
        let last = Look { at, status, rules: (at, rules) };
        Ok(Self { path: path.to_owned(), rules_before: last.rules.clone(), last, listing })
    }

    /// What it has done since the look before.
    ///
    /// # Errors
    /// [`TopError`].
    pub fn look(&mut self) -> Result<View, TopError> {
        /// The share of its time that a forwarder may spend on listing rules: one part of this many.
        const LISTING_SHARE: u32 = 10;
        let status = ask_status(&self.path)?;
        let now = Look { at: Instant::now(), status, rules: self.last.rules.clone() };
        let before = std::mem::replace(&mut self.last, now);
        if self.last.rules.0.elapsed() >= self.listing * LISTING_SHARE {
            let (at, rules, listing) = ask_rules(&self.path)?;
            self.listing = listing;
            self.rules_before = std::mem::replace(&mut self.last.rules, (at, rules));
        }
        Ok(rates::view(&before, &self.last, &self.rules_before))
    }
}

fn ask_status(path: &Path) -> Result<Status, TopError> {
    Ok(serde_json::from_str(&said(path, &Request::Status { json: true })?)?)
}

fn ask_rules(path: &Path) -> Result<(Instant, Vec<RuleCount>, Duration), TopError> {
    let request = Request::Show { device: None, netns: None, ingress: None, statistics: true, json: true };
    let began = Instant::now();
    let text = said(path, &request)?;
    Ok((began, read_rules(&serde_json::from_str(&text)?), began.elapsed()))
}

fn said(path: &Path, request: &Request) -> Result<String, TopError> {
    let answer = ask(path, request)?;
    if answer.ok { Ok(answer.text) } else { Err(TopError::Refused(answer.text)) }
}
