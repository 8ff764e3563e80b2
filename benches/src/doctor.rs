//! What this host can do: for `ringside doctor`, which only renders it.
//!
//! The contenders are tried for real: each starts one small program, under a limit of time. Everything
//! else is evidence for why one of them could not, or could not do all: it is read, not guessed, by
//! the library whose business it is (`ringside-vmm` for KVM, `ringside-container` for the rest).
//!
//! The JSON form is a [`Diagnosis`], field by field, and its `schema_version` is [`SCHEMA_VERSION`].

use std::env;
use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use ringside_container::cgroup::{Controller, Controllers, Group, Layout};
use ringside_container::survey::survey;
use ringside_linux::cache::{Cache, Ring0};
use ringside_linux::machine;
use ringside_vmm::host;
use ringside_vmm::sys::kvm::{API_VERSION, DEVICE, Kvm};
use serde::Serialize;

use crate::child::Child;
use crate::contender::{self, Contender, Program, Tools};
use crate::floor::Floor;
use crate::host::{HostLabel, KvmLabel};
use crate::interrupt::Interrupt;
use crate::linux;
use crate::peers;

/// Goes up when a field changes its meaning or goes away; new fields leave it.
pub const SCHEMA_VERSION: u32 = 1;

/// How long a contender may take for a program of a few instructions.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was found out about a host.
#[derive(Debug, Serialize)]
pub struct Diagnosis {
    /// [`SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// Whether `ringside compare` can run fully: every contender works.
    pub ready: bool,
    /// The label that results of this host carry.
    pub host: HostLabel,
    /// What was looked at, by area.
    pub findings: Vec<Finding>,
}

/// One line of the diagnosis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it belongs to.
    pub area: Area,
    /// What was looked at.
    pub name: String,
    /// How it is.
    pub state: State,
    /// What was seen.
    pub evidence: String,
    /// What to do where it falls short.
    pub remedy: Option<String>,
}

/// The part of Ringside that a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// The ways to run a program, tried.
    Contenders,
    /// What the virtual machine stands on.
    Kvm,
    /// What a container may use.
    Cgroups,
    /// What a container sees.
    Container,
    /// Other implementations and tools.
    Peers,
}

/// How a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// All there.
    Ok,
    /// `compare` runs without it; something else does not, or not fully.
    Limited,
    /// `compare` cannot run fully without it.
    Missing,
}

impl Finding {
    fn ok(area: Area, name: impl Into<String>, evidence: impl Into<String>) -> Self {
        Finding {
            area,
            name: name.into(),
            state: State::Ok,
            evidence: evidence.into(),
            remedy: None,
        }
    }

    /// Messages of Ringside's errors end in what the reader can do, after a semicolon.
    fn short(
        area: Area,
        name: impl Into<String>,
        state: State,
        message: impl fmt::Display,
    ) -> Self {
        let message = message.to_string();
        let (evidence, remedy) = match message.split_once("; ") {
            Some((evidence, remedy)) => (evidence, Some(remedy.to_owned())),
            None => (&*message, None),
        };
        Finding {
            area,
            name: name.into(),
            state,
            evidence: evidence.to_owned(),
            remedy,
        }
    }

    fn of<E: Error>(
        area: Area,
        name: impl Into<String>,
        otherwise: State,
        found: Result<String, E>,
    ) -> Self {
        match found {
            Ok(evidence) => Finding::ok(area, name, evidence),
            Err(error) => Finding::short(area, name, otherwise, error),
        }
    }
}

/// Looks at this host. Takes well under a second where everything works.
///
/// # Errors
///
/// When the program that the contenders shall start cannot be laid out in the temporary folder. What a host
/// lacks is no error.
pub fn diagnose(interrupt: &Interrupt) -> io::Result<Diagnosis> {
    let tools = Tools {
        kernel: Err("no kernel is asked for".into()),
        ringside: env::current_exe()?,
        floor: Floor::extract(&env::temp_dir())?,
    };
    let mut findings = Vec::new();
    for contender in contender::all() {
        if contender.floor_of().is_none() {
            findings.push(trial(contender.as_ref(), &tools, interrupt));
        }
    }
    let label = KvmLabel::calibrated();
    findings.extend(kvm(&label));
    findings.extend(cgroups());
    findings.extend(
        survey()
            .into_iter()
            .map(|aspect| Finding::of(Area::Container, aspect.name, State::Limited, aspect.found)),
    );
    findings.extend(peers());
    Ok(Diagnosis {
        schema_version: SCHEMA_VERSION,
        ready: findings
            .iter()
            .all(|finding| finding.state != State::Missing),
        host: HostLabel::read(label),
        findings,
    })
}

/// Starts a program of a few instructions the contender's way.
fn trial(contender: &dyn Contender, tools: &Tools, interrupt: &Interrupt) -> Finding {
    let run = || -> Result<String, Box<dyn Error>> {
        let command = contender.command(&Program::Stamp, tools)?;
        Child::spawn(command, PATIENCE, interrupt)?.finish()?;
        Ok(format!("{}: started a program", contender.about()))
    };
    match run() {
        Ok(evidence) => Finding::ok(Area::Contenders, contender.name(), evidence),
        Err(error) => Finding::short(
            Area::Contenders,
            contender.name(),
            State::Missing,
            error.to_string().trim_start_matches("ringside: "),
        ),
    }
}

