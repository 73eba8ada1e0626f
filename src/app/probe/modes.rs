//! Which modes kernel, device and rules allow, and what `auto` takes. Decided from what was found out; nothing is tried here.

use serde::Serialize;

use crate::app::config::{Config, Mode, Overrides};
use crate::app::forward::{AUTO_ORDER, Way, auto_name, can_run, choose, wanted};
use crate::host::link::{self, Link};
use crate::host::probe::{Answer, Device, Section};
use crate::rules::Ruleset;

/// Classifiers and actions that `--mode tc` can ask a kernel for.
const KNOWN: &[&str] = &[
    "u32", "fw", "basic", "flower", "matchall", "gact", "mirred", "skbedit", "skbmod", "csum", "pedit", "vlan", "nat",
    "simple", "police",
];

/// What is known.
pub(super) struct Facts<'a> {
    pub kernel: &'a Section,
    pub tc: &'a Section,
    pub device: Option<&'a Device>,
    pub rules: Option<&'a Ruleset>,
}

/// The modes.
#[derive(Clone, Debug, Serialize)]
pub struct Modes {
    /// Each mode, whether it can be used.
    pub each: Vec<ModeAnswer>,
    /// What `auto` takes: for each device, or in general.
    pub auto: Vec<AutoChoice>,
}

/// A mode.
#[derive(Clone, Debug, Serialize)]
pub struct ModeAnswer {
    /// As it is written on the command line.
    pub mode: &'static str,
    /// Whether it can be used, for the rules if there are any.
    #[serde(flatten)]
    pub answer: Answer,
}

/// What `auto` takes.
#[derive(Clone, Debug, Serialize)]
pub struct AutoChoice {
    /// The device; absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The mode; absent: none can be taken.
    pub mode: Option<&'static str>,
    /// Why.
    pub reason: String,
    /// Those that it would rather have taken.
    pub passed_over: Vec<PassedOver>,
}

/// A mode that was not taken.
#[derive(Clone, Debug, Serialize)]
pub struct PassedOver {
    /// The mode.
    pub mode: &'static str,
    /// Why not.
    pub why: String,
}

pub(super) fn modes(facts: &Facts<'_>) -> Modes {
    let each: Vec<ModeAnswer> =
        Mode::FORWARDING.iter().map(|mode| ModeAnswer { mode: mode.name(), answer: facts.answer(*mode) }).collect();
    let auto = facts.auto();
    Modes { each, auto }
}