/// The device, what it can do, and how fast a guest is behind it.
fn kvm(label: &KvmLabel) -> Vec<Finding> {
    let kvm = match Kvm::open() {
        Ok(kvm) => kvm,
        Err(error) => return vec![Finding::short(Area::Kvm, DEVICE, State::Missing, error)],
    };
    let speed = match label {
        KvmLabel::Software(_) => Finding::short(
            Area::Kvm,
            "guest speed",
            State::Limited,
            format_args!(
                "{label}; for figures of a guest's kernel use a host with VT-x or AMD-V (in a virtual machine: nested virtualization)"
            ),
        ),
        KvmLabel::None { reason } => {
            Finding::short(Area::Kvm, "guest speed", State::Missing, reason)
        }
        KvmLabel::Hardware(_) | KvmLabel::Uncalibrated => {
            Finding::ok(Area::Kvm, "guest speed", label.to_string())
        }
    };
    vec![
        Finding::ok(
            Area::Kvm,
            DEVICE,
            format!("opens, API version {API_VERSION}"),
        ),
        capabilities(&kvm),
        speed,
        kernel(label),
        processor(label),
    ]
}

/// Which processor Linux guests get here.
fn processor(label: &KvmLabel) -> Finding {
    let ring0 = linux::ring0(label).unwrap_or(Ring0::Native);
    let template = machine::template(ring0);
    let evidence = format!("template {}: {}", template.name, template.about);
    Finding::ok(Area::Kvm, "guest processor", evidence)
}

/// Which kind of Linux kernel guests need here, and whether one is kept.
fn kernel(label: &KvmLabel) -> Finding {
    const NAME: &str = "Linux guests";
    let Some(ring0) = linux::ring0(label) else {
        return Finding::short(
            Area::Kvm,
            NAME,
            State::Missing,
            "no guest runs here at all; see above",
        );
    };
    let (kind, remedy) = match ring0 {
        Ring0::Native => (
            "any x86-64 kernel",
            "`ringside kernel fetch` or `ringside kernel build`",
        ),
        Ring0::Emulated => (
            "a kernel patched for an emulated ring 0",
            "`ringside kernel build`",
        ),
    };
    match Cache::of_user().ok().and_then(|cache| cache.best(ring0)) {
        Some(best) => Finding::ok(Area::Kvm, NAME, format!("{kind}; kept: {}", best.name)),
        None => Finding::short(
            Area::Kvm,
            NAME,
            State::Limited,
            format_args!("{kind}, and none is kept; {remedy}"),
        ),
    }
}

/// One line for all capabilities: nobody needs a dozen that are there.
fn capabilities(kvm: &Kvm) -> Finding {
    let (there, missing): (Vec<_>, Vec<_>) = host::capabilities(kvm)
        .into_iter()
        .partition(|capability| capability.answer > 0);
    let there: Vec<_> = there
        .iter()
        .map(|capability| format!("{} {}", capability.name, capability.answer))
        .collect();
    if missing.is_empty() {
        return Finding::ok(Area::Kvm, "KVM capabilities", there.join(", "));
    }
    let state = if missing.iter().any(|capability| capability.is_required) {
        State::Missing
    } else {
        State::Limited
    };
    let missing: Vec<_> = missing
        .iter()
        .map(|capability| format!("{} ({})", capability.name, capability.purpose))
        .collect();
    Finding::short(
        Area::Kvm,
        "KVM capabilities",
        state,
        format_args!(
            "lacks {}; boot a newer kernel, or ask the host above for a newer KVM",
            missing.join(", ")
        ),
    )
}

/// The controllers that limits of Ringside use, or that other runtimes' configurations name.
const CONTROLLERS: [Controller; 8] = [
    Controller::Cpu,
    Controller::Cpuset,
    Controller::Memory,
    Controller::Pids,
    Controller::Io,
    Controller::Devices,
    Controller::Freezer,
    Controller::Hugetlb,
];

/// Those that `ringside run` limits by.
const LIMITING: Controllers =
    Controllers::of(&[Controller::Cpu, Controller::Memory, Controller::Pids]);

fn cgroups() -> Vec<Finding> {
    let layout = match Layout::detect() {
        Ok(layout) => layout,
        Err(error) => {
            return vec![Finding::short(
                Area::Cgroups,
                "layout",
                State::Limited,
                error,
            )];
        }
    };
    let mut findings: Vec<_> = CONTROLLERS
        .into_iter()
        .map(|controller| {
            let home = layout.home(controller);
            let home =
                home.map(|home| format!("{} at {}", home.version, home.mount_point.display()));
            Finding::of(Area::Cgroups, controller.to_string(), State::Limited, home)
        })
        .collect();
    findings.push(Finding::of(
        Area::Cgroups,
        "a group of ours",
        State::Limited,
        group(&layout),
    ));
    findings
}

/// Makes a group with the controllers that limit, and removes it.
fn group(layout: &Layout) -> ringside_container::cgroup::Result<String> {
    let name = format!("ringside-doctor-{}", std::process::id());
    let group = Group::create(layout, name, LIMITING)?;
    let made: Vec<_> = group
        .paths()
        .map(|path| path.display().to_string())
        .collect();
    group.remove()?;
    Ok(format!("made and removed {}", made.join(", ")))
}

fn peers() -> Vec<Finding> {
    let found = peers::find_all();
    let finding = |(peer, found): (peers::Peer, Result<peers::Installed, _>)| {
        let evidence = found.map(|it| format!("{} ({})", it.version, it.path.display()));
        Finding::of(Area::Peers, peer.name, State::Limited, evidence)
    };
    found.into_iter().map(finding).collect()
}