impl Facts<'_> {
    /// What was found for a thing: on the device if there is one, else on a veth pair.
    fn found(&self, on_device: &str, on_pair: &str) -> Answer {
        let of_device = self.device.and_then(|d| d.section.answer(on_device));
        let answer = of_device.or_else(|| self.kernel.answer(on_pair));
        answer.cloned().unwrap_or_else(|| Answer::Untried { why: "it was not asked".to_owned() })
    }

    /// What kernel and device say of a mode.
    fn able(&self, mode: Mode) -> Answer {
        match mode {
            Mode::Xdp => self.found("XDP native", "XDP native on veth"),
            Mode::AfXdp => {
                let sockets = self.found("AF_XDP by copy", "AF_XDP by copy");
                if matches!(sockets, Answer::Yes { .. }) {
                    return self.found("XDP native", "XDP native on veth");
                }
                sockets
            }
            Mode::AfPacket | Mode::Raw | Mode::Auto => self.found("", "AF_PACKET sockets"),
            Mode::Tc if self.rules.is_some() => Answer::yes(),
            Mode::Tc => self.kernel_tc(),
            Mode::TcBpf => match self.found("", "program at tc's hooks (tcx)") {
                Answer::No { why } => match self.found("", "program as cls_bpf") {
                    Answer::Yes { .. } => Answer::Yes { detail: "as cls_bpf".to_owned() },
                    _ => Answer::No { why },
                },
                other => other,
            },
        }
    }

    /// In general: whether this kernel's tc has all that viscum knows.
    fn kernel_tc(&self) -> Answer {
        let known = |name: &str| {
            let (what, kind) = name.split_once(' ').unwrap_or_default();
            what != "qdisc" && KNOWN.contains(&kind)
        };
        let mut lacks = Vec::new();
        for item in self.tc.items.iter().filter(|i| known(&i.name)) {
            match &item.answer {
                Answer::Yes { .. } | Answer::Is { .. } => {}
                Answer::No { .. } => lacks.push(item.name.as_str()),
                Answer::Untried { why } => return Answer::Untried { why: why.clone() },
            }
        }
        match lacks.as_slice() {
            [] => Answer::yes(),
            lacks => Answer::Yes { detail: format!("for rules without {}", lacks.join(", ")) },
        }
    }

    fn answer(&self, mode: Mode) -> Answer {
        if let Some(Err(refusal)) = self.rules.map(|rules| can_run(rules, mode)) {
            return Answer::No { why: refusal };
        }
        self.able(mode)
    }

    /// The links that are served, with their names; a device that is not there has none.
    fn links(&self) -> Vec<(String, Result<Link, String>)> {
        let mut links: Vec<(String, Result<Link, String>)> = match self.rules {
            Some(rules) => wanted(rules, &|_| false)
                .into_iter()
                .map(|w| (w.key.to_string(), link::find(&w.key).map_err(|e| e.to_string())))
                .collect(),
            None => Vec::new(),
        };
        if let Some(device) = self.device.filter(|d| !links.iter().any(|(name, _)| *name == d.link.key.to_string())) {
            links.push((device.link.key.to_string(), Ok(device.link.clone())));
        }
        links
    }

    fn auto(&self) -> Vec<AutoChoice> {
        if let Some(Err(why)) = self.rules.map(|rules| can_run(rules, Mode::Auto)) {
            return vec![self.without_workers(why)];
        }
        let links = self.links();
        if links.is_empty() {
            return vec![self.in_general()];
        }
        links.into_iter().map(|(name, link)| self.of_link(name, link)).collect()
    }

    /// The first of `auto`'s other modes that can do all rules.
    fn without_workers(&self, why: String) -> AutoChoice {
        let mut passed_over = vec![PassedOver { mode: auto_name(Mode::Auto), why }];
        for mode in AUTO_ORDER.into_iter().filter(|mode| *mode != Mode::Auto) {
            match self.answer(mode) {
                Answer::No { why } | Answer::Untried { why } => passed_over.push(PassedOver { mode: mode.name(), why }),
                Answer::Yes { .. } | Answer::Is { .. } => {
                    let (mode, reason) = (Some(mode.name()), "workers cannot do these rules".to_owned());
                    return AutoChoice { device: None, mode, reason, passed_over };
                }
            }
        }
        AutoChoice { device: None, mode: None, reason: "no mode can do all of these rules".to_owned(), passed_over }
    }

    fn in_general(&self) -> AutoChoice {
        match self.answer(Mode::AfXdp) {
            Answer::No { why } | Answer::Untried { why } => AutoChoice {
                device: None,
                mode: Some(Mode::AfPacket.name()),
                reason: "any device can".to_owned(),
                passed_over: vec![PassedOver { mode: Mode::AfXdp.name(), why }],
            },
            Answer::Yes { .. } | Answer::Is { .. } => AutoChoice {
                device: None,
                mode: Some(Mode::AfXdp.name()),
                reason: "the best of those with workers, where the device can; af-packet elsewhere".to_owned(),
                passed_over: Vec::new(),
            },
        }
    }

    fn of_link(&self, name: String, link: Result<Link, String>) -> AutoChoice {
        let none = |reason| AutoChoice { device: Some(name.clone()), mode: None, reason, passed_over: Vec::new() };
        let link = match link {
            Ok(link) => link,
            Err(why) => return none(why),
        };
        let Ok(config) = Config::load(None, Overrides::default()) else { return none("no configuration".to_owned()) };
        let af_xdp = matches!(self.kernel.answer("AF_XDP sockets"), Some(Answer::Yes { .. }));
        let choice = match choose(&link, &config, af_xdp) {
            Ok(choice) => choice,
            Err(error) => return none(error.to_string()),
        };
        let over = |why| vec![PassedOver { mode: Mode::AfXdp.name(), why }];
        let (mode, reason, passed_over) = match choice.way {
            Way::AfXdp { .. } => match self.not_af_xdp(&link) {
                Some(why) => (Mode::AfPacket, "any device can".to_owned(), over(why)),
                None => (Mode::AfXdp, choice.reason, Vec::new()),
            },
            Way::AfPacket | Way::Raw | Way::Tap(_) | Way::Xdp | Way::TcBpf | Way::Tc => {
                (Mode::AfPacket, "any device can".to_owned(), over(choice.reason))
            }
        };
        AutoChoice { device: Some(name), mode: Some(mode.name()), reason, passed_over }
    }

    /// What the rules, or the device if it was tried, say against AF_XDP.
    fn not_af_xdp(&self, link: &Link) -> Option<String> {
        if let Some(Err(refusal)) = self.rules.map(|rules| can_run(rules, Mode::AfXdp)) {
            return Some(refusal);
        }
        let tried = self.device.filter(|d| d.link.key == link.key)?;
        match tried.section.answer("XDP native") {
            Some(Answer::No { why }) => Some(why.clone()),
            Some(Answer::Yes { .. } | Answer::Untried { .. } | Answer::Is { .. }) | None => None,
        }
    }
}
